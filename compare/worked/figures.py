"""Whether a printed figure is right: the digits as written are the claim."""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext

from compare.worked.claims import Claim
from compare.worked.formula import Formula

UNITS = 2  # of the last printed place
SHARE = Decimal("0.005")
FORMULA = Decimal("1e-12")  # of the value: a formula has no rounding of its own
# The oracle is righter than that wherever a figure has digits enough to tell.
EXACT = Decimal("1e-38")


def unit(printed: str) -> Decimal:
    """One unit of the last printed place; 0 for a whole number, which is claimed exactly."""
    if printed.lstrip("+-").isdigit():
        return Decimal(0)
    return Decimal(1).scaleb(Decimal(printed).as_tuple().exponent)


def right(claim: Claim, exact: Decimal, change: Decimal | None = None) -> str:
    """ "exact", "rounding" or "" for what is neither. change: of an updated parameter, from the
    value given; 0.5 % are of that, or of its value where that is smaller: else a slip of 1 % in a
    weight that was moved to nearly 0 would pass."""
    if isinstance(claim.value, Formula):
        raise TypeError("a formula is compared by its value")
    off, one = abs(claim.value - exact), unit(claim.printed)
    if off <= one / 2 + EXACT:
        return "exact"
    size = abs(exact) if change is None else min(abs(exact), abs(change))
    near = off <= max(UNITS * one, SHARE * size) + EXACT
    return "rounding" if near and one else ""


def gives(claim: Claim, value: Decimal) -> bool:
    """Whether the printed figure is this value rounded, or cut off."""
    one = unit(claim.printed)
    if not one:
        return abs(claim.value - value) <= abs(value) * FORMULA
    return claim.value in (rounded(value, one), rounded(value, one, ROUND_DOWN))


def rounded(value: Decimal, one: Decimal, how: str = ROUND_HALF_UP) -> Decimal:
    """To a whole number of units."""
    with localcontext() as context:
        context.prec = 200
        return (value / one).quantize(Decimal(1), how) * one


def as_printed(value: Decimal, claim: Claim, more: int = 0) -> str:
    """A value with as many places as the claim's figure, or some more."""
    one = Decimal(0) if isinstance(claim.value, Formula) else unit(claim.printed)
    if not one:
        return f"{float(value):.{6 + more}g}"
    text = claim.printed.lower()
    if "e" in text:
        digits = len(text.split("e")[0].partition(".")[2]) + more
        return f"{value:.{digits}e}"
    return f"{value:.{len(text.partition('.')[2]) + more}f}"
