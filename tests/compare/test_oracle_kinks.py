"""Slopes at a kink: of one side, or the mean of both."""

import numpy as np
import pytest
import torch

from compare.oracle.differences import derivative
from compare.oracle.kinks import BOTH, LEFT, RIGHT, continued, side_of_loss, side_of_module
from manual import nn
from torch_ref import twin


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
@pytest.mark.parametrize(("side", "slope"), [(LEFT, 2), (BOTH, 3.5), (RIGHT, 5)])
def test_the_slope_is_that_of_the_side(side, slope, dtype):
    """Two straight lines, times the other entry, that meet at 0.75 with the value 3."""
    at = np.array([[1, 0.75], [1, 4]], dtype)

    def f(x):
        t = x[0, 1] - dtype(0.75)
        return np.array([1 + x[1, 1] * 0, (3 + (5 if t > 0 else 2) * t) * x[1, 1]])

    found = continued(f, at, (0, 1), side)
    np.testing.assert_array_equal(found(at), f(at))
    value, error = derivative(found, at, (0, 1), np.array([7, 1], dtype))
    assert abs(value - 4 * slope) <= error < 1e-6
    assert np.array_equal(at, np.array([[1, 0.75], [1, 4]]))


def test_a_curve_is_followed_on_its_side_alone():
    at = np.zeros(1)

    def f(x):
        return np.where(x > 0, np.sqrt(np.maximum(x, 0)), np.expm1(x))

    value, error = derivative(continued(f, at, (0,), LEFT), at, (0,), np.ones(1))
    assert abs(value - 1) <= error < 1e-5
    assert np.isnan(derivative(f, at, (0,), np.ones(1))[0])


def test_without_a_kink_it_is_the_function_itself():
    def f(x):
        return x

    assert continued(f, np.zeros(1), (0,), None) is f


class Other(nn.L1Loss):
    """With a twin of its own: its slope at 0 is its own affair."""


@twin.register
def _(criterion: Other) -> torch.nn.Module:
    return torch.nn.L1Loss()


def test_where_a_module_has_a_kink():
    x = np.array([[0.0, 1.0], [-0.0, -1.0]])
    for module in (nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.ELU()):
        sides = [side_of_module(module, x, index) for index in np.ndindex(2, 2)]
        assert sides == [LEFT, None, LEFT, None]
    for module in (nn.Tanh(), nn.Linear(2, 2), nn.Step()):
        assert [side_of_module(module, x, index) for index in np.ndindex(2, 2)] == [None] * 4
    # Pieces of 3: the second and third are largest; one is; all three are.
    x = np.array([[1, 4, 4, 7, 5, 5], [0, 0, 0, 2, 1, 2]], float)
    sides = [side_of_module(nn.Maxout(3), x, index) for index in np.ndindex(2, 6)]
    assert sides[:6] == [None, RIGHT, LEFT, None, None, None]
    assert sides[6:] == [RIGHT, LEFT, LEFT, RIGHT, None, LEFT]
    assert side_of_module(nn.Maxout(3), x[0], (2,)) == LEFT


def test_where_a_loss_has_a_kink():
    p, y = np.array([1.0, 2.0]), np.array([1.0, 3.0])
    sides = {
        type(criterion): [side_of_loss(criterion, p, y, (k,)) for k in range(2)]
        for criterion in (nn.L1Loss(), nn.MSELoss(), Other())
    }
    assert sides == {nn.L1Loss: [BOTH, None], nn.MSELoss: [None] * 2, Other: [None] * 2}
