"""The checkpoints of the study: a file for each run and side, in one folder."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import load, save
from benchmarks.progress import check_same
from benchmarks.results import sweep, write_probe
from benchmarks.tensor_file import TensorFileError

KEPT = ("about", "of", "began", "state")


class Kept:
    """folder: of the checkpoints. about: what must be the same in a study that goes on. seeds:
    what it is asked for. began: when it did with one of them, however often it was stopped since.

    Raises TensorFileError for checkpoints that are there without `resume`, OSError where none
    could be written."""

    def __init__(self, folder: Path, resume: bool, about: dict[str, Any], seeds: range) -> None:
        write_probe(folder)
        self.folder, self.about = folder, about
        self.began = datetime.now(UTC)
        there = sorted(folder.glob("seed-*.safetensors"))
        if there and not resume:
            raise TensorFileError(f"{there[0]} is there already: --resume goes on from it")
        for path in there:
            kept = self._load(path)
            if kept["of"].get("seed") in seeds:
                self.began = min(self.began, kept["began"])

    def path(self, seed: int, part: str, side: str) -> Path:
        return self.folder / f"seed-{seed}-{re.sub(' ', '-', part)}-{side}.safetensors"

    def state(self, seed: int, part: str, side: str) -> dict[str, Any] | None:
        """What `fit` goes on from, or None where it begins. Raises TensorFileError for a
        checkpoint of another study, or one that is damaged."""
        path = self.path(seed, part, side)
        sweep(path)
        if not path.exists():
            return None
        kept = self._load(path)
        check_same(path, _of(seed, part, side), kept["of"])
        return kept["state"]

    def keep(self, seed: int, part: str, side: str) -> Callable[[dict[str, Any]], None]:
        """What `fit` calls after every epoch."""
        path, began = self.path(seed, part, side), self.began.isoformat()
        kept = {"about": self.about, "of": _of(seed, part, side), "began": began}
        return lambda state: save({**kept, "state": state}, path)

    def _load(self, path: Path) -> dict[str, Any]:
        kept = load(path)
        if (
            not isinstance(kept, dict)
            or tuple(kept) != KEPT
            or not all(isinstance(kept[name], dict) for name in ("about", "of", "state"))
        ):
            raise TensorFileError(f"{path}: a checkpoint, but not of handgrad homework")
        check_same(path, self.about, kept["about"])
        try:
            return {**kept, "began": datetime.fromisoformat(kept["began"])}
        except (TypeError, ValueError) as error:
            raise TensorFileError(f"{path}: its state cannot be read ({error!r})") from error


def _of(seed: int, part: str, side: str) -> dict[str, Any]:
    return {"seed": seed, "run": part, "side": side}
