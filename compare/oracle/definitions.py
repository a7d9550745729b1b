"""What every module computes, from the textbook's formula for it: a witness of its own.

    f = definition(module)        f(theta, x) → y, in the dtype of x (float64 or longdouble)

theta: name → array, parameters and buffers; f is pure. Where manual and torch take one stable form
of a formula, this takes another, or none but more digits.
"""

import copy
import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from compare.oracle.normal import PI, normal_distribution
from manual import nn
from torch_ref import twin

Theta = dict[str, np.ndarray]
Definition = Callable[[Theta, np.ndarray], np.ndarray]


def definition(module: Any) -> Definition | None:
    """f(theta, x) → y of a manual module, as the module stands (training or eval; a Dropout has
    the mask that its generator would give next). None where no definition is known.

    A class without one of its own has its base's, if it also has its base's twin. That of a
    `Residual` takes its inner module's output as theta["module"].
    """
    return None if base(type(module)) is None else _definition(module)


def base(kind: type, registry: Any = None) -> type | None:
    """The class in the registry (default: of modules) that this one is, or is based on with the
    same twin; None where there is none."""
    registry = _definition.registry if registry is None else registry
    own = next(own for own in kind.__mro__ if own in registry)
    return own if own is not object and twin.dispatch(kind) is twin.dispatch(own) else None


@singledispatch
def _definition(module: Any) -> Definition:
    raise NotImplementedError  # `base` has seen to it


def _elementwise(function: Callable[[np.ndarray], np.ndarray]) -> Definition:
    return lambda theta, x: np.asarray(function(x))


@_definition.register
def _linear(module: nn.Linear) -> Definition:
    """y = x Wᵀ + b."""

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        y = x @ theta["weight"].T
        return y + theta["bias"] if "bias" in theta else y

    return f


@_definition.register
def _residual(module: nn.Residual) -> Definition:
    """y = x + f(x)."""
    return lambda theta, x: x + theta["module"]


@_definition.register
def _identity(module: nn.Identity) -> Definition:
    return _elementwise(np.copy)


@_definition.register
def _flatten(module: nn.Flatten) -> Definition:
    """The dimensions start_dim … end_dim as one."""

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        shape = x.shape or (1,)
        start, end = module.start_dim % len(shape), module.end_dim % len(shape)
        merged = math.prod(shape[start : end + 1])
        return np.reshape(x, (*shape[:start], merged, *shape[end + 1 :]))

    return f


@_definition.register
def _dropout(module: nn.Dropout) -> Definition:
    """y = x m / (1 − p), with m_i = 0 where the drawn number is below p."""
    generator, masks = copy.deepcopy(module.generator), {}

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        if not module.training or module.p == 0:
            return x.copy()
        if x.shape not in masks:
            masks[x.shape] = np.asarray(copy.deepcopy(generator).random(x.shape)) >= module.p
        kept = np.where(masks[x.shape], x, 0)
        return kept if module.p == 1 else kept / (1 - module.p)

    return f


@_definition.register
def _sigmoid(module: nn.Sigmoid) -> Definition:
    return _elementwise(sigmoid)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), and e^x / (1 + e^x) for x < 0: no e^… is above 1."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@_definition.register
def _log_sigmoid(module: nn.LogSigmoid) -> Definition:
    """−log(e^0 + e^−x)."""
    return _elementwise(lambda x: -np.logaddexp(0 * x, -x))


@_definition.register
def _tanh(module: nn.Tanh) -> Definition:
    """(1 − e^−2x) / (1 + e^−2x) for x ≥ 0, and tanh(−x) = −tanh(x)."""

    def tanh(x: np.ndarray) -> np.ndarray:
        less = np.expm1(-2 * np.abs(x))
        return np.sign(x) * -less / (2 + less)

    return _elementwise(tanh)


@_definition.register
def _arctan(module: nn.Arctan) -> Definition:
    return _elementwise(np.arctan)


@_definition.register
def _silu(module: nn.SiLU) -> Definition:
    return _elementwise(lambda x: x * sigmoid(x))


