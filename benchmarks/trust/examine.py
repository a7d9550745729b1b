"""Every checker on one network after another: as it is, and with each error planted in it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from benchmarks.sharing import shared
from benchmarks.trust import checkers
from benchmarks.trust.checkers import Verdict
from benchmarks.trust.networks import Network, exact_step, network
from benchmarks.trust.planted import ERRORS, Place, dead, place, plant

CHECKERS = ("handgrad", "assert_close", "allclose", "gradcheck")
CORRECT, DEAD = "correct", "zero on both"
# Every so manyth network: gradcheck, which is slow, gets it; the errors that are found always or
# never are planted in it; it runs with two threads.
GRADCHECKED, OFTEN, THREADED = 20, 25, 20


class Finding(NamedTuple):
    """says: a `Verdict`'s, or why there is none: "not run", or why nobody could find the error.
    redrawn: of the network, as there."""

    number: int
    dtype: str
    experiment: str
    checker: str
    says: str
    where: str
    seconds: float
    redrawn: int


def examine(seed: int, number: int, every: bool = False) -> list[Finding]:
    """All findings on one network. every: with all errors, whatever its number."""
    with _threads(threads(number)):
        given = network(seed, number)
        return list(_examine(seed, number, given, every or number % OFTEN == 0))


def threads(number: int) -> int:
    """How many either side runs network `number` with."""
    return 2 if number % THREADED == THREADED // 2 else 1


def _examine(seed: int, number: int, given: Network, every: bool) -> Iterator[Finding]:
    slow = number % GRADCHECKED == 0
    dtype = str(given.dtype)

    def findings(experiment: str, verdicts: dict[str, Verdict | None]) -> Iterator[Finding]:
        for checker in CHECKERS:
            verdict = verdicts.get(checker) or Verdict("not run", "", 0.0)
            yield Finding(number, dtype, experiment, checker, *verdict, given.redrawn)

    pairs, seconds = checkers.trace(given, given.steps)
    torchs = {pair.name: pair.torch for pair in pairs if pair.step == 1}
    exact = exact_step(given)

    def placed(error: str) -> Place:
        return place(given, torchs, exact, error, np.random.default_rng((seed, number)))

    yield from findings(
        CORRECT,
        {
            "handgrad": checkers.handgrad(given, given.steps),
            "assert_close": checkers.assert_close(pairs, seconds),
            "allclose": checkers.allclose(pairs, seconds),
            "gradcheck": checkers.gradcheck(given, placed("entry")) if slow else None,
        },
    )
    for error in ERRORS if every else ERRORS[:1]:
        where = placed(error)
        if where.hopeless:
            hopeless = Verdict(where.hopeless, where.row, 0.0)
            yield from findings(error, dict.fromkeys(CHECKERS, hopeless))
            continue
        wrong = plant(given, error, where)
        pairs, seconds = checkers.trace(wrong, 1)
        yield from findings(
            error,
            {
                # What the two sides differ in needs no oracle to be found, and it takes time.
                "handgrad": checkers.handgrad(wrong, 1, oracle=False),
                "assert_close": checkers.assert_close(pairs, seconds),
                "allclose": checkers.allclose(pairs, seconds),
                "gradcheck": checkers.gradcheck(wrong, where) if slow else None,
            },
        )
    if every:
        wrong = dead(given)
        pairs, seconds = checkers.trace(wrong, 1)
        yield from findings(
            DEAD,
            {
                "handgrad": checkers.handgrad(wrong, 1, vacuous=(), oracle=False),
                "assert_close": checkers.assert_close(pairs, seconds),
                "allclose": checkers.allclose(pairs, seconds),
            },
        )


def examine_all(
    seed: int, networks: int, processes: int, progress: Callable[[str], object]
) -> Iterator[list[Finding]]:
    """The findings on network 0, 1, … networks − 1, which do not depend on how many processes
    share them, but for the times. Raises `sharing.WorkerDied`, naming the network."""
    progress(f"0 of {networks}")
    work = functools.partial(examine, seed)
    found = shared(work, range(networks), processes, lambda number: f"network {number}")
    for done, examined in enumerate(found, 1):
        yield examined
        progress(f"{done} of {networks}")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Both libraries with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with _libraries().limit(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Those loaded by now; to look for them takes milliseconds."""
    return ThreadpoolController()
