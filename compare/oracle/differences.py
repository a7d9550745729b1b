"""The derivative of any function of an array by one entry, and how far it can be trusted.

Central differences at steps h, h/2, h/4, … are extrapolated to h = 0 (Ridders 1982, "Accurate
computation of F'(x) and F'(x) F''(x)"). All is done for each element of the function's value before
the cotangent sums them: what the entry does not touch cancels exactly.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

Noise = Callable[[np.ndarray, np.ndarray], np.ndarray]

ORDERS = range(3, 7)  # how many steps an extrapolation takes together
LEVELS = 80  # halvings of the first step: none is left of the 64 bits of a longdouble
GROWTHS = 6  # of the first step, by 32 each, where nobody says over what length f bends
CONVERGED = 1e-5  # an error that is this small beside the terms of the sum
TINY = float(np.finfo(float).tiny)


def derivative(
    f: Callable[[np.ndarray], np.ndarray],
    at: np.ndarray,
    index: tuple[int, ...],
    cotangent: np.ndarray,
    *,
    scale: float | None = None,
    noise: Noise | None = None,
) -> tuple[float, float]:
    """(value, error): d/d at[index] of Σ cotangent · f(at), right to within `error`.

    f: pure, in the dtype of `at` (float64 or longdouble); its value has cotangent's shape.
    scale: the length over which f bends; no step is longer than a 16th of it. Default:
        max(1, |at[index]|) to begin with, and longer steps where they turn out better.
    noise: noise(at, f(at)) → how far rounding can carry each element of f(at) from the exact one;
        default: 4 units of roundoff of the value, and then whatever the differences themselves
        show (two more steps are taken for that).

    (nan, nan) where f is not finite, where it has a kink or a jump (the slopes to the left and
    right do not meet as h → 0), or where nothing converges. In error: what the last extrapolations
    differ by, what the slopes to the left and right differ by (where x ± h are rounded, that
    shows there), and the rounding of f and of the sum.
    """
    # Beyond the domain of f, or where it overflows, a step is too long and not an answer.
    with np.errstate(all="ignore"):
        ladders = _Ladders(f, at, index, cotangent, noise)
        if not ladders.finite:
            return np.nan, np.nan
        first = max(1.0, abs(float(at[index]))) if scale is None else float(scale)
        h = np.exp2(np.floor(np.log2(at.dtype.type(first) / 16)))
        return ladders.best(h, 0 if scale is not None else GROWTHS)


class _Found(NamedTuple):
    """An extrapolation. explained: how much of the error rounding may be; size: Σ |terms| of the
    value; steps: how many it took."""

    value: float = np.nan
    error: float = np.inf
    explained: float = 0.0
    size: float = 0.0
    steps: int = 0
    h: float = 0.0
    slopes: np.ndarray | None = None


class _Level(NamedTuple):
    """One step h. By element: cotangent · (f(x+h) − f(x−h)) / 2h, cotangent · (f(x+h) − 2 f(x)
    + f(x−h)) / h, and what rounding may do to the first."""

    slope: np.ndarray
    gap: np.ndarray
    noise: np.ndarray
    h: np.floating


class _Ladders:
    """Descending steps from one or several first ones, and the best that was found on them."""

    def __init__(self, f, at, index, cotangent, noise) -> None:
        self.f, self.at, self.index, self.noise_of = f, np.array(at), index, noise
        self.x, self.eps = self.at[index], np.finfo(at.dtype).eps
        y = np.asarray(f(self.at))
        self.cotangent = np.broadcast_to(cotangent, y.shape)
        self.counts = self.cotangent != 0
        self.weights = self.cotangent[self.counts]
        self.sizes = np.abs(self.weights)
        self.finite = bool(np.isfinite(y[self.counts]).all() and np.isfinite(self.x))
        self.finite &= bool(np.isfinite(self.weights).all())
        if self.finite:
            self.y = y[self.counts]
            self.noise = self._noise(y)
            self.touched = self._touched()

    def _value(self, x) -> tuple[np.ndarray, np.ndarray] | None:
        """f with the entry moved to x, where the cotangent is not 0, and its noise."""
        kept = self.at.copy()
        kept[self.index] = x
        y = np.asarray(self.f(kept))
        own = y[self.counts]
        if not np.isfinite(own).all():
            return None
        return own, self._noise(y, kept)

    def _noise(self, y: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        if self.noise_of is None:
            return 4 * self.eps * np.abs(y[self.counts])
        return self.noise_of(self.at if at is None else at, y)[self.counts]

    def _touched(self) -> np.ndarray:
        """False for elements that not even the longest step either way changes: this entry does
        not go into them, and they have no noise. (One that is only saturated here changes, and so
        does one where the entry meets a factor of 1e-100.)"""
        far = np.sqrt(np.finfo(self.at.dtype).max)
        touched = np.zeros(self.y.shape, bool)
        for x in (self.x - far, self.x + far):
            kept = self.at.copy()
            kept[self.index] = x
            touched |= np.asarray(self.f(kept))[self.counts] != self.y
        return touched

    def _level(self, h) -> _Level | None:
        above, below = self.x + h, self.x - h
        up, down = self._value(above), self._value(below)
        if up is None or down is None:
            return None
        self.touched |= (up[0] != self.y) | (down[0] != self.y)
        width = above - below
        slope = self.weights * ((up[0] - down[0]) / width)
        gap = self.weights * (((up[0] - self.y) + (down[0] - self.y)) / h)
        noise = self.sizes * np.maximum(np.maximum(up[1], down[1]), self.noise)
        noise = np.where(self.touched, noise, 0) / h
        return _Level(slope, gap, noise, h)

    def best(self, h, growths: int) -> tuple[float, float]:
        found, grown = self._descend(h, LEVELS), h
        quick = ORDERS[0] + 2 * (self.noise_of is None)
        for _ in range(growths if found.steps <= quick and _rounding_alone(found) else 0):
            grown = grown * 32
            other = self._descend(grown, quick)
            if not other.error < found.error / 2:
                break
            found = other
        # Converged: small beside the terms of the sum, or all that is left is rounding.
        if not found.error <= max(CONVERGED * found.size, 4 * found.explained):
            return np.nan, np.nan
        if self.noise_of is None:
            found = found._replace(error=max(found.error, 2 * self._beside(found)))
        value, eps = float(found.value), np.finfo(float).eps  # as a float: a rounding more
        return value, float(found.error + eps * abs(found.value) + TINY)

    def _descend(self, h, levels: int) -> _Found:
        """From h by halves until rounding is all that is left of the error, or outweighs it."""
        found, ladder, since = _Found(), [], 0
        smallest = 4 * np.spacing(np.abs(self.x))
        for k in range(levels):
            if not h > smallest:
                break
            level = self._level(h)
            h = h / 2
            if level is None:
                ladder = []
                continue
            ladder = [*ladder, level][-ORDERS[-1] :]
            candidates = [_extrapolated(ladder, n, self.eps) for n in ORDERS if n <= len(ladder)]
            if not candidates:
                continue
            near = min(candidates, key=lambda c: c.error)
            since = 0 if near.error < found.error else since + 1
            found = min(found, near, key=lambda c: c.error)._replace(steps=k + 1)
            if self.noise_of is not None:
                if _rounding_alone(found) or level.noise.sum() >= found.error:
                    break
            else:
                apart = 2 * np.abs(near.value - found.value)
                found = found._replace(error=max(found.error, apart))
            # Once it has converged, what grows again is rounding: where a value has few digits
            # left, differences may agree with one another later, and are wrong all the same.
            if since == 2 and (_rounding_alone(found) or found.error < 0.02 * found.size):
                break
        return found

    def _beside(self, found: _Found) -> float:
        """How far the slopes at two more steps are from the series that was found. Steps halved
        meet the same rounding again where f has few digits; these do not."""
        apart = 0.0
        for ratio in (2**-0.5, 2**-0.25):
            level = self._level(found.h * self.at.dtype.type(ratio))
            if level is not None:
                weights = _between(len(found.slopes), ratio).astype(self.at.dtype)
                apart = max(apart, np.abs(level.slope - weights @ found.slopes).sum())
        return apart


def _extrapolated(ladder: list[_Level], n: int, eps: float) -> _Found:
    """From the last n steps, beside the last n − 1 and the n − 1 before the last."""
    slopes = np.array([level.slope for level in ladder[-n:]])
    gaps = np.array([level.gap for level in ladder[-n:]])
    noises = np.array([level.noise for level in ladder[-n:]])
    even, odd = _weights(n, slopes.dtype)
    shorter, _ = _weights(n - 1, slopes.dtype)
    value = even @ slopes
    differ = max(
        np.abs(value - shorter @ slopes[1:]).sum(), np.abs(value - shorter @ slopes[:-1]).sum()
    )
    gap = np.abs(odd @ gaps).sum()
    size = np.abs(value).sum()
    rounding = (np.abs(even) @ noises).sum()
    rounding += eps * (4 + np.sqrt(value.size)) * size
    explained = rounding + 2 * (np.abs(odd) @ noises).sum()
    error = differ + gap + rounding
    return _Found(value.sum(), error, explained, size, h=ladder[-1].h, slopes=slopes)


def _rounding_alone(found: _Found) -> bool:
    return found.error <= 4 * found.explained


@cache
def _weights(n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """What n values at h 2ⁿ⁻¹, …, 2h, h are multiplied by to have the sum of a series at h = 0:
    of one in even powers of h (the slopes), and of one in 1, h, h³, h⁵, … (the gaps)."""
    tables = []
    for powers in (range(2, 2 * n, 2), range(1, 2 * n - 1, 2)):
        rows = np.eye(n, dtype=np.longdouble)
        for power in powers:
            factor = np.longdouble(2) ** power
            rows = (factor * rows[1:] - rows[:-1]) / (factor - 1)
        tables.append(rows[0].astype(dtype))
    return tuple(tables)


@cache
def _between(n: int, ratio: float) -> np.ndarray:
    """What n values at h 2ⁿ⁻¹, …, 2h, h are multiplied by to have their even polynomial's at
    ratio · h (Lagrange)."""
    nodes = np.array([4.0**k for k in reversed(range(n))], np.longdouble)
    weights = np.ones(n, np.longdouble)
    for i, own in enumerate(nodes):
        others = np.delete(nodes, i)
        weights[i] = np.prod((np.longdouble(ratio) ** 2 - others) / (own - others))
    return weights
