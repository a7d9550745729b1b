"""runs.csv: a row for each run and side, of every command, that no other run can spoil."""

import csv
import errno
import io
import math
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from benchmarks.results import replace, write_probe

NAME = "runs.csv"
WAIT = 60.0  # seconds, for another run to have written its rows
# What looks like a number and is none: versions, and a commit of digits alone.
TEXT = ("when", "git_commit", "hidden", "digits", "handgrad", "python", "numpy", "torch", "weights")


# Rows that have all of these in common, a moment among them, are of one run and side.
SAME = ("when", "command", "run", "side", "dtype", "seed")


class LogError(OSError):
    """A runs.csv that cannot be used; the message is one line and names the path."""


class Run:
    """One run of a command that is about to begin: the folder is there and can be written to,
    and its runs.csv can be added to.

    began: where it is not now, but was stopped and goes on.
    Raises OSError, naming the path, where that is not so."""

    def __init__(self, folder: Path, command: str, began: datetime | None = None) -> None:
        write_probe(folder)
        if (folder / NAME).exists():
            _parse(folder / NAME)
        self.folder, self.command = folder, command
        self.began = began or datetime.now(UTC)

    def path(self, what: str, suffix: str) -> Path:
        """For a file of this run alone, as bench-sample-20261121T120000.000000Z.csv."""
        words = [self.command, *([what] if what else []), f"{self.began:%Y%m%dT%H%M%S.%fZ}"]
        return self.folder / ("-".join(words) + suffix)

    def record(self, rows: list[dict[str, Any]]) -> None:
        """Append the rows to runs.csv, with the moment the run began and its command."""
        origin = {"when": f"{self.began:%Y-%m-%dT%H:%M:%S.%fZ}", "command": self.command}
        append(self.folder, [origin | row for row in rows])


def append(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to folder/runs.csv, all of them or none, whoever else is adding at the same time.

    What stands there is kept character by character; but a run that goes on (`SAME`) has the row
    that it had, with its new figures. A column that is new comes after those
    there are, and is empty in the rows above. The file is written anew beside the old one, which
    it then replaces: whoever reads meanwhile sees the old rows.

    Raises LogError where what stands there is no table, or where the lock is held for a minute;
    OSError, naming the path, where it cannot be written.
    """
    path = folder / NAME
    if not folder.is_dir():  # which the lock would make again
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
    try:
        with FileLock(folder / f".{NAME}.lock", timeout=WAIT):
            header, old = _parse(path) if path.exists() else ([], [])
            header += [
                name for name in dict.fromkeys(k for row in rows for k in row) if name not in header
            ]
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            table = [cells + [""] * (len(header) - len(cells)) for cells in old]
            new = [[_cell(row.get(name)) for name in header] for row in rows]
            keys = [_same(header, cells) for cells in table]
            places = {key: k for k, key in enumerate(keys) if key is not None}
            for cells in new:
                place = places.get(_same(header, cells))
                if place is None:
                    table.append(cells)
                else:
                    table[place] = cells
            writer.writerows(table)
            replace(path, text.getvalue().encode())
    except Timeout as error:
        raise LogError(f"{error.lock_file}: held by another run for {WAIT:.0f} s") from None


def _same(header: list[str], cells: list[str]) -> tuple[str, ...] | None:
    """What is the same in rows of one run and side; None without the moment it began."""
    row = dict(zip(header, cells, strict=True))
    return tuple(row.get(name, "") for name in SAME) if row.get("when") else None


def read(folder: Path) -> pd.DataFrame:
    """All rows in the order of writing, numbered from 1 (the index, "number").

    Raises LogError where there is no runs.csv, or it is no table."""
    path = folder / NAME
    if not path.exists():
        raise LogError(f"no file {path}: bench, homework and trust write it")
    header, rows = _parse(path)
    columns = {name: _typed(name, [cells[k] for cells in rows]) for k, name in enumerate(header)}
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(rows) + 1, name="number"))


def records(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as they stand there; none where there is no file. Raises LogError
    where it is no table."""
    if not path.exists():
        return []
    header, rows = _parse(path)
    return [dict(zip(header, cells, strict=True)) for cells in rows]


def _typed(name: str, cells: list[str]) -> np.ndarray:
    """Whole numbers, or numbers, exactly as they were written, where all cells are; else text.
    An empty cell is NaN (and makes a column of numbers one of floats), or None."""
    if name not in TEXT:
        with suppress(ValueError, OverflowError):
            return np.array([int(cell) for cell in cells], np.int64)
        with suppress(ValueError):
            return np.array([float(cell) if cell else math.nan for cell in cells])
    return np.array([cell or None for cell in cells], object)


def _cell(value: Any) -> str:
    """As pandas writes it: a float with all its digits, None as nothing."""
    if value is None or value != value:
        return ""
    return str(value)


def _parse(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and rows, as text. Raises LogError, naming the line, for what is no table."""
    try:
        # With the mark that a spreadsheet puts before the text, or without.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = []
            for cells in reader:
                if len(cells) != len(header):
                    raise LogError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, expected "
                        f"{len(header)}, one for each column; mend or move the file"
                    )
                rows.append(cells)
    except (UnicodeDecodeError, csv.Error) as error:
        raise LogError(f"{path}: not a CSV file ({error}); mend or move the file") from None
    if len(set(header)) != len(header) or not all(header) or not header:
        raise LogError(
            f"{path}, line 1: expected names of columns, each once; mend or move the file"
        )
    return header, rows
