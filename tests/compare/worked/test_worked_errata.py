"""The sheets of the source documents, and the page made from their marks."""

import time
from pathlib import Path

import pytest

from compare.worked import errata, mark, read

ROOT = Path(__file__).parents[3]
SHEETS = sorted((ROOT / "examples" / "sheets").glob("*.toml"))
COUNTS = {  # (exact, rounding, follows, wrong)
    "homework-a": (28, 14, 7, 1),
    "homework-b": (45, 8, 0, 0),
    "lecture-nudges-1": (24, 1, 2, 15),
    "lecture-nudges-2": (4, 1, 0, 2),
    "lecture-paths": (4, 0, 0, 8),
    "lecture-paths-sum": (4, 0, 0, 3),
    "lecture-sigmoid": (10, 0, 0, 2),
    "lecture-softmax": (9, 0, 0, 3),
    "lecture-softmax-digits": (6, 0, 0, 0),
    "lecture-softmax-stable": (4, 0, 0, 0),
    "lecture-tanh": (10, 0, 0, 0),
    "lecture-update-rule": (3, 0, 0, 6),
}


@pytest.fixture(scope="module")
def markings():
    mark(read(SHEETS[0]))  # what torch imports at its first optimizer is start-up
    begin = time.process_time()
    found = {path.stem: mark(read(path)) for path in SHEETS}
    assert time.process_time() - begin < 5
    return found


def of(marking, label):
    (found,) = [m for m in marking.claims if m.claim.label == label]
    return found


def test_every_sheet_has_these_marks(markings):
    assert set(markings) == set(COUNTS)
    for name, marking in markings.items():
        marks = [m.mark for m in marking.claims]
        kinds = ("exact", "rounding", "follows", "wrong")
        assert tuple(map(marks.count, kinds)) == COUNTS[name], name


def test_the_page_is_current(markings):
    assert (ROOT / "docs" / "errata.md").read_text(encoding="utf-8") == errata.page(
        markings.values()
    )


def test_the_page_is_written(tmp_path):
    sheets = tmp_path / "sheets"
    sheets.mkdir()
    (sheets / "a.toml").write_bytes((ROOT / "examples/sheets/lecture-sigmoid.toml").read_bytes())
    errata.main(sheets, tmp_path / "page.md")
    assert "line 2, denominator" in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sheet", "label", "exact"),
    [
        ("homework-a", "b1", 1.0000066640624292),
        ("lecture-nudges-1", "residual e1", 0.390496),
        ("lecture-nudges-1", "∂a²/∂b2¹", 0.047001),
        ("lecture-nudges-1", "∂a²/∂w11², in the vector", 0.475021),
        ("lecture-nudges-2", "∂a²/∂w11²", 0.574443),
        ("lecture-nudges-2", "∂a²/∂w12²", 0.689974),
    ],
)
def test_figures_known_to_be_wrong(markings, sheet, label, exact):
    found = of(markings[sheet], label)
    assert found.mark == "wrong"
    assert abs(found.exact - exact) < 1e-6


@pytest.mark.parametrize(
    ("sheet", "label", "hint"),
    [
        ("lecture-update-rule", "Δu11", "the sign is wrong"),
        ("lecture-paths", "∂E/∂w01³", "twice the exact value"),
        ("lecture-sigmoid", "line 2, denominator", "the sign is wrong"),
        ("lecture-nudges-1", "−∂R/∂w11¹", "half the exact value"),
        ("homework-a", "b1", "one digit is not that of 1.0000065"),
        ("lecture-nudges-1", "residual e1", "one digit is not that of 0.391"),
    ],
)
def test_how_it_shows(markings, sheet, label, hint):
    found = of(markings[sheet], label)
    assert (found.mark, found.hint) == ("wrong", hint)


def test_the_homework_s_rounded_gradient_follows(markings):
    found = of(markings["homework-a"], "∂E/∂w1")
    assert found.mark == "follows"
    assert found.follows == ("a4 / z4", "a1 / z1", "∂E/∂a4")
    assert found.carried == pytest.approx(-0.0260 * 0.024 * 0.105, rel=1e-12)
    assert of(markings["homework-a"], "∂E/∂a4").follows == ("a4",)
    assert of(markings["homework-a"], "w1").mark == "rounding"
