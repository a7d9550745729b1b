"""Each claim of a sheet marked as printed, the way a careful teacher does.

exact      the exact value rounds to the printed one
rounding   within two units of the last printed place, or within 0.5 % of the exact value (for an
           updated parameter: of its change, or of its value where that is smaller)
follows    wrong, but what the sheet's own earlier figures give: an error carried forward
wrong      anything else

A formula is `exact` or `wrong`, by its value; a statement is `exact` where it holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from compare.worked import agreement, decimals
from compare.worked.carry import Carried
from compare.worked.claims import Claim, number_text
from compare.worked.errors import Problem, SheetError, shown
from compare.worked.exact import Exact
from compare.worked.figures import EXACT, FORMULA, as_printed, gives, right, rounded, unit
from compare.worked.formula import Formula
from compare.worked.hints import hint, invisible
from compare.worked.places import Place
from compare.worked.sheet import Sheet


@dataclass(frozen=True)
class Marked:
    """A claim with its mark. exact: the exact value, rounded once. follows: the slips (or, with
    none, the rounded figures) that a "follows" carries forward. carried: what the sheet's own
    earlier figures give, where the claim is not right. hint: what may have happened; "" where
    nothing shows. should: the exact value with two places more than printed. claimed: the number
    that is claimed."""

    claim: Claim
    exact: float
    mark: str
    follows: tuple[str, ...] = ()
    carried: float | None = None
    hint: str = ""
    should: str = ""
    claimed: float = 1.0


@dataclass(frozen=True)
class Marking:
    """A sheet with its marks. claims: in causal order. exact: row → float64 array, every number
    of the step."""

    sheet: Sheet
    claims: list[Marked]
    exact: dict[str, np.ndarray] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Nothing is wrong."""
        return all(marked.mark != "wrong" for marked in self.claims)

    @property
    def verdict(self) -> str:
        wrong = [m for m in self.claims if m.mark == "wrong"]
        text = f"{len(self.claims) - len(wrong)} of {len(self.claims)} right"
        if wrong:
            first = wrong[0]
            text += f"; first slip: {first.claim.label} = {first.claim.printed}"
            if isinstance(first.claim.value, Formula):
                text += f" gives {number_text(first.claimed)}"
            text += f", {first.should} is exact" if first.should else ", does not hold"
        return text

    @property
    def records(self) -> list[dict[str, Any]]:
        """A record for each claim."""
        return [
            {
                "sheet": str(self.sheet.path),
                "title": self.sheet.title,
                "stage": m.claim.stage,
                "name": m.claim.name,
                "place": str(m.claim.place),
                "printed": m.claim.printed,
                "claimed": m.claimed,
                "exact": m.exact,
                "mark": m.mark,
                "follows": ", ".join(m.follows),
                "carried": m.carried,
                "hint": m.hint,
            }
            for m in self.claims
        ]

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.records)


def mark(sheet: Sheet) -> Marking:
    """Mark a sheet. Raises `DisagreementError` where manual, autograd and the oracle do not agree
    on what is right, and `SheetError` for a step or a formula that has no value."""
    try:
        exact = Exact(sheet)
    except ArithmeticError as error:
        reason = "is too large, or not defined, as the logarithm of 0 or of a negative number"
        raise SheetError(sheet.path, "network", f"a number of the step {reason}") from error
    places = {p for claim in sheet.claims for p in _derivatives(claim)}
    agreement.check(sheet, exact, sorted(places, key=str))
    found: list[Marked] = []
    order = _order(sheet)
    for claim in sorted(sheet.claims, key=lambda claim: order(claim.place)):
        try:
            found.append(_marked(sheet, exact, claim, found))
        except Problem as problem:
            key = f"claims.{claim.stage}.{claim.name}"
            raise SheetError(sheet.path, key, str(problem)) from None
    for claim in sheet.claims:
        _prove(sheet, exact, claim)
    rows = {name: decimals.floats(value) for name, value in exact.rows.items()}
    return Marking(sheet, found, rows)


def _prove(sheet: Sheet, exact: Exact, claim: Claim) -> None:
    """A correction must be right itself."""
    if claim.correction is None:
        return
    key = f"corrections.{claim.stage}.{claim.name}"
    try:
        value = exact.value(Place("formula", formula=claim.correction))
        wanted = Decimal(1) if claim.stage == "statement" else exact.value(claim.place)
    except Problem as problem:
        raise SheetError(sheet.path, key, str(problem)) from None
    if abs(value - wanted) > FORMULA * abs(wanted) + EXACT:
        found = f"it gives {number_text(float(value))}, and {number_text(float(wanted))} is exact"
        raise SheetError(sheet.path, key, f"expected a right formula: {found}")


def _derivatives(claim: Claim) -> list[Place]:
    """The derivatives that a claim needs."""
    found, left = [], [claim.place]
    for formula in (claim.value, claim.correction):
        left += formula.places if isinstance(formula, Formula) else []
    while left:
        place = left.pop()
        found += [place] if place.row == "derivative" else []
        left += place.formula.places if place.formula is not None else []
    return found


def _order(sheet: Sheet) -> Callable[[Place], tuple]:
    """Where a place comes in the computation; what is not in order among itself is as on the
    sheet."""
    last = len(sheet.modules)

    def of(place: Place) -> tuple:
        row = place.row
        if place.formula is not None:
            return (9,) if row == "statement" else max((*map(of, place.formula.places), (0,)))
        if row == "derivative":
            local = place.of.row != "loss" and of(place.of)[1] - of(place.by)[1] <= 1
            return (2, not local, *_backwards(f"d_{place.by.row}", last))
        head, _, rest = row.partition(".")
        if head in ("x", "y", "lr", "loss") or head.isdigit():
            return (1, last + 1) if head == "loss" else (1, int(head) if head.isdigit() else 0)
        if head == "activation":
            return (1, int(rest) + 1)
        if head == "updated":
            return (4, *_backwards(rest, last))
        return (3, *_backwards(row, last))

    return of


