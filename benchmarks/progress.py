"""How far a `handgrad bench` has come: its rows and the state of both sides, in a checkpoint."""

import errno
import hashlib
import os
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import load, save
from benchmarks.data import Dataset
from benchmarks.mnist import Settings
from benchmarks.results import sweep, write_probe
from benchmarks.tensor_file import TensorFileError

KEPT = ("about", "started", "rows", "states")


@dataclass
class Progress:
    """path: of the checkpoint, or None. about: what is trained, and on what. started: the time, as
    the names of the results have it. rows: of all finished epochs. states: side → that of `fit`.
    saved: the epoch that the checkpoint holds, or 0."""

    path: Path | None
    about: dict[str, Any]
    started: str
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
            save({name: getattr(self, name) for name in KEPT}, self.path)
            self.saved = self.epochs

    def told(self) -> str:
        """What to say of the checkpoint where the run is stopped."""
        return f"; {self.path} holds epoch {self.saved}" if self.saved else ""


def begin(path: Path | None, resume: bool, settings: Settings, data: Dataset) -> Progress:
    """A run that begins, or with `resume` goes on from the checkpoint, if there is one yet.

    Raises TensorFileError for a checkpoint of another run, or one that is there without `resume`,
    OSError where it could not be written."""
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    if path is None:
        return Progress(None, {}, now)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    write_probe(path.parent)
    sweep(path)
    about = _about(settings, data)
    if not path.exists():
        if resume:
            print(f"no checkpoint at {path} yet: the run begins", file=sys.stderr)
        return Progress(path, about, now)
    if not resume:
        raise TensorFileError(f"{path} is there already: --resume goes on from it")
    return _resumed(path, about, settings.epochs)


def _about(settings: Settings, data: Dataset) -> dict[str, Any]:
    """What must be the same in a run that is resumed: all but the number of epochs."""
    digest = hashlib.sha256()
    for array in (data.train_x, data.train_y, data.test_x, data.test_y):
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    about = {"dataset": data.name, **asdict(settings), "data": digest.hexdigest()}
    del about["epochs"]
    return about


def _resumed(path: Path, about: dict[str, Any], epochs: int) -> Progress:
    state = load(path)
    if not isinstance(state, dict) or tuple(state) != KEPT or not isinstance(state["about"], dict):
        raise TensorFileError(f"{path}: a checkpoint, but not of handgrad bench")
    run = Progress(path, **state)
    for name in about.keys() | run.about.keys():
        here, there = about.get(name), run.about.get(name)
        if here != there:
            raise TensorFileError(
                f"{path}: of another run: its {name} is {there!r}, expected {here!r}"
            )
    if not _sound(run):
        raise TensorFileError(f"{path}: its rows and states do not belong together")
    run.saved = run.epochs
    if run.saved > epochs:
        raise TensorFileError(f"{path}: holds epoch {run.saved}, expected at most {epochs}")
    return run


def _sound(run: Progress) -> bool:
    """Whether there are two rows, and an entry in the history of both states, for each epoch."""
    try:
        sides = [row["side"] for row in run.rows]
        histories = [len(run.states[side]["history"]) for side in ("manual", "torch")]
        return sides == ["manual", "torch"] * run.epochs and histories == [run.epochs] * 2
    except (LookupError, TypeError):
        return False
