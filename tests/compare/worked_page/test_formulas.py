"""The formulas beside the steps, in letters and with numbers put in: each gives what it says."""

import math
import re

import numpy as np
import pytest

from compare.worked import mark, parse
from compare.worked.page import steps as computation
from compare.worked.page.claims import Claims
from compare.worked.page.figures import as_printed, moved, number, total
from compare.worked.page.network import Network
from tests.compare.worked_page import sheets
from tests.compare.worked_page.reading import lookup, says

SMOOTH = ("sigmoid", "tanh", "softplus", "arctan", "identity")
KINKED = ("relu", "leaky_relu", "elu")
LOSSES = ("half_squared_error", "sum_squared_error", "mean_squared_error")
CASES = {
    "sigmoid": sheets.random((2, 3, 1), ("sigmoid", "sigmoid"), LOSSES[0], seed=1),
    "tanh": sheets.random((3, 2, 2), ("tanh", "identity"), LOSSES[1], rows=3, seed=2),
    "two paths": sheets.random((2, 2, 2, 1), ("arctan", "softplus", "tanh"), LOSSES[2], seed=3),
    "kinks": sheets.random((2, 5, 4, 3), KINKED, LOSSES[2], rows=2, seed=4),
    "no bias": sheets.random((2, 2, 2), ("sigmoid", "elu"), LOSSES[0], seed=5),
    "softmax": sheets.random((3, 4, 3), ("relu", "softmax"), LOSSES[2], rows=2, seed=6),
    "binary": sheets.random((2, 2, 2), ("tanh", "sigmoid"), "binary_cross_entropy", 2, seed=7),
    "classes": sheets.random((2, 3, 3), ("sigmoid", "identity"), "cross_entropy", 3, seed=8),
    "decay": sheets.random(
        (2, 2, 1), ("tanh", "sigmoid"), LOSSES[0], 2, 9, 0.3, "weight_decay = 0.25"
    ),
    "adam": sheets.random((2, 2, 1), ("tanh", "sigmoid"), LOSSES[0], 2, 10).replace("sgd", "adam"),
    "both": sheets.random(
        (2, 2, 1), ("tanh", "sigmoid"), LOSSES[0], 1, 11, 0.3, "weight_decay = 0.5"
    ).replace("sgd", "adam"),
    "homework": sheets.HOMEWORK,
    "hostile": sheets.HOSTILE,
}
CASES["no bias"] = re.sub(r"\nbias = .*", "", CASES["no bias"])


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(marking, network, steps of each row)."""
    marking = mark(parse(CASES[request.param], "case.toml"))
    net = Network(marking)
    claims = Claims(marking, net, computation.plan(net))
    rows = [computation.steps(net, claims, row, writes=True) for row in range(net.rows)]
    return marking, net, rows


def evaluated(text: str, logits: list[float]) -> float | None:
    """What a formula with figures gives; None where part of it is left out."""
    text = text.partition(", since")[0]
    if "…" in text or not re.search(r"\d", text):
        return None
    text = re.sub(r"·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: f"e{_plain(m[1])}", text)
    for old, new in (("−", "-"), ("×", "*"), ("²", "**2"), ("½", "0.5"), ("ε", "1e-8")):
        text = text.replace(old, new)
    text = re.sub(r"\|([^|]+)\|", r"abs(\1)", text)
    text = re.sub(r"\b(tanh|arctan) (\([^()]*\)|[0-9.e-]+)", r"\1(\2)", text)
    text = re.sub(r"\bln softmax\(([^()]*)\)", r"ln(softmax(\1))", text)
    text = re.sub(r"\bln ([0-9.e-]+)", r"ln(\1)", text)
    top = max(logits)
    whole = math.fsum(math.exp(v - top) for v in logits)
    names = {"exp": math.exp, "ln": math.log, "tanh": math.tanh, "arctan": math.atan}
    names |= {"max": max, "abs": abs, "softmax": lambda v: math.exp(v - top) / whole}
    return eval(text, {"__builtins__": {}}, names)


def _plain(text: str) -> str:
    return text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))


def test_every_line_has_its_number(case):
    """The number of a line is that of the marking, and the text says it."""
    marking, _, rows = case
    for steps in rows:
        for line in (line for step in steps for line in step.lines):
            assert says(line.text, line.value), line
            if " / " not in line.place and not line.place.startswith("share"):
                assert line.value == lookup(marking, line.place)


def test_formulas_with_numbers(case):
    """Each gives the number that stands at its end, within what three digits allow."""
    marking, net, rows = case
    counted = 0
    for row, steps in enumerate(rows):
        for line in (line for step in steps for line in step.lines):
            for part in line.parts:
                if "∂" in part or re.search(r"[a-zσΣ][₀-₉]|Σ|left", part):
                    continue
                value = evaluated(part, marking.exact[net.output(net.modules - 1)][row].tolist())
                if value is None:
                    continue
                numbers = [abs(float(n)) for n in re.findall(r"\d+\.\d+|\d+", part)]
                scale = max(abs(line.value), min(1, max(numbers)) * 0.2)
                if "/" not in part and " + " not in part and "(1 −" not in part:
                    scale = abs(line.value)
                assert abs(value - line.value) <= 0.025 * scale + 1e-12, line
                counted += 1
    assert counted > 20


def test_formulas_in_letters(case):
    """Each sum of products in letters gives the exact number, with the numbers of all steps for
    the letters."""
    _, net, rows = case
    counted = 0
    for row, steps in enumerate(rows):
        known = {line.left.removesuffix(" ←"): line.value for s in steps[:-1] for line in s.lines}
        for name, array in net.parameters.items():
            for index in np.ndindex(array.shape):
                known[net.parameter(name, *index)] = float(array[index])
        for line in (line for step in steps for line in step.lines):
            for part in line.parts[:1]:
                terms = [re.split(r" · | ", term) for term in part.split(" + ")]
                if not all(token in known for term in terms for token in term):
                    continue
                value = math.fsum(math.prod(known[token] for token in term) for term in terms)
                assert abs(value - line.value) <= 1e-12 * max(1, abs(value)), (row, line)
                counted += 1
    assert counted > 10


def test_shares_of_the_loss(case):
    """What the rows add to the loss is the loss."""
    marking, _, rows = case
    if len(rows) > 1:
        shares = [
            line.value
            for steps in rows
            for step in steps
            for line in step.lines
            if line.place.startswith("share")
        ]
        assert len(shares) == len(rows)
        assert abs(math.fsum(shares) - marking.exact["loss"]) <= 1e-14


def test_slopes_of_activations(case):
    """∂a/∂z is what leads from ∂E/∂a to ∂E/∂z."""
    marking, _, rows = case
    for steps in rows:
        for line in (line for step in steps for line in step.lines):
            if " / " in line.place:
                of, by = (lookup(marking, f"d_{place}") for place in line.place.split(" / "))
                assert abs(line.value * of - by) <= 1e-14 * max(1, abs(by))


def test_written_out_from_the_loss():
    """One path or two: as a product or two from the loss on. More: from ∂E/∂z on."""
    texts = {}
    for name in ("sigmoid", "two paths", "kinks"):
        marking = mark(parse(CASES[name], "case.toml"))
        net = Network(marking)
        claims = Claims(marking, net, computation.plan(net))
        steps = computation.steps(net, claims, 0, writes=True)
        lines = {line.place: line.parts for step in steps for line in step.lines}
        texts[name] = lines["grad.0.weight[0,1]"][0]
    assert texts["sigmoid"] == "∂E/∂a₁² · ∂a₁²/∂z₁² · w₁₁² · ∂a₁¹/∂z₁¹ · x₂"
    assert texts["two paths"].split(" + ") == [
        "∂E/∂a₁³ · ∂a₁³/∂z₁³ · w₁₁³ · ∂a₁²/∂z₁² · w₁₁² · ∂a₁¹/∂z₁¹ · x₂",
        "∂E/∂a₁³ · ∂a₁³/∂z₁³ · w₁₂³ · ∂a₂²/∂z₂² · w₂₁² · ∂a₁¹/∂z₁¹ · x₂",
    ]
    assert texts["kinks"] == "Σ over the rows, ∂E/∂z · input"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (-0.25, "−0.25"),
        (0.6456563, "0.646"),
        (0.02401, "0.02401"),
        (0.024012, "0.0240"),
        (0.000338301, "0.000338"),
        (-6.5537e-5, "−6.55·10⁻⁵"),
        (0.999664, "0.99966"),
        (0.99, "0.99"),
        (0.995678, "0.9957"),
        (1234.5678, "1235"),
        (12345678.9, "1.23·10⁷"),
        (99.96, "99.96"),
        (99.961, "100"),
        (9.999e-5, "1.00·10⁻⁴"),
        (1e-40, "0"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "undefined"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "before", "text"),
    [
        (0.50271, 0.5, "0.5027"),
        (1.0000065536, 1, "1.0000066"),
        (-0.25, -0.25, "−0.25"),
        (3.7, 0.2, "3.7"),
        (-0.0000001, 0, "−0.00000010"),
        (250.0, 100, "250"),
    ],
)
def test_updated_parameters(value, before, text):
    """To two digits of the change."""
    assert moved(value, before) == text


def test_figures_of_a_sheet():
    """Digit for digit."""
    assert as_printed("-6.552e-5") == "−6.552·10⁻⁵"
    assert as_printed("0.500") == "0.500"
    assert as_printed("-(y - a) * 2e") == "−(y − a) * 2e"


def test_long_sums_are_cut():
    assert total(list("abcdefgh")) == "a + b + c + d + e + f + g + h"
    assert total(list("abcdefghi")) == "a + b + c + … + h + i"
    assert total(["−1", "−2", "3"]) == "−1 + (−2) + 3"
