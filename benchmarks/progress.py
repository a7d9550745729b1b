"""How far a `handgrad bench` has come: its rows and the state of both sides, in a checkpoint."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.checkpoint import load, save
from benchmarks.data import Dataset
from benchmarks.mnist import Settings
from benchmarks.results import sweep, write_probe
from benchmarks.tensor_file import TensorFileError

KEPT = ("about", "began", "rows", "states")


@contextmanager
def held(path: Path | None) -> Iterator[None]:
    """Keep other runs from this checkpoint (a file or a folder) in the meantime. The lock beside it
    is the system's: it ends with the process, however that ends.

    Raises TensorFileError where another run has it, OSError where none could be made."""
    if path is None:
        yield
        return
    write_probe(path.parent)
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock")).acquire(timeout=0)
    except Timeout:
        raise TensorFileError(f"{path}: another run is at it") from None
    with lock:
        yield


@dataclass
class Progress:
    """path: of the checkpoint, or None. about: what is trained, and on what. began: when it did,
    however often it was stopped since. rows: of all finished epochs. states: side → that of `fit`.
    saved: the epoch that the checkpoint holds, or 0."""

    path: Path | None
    about: dict[str, Any]
    began: datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    saved: int = 0

    @property
    def epochs(self) -> int:
        """How many both sides have finished."""
        return len(self.rows) // 2

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of one more epoch, whose states are in `states`; on disk, too, if there is
        a checkpoint. Raises OSError naming its path; what was there before is there still."""
        self.rows += rows
        if self.path is not None:
            kept = {name: getattr(self, name) for name in KEPT}
            save({**kept, "began": self.began.isoformat()}, self.path)
            self.saved = self.epochs

    def told(self) -> str:
        """What to say of the checkpoint where the run is stopped."""
        return f"; {self.path} holds epoch {self.saved}" if self.saved else ""


def begin(path: Path | None, resume: bool, settings: Settings, data: Dataset) -> Progress:
    """A run that begins, or with `resume` goes on from the checkpoint, if there is one yet.

    Raises TensorFileError for a checkpoint of another run, or one that is there without `resume`,
    OSError where it could not be written."""
    now = datetime.now(UTC)
    if path is None:
        return Progress(None, {}, now)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    write_probe(path.parent)
    sweep(path)
    about = about_run(settings, data)
    if not path.exists():
        if resume:
            print(f"no checkpoint at {path} yet: the run begins", file=sys.stderr)
        return Progress(path, about, now)
    if not resume:
        raise TensorFileError(f"{path} is there already: --resume goes on from it")
    return _resumed(path, about, settings.epochs)


def about_run(settings: Settings, data: Dataset) -> dict[str, Any]:
    """What must be the same in a run that is resumed: all but the number of epochs."""
    digest = hashlib.sha256()
    for array in (data.train_x, data.train_y, data.test_x, data.test_y):
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    about = {"dataset": data.name, **asdict(settings), "data": digest.hexdigest()}
    del about["epochs"]
    return about


def check_same(path: Path, here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raise TensorFileError, naming the path, unless both runs are of the same."""
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise TensorFileError(
                f"{path}: of another run: its {name} is {there.get(name)!r}, "
                f"expected {here.get(name)!r}"
            )


def _resumed(path: Path, about: dict[str, Any], epochs: int) -> Progress:
    state = load(path)
    if not isinstance(state, dict) or tuple(state) != KEPT or not isinstance(state["about"], dict):
        raise TensorFileError(f"{path}: a checkpoint, but not of handgrad bench")
    check_same(path, about, state["about"])
    try:
        run = Progress(path, **{**state, "began": datetime.fromisoformat(state["began"])})
        run.saved = run.epochs
        sides = [row["side"] for row in run.rows]
        histories = {side: len(kept["history"]) for side, kept in run.states.items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise TensorFileError(f"{path}: its state cannot be read ({error!r})") from error
    one = {"manual": run.saved, "torch": run.saved}
    if sides != [*one] * run.saved or histories != one or not run.saved:
        raise TensorFileError(f"{path}: its rows and states do not belong together")
    if run.saved > epochs:
        raise TensorFileError(f"{path}: holds epoch {run.saved}, expected at most {epochs}")
    return run
