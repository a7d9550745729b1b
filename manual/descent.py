"""Minimising a function of one or several variables: steepest descent and Newton–Raphson.

Both take the derivatives as functions of the point. A point is a number for a function of one
variable (the functions get and return numbers) or an array of shape (d,) for one of d variables
(the gradient is (d,), the Hessian (d, d)).
"""

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import numpy as np

from manual.checks import FLOATS, DtypeError, InputError, check_array, whole_number

Point = float | np.ndarray


class Descent(NamedTuple):
    """Where an iteration came to.

    x: the last iterate, a number or (d,). trace: (iterations + 1,) or (iterations + 1, d), the
    start and every iterate, all finite.
    reason: "converged", "iteration limit", or "diverged" (the next iterate was not finite, or the
    last lies beyond the limit).
    kind: what Newton–Raphson converged to, by the signs of the curvature there: "minimum",
    "maximum", "saddle", or "undecided" where some curvature is 0 as far as can be told; None where
    it did not converge, and for steepest descent, which never sees the curvature.
    """

    x: Point
    trace: np.ndarray
    iterations: int
    reason: str
    kind: str | None = None

    @property
    def converged(self) -> bool:
        return self.reason == "converged"


def steepest_descent(
    gradient: Callable[[Point], Point],
    start: Point,
    *,
    lr: float,
    tolerance: float = 1e-8,
    max_iterations: int = 10_000,
    limit: float = 1e10,
) -> Descent:
    """x ← x − lr ∇f(x), until no component changes by more than `tolerance`.

    To first order f(x + s) ≈ f(x) + ∇f·s, which among all steps of one length falls most for
    s against ∇f. Near a minimum the error along a direction of curvature λ is multiplied by
    1 − lr λ in each step: it shrinks where 0 < lr λ < 2, and grows where lr λ > 2.

    start: a number, or (d,), float32, float64 or longdouble, which is the dtype of all
    arithmetic. Converged means w_new ≈ w_old, here lr |∂f/∂x_i| <= tolerance for all i: with
    a tiny lr that is still far from a minimum, and a start exactly on a maximum stays there.
    limit: an iterate with a component beyond it has diverged. So has one whose gradient is not
    finite, or overflows (an OverflowError, as of math.exp, counts as that).

    Raises ValueError for a bad lr, tolerance, max_iterations or limit; InputError, DtypeError or
    TypeError for a start, or a gradient at any point, of another shape, dtype or type.
    """
    x = _start("steepest_descent", start, tolerance, max_iterations, limit)
    if isinstance(lr, bool) or not isinstance(lr, Real):
        raise TypeError(f"steepest_descent: lr must be a number, got {lr!r}")
    with np.errstate(over="ignore"):  # 1e60 in float32: looked for right below
        rate = x.dtype.type(lr)
    if not 0 < rate < np.inf:
        raise ValueError(f"steepest_descent: lr must be finite and > 0 in {x.dtype}, got {lr!r}")

    def step(x: Point) -> Point:
        return x - rate * _value("steepest_descent: gradient", gradient, x, x.shape)

    trace, reason = _iterate(step, x, tolerance, max_iterations, limit)
    return Descent(trace[-1].copy(), np.array(trace), len(trace) - 1, reason)


def newton_raphson(
    gradient: Callable[[Point], Point],
    hessian: Callable[[Point], Point],
    start: Point,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
    limit: float = 1e10,
) -> Descent:
    """x ← x − f'(x) / f''(x), until no component changes by more than `tolerance`; with several
    variables x ← x − s with H(x) s = ∇f(x).

    It is steepest descent with the step size 1/f''(x). To first order the gradient at x − s is
    ∇f(x) − H s, and the step makes that 0. So it goes to any stationary point, be it a minimum,
    a maximum or a saddle; `kind` says which. Near one with non-zero curvature the error is
    squared in each step.

    Arguments, result and errors are those of `steepest_descent`. Raises ZeroDivisionError, with
    the point, where the second derivative is 0, or the Hessian singular (a pivot that is 0, or
    that rounding cannot tell from 0).
    """
    x = _start("newton_raphson", start, tolerance, max_iterations, limit)

    def curvature(x: Point) -> Point:
        return _value("newton_raphson: hessian", hessian, x, x.shape * 2)

    def step(x: Point) -> Point:
        g, h = _value("newton_raphson: gradient", gradient, x, x.shape), curvature(x)
        if not np.isfinite(h).all():  # g / inf would be a step of 0
            return np.full_like(x, np.nan)
        if x.ndim == 1:
            s = _solve(h, g)
            if s is None:
                raise ZeroDivisionError(f"newton_raphson: the Hessian is singular at x = {x}")
        elif h == 0:
            raise ZeroDivisionError(f"newton_raphson: the second derivative is 0 at x = {x}")
        else:
            s = g / h
        return x - s

    trace, reason = _iterate(step, x, tolerance, max_iterations, limit)
    kind = None
    if reason == "converged":
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # `_kind` looks itself
            kind = _kind(curvature(trace[-2]), curvature(trace[-1]))
    return Descent(trace[-1].copy(), np.array(trace), len(trace) - 1, reason, kind)