def _backwards(row: str, last: int) -> tuple[int, int]:
    """d_activation.2, then grad.2.bias, then grad.2.weight, which is made from it."""
    parts = row.removeprefix("d_").removeprefix("grad.").split(".")
    if parts[0] in ("x", "activation"):
        return last - (int(parts[1]) if parts[0] == "activation" else -1), 0
    return last - int(parts[0]), 1 if parts[1] == "bias" else 2


def _marked(sheet: Sheet, exact: Exact, claim: Claim, before: list[Marked]) -> Marked:
    value, start = exact.value(claim.place), None
    if claim.place.row.startswith("updated."):
        start = sheet.given[claim.place.row.removeprefix("updated.")][claim.place.index]
    with decimals.many_digits():
        if claim.stage == "statement":
            return Marked(claim, float(value), "exact" if value else "wrong")
        should = as_printed(value, claim, 2)
        if isinstance(claim.value, Formula):
            claimed = claim.value.value(exact.value)
            if not np.isfinite(float(claimed)):
                raise Problem(f"'{shown(claim.printed)}' has no value: a number too large")
            mark, words = "exact", ""
            if abs(claimed - value) > FORMULA * abs(value) + EXACT:
                mark, words = "wrong", hint(claim, claimed, value)
            return Marked(claim, float(value), mark, (), None, words, should, float(claimed))
        claimed = float(claim.value)
        mark = right(claim, value, None if start is None else value - start)
        if mark:
            words = invisible(claim, value, start)
            return Marked(claim, float(value), mark, (), None, words, should, claimed)
        follows, carried = _carried(sheet, claim, before, start)
        words = ""
        if not follows:
            others = _others(claim, value, carried, before)
            words = hint(claim, claim.value, value, start, others, _same(claim, before))
        mark = "follows" if follows else "wrong"
        return Marked(claim, float(value), mark, follows, carried, words, should, claimed)


def _others(claim: Claim, exact: Decimal, carried: float | None, before: list[Marked]) -> list[str]:
    """The figures that may have been meant: other claims of the same place, what earlier ones
    give, the exact one."""
    found = [m.claim.printed for m in before if m.claim.place == claim.place and m.mark != "wrong"]
    if carried is not None:
        given = Decimal(repr(carried))
        one = unit(claim.printed)
        found += [as_printed(given, claim)]
        found += [as_printed(rounded(given, one, ROUND_DOWN), claim)] if one else []
    return [*found, as_printed(exact, claim)]


def _same(claim: Claim, before: list[Marked]) -> str:
    """The first claim before it, of something else, with the same figure of three digits or more;
    "" without."""
    if sum(c.isdigit() for c in claim.printed) < 3:
        return ""
    alike = (m.claim for m in before if m.claim.printed == claim.printed)
    return next((c.label for c in alike if c.place != claim.place), "")


def _carried(
    sheet: Sheet, claim: Claim, before: list[Marked], start: Decimal | None
) -> tuple[tuple[str, ...], float | None]:
    """(the slips or rounded figures that it follows from, the value that these give); without any
    (), and the value that the figures printed before it give.

    A person computes on with the figures as printed, or keeps all digits and has only the slips in
    them; takes a slope from an activation's output or input, and ∂L/∂z from ∂L/∂b or not. What
    carries no slip, only roundings, must give the printed digits.
    """
    earlier = [m for m in before if m.claim.place != claim.place and m.claim.stage != "statement"]
    slips = [m for m in earlier if m.mark == "wrong"]
    names = {m.claim.label for m in slips}
    printed = None
    for chosen, from_output, bias in product((earlier, slips), (True, False), (False, True)):
        value = partial(_value, sheet, claim.place, from_output=from_output, bias=bias)
        given = value(chosen)
        if given is None:
            continue
        printed = given if printed is None else printed
        decimal = Decimal(repr(given))
        exactly, change = gives(claim, decimal), None if start is None else decimal - start
        if not exactly and not right(claim, decimal, change):
            continue
        used = _used(chosen, lambda left, value=value, given=given: value(left) == given)
        passed_on = [n for m in used for n in (m.claim.label, *m.follows) if n in names]
        if passed_on or (exactly and used):
            return tuple(dict.fromkeys(passed_on or [m.claim.label for m in used])), given
    return (), printed


def _used(figures: list[Marked], unchanged: Callable[[list[Marked]], bool]) -> list[Marked]:
    """Those without which the result is another; unchanged(rest) says whether it is the same.
    Halves are left out at once: most figures of a sheet do not touch a result."""

    def among(part: list[Marked]) -> list[Marked]:
        out = set(map(id, part))
        if not part or unchanged([m for m in figures if id(m) not in out]):
            return []
        half = len(part) // 2
        return part if not half else among(part[:half]) + among(part[half:])

    return among(figures)


def _value(
    sheet: Sheet, place: Place, figures: list[Marked], from_output: bool, bias: bool
) -> float | None:
    """What these figures give for a place; None where that is no number."""
    try:
        step = Carried(sheet, {m.claim.place: m.claimed for m in figures}, from_output, bias)
        found = step.value(place)
    except (Problem, OverflowError):
        return None
    return found if np.isfinite(found) else None
