"""How rounding errors pass through the activations, softmax and maxout."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from compare.rounding.ball import Rounding
from compare.rounding.modules import rule
from torch_ref import modules


class _Pointwise(NamedTuple):
    """y = f(x), dx = f'(x) dy, element by element: the roundings of f, of f' and of the product;
    exp, tanh and log are good to 4 units in the last place, as NumPy and torch have them."""

    # f and f' at x ± E(x) show how far y and f' can move; to that comes their own rounding,
    # absolute: functions of (r, x, y) and (module, r, x, y, s), with s = f'(x).
    y_rounding: Callable[..., np.ndarray]
    slope_rounding: Callable[..., np.ndarray]
    turns: Sequence[float] = (0.0,)  # where else f or f' may be furthest off: kinks and extremes
    inner: int = 0  # roundings of x before f sees it, as of the product βx

    def __call__(self, module, r: Rounding, theta, x, given_ex):
        ex = given_ex + self.inner * r.u * np.abs(x)

        def f(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            point = torch.tensor(at).requires_grad_()
            value = module(point)
            (slope,) = torch.autograd.grad(value, point, torch.ones_like(value))
            return value.detach().numpy(), slope.numpy()

        y, s = f(x)
        ey = es = np.zeros(x.shape)
        for at in (-np.inf, np.inf, *self.turns) if ex.any() else ():
            other, slope = f(np.clip(at, x - ex, x + ex))
            ey, es = np.maximum(ey, np.abs(other - y)), np.maximum(es, np.abs(slope - s))
        ey = r.flushed(ey + self.y_rounding(r, x, y))
        es = r.flushed(es + self.slope_rounding(module, r, x, y, s))

        def backward(dy, edy):
            edx = (np.abs(s) + es) * edy + (es + 3 * r.u * (np.abs(s) + es)) * np.abs(dy)
            # In float64 the product may come out as 0, and E with it.
            return r.flushed(edx) + r.tiny * ((es > 0) & (dy != 0)), {}

        return ey, backward


def _exact(*args):
    return 0.0


def _libm(r, x, y):
    return r.libm * np.abs(y)


def _libm_slope(module, r, x, y, s):
    return r.libm * np.abs(s)


# Exact, but for an x so near 0 that rounding decides on which side of the kink it falls.
rule.register(torch.nn.ReLU, _Pointwise(_exact, _exact))
rule.register(modules.Step, _Pointwise(_exact, _exact))
# One product, and the slope itself rounded to the dtype.
rule.register(
    torch.nn.LeakyReLU,
    _Pointwise(
        lambda r, x, y: 2 * r.u * np.abs(y),
        lambda module, r, x, y, s: r.u * np.abs(s),
    ),
)
# What is never 0 but falls off like e^−|x| may come out as 0, or as the smallest number instead:
# there float64's own value is 0, too, and shows no error, so the smallest normal number is added.
# σ' = y (1 − y): an error 8 u y of y moves it by up to 8 u y |1 − 2y|, less than 8 u y.
rule.register(
    torch.nn.Sigmoid,
    _Pointwise(
        lambda r, x, y: r.libm * y + r.tiny,
        lambda module, r, x, y, s: r.libm * y + r.tiny,
    ),
)
# tanh' = 1 − y²: an error 8 u |y| of y is 2 · 8 u y² there.
rule.register(torch.nn.Tanh, _Pointwise(_libm, lambda module, r, x, y, s: 2 * r.libm * y * y))
rule.register(modules.Arctan, _Pointwise(_libm, _libm_slope))
# min(x, 0) − log1p(z), z = e^−|x|; the slope 1 − z/(1 + z) for x < 0, z/(1 + z) else.
rule.register(
    torch.nn.LogSigmoid,
    _Pointwise(
        lambda r, x, y: (2 * r.libm + r.u) * np.abs(y) + r.tiny,
        lambda module, r, x, y, s: 2 * r.libm * np.abs(s) + 2 * r.u * (x < 0) + r.tiny,
    ),
)
# α expm1(x); the slope α e^x as such or as y + α.
rule.register(
    torch.nn.ELU,
    _Pointwise(
        lambda r, x, y: (r.libm + 2 * r.u) * np.abs(y),
        lambda module, r, x, y, s: (r.libm + 2 * r.u) * np.maximum(np.abs(s), abs(module.alpha)),
    ),
)


# log1p(e^z)/β and σ(z), z = βx, which also decides whether y is x.
rule.register(
    torch.nn.Softplus,
    _Pointwise(
        lambda r, x, y: 2 * r.libm * np.abs(y) + r.tiny,
        lambda module, r, x, y, s: 2 * r.libm * s + r.tiny,
        inner=2,
    ),
)


def _silu_slope(module, r, x, y, s):
    """σ (1 + x (1 − σ))."""
    sigma = np.divide(y, x, out=np.full_like(x, 0.5), where=x != 0)
    rounded = 2 * r.libm * sigma * (1 + np.abs(x) * (1 - sigma)) + 2 * r.u * np.abs(y)
    return rounded + (1 + np.abs(x)) * r.tiny


# y' = 0, and y'' = 0 on either side
rule.register(
    torch.nn.SiLU,
    _Pointwise(
        lambda r, x, y: (r.libm + 3 * r.u) * np.abs(y) + np.abs(x) * r.tiny,
        _silu_slope,
        turns=(-1.27846, -2.39936, 2.39936),
    ),
)


def _gelu(r, x, y):
    """x/2 · (1 + erf) or x/2 · (1 + tanh): what follows the 1 has errors relative to 1, and the
    argument's own rounding moves it by less."""
    return (2 * r.libm + 2 * r.u) * np.abs(x)


