"""Every point of a sweep: who takes part is proven, then timed; a row for each."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.mnist import equal_threads, gpu_name
from benchmarks.steps.alone import measure_alone
from benchmarks.steps.contestant import MANUAL, LeftOut, make, makers
from benchmarks.steps.problem import HOMEWORK, Problem
from benchmarks.steps.proof import NotEqual, Proof
from benchmarks.steps.timing import TURN, TURN_ON_GPU, Quartiles, interleaved, ratios
from compare.device import true_float32

BATCHES = (1, 8, 32, 128, 512)
BATCHES_ON_GPU = (1, 64, 512, 4096)
ROUNDS, QUICK_ROUNDS = 40, 5
LONGER = 5  # times as many rounds for who runs alone: nobody else saw the same moments


class Point(NamedTuple):
    """A problem, and with how many threads."""

    problem: Problem
    threads: int


class Outcome(NamedTuple):
    """Of one point. rows: one for each contestant that was timed; left_out, not_equal: name →
    why, of those that were not."""

    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    not_equal: dict[str, str]


def default_points(
    threads: Collection[int], seed: int, quick: bool, device: str = "cpu"
) -> list[Point]:
    """A small network over batch sizes, a larger one, and the homework's. quick: less of each."""
    small = Problem(seed=seed, device=device)
    wide = replace(small, widths=(784, 512, 512, 10))
    batches = _batches(quick, device)
    problems = [replace(small, batch=n) for n in batches]
    problems += [] if quick else [replace(wide, batch=n) for n in batches[-3:]]
    problems.append(replace(HOMEWORK, seed=seed, device=device))
    return [Point(problem, n) for n in threads for problem in problems]


def points_of(
    problem: Problem, batches: Collection[int], threads: Collection[int], quick: bool
) -> list[Point]:
    """One network over batch sizes (none: the usual ones) and thread counts."""
    batches = batches or _batches(quick, problem.device)
    problems = [replace(problem, batch=n) for n in batches]
    return [Point(problem, n) for n in threads for problem in problems]


def _batches(quick: bool, device: str) -> tuple[int, ...]:
    if device == "cuda":
        return (64,) if quick else BATCHES_ON_GPU
    return (1, 32) if quick else BATCHES


def measure(
    points: Collection[Point],
    names: Collection[str],
    rounds: int,
    progress: Callable[[str], object] = lambda what: None,
) -> Iterator[Outcome]:
    """The outcome of each point, one after the other. names: of `makers`; manual always takes
    part, for everybody is compared with it."""
    for point in points:
        own = [n for n in makers(point.problem.device) if n in names or n == MANUAL]
        one = point.threads == 1
        yield (_together if one else _one_by_one)(point, own, rounds, progress)


def _together(
    point: Point, names: list[str], rounds: int, progress: Callable[[str], object]
) -> Outcome:
    """All in this process, in turns."""
    problem = point.problem
    contestants, used, left_out, not_equal = {}, {}, {}, {}
    turn = TURN if problem.device == "cpu" else TURN_ON_GPU
    with equal_threads(1), true_float32(problem.device):
        proof = Proof(problem)
        for name in names:
            progress(f"{_where(problem)}: proving {name}")
            try:
                contestants[name] = make(name, problem)
                used[name] = proof.check(contestants[name])
            except LeftOut as error:
                left_out[name] = one_line(error)
            except NotEqual as error:
                not_equal[name] = str(error)
                del contestants[name]
        progress(f"{_where(problem)}: timing")
        alone = MANUAL not in contestants
        seconds = {} if alone else interleaved(contestants, rounds, problem.seed, turn)
    shares = {name: Quartiles.of(each) for name, each in ratios(seconds).items()}
    rows = [_row(point, name, seconds[name], shares[name], used[name]) for name in seconds]
    return Outcome(rows, left_out, not_equal)


def _one_by_one(
    point: Point, names: list[str], rounds: int, progress: Callable[[str], object]
) -> Outcome:
    """Each in a process of its own, alone: ratios are those of the medians."""
    found, left_out, not_equal = {}, {}, {}
    for name in names:
        progress(f"{_where(point.problem)}, {point.threads} threads: {name}")
        answer = measure_alone(point.problem, name, point.threads, LONGER * rounds)
        if "left_out" in answer:
            left_out[name] = one_line(answer["left_out"])
        elif "not_equal" in answer:
            not_equal[name] = answer["not_equal"]
        else:
            found[name] = np.array(answer["seconds"]), answer["used"]
    rows = []
    if MANUAL in found:
        mine = np.median(found[MANUAL][0])
        for name, (seconds, used) in found.items():
            ratio = Quartiles(np.nan, float(np.median(seconds) / mine), np.nan)
            rows.append(_row(point, name, seconds, ratio, used))
    return Outcome(rows, left_out, not_equal)


def _row(
    point: Point, name: str, seconds: np.ndarray, ratio: Quartiles, used: float
) -> dict[str, Any]:
    problem, us = point.problem, Quartiles.of(1e6 * seconds)
    return {
        "network": problem.network,
        "loss": problem.loss,
        "dtype": problem.dtype,
        "threads": point.threads,
        "device": problem.device,
        "gpu": gpu_name(problem.device),
        "batch": problem.batch,
        "contestant": name,
        "us": us.median,
        "us_q1": us.low,
        "us_q3": us.high,
        "times_manual": ratio.median,
        "times_manual_q1": ratio.low,
        "times_manual_q3": ratio.high,
        "rounds": len(seconds),
        "of_rounding": used,
        "seed": problem.seed,
    }


def _where(problem: Problem) -> str:
    return f"{problem.network}, batch {problem.batch}"


def one_line(message: object) -> str:
    """The first line of what may be long, and not more than fits."""
    lines = str(message).strip().splitlines() or [""]
    return lines[0] if len(lines[0]) <= 300 else f"{lines[0][:297]}..."
