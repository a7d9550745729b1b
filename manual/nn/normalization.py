"""Batch normalisation."""

import math

import numpy as np

from manual.checks import InputError, check_array, float_dtype, whole_number
from manual.nn.module import Module, overflowing
from manual.nn.parameter import Parameter


class BatchNorm1d(Module):
    """Each channel shifted and scaled to mean 0 and variance 1, then y = γ x̂ + β, as
    torch.nn.BatchNorm1d. Source: Ioffe & Szegedy 2015, Batch normalization.

    weight γ and bias β: (C,), C = num_features, at first 1 and 0; both None with affine=False,
    β None with bias=False.
    running_mean and running_var: (C,), at first 0 and 1; num_batches_tracked: (), int64. They are
    buffers: part of the state dict, and not trained. None with track_running_stats=False.
    dtype: float32 (default), float64 or longdouble.

    In training x̂ has the mean and the variance of the batch, and the running ones follow:
        running ← (1 − momentum) running + momentum · batch
    with the unbiased variance Σ (x − μ)² / (n − 1); momentum=None takes the mean over all batches
    so far. In evaluation x̂ has the running ones; where there are none, those of the batch again.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: np.dtype | None = None,
        bias: bool = True,
    ) -> None:
        self.num_features = whole_number("BatchNorm1d: num_features", num_features, 0)
        if not 0 <= eps < math.inf:
            raise ValueError(f"BatchNorm1d: eps must be a finite number >= 0, got {eps!r}")
        if momentum is not None and not math.isfinite(momentum):
            raise ValueError(f"BatchNorm1d: momentum must be finite or None, got {momentum!r}")
        dtype = float_dtype("BatchNorm1d", dtype)
        # Python's floats: NumPy's float64 would turn float32 arithmetic into float64
        self.eps, self.momentum = float(eps), None if momentum is None else float(momentum)
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine and bias else None
        tracked = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.array(0, np.int64) if tracked else None)
        self.flatten_parameters()

    @overflowing
    def forward(self, x: np.ndarray) -> np.ndarray:
        """x: (N, C) or (N, C, L) → y of the same shape. n = N (or N L) values a channel:

            μ = Σ x / n,   σ² = Σ (x − μ)² / n + eps,   x̂ = (x − μ) / σ,   y = γ x̂ + β

        The mean is taken twice, of x and of x − μ: the second gives what rounding left in the
        first, so that x̂ keeps its digits where μ is far greater than σ. A σ² too large for the
        dtype is inf, and x̂ 0, as in torch.

        Raises InputError for another rank or number of channels, for n = 1 and for eps = 0 where
        the batch's own statistics are used, DtypeError for a dtype other than the parameters'.
        """
        from_batch = self.training or self.running_mean is None
        n = self._checked(x, from_batch)
        axes, column = (0, 2)[: x.ndim - 1], (1, self.num_features, 1)[: x.ndim]
        normed, y = self.new_empty(x.shape, x.dtype), self.new_empty(x.shape, x.dtype)
        if from_batch:
            mean = x.sum(axes, keepdims=True) / n
            np.subtract(x, mean, out=normed)
            rest = normed.sum(axes, keepdims=True) / n
            normed -= rest
            np.multiply(normed, normed, out=y)
            var = y.sum(axes, keepdims=True) / n
            if self.track_running_stats:  # so this is training
                self._track(x.size, n, (mean + rest).reshape(-1), var.reshape(-1))
        else:
            var = self.running_var.reshape(column)
            np.subtract(x, self.running_mean.reshape(column), out=normed)
        inverse = 1 / np.sqrt(var + self.eps)
        normed *= inverse
        self.saved = normed, inverse, from_batch
        if self.weight is None:
            return normed
        np.multiply(normed, self.weight.data.reshape(column), out=y)
        if self.bias is not None:
            y += self.bias.data.reshape(column)
        return y

    def _checked(self, x: np.ndarray, from_batch: bool) -> int:
        """The number of values in a channel of x (1 where there are none, as a divisor)."""
        own = [a.dtype for a in (self.weight, self.running_mean) if a is not None]
        check_array("BatchNorm1d: x", x, dtype=own[0] if own else None)
        if x.ndim not in (2, 3):
            raise InputError(f"BatchNorm1d: expected 2D or 3D input, got {x.ndim}D: {x.shape}")
        if x.shape[1] != self.num_features:
            raise InputError(
                f"BatchNorm1d: expected x of shape (N, {self.num_features}) or "
                f"(N, {self.num_features}, L), got {x.shape}"
            )
        n = math.prod(x.shape[::2])
        if from_batch and n == 1:
            raise InputError(
                "BatchNorm1d: expected more than 1 value per channel when the batch's own "
                f"statistics are used, got shape {x.shape}"
            )
        if from_batch and not x.dtype.type(self.eps) > 0:
            raise InputError(
                f"BatchNorm1d: eps must be positive in training, got {self.eps!r} as {x.dtype}"
            )
        return max(n, 1)

    def _track(self, size: int, n: int, mean: np.ndarray, var: np.ndarray) -> None:
        """Move the running statistics; an empty batch has none, and counts, as in torch."""
        self.num_batches_tracked += 1
        if size == 0:
            return
        factor = self.momentum
        if factor is None:
            factor = 1 / int(self.num_batches_tracked)
        self.running_mean *= 1 - factor
        self.running_mean += factor * mean
        self.running_var *= 1 - factor
        self.running_var += factor * (n / (n - 1)) * var

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy: the shape of x → dx of the same. For one channel, i = 1 … n:

        y_i = γ x̂_i + β gives dx̂_i = γ dy_i. With x̂_i = (x_i − μ) / σ and σ = √(v + eps):

        1. σ depends on x through v = Σ_i (x_i − μ)² / n. There
               ∂v/∂x_k = 2 (x_k − μ) / n − (2/n) Σ_i (x_i − μ) ∂μ/∂x_k = 2 (x_k − μ) / n,
           because Σ_i (x_i − μ) = 0. So ∂σ/∂x_k = (1/2σ) ∂v/∂x_k = (x_k − μ) / (n σ) = x̂_k / n.
        2. ∂μ/∂x_k = 1/n.
        3. Both in the derivative of the quotient:
               ∂x̂_i/∂x_k = ([i = k] − ∂μ/∂x_k) / σ − (x_i − μ) / σ² · ∂σ/∂x_k
                         = ([i = k] − 1/n − x̂_i x̂_k / n) / σ
        4. The chain rule, dx_k = Σ_i dx̂_i ∂x̂_i/∂x_k with dx̂_i = γ dy_i:
               dx_k = γ/σ (dy_k − Σ_i dy_i / n − x̂_k Σ_i dy_i x̂_i / n)

        that is  dx = γ/σ (dy − mean(dy) − x̂ mean(dy x̂)),  with the means over the channel.
        Running statistics do not depend on x: there ∂x̂_i/∂x_k = [i = k] / σ, and dx = γ/σ dy.
        """
        normed, inverse, from_batch = self.recall()
        dgamma, dbeta = self._parameter_gradients(dy)
        scale = inverse
        if self.weight is not None:
            scale = inverse * self.weight.data.reshape(inverse.shape)
        dx = self.new_empty(dy.shape, dy.dtype)
        if not from_batch:
            return np.multiply(dy, scale, out=dx)
        n = max(math.prod(dy.shape[::2]), 1)
        np.multiply(normed, dgamma / n, out=dx)
        np.subtract(dy, dx, out=dx)
        dx -= dbeta / n
        dx *= scale
        return dx

    def backward_parameters(self, dy: np.ndarray) -> None:
        """The gradients of weight and bias alone.

        ∂y_i/∂γ = x̂_i and ∂y_i/∂β = 1, summed over the n values that share γ and β:
            dγ = Σ_i dy_i x̂_i          dβ = Σ_i dy_i          (C,)
        """
        self._parameter_gradients(dy)

    def _parameter_gradients(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(dγ, dβ), (1, C) or (1, C, 1); written where there is a parameter."""
        normed, *_ = self.recall()
        check_array("BatchNorm1d: dy", dy, normed.shape, normed.dtype)
        axes = (0, 2)[: dy.ndim - 1]
        terms = np.multiply(dy, normed, out=self.new_empty(dy.shape, dy.dtype))
        dgamma, dbeta = terms.sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
        for p, gradient in ((self.weight, dgamma), (self.bias, dbeta)):
            if p is not None:
                p.grad = gradient.reshape(-1)
        return dgamma, dbeta

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )
