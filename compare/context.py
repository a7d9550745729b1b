"""What it takes to see the same again: seed, versions, threads, and the line to run."""

import os
import platform
import shlex
import sys
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from compare.device import described


def check_seed(where: str, seed: Any) -> None:
    """Raises TypeError or ValueError for what a Generator does not take."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"{where}: seed must be a whole number, got {seed!r}")
    if seed < 0:
        raise ValueError(f"{where}: seed must be >= 0, got {seed}")


def context(seed: int | None, device: str) -> str:
    """Two lines: what was used, and how to run it again."""
    blas = [pool for pool in _libraries().info() if pool["user_api"] == "blas"]
    threads = [f"torch {torch.get_num_threads()}"]
    threads += [f"{pool['internal_api']} {pool['num_threads']}" for pool in blas]
    return (
        f"seed {seed}, numpy {np.__version__}, torch {torch.__version__} on {described(device)}, "
        f"python {platform.python_version()}, {platform.machine()}, "
        f"threads: {', '.join(threads)}\nreproduce: {_command()}"
    )


@cache
def _libraries() -> ThreadpoolController:
    """Looked for once, which takes milliseconds; how many threads they have is asked each time."""
    return ThreadpoolController()


def _command() -> str:
    """The test that runs, or the command line."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return shlex.join(["pytest", test] if test else sys.orig_argv)
