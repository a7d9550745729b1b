"""A trainable array with its gradient, and the two flat buffers that all of a network's share.

An optimizer's update is one pass over memory when every parameter of a network lies in one
1-D buffer and every gradient in another, in the same order. A `Parameter` is a pair of views
into such a pair of buffers.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from manual.arrays import as_array, as_if, device_of, module_of
from manual.checks import FLOATS


class Flat:
    """One buffer for the values of several parameters and one for their gradients."""

    def __init__(self, size: int, dtype: np.dtype, device: str) -> None:
        empty = module_of(device).empty
        self.data, self.grad = empty(size, dtype), empty(size, dtype)


class Parameter:
    """A trainable array.

    data: ndarray, the value. Assigning to it copies; shape and dtype stay.
    grad: ndarray of the same shape and dtype, dLoss/d(this parameter), or None as long as no
        backward has written it. Assigning an array copies it; assigning None forgets it.

    The value is a copy of `data` and keeps its memory order: a (out, in) weight that is the
    transposed view of an (in, out) block stays one.
    """

    _placement: object = None  # another one whenever a parameter, whichever, is placed in a buffer

    def __init__(self, data: np.ndarray) -> None:
        data = as_array(data)
        if data.dtype not in FLOATS:
            raise TypeError(
                f"a Parameter is float32, float64 or longdouble, got an array of {data.dtype}"
            )
        self._shape = data.shape
        self._transposed = data.flags.f_contiguous and not data.flags.c_contiguous
        self._has_grad = False
        self._place(Flat(data.size, data.dtype, device_of(data)), 0)
        self._data[...] = data

    def _place(self, flat: Flat, start: int) -> None:
        self._flat, self._start, self._stop = flat, start, start + int(np.prod(self._shape))
        own = slice(self._start, self._stop)
        self._data, self._grad = self.shaped(flat.data[own]), self.shaped(flat.grad[own])
        Parameter._placement = object()

    def shaped(self, block: np.ndarray) -> np.ndarray:
        """A 1-D array in this parameter's memory order (a piece of `runs`) in its shape; a view."""
        if self._transposed:
            return block.reshape(self._shape[::-1]).T
        return block.reshape(self._shape)

    def _move(self, flat: Flat, start: int) -> None:
        data, grad = self._data, self._grad
        self._place(flat, start)
        self._data[...] = data
        if self._has_grad:
            self._grad[...] = grad

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, value: np.ndarray) -> None:
        self._data[...] = self._checked("data", value)

    @property
    def grad(self) -> np.ndarray | None:
        return self._grad if self._has_grad else None

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        if value is not None:
            self._grad[...] = self._checked("grad", value)
        self._has_grad = value is not None

    def overwrite_grad(self) -> np.ndarray:
        """The array a backward must fill with the gradient, and from now on `grad`."""
        self._has_grad = True
        return self._grad

    def _checked(self, what: str, value: np.ndarray) -> np.ndarray:
        value = as_if(self._data, value)
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"{what} of this parameter has shape {self.shape} and dtype {self.dtype}, "
                f"got shape {value.shape} and dtype {value.dtype}"
            )
        return value

    def to(self, dtype: np.dtype | None = None, device: str | None = None) -> None:
        """Convert value and gradient to `dtype` and move them to `device` (None: as they are), into
        a buffer of this parameter's own."""
        dtype, device = dtype or self.dtype, device or self.device
        data, grad = as_array(self.data.astype(dtype), device), self.grad
        self._place(Flat(data.size, data.dtype, device), 0)
        self._data[...] = data
        if grad is not None:
            self.grad = grad.astype(dtype)

    @property
    def device(self) -> str:
        """Where it is: "cpu", or "cuda" for a CuPy array."""
        return device_of(self._data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        return self._stop - self._start

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self._data!r}"

    # A copy or a pickle must not turn the views into arrays of their own.
    def __getstate__(self) -> tuple:
        return self._flat, self._start, self._shape, self._transposed, self._has_grad

    def __setstate__(self, state: tuple) -> None:
        flat, start, self._shape, self._transposed, self._has_grad = state
        self._place(flat, start)


def flatten(parameters: Iterable[Parameter]) -> None:
    """Move parameters one behind the other into one pair of buffers (one pair per dtype
    and device).

    Parameters that lie so already are not moved. A move leaves the values as they are, but an
    array that was taken from `p.data` before it is no longer a view of the parameter.
    """
    alike: dict[tuple[np.dtype, str], list[Parameter]] = {}
    for p in parameters:
        alike.setdefault((p.dtype, p.device), []).append(p)
    for (dtype, device), group in alike.items():
        if len(list(stretches(group))) == 1:
            continue
        flat, start = Flat(sum(p.size for p in group), dtype, device), 0
        for p in group:
            p._move(flat, start)
            start += p.size


class Stretch(NamedTuple):
    """Parameters that lie one behind the other: their values and gradients as 1-D views, and
    their indices among those that were given."""

    data: np.ndarray
    grad: np.ndarray
    indices: range


def stretches(
    parameters: Iterable[Parameter], keys: Iterable[Any] = repeat(None)
) -> Iterator[Stretch]:
    """The parameters in few stretches, together all of them, in order. What lies in one has one
    key; all of a `Sequential` with one key do."""
    together: list[Parameter] = []
    key = done = 0
    for p, own in zip(parameters, keys, strict=False):
        if together:
            last = together[-1]
            if own == key and p._flat is last._flat and p._start == last._stop:
                together.append(p)
                continue
            yield _stretch(together, done)
            done += len(together)
        together, key = [p], own
    if together:
        yield _stretch(together, done)


def _stretch(parameters: list[Parameter], first: int) -> Stretch:
    flat, own = parameters[0]._flat, slice(parameters[0]._start, parameters[-1]._stop)
    return Stretch(flat.data[own], flat.grad[own], range(first, first + len(parameters)))


def arrangement(parameters: Iterable[Parameter]) -> tuple[object, list[bool]]:
    """Equal to an earlier one as long as no parameter has moved since, and none of these has got or
    lost its gradient: then their stretches are the same arrays."""
    return Parameter._placement, [p._has_grad for p in parameters]


def runs(parameters: Iterable[Parameter]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`stretches` whatever the key: (values, gradients)."""
    return ((theta, grad) for theta, grad, _ in stretches(parameters))


def zero_grad(parameters: Iterable[Parameter], set_to_none: bool) -> None:
    """Forget the gradients, or fill those that there are with zeros."""
    for p in parameters:
        if set_to_none:
            p.grad = None
        elif p.grad is not None:
            p.grad[...] = 0
