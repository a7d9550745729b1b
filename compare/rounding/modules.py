"""How rounding errors enter and pass through each module: a rule for every one.

Everything is float64, of the tensor's shape, and to first order. E(t) bounds the error of one
side's t. A rule gets the values and E's of its inputs and returns those of its outputs:

    rule(module, r, theta, x, ex) -> ey, backward      theta: name → (value, E)
    backward(dy, edy) -> edx, {name: E(gradient)}

`module` is the float64 twin as it was before forward, theta its parameters and buffers. Rules are
called in the order of forward, and a rule draws the random numbers that its module draws.

Sources: Higham, Accuracy and Stability of Numerical Algorithms, ch. 3; for sums, Higham & Mary,
A new approach to probabilistic rounding error analysis, 2019.
"""

import copy
import math
from collections.abc import Callable
from functools import singledispatch

import numpy as np
import torch

from compare.rounding.ball import Ball, Rounding
from compare.rounding.black_box import spread
from torch_ref import modules

Theta = dict[str, tuple[np.ndarray, np.ndarray]]
Backward = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]

PROBES = 8


@singledispatch
def rule(
    module: torch.nn.Module, r: Rounding, theta: Theta, x: np.ndarray, ex: np.ndarray
) -> tuple[np.ndarray, Backward]:
    """Any other module, as a black box: what rounding does to it (`black_box.spread`), and four
    times the spread of its results when inputs and parameters are moved at random, up or down, by
    their errors."""
    box = _BlackBox(copy.deepcopy(module), r, theta)
    forward = box.errors({"": (x, ex)})
    with torch.no_grad():
        module(torch.tensor(x))  # takes its random numbers, as in the step

    def backward(dy: np.ndarray, edy: np.ndarray):
        e = box.errors({"": (x, ex)}, (dy, edy))
        return e.pop(""), e

    return forward[""], backward


@singledispatch
def buffer_rule(
    module: torch.nn.Module, r: Rounding, theta: Theta, x: np.ndarray, ex: np.ndarray
) -> dict[str, np.ndarray]:
    """{name: E} of the buffers after forward. Any other module, as a black box."""
    if not dict(module.named_buffers()):
        return {}
    e = _BlackBox(module, r, theta).errors({"": (x, ex)})
    return {name: e[name] for name, _ in module.named_buffers()}


def to_use_up(net: torch.nn.Module) -> torch.nn.Module:
    """A copy of it where the rules would draw random numbers of its modules: those of Dropout and
    of whatever nobody has a rule for. Else the network itself, which they leave as it is."""
    structure = modules.Sequential | modules.Residual
    drawing = [rule.dispatch(kind) for kind in (object, modules.Dropout)]
    found = any(
        rule.dispatch(type(part)) in drawing and not isinstance(part, structure)
        for part in net.modules()
    )
    return copy.deepcopy(net) if found else net