def _gelu_slope(module, r, x, y, s):
    """Φ + x φ; with tanh of a(x): (1 + t)/2 + x/2 (1 − t²) a', where 1 − t² has an error relative
    to 1 as long as t is not ±1."""
    x2 = x * x
    if module.approximate == "none":
        peak = np.abs(x) * np.exp(-x2 / 2) * (1 + x2)
    else:
        saturated = np.abs(x) > 8  # e^−2a(8) is 10⁻²⁵ and less
        peak = np.where(saturated, 0, np.abs(x) * (1 + 0.134145 * x2))
    return 2 * r.libm * (1 + peak)


rule.register(torch.nn.GELU, _Pointwise(_gelu, _gelu_slope, turns=(-0.75179, -(2**0.5), 2**0.5)))


@rule.register
def _prelu(module: torch.nn.PReLU, r, theta, x, ex):
    """y = x, or w x for x < 0, with w of the channel; dw = Σ dy x over x < 0."""
    w, ew = theta["weight"]
    shape = w.shape
    if w.size == 1:
        w, ew = w.reshape(()), ew.reshape(())
    else:  # one for each channel
        w, ew = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (w, ew))
    low, high = x - ex <= 0, x + ex > 0  # where both: rounding decides on the side
    slope = np.where(x <= 0, w, 1.0)
    eslope = np.where(low, ew, 0.0) + np.where(low & high, np.abs(1 - w), 0.0)
    product = r.u * np.where(low, np.abs(w), 0.0)
    ey = (np.abs(slope) + eslope) * ex + (eslope + product) * np.abs(x)

    def backward(dy, edy):
        edx = (np.abs(slope) + eslope) * edy + (eslope + product) * np.abs(dy)
        size = np.where(low, np.abs(dy) * np.abs(x), 0)
        e = np.where(low, edy * (np.abs(x) + ex) + np.abs(dy) * ex + r.u * size, 0)
        if w.size > 1 and x.ndim > 1:
            axes = tuple(k for k in range(x.ndim) if k != 1)
            size, e = size.sum(axes), e.sum(axes)
            n = x.size // w.size
        elif w.size > 1:
            n = 1  # a single row: each element is a channel of its own
        else:
            size, e, n = size.sum(), e.sum(), x.size
        e = (e + r.sum(n) * size).reshape(shape)
        return r.flushed(edx), {"weight": r.flushed(e)}

    return r.flushed(ey), backward


