"""How far rounding can move a learning rate, a number of Python's on either side."""

import math
from functools import singledispatch
from typing import Any

from torch.optim import lr_scheduler

DOUBLE = 2.0**-53


@singledispatch
def rate_rule(
    scheduler: lr_scheduler.LRScheduler, group: dict[str, Any], epochs: int, low: float = 0.0
) -> float:
    """E of the group's rate after `epochs` steps of the schedule in all, each of a few roundings
    beside the largest rate. low: another rate that the formula adds or takes away."""
    size = max(abs(group["lr"]), abs(group.get("initial_lr", 0.0)), abs(low))
    return 8 * max(1, epochs) * DOUBLE * size


@rate_rule.register
def _cosine_annealing_lr(scheduler: lr_scheduler.CosineAnnealingLR, group, epochs):
    """η ← η_min + (η − η_min) c(e) / c(e − 1), c(e) = 1 + cos(π e / T).

    Past its lowest point the rate grows from η(T + 1) − η_min, which is c(T + 1) / 2 of the way,
    and with it the roundings that are left from there: by 2 / c(T + 1) at most.
    """
    e = rate_rule.dispatch(object)(scheduler, group, epochs, scheduler.eta_min)
    if epochs > scheduler.T_max:
        e *= 2 / (1 - math.cos(math.pi / scheduler.T_max))
    return e
