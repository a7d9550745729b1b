"""How far rounding can carry the output of a definition from the exact one, element by element.

In units of roundoff eps of the working dtype, where a correctly rounded operation errs by ½. The
elementary functions of libm and NumPy err by 1 or 2.
"""

import math
from functools import singledispatch
from typing import Any

import numpy as np

from compare.oracle.definitions import Theta, class_axis, column, from_batch, moments
from manual import nn


def noise(module: Any, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|error| of y = definition(module)(theta, x) at most, absolute. Below the smallest normal
    number there are no units of roundoff, but steps of their own."""
    limits = np.finfo(x.dtype)
    return limits.eps * _units(module, theta, x, y) + limits.tiny


def sums(n: int) -> float:
    """Units of the sum of n terms, beside the sum of their sizes: the errors of n additions are
    half a unit each and add up like a random walk, of which this is four standard deviations."""
    return 2 + 2 * np.sqrt(n)


@singledispatch
def _units(module: Any, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Some operations and functions one after the other, none of which cancels."""
    return 8 * np.abs(y)


@_units.register(nn.Identity)
@_units.register(nn.Flatten)
@_units.register(nn.ReLU)
@_units.register(nn.Maxout)
@_units.register(nn.Step)
def _unrounded(module: Any, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nothing is rounded."""
    return 0 * np.abs(y)


@_units.register
def _linear(module: nn.Linear, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A bound needs no more digits than float64 has, which is faster."""
    size = np.abs(x).astype(float) @ np.abs(theta["weight"]).T.astype(float)
    if "bias" in theta:
        size = size + np.abs(theta["bias"])
    return sums(x.shape[-1] + 1) * size


@_units.register
def _gelu(module: nn.GELU, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """e^t has the error of t as its relative one: t = −x²/2, or 2u ≈ 1.6 x + 0.07 x³ for "tanh".
    For x > 0 it stands beside a 1."""
    t = x * x / 2 if module.approximate == "none" else 2 * np.abs(x) + 0.1 * np.abs(x) ** 3
    beside = np.where(x > 0, np.exp(-t / 2), 1)
    return np.abs(y) * (24 + np.where(beside > 0, 3 * t * beside, 0))


@_units.register
def _softplus(module: nn.Softplus, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """e^t with t = βx as in GELU. At the threshold, on which side is a matter of rounding too."""
    t = module.beta * x
    near = np.abs(t - module.threshold) < 1e-6 * (1 + abs(module.threshold))
    jump = np.log1p(np.exp(-np.abs(t))) / abs(module.beta) / np.finfo(x.dtype).eps
    return np.abs(y) * (8 + np.maximum(-t, 0)) + np.where(near, jump, 0)


@_units.register(nn.Softmax)
@_units.register(nn.LogSoftmax)
def _softmax(module: Any, theta: Theta, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    units = row_units(np.atleast_1d(x), class_axis(module.dim, x.ndim))
    units = units[int(isinstance(module, nn.LogSoftmax))].reshape(x.shape)
    return units * np.abs(y) if isinstance(module, nn.Softmax) else units


def row_units(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Units of the softmax over an axis, relative, and of its logarithm, absolute.

    With z = x − max x: e^z has a relative error of |z|, their sum that of Σ e^z |z| / Σ e^z; beside
    the largest, whose e^z is 1, only the others' are in log Σ.
    """
    z = x - np.max(x, axis, keepdims=True, initial=-np.inf)
    size, e = np.where(np.isfinite(z), np.abs(z), 0), np.exp(z)
    total = np.maximum(np.sum(e, axis, keepdims=True), 1)  # but of nothing it is 0
    spread, addition = np.sum(e * size, axis, keepdims=True), sums(x.shape[axis])
    others = (addition + 2) * (total - 1) + spread
    return 8 + size + addition + spread / total, 4 * (size + others)


@_units.register
def _batch_norm_1d(
    module: nn.BatchNorm1d, theta: Theta, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """x − μ is rounded as itself; the mean that is left in it, like its mean size."""
    gamma = np.abs(column(theta["weight"], x)) if "weight" in theta else 1
    beta = np.abs(column(theta["bias"], x)) if "bias" in theta else 0
    shifted = np.abs(y) + beta  # at least |γ x̂|
    if not from_batch(module, theta):
        return 8 * (shifted + beta)
    n = math.prod(x.shape[::2])
    centred, variance, _ = moments(x)
    axes = (0, 2)[: x.ndim - 1]
    rest = np.mean(np.abs(centred), axes, keepdims=True) / np.sqrt(variance + module.eps)
    return 2 * sums(n) * (shifted + gamma * rest) + 4 * beta
