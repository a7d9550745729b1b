"""One contestant in a process of its own, whose libraries are told the threads before they load.

The idle threads of one library slow the others down, so with more than one thread nobody else may
be there. Run as `python -m benchmarks.steps.alone`, with a request on stdin and the answer on
stdout, both JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.sharing import THREADS
from benchmarks.steps.problem import Problem


class ChildError(Exception):
    """The process ended without an answer; the message is the last line it wrote."""


def run_alone(
    module: str, request: dict, threads: int, environment: dict[str, str] | None = None
) -> Any:
    """What `python -m module` answers to the request. environment: variables besides those for
    the threads. Raises ChildError."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = dict.fromkeys(THREADS, str(threads)) | (environment or {})
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request),
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ChildError(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])


def answer(request: dict) -> dict:
    """{"used": share of what rounding allows, "seconds": one for each round}, or {"left_out": why},
    or {"not_equal": where}."""
    import threadpoolctl
    import torch

    from benchmarks.steps.contestant import LeftOut, make
    from benchmarks.steps.proof import NotEqual, Proof
    from benchmarks.steps.timing import interleaved

    problem = read_problem(request["problem"])
    name, threads = request["contestant"], request["threads"]
    torch.set_num_threads(1)
    try:
        # What the proof needs wakes no threads that would be idle beside a contestant's own.
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            proof = Proof(problem)
            torch.set_num_threads(threads)
            contestant = make(name, problem)
        used = proof.check(contestant)
    except LeftOut as error:
        return {"left_out": str(error)}
    except NotEqual as error:
        return {"not_equal": str(error)}
    seconds = interleaved({name: contestant}, request["rounds"], problem.seed)
    return {"used": used, "seconds": seconds[name].tolist()}


def read_problem(fields: dict) -> Problem:
    return Problem(**{**fields, "widths": tuple(fields["widths"])})


def measure_alone(problem: Problem, name: str, threads: int, rounds: int) -> dict:
    """`answer`, from another process. Raises ChildError."""
    request = {
        "problem": asdict(problem),
        "contestant": name,
        "threads": threads,
        "rounds": rounds,
    }
    return run_alone(__name__, request, threads)


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
