"""manual's step with other settings, which NumPy must see before it loads: in processes of their
own, in turns. `python -m benchmarks.steps.probe` loads NumPy and manual alone."""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import NamedTuple

from benchmarks.blas import cpu_flags, numpy_blas
from benchmarks.steps import advice
from benchmarks.steps.alone import read_problem, run_alone
from benchmarks.steps.contestant import MANUAL, make
from benchmarks.steps.problem import Problem
from benchmarks.steps.timing import interleaved

TURNS = 7  # of which the median counts, in each process


class Setting(NamedTuple):
    """threads; kernels: what OPENBLAS_CORETYPE is set to, "" for as it is."""

    threads: int
    kernels: str = ""

    def __str__(self) -> str:
        text = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{text}, {advice.VARIABLE}={self.kernels}" if self.kernels else text


class Advice(NamedTuple):
    """us: microseconds a step, round by round, the present setting first; lines: what to say."""

    us: dict[Setting, list[float]]
    lines: list[str]


def answer(request: dict) -> dict:
    """{"us": of a step, "kernels": the set that OpenBLAS runs}."""
    problem = read_problem(request["problem"])
    seconds = interleaved({MANUAL: make(MANUAL, problem)}, TURNS, problem.seed)[MANUAL]
    return {"us": 1e6 * median(seconds.tolist()), "kernels": _kernels()}


def advise(
    problem: Problem,
    threads: int,
    cores: int,
    rounds: int,
    thorough: bool,
    progress: Callable[[str], object] = lambda what: None,
) -> Advice:
    """Measure the settings that may be faster than the present one, and say so where one is.

    thorough: try many thread counts, and not only the next ones, and say also that wider kernels
    gain nothing. Raises ChildError."""
    kernels = _kernels()
    wider = advice.wider_kernels(kernels, cpu_flags())
    now = Setting(threads)
    settings = [now]
    settings += [Setting(threads, wider)] if wider else []
    settings += [Setting(n) for n in advice.other_threads(threads, cores, thorough)]
    us: dict[Setting, list[float]] = {setting: [] for setting in settings}
    order = random.Random(problem.seed)
    took = False
    for _ in range(rounds if len(settings) > 1 else 1):
        for setting in order.sample(settings, len(settings)):
            progress(str(setting))
            found = _measure(problem, setting)
            us[setting].append(found["us"])
            took |= bool(setting.kernels) and found["kernels"] != kernels
    gains = {setting: advice.gain(us[now], own) for setting, own in us.items()}
    lines = []
    if took:  # an OpenBLAS that was built for one kind of CPU does not look at the variable
        measured = gains[Setting(threads, wider)]
        if thorough or measured.worth:
            lines.append(advice.kernels_line(kernels, wider, measured))
    others = {s.threads: each for s, each in gains.items() if s != now and not s.kernels}
    lines += filter(None, [advice.threads_line(threads, others)])
    return Advice(us, lines)


def _measure(problem: Problem, setting: Setting) -> dict:
    environment = {advice.VARIABLE: setting.kernels} if setting.kernels else {}
    return run_alone(__name__, {"problem": asdict(problem)}, setting.threads, environment)


def _kernels() -> str:
    return (numpy_blas() or {}).get("architecture") or "unknown"


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