class _BlackBox:
    """E of the results of a module that nobody has a rule for."""

    def __init__(self, module: torch.nn.Module, r: Rounding, theta: Theta) -> None:
        self.module, self.r, self.theta = module, r, theta
        self.parameters = [name for name, _ in module.named_parameters()]

    def results(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """given: "" is x, "dy" may be there, and every parameter and buffer. {"": y, buffer: its
        value afterwards}, or with dy the gradients, {"": dx, parameter: …}."""
        module = copy.deepcopy(self.module)  # its buffers and random numbers are used up
        tensors = {name: torch.tensor(value) for name, value in given.items()}
        sources = {name: tensors[name].requires_grad_() for name in ("", *self.parameters)}
        inner = {name: tensors[name] for name in self.theta}
        y = torch.func.functional_call(module, inner, (tensors[""],))
        if "dy" not in given:
            after = {name: inner[name] for name, _ in module.named_buffers()}
            return {name: v.detach().numpy().copy() for name, v in ({"": y} | after).items()}
        found = torch.autograd.grad(y, list(sources.values()), tensors["dy"], allow_unused=True)
        return {
            name: np.zeros(source.shape) if g is None else g.numpy().copy()
            for (name, source), g in zip(sources.items(), found, strict=True)
        }

    def errors(self, x: Theta, dy: tuple[np.ndarray, np.ndarray] | None = None) -> dict:
        given = {**self.theta, **x} | ({} if dy is None else {"dy": dy})
        values = {name: np.asarray(value) for name, (value, _) in given.items()}
        exact = self.results(values)
        rounding = spread(
            lambda arrays: list(self.results(dict(zip(values, arrays, strict=True))).values()),
            list(values.values()),
            np.dtype(np.float32 if self.r.u > np.finfo(np.float64).eps else np.float64),
        )
        found = dict(zip(exact, rounding, strict=True))
        if any(np.any(e) for _, e in given.values()):
            generator = np.random.default_rng(0)
            for _ in range(PROBES):
                moved = {
                    name: value + e * generator.choice([-1.0, 1.0], np.shape(value))
                    if np.any(e)
                    else value
                    for name, (value, e) in given.items()
                }
                for name, value in self.results(moved).items():
                    found[name] = np.maximum(found[name], 4 * np.abs(value - exact[name]))
        return found


@rule.register
def _linear(module: torch.nn.Linear, r, theta, x, ex):
    """y = x Wᵀ + b; dx = dy W; dW = dyᵀ x; db = Σ dy."""
    w, ew = (np.abs(v) for v in theta["weight"])
    shape, rows = x.shape, math.prod(x.shape[:-1])
    x, ex = np.abs(x).reshape(rows, w.shape[1]), ex.reshape(rows, w.shape[1])
    n = r.sum(w.shape[1] + 1)
    ey = ex @ w.T + (x + ex) @ (ew + n * (w + ew)).T
    if "bias" in theta:
        b, eb = theta["bias"]
        ey += eb + n * (np.abs(b) + eb)

    def backward(dy, edy):
        dy, edy = np.abs(dy).reshape(rows, w.shape[0]), edy.reshape(rows, w.shape[0])
        edx = edy @ w + (dy + edy) @ (ew + r.sum(w.shape[0]) * (w + ew))
        edw = edy.T @ x + (dy + edy).T @ (ex + r.sum(len(x)) * (x + ex))
        gradients = {"weight": r.flushed(edw)}
        if "bias" in theta:
            # added row after row: in equal rows every rounding has the same sign
            gradients["bias"] = edy.sum(0) + len(x) * r.u * (dy + edy).sum(0)
        return r.flushed(edx.reshape(shape)), gradients

    return r.flushed(ey.reshape(*shape[:-1], w.shape[0])), backward


@rule.register
def _identity(module: torch.nn.Identity, r, theta, x, ex):
    """y = x, dx = dy: nothing is rounded."""
    return ex, lambda dy, edy: (edy, {})


@rule.register
def _flatten(module: torch.nn.Flatten, r, theta, x, ex):
    """y = x, dx = dy in another shape: nothing is rounded."""
    ey = module(torch.tensor(ex)).numpy()
    return ey, lambda dy, edy: (edy.reshape(x.shape), {})


@rule.register
def _dropout(module: modules.Dropout, r, theta, x, ex):
    """y = m x, with the factor m of the mask rounded, too; dx = m dy."""
    factor = module(torch.ones(x.shape, dtype=torch.float64)).numpy()

    def scaled(t, e):
        return r.flushed(factor * e + 2 * r.u * np.abs(factor * t) * (factor != 1))

    return scaled(x, ex), lambda dy, edy: (scaled(dy, edy), {})


@rule.register
def _batch_norm_1d(module: torch.nn.BatchNorm1d, r, theta, x, ex):
    """y = (x − μ) γ/√(v + ε) + β, with statistics of the batch or running ones. On either side
    1/√(v + ε) ≤ 1/√ε, and |x − μ| ≤ √(n v), which holds where v is all rounding."""
    own, (mean, variance) = _batch_statistics(module, r, theta, x, ex)
    n = x.size // x.shape[1]
    inverse = Ball(np.ones(()), 0.0, r) / variance.plus(module.eps).sqrt()
    if module.eps > 0:
        inverse = inverse.within(1 / np.sqrt(module.eps))
    shape = mean.value.shape
    weight = _per_channel(theta.get("weight", (np.ones(()), np.zeros(()))), shape, r)
    bias = _per_channel(theta.get("bias", (np.zeros(()), np.zeros(()))), shape, r)
    d = Ball(x, ex, r) - mean
    normed = d * inverse
    if own:
        normed = normed.within(np.sqrt(n + 1))
    y = normed * weight + bias
    # x α + (β − μ α), with α = γ/√(v + ε), is a way to compute it
    alpha = inverse * weight
    ey = y.e + 3 * r.u * (np.abs(alpha.value) + alpha.e) * (np.abs(x) + np.abs(mean.value))
    axes = tuple(k for k in range(x.ndim) if k != 1)

    def backward(dy, edy):
        dy = Ball(dy, edy, r)
        inner, product = dy, (dy * d).sum(axes)
        if own:  # dx = (dy − mean(dy) − d v⁻¹ mean(dy d)) γ/√v, with v + ε for v
            share = 1 / n
            inner = dy - share * dy.sum(axes) - d * (inverse * inverse * (share * product))
        dx = inner * inverse * weight
        gradients = {"weight": (product * inverse).e, "bias": dy.sum(axes).e}
        return r.flushed(dx.e), {
            name: r.flushed(e.reshape(-1)) for name, e in gradients.items() if name in theta
        }

    return r.flushed(ey), backward


def _per_channel(pair: tuple[np.ndarray, np.ndarray], shape: tuple, r: Rounding) -> Ball:
    value, e = (np.broadcast_to(t.reshape(shape if t.size > 1 else ()), shape) for t in pair)
    return Ball(value, e, r)


def _batch_statistics(
    module: torch.nn.BatchNorm1d, r: Rounding, theta: Theta, x: np.ndarray, ex: np.ndarray
) -> tuple[bool, tuple[Ball, Ball]]:
    """Whether they are the batch's own; mean and variance as (1, C) or (1, C, 1)."""
    axes, shape = tuple(k for k in range(x.ndim) if k != 1), (1, -1, *[1] * (x.ndim - 2))
    if not module.training and "running_mean" in theta:
        names = ("running_mean", "running_var")
        return False, tuple(Ball(*(t.reshape(shape) for t in theta[n]), r) for n in names)
    share = 1 / (x.size // x.shape[1])
    mean = share * Ball(x, ex, r).sum(axes)
    d = Ball(x, ex, r) - mean
    return True, (mean, share * (d * d).sum(axes))


@buffer_rule.register
def _batch_norm_1d_buffers(module: torch.nn.BatchNorm1d, r, theta, x, ex):
    """running ← (1 − m) running + m batch, with the unbiased variance."""
    if not module.training or "running_mean" not in theta:
        return {name: e for name, (_, e) in theta.items() if name.startswith(("running", "num"))}
    n = x.size // x.shape[1]
    _, (mean, variance) = _batch_statistics(module, r, theta, x, ex)
    count = float(theta["num_batches_tracked"][0]) + 1
    m = 1 / count if module.momentum is None else module.momentum
    after = {"num_batches_tracked": np.zeros(())}
    for name, batch in (("running_mean", mean), ("running_var", n / (n - 1) * variance)):
        running = Ball(*(t.reshape(batch.value.shape) for t in theta[name]), r)
        after[name] = r.flushed(((1 - m) * running + m * batch).e.reshape(-1))
    return after