def log_softmax_error(r: Rounding, z: np.ndarray, ez: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log p, E(log p)) of softmax over the last axis: log p = z − m − log Σ e^(z − m)."""
    shifted = z - z.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    log_p = shifted - log_sum
    p, distance = np.exp(log_p), np.abs(np.where(np.isfinite(shifted), shifted, 0))
    # log Σ e^(z+δ) − log Σ e^z = log Σ p e^δ, at most log Σ p e^E(z)
    e = ez + np.logaddexp.reduce(log_p + ez, axis=-1, keepdims=True)
    e += r.u * (distance + np.abs(log_p)) + r.libm * (1 + log_sum) + r.sum(z.shape[-1])
    e += (p * r.u * distance).sum(axis=-1, keepdims=True)
    return log_p, e


def softmax_error(r: Rounding, log_p: np.ndarray, elog: np.ndarray) -> np.ndarray:
    """E(p) from log p and its error."""
    p = np.exp(log_p)
    return np.minimum(p * np.expm1(np.minimum(elog, 700)) + r.libm * p, 1) + r.tiny


def _axis(module: torch.nn.Module, ndim: int) -> int:
    """The axis that torch takes where none is given."""
    if module.dim is None:
        return 0 if ndim in (0, 1, 3) else 1
    return module.dim


class _OverClasses(NamedTuple):
    """p = e^x / Σ e^x over the classes; dx = p (dy − Σ dy p), of the logarithm dy − p Σ dy: the
    roundings of exp and log, of both sums, and of the differences."""

    # The work is done over the last axis.
    forward: Callable
    backward: Callable

    def __call__(self, module, r, theta, x, ex):
        axis = _axis(module, x.ndim)

        def last(t):
            return np.moveaxis(np.atleast_1d(t), axis, -1)

        def back(t):
            return np.moveaxis(t, -1, axis).reshape(x.shape)

        log_p, elog = log_softmax_error(r, last(x), last(ex))
        p, ep = np.exp(log_p), softmax_error(r, log_p, elog)

        def backward(dy, edy):
            return r.flushed(back(self.backward(r, p, ep, last(dy), last(edy)))), {}

        return back(self.forward(elog, ep)), backward


def _softmax_backward(r, p, ep, dy, edy):
    """dx = p (dy − s), s = Σ dy p."""
    dy, inner = np.abs(dy), dy - (dy * p).sum(axis=-1, keepdims=True)
    size = (dy * p).sum(axis=-1, keepdims=True)
    es = (edy * (p + ep) + dy * ep).sum(axis=-1, keepdims=True) + r.sum(p.shape[-1]) * size
    # p dy − p s, too, is a way to compute it
    einner = edy + es + r.u * np.abs(inner) + 2 * r.u * (dy + size)
    return (p + ep) * einner + ep * np.abs(inner)


def _log_softmax_backward(r, p, ep, dy, edy):
    """dx = dy − p s, s = Σ dy."""
    s = np.abs(dy.sum(axis=-1, keepdims=True))
    dy, size = np.abs(dy), np.abs(dy).sum(axis=-1, keepdims=True)
    es = edy.sum(axis=-1, keepdims=True) + r.sum(p.shape[-1]) * size
    return edy + ep * (s + es) + p * es + 2 * r.u * (dy + p * s)


rule.register(torch.nn.Softmax, _OverClasses(lambda elog, ep: ep, _softmax_backward))
rule.register(torch.nn.LogSoftmax, _OverClasses(lambda elog, ep: elog, _log_softmax_backward))


@rule.register
def _maxout(module: modules.Maxout, r, theta, x, ex):
    """Exact, but where rounding may decide which piece is the largest: there dy may go to any."""
    pieces = x.reshape(*x.shape[:-1], -1, module.pieces)
    e = ex.reshape(pieces.shape)
    first = pieces.argmax(axis=-1)[..., None]
    rest = np.arange(module.pieces) != first
    rival = np.where(rest, pieces + e, -np.inf).max(axis=-1, keepdims=True)
    lowest = np.take_along_axis(pieces - e, first, -1)
    open_ = (rival > lowest) & (pieces + e >= lowest)  # may be the largest, and is not alone

    def backward(dy, edy):
        dy, edy = np.abs(dy)[..., None], edy[..., None]
        return np.where(open_, dy + edy, np.where(rest, 0, edy)).reshape(x.shape), {}

    return e.max(axis=-1), backward
