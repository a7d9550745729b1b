"""How long a step takes, and how much of it is the all-reduce.

Every process runs the same steps at the same time, in turns of a few milliseconds: of manual and
of torch, each as it is and without adding anything up. A turn lasts as long as its slowest
process. What the sum takes, waiting for the others included, is what is left when the step without
it is taken off.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.data import Dataset
from benchmarks.distributed.group import Alone, Group
from benchmarks.distributed.sides import Side, pair_of
from benchmarks.mnist import Settings, make_pair
from benchmarks.steps.timing import collector_off

TURN = 0.02  # seconds: more than for one process, for a turn begins when the last one is there
ROUNDS = 15


class OnItsOwn(Alone):
    """Rank r of N that adds nothing up."""

    def __init__(self, group: Group) -> None:
        self.rank, self.world = group.rank, group.world


class Step(NamedTuple):
    """us: microseconds; share: of them for the all-reduce, 0 to 1 (less than 0 where noise is more
    than there is to measure); medians over the rounds."""

    us: float
    share: float


def measure(
    group: Group,
    data: Dataset,
    settings: Settings,
    progress: Callable[[str], object] = lambda what: None,
    rounds: int = ROUNDS,
) -> dict[str, Step]:
    """ "manual" and "torch", on the first global batch of the data."""
    steps = {}
    for name, of in (("whole", group), ("alone", OnItsOwn(group))):
        for side in _sides(of, data, settings, group):
            steps[side.name, name] = side
    index = np.arange(min(settings.batch_size, len(data.train_x)))
    order = np.random.default_rng([settings.seed, 2])
    keys = list(steps)
    seconds = {key: np.empty(rounds) for key in keys}
    with collector_off():
        counts = {key: _steps_in(group, steps[key], index) for key in keys}
        for k in range(rounds):
            progress(f"round {k + 1} of {rounds}")
            for i in order.permutation(len(keys)):
                key = keys[i]
                seconds[key][k] = _turn(group, steps[key], index, counts[key]) / counts[key]
    found = {}
    for name in dict.fromkeys(name for name, _ in keys):
        whole, alone = seconds[name, "whole"], seconds[name, "alone"]
        found[name] = Step(1e6 * float(np.median(whole)), 1 - float(np.median(alone / whole)))
    return found


def _sides(of: Group | Alone, data: Dataset, settings: Settings, group: Group) -> list[Side]:
    pair = make_pair(settings, data.train_x.shape[1], data.classes)
    few = slice(0, settings.batch_size)
    return pair_of(of, pair, data.train_x[few], data.train_y[few], group.device)


def _steps_in(group: Group, side: Side, index: np.ndarray) -> int:
    """How many steps last `TURN` seconds, the same number for all processes."""
    steps = 1
    while (seconds := _turn(group, side, index, steps)) < TURN:
        steps = min(10 * steps, math.ceil(1.1 * TURN / seconds * steps))
    return steps


def _turn(group: Group, side: Side, index: np.ndarray, steps: int) -> float:
    """Seconds of the slowest process, which all get to know."""
    side.step(index)
    side.wait()
    group.sum(0.0)  # begin together
    start = time.perf_counter()
    for _ in range(steps):
        side.step(index)
    side.wait()
    return group.max(time.perf_counter() - start)[0]
