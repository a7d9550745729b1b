"""How rounding errors enter and pass through each operation: a rule for every module and loss.

Everything is float64, of the tensor's shape, and to first order. E(t) bounds the error of one
side's t. A rule gets the values and E's of its inputs and returns those of its outputs:

    rule(module, r, theta, x, ex) -> ey, backward        theta: name → (value, E)
    backward(dy, edy) -> edx, {name: E(gradient)}

Sources: Higham, Accuracy and Stability of Numerical Algorithms, ch. 3; for sums, Higham & Mary,
A new approach to probabilistic rounding error analysis, 2019.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import torch

from torch_ref.modules import HalfSquaredError

Theta = dict[str, tuple[np.ndarray, np.ndarray]]
Backward = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]

PROBES = 8


class Rounding(NamedTuple):
    """Of a dtype. u: unit roundoff; tiny: the smallest normal number (what is smaller may come
    out as 0)."""

    u: float
    tiny: float

    @staticmethod
    def of(dtype: np.dtype) -> "Rounding":
        info = np.finfo(dtype)
        return Rounding(float(info.eps) / 2, float(info.tiny))

    @property
    def libm(self) -> float:
        """Relative, of exp, tanh and log: 4 units in the last place, as NumPy and torch keep."""
        return 8 * self.u

    def sum(self, n: int) -> float:
        """Error of a sum of n products a_i b_i, relative to Σ |a_i b_i|: at most n u, whatever the
        order; and 6 √n u with a probability of failure below 10⁻⁷ where roundings are independent.
        """
        return min(n, 6 * np.sqrt(n)) * self.u

    def flushed(self, e: np.ndarray) -> np.ndarray:
        """e with the error of a result that may come out as 0; where e is 0 nothing was rounded."""
        return np.where(e > 0, e + self.tiny, 0.0)


@singledispatch
def rule(
    module: torch.nn.Module, r: Rounding, theta: Theta, x: np.ndarray, ex: np.ndarray
) -> tuple[np.ndarray, Backward]:
    """Any other module, as a black box: E is four times the spread of its results when inputs
    and parameters are moved at random, up or down, by their errors and by the rounding of a sum
    over all they go into: a row of the input in forward, the whole batch in backward."""
    parameters = dict(module.named_parameters())
    generator = np.random.default_rng(0)

    def results(move, dy=None, edy=None) -> dict[str, np.ndarray]:
        """With `move` applied to everything given: {"": y}, or the gradients, {"": dx, …}."""
        point = move(x, ex).requires_grad_()
        inner = {name: move(*theta[name]).requires_grad_() for name in parameters}
        y = torch.func.functional_call(module, inner, (point,))
        if dy is None:
            return {"": y.detach().numpy()}
        sources = {"": point, **inner}
        found = torch.autograd.grad(y, list(sources.values()), move(dy, edy), allow_unused=True)
        return {
            name: np.zeros(source.shape) if g is None else g.numpy()
            for (name, source), g in zip(sources.items(), found, strict=True)
        }

    def spread(terms: int, *cotangent: np.ndarray) -> dict[str, np.ndarray]:
        relative = r.sum(max(1, terms))

        def moved(value: np.ndarray, e: np.ndarray) -> torch.Tensor:
            signs = generator.choice([-1.0, 1.0], value.shape)
            return torch.tensor(value + (e + relative * np.abs(value)) * signs)

        exact = results(lambda value, _: torch.tensor(value), *cotangent)
        probes = [results(moved, *cotangent) for _ in range(PROBES)]
        return {
            name: 4 * np.max([np.abs(probe[name] - value) for probe in probes], axis=0)
            + r.libm * np.abs(value).max(initial=0)
            + r.tiny
            for name, value in exact.items()
        }

    def backward(dy: np.ndarray, edy: np.ndarray):
        e = spread(x.size, dy, edy)
        return e.pop(""), e

    return spread(x[0].size if x.ndim > 1 else x.size)[""], backward


@rule.register
def _(module: torch.nn.Linear, r, theta, x, ex):
    """y = x Wᵀ + b; dx = dy W; dW = dyᵀ x; db = Σ dy."""
    w, ew = (np.abs(v) for v in theta["weight"])
    shape, x, ex = x.shape, np.abs(x).reshape(-1, w.shape[1]), ex.reshape(-1, w.shape[1])
    ey = ex @ w.T + (x + ex) @ ew.T + r.sum(w.shape[1] + 1) * (x @ w.T)
    if "bias" in theta:
        b, eb = theta["bias"]
        ey += eb + r.sum(w.shape[1] + 1) * np.abs(b)

    def backward(dy, edy):
        dy, edy = np.abs(dy).reshape(-1, w.shape[0]), edy.reshape(-1, w.shape[0])
        edx = edy @ w + (dy + edy) @ ew + r.sum(w.shape[0]) * (dy @ w)
        n = r.sum(len(x))
        gradients = {"weight": r.flushed(edy.T @ x + (dy + edy).T @ ex + n * (dy.T @ x))}
        if "bias" in theta:
            # added row after row: in equal rows every rounding has the same sign
            gradients["bias"] = edy.sum(0) + len(x) * r.u * dy.sum(0)
        return r.flushed(edx.reshape(shape)), gradients

    return r.flushed(ey.reshape(*shape[:-1], w.shape[0])), backward


@rule.register
def _(module: torch.nn.Identity, r, theta, x, ex):
    return ex, lambda dy, edy: (edy, {})


@rule.register
def _(module: torch.nn.ReLU, r, theta, x, ex):
    """Exact, but for an x so near 0 that rounding decides on which side of the kink it falls."""
    return _pointwise(module, r, x, ex, y_rounding=0, slope_rounding=lambda y: 0 * y)


@rule.register
def _(module: torch.nn.Sigmoid, r, theta, x, ex):
    """σ' = y (1 − y): an error 8 u y of y moves it by up to 8 u y |1 − 2y|, less than 8 u y."""
    return _pointwise(module, r, x, ex, y_rounding=r.libm, slope_rounding=lambda y: r.libm * y)


