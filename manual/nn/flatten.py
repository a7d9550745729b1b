"""Several dimensions as one."""

import math

import numpy as np

from manual.checks import InputError, check_array, whole_number
from manual.nn.module import Module


class Flatten(Module):
    """The dimensions start_dim … end_dim (both included) as one, as torch.nn.Flatten: the first
    stays by default. Negative ones count from the last. A 0-d x becomes (1,)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = whole_number("Flatten: start_dim", start_dim)
        self.end_dim = whole_number("Flatten: end_dim", end_dim)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Raises IndexError for a dimension that x has not, InputError for start after end."""
        check_array("Flatten: x", x)
        start, end = self._dim("start_dim", x), self._dim("end_dim", x)
        if start > end:
            raise InputError(
                f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} "
                f"in x of shape {x.shape}"
            )
        merged = math.prod(x.shape[start : end + 1])
        y = x.reshape(*x.shape[:start], merged, *x.shape[end + 1 :])
        self.saved = x.shape, y.shape, x.dtype
        return y

    def _dim(self, name: str, x: np.ndarray) -> int:
        dim, rank = getattr(self, name), max(x.ndim, 1)
        if not -rank <= dim < rank:
            raise IndexError(
                f"Flatten: {name} must be in [{-rank}, {rank - 1}] for x of shape {x.shape}, "
                f"got {dim}"
            )
        return dim % rank

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Every y is one x, in the same order: dx is dy in the shape of x."""
        shape, flat, dtype = self.recall()
        check_array("Flatten: dy", dy, flat, dtype)
        return dy.reshape(shape)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
