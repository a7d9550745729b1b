"""Where a figure stands in a step: an entry of a row, a derivative, or an expression of these."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compare.worked.errors import Problem, nearest, quoted, shown

# activation.3[0,0]   loss   0.weight[1,0]
PLACE = re.compile(r"(?P<row>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)(?:\[(?P<index>[0-9,\s]*)\])?\Z")
DIGITS = 9  # of an index


@dataclass(frozen=True)
class Place:
    """One number of a step.

    row: as in a comparison ("x", "activation.3", "loss", "d_activation.3", "grad.0.weight",
        "updated.0.weight"), or "0.weight" for the parameter as given, "y" for the target;
        "derivative" for ∂of/∂by; "formula" for an expression; "statement" for a comparison of
        two, which is 1 where it holds and else 0.
    index: of the entry; () for the loss and what is no row.
    """

    row: str
    index: tuple[int, ...] = ()
    of: "Place | None" = None
    by: "Place | None" = None
    formula: Any = None  # a compare.worked.formula.Formula

    def __str__(self) -> str:
        if self.row == "derivative":
            return f"{self.of} / {self.by}"
        if self.row in ("formula", "statement"):
            return str(self.formula)
        return f"{self.row}[{','.join(map(str, self.index))}]" if self.index else self.row


def place(text: str, shapes: Mapping[str, tuple[int, ...]], names: Iterable[str] = ()) -> Place:
    """The entry of a row that the text names. shapes: row → its shape. names: what it could have
    named besides. Raises `Problem` for what is no row, and for an index that is missing, too long
    or outside."""
    found = PLACE.match(text)
    row = found["row"] if found else text.partition("[")[0].strip()
    if found is None or row not in shapes:
        known = [*names, *shapes]
        raise Problem(f"unknown {quoted(text)}{nearest(row, known)}; {expected(known)}")
    shape = shapes[row]
    written = [] if found["index"] is None else found["index"].split(",")
    if not all(0 < len(i.strip()) <= DIGITS for i in written) or len(written) != len(shape):
        example = f"{row}[{','.join('0' * len(shape))}]" if shape else row
        raise Problem(f"expected {len(shape)} indices, as in '{example}', got {quoted(text)}")
    index = tuple(int(i) for i in written)
    if not all(i < n for i, n in zip(index, shape, strict=True)):
        last = ",".join(str(n - 1) for n in shape)
        raise Problem(f"'{shown(text)}' is outside: the last entry is '{row}[{last}]'")
    return Place(row, index)


def expected(rows: Iterable[str]) -> str:
    """The rows there are, in a few words."""
    rows = list(map(shown, rows))
    return f"expected one of {', '.join(rows[:12])}{', …' if len(rows) > 12 else ''}"
