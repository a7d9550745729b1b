"""Rounding of a dtype, and arithmetic that carries a bound on the error along."""

from typing import NamedTuple

import numpy as np


class Rounding(NamedTuple):
    """Of a dtype. u: unit roundoff; tiny: the smallest normal number (what is smaller may come
    out as 0). certain: no bound may rest on a probability."""

    u: float
    tiny: float
    certain: bool = False

    @staticmethod
    def of(dtype: np.dtype) -> "Rounding":
        info = np.finfo(dtype)
        return Rounding(float(info.eps) / 2, float(info.tiny))

    @property
    def libm(self) -> float:
        """Relative, of exp, tanh and log: 4 units in the last place, as NumPy and torch keep."""
        return 8 * self.u

    def sum(self, n: int) -> float:
        """Error of a sum of n products a_i b_i, relative to Σ |a_i b_i|: at most n u, whatever the
        order; and 6 √n u with a probability of failure below 10⁻⁷ where roundings are independent.
        """
        return (n if self.certain else min(n, 6 * np.sqrt(n))) * self.u

    def flushed(self, e: np.ndarray) -> np.ndarray:
        """e with the error of a result that may come out as 0; where e is 0 nothing was rounded."""
        return np.where(e > 0, e + self.tiny, 0.0)


class Ball:
    """A float64 array and, element by element, a bound e on the error of one side's value of it.

    Operations pass errors on and add their own rounding: u relative to the side's own result, which
    is at most |value| + e. A number that is not a Ball (an option, say) is exact but for its own
    rounding to the dtype.
    """

    __array_ufunc__ = None  # so that number ∘ Ball comes here, too

    def __init__(self, value: np.ndarray, e: np.ndarray, r: Rounding) -> None:
        self.value, self.r = value, r
        self.e = e if np.shape(e) == np.shape(value) else np.broadcast_to(e, np.shape(value))

    def _result(self, value: np.ndarray, e: np.ndarray, roundings: int = 1) -> "Ball":
        return Ball(value, e + roundings * self.r.u * (np.abs(value) + e), self.r)

    def __neg__(self) -> "Ball":
        return Ball(-self.value, self.e, self.r)

    def __add__(self, other: "Ball") -> "Ball":
        return self._result(self.value + other.value, self.e + other.e)

    def __sub__(self, other: "Ball") -> "Ball":
        return self + -other

    def __mul__(self, other: "Ball | np.ndarray | float") -> "Ball":
        if not isinstance(other, Ball):
            if np.ndim(other) == 0 and other == 1:
                return self
            value = self.value * other
            return self._result(value, np.abs(other) * self.e + self._underflow(value), 2)
        value, e = self.value * other.value, np.abs(self.value) * other.e
        e = e + self.e * (np.abs(other.value) + other.e)
        return self._result(value, e + self._underflow(value))

    __rmul__ = __mul__

    def __truediv__(self, other: "Ball") -> "Ball":
        """∞ where the divisor may be 0 and the dividend is not exactly 0."""
        zeros = np.zeros(np.broadcast_shapes(np.shape(self.value), np.shape(other.value)))
        value = np.divide(self.value, other.value, out=zeros, where=self.value != 0)
        low = np.abs(other.value) - other.e
        e = self.e + np.abs(value) * other.e
        e = np.divide(e, low, out=np.where(e > 0, np.inf, 0.0), where=low > 0)
        return self._result(value, e + self._underflow(value))

    def plus(self, number: float) -> "Ball":
        """Ball + number."""
        value = self.value + number
        return self._result(value, self.e + self.r.u * abs(number))

    def sqrt(self) -> "Ball":
        value = np.sqrt(self.value)
        low = np.sqrt(np.maximum(self.value - self.e, 0))
        e = np.maximum(np.sqrt(self.value + self.e) - value, value - low)
        return self._result(value, e)

    def maximum(self, other: "Ball") -> "Ball":
        return Ball(np.maximum(self.value, other.value), np.maximum(self.e, other.e), self.r)

    def within(self, limit: np.ndarray | float) -> "Ball":
        """Of either side it is known that its value lies in ±limit."""
        return Ball(self.value, np.minimum(self.e, np.abs(self.value) + limit), self.r)

    def sum(self, axis: int | tuple[int, ...]) -> "Ball":
        """Over `axis`, whose dimensions stay, with length 1."""
        value = self.value.sum(axis=axis, keepdims=True)
        n = self.value.size // max(1, value.size)
        size = np.abs(self.value).sum(axis=axis, keepdims=True)
        e = self.e.sum(axis=axis, keepdims=True) + self.r.sum(n) * size
        return Ball(value, e, self.r)

    def _underflow(self, value: np.ndarray) -> np.ndarray:
        return np.where(value != 0, self.r.tiny, 0.0)
