"""A worked exercise as a TOML file: the network, the numbers given and the numbers claimed.

docs/sheets.md describes the format. What is wrong with a file is a `SheetError`.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compare.worked import decimals, reader
from compare.worked.claims import Claim, Step, figure
from compare.worked.errors import SheetError, shown
from compare.worked.places import Place

MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Sheet:
    """A sheet that has been read. modules: "linear" or the name of an activation, in order, as
    `activation.k` counts them. given: "x", "y" and every parameter as arrays of decimals (y of
    whole numbers where it names classes; None without). shapes: row → shape, of all rows."""

    title: str
    source: str
    path: Path
    layers: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str | None
    modules: tuple[str, ...]
    given: dict[str, np.ndarray]
    step: Step | None
    names: dict[str, Place]
    claims: tuple[Claim, ...]
    shapes: dict[str, tuple[int, ...]] = field(repr=False)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Name → float64 array, in order."""
        return {k: decimals.floats(v) for k, v in self.given.items() if k not in ("x", "y")}

    @property
    def x(self) -> np.ndarray:
        return decimals.floats(self.given["x"])

    @property
    def y(self) -> np.ndarray | None:
        """In float64; classes as int64. None where the sheet has no target."""
        y = self.given.get("y")
        classes = y is not None and y.ndim == 1
        return y.astype(np.int64) if classes else None if y is None else decimals.floats(y)


def read(path: str | Path) -> Sheet:
    """Read and check a sheet. Raises `SheetError` where it is not one, and OSError where the
    file cannot be opened."""
    path = Path(path)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise SheetError(path, "", f"expected at most {MOST_BYTES:,} bytes")
    try:
        return parse(content.decode(), path)
    except UnicodeDecodeError as error:
        raise SheetError(path, "", f"expected UTF-8 text: {error}") from None


def parse(text: str, path: str | Path = "sheet") -> Sheet:
    """A sheet from its text. Raises `SheetError`; the path is for its message."""
    try:
        tables = tomllib.loads(text, parse_float=figure)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else shown(error)
        raise SheetError(path, "", f"expected TOML: {reason}") from None
    return Sheet(path=Path(path), **reader.checked(tables, path))
