"""Who is wrong at one element, and the row of one tensor."""

import numpy as np
import pytest

from compare.judge import COLUMNS, blame, frame, judge, judge_values
from compare.trace import Tensor

NAN, INF = np.nan, np.inf
# e = 1 and witness_e = ½ throughout: a side is certainly wrong where it is more than 1.5 away.
TABLE = [
    # manual, torch, witness, who
    (10.0, 10.0, 10.0, None),
    (11.5, 8.5, 10.0, "undecided"),  # neither is certainly wrong, but they are 3 apart
    (11.0, 9.0, 10.0, None),
    (11.6, 10.0, 10.0, "manual"),
    (8.4, 10.0, 10.0, "manual"),
    (11.6, 11.4, 10.0, "manual"),  # agreeing does not help
    (10.0, 11.6, 10.0, "torch"),
    (10.0, 8.4, 10.0, "torch"),
    (12.0, 12.0, 10.0, "both"),
    (12.0, 8.0, 10.0, "both"),
    (-10.0, -10.0, 10.0, "both"),
    # a value that is not finite is wrong where the witness has one that is
    (NAN, 10.0, 10.0, "manual"),
    (10.0, NAN, 10.0, "torch"),
    (NAN, NAN, 10.0, "both"),
    (INF, 10.0, 10.0, "manual"),
    (10.0, -INF, 10.0, "torch"),
    (INF, INF, 10.0, "both"),
    (NAN, INF, 10.0, "both"),
    (INF, 12.0, 10.0, "both"),
    # without a witness nobody can say who, but that they are apart
    (10.0, 10.0, NAN, None),
    (10.0, 12.0, NAN, None),
    (10.0, 12.1, NAN, "undecided"),
    (12.1, 10.0, NAN, "undecided"),
    (10.0, 12.1, INF, "undecided"),
    (10.0, 10.0, -INF, None),
    (NAN, 10.0, NAN, "undecided"),
    (10.0, NAN, NAN, "undecided"),
    (NAN, NAN, NAN, "undecided"),
    (INF, INF, NAN, "undecided"),
    (INF, 10.0, NAN, "undecided"),
]


@pytest.mark.parametrize(("manual", "torch", "witness", "who"), TABLE)
def test_who_is_wrong(manual, torch, witness, who):
    with np.errstate(invalid="ignore"):
        assert blame(manual, torch, witness, 1.0, 0.5) == who


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_witness_without_a_bound_says_nothing(bad):
    assert blame(10.0, 10.0, 0.0, 1.0, bad) is None
    assert blame(10.0, 13.0, 10.0, 1.0, bad) == "undecided"


@pytest.mark.parametrize("e", [NAN, INF])
def test_without_a_bound_on_rounding_only_what_is_not_finite_is_wrong(e):
    with np.errstate(invalid="ignore"):
        for bad in (NAN, INF, -INF):
            assert blame(bad, 10.0, 10.0, e, 0.5) == "manual"
            assert blame(10.0, bad, 10.0, e, 0.5) == "torch"
            assert blame(bad, bad, 10.0, e, 0.5) == "both"
        assert blame(10.0, 99.0, 10.0, e, 0.5) is None


def test_the_witness_too_may_be_a_little_off():
    assert blame(12.0, 10.0, 10.0, 1.0, 0.99) == "manual"
    assert blame(12.0, 10.0, 10.0, 1.0, 1.0) is None
    assert blame(13.0, 10.0, 11.5, 1.0, 0.5) == "undecided"  # too far apart, neither certainly


def test_where_nothing_may_be_rounded_nothing_is():
    assert blame(1.0, 1.0, 1.0, 0.0, 0.0) is None
    assert blame(np.nextafter(1.0, 2.0), 1.0, 1.0, 0.0, 0.0) == "manual"
    assert blame(1.0, np.nextafter(1.0, 2.0), 1.0, 0.0, 0.0) == "torch"


def tensor(value):
    return Tensor("d_x", "backward", np.asarray(value))


def test_a_row_has_all_columns_and_says_what_it_is_of():
    row = judge(3, tensor([1.0, 2.0]), tensor([1.0, 2.5]), np.array([0.0, 1.0]))
    assert list(row) == COLUMNS
    assert (row["step"], row["name"], row["stage"]) == (3, "d_x", "backward")
    assert (row["shape"], row["dtype"], row["verdict"]) == ((2,), "float64", "ok")
    assert (row["worst"], row["manual"], row["torch"]) == ((1,), 2.0, 2.5)
    assert (row["allowed"], row["used"], row["max_abs"]) == (1.0, 0.5, 0.5)
    assert (row["max_rel"], row["max_ulp"]) == (0.2, 0.5 / np.spacing(2.5))
    assert np.isnan(row["oracle"])
    assert row["blame"] is None


