"""`check_backward`: its rows in their order, what it allows and asks, and what it refuses."""

import numpy as np
import pytest
import torch

from compare import EquivalenceError, check_backward
from compare.backward import expected
from compare.backward.check import REASONS
from compare.backward.expected import Expected
from compare.backward.functions import Reference

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
    assert checked().context.startswith("seed 0, numpy ")
    comparison = checked(seed=12, allow_vacuous=["d_*", "x"])
    assert comparison.allow_vacuous == ("d_*", "x")
    assert comparison.context.startswith("seed 12, numpy ")
    assert " on cpu, " in comparison.context


# With a given E (of the two outputs; of the slopes for the first cotangent, and for the second) and
# a witness that says what torch says, but for the answers that are given.

E = [2.0**-30, 0.0, 2.0**-31, 2.0**-32, 2.0**-33, 2.0**-34]
ONE = [2.0**-30, 2.0**-31, 2.0**-33]  # the same of a function of one array with one output
HALF = 2.0**-26.5  # of the digits of float64
SQUARE = lambda x: (x * x, x), lambda x, dy: 2 * x * dy
W = X[::-1] / 2


@pytest.fixture
def judged(monkeypatch):
    """judged(forward, backward, reference, *arrays, …) → (the table by name, what was asked)."""

    def made(*given, errors=E, answers=None, **options):
        def spread(function, arrays, dtype):
            return [np.full(v.shape, e) for v, e in zip(function(arrays), errors, strict=True)]

        def witness(self, k, index, which):
            right = float(self.slopes[which][k][index]), 0.0
            return (answers or {}).get((k, index, which), right)

        monkeypatch.setattr(expected, "spread", spread)
        monkeypatch.setattr(Expected, "witness", witness)
        try:
            found = check_backward(*given, **options)
        except EquivalenceError as error:
            found = error.comparison
        return found.frame.set_index("name"), found.asked

    return made


class Product:
    """x w and k + 1, and what the calls with contiguous cotangents were. A gradient for the third
    cotangent, and whatever comes from other layouts, is off by so much."""

    def __init__(self, off=0.0):
        self.off, self.cotangents = off, []

    def forward(self, x, w, k):
        return (x * w + self.off * (not x.flags.c_contiguous), k + 1), [x, w, 0]

    def backward(self, saved, dy, dk):
        x, w, calls = saved
        saved[2] += 1
        self.cotangents.append(dy)
        off = self.off * (calls == 2 or not dy.flags.c_contiguous)
        return dy * w + off, dy * x + off, None


def test_what_each_row_is_allowed(judged):
    pair = Product()
    table, _ = judged(pair.forward, pair.backward, reference, X, W, K)
    rounded = {
        "output.0": 2 * E[0],
        "output.0 (non-contiguous)": 2 * E[0],
        "d_x.0": 2 * E[2],
        "d_x.1": 2 * E[3],
        "d_x.0 (second cotangent)": 2 * E[4],
        "d_x.1 (second cotangent)": 2 * E[5],
        "d_x.0 (linear)": 8 * E[2] + 2 * E[4],
        "d_x.1 (linear)": 8 * E[3] + 2 * E[5],
        "d_x.0 (non-contiguous)": 2 * E[2],
        "d_x.1 (non-contiguous)": 2 * E[3],
    }
    assert np.isnan(table.allowed["d_x.2"])
    assert table.verdict["d_x.2"] == "ok"
    for name, allowed in table.allowed.drop("d_x.2").items():
        assert allowed == rounded.get(name, 0.0), name


def test_other_runs_may_lose_half_the_digits_of_the_largest_element(judged):
    pair = Product(off=2.0**-27)
    table, _ = judged(pair.forward, pair.backward, reference, X, W, K)
    assert set(table.verdict) == {"ok"}
    u, v = pair.cotangents[1:3]
    largest = [[np.abs(dy * a).max() for a in (W, X)] for dy in (u, v)]
    lost = {"output.0 (non-contiguous)": 2 * HALF * 32}
    for k in (0, 1):
        lost[f"d_x.{k} (non-contiguous)"] = 2 * HALF * largest[0][k]
        lost[f"d_x.{k} (linear)"] = HALF * (8 * largest[0][k] + 2 * largest[1][k])
    for name, allowed in lost.items():
        assert table.allowed[name] == pytest.approx(allowed, rel=1e-12), name
        assert table.used[name] > 0, name


