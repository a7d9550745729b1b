"""Refusals of numbers and dtypes that a constructor is given."""

import numpy as np
import pytest

from manual import nn
from manual.checks import finite_number, float_dtype, random_generator, whole_number


def test_whole_numbers():
    assert [whole_number("n", size, 0) for size in (0, 3, np.int64(2))] == [0, 3, 2]
    assert whole_number("n", -5) == -5
    assert type(whole_number("n", np.int64(2))) is int
    for bad in (1.0, True, "2", None, np.float64(2)):
        with pytest.raises(TypeError, match="n must be a whole number, got"):
            whole_number("n", bad)
        with pytest.raises(TypeError, match="n must be a whole number >= 1, got"):
            whole_number("n", bad, 1)
    for error in (ValueError, RuntimeError):  # torch raises now one, now the other
        with pytest.raises(error, match="n must be a whole number >= 0, got -1"):
            whole_number("n", -1, 0)
    assert whole_number("n", 1, 1) == 1
    with pytest.raises(ValueError, match="n must be a whole number >= 1, got 0"):
        whole_number("n", 0, 1)


def test_finite_numbers():
    assert finite_number("a", -2) == -2
    assert type(finite_number("a", np.float32(0.5))) is float
    for bad in (np.nan, np.inf, -np.inf, "1", None, True, 1j):
        with pytest.raises(ValueError, match="a must be a finite number, got"):
            finite_number("a", bad)


def test_dtypes():
    assert float_dtype("A", None) == np.float32
    for dtype in (np.float32, np.float64, np.longdouble, "float64"):
        assert float_dtype("A", dtype) == np.dtype(dtype)
    for bad in (np.float16, np.int64, complex, bool):
        with pytest.raises(TypeError, match=f"A: dtype must be float32.* got {np.dtype(bad)}"):
            float_dtype("A", bad)


def test_generators():
    own = np.random.default_rng(0)
    assert random_generator("A: generator", own) is own
    assert isinstance(random_generator("A: generator", None), np.random.Generator)
    for bad in (42, True, np.random.RandomState(0), np.random):
        kind = type(bad).__name__
        with pytest.raises(TypeError, match=f"Dropout: generator must be .*got {kind}"):
            nn.Dropout(0.5, bad)
        with pytest.raises(TypeError, match=f"Linear: generator must be .*got {kind}"):
            nn.Linear(2, 3, generator=bad)
