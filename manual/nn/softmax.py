"""Softmax and its logarithm over one axis, in the stable form of the lecture notes: the maximum
is subtracted first. A row that has only −inf, or +inf or NaN anywhere, gives NaN, as in torch."""

import math
import warnings
from collections.abc import Callable

import numpy as np

from manual.arrays import maxima
from manual.checks import check_array
from manual.nn.module import Module, overflowing

# For the forwards that subtract the maximum: −inf is the limit where z − m overflows, and ∞ − ∞ is
# the NaN that torch gives.
unlimited = np.errstate(over="ignore", invalid="ignore")


class Softmax(Module):
    """y_i = e^(x_i) / Σ_j e^(x_j), over the dimension `dim` (negative: from the end).

    dim=None is the dimension 0 for x of rank 0, 1 and 3, and 1 otherwise, with torch's warning.
    Raises TypeError for a dim that is not a whole number; IndexError in forward for one x lacks.
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = _checked("Softmax", dim)

    @unlimited
    def forward(self, x: np.ndarray) -> np.ndarray:
        """With m = max x: e^(x_i − m) / Σ_j e^(x_j − m). No e^… exceeds 1 and one of them is 1."""
        check_array("Softmax: x", x)
        axis = _axis(self, "softmax", x.ndim)
        y = classes_first(x, axis, self.new_empty)
        subtract_maximum(y, self.new_empty)
        np.exp(y, out=y)
        y /= np.dot(self.full(len(y), 1, y.dtype), y, out=self.new_empty(y.shape[1:], y.dtype))
        self.saved = y, x.shape, axis
        return as_given(y, x.shape, axis)

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """∂y_j/∂x_i = y_j ([i = j] − y_i), so dx_i = Σ_j dy_j ∂y_j/∂x_i, which is

        dx_i = y_i (dy_i − Σ_j dy_j y_j).
        """
        y, shape, axis = self.recall()
        check_array("Softmax: dy", dy, shape, y.dtype)
        dx = classes_first(dy, axis, self.new_empty)
        terms = np.multiply(dx, y, out=self.new_empty(y.shape, y.dtype))
        ones, sums = self.full(len(y), 1, y.dtype), self.new_empty(y.shape[1:], y.dtype)
        dx -= np.dot(ones, terms, out=sums)
        dx *= y
        return as_given(dx, shape, axis)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """y_i = log softmax(x)_i = x_i − log Σ_j e^(x_j), over the dimension `dim`, as in Softmax."""

    def __init__(self, dim: int | None = None) -> None:
        self.dim = _checked("LogSoftmax", dim)

    @unlimited
    def forward(self, x: np.ndarray) -> np.ndarray:
        """With m = max x: (x_i − m) − log Σ_j e^(x_j − m): no overflow, no log of 0."""
        check_array("LogSoftmax: x", x)
        axis = _axis(self, "log_softmax", x.ndim)
        y = classes_first(x, axis, self.new_empty)
        subtract_maximum(y, self.new_empty)
        if len(y):
            e = np.exp(y, out=self.new_empty(y.shape, y.dtype))
            y -= sum_and_log(e, self.full(len(y), 1, y.dtype), self.new_empty)[1]
        self.saved = y, x.shape, axis
        return as_given(y, x.shape, axis)

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """∂y_j/∂x_i = [i = j] − p_i with p = softmax(x) = e^y, so

        dx_i = dy_i − p_i Σ_j dy_j.
        """
        y, shape, axis = self.recall()
        check_array("LogSoftmax: dy", dy, shape, y.dtype)
        dx = classes_first(dy, axis, self.new_empty)
        ones, sums = self.full(len(y), 1, y.dtype), self.new_empty(y.shape[1:], y.dtype)
        np.dot(ones, dx, out=sums)
        p = np.exp(y, out=self.new_empty(y.shape, y.dtype))
        p *= sums
        dx -= p
        return as_given(dx, shape, axis)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


def classes_first(x: np.ndarray, axis: int, new_empty: Callable) -> np.ndarray:
    """A copy, (C, M): the C classes of `axis` first, the other dimensions in one. So sums and
    maxima over the classes run along whole rows. An x of rank 0 is one class."""
    view = x.swapaxes(0, axis) if x.ndim else x.reshape(1)
    if view.ndim == 2:
        first = new_empty(view.shape, x.dtype)
        first[...] = view
        return first
    first = new_empty((len(view), math.prod(view.shape[1:])), x.dtype)
    first.reshape(view.shape)[...] = view
    return first


def as_given(first: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """(C, M) as the `shape` that classes_first was given; a view."""
    if not shape:
        return first.reshape(())
    if len(shape) == 2:
        return first.swapaxes(0, axis)
    swapped = list(shape)
    swapped[0], swapped[axis] = shape[axis], shape[0]
    return first.reshape(swapped).swapaxes(0, axis)


def subtract_maximum(z: np.ndarray, new_empty: Callable) -> None:
    """z_cm ← z_cm − max_k z_km; without classes there is nothing to subtract from."""
    if len(z):
        z -= maxima(z, new_empty(z.shape[1:], z.dtype))


def sum_and_log(
    e: np.ndarray, ones: np.ndarray, new_empty: Callable
) -> tuple[np.ndarray, np.ndarray]:
    """Σ_c e_cm and log Σ_c e_cm, (M,), where the largest e_cm of each m is 1. ones: (C,). The
    arrays come from new_empty.

    log1p adds the 1 to the sum of the others: where they are small, the result, about that sum,
    would lose its digits beside the 1.
    """
    others, shape = new_empty(e.shape, e.dtype), e.shape[1:]
    more, total = new_empty(shape, e.dtype), new_empty(shape, e.dtype)
    np.equal(e, 1, out=others)
    np.dot(ones, others, out=more)  # how many are 1
    more -= 1
    np.subtract(e, others, out=others)
    more += np.dot(ones, others, out=total)
    np.add(1, more, out=total)
    return total, np.log1p(more, out=more)


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
            stacklevel=5,  # this function, forward, its errstate, __call__, the caller
        )
        return 0 if ndim in (0, 1, 3) else 1
    if not -rank <= dim < rank:
        raise IndexError(
            f"{type(module).__name__}: dim must be in [{-rank}, {rank - 1}] for x of rank {ndim}, "
            f"got {dim}"
        )
    return dim