@pytest.mark.parametrize(
    ("a", "b", "verdict", "manual", "torch"),
    [
        (None, [1.0], "missing", "nothing", "it"),
        ([1.0], None, "missing", "it", "nothing"),
        ([[1.0]], [1.0], "shape", "shape [1, 1]", "shape [1]"),
        ([1.0, 1.0], [1.0], "shape", "shape [2]", "shape [1]"),  # which would broadcast
        (1.0, [1.0], "shape", "shape []", "shape [1]"),
        (np.float32([1.0]), [1.0], "dtype", "float32", "float64"),
        ([1], [1.0], "dtype", "int64", "float64"),
        (np.float32([[1.0]]), [1.0], "shape", "shape [1, 1]", "shape [1]"),  # before the dtype
    ],
)
def test_presence_shape_and_dtype_come_before_values(a, b, verdict, manual, torch):
    sides = [None if t is None else tensor(t) for t in (a, b)]
    row = judge(1, *sides, np.full((), 1e9))
    assert (row["verdict"], row["manual"], row["torch"]) == (verdict, manual, torch)


def test_exactly_what_is_allowed_passes_and_no_more():
    for dtype in (np.float32, np.float64):
        a, b = np.array([1.0], dtype), np.array([1.25], dtype)
        assert judge_values(a, b, np.array([0.25]))["verdict"] == "ok"
        assert judge_values(b, a, np.array([0.25]))["used"] == 1
        for less in (np.nextafter(0.25, 0), 0.0, np.nan, -1.0):
            assert judge_values(a, b, np.array([less]))["verdict"] == "mismatch", less
        assert judge_values(a, b, None)["verdict"] == "mismatch"
        assert judge_values(a, a, None)["verdict"] == "ok"


def test_one_element_of_many_is_enough():
    a = np.zeros((3, 4))
    for index in np.ndindex(a.shape):
        b = a.copy()
        b[index] = 1
        row = judge_values(a, b, np.full(a.shape, 0.5))
        assert (row["verdict"], row["worst"]) == ("mismatch", index)


def test_values_are_judged_element_by_element():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0 + 1e-9, 3.0 + 1e-8])
    row = judge_values(a, b, np.array([0.0, 1e-10, 1e-7]))
    assert row["verdict"] == "mismatch"
    assert row["worst"] == (1,)
    assert row["used"] == pytest.approx(10, rel=1e-6)
    assert row["allowed"] == 1e-10
    assert row["max_abs"] == pytest.approx(1e-8, rel=1e-6)
    assert row["max_rel"] == pytest.approx(1e-8 / 3, rel=1e-6)
    assert (row["manual"], row["torch"]) == (2.0, 2.0 + 1e-9)
    assert judge_values(a, b, np.array([0.0, 1e-8, 1e-7]))["verdict"] == "ok"


def test_units_in_the_last_place_are_those_of_the_dtype():
    a = np.float32([1, 100])
    b = np.nextafter(np.nextafter(a, np.float32(1e9)), np.float32(1e9))
    assert judge_values(a, b, np.ones(2))["max_ulp"] == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(bad):
    ones = np.ones(3)
    spoilt = np.array([1, bad, 1])
    for a, b in ((spoilt, ones), (ones, spoilt), (spoilt, spoilt)):
        row = judge_values(a, b, np.full(3, 1e9))
        assert (row["verdict"], row["worst"]) == ("nonfinite", (1,))
    assert judge_values(ones, ones + 1, np.full(3, abs(bad)))["verdict"] == "mismatch"


def test_whole_numbers_are_compared_too():
    a, b = np.array(3), np.array(4)
    assert judge_values(a, a, np.zeros(()))["verdict"] == "ok"
    assert judge_values(a, b, np.zeros(()))["verdict"] == "mismatch"


def test_where_torch_has_a_zero_the_relative_difference_is_nothing_or_infinite():
    a, b = np.array([0.0, 3.0]), np.array([0.0, 2.0])
    assert judge_values(a, b, None)["max_rel"] == 0.5
    assert judge_values(a + 2, b, None)["max_rel"] == INF


def test_a_value_that_is_not_finite_is_shown_and_nothing_else():
    a, b = np.array([[1.0, 2.0], [INF, 3.0]]), np.array([[1.0, 2.0], [4.0, NAN]])
    row = judge_values(a, b, None)
    assert row == {"worst": (1, 0), "manual": INF, "torch": 4.0, "verdict": "nonfinite"}


def test_nothing_in_a_tensor_is_nothing_wrong():
    nothing = tensor(np.zeros((0, 3)))
    row = judge(1, nothing, nothing, None)
    assert (row["verdict"], row["worst"]) == ("ok", None)
    assert [row[name] for name in ("max_abs", "max_rel", "max_ulp", "used")] == [0.0] * 4
    assert np.isnan(row["manual"])
    assert judge(1, nothing, tensor(np.zeros((0, 2))), None)["verdict"] == "shape"


def test_in_the_table_nobody_is_none():
    rows = [judge(1, tensor([1.0]), tensor([1.0]), None) | {"blame": who} for who in (None, "both")]
    assert list(frame(rows).blame) == [None, "both"]
    assert list(frame(rows[:1]).blame) == [None]
    assert list(frame([]).columns) == COLUMNS
