"""The whole of what is said: the table, the last line, every failure, every explanation."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from compare import report
from compare.judge import frame
from tests.compare.report_rows import BUG, IDLE, INF, LOST, NAN, ROUNDING, SAME, steps, verdict_on


def test_what_passes_is_a_table_and_a_line():
    assert str(verdict_on(SAME, ROUNDING, asked="; nobody was asked")) == (
        " step         name  shape   dtype max_abs max_ulp allowed used  worst      manual"
        "       torch verdict\n"
        "    1            x [2, 3] float32       0       0       0   0% [0, 0]         0.5"
        "         0.5      ok\n"
        "    1 activation.1 [2, 3] float32 2.5e-08    0.43   1e-07  25% [1, 2] 0.123456789"
        " 0.123456764      ok\n"
        "2 tensors: all ok, at most 25% of the allowance; nobody was asked"
    )


def test_what_fails_says_also_whose_fault_it_is_and_what_reproduces_it():
    assert str(verdict_on(IDLE, BUG, LOST, allow_vacuous=("d_x",))) == (
        " step           name  shape   dtype max_abs max_ulp allowed     used  worst  manual torch"
        " oracle  verdict  blame\n"
        "    1            d_x [2, 3] float32       0       0       0       0% [0, 0]     0.5   0.5"
        "         vacuous       \n"
        "    1 d_activation.0 [2, 3] float32     0.5 1.2e+06 1.2e-07 4.1e+08% [0, 1]     1.5     2"
        "      2 mismatch manual\n"
        "    1         grad.w [2, 3] float32                                         nothing    it"
        "         missing manual\n"
        "3 tensors, 2 not ok; first: step 1, d_activation.0: manual 1.5 and torch 2 at [0, 1] "
        "differ by 4.12e+06 times what rounding allows (1.23e-07); the oracle says 2; "
        "to blame: manual\n"
        "seed 3, of a day\nreproduce: it"
    )


def test_a_row_without_shape_or_worst_element_leaves_them_out():
    found = report.texts(frame([SAME | {"shape": NAN, "worst": None}])).iloc[0]
    assert (found["shape"], found["worst"]) == ("", "")
    assert list(report.texts(frame([SAME])).columns) == [
        *("step", "name", "shape", "dtype", "max_abs", "max_ulp", "allowed", "used", "worst"),
        *("manual", "torch", "verdict"),
    ]


@pytest.mark.parametrize(
    ("rows", "patterns", "text"),
    [
        ([], (), "no tensors"),
        ([ROUNDING, IDLE], ("d_*",), "2 tensors: 1 ok, 1 vacuous as declared, at most 25% of the "),
        ([IDLE, IDLE], ("d_*",), "2 tensors: 0 ok, 2 vacuous as declared, at most 0% of the "),
        (
            [SAME, IDLE],
            (),
            "2 tensors, 1 not ok; first: step 1, d_x: vacuous: all zero on both sides: a gradient "
            "that is forgotten, or any multiple, would pass; declare it with allow_vacuous if it "
            "is meant",
        ),
    ],
)
def test_the_last_line(rows, patterns, text):
    compared = verdict_on(*rows, allow_vacuous=patterns)
    ends = "allowance; asked" if text.endswith("of the ") else ""
    assert report.summary(compared.frame, compared.failures, "; asked") == text + ends


VALUES = "manual 1.5 and torch 2 at [0, 1]"
BY = f"{VALUES} differ by 4.12e+06 times what rounding allows (1.23e-07)"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, f"{BY}; the oracle says 2; to blame: manual"),
        ({"oracle": NAN, "blame": "undecided"}, f"{BY}; to blame: undecided"),
        ({"oracle": INF, "blame": None}, BY),
        (
            {"oracle": 3.0, "blame": "both"},
            f"{VALUES}, but the oracle says 3; to blame: both",
        ),
        (
            {"allowed": INF, "blame": "torch"},
            f"{VALUES} differ, and there is no bound on what rounding may do; to blame: torch",
        ),
        (
            {"verdict": "nonfinite", "torch": NAN, "blame": "torch"},
            "not finite at [0, 1]: manual 1.5, torch nan; to blame: torch",
        ),
        (
            {"verdict": "shape", "manual": "shape [2]", "torch": "shape []"},
            "shape: manual has shape [2], torch shape []; to blame: manual",
        ),
    ],
)
def test_what_is_said_of_a_failure(change, text):
    assert report.describe(pd.Series(BUG | change)) == text


# What is printed of many steps


def test_80_rows_or_one_step_are_printed_in_full():
    for rows in (steps([SAME] * 40, 2), steps([SAME] * 81, 1)):
        found, line = report.shown(frame(rows), frame([]))
        assert (len(found), line) == (len(rows), "")


def test_of_more_the_step_that_fails_first_or_came_nearest():
    rows = steps([SAME] * 27, 3)
    rows[30] |= ROUNDING | {"step": 2}
    found, line = report.shown(frame(rows), frame([]))
    assert (list(found.step), line) == (
        [2] * 27,
        "(step 2 of 3: where most of the allowance is used)\n",
    )
    rows[31] |= BUG | {"step": 2}
    rows[80] |= BUG | {"step": 3, "used": 1e10}
    compared = verdict_on(*rows)
    found, line = report.shown(compared.frame, compared.failures)
    assert (list(found.step), line) == ([2] * 27, "(step 2 of 3: the first that fails)\n")
    lines = str(compared).splitlines()
    assert lines[28] == line.rstrip()
    assert lines[29].startswith("81 tensors, 2 not ok; first: step 2, d_activation.0: ")
    assert f"<caption>{line}81 tensors, 2 not ok" in compared._repr_html_()


# A notebook


class Page(HTMLParser):
    """What stands in every tag; style: (row, column) → the properties of that cell."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
        rules = re.findall(r"([^{}]+)\{([^{}]*)\}", text[text.index(">") : text.index("</style>")])
        self.style = {}
        for cells, properties in rules:
            for cell in cells.strip(" >\n").split(","):
                place = tuple(int(n) for n in re.findall(r"_(?:row|col)(\d+)", cell))
                found = dict(re.findall(r"([\w-]+): ([^;]+);", properties))
                self.style.setdefault(place, {}).update(found)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, []))

    def handle_data(self, data):
        if self.tags:
            self.tags[-1][1].append(data)

    def all(self, name):
        return ["".join(data).strip() for tag, data in self.tags if tag == name]


