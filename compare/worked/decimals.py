"""Arithmetic in many digits: the context, and the textbook's functions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from functools import lru_cache

import numpy as np

DIGITS = 80
# Nothing of a step is as large as that, and what is smaller is 0.
LARGEST = 100_000
CONTEXT = Context(
    DIGITS, Emax=LARGEST, Emin=-LARGEST, traps=[DivisionByZero, InvalidOperation, Overflow]
)


@contextmanager
def many_digits() -> Iterator[None]:
    """Decimals have 80 digits in the block; what is too large, or x / 0, raises."""
    with localcontext(CONTEXT):
        yield


# In a difference most arguments are those of the last evaluation.
@lru_cache(20_000)
def exp(x: Decimal) -> Decimal:
    return x.exp()


def sigmoid(x: Decimal) -> Decimal:
    """1 / (1 + e^−x)."""
    e = exp(-abs(x))
    return (e if x < 0 else 1) / (1 + e)


def tanh(x: Decimal) -> Decimal:
    """(1 − e^−2x) / (1 + e^−2x)."""
    e = exp(-2 * abs(x))
    return ((1 - e) / (1 + e)).copy_sign(x)


@lru_cache(20_000)
def arctan(x: Decimal) -> Decimal:
    """x − x³/3 + x⁵/5 − …, after arctan x = 2 arctan(x / (1 + √(1 + x²))) until x is small."""
    halvings = 0
    while abs(x) > Decimal("0.01"):
        x = x / (1 + (1 + x * x).sqrt())
        halvings += 1
    total, power, n, least = x, x, 1, abs(x).scaleb(-DIGITS - 2)
    while abs(power) > least:
        power *= -x * x
        n += 2
        total += power / n
    return total * 2**halvings


def softplus(x: Decimal) -> Decimal:
    """log(1 + e^x)."""
    return max(x, Decimal(0)) + (1 + exp(-abs(x))).ln()


FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "exp": exp,
    "log": lambda x: x.ln(),
    "sqrt": lambda x: x.sqrt(),
    "sigmoid": sigmoid,
    "tanh": tanh,
}


def array(values: object) -> np.ndarray:
    """An array of decimals."""
    return np.array(values, dtype=object)


def floats(values: np.ndarray) -> np.ndarray:
    """Each rounded once, to float64."""
    return np.array(values, dtype=object).astype(np.float64)
