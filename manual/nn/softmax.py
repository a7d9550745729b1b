"""Softmax and its logarithm over one axis, in the stable form of the lecture notes: the maximum
is subtracted first. A row that has only −inf, or +inf or NaN anywhere, gives NaN, as in torch."""

import warnings
from collections.abc import Callable

import numpy as np

from manual.checks import check_array
from manual.nn.module import Module, overflowing


class Softmax(Module):
    """y_i = e^(x_i) / Σ_j e^(x_j), over the dimension `dim` (negative: from the end).

    dim=None is the dimension 0 for x of rank 0, 1 and 3, and 1 otherwise, with torch's warning.
    Raises TypeError for a dim that is not a whole number; IndexError in forward for one x lacks.
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = _checked("Softmax", dim)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """With m = max x: e^(x_i − m) / Σ_j e^(x_j − m). No e^… exceeds 1 and one of them is 1."""
        check_array("Softmax: x", x)
        axis = _axis(self, "softmax", x.ndim)
        y, sums = _below_maximum(np.atleast_1d(x), axis, self.new_empty)
        np.exp(y, out=y)
        y /= np.add.reduce(y, axis, out=sums, keepdims=True)
        y = y.reshape(x.shape)
        self.saved = y, axis
        return y

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """∂y_j/∂x_i = y_j ([i = j] − y_i), so dx_i = Σ_j dy_j ∂y_j/∂x_i, which is

        dx_i = y_i (dy_i − Σ_j dy_j y_j).
        """
        y, axis = self.recall()
        check_array("Softmax: dy", dy, y.shape, y.dtype)
        shape = y.shape
        y, dy = np.atleast_1d(y, dy)
        dx, sums = self.new_empty(y.shape, y.dtype), self.new_empty(of_one(y, axis), y.dtype)
        np.multiply(dy, y, out=dx)
        np.add.reduce(dx, axis, out=sums, keepdims=True)
        np.subtract(dy, sums, out=dx)
        dx *= y
        return dx.reshape(shape)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """y_i = log softmax(x)_i = x_i − log Σ_j e^(x_j), over the dimension `dim`, as in Softmax."""

    def __init__(self, dim: int | None = None) -> None:
        self.dim = _checked("LogSoftmax", dim)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """With m = max x: (x_i − m) − log Σ_j e^(x_j − m): no overflow, no log of 0."""
        check_array("LogSoftmax: x", x)
        axis = _axis(self, "log_softmax", x.ndim)
        y, _ = _below_maximum(np.atleast_1d(x), axis, self.new_empty)
        if y.size:
            e = np.exp(y, out=self.new_empty(y.shape, y.dtype))
            y -= sum_and_log(e, axis, self.new_empty)[1]
        y = y.reshape(x.shape)
        self.saved = y, axis
        return y

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """∂y_j/∂x_i = [i = j] − p_i with p = softmax(x) = e^y, so

        dx_i = dy_i − p_i Σ_j dy_j.
        """
        y, axis = self.recall()
        check_array("LogSoftmax: dy", dy, y.shape, y.dtype)
        shape = y.shape
        y, dy = np.atleast_1d(y, dy)
        dx, sums = self.new_empty(y.shape, y.dtype), self.new_empty(of_one(y, axis), y.dtype)
        np.exp(y, out=dx)
        dx *= np.add.reduce(dy, axis, out=sums, keepdims=True)
        return np.subtract(dy, dx, out=dx).reshape(shape)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


def sum_and_log(e: np.ndarray, axis: int, new_empty: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Σ_j e_j and log Σ_j e_j (that axis kept, of length 1), where the largest e_j of each row
    is 1. The arrays come from new_empty.

    log1p adds the 1 to the sum of the others: where they are small, the result, about that sum,
    would lose its digits beside the 1.
    """
    ones, shape = new_empty(e.shape, e.dtype), of_one(e, axis)
    more, total = new_empty(shape, e.dtype), new_empty(shape, e.dtype)
    np.equal(e, 1, out=ones)
    np.add.reduce(ones, axis, None, more, True)
    more -= 1
    more += np.add.reduce(np.subtract(e, ones, out=ones), axis, None, total, True)
    np.add(1, more, out=total)
    return total, np.log1p(more, out=more)


def of_one(x: np.ndarray, axis: int) -> tuple[int, ...]:
    """The shape of x with that axis of length 1."""
    shape = list(x.shape)
    shape[axis] = 1
    return tuple(shape)


def _below_maximum(x: np.ndarray, axis: int, new_empty: Callable) -> tuple[np.ndarray, np.ndarray]:
    """x − max x, and an array for one number of each row; of an empty axis there is nothing to
    subtract from."""
    y, largest = new_empty(x.shape, x.dtype), new_empty(of_one(x, axis), x.dtype)
    np.maximum.reduce(x, axis, out=largest, keepdims=True, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):  # −inf is the right limit; inf − inf = NaN
        return np.subtract(x, largest, out=y), largest


def _checked(name: str, dim: int | None) -> int | None:
    if isinstance(dim, bool) or not isinstance(dim, int | np.integer | None):
        raise TypeError(f"{name}: dim must be a whole number or None, got {dim!r}")
    return None if dim is None else int(dim)


def _axis(module: Softmax | LogSoftmax, function: str, ndim: int) -> int:
    """The dimension to work along; as in torch, an x of rank 0 counts as one of rank 1."""
    dim, rank = module.dim, max(ndim, 1)
    if dim is None:
        warnings.warn(
            f"Implicit dimension choice for {function} has been deprecated. "
            "Change the call to include dim=X as an argument.",
            stacklevel=4,  # this function, forward, __call__, the caller
        )
        return 0 if ndim in (0, 1, 3) else 1
    if not -rank <= dim < rank:
        raise IndexError(
            f"{type(module).__name__}: dim must be in [{-rank}, {rank - 1}] for x of rank {ndim}, "
            f"got {dim}"
        )
    return dim
