"""The affine map y = x Wᵀ + b."""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import math

import numpy as np

from manual import init
from manual.checks import (
    DtypeError,
    InputError,
    check_array,
    float_dtype,
    random_generator,
    whole_number,
)
from manual.nn.module import Module, overflowing
from manual.nn.parameter import Parameter


class Linear(Module):
    """y = x Wᵀ + b, as torch.nn.Linear.

    weight: (out_features, in_features); bias: (out_features,), or None with bias=False.
    Both start as torch's: uniform in ±1/√in_features, drawn from `generator`
    (a fresh, unseeded numpy.random.Generator where none is given). With in_features = 0 there is
    nothing to sum: y = b, and b starts at 0.
    dtype: float32 (default), float64 or longdouble.

    In memory the weight is an (in, out) block, so that x Wᵀ reads it along its rows; `weight`
    shows its transpose.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: np.dtype | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.in_features = whole_number("Linear: in_features", in_features, 0)
        self.out_features = whole_number("Linear: out_features", out_features, 0)
        dtype = float_dtype("Linear", dtype)
        generator = random_generator("Linear: generator", generator)
        self.weight = Parameter(np.empty((in_features, out_features), dtype).T)
        if self.weight.size:
            init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        self.bias = None
        if bias:
            self.bias = Parameter(np.empty(out_features, dtype))
            bound = 1 / math.sqrt(in_features) if in_features else 0
            init.uniform_(self.bias, -bound, bound, generator=generator)
        self.flatten_parameters()

    @overflowing
    def forward(self, x: np.ndarray) -> np.ndarray:
        """y = x Wᵀ + b.    x: (…, in) → y: (…, out), in the dtype of the weight.

        Raises DtypeError for another dtype, InputError for another last dimension.
        """
        weight = self.weight.data
        check_array("Linear: x", x, dtype=weight.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise InputError(f"Linear: expected x of shape (…, {self.in_features}), got {x.shape}")
        rows = _rows(x)
        y = self.new_empty((len(rows), self.out_features), x.dtype)
        np.dot(rows, weight.T, out=y)
        if self.bias is not None:
            y += self.bias.data
        if x.ndim != 2:
            y = y.reshape(*x.shape[:-1], self.out_features)
        self.saved = rows, x.shape, y.shape
        return y

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy: (…, out) → dx: (…, in).

        For one row, y_i = Σ_j W_ij x_j + b_i, so ∂y_i/∂x_j = W_ij, and with the chain rule
            dx_j = Σ_i dy_i W_ij            dx = dy W         (N, out)(out, in) → (N, in)
        """
        x, shape, _ = self.recall()
        self.backward_parameters(dy)
        dx = self.new_empty(x.shape, x.dtype)
        np.dot(_rows(dy), self.weight.data, out=dx)
        return dx.reshape(shape)

    @overflowing
    def backward_parameters(self, dy: np.ndarray) -> None:
        """The gradients of weight and bias alone.

        ∂y_i/∂W_ij = x_j and ∂y_i/∂b_i = 1, summed over the N rows that share W and b:
            dW_ij = Σ_n dy_ni x_nj          dW = dyᵀ x        (out, N)(N, in) → (out, in)
            db_i = Σ_n dy_ni                                  (out,)
        """
        x, _, shape = self.recall()
        check_array("Linear: dy", dy, shape, self.weight.dtype)
        if x.dtype != dy.dtype:
            raise DtypeError(f"Linear: x was {x.dtype} in forward, the weight is {dy.dtype} now")
        dy, dweight = _rows(dy), self.weight.overwrite_grad()
        np.dot(x.T, dy, out=dweight.T)  # dWᵀ = xᵀ dy: the (in, out) block that dweight shows
        if self.bias is not None:
            ones = self.full(len(x), 1, x.dtype)
            np.dot(ones, dy, out=self.bias.overwrite_grad())  # Σ_n 1 · dy_ni

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


def _rows(x: np.ndarray) -> np.ndarray:
    """(…, k) as (N, k)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
