"""Slopes at a kink: of one side, or the mean of both."""

import numpy as np
import pytest

from compare.oracle.differences import derivative
from compare.oracle.kinks import BOTH, LEFT, RIGHT, continued


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
