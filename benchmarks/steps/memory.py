"""Peak memory of a training by manual, above the interpreter with NumPy loaded.

`python -m benchmarks.steps.memory` is a process in which nothing else is; as in `alone`, it is told
on stdin the folder that holds x.npy and y.npy, the images as uint8 and their labels.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

BATCH, SCALE = 64, 1 / 255


def peak() -> float:
    """The most memory that this process has ever had at once, in MiB."""
    try:  # Linux; what getrusage says there may be the parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    except OSError:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / (2**20 if sys.platform == "darwin" else 2**10)


def trained_above(folder: str) -> float:
    """How many MiB the data, manual and one epoch of training come to."""
    before = peak()
    from benchmarks.steps.problem import Problem, setup
    from manual.training import fit

    x, y = np.load(Path(folder, "x.npy")), np.load(Path(folder, "y.npy"))
    net, criterion, optimizer, *_ = setup(Problem(batch=BATCH))
    generator = np.random.default_rng(0)
    options = {"epochs": 1, "batch_size": BATCH, "generator": generator, "scale": SCALE}
    fit(net, criterion, optimizer, x, y, **options)
    return peak() - before


def measure(x: np.ndarray, y: np.ndarray) -> float:
    """`trained_above`, from another process. Raises ChildError."""
    from benchmarks.steps.alone import run_alone

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), x)
        np.save(Path(folder, "y.npy"), y)
        return run_alone(__name__, folder, threads=1)


if __name__ == "__main__":
    print(json.dumps(trained_above(json.load(sys.stdin))))