def _iterate(
    step: Callable[[Point], Point], x: Point, tolerance: float, max_iterations: int, limit: float
) -> tuple[list[Point], str]:
    """(the iterates, the reason to stop). The points handed out are read-only."""
    tolerance, limit = np.longdouble(tolerance), np.longdouble(limit)  # they may not fit x's dtype
    trace = [x]
    for _ in range(max_iterations):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # looked for below
            new = step(x)
        if not np.isfinite(new).all():
            return trace, "diverged"
        if new.ndim == 1:
            new.flags.writeable = False
        trace.append(new)
        if np.abs(new).max() > limit:
            return trace, "diverged"
        if np.abs(new - x).max() <= tolerance:
            return trace, "converged"
        x = new
    return trace, "iteration limit"


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """s with matrix · s = right, by elimination with the largest pivot of each column (np.linalg
    knows no longdouble). None where every pivot left is within the rounding of the products it
    was made from, whose absolute values `made` adds up."""
    n, eps = len(right), np.finfo(right.dtype).eps
    a, made = np.column_stack([matrix, right]), np.abs(matrix)
    for k in range(n):
        if (np.abs(a[k:, k]) <= n * eps * made[k:, k]).all():
            return None
        best = k + int(np.argmax(np.abs(a[k:, k])))
        for array in (a, made):
            array[[k, best]] = array[[best, k]]
        factors = a[k + 1 :, k] / a[k, k]
        a[k + 1 :] -= np.outer(factors, a[k])
        made[k + 1 :] += np.outer(np.abs(factors), np.abs(a[k, :n]))
    s = np.empty_like(right)
    for k in reversed(range(n)):
        s[k] = (a[k, n] - np.dot(a[k, k + 1 : n], s[k + 1 :])) / a[k, k]
    return s


def _kind(before: Point, h: Point) -> str:
    """The kind of stationary point with the Hessian h, found in a step from where it was `before`.

    vᵀ H v, the curvature along v, sees only the symmetric part of H; its signs are those of the
    eigenvalues λ. Where λ is 0 at the stationary point, Newton converges so slowly that H changes
    in the last step by as much as λ itself: a λ within twice that change (by which, as Weyl
    shows, no eigenvalue can have moved more) or within rounding is of no certain sign.
    """
    d = len(h) if np.ndim(h) else 1
    h, before = (np.reshape(m, (d, d)) for m in (h, before))
    scale = np.abs(h).max()
    if not (np.isfinite(h).all() and np.isfinite(before).all()) or scale == 0:
        return "undecided"
    eps = max(np.finfo(h.dtype).eps, np.finfo(np.float64).eps)
    h, change = h / scale, (h - before) / scale
    # np.linalg knows no longdouble; signs need no more digits than these.
    values = np.linalg.eigvalsh(((h + h.T) / 2).astype(np.float64))
    slack = float(2 * np.sqrt(np.sum(change * change)) + d * eps)
    up, down = values > slack, values < -slack
    if up.any() and down.any():
        return "saddle"
    return "minimum" if up.all() else "maximum" if down.all() else "undecided"


def _value(
    what: str, function: Callable[[Point], Point], x: Point, shape: tuple[int, ...]
) -> Point:
    """function(x), which must have this shape and the dtype of x."""
    try:
        value = function(x)
    except OverflowError:  # math.exp and Python's ** raise it where NumPy gives inf
        return np.full(shape, np.inf, x.dtype)[()]
    if shape == () and not isinstance(value, np.ndarray | np.generic):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{what}: expected a number, got {type(value).__name__}")
        return x.dtype.type(value)
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    check_array(what, np.asarray(value) if isinstance(value, np.generic) else value, shape, x.dtype)
    return value


def _start(
    name: str, start: Point, tolerance: float, max_iterations: int, limit: float
) -> np.generic | np.ndarray:
    """The start as a NumPy number or a read-only copy, when all that both take is in order."""
    for what, value in (("tolerance", tolerance), ("limit", limit)):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name}: {what} must be a number, got {value!r}")
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"{name}: tolerance must be a finite number >= 0, got {tolerance!r}")
    whole_number(f"{name}: max_iterations", max_iterations, 1)
    if not limit > 0:
        raise ValueError(f"{name}: limit must be > 0, got {limit!r}")
    if isinstance(start, Real) and not isinstance(start, bool | np.generic):
        x = np.array(float(start))
    elif isinstance(start, np.ndarray | np.generic):
        x = np.array(start)
    else:
        raise TypeError(f"{name}: start: expected a number or an array, got {type(start).__name__}")
    if x.dtype not in FLOATS:
        raise DtypeError(f"{name}: start: expected float32, float64 or longdouble, got {x.dtype}")
    if x.ndim > 1 or x.size == 0:
        raise InputError(f"{name}: start: expected a number or shape (d,), d >= 1, got {x.shape}")
    if not np.isfinite(x).all() or np.abs(x).max() > np.longdouble(limit):
        raise InputError(f"{name}: start must be finite and within ±{limit:g}, got {x}")
    x.flags.writeable = False
    return x[()]
