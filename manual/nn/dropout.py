"""Dropout."""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import numpy as np

from manual.arrays import as_if, can_be_read
from manual.checks import InputError, check_array, random_generator
from manual.nn.module import Module, overflowing


class Dropout(Module):
    """In training each element is 0 with probability p, and else divided by 1 − p, so that its
    expectation stays; in evaluation y = x. As torch.nn.Dropout. Any rank.

    generator: what the masks are drawn from (a fresh, unseeded numpy.random.Generator where none
    is given). Networks of different dtypes with equal generators drop the same elements, and so do
    those on a GPU: the numbers are drawn on the CPU and copied there. So no CUDA graph can be
    recorded of it in training: it would drop the same elements for ever.
    Source: Srivastava et al. 2014, Dropout.
    """

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise InputError(f"Dropout: p has to be between 0 and 1, got {p!r}")
        self.p = float(p)
        self.generator = random_generator("Dropout: generator", generator)

    @overflowing
    def forward(self, x: np.ndarray) -> np.ndarray:
        """y = x m / (1 − p), each m_i 1 with probability 1 − p and else 0; for p = 1, y = x · 0.

        An infinite x_i that is dropped is inf · 0 = NaN, as in torch, and NumPy warns of it.
        """
        check_array("Dropout: x", x)
        mask = None
        if self.training and self.p > 0:
            if not can_be_read(x):
                raise RuntimeError("Dropout: a CUDA graph would repeat one mask for ever")
            # In float64: the same masks in every dtype.
            drawn = self._drawn(x)
            mask = self.new_empty(x.shape, x.dtype)
            np.greater_equal(drawn, self.p, out=mask)
            if self.p < 1:
                mask *= 1 / (1 - self.p)
        self.saved = mask, x.shape, x.dtype
        return x if mask is None else np.multiply(x, mask, out=self.new_empty(x.shape, x.dtype))

    def _drawn(self, x: np.ndarray) -> np.ndarray:
        """Uniform numbers in [0, 1), float64, in the shape of x and where it is."""
        if isinstance(x, np.ndarray):
            return self.generator.random(out=self.new_empty(x.shape, float))
        return as_if(x, self.generator.random(x.shape))

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """y_i = x_i m_i / (1 − p), so dx = dy m / (1 − p), with the mask of the last forward."""
        mask, shape, dtype = self.recall()
        check_array("Dropout: dy", dy, shape, dtype)
        return dy if mask is None else np.multiply(dy, mask, out=self.new_empty(shape, dtype))

    def extra_repr(self) -> str:
        return f"p={self.p}"