def test_a_notebook_shows_all_of_it_in_colours():
    compared = verdict_on(SAME, IDLE, BUG, LOST | {"name": "<b>"}, allow_vacuous=("d_x",))
    page = Page(compared._repr_html_())
    texts = report.texts(compared.frame)
    assert page.all("caption") == [str(compared).splitlines()[-3]]
    assert page.all("th") == list(texts.columns)
    assert page.all("td") == [str(v) for v in texts.to_numpy().ravel()]
    assert "<b>" not in compared._repr_html_()
    verdict = list(texts.columns).index("verdict")
    colours = ["#1a7f37", "#9a6700", "#cf222e", "#cf222e"]
    pink = {"background-color": "#ffebe9"}
    expected = {(k, c): dict(pink) for k in (2, 3) for c in range(14)}
    for k, colour in enumerate(colours):
        expected.setdefault((k, verdict), {}).update({"color": colour, "font-weight": "bold"})
    assert page.style == expected


def test_a_caption_is_text():
    assert "<caption>1 &lt; 2</caption>" in report.html(frame([SAME]), "1 < 2")


# `explain`


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            SAME,
            "x, step 1: forward, [2, 3], float32\n"
            "  allowed     0 there: nothing is rounded\n"
            "              because\n"
            "  difference  0 at [0, 0], the worst element: 0 of the allowance; "
            "nowhere more than 0 ulp\n"
            "  manual      0.5\n"
            "  torch       0.5\n"
            "  oracle      has no answer here, or was not asked\n"
            "  verdict     ok: no difference",
        ),
        (
            ROUNDING | {"oracle": 0.1234568},
            "activation.1, step 1: forward, [2, 3], float32\n"
            "  allowed     1e-07 there: twice what rounding can do on one side\n"
            "              because\n"
            "              u = 5.96e-08 for each rounding in float32; "
            "a sum of n products is off by at most min(n, 6√n) u Σ|a b|\n"
            "  difference  2.5e-08 at [1, 2], the worst element: 0.25 of the allowance; "
            "nowhere more than 0.43 ulp\n"
            "  manual      0.123456789  (1.1e-08 from the oracle)\n"
            "  torch       0.123456764  (3.6e-08 from the oracle)\n"
            "  oracle      0.1234568\n"
            "  verdict     ok: rounding, not a bug",
        ),
        (
            BUG | {"name": "d_x (linear)", "dtype": "float64"},
            "d_x (linear), step 1: backward, [2, 3], float64\n"
            "  allowed     1.23e-07 there: what rounding can do\n"
            "              because\n"
            "              u = 1.11e-16 for each rounding in float64; "
            "a sum of n products is off by at most min(n, 6√n) u Σ|a b|\n"
            "  difference  0.5 at [0, 1], the worst element: 4.12e+06 times the allowance; "
            "nowhere more than 1.2e+06 ulp\n"
            "  manual      1.5  (0.5 from the oracle)\n"
            "  torch       2  (0 from the oracle)\n"
            "  oracle      2\n"
            "  verdict     mismatch: a bug in manual: torch and the oracle agree",
        ),
        (
            BUG | {"allowed": INF, "used": 10.0, "oracle": INF, "blame": None},
            "d_activation.0, step 1: backward, [2, 3], float32\n"
            "  manual      1.5\n"
            "  torch       2\n"
            "  oracle      inf\n"
            "  verdict     mismatch: more than rounding, so a bug; whose it is the oracle cannot "
            "say here",
        ),
        (
            LOST,
            "grad.w, step 1: backward, [2, 3], float32\n"
            "  manual      nothing\n"
            "  torch       it\n"
            "  oracle      has no answer here, or was not asked\n"
            "  verdict     missing: missing: manual has nothing, torch it; to blame: manual",
        ),
    ],
)
def test_an_explanation(given, text):
    assert report.explain(pd.Series(given), "because") == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"used": 9.999}, "the worst element: 10 of the allowance; "),
        ({"used": 10.0}, "the worst element: 10 of the allowance; "),
        ({"used": 10.04}, "the worst element: 10 times the allowance; "),
        ({"dtype": "int64"}, "one side\n              because\n  difference"),
        ({"blame": "torch"}, "mismatch: a bug on torch's side: manual and the oracle agree"),
        ({"blame": "both"}, "mismatch: a bug on both sides: the oracle says otherwise"),
    ],
)
def test_what_else_an_explanation_says(change, said):
    assert said in report.explain(pd.Series(BUG | change), "because")


def test_an_explanation_without_a_reason_has_no_line_for_it():
    text = report.explain(pd.Series(SAME), None)
    assert "nothing is rounded\n  difference" in text


def test_the_explanation_of_what_could_not_have_failed():
    text = report.explain(pd.Series(IDLE), None)
    assert text.endswith(
        "\n  verdict     vacuous: all zero on both sides: a gradient that is forgotten, or any "
        "multiple, would pass"
    )
