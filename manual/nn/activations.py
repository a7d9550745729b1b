"""Smooth activations: y = f(x) element by element, so that dx = dy ∘ f'(x). Any rank from 0.

Those made of straight pieces (ReLU and its kin, Step, Maxout) are in piecewise.py, those over a
whole axis in softmax.py. Everything is done in arrays of `new_empty`, one pass a line.
"""

from collections.abc import Callable

import numpy as np

from manual.arrays import place
from manual.checks import InputError, check_array, finite_number
from manual.nn.gaussian import normal
from manual.nn.module import Module, overflowing


def sigmoid(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """σ(x) = 1 / (1 + e^−x) into `out`, which may be x; 1 − σ(x) is σ(−x).

    Keeps full relative accuracy for x → −∞, where (1 + tanh(x/2))/2 would lose it.
    """
    np.negative(x, out=out)
    with np.errstate(over="ignore"):  # e^−x = inf gives 1/inf = 0, the right limit
        np.exp(out, out=out)
    out += 1
    return np.divide(1, out, out=out)


class Identity(Module):
    """f(x) = x. Takes and ignores any arguments, as torch.nn.Identity."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Identity: x", x)
        self.saved = x.shape, x.dtype
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f'(x) = 1, so dx = dy."""
        check_array("Identity: dy", dy, *self.recall())
        return dy


class Sigmoid(Module):
    """f(x) = σ(x) = 1 / (1 + e^−x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Sigmoid: x", x)
        y = sigmoid(x, self.new_empty(x.shape, x.dtype))
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """σ' = e^−x / (1 + e^−x)² = y (1 − y), with y = σ(x), so dx = dy y (1 − y)."""
        (y,) = self.recall()
        check_array("Sigmoid: dy", dy, y.shape, y.dtype)
        dx = np.subtract(1, y, out=self.new_empty(y.shape, y.dtype))
        dx *= y
        dx *= dy
        return dx


class LogSigmoid(Module):
    """f(x) = log σ(x) = −log(1 + e^−x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """−log(1 + e^−x) = min(x, 0) − log(1 + e^−|x|): nothing overflows, and log1p keeps the
        digits of a small e^−|x|."""
        check_array("LogSigmoid: x", x)
        self.saved = (x,)
        y, e = self.new_empty(x.shape, x.dtype), self.new_empty(x.shape, x.dtype)
        np.minimum(x, 0, out=y)
        y -= np.log1p(_exp_minus_abs(x, e), out=e)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = e^−x / (1 + e^−x) = σ(−x), so dx = dy σ(−x)."""
        (x,) = self.recall()
        check_array("LogSigmoid: dy", dy, x.shape, x.dtype)
        dx = np.negative(x, out=self.new_empty(x.shape, x.dtype))
        sigmoid(dx, dx)
        dx *= dy
        return dx


class Tanh(Module):
    """f(x) = tanh(x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Tanh: x", x)
        y = np.tanh(x, out=self.new_empty(x.shape, x.dtype))
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """tanh = sinh/cosh, so tanh' = 1 − tanh² = 1 − y², and dx = dy (1 − y²)."""
        (y,) = self.recall()
        check_array("Tanh: dy", dy, y.shape, y.dtype)
        dx = np.multiply(y, y, out=self.new_empty(y.shape, y.dtype))
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx


class Arctan(Module):
    """f(x) = arctan(x), an activation of the lecture notes that torch.nn has no module for."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Arctan: x", x)
        self.saved = (x,)
        return np.arctan(x, out=self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """x = tan y, and tan' = 1 + tan², so f' = 1 / (1 + x²) and dx = dy / (1 + x²)."""
        (x,) = self.recall()
        check_array("Arctan: dy", dy, x.shape, x.dtype)
        dx = self.new_empty(x.shape, x.dtype)
        with np.errstate(over="ignore"):  # x² = inf gives dx = 0, the right limit
            np.multiply(x, x, out=dx)
            dx += 1
            return np.divide(dy, dx, out=dx)


class ELU(Module):
    """f(x) = x for x > 0, α (e^x − 1) for x ≤ 0 (Clevert, Unterthiner & Hochreiter 2016).

    alpha: any finite number. Raises ValueError for another.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = finite_number("ELU: alpha", alpha)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """expm1 keeps the digits of e^x − 1 near 0; min(x, 0), that nothing overflows."""
        check_array("ELU: x", x)
        self.saved = (x,)
        y, straight = self.new_empty(x.shape, x.dtype), self.new_empty(x.shape, bool)
        np.expm1(np.minimum(x, 0, out=y), out=y)
        y *= self.alpha
        place(y, np.greater_equal(x, 0, out=straight), x)
        return y

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = 1 for x > 0, α e^x for x < 0; at the kink x = 0 torch's choice, α. dx = dy f'.

        y + α, the same as α e^x, would lose its digits for x → −∞.
        """
        (x,) = self.recall()
        check_array("ELU: dy", dy, x.shape, x.dtype)
        dx, positive = self.new_empty(x.shape, x.dtype), self.new_empty(x.shape, bool)
        np.exp(np.minimum(x, 0, out=dx), out=dx)
        dx *= self.alpha
        np.putmask(dx, np.greater(x, 0, out=positive), 1)
        dx *= dy
        return dx

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Softplus(Module):
    """f(x) = log(1 + e^(βx)) / β; x itself where βx > threshold, as in torch.

    beta: any finite number but 0; threshold: any finite number. Raises ValueError for others.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = finite_number("Softplus: beta", beta)
        if self.beta == 0:
            raise ValueError(f"Softplus: beta must not be 0, it is divided by; got {beta!r}")
        self.threshold = finite_number("Softplus: threshold", threshold)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """log(1 + e^t) = max(t, 0) + log(1 + e^−|t|) overflows nowhere, whatever the threshold."""
        check_array("Softplus: x", x)
        t, y, e = (self.new_empty(x.shape, x.dtype) for _ in range(3))
        with np.errstate(over="ignore"):  # βx = ±inf gives the right limits
            np.multiply(self.beta, x, out=t)
        linear = np.greater(t, self.threshold, out=self.new_empty(x.shape, bool))
        self.saved = t, linear
        np.maximum(t, 0, out=y)
        y += np.log1p(_exp_minus_abs(t, e), out=e)
        y /= self.beta
        np.copyto(y, x, where=linear)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = β e^(βx) / (1 + e^(βx)) / β = σ(βx), and 1 on the linear part: dx = dy f'."""
        t, linear = self.recall()
        check_array("Softplus: dy", dy, t.shape, t.dtype)
        dx = sigmoid(t, self.new_empty(t.shape, t.dtype))
        np.putmask(dx, linear, 1)
        dx *= dy
        return dx

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class SiLU(Module):
    """f(x) = x σ(x), also called swish. f(−inf) is −inf · 0 = NaN, as in torch."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("SiLU: x", x)
        s = sigmoid(x, self.new_empty(x.shape, x.dtype))
        self.saved = x, s
        with np.errstate(invalid="ignore"):  # f(−inf) = NaN, which see
            return np.multiply(x, s, out=self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """(x σ)' = σ + x σ', and σ' = σ(x) (1 − σ(x)) = σ(x) σ(−x), so

            dx = dy σ(x) (1 + x σ(−x)).

        σ(−x) in place of 1 − σ(x) keeps its digits for large x. NaN for x = ±inf, as in torch.
        """
        x, s = self.recall()
        check_array("SiLU: dy", dy, x.shape, x.dtype)
        dx = np.negative(x, out=self.new_empty(x.shape, x.dtype))
        sigmoid(dx, dx)
        with np.errstate(over="ignore", invalid="ignore"):  # ±inf, and ±inf · 0
            dx *= x
            dx += 1
            dx *= s
            dx *= dy
        return dx


class GELU(Module):
    """f(x) = x Φ(x), with Φ of the standard normal distribution (Hendrycks & Gimpel 2016).

    approximate: "none", or "tanh" for the approximation
        Φ(x) ≈ (1 + tanh u)/2 = σ(2u),    u = √(2/π) (x + 0.044715 x³).
    Raises InputError for another. f(−inf) is −inf · 0 = NaN, as in torch.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise InputError(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("GELU: x", x)
        distribution = normal if self.approximate == "none" else _tanh_approximation
        phi, slope = distribution(x, self.new_empty)
        self.saved = x, phi, slope
        with np.errstate(invalid="ignore"):  # f(−inf) = NaN, which see
            return np.multiply(x, phi, out=self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """(x Φ)' = Φ + x Φ', so dx = dy (Φ(x) + x Φ'(x)). NaN for x = ±inf, as in torch.

        Exactly, Φ' is the density φ(x) = e^(−x²/2)/√(2π). In the approximation it is, with
        σ' = σ(2u) σ(−2u) and the inner derivative,
            Φ' = σ(2u) σ(−2u) 2u',    u' = √(2/π) (1 + 3 · 0.044715 x²).
        """
        x, phi, slope = self.recall()
        check_array("GELU: dy", dy, x.shape, x.dtype)
        dx = self.new_empty(x.shape, x.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # ±inf, and ±inf · 0
            np.multiply(x, slope, out=dx)
            dx += phi
            dx *= dy
        return dx

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


def _exp_minus_abs(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """e^−|x|"""
    np.abs(x, out=out)
    np.negative(out, out=out)
    return np.exp(out, out=out)


def _tanh_approximation(x: np.ndarray, new_empty: Callable) -> tuple[np.ndarray, np.ndarray]:
    """σ(2u) and its derivative by x, in arrays of new_empty. From |x| = 100 on they are 0 or 1,
    and 0, in every dtype: cut off there, x³ does not overflow."""
    two_root, cubic = (x.dtype.type(text) for text in ("1.595769121605730711759784", "0.044715"))
    near, square, u2, s, slope = (new_empty(x.shape, x.dtype) for _ in range(5))
    x = np.clip(x, -100, 100, out=near)
    np.multiply(cubic, x, out=square)
    square *= x
    np.multiply(two_root, x, out=u2)
    u2 *= np.add(1, square, out=s)
    sigmoid(u2, s)
    np.negative(u2, out=slope)
    sigmoid(slope, slope)
    slope *= s
    square *= 3
    square += 1
    square *= two_root
    slope *= square
    return s, slope
