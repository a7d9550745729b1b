"""Where there is no derivative, at a kink, torch's choice among the slopes counts: that of one
side, or the mean of both. A side is a convention and no formula; the slope itself is differences'.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from compare.oracle.definitions import base
from compare.oracle.losses import loss_terms
from manual import nn

LEFT, BOTH, RIGHT = -1, 0, 1
Function = Callable[[np.ndarray], np.ndarray]


def side_of_module(module: Any, x: np.ndarray, index: tuple[int, ...]) -> int | None:
    """The side whose slope is dy/dx[index]; None where there is no kink at exactly that value.

    At 0 that of x ≤ 0. Where several pieces of a Maxout are equal it is the first of them that
    follows when it grows, and the others do not.
    """
    kind = base(type(module))
    if kind in (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU) and x[index] == 0:
        return LEFT
    if kind is nn.Maxout:
        start = index[-1] - index[-1] % module.pieces
        pieces = x[index[:-1]][start : start + module.pieces]
        largest = np.flatnonzero(pieces == pieces.max())
        if len(largest) > 1 and x[index] == pieces.max():
            return RIGHT if index[-1] - start == largest[0] else LEFT
    return None


def side_of_loss(
    criterion: Any, prediction: np.ndarray, target: np.ndarray, index: tuple[int, ...]
) -> int | None:
    """The same for a loss and its prediction: |ŷ − y| has the slope 0 at 0."""
    absolute = isinstance(criterion, nn.L1Loss) and loss_terms(criterion) is not None
    return BOTH if absolute and prediction[index] == target[index] else None


def continued(f: Function, at: np.ndarray, index: tuple[int, ...], side: int | None) -> Function:
    """f as it is on that side of at[index], and mirrored at the kink on the other: the slope there
    is that side's. BOTH: (f(x + t) − f(x − t)) / 2, whose slope is the mean. None: f itself."""
    if side is None:
        return f
    x, y = at[index], f(at)

    def mirrored(value: np.ndarray) -> np.ndarray:
        t = value[index] - x
        other = value.copy()
        other[index] = x - t
        if side == BOTH:
            return y + (f(value) - f(other)) / 2
        return f(value) if t * side >= 0 else 2 * y - f(other)

    return mirrored
