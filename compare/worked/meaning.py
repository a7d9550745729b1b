"""What the names of a sheet stand for, and what a claim under a name claims."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from compare.worked.claims import line, number, text
from compare.worked.errors import Problem, quoted, shown
from compare.worked.formula import NUMBER, Formula, formula
from compare.worked.places import PLACE, Place, place


def meaning(text: str, names: Mapping[str, Place], shapes: Mapping[str, tuple]) -> Place:
    """What a name stands for: a place, "A / B" for a derivative, or an expression."""
    text = text.strip()
    if text in names:
        return names[text]
    if " / " in text:
        of, _, by = text.partition(" / ")
        if all(_plain(side.strip(), names, shapes) for side in (of, by)):
            return _derivative(text, names, shapes)
    if _plain(text, names, shapes):
        return place(text, shapes)
    if not any(c in text for c in "+-*/()−·×"):  # meant as a place
        return place(text, shapes, names)
    found = formula(text, names, shapes)
    return Place("statement" if found.compares else "formula", formula=found)


def _plain(text: str, names: Mapping[str, Place], shapes: Mapping[str, tuple]) -> bool:
    """Whether it names a place and is no expression."""
    return text in names or bool(PLACE.match(text) and text.partition("[")[0] in shapes)


def _derivative(text: str, names: Mapping[str, Place], shapes: Mapping[str, tuple]) -> Place:
    of, _, by = (part.strip() for part in text.partition(" / "))
    if not by:
        example = "'activation.3[0,0] / activation.2[0,0]'"
        raise Problem(f"expected a derivative 'A / B', as {example}, got '{shown(text)}'")
    of, by = (names[p] if p in names else place(p, shapes, names) for p in (of, by))
    places = _order(of.row), _order(by.row)
    if places[0] is None or of.row.endswith((".weight", ".bias")) or of.row == "x":
        raise Problem(f"expected an activation or the loss before ' / ', got '{shown(of)}'")
    if places[1] is None or by.row == "loss":
        raise Problem(f"expected x, an activation or a parameter after ' / ', got '{shown(by)}'")
    if places[0] <= places[1]:
        raise Problem(f"expected the later one first: '{of}' does not come from '{by}'")
    return Place("derivative", of=of, by=by)


def _order(row: str) -> float | None:
    """Where a row comes in the forward; parameters come before the output of their module."""
    if row in ("x", "loss"):
        return -1 if row == "x" else math.inf
    head, _, rest = row.partition(".")
    if head == "activation":
        return int(rest)
    return int(head) - 0.5 if head.isdigit() else None


def claim(name: str, stage: str, value: Any, names: Mapping, shapes: Mapping) -> tuple:
    """(name, place, stage, printed, value) of a `Claim`."""
    line(name)
    if stage == "statement":
        found = formula(text(value), names, shapes)
        if not found.compares:
            raise Problem(f"expected a comparison, as 'a > b', got {quoted(value)}")
        return name, Place("statement", formula=found), stage, str(found), Decimal(1)
    printed = _printed(value, names, shapes)
    return name, _of_stage(_claimed(name, names, shapes), stage, shapes), stage, *printed


def _printed(value: Any, names: Mapping, shapes: Mapping) -> tuple[str, Decimal | Formula]:
    if not isinstance(value, str):
        return number(value)
    if NUMBER.fullmatch(value.strip().lstrip("+-")):
        raise Problem(f"expected a number without quotes, or an expression, got {quoted(value)}")
    found = formula(value, names, shapes)
    if found.compares:
        raise Problem(f"expected an expression, and no comparison, got {quoted(value)}")
    return str(found), found


def _claimed(name: str, names: Mapping[str, Place], shapes: Mapping[str, tuple]) -> Place:
    if name in names:
        return names[name]
    return _derivative(name, names, shapes) if " / " in name else place(name, shapes, names)


def _of_stage(meant: Place, stage: str, shapes: Mapping[str, tuple]) -> Place:
    """What a name means in a table of claims: w1 is a gradient in one, a new weight in another."""
    row = meant.row
    parameter = row.endswith((".weight", ".bias")) and row[0].isdigit()
    if row == "derivative" or (row == "formula" and stage != "derivative"):
        return meant
    if stage == "derivative":
        raise Problem("expected a derivative, as 'activation.3[0,0] / activation.2[0,0]'")
    if stage == "forward":
        if row == "loss" or row.startswith("activation."):
            return meant
        raise Problem(f"a forward claim is of an activation or the loss; got '{shown(meant)}'")
    if stage == "backward":
        if "loss" not in shapes:
            raise Problem("a gradient is one of a loss: expected network.loss and data.y")
        if row == "x" or row.startswith("activation."):
            return Place(f"d_{row}", meant.index)
        if row.startswith(("d_", "grad.")):
            return meant
        if not parameter:
            raise Problem(
                f"a backward claim is of a parameter, an activation or x; got '{shown(meant)}'"
            )
        return Place(f"grad.{row}", meant.index)
    if row.startswith("updated."):
        return meant
    if f"updated.{row}" not in shapes:
        problem = f"an updated claim is of a parameter; got '{shown(meant)}'"
        raise Problem("expected a [step] that updates it" if parameter else problem)
    return Place(f"updated.{row}", meant.index)