@_definition.register
def _gelu(module: nn.GELU) -> Definition:
    """x Φ(x), or with "tanh" x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    if module.approximate == "none":
        return _elementwise(lambda x: x * normal_distribution(x))

    def approximation(x: np.ndarray) -> np.ndarray:
        # (1 + tanh u) / 2 = 1 / (1 + e^−2u), which keeps the digits of a small one
        u = np.sqrt(2 / PI.astype(x.dtype)) * (x + x.dtype.type("0.044715") * x**3)
        return x * sigmoid(2 * u)

    return _elementwise(approximation)


@_definition.register
def _elu(module: nn.ELU) -> Definition:
    return _elementwise(lambda x: np.maximum(x, 0) + module.alpha * np.expm1(np.minimum(x, 0)))


@_definition.register
def _softplus(module: nn.Softplus) -> Definition:
    """log(e^0 + e^(βx)) / β, and x where βx > threshold."""

    def f(x: np.ndarray) -> np.ndarray:
        t = module.beta * x
        return np.where(t > module.threshold, x, np.logaddexp(0 * t, t) / module.beta)

    return _elementwise(f)


@_definition.register
def _relu(module: nn.ReLU) -> Definition:
    return _elementwise(lambda x: np.maximum(x, 0))


@_definition.register
def _leaky_relu(module: nn.LeakyReLU) -> Definition:
    return _elementwise(lambda x: np.maximum(x, 0) + module.negative_slope * np.minimum(x, 0))


@_definition.register
def _prelu(module: nn.PReLU) -> Definition:
    """x for x > 0, w_c x for x ≤ 0; the channels c are dimension 1."""

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        weight = np.expand_dims(theta["weight"], tuple(range(1, x.ndim - 1)))
        return np.reshape(np.maximum(x, 0) + weight * np.minimum(x, 0), x.shape)

    return f


@_definition.register
def _step(module: nn.Step) -> Definition:
    return _elementwise(lambda x: np.where(x < 0, 0 * x, 0 * x + 1))


@_definition.register
def _maxout(module: nn.Maxout) -> Definition:
    """The largest of `pieces` consecutive elements of the last dimension."""

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        return np.max([x[..., k :: module.pieces] for k in range(module.pieces)], axis=0)

    return f


@_definition.register
def _softmax(module: nn.Softmax) -> Definition:
    """e^(x_i) / Σ_j e^(x_j), of x less its largest."""

    def f(x: np.ndarray) -> np.ndarray:
        axis = class_axis(module.dim, x.ndim)
        e = np.exp(x - np.max(x, axis, keepdims=True, initial=-np.inf))
        return e / np.sum(e, axis, keepdims=True)

    return _of_rank_1(f)


@_definition.register
def _log_softmax(module: nn.LogSoftmax) -> Definition:
    """x_i − log Σ_j e^(x_j)."""
    return _of_rank_1(lambda x: log_softmax(x, class_axis(module.dim, x.ndim)))


def _of_rank_1(function: Callable[[np.ndarray], np.ndarray]) -> Definition:
    """A number alone (rank 0) is a row of one."""
    return lambda theta, x: np.reshape(function(np.atleast_1d(x)), x.shape)


def class_axis(dim: int | None, ndim: int) -> int:
    """torch's rule for dim=None."""
    return dim if dim is not None else (0 if ndim in (0, 1, 3) else 1)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """−log(1 + Σ_{j≠k} e^(x_j − x_k)) + (x_i − x_k), where x_k is the largest of the axis."""
    if x.size == 0:
        return x.copy()
    largest = np.expand_dims(np.argmax(x, axis), axis)
    below = x - np.take_along_axis(x, largest, axis)
    others = np.exp(below)
    np.put_along_axis(others, largest, 0, axis)
    return below - np.log1p(np.sum(others, axis, keepdims=True))


@_definition.register
def _batch_norm_1d(module: nn.BatchNorm1d) -> Definition:
    """γ (x − μ) / √(v + eps) + β, where μ and v are the mean and the variance (of n, not n − 1)
    of the batch, or in evaluation the running ones."""

    def f(theta: Theta, x: np.ndarray) -> np.ndarray:
        if from_batch(module, theta):
            centred, variance, _ = moments(x)
        else:
            centred = x - column(theta["running_mean"], x)
            variance = column(theta["running_var"], x)
        y = centred / np.sqrt(variance + x.dtype.type(module.eps))
        for name, apply in (("weight", np.multiply), ("bias", np.add)):
            if name in theta:
                y = apply(y, column(theta[name], x))
        return y

    return f


def from_batch(module: nn.BatchNorm1d, theta: Theta) -> bool:
    """Whether it takes the mean and variance of the batch."""
    return module.training or "running_mean" not in theta


def column(value: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One number a channel as it stands beside x, (N, C) or (N, C, L)."""
    return np.reshape(value, (1, -1, 1)[: x.ndim])


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By channel: x less its mean, the variance, and the mean. What rounding leaves in the first
    mean is taken out by a second."""
    axes = (0, 2)[: x.ndim - 1]
    mean = np.mean(x, axes, keepdims=True)
    rest = np.mean(x - mean, axes, keepdims=True)
    centred = (x - mean) - rest
    return centred, np.mean(centred**2, axes, keepdims=True), mean + rest


def buffers_after(module: Any, theta: Theta, x: np.ndarray) -> Theta:
    """The buffers after this forward, by name; {} where there are none."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    if base(type(module)) is not nn.BatchNorm1d or "running_mean" not in theta:
        return {}
    mean, variance, count = (theta[name] for name in names)
    if not module.training:
        return {name: theta[name] for name in names}
    count = count + 1
    if x.size:
        n = math.prod(x.shape[::2])
        _, batch_variance, batch_mean = moments(x)
        share = 1 / int(count) if module.momentum is None else module.momentum
        mean = mean + share * (np.ravel(batch_mean) - mean)
        variance = variance + share * (np.ravel(batch_variance) * n / (n - 1) - variance)
    return dict(zip(names, (mean, variance, count), strict=True))
