"""What is refused, and how: one error that names the value, what was expected and where."""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import math

import numpy as np

from manual.arrays import array_module

FLOATS = tuple(np.dtype(t) for t in (np.float32, np.float64, np.longdouble))


class InputError(ValueError, RuntimeError):
    """An array of the wrong shape, or with a value that is not allowed. torch raises RuntimeError
    in some of its modules and ValueError in others; this is both."""


class DtypeError(TypeError, NotImplementedError):
    """An array of the wrong dtype: a TypeError in Python's terms. torch raises RuntimeError in some
    of its modules and NotImplementedError, a kind of it, in others; this is both."""


def check_array(what: str, array: np.ndarray, shape: tuple | None = None, dtype=None) -> None:
    """Refuse what is not a real floating array of the given shape and dtype (where given).

    Nothing broadcasts and nothing is converted. Raises TypeError for what is no array,
    DtypeError or InputError (which see).
    """
    if not isinstance(array, np.ndarray) and array_module(array) is np:
        raise TypeError(f"{what}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype not in FLOATS:
        raise DtypeError(f"{what}: expected float32, float64 or longdouble, got {array.dtype}")
    if dtype is not None and array.dtype != dtype:
        raise DtypeError(f"{what}: expected dtype {dtype}, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise InputError(f"{what}: expected shape {shape}, got {array.shape}")


def float_dtype(what: str, dtype: np.dtype | None) -> np.dtype:
    """The dtype of a module's parameters; None: float32. Raises TypeError for another than
    float32, float64 or longdouble."""
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{what}: dtype must be float32, float64 or longdouble, got {dtype}")
    return dtype


def whole_number(what: str, value: int, low: int | None = None) -> int:
    """The value as an int. Raises TypeError for what is no whole number, InputError below low."""
    limit = "" if low is None else f" >= {low}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{what} must be a whole number{limit}, got {value!r}")
    if low is not None and value < low:
        raise InputError(f"{what} must be a whole number{limit}, got {value!r}")
    return int(value)


def random_generator(what: str, generator: np.random.Generator | None) -> np.random.Generator:
    """The generator; a fresh, unseeded one for None. Raises TypeError for anything else."""
    if generator is None:
        return np.random.default_rng()
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"{what} must be a numpy.random.Generator, got {type(generator).__name__}")
    return generator


def finite_number(what: str, value: float) -> float:
    """The value, if it is a real number, neither infinite nor NaN. Raises ValueError."""
    real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not real or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return value if isinstance(value, int | float) else float(value)
