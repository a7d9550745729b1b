"""Activations made of straight pieces. Their kinks have no derivative: there, torch's choice."""

import numpy as np

from manual.arrays import array_module
from manual.checks import InputError, check_array, finite_number, float_dtype, whole_number
from manual.nn.module import Module
from manual.nn.parameter import Parameter

BITS = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}  # whole numbers of so many bytes


class ReLU(Module):
    """f(x) = max(x, 0). A NaN stays NaN."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("ReLU: x", x)
        zeros = 0 if self.elsewhere else self.full(x.shape, 0, x.dtype)  # quicker than a number
        y = np.maximum(x, zeros, out=self.new_empty(x.shape, x.dtype))
        active = self.new_empty(x.shape, bool)
        active[...] = y  # True where y ≠ 0
        self.saved = active, x.dtype
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f'(x) = 1 for x > 0 and 0 for x < 0; at the kink x = 0 torch's choice, 0.

        y = 0 exactly where x ≤ 0, so dx = 0 there and dy elsewhere (also where x is NaN).
        """
        active, dtype = self.recall()
        check_array("ReLU: dy", dy, active.shape, dtype)
        return _kept(active, dy, self.new_empty(dy.shape, dy.dtype))


class LeakyReLU(Module):
    """f(x) = x for x > 0, s x for x ≤ 0, with s = negative_slope, any finite number.

    Raises ValueError for another.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = finite_number("LeakyReLU: negative_slope", negative_slope)

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("LeakyReLU: x", x)
        slope = self.new_empty(x.shape, x.dtype)
        slope[...] = self.negative_slope
        np.putmask(slope, np.greater(x, 0, out=self.new_empty(x.shape, bool)), 1)
        self.saved = (slope,)
        return _product(slope, x, self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = 1 for x > 0 and s for x < 0; at the kink x = 0 torch's choice, s. dx = dy f'."""
        (slope,) = self.recall()
        check_array("LeakyReLU: dy", dy, slope.shape, slope.dtype)
        return _product(slope, dy, self.new_empty(dy.shape, dy.dtype))

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """f(x) = x for x > 0, w_c x for x ≤ 0, with a learnt slope w_c (He, Zhang, Ren & Sun 2015).

    weight: (num_parameters,), which starts as `init` everywhere: one slope for all elements, or
    one for each channel c. The channels are dimension 1 of x; an x of rank 1 is one channel.
    dtype: float32 (default), float64 or longdouble.
    Raises ValueError for a num_parameters below 1 or an `init` that is not finite, TypeError for a
    num_parameters that is not whole.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: np.dtype | None = None
    ) -> None:
        self.num_parameters = whole_number("PReLU: num_parameters", num_parameters, 1)
        self.init = finite_number("PReLU: init", init)
        dtype = float_dtype("PReLU", dtype)
        self.weight = Parameter(np.full(self.num_parameters, self.init, dtype))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x: any shape, with `num_parameters` channels where that is not 1, in the dtype of the
        weight. Raises DtypeError or InputError."""
        check_array("PReLU: x", x, dtype=self.weight.dtype)
        channels = x.shape[1] if x.ndim > 1 else 1
        if self.num_parameters not in (1, channels):
            raise InputError(
                f"PReLU: expected x with {self.num_parameters} channels (dimension 1), "
                f"got {channels} in shape {x.shape}"
            )
        weight = self.weight.data.reshape(-1, *[1] * (x.ndim - 2))  # (C, 1, …), beside (N, C, …)
        slope, positive = self.new_empty(x.shape, x.dtype), self.new_empty(x.shape, bool)
        slope[...] = weight
        np.putmask(slope, np.greater(x, 0, out=positive), 1)
        self.saved = x, slope
        return _product(slope, x, self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f' = 1 for x > 0 and w_c for x < 0; at the kink x = 0 torch's choice, w_c. dx = dy f'."""
        self.backward_parameters(dy)
        _, slope = self.recall()
        return _product(slope, dy, self.new_empty(dy.shape, dy.dtype))

    def backward_parameters(self, dy: np.ndarray) -> None:
        """The gradient of the weight alone.

        ∂y/∂w_c = x where x ≤ 0 in channel c, and 0 elsewhere, summed over all that share w_c:
            dw_c = Σ [x ≤ 0] x dy           over every dimension but 1 (one slope: over all)
        """
        x, _ = self.recall()
        check_array("PReLU: dy", dy, x.shape, x.dtype)
        over = tuple(k for k in range(x.ndim) if k != 1 or self.num_parameters == 1)
        below = np.greater(x, 0, out=self.new_empty(x.shape, bool))
        np.logical_not(below, out=below)
        terms = _product(x, dy, self.new_empty(x.shape, x.dtype))
        with np.errstate(over="ignore", invalid="ignore"):  # as in _product
            kept = _kept(below, terms, self.new_empty(terms.shape, terms.dtype))
            self.weight.overwrite_grad()[...] = kept.sum(axis=over)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Step(Module):
    """f(x) = 0 for x < 0, 1 for x ≥ 0: the threshold unit of the perceptron. A NaN stays NaN.

    Its gradient is 0 everywhere: f is flat on both sides of its jump, and at the jump it has no
    derivative. So nothing before a Step learns by gradient descent; the perceptron's own rule
    does not need a derivative.
    """

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_array("Step: x", x)
        self.saved = x.shape, x.dtype
        return np.heaviside(x, x.dtype.type(1), out=self.new_empty(x.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """f'(x) = 0 for x ≠ 0, and by convention at the jump x = 0 too, so dx = 0."""
        check_array("Step: dy", dy, *self.recall())
        dx = self.new_empty(dy.shape, dy.dtype)
        dx[...] = 0
        return dx


class Maxout(Module):
    """y_i = max of `pieces` consecutive elements of the last dimension (Goodfellow et al. 2013).

    Sequential(Linear(n, m * pieces), Maxout(pieces)) is their maxout unit, m times:
    y_i = max_k (w_ik · x + b_ik). A NaN among the elements gives NaN.
    Raises ValueError for a `pieces` below 1, TypeError for one that is not whole.
    """

    def __init__(self, pieces: int = 2) -> None:
        self.pieces = whole_number("Maxout: pieces", pieces, 1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x: (…, out · pieces) → y: (…, out). Raises InputError for another last dimension."""
        check_array("Maxout: x", x)
        if x.ndim == 0 or x.shape[-1] % self.pieces:
            raise InputError(
                f"Maxout: expected x of shape (…, a multiple of {self.pieces}), got {x.shape}"
            )
        parts = x.reshape(*x.shape[:-1], x.shape[-1] // self.pieces, self.pieces)
        first = self.new_empty(parts.shape[:-1], np.intp)
        parts.argmax(axis=-1, out=first)  # NaN counts as the largest
        self.saved = first, x.shape, x.dtype
        return parts.max(axis=-1, out=self.new_empty(first.shape, x.dtype))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy: (…, out) → dx: (…, out · pieces).

        y_i is the element at k* = argmax_k, so ∂y_i/∂x_ik = [k = k*] and dx_ik = [k = k*] dy_i.
        Where several are equal it is the first of them, as in torch.
        """
        first, shape, dtype = self.recall()
        check_array("Maxout: dy", dy, first.shape, dtype)
        largest = self.new_empty((*first.shape, self.pieces), bool)
        np.equal(first[..., None], array_module(dy).arange(self.pieces), out=largest)
        return _kept(largest, dy[..., None], self.new_empty(largest.shape, dtype)).reshape(shape)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """a b, where as in torch an overflow is ±inf and 0 · inf is NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.multiply(a, b, out=out)


def _kept(where: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The values there, 0 elsewhere. out: another array; it is written before values is read."""
    bits = BITS.get(values.itemsize)
    if bits is None:  # longdouble
        out[...] = np.where(where, values, 0)
    else:
        # As whole numbers: 0 · ∞ would be NaN. np.where takes three to nine times as long.
        kept = out.view(bits)
        kept[...] = where
        np.multiply(values.view(bits), kept, out=kept)
    return out
