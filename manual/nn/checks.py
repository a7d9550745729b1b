"""Numbers that a constructor is given: refused here with one error that names them."""

import math

import numpy as np


def finite_number(what: str, value: float) -> float:
    """The value, if it is a real number, neither infinite nor NaN. Raises ValueError."""
    real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not real or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return value if isinstance(value, int | float) else float(value)


def whole_number(what: str, value: int) -> int:
    """The value as an int, if it is a whole number and at least 1. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{what} must be a whole number >= 1, got {value!r}")
    return int(value)
