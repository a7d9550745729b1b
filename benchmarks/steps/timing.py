"""How long a step takes: short rounds in which everybody has a turn, in shuffled order.

A machine's speed drifts, and whoever runs in the same few milliseconds sees the same speed: so
what is compared are the ratios within a round.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from typing import NamedTuple

import numpy as np

from benchmarks.steps.contestant import MANUAL, Contestant

# Seconds that a turn lasts at least: so long that neither the clock's own time counts nor the first
# steps, which find the caches full of somebody else's data; who trains has no such neighbours.
TURN = 20e-3
TURN_ON_GPU = 30e-3  # nor the time to wait for the GPU


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Quartiles":
        return cls(*(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])))


def interleaved(
    contestants: Mapping[str, Contestant], rounds: int, seed: int, turn: float = TURN
) -> dict[str, np.ndarray]:
    """Name → seconds for a step, one for each round: the mean of as many steps as last `TURN`.
    Every turn begins with the same weights and one step that is not timed. On a GPU the clock is
    read when everything is done that the GPU was asked for, before the first step and after the
    last; turns are longer there, so that the waiting does not count."""
    order = np.random.default_rng([seed, 2])
    names = list(contestants)
    seconds = {name: np.empty(rounds) for name in names}
    with collector_off():
        steps = {name: _steps_in(contestant, turn) for name, contestant in contestants.items()}
        for k in range(rounds):
            for i in order.permutation(len(names)):
                name = names[i]
                seconds[name][k] = _turn(contestants[name], steps[name]) / steps[name]
    return seconds


def ratios(seconds: Mapping[str, np.ndarray], to: str = MANUAL) -> dict[str, np.ndarray]:
    """Round by round, how many times as long as `to` each took."""
    return {name: own / seconds[to] for name, own in seconds.items()}


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection meanwhile: it would stop whoever's turn it is."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _steps_in(contestant: Contestant, turn: float) -> int:
    """How many steps last `turn` seconds, at least."""
    steps = 1
    while (seconds := _turn(contestant, steps)) < turn:
        steps = min(10 * steps, math.ceil(1.1 * turn / seconds * steps))
    return steps


def _turn(contestant: Contestant, steps: int) -> float:
    contestant.restart()
    contestant.step()
    contestant.wait()
    return timed(contestant.step, steps, contestant.wait)


def timed(
    step: Callable[[], object], times: int, wait: Callable[[], object] = lambda: None
) -> float:
    """Seconds for calling it so often, and then waiting."""
    start = time.perf_counter()
    for _ in repeat(None, times):
        step()
    wait()
    return time.perf_counter() - start
