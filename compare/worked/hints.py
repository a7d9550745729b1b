"""What may have happened where a figure is wrong."""

from collections.abc import Sequence
from decimal import Decimal

from compare.worked.claims import Claim
from compare.worked.figures import UNITS, right, unit
from compare.worked.formula import Formula

FACTORS = {
    Decimal(-1): "the sign is wrong",
    Decimal(2): "twice the exact value",
    Decimal("0.5"): "half the exact value",
    Decimal(-2): "twice the exact value, and the sign is wrong",
    Decimal("-0.5"): "half the exact value, and the sign is wrong",
    Decimal(10): "ten times the exact value",
    Decimal("0.1"): "a tenth of the exact value",
}


def hint(
    claim: Claim,
    value: Decimal,
    exact: Decimal,
    start: Decimal | None = None,
    others: Sequence[str] = (),
    same: str = "",
) -> str:
    """value: what is claimed. start: the value before the update, of an updated parameter. others:
    figures that may have been meant. same: a claim before it with the same figure."""
    if isinstance(claim.value, Formula):
        off = Decimal("1e-9") * abs(exact)
    else:
        off = UNITS * unit(claim.printed)
    for factor, words in FACTORS.items():
        wanted = exact * factor
        # The figure must have places enough to tell this from the exact value.
        if abs(value - wanted) <= off < abs(wanted - exact) / 4:
            return words
    if start is not None and off < abs(exact - start) / 4:
        if abs(value - start) <= off:
            return "the value before the update"
        if abs(value - (2 * start - exact)) <= off:
            return "the sign of the change is wrong"
    if same:
        return f"the figure of {same}"
    return next(filter(None, (_misprint(claim.printed, other) for other in others)), "")


def _misprint(printed: str, right_one: str) -> str:
    """One digit that is another, or two that have changed places."""
    if len(printed) != len(right_one) or sum(c.isdigit() for c in printed) < 3:
        return ""
    different = [k for k, (a, b) in enumerate(zip(printed, right_one, strict=True)) if a != b]
    if len(different) == 1 and printed[different[0]].isdigit():
        return f"one digit is not that of {right_one}"
    if len(different) == 2:
        i, j = different
        if printed[i] == right_one[j] and printed[j] == right_one[i]:
            return f"two digits of {right_one} have changed places"
    return ""


def invisible(claim: Claim, exact: Decimal, start: Decimal | None) -> str:
    """What a right figure of an updated parameter does not show."""
    if start is None or exact == start or right(claim, start) != "exact":
        return ""
    return "too few places to show the update: the old value prints alike"
