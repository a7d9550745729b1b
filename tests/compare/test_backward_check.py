"""`check_backward`: its rows in their order, what it allows and asks, and what it refuses."""

import numpy as np
import pytest
import torch

from compare import check_backward
from compare.backward.check import REASONS

X = np.array([[1.0, -2.0, 4.0], [0.5, 8.0, -16.0]])
K = np.array([3, 5])


def forward(x, w, k):
    return (x * w, k + 1), (x, w)


def backward(saved, dy, dk):
    x, w = saved
    return dy * w, dy * x, None


def reference(x, w, k):
    return x * w, k + 1


def checked(**options):
    return check_backward(forward, backward, reference, X, X[::-1] / 2, K, **options)


def test_the_rows_in_their_order():
    frame = checked().frame
    gradients = [f"d_x.{k}" for k in (0, 1)]
    of_forward = ["output.0", "output.1", *(f"x.{k} (unchanged)" for k in range(3))]
    expected = [(name, "forward") for name in of_forward]
    expected += [(f"d_x.{k}", "backward") for k in range(3)]
    expected += [(f"x.{k} (unchanged by backward)", "backward") for k in range(3)]
    expected += [("d_output.0 (unchanged by backward)", "backward")]
    expected += [(f"{name} (second cotangent)", "backward") for name in gradients]
    expected += [(f"{name} (linear)", "backward") for name in gradients]
    for names, stage in ((("output.0", "output.1"), "forward"), (gradients, "backward")):
        for name in names:
            expected += [(f"{name} {what}", stage) for what in ("(kept)", "(again)")]
            expected += [(f"{name} (non-contiguous)", stage)]
    assert list(zip(frame["name"], frame.stage, strict=True)) == expected
    assert set(frame.verdict) == {"ok"}
    assert set(frame.step) == {1}
    assert list(frame.blame) == [None] * len(frame)


def test_one_array_and_one_output_have_no_number():
    found = check_backward(lambda x: (x * x, x), lambda x, dy: 2 * x * dy, torch.square, X)
    first = ["output", "x (unchanged)", "d_x", "x (unchanged by backward)"]
    assert list(found.frame["name"][:4]) == first


def test_every_row_has_its_reason():
    comparison = checked()
    for name in comparison.frame["name"]:
        what = name[name.index("(") :] if "(" in name else ""
        assert comparison.reasons[1, name] == REASONS[what]
    assert len(comparison.reasons) == len(comparison.frame)


def test_how_much_the_oracle_was_asked():
    """Of 6 entries or fewer all, in both gradients; of more five, and the worst."""
    assert checked().asked == "; the oracle was asked about 12 of 12 entries of gradients"
    x = np.linspace(1, 2, 1200)
    found = check_backward(lambda x: (x * x, x), lambda x, dy: 2 * x * dy, torch.square, x)
    assert found.asked in {
        f"; the oracle was asked about {n} of 1,200 entries of gradients" for n in (5, 6)
    }


def test_what_is_of_one_sides_making_is_allowed_nothing():
    frame = checked().frame.set_index("name")
    exact = [n for n in frame.index if "unchanged" in n or "(kept)" in n or "(again)" in n]
    assert set(frame.allowed[exact]) == {0.0}
    others = [n for n in frame.index if n not in exact and ".2" not in n and "output.1" not in n]
    assert (frame.allowed[others] > 0).all()


NOT_FLOATS = "must be of float32 or float64, or of integers or bools, got"


@pytest.mark.parametrize(
    ("arrays", "error", "text"),
    [
        ([X, [1.0]], TypeError, "array 1 must be an ndarray, got list"),
        ([X, X.astype(np.float16)], TypeError, f"array 1 {NOT_FLOATS} float16"),
        ([X, X.astype(np.longdouble)], TypeError, f"array 1 {NOT_FLOATS} longdouble"),
        ([X, X.astype(complex)], TypeError, f"array 1 {NOT_FLOATS} complex128"),
        ([X[:0], X], ValueError, "array 0 has no elements (shape [0, 3])"),
        ([X, X / [1, np.inf, 1] * np.nan], ValueError, "array 1 has an element that is not finite"),
        (
            [K, K > 3],
            ValueError,
            "no array of float32 or float64, so there is no gradient",
        ),
        ([], ValueError, "no array of float32 or float64, so there is no gradient"),
    ],
)
def test_what_is_refused(arrays, error, text):
    text = text.replace("longdouble", str(np.dtype(np.longdouble)))
    with pytest.raises(error) as caught:
        check_backward(forward, backward, reference, *arrays)
    assert str(caught.value) == f"check_backward: {text}"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"seed": 1.5}, TypeError, "check_backward: seed must be a whole number, got 1.5"),
        (
            {"allow_vacuous": "d_x"},
            TypeError,
            "check_backward: allow_vacuous must be a list of patterns, got 'd_x'",
        ),
    ],
)
def test_options_that_are_refused(options, error, text):
    with pytest.raises(error) as caught:
        checked(**options)
    assert str(caught.value) == text


def test_the_seed_and_the_patterns_are_kept():
    comparison = checked(seed=12, allow_vacuous=["d_*", "x"])
    assert comparison.allow_vacuous == ("d_*", "x")
    assert comparison.context.startswith("seed 12, numpy ")
    assert " on cpu, " in comparison.context
