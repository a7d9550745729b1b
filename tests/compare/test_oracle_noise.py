"""How far rounding can carry a definition: the bounds themselves. That they hold is tested beside
the definitions and the losses."""

import numpy as np
import pytest

from compare.oracle.definitions import definition
from compare.oracle.noise import noise, row_units, sums
from manual import nn
from tests.compare.pinned import assert_as_pinned

LINE = [-40.0, -3.0, -0.5, 0.0, 0.25, 0.5, 2.0, 5.0, 40.0]
ROWS = [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0], [-np.inf, 0.0, 0.5], [10.0, 0.0, -3.0]]
CUBE = np.arange(24.0).reshape(3, 2, 4) % 7 - 2
CHANNELS = {
    "weight": [0.5, -2.0],
    "bias": [0.25, -4.0],
    "running_mean": [1.0, 3.0],
    "running_var": [4.0, 0.5],
}
W = [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]]


def batch_norm(**options):
    return nn.BatchNorm1d(2, eps=0.5, dtype=np.float64, **options)


def linear(**options):
    return nn.Linear(3, 2, dtype=np.float64, **options)


CASES = {
    "Tanh": (nn.Tanh(), {}, LINE),
    "Identity": (nn.Identity(), {}, LINE),
    "Linear": (linear(), {"weight": W, "bias": [-5.0, 0.5]}, ROWS[::3]),
    "Linear without bias": (linear(bias=False), {"weight": W}, ROWS[::3]),
    "Linear, rank 3": (linear(), {"weight": W, "bias": [-5.0, 0.5]}, [ROWS[::3]] * 4),
    "GELU": (nn.GELU(), {}, [*LINE, 1e200]),
    "GELU(tanh)": (nn.GELU("tanh"), {}, [*LINE, 1e200]),
    "Softplus": (nn.Softplus(), {}, LINE),
    # Beside the threshold, within 1e-6 of 1 + |threshold|.
    "Softplus(2, 1)": (nn.Softplus(2.0, 1.0), {}, 0.5 + np.array([-1.1, -0.9, 0, 0.9, 1.1]) * 1e-6),
    "Softplus(-2, -1)": (nn.Softplus(-2.0, -1.0), {}, [0.5 - 0.9e-6, 0.5, 0.5 + 1.1e-6, 3.0, -3.0]),
    "Softplus(1, 0)": (nn.Softplus(1.0, 0.0), {}, [-1e-6, 0.0, 0.9999999e-6, 1e-6]),
    "Softmax": (nn.Softmax(-1), {}, ROWS),
    "Softmax(0)": (nn.Softmax(0), {}, ROWS),
    "Softmax(None)": (nn.Softmax(), {}, CUBE),
    "LogSoftmax": (nn.LogSoftmax(-1), {}, ROWS),
    "LogSoftmax(0)": (nn.LogSoftmax(0), {}, CUBE),
    "LogSoftmax, rank 0": (nn.LogSoftmax(0), {}, 3.0),
    "BatchNorm1d": (batch_norm(), CHANNELS, CUBE[0].T),
    "BatchNorm1d, rank 3": (batch_norm(), CHANNELS, CUBE),
    "BatchNorm1d(affine)": (batch_norm(affine=False), {}, CUBE),
    "BatchNorm1d(eval)": (batch_norm().eval(), CHANNELS, CUBE),
}


def bounds():
    found = {f"sums({n})": sums(n) for n in (0, 1, 100)}
    for name, (module, theta, x) in CASES.items():
        theta, x = {key: np.array(value) for key, value in theta.items()}, np.array(x)
        with np.errstate(all="ignore"):  # as the witness does
            y = definition(module)(theta, x)
            found[name] = noise(module, theta, x, y) / np.finfo(float).eps
        assert found[name].shape == y.shape
    return found


def test_no_bound_has_become_wider():
    found = bounds()
    assert_as_pinned("test_oracle_noise", found)
    # Some of them by hand, in units of roundoff: 8 of the value; sums(4) of Σ |w x| + |b|.
    assert found["Tanh"][-1] == 8
    assert found["Linear"][0] == pytest.approx([6 * (1 + 4 + 2 + 5), 6 * (6 + 4 + 0.5)])
    assert found["Softplus"][-1] == 8 * 40


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
@pytest.mark.parametrize(
    "module", [nn.Identity(), nn.Flatten(0), nn.ReLU(), nn.Maxout(2), nn.Step()]
)
def test_what_is_not_rounded_is_off_by_no_unit(module, dtype):
    x = np.array([1.0, -2.0, 0.0, 3.0], dtype)
    found = noise(module, {}, x, definition(module)({}, x))
    assert found.dtype == dtype
    assert (found == np.finfo(dtype).tiny).all()


def test_the_units_of_a_row():
    """Of three equal ones: 8 and a sum of 3; its logarithm, of the two beside the largest."""
    addition = 2 + 2 * np.sqrt(3)
    relative, absolute = row_units(np.full((2, 3), 5.0), 1)
    assert relative == pytest.approx(np.full((2, 3), 8 + addition))
    assert absolute == pytest.approx(np.full((2, 3), 4 * 2 * (addition + 2)))
    assert row_units(np.zeros((2, 0)), 1)[0].shape == (2, 0)