@rule.register
def _(module: torch.nn.Tanh, r, theta, x, ex):
    """tanh' = 1 − y²: an error 8 u |y| of y is 2 · 8 u y² there."""
    return _pointwise(
        module, r, x, ex, y_rounding=r.libm, slope_rounding=lambda y: 2 * r.libm * y * y
    )


def _pointwise(module, r: Rounding, x, ex, y_rounding, slope_rounding):
    """y = f(x) element by element: f and f' at x ± E(x) show how far y and f' can move.

    y_rounding: relative, of f itself; slope_rounding(y): absolute, of f' as computed from y.
    """

    def f(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        point = torch.tensor(at).requires_grad_()
        value = module(point)
        (slope,) = torch.autograd.grad(value, point, torch.ones_like(value))
        return value.detach().numpy(), slope.numpy()

    # The ends of the interval, and 0 where it lies inside: there the slopes have their peak.
    y, s = f(x)
    around = [f(at) for at in (x - ex, x + ex, np.clip(0, x - ex, x + ex))]
    ey = np.max([np.abs(other - y) for other, _ in around], axis=0) + y_rounding * np.abs(y)
    es = np.max([np.abs(other - s) for _, other in around], axis=0) + slope_rounding(y)
    ey, es = r.flushed(ey), r.flushed(es)

    def backward(dy, edy):
        edx = (np.abs(s) + es) * edy + es * np.abs(dy) + 3 * r.u * np.abs(s * dy)
        return r.flushed(edx), {}

    return ey, backward


@singledispatch
def loss_rule(
    criterion: torch.nn.Module, r: Rounding, z: np.ndarray, ez: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(E(loss), E(dprediction)) of a criterion with a scalar loss.

    Any other criterion: a black box of the prediction, as in `rule`."""

    class Applied(torch.nn.Module):
        def forward(self, prediction):
            return criterion(prediction[0], torch.from_numpy(y))

    e, backward = rule(Applied(), r, {}, z[None], ez[None])  # one row: all of z goes into the loss
    return e, backward(np.ones(()), np.zeros(()))[0][0]


@loss_rule.register
def _(criterion: HalfSquaredError, r, z, ez, y):
    return _squared(r, z, ez, y, 0.5, 1)


@loss_rule.register
def _(criterion: torch.nn.MSELoss, r, z, ez, y):
    n = z.size if criterion.reduction == "mean" else 1
    return _squared(r, z, ez, y, 1 / n, 2 / n)


def _squared(r: Rounding, z, ez, y, factor: float, slope: float):
    """loss = factor Σ d², dz = slope · d, with d = z − y."""
    d = np.abs(z - y)
    ed = ez + r.u * d
    loss = 2 * d * ed + ed * ed
    eloss = factor * (loss.sum() + (r.sum(d.size) + 2 * r.u) * (d * d).sum()) + r.tiny
    return eloss, slope * (ed + 2 * r.u * d) + r.tiny


@loss_rule.register
def _(criterion: torch.nn.CrossEntropyLoss, r, z, ez, y):
    """log p = z − m − log Σ e^(z−m); loss = −Σ t log p / D; dz = (p Σ t − t) / D."""
    c = z.shape[-1]
    z, ez, y = z.reshape(-1, c), ez.reshape(-1, c), y.reshape(-1)
    counts = y != criterion.ignore_index
    weight = np.ones(c) if criterion.weight is None else criterion.weight.numpy()
    t = np.full_like(z, criterion.label_smoothing / c)
    t[counts, y[counts]] += 1 - criterion.label_smoothing
    t = t * weight * counts[:, None]
    divisor = weight[y[counts]].sum() if criterion.reduction == "mean" else 1.0

    shifted = z - z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    log_p = shifted - log_sum
    p = np.exp(log_p)
    # log Σ e^(z+δ) − log Σ e^z = log Σ p e^δ, at most log Σ p e^E(z)
    elog = ez + np.logaddexp.reduce(log_p + ez, axis=1, keepdims=True)
    elog += r.u * (np.abs(shifted) + np.abs(log_p)) + r.libm * (1 + log_sum) + r.sum(c)
    elog += (p * r.u * np.abs(shifted)).sum(axis=1, keepdims=True)
    ep = np.minimum(p * np.expm1(np.minimum(elog, 700)) + r.libm * p, 1) + r.tiny

    loss = np.where(t == 0, 0, np.abs(t * log_p))
    eloss = (t * elog).sum() + (r.sum(t.size) + 3 * r.u) * loss.sum()
    total = t.sum(axis=1, keepdims=True)
    edz = total * ep + r.sum(c) * p * total
    edz += (4 * r.u + (0 if criterion.weight is None else r.sum(len(z)))) * (p * total + t)
    return eloss / divisor + r.tiny, (edz / divisor + r.tiny).reshape(*ez.shape[:-1], c)


@singledispatch
def update_rule(optimizer, r: Rounding, group: dict, theta, gradient, state):
    """(E(updated parameter), new state) from (value, E) of the parameter and of its gradient."""
    raise TypeError(f"no rounding rule is known for {type(optimizer).__name__}")


@update_rule.register
def _(optimizer: torch.optim.SGD, r: Rounding, group, theta, gradient, state):
    """The formulas of manual.optim.SGD in absolute values. state: (size of v, E(v))."""
    value, etheta = theta
    size, e = np.abs(gradient[0]), gradient[1]
    decay, momentum, lr = group["weight_decay"], group["momentum"], group["lr"]
    if decay:
        size, e = size + decay * np.abs(value), e + decay * etheta
        e = e + 3 * r.u * size
    if momentum:
        kept = abs(1 - group["dampening"])
        if state is None:
            v, ev = size, e
        else:
            v, ev = momentum * state[0] + kept * size, momentum * state[1] + kept * e
            ev = ev + 3 * r.u * v
        state = v, ev
        if group["nesterov"]:
            size, e = size + momentum * v, e + momentum * ev
            e = e + 3 * r.u * size
        else:
            size, e = state
    moved = lr * size
    return etheta + lr * e + 3 * r.u * moved + r.u * np.abs(value) + r.tiny, state