def test_what_is_within_e_loses_no_digits(judged):
    pair = Product(off=2.0**-29)
    table, _ = judged(pair.forward, pair.backward, reference, X, W, K, errors=[2.0**-30] * 6)
    for name in ("output.0", "d_x.0", "d_x.1"):
        row = table.loc[f"{name} (non-contiguous)"]
        assert (row.allowed, row.used) == (2.0**-29, 1.0)


@pytest.mark.parametrize("wrong", ["raises", "shape"])
def test_another_layout_may_fail_altogether(judged, wrong):
    def changed(result, given):
        if given.flags.c_contiguous:
            return result
        return 1 / 0 if wrong == "raises" else result[None]

    def one_forward(x):
        return changed(x * x, x), x

    table, _ = judged(
        *(one_forward, lambda x, dy: changed(2 * x * dy, dy), torch.square, X), errors=ONE
    )
    failed = table[table.verdict != "ok"]
    assert set(failed.verdict) == {"missing" if wrong == "raises" else "shape"}
    assert set(failed.blame) == {"manual"}
    expected = ["output (non-contiguous)", "d_x (non-contiguous)"]
    assert list(failed.index) == expected


def test_a_second_cotangent_without_a_gradient(judged):
    def forward(x):
        return x * x, [x, 0]

    def fails_once(saved, dy):
        saved[1] += 1
        if saved[1] == 2:
            raise ZeroDivisionError
        return 2 * saved[0] * dy

    table, _ = judged(forward, fails_once, torch.square, X, errors=ONE)
    failed = table[table.verdict != "ok"]
    assert failed.verdict.to_dict() == {
        "d_x (second cotangent)": "missing",
        "d_x (linear)": "mismatch",
    }


def test_a_second_gradient_of_another_dtype_is_one_wrong_row(judged):
    def backward(saved, dy):
        saved[1] += 1
        dx = 2 * saved[0] * dy
        return dx.astype(np.float64) if saved[1] == 2 else dx

    given = lambda x: (x * x, [x, 0]), backward, torch.square, X.astype(np.float32)
    table, _ = judged(*given, errors=ONE)
    failed = table[table.verdict != "ok"]
    assert failed.verdict.to_dict() == {"d_x (second cotangent)": "dtype"}
    assert table.dtype["d_x (linear)"] == "float32"


def test_a_gradient_of_integers_is_one_too_many(judged):
    table, _ = judged(
        forward, lambda s, dy, dk: (*backward(s, dy, dk)[:2], dk or K), reference, X, W, K
    )
    failed = table[table.verdict != "ok"]
    assert failed[["verdict", "blame"]].to_numpy().tolist() == [["missing", "manual"]]
    assert list(failed.index) == ["d_x.2"]


@pytest.mark.parametrize(
    ("mine", "theirs", "blame"),
    [(np.nan, 1, "manual"), (1, torch.inf, "torch"), (-np.inf, torch.nan, "both")],
)
def test_who_is_not_finite_is_wrong(judged, mine, theirs, blame):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, dy):
            return dy * theirs

    table, _ = judged(
        *(lambda x: (x.copy(), None), lambda _, dy: dy * mine, Wrong.apply, X), errors=ONE
    )
    for name in ("d_x", "d_x (second cotangent)"):
        assert list(table.loc[name, ["verdict", "blame"]]) == ["nonfinite", blame]


def test_what_is_not_finite_comes_without_a_warning(judged):
    x = np.array([0.0, 4.0])
    pair = lambda x: (np.sqrt(x), np.sqrt(x)), lambda y, dy: dy / (2 * y)
    table, _ = judged(*pair, torch.sqrt, x, errors=ONE)
    assert list(table.loc["d_x", ["verdict", "blame"]]) == ["nonfinite", "both"]


def test_each_error_is_told_once_in_a_line_of_its_own():
    calls = []

    def fails(x, dy):
        calls.append(dy)
        raise KeyError(min(len(calls), 3))

    with pytest.raises(EquivalenceError) as caught:
        check_backward(lambda x: (x * x, x), fails, torch.square, X)
    lines = caught.value.comparison.context.split("\n")
    assert lines[:2] == [f"backward raised KeyError: {k}" for k in (2, 3)]
    assert lines[2].startswith("seed 0, numpy ")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cotangents_have_few_digits_and_are_not_small(judged, dtype):
    """The nearest 256ths of normal numbers, an eighth at least."""
    seen = []

    def backward(x, dy):
        seen.append(dy)
        return 2 * x * dy

    x = np.linspace(1, 2, 200, dtype=dtype)
    table, _ = judged(SQUARE[0], backward, torch.square, x, errors=ONE)
    assert set(table.verdict) == {"ok"}
    for dy, drawn in zip(seen[1:3], np.random.default_rng(0).normal(size=(2, 200)), strict=True):
        assert dy.dtype == dtype
        assert np.abs(dy - drawn)[np.abs(drawn) > 1 / 8].max() <= 1 / 512
        assert (256 * dy == np.round(256 * dy)).all()
        assert np.abs(dy).min() == 1 / 8
        assert set(np.sign(dy)) == {-1, 1}


