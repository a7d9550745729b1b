"""The catalogue of planted bugs: each is rejected, blamed on the right side, and first seen in the
tensor that is wrong; and nothing is wrong without it."""

import dataclasses

import numpy as np
import pytest

from compare import compare
from manual import nn, optim
from manual.nn import normalization
from tests.planted import AREAS, BUGS
from tests.planted.__main__ import report
from tests.planted.bug import arguments, as_expected, edited, find, patched, together

SEED = 0
DTYPES = [np.dtype(np.float64), np.dtype(np.float32)]
CASES = {bug.case: bug.name for bug in reversed(BUGS)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_rejected_located_and_blamed(bug, dtype):
    # What is right without the bug need not be asked about again, which is most of the time.
    found = find(bug, dtype, SEED, oracle=bug.blame == "both")
    assert as_expected(bug, found), (
        f"{bug.name}, {dtype}, seed {SEED}: expected {bug.row} in step {bug.step} and "
        f"{bug.blame}, found {found[:4]}\n{found.comparison}"
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=CASES.values())
def test_without_it_the_comparison_passes(case, dtype):
    comparison = compare(**arguments(case, dtype, SEED))
    assert comparison.passed, f"{dtype}, seed {SEED}\n{comparison}"


def test_every_public_name_has_a_bug():
    public = {*nn.__all__, *optim.__all__}
    assert {bug.subject for bug in BUGS} == public


def test_the_catalogue_is_large_and_on_both_sides():
    assert len(BUGS) >= 150
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    blamed = [bug.blame for bug in BUGS]
    assert min(blamed.count(side) for side in ("manual", "torch", "both")) >= 25
    assert blamed.count("undecided") <= 2


# The planting itself.


def test_an_edit_is_undone_and_holds_for_whoever_has_the_function():
    backward, code = nn.Tanh.backward, nn.Tanh.backward.__code__
    module, dy = nn.Tanh(), np.ones((2, 3))
    module.forward(dy)
    right = module.backward(dy)
    with edited(backward, "np.subtract(1", "np.subtract(2")({}):
        np.testing.assert_allclose(module.backward(dy), right + 1)
    np.testing.assert_array_equal(module.backward(dy), right)
    with (
        pytest.raises(KeyError, match="after an error"),
        edited(backward, "np.subtract(1", "np.subtract(2")({}),
    ):
        raise KeyError("after an error")
    assert backward.__code__ is code


@pytest.mark.parametrize("old", ["1 - y * y * y", "y"])
def test_an_edit_of_what_is_not_there_once_is_refused(old):
    with (
        pytest.raises(ValueError, match=r"stands \d+ times in"),
        edited(nn.Tanh.backward, old, "0")({}),
    ):
        pass


def test_an_edit_under_a_decorator_and_one_with_super():
    norm, x = nn.BatchNorm1d(3, dtype=np.float64), np.eye(3)
    with edited(nn.BatchNorm1d.forward, "y += self.bias.data", "y += 5 + self.bias.data")({}):
        assert norm(x).min() > 3
    parameters = [nn.Parameter(np.ones(2))]
    with edited(optim.Adagrad._fresh, "[0] * len", "[7] * len")({}):
        assert optim.Adagrad(parameters)._states[0].steps == [7]
    assert optim.Adagrad(parameters)._states[0].steps == [0]


def test_several_bugs_at_once_are_all_undone():
    old = normalization.math
    with together(patched(normalization, math=None), edited(nn.ReLU.forward, "maximum", "minimum"))(
        {}
    ):
        assert normalization.math is None
    assert normalization.math is old


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"row": "loss"}, "loss: manual"),
        ({"blame": "torch"}, "d_activation.0: torch"),
        ({"step": 2}, "d_activation.0, step 2: manual"),
    ],
    ids=str,
)
def test_the_table_says_what_is_not_as_expected(capsys, other, expected):
    right = AREAS["activations"][:2]
    assert report({"activations": right}, SEED) == 0
    assert "2 bugs, 2 rejected, located and blamed" in capsys.readouterr().out
    wrong = dataclasses.replace(right[0], **other)
    assert report({"activations": [wrong, right[1]]}, SEED) == 1
    out = capsys.readouterr().out
    assert f"NOT as expected: {wrong.name}\n  expected {expected}\n" in out
    assert "found in float32 d_activation.0: manual\n" in out
    assert "2 bugs, 1 rejected, located and blamed" in out
