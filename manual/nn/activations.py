"""Smooth activations: y = f(x) element by element, so that dx = dy ∘ f'(x). Any rank from 0.

Those made of straight pieces (ReLU and its kin, Step, Maxout) are in piecewise.py, those over a
whole axis in softmax.py. NumPy turns results of rank 0 into scalars; `np.asarray` turns them back.
"""

import numpy as np

from manual.checks import InputError, check_array, finite_number
from manual.nn.gaussian import normal
from manual.nn.module import Module, overflowing


def sigmoid(x: np.ndarray) -> np.ndarray:
    """σ(x) = 1 / (1 + e^−x); 1 − σ(x) is σ(−x).

    Keeps full relative accuracy for x → −∞, where (1 + tanh(x/2))/2 would lose it.
    """
    with np.errstate(over="ignore"):  # e^−x = inf gives 1/inf = 0, the right limit
        return np.asarray(1 / (1 + np.exp(-x)))


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
        y = sigmoid(x)
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """σ' = e^−x / (1 + e^−x)² = y (1 − y), with y = σ(x), so dx = dy y (1 − y)."""
        (y,) = self.recall()
        check_array("Sigmoid: dy", dy, y.shape, y.dtype)
        return np.asarray(dy * (y * (1 - y)))


class LogSigmoid(Module):
    """f(x) = log σ(x) = −log(1 + e^−x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """−log(1 + e^−x) = min(x, 0) − log(1 + e^−|x|): nothing overflows, and log1p keeps the
        digits of a small e^−|x|."""
        check_array("LogSigmoid: x", x)
        self.saved = (x,)
        return np.asarray(np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = e^−x / (1 + e^−x) = σ(−x), so dx = dy σ(−x)."""
        (x,) = self.recall()
        check_array("LogSigmoid: dy", dy, x.shape, x.dtype)
        return np.asarray(dy * sigmoid(-x))


class Tanh(Module):
    """f(x) = tanh(x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Tanh: x", x)
        y = np.asarray(np.tanh(x))
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """tanh = sinh/cosh, so tanh' = 1 − tanh² = 1 − y², and dx = dy (1 − y²)."""
        (y,) = self.recall()
        check_array("Tanh: dy", dy, y.shape, y.dtype)
        return np.asarray(dy * (1 - y * y))


class Arctan(Module):
    """f(x) = arctan(x), an activation of the lecture notes that torch.nn has no module for."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Arctan: x", x)
        self.saved = (x,)
        return np.asarray(np.arctan(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """x = tan y, and tan' = 1 + tan², so f' = 1 / (1 + x²) and dx = dy / (1 + x²)."""
        (x,) = self.recall()
        check_array("Arctan: dy", dy, x.shape, x.dtype)
        with np.errstate(over="ignore"):  # x² = inf gives dx = 0, the right limit
            return np.asarray(dy / (1 + x * x))


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
        return np.where(x < 0, self.alpha * np.expm1(np.minimum(x, 0)), x)

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = 1 for x > 0, α e^x for x < 0; at the kink x = 0 torch's choice, α. dx = dy f'.

        y + α, the same as α e^x, would lose its digits for x → −∞.
        """
        (x,) = self.recall()
        check_array("ELU: dy", dy, x.shape, x.dtype)
        slope = self.alpha * np.exp(np.minimum(x, 0))
        return np.asarray(dy * np.where(x > 0, x.dtype.type(1), slope))

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
        with np.errstate(over="ignore"):  # βx = ±inf gives the right limits
            t = self.beta * x
        self.saved = t, t > self.threshold
        curve = np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))
        return np.where(t > self.threshold, x, curve / self.beta)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = β e^(βx) / (1 + e^(βx)) / β = σ(βx), and 1 on the linear part: dx = dy f'."""
        t, linear = self.recall()
        check_array("Softplus: dy", dy, t.shape, t.dtype)
        return np.asarray(dy * np.where(linear, t.dtype.type(1), sigmoid(t)))

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class SiLU(Module):
    """f(x) = x σ(x), also called swish. f(−inf) is −inf · 0 = NaN, as in torch."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("SiLU: x", x)
        s = sigmoid(x)
        self.saved = x, s
        with np.errstate(invalid="ignore"):  # f(−inf) = NaN, which see
            return np.asarray(x * s)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """(x σ)' = σ + x σ', and σ' = σ(x) (1 − σ(x)) = σ(x) σ(−x), so

            dx = dy σ(x) (1 + x σ(−x)).

        σ(−x) in place of 1 − σ(x) keeps its digits for large x. NaN for x = ±inf, as in torch.
        """
        x, s = self.recall()
        check_array("SiLU: dy", dy, x.shape, x.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # ±inf, and ±inf · 0
            return np.asarray(dy * (s * (1 + x * sigmoid(-x))))


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
        phi, slope = normal(x) if self.approximate == "none" else _tanh_approximation(x)
        self.saved = x, phi, slope
        with np.errstate(invalid="ignore"):  # f(−inf) = NaN, which see
            return np.asarray(x * phi)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """(x Φ)' = Φ + x Φ', so dx = dy (Φ(x) + x Φ'(x)). NaN for x = ±inf, as in torch.

        Exactly, Φ' is the density φ(x) = e^(−x²/2)/√(2π). In the approximation it is, with
        σ' = σ(2u) σ(−2u) and the inner derivative,
            Φ' = σ(2u) σ(−2u) 2u',    u' = √(2/π) (1 + 3 · 0.044715 x²).
        """
        x, phi, slope = self.recall()
        check_array("GELU: dy", dy, x.shape, x.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # ±inf, and ±inf · 0
            return np.asarray(dy * (phi + x * slope))

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


def _tanh_approximation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ(2u) and its derivative by x. From |x| = 100 on they are 0 or 1, and 0, in every dtype:
    cut off there, x³ does not overflow."""
    two_root, cubic = (x.dtype.type(text) for text in ("1.595769121605730711759784", "0.044715"))
    x = np.clip(x, -100, 100)
    square = cubic * x * x
    u2 = two_root * x * (1 + square)
    s = sigmoid(u2)
    return s, s * sigmoid(-u2) * (two_root * (1 + 3 * square))
