"""Activations: y = f(x) element by element, so that dx = dy ∘ f'(x). Any rank from 1."""

import numpy as np

from manual.nn.module import Module, check_array


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
        """Keeps full relative accuracy for x → −∞, where (1 + tanh(x/2))/2 would lose it."""
        check_array("Sigmoid: x", x)
        with np.errstate(over="ignore"):  # e^−x = inf gives 1/inf = 0, the right limit
            y = 1 / (1 + np.exp(-x))
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """σ' = e^−x / (1 + e^−x)² = y (1 − y), with y = σ(x), so dx = dy y (1 − y)."""
        (y,) = self.recall()
        check_array("Sigmoid: dy", dy, y.shape, y.dtype)
        return dy * (y * (1 - y))


class Tanh(Module):
    """f(x) = tanh(x)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Tanh: x", x)
        y = np.tanh(x)
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """tanh = sinh/cosh, so tanh' = 1 − tanh² = 1 − y², and dx = dy (1 − y²)."""
        (y,) = self.recall()
        check_array("Tanh: dy", dy, y.shape, y.dtype)
        return dy * (1 - y * y)


class ReLU(Module):
    """f(x) = max(x, 0). A NaN stays NaN."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("ReLU: x", x)
        y = np.maximum(x, 0)
        self.saved = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f'(x) = 1 for x > 0 and 0 for x < 0; at the kink x = 0 torch's choice, 0.

        y ≤ 0 exactly where x ≤ 0, so dx = 0 there and dy elsewhere (also where x is NaN).
        """
        (y,) = self.recall()
        check_array("ReLU: dy", dy, y.shape, y.dtype)
        return np.where(y <= 0, dy.dtype.type(0), dy)
