"""How rounding errors enter and pass through each loss: a rule for every one."""

import copy
from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import torch

from compare.rounding.activations import log_softmax_error, softmax_error
from compare.rounding.ball import Rounding
from compare.rounding.modules import rule
from torch_ref import modules


@singledispatch
def loss_rule(
    criterion: torch.nn.Module,
    r: Rounding,
    z: np.ndarray,
    ez: np.ndarray,
    y: np.ndarray,
    dloss: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(E(loss), E(dprediction)) for the cotangent dloss, which is exact and has the loss's shape.

    Any other criterion: a black box of the prediction, as in `rule`."""

    class Applied(torch.nn.Module):
        def forward(self, prediction):
            return criterion(prediction[0], torch.from_numpy(y))

    e, backward = rule(Applied(), r, {}, z[None], ez[None])  # one row: all of z goes into the loss
    return e, backward(dloss, np.zeros(dloss.shape))[0][0]


class _Elementwise(NamedTuple):
    """A loss for each element, then their sum or mean: the roundings of each loss, of its slope,
    and of the sum."""

    # Of a convex loss l(z, y): l and s = ∂l/∂z at z ± E(z) show how far they can move. Their own
    # rounding, functions of (criterion, r, z, y, l) and (criterion, r, z, y, s), is absolute.
    loss_rounding: Callable
    slope_rounding: Callable
    low: float = -np.inf  # where z ends
    high: float = np.inf

    def __call__(self, criterion, r, z, ez, y, dloss):
        each, target = copy.copy(criterion), torch.from_numpy(y)
        each.reduction = "none"

        def f(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            point = torch.tensor(at).requires_grad_()
            value = each(point, target)
            (slope,) = torch.autograd.grad(value, point, torch.ones_like(value))
            return value.detach().numpy(), slope.numpy()

        low, high = np.maximum(z - ez, self.low), np.minimum(z + ez, self.high)
        loss, s = f(z)
        around = [f(at) for at in (low, high)]
        eloss = np.max([np.abs(other - loss) for other, _ in around], axis=0)
        es = np.max([np.abs(other - s) for _, other in around], axis=0)
        eloss = eloss + self.loss_rounding(criterion, r, z, y, loss)
        es = es + self.slope_rounding(criterion, r, z, y, s)
        if criterion.reduction == "none":
            return r.flushed(eloss), r.flushed((es + 2 * r.u * (np.abs(s) + es)) * np.abs(dloss))
        n = max(1, z.size) if criterion.reduction == "mean" else 1
        total = eloss.sum() + (r.sum(z.size) + 2 * r.u) * (np.abs(loss) + eloss).sum()
        edz = (es + 3 * r.u * (np.abs(s) + es)) * np.abs(dloss) / n
        return total / n + r.tiny, r.flushed(edz)


def _weight(criterion) -> np.ndarray | float:
    return 1.0 if criterion.weight is None else np.abs(criterion.weight.numpy())


def _bce(criterion, r, z, y, loss):
    """−y log p − (1 − y) log(1 − p), both logarithms from −100."""
    with np.errstate(divide="ignore"):
        parts = np.abs(y * np.maximum(np.log(z), -100))
        parts += np.abs((1 - y) * np.maximum(np.log1p(-z), -100))
    return (r.libm + 4 * r.u) * _weight(criterion) * parts


def _bce_logits_parts(criterion, y) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|pos_weight y|, |1 − y|, and what 1 + (pos_weight − 1) y is a sum of."""
    pos_weight = 1.0 if criterion.pos_weight is None else criterion.pos_weight.numpy()
    return np.abs(pos_weight * y), np.abs(1 - y), 1 + np.abs((pos_weight - 1) * y)


def _bce_logits(criterion, r, z, y, loss):
    """(1 − y) z + (1 + (pos_weight − 1) y) (log1p(e^−|z|) + max(−z, 0))."""
    t, rest, factor = _bce_logits_parts(criterion, y)
    inner = np.log1p(np.exp(-np.abs(z))) + np.maximum(-z, 0)
    rounded = 4 * r.u * rest * np.abs(z) + (2 * r.libm * (t + rest) + 3 * r.u * factor) * inner
    return _weight(criterion) * (rounded + (t + rest) * r.tiny)  # log1p(e^−|z|) may come out as 0


def _bce_logits_slope(criterion, r, z, y, s):
    """(t + 1 − y) σ − t, t = pos_weight y; without pos_weight σ − y."""
    t, rest, _ = _bce_logits_parts(criterion, y)
    sigma = np.exp(-np.logaddexp(0, -z))
    rounded = (r.libm + 5 * r.u) * (t + rest) * sigma + 3 * r.u * t
    if criterion.pos_weight is not None:
        rounded = rounded + 2 * r.u * (t + 1 + np.abs(y)) * sigma
    return _weight(criterion) * (rounded + (t + rest) * r.tiny)  # so may σ


loss_rule.register(
    torch.nn.L1Loss,
    _Elementwise(lambda criterion, r, z, y, loss: 2 * r.u * loss, lambda *args: 0.0),
)
loss_rule.register(
    torch.nn.BCELoss,
    _Elementwise(_bce, lambda criterion, r, z, y, s: 8 * r.u * np.abs(s), 0.0, 1.0),
)
loss_rule.register(torch.nn.BCEWithLogitsLoss, _Elementwise(_bce_logits, _bce_logits_slope))


class _Squared(NamedTuple):
    """Σ (z − y)² times a factor, dz = 2 (z − y) times it: the roundings of the difference, of the
    squares and of their sum."""

    factor: float

    def __call__(self, criterion, r, z, ez, y, dloss):
        n = max(1, z.size) if criterion.reduction == "mean" else 1
        d = np.abs(z - y)
        ed = ez + r.u * (d + ez)
        eloss = 2 * d * ed + ed * ed + 2 * r.u * (d + ed) ** 2
        if criterion.reduction != "none":
            eloss = (eloss.sum() + r.sum(d.size) * ((d + ed) ** 2).sum()) / n
        edz = 2 * (ed + 3 * r.u * (d + ed)) * np.abs(dloss) / n
        return self.factor * eloss + r.tiny, self.factor * edz + r.tiny


loss_rule.register(modules.HalfSquaredError, _Squared(0.5))
loss_rule.register(modules.SumSquaredError, _Squared(1.0))
loss_rule.register(torch.nn.MSELoss, _Squared(1.0))


def _classes_last(t: np.ndarray) -> np.ndarray:
    """(N, C, d1, …) or (C,) as rows over classes, (N d1 …, C)."""
    return np.moveaxis(t, 1 if t.ndim > 1 else 0, -1).reshape(-1, t.shape[1 if t.ndim > 1 else 0])


def _classes_back(rows: np.ndarray, shape: tuple) -> np.ndarray:
    if len(shape) == 1:
        return rows.reshape(shape)
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _over_classes(r, criterion, log_p, elog, t, divisor, dloss):
    """E of the loss −Σ t log p / D over rows, and D's own rounding as a share."""
    log_p, elog = (np.where(t == 0, 0, v) for v in (log_p, elog))  # 0 times −∞ is 0
    loss, each = np.abs(t * log_p), (np.abs(t) * elog).sum(axis=1)
    each += (r.sum(t.shape[1]) + 4 * r.u) * loss.sum(axis=1)
    if criterion.reduction == "none":
        return each.reshape(dloss.shape) + r.tiny
    return (each.sum() + (2 * r.sum(t.size) + 3 * r.u) * loss.sum()) / divisor + r.tiny


def _class_weight(criterion, c: int) -> np.ndarray:
    return np.ones(c) if criterion.weight is None else criterion.weight.numpy()


def _cotangent(dloss: np.ndarray, rows: int) -> np.ndarray:
    """|dloss| for each row, (rows, 1)."""
    return np.broadcast_to(np.abs(dloss).reshape(-1, 1), (rows, 1))


@loss_rule.register
def _nll_loss(criterion: torch.nn.NLLLoss, r, z, ez, y, dloss):
    """loss = −Σ w_y z_y / D; dz = −w_y / D."""
    rows, index = _classes_last(z), y.reshape(-1)
    weight, counts = _class_weight(criterion, rows.shape[1]), index != criterion.ignore_index
    t = np.zeros_like(rows)
    t[counts, index[counts]] = weight[index[counts]]
    divisor = t.sum() if criterion.reduction == "mean" else 1.0
    eloss = _over_classes(r, criterion, rows, _classes_last(ez), t, divisor, dloss)
    share = 3 * r.u + (r.sum(len(rows)) if criterion.reduction == "mean" else 0)
    edz = share * np.abs(t) * _cotangent(dloss, len(rows)) / divisor
    return eloss, r.flushed(_classes_back(edz, z.shape))


@loss_rule.register
def _cross_entropy_loss(criterion: torch.nn.CrossEntropyLoss, r, z, ez, y, dloss):
    """log p = z − m − log Σ e^(z−m); loss = −Σ t log p / D; dz = (p Σ t − t) / D."""
    rows = _classes_last(z)
    n, c = rows.shape
    weight, smoothing = _class_weight(criterion, c), criterion.label_smoothing
    if y.dtype.kind == "f":
        t = ((1 - smoothing) * _classes_last(y) + smoothing / c) * weight
        divisor = float(n)
    else:
        index = y.reshape(-1)
        counts = index != criterion.ignore_index
        t = np.full_like(rows, smoothing / c)
        t[counts, index[counts]] += 1 - smoothing
        t = t * weight * counts[:, None]
        divisor = weight[index[counts]].sum()
    divisor = divisor if criterion.reduction == "mean" else 1.0

    log_p, elog = log_softmax_error(r, rows, _classes_last(ez))
    p, ep = np.exp(log_p), softmax_error(r, log_p, elog)
    eloss = _over_classes(r, criterion, log_p, elog, t, divisor, dloss)
    size = np.abs(t)
    total = size.sum(axis=1, keepdims=True)
    edz = total * ep + r.sum(c) * p * total
    edz += (6 * r.u + (0 if criterion.weight is None else r.sum(n))) * (p * total + size)
    edz = edz * _cotangent(dloss, n) / divisor + r.tiny
    return eloss, _classes_back(edz, z.shape)
