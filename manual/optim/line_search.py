"""A step length that satisfies the strong Wolfe conditions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """Where a search along d has been: f(x + t d), its gradient, and slope = gradient · d."""

    t: float
    loss: float
    gradient: np.ndarray
    slope: float


def strong_wolfe(
    at: Callable[[float], Point],
    start: Point,
    t: float,
    *,
    size: float,
    max_ls: int,
    tolerance_change: float = 1e-9,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> tuple[Point, int]:
    """(the point found, how many points were evaluated), searching along a descent direction d.

    Wanted is a t with, for φ(t) = f(x + t d),
        φ(t) ≤ φ(0) + c1 t φ'(0)    (enough decrease)    and    |φ'(t)| ≤ c2 |φ'(0)|    (flat).

    at: t → `Point`; start: that of t = 0; t: the first to try; size: the largest |d_i|.
    The search ends, with the lowest end of its bracket, also after max_ls refinements or when the
    bracket moves no parameter by tolerance_change (in torch, too, not the optimizer's option).

    Nocedal & Wright (2006), "Numerical optimization", algorithms 3.5 (a bracket that holds such a
    t) and 3.6 (zoom into it), with the safeguards of torch.optim.LBFGS.
    """

    def too_high(point: Point) -> bool:
        return point.loss > start.loss + c1 * point.t * start.slope

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -c2 * start.slope

    previous, new, n = start, at(t), 0
    bracket = [start, new]
    while n < max_ls:
        bracket = [previous, new]
        if too_high(new) or (n > 1 and new.loss >= previous.loss):
            break
        if flat(new):
            return new, n + 1
        if new.slope >= 0:
            break
        beyond = new.t + 0.01 * (new.t - previous.t), new.t * 10
        previous, new = new, at(cubic_minimum(previous, new, beyond))
        n += 1
        bracket = [start, new]

    low = 0 if bracket[0].loss <= bracket[1].loss else 1
    near_an_end = False
    while n < max_ls and not abs(bracket[1].t - bracket[0].t) * size < tolerance_change:
        left, right = sorted(point.t for point in bracket)
        t = cubic_minimum(*bracket, (left, right))
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            # Twice in a row near an end, or on one, is no progress: go a tenth inside.
            if near_an_end or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                near_an_end = False
            else:
                near_an_end = True
        else:
            near_an_end = False
        new = at(t)
        n += 1
        if too_high(new) or new.loss >= bracket[low].loss:
            bracket[1 - low] = new
            low = 0 if bracket[0].loss <= bracket[1].loss else 1
            continue
        if flat(new):
            return new, n + 1
        if new.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = new
    return bracket[low], n + 1


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """The t within bounds (lowest, highest) where the cubic through both points with both slopes
    is least; the middle of the bounds where it has no minimum.

    Nocedal & Wright (2006), equation 3.59.
    """
    lowest, highest = bounds
    middle = (lowest + highest) / 2
    if a.t == b.t:
        return middle
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    if not square >= 0:
        return middle
    d2 = np.sqrt(square)
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, lowest), highest)