def test_the_reference_is_given_contiguous_tensors(judged):
    def square(x):
        assert x.is_contiguous()
        return x * x

    for x in (X.T, X[:, ::2]):
        judged(*SQUARE, square, x, errors=ONE)


class Doubles(torch.autograd.Function):
    """A reference of one's own: twice the square, with the gradient of the square."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * x * dy


def test_nobody_knows_what_the_output_of_a_handwritten_reference_should_be(judged):
    for function, blame in ((Doubles.apply, "undecided"), (lambda x: 2 * x * x, "manual")):
        table, _ = judged(*SQUARE, function, X, errors=ONE)
        assert list(table.loc["output", ["verdict", "blame"]]) == ["mismatch", blame]


NOTHING = (np.nan, np.nan)


ANSWERS = {
    "torch's": (lambda mine, torchs: (torchs, 0.0), False, "manual"),
    "manual's": (lambda mine, torchs: (mine, 0.0), False, "torch"),
    "neither": (lambda mine, torchs: (mine + torchs, 0.0), False, "both"),
    "either": (lambda mine, torchs: (mine, 1e9), False, "undecided"),
    "nothing": (lambda mine, torchs: NOTHING, False, "manual"),
    "nothing, by hand": (lambda mine, torchs: NOTHING, True, "undecided"),
}


@pytest.mark.parametrize("which", [0, 1])
def test_where_the_sides_differ_the_witness_says_who_is_wrong(judged, monkeypatch, which):
    seen = []

    def off(x, dy):
        seen.append((x, dy))
        dx = 2 * x * dy
        dx[1, 0] *= 3
        return dx

    given = SQUARE[0], off, torch.square, X
    judged(*given, errors=ONE)
    x, dy = seen[1 + which]
    mine, torchs = 6 * x[1, 0] * dy[1, 0], 2 * x[1, 0] * dy[1, 0]
    for case, (says, handwritten, blame) in ANSWERS.items():
        monkeypatch.setattr(Reference, "handwritten", lambda *_, by_hand=handwritten: by_hand)
        answers = {(0, (1, 0), which): says(mine, torchs)}
        table, _ = judged(*given, errors=ONE, answers=answers)
        row = table.loc[["d_x", "d_x (second cotangent)"][which]]
        assert (row.verdict, row.worst, row.manual, row.torch) == ("mismatch", (1, 0), mine, torchs)
        assert row.blame == blame, case
        np.testing.assert_equal(row.oracle, says(mine, torchs)[0])


def test_where_the_sides_agree_the_witness_may_find_both_wrong(judged):
    """At any entry of the first cotangent's, and at the worst of the second's."""
    answers = {(0, (1, 2), 0): (7.0, 0.0), (0, (1, 2), 1): (7.0, 0.0)}
    e = 2.0**-31 * np.array([[1, 2, 3], [4, 5, 6]])
    errors = [ONE[0], e, ONE[2]]
    table, asked = judged(*SQUARE, torch.square, X, errors=errors, answers=answers)
    failed = table[table.verdict != "ok"]
    assert list(failed.index) == ["d_x"]
    row = failed.loc["d_x"]
    assert (row.verdict, row.blame, row.worst) == ("mismatch", "both", (1, 2))
    assert (row.oracle, row.allowed) == (7.0, 2 * e[1, 2])
    assert row.manual == row.torch != table.manual["d_x (second cotangent)"]
    assert asked.startswith("; the oracle was asked about 6 of 6 ")


def test_a_gradient_of_zeros_is_vacuous_but_not_for_each_cotangent(judged):
    table, asked = judged(
        lambda x: (np.sign(x), x), lambda x, dy: 0 * dy, torch.sign, X, errors=ONE
    )
    assert table[table.verdict != "ok"].verdict.to_dict() == {"d_x": "vacuous"}
    assert table.blame["d_x"] is None
    assert asked.startswith("; the oracle was asked about 0 of 6 ")


def test_of_more_than_six_entries_five_are_drawn_and_the_worst(judged):
    x = np.arange(1.0, 8.0)
    for seed in range(5):
        _, asked = judged(*SQUARE, torch.square, x, errors=ONE, seed=seed)
        assert asked.split(" asked about ")[1] in (f"{n} of 7 entries of gradients" for n in (5, 6))
