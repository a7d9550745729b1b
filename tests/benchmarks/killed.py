"""Runs of `handgrad bench` that are killed with SIGKILL and resumed, over and over.

A process of its own, which test_killed.py starts: it imports and proves once, and then forks the
runs, so that fifty of them take seconds. Prints what it saw as JSON.

    python -m tests.benchmarks.killed FOLDER random SEED KILLS
    python -m tests.benchmarks.killed FOLDER points
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks import bench
from benchmarks.checkpoint import load
from benchmarks.data import Dataset
from benchmarks.mnist import Settings, make_pair, prove

RNG = np.random.default_rng(0)
DATA = Dataset(
    "tiny",
    *(RNG.integers(0, 256, (60, 16), dtype=np.uint8), RNG.integers(0, 10, 60)),
    *(RNG.integers(0, 256, (20, 16), dtype=np.uint8), RNG.integers(0, 10, 20)),
)
SETTINGS = Settings(hidden=(5,), epochs=10**6, batch_size=8, momentum=0.9, lr=0.01)
TIMES = ("seconds", "samples_per_second", "epochs")


def forked(folder: Path, epochs: int, prepare=lambda: None) -> int:
    """Start (or resume) the run in a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        prepare()
        settings = replace(SETTINGS, epochs=epochs)
        status = bench.bench(settings, DATA, folder, False, True, folder / "run.safetensors", True)
        os._exit(status)
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def finished(pid: int) -> bool:
    """Wait for its end: True after exit status 0, False where it was killed."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return False
    assert os.WEXITSTATUS(status) == 0, status
    return True


def saved(folder: Path) -> int:
    """The epoch of the checkpoint, which must be whole at any time; 0 without one."""
    path = folder / "run.safetensors"
    return len(load(path)["rows"]) // 2 if path.exists() else 0


def timeless(folder: Path) -> dict:
    """The checkpoint without what a clock has put there."""
    found = load(folder / "run.safetensors")
    found["rows"] = [{k: v for k, v in row.items() if k not in TIMES} for row in found["rows"]]
    for state in found["states"].values():
        state["history"] = [entry[:3] for entry in state["history"]]
    return {key: found[key] for key in ("about", "rows", "states")}


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def leftovers(folder: Path) -> list[str]:
    """Temporary files; what locks runs.csv is none."""
    names = (p.name for p in folder.iterdir())
    return sorted(name for name in names if name.startswith((".run.safetensors.", ".bench-")))


def rows_written(folder: Path) -> int:
    """How many lines the one CSV has."""
    (path,) = folder.glob("bench-*.csv")
    return len(path.read_text().splitlines()) - 1


def at_random(folder: Path, seed: int, kills: int) -> dict:
    rng, epochs, midst, path = random.Random(seed), [0], 0, folder / "run.safetensors"
    for _ in range(kills):
        before = path.stat().st_ino if path.exists() else None
        pid = forked(folder, SETTINGS.epochs)
        if rng.random() < 0.8:  # let it get on; else it may be killed before it has begun
            while (path.stat().st_ino if path.exists() else None) == before:
                time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert not finished(pid)
        midst += bool(leftovers(folder))
        epochs.append(saved(folder))
    assert all(a <= b for a, b in pairwise(epochs)), epochs
    last = epochs[-1] + 2
    assert finished(forked(folder, last))
    whole = folder / "whole"
    assert finished(forked(whole, last))
    return {
        "kills": kills,
        "epochs": last,
        "in the midst of a write": midst,
        "same": same(timeless(folder), timeless(whole)),
        "rows": rows_written(folder),
        "left": leftovers(folder),
    }


def killing(name: str, call: int, after: bool):
    """Have the process killed at a call of os.NAME."""

    def prepare() -> None:
        real, calls = getattr(os, name), []

        def wrapper(*args, **kwargs):
            calls.append(name)
            if len(calls) == call and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, wrapper)

    return prepare


def half_written(call: int):
    """Have the process killed when half of a file is on the disk."""

    def prepare() -> None:
        real, calls = os.fdopen, []

        def wrapper(handle, mode):
            calls.append(mode)
            file = real(handle, mode)
            if len(calls) < call:
                return file

            class Half:
                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    pass

                def write(self, content):
                    file.write(content[: len(content) // 2])
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)

            return Half()

        os.fdopen = wrapper

    return prepare


def at_points(folder: Path) -> dict:
    """Killed at every point of a write in epoch 3: of the checkpoint (call 5), of the CSV (6)."""
    whole, found = folder / "whole", {}
    assert finished(forked(whole, 5))
    points = {
        f"{'after' if after else 'before'} {name} {call}": killing(name, call, after)
        for name in ("fdopen", "fsync", "chmod", "replace")
        for call in (5, 6)
        for after in (False, True)
    }
    points |= {f"half {call}": half_written(call) for call in (5, 6)}
    for what, prepare in points.items():
        own = folder / what.replace(" ", "-")
        assert not finished(forked(own, 5, prepare)), what
        at = saved(own)
        assert finished(forked(own, 5)), what
        assert rows_written(own) == 10, what
        assert not leftovers(own), what
        found[what] = at if same(timeless(own), timeless(whole)) else "differs"
    return found


def main(folder: str, how: str, *numbers: str) -> None:
    torch.set_num_threads(1)
    proof = prove(make_pair(SETTINGS, 16, 10), DATA, SETTINGS)
    bench.prove = lambda *args: proof
    bench.hint = bench.plot = lambda *args: None
    run = {"random": at_random, "points": at_points}[how]
    print(json.dumps(run(Path(folder), *map(int, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
