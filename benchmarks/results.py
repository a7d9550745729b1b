"""Where a result came from, and how it reaches the disk."""

import glob
import os
import platform
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.blas import numpy_blas

PROJECT = Path(__file__).parents[1]


def provenance() -> dict[str, str | int | bool | None]:
    """Machine, BLAS, versions and the project's git state, for every row of a result."""
    return {
        "machine": _cpu(),
        "cores": available_cores(),
        "system": platform.platform(),
        "blas": _numpy_blas(),
        "torch_blas": "MKL" if torch.backends.mkl.is_available() else "other",
        "handgrad": version("handgrad"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        **git_state(PROJECT),
    }


@cache  # as it was when the code was loaded, or soon after
def git_state(project: Path) -> dict[str, str | bool | None]:
    """The commit that is checked out in `project`, and whether files differ from it; both None
    where it is no checkout of its own, as when installed below somebody else's."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(project), *args]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).samefile(project):
            commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
            return {"git_commit": commit, "git_dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        pass  # no git, no checkout, no commit yet, or somebody else's
    return {"git_commit": None, "git_dirty": None}


def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _numpy_blas() -> str:
    """Library, version and kernel set of NumPy's BLAS."""
    info = numpy_blas()
    if info is not None:
        return f"{info['internal_api']} {info['version']} {info.get('architecture', '')}".strip()
    build = np.show_config("dicts")["Build Dependencies"]["blas"]
    return f"{build['name']} {build['version']}"


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write the rows, whole or not at all. Raises OSError naming the path."""
    replace(path, pd.DataFrame(rows).to_csv(index=False).encode())


def replace(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a temporary file beside it, then a rename. Raises
    OSError naming the path, where there is then what was there before."""
    try:
        _replace(path, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def sweep(path: Path) -> None:
    """Delete what `replace` leaves beside `path` where it is killed."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        leftover.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name without content
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):  # as after the rename
            os.unlink(name)


def write_probe(out: Path) -> None:
    """Make the folder, and see that a file can be written there."""
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".write-probe"
    probe.touch()
    probe.unlink(missing_ok=True)  # another run may have been here


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
