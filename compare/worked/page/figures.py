"""How a number is written on the page: few digits, a true minus sign, powers of ten as such."""

import math
import re
from decimal import Decimal

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = 1e-30  # what is smaller is what a difference of equal numbers leaves
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def number(value: float, digits: int = 3) -> str:
    """`value` as it is where four digits say all of it, else to `digits` significant ones; just
    below 1 to two digits of what is missing to 1, as of 0.99966 in a (1 − a)."""
    value = float(value)
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else _sign("-∞" if value < 0 else "∞")
    if abs(value) < NOTHING:
        return "0"
    short = f"{value:.4g}"
    if float(short) == value and 1e-4 <= abs(value) < 1e6:
        return _sign(f"{Decimal(short):f}")
    if 0.99 < abs(value) < 1 - 1e-12:
        return places(value, 1 - math.floor(math.log10(1 - abs(value))))
    if 99.95 <= abs(value) < 1e6:
        return places(value, 0)
    rounded = Decimal(f"{value:.{digits - 1}e}")
    if 1e-4 <= abs(rounded) < 1e6:
        return _sign(f"{rounded:f}")
    return power(value, digits)


def places(value: float, count: int) -> str:
    """To `count` decimal places."""
    text = f"{value:.{count}f}"
    return _sign(text if float(text) else text.removeprefix("-"))


def power(value: float, digits: int = 3) -> str:
    """To `digits` significant digits, as in −6.55·10⁻⁵."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{_sign(mantissa)}·10{str(int(exponent)).translate(SUPERSCRIPT)}"


def moved(value: float, before: float) -> str:
    """An updated parameter: to two significant digits of its change."""
    change = abs(value - before)
    if change == 0:
        return number(value)
    count = 1 - math.floor(math.log10(change))
    return number(value) if count < 1 else places(value, min(count, 15))


def as_printed(text: str) -> str:
    """A figure of a sheet, digit for digit, with a true minus sign; a power of ten as such."""
    found = re.fullmatch(r"([+-]?[0-9.]+)[eE]([+-]?[0-9]+)", text)
    if found is None:
        return _sign(text)
    return f"{_sign(found[1])}·10{str(int(found[2])).translate(SUPERSCRIPT)}"


def factor(text: str) -> str:
    """As a later factor or term: a negative one stands in parentheses."""
    return f"({text})" if text.startswith("−") else text


def product(factors: list[str]) -> str:
    return " × ".join([factors[0], *map(factor, factors[1:])])


def total(terms: list[str], most: int = 8) -> str:
    """A sum; of one with more terms than `most` the first three and the last two are written."""
    if len(terms) > most:
        terms = [*terms[:3], "…", *terms[-2:]]
    return " + ".join([terms[0], *(factor(t) if " " not in t else t for t in terms[1:])])


def _sign(text: str) -> str:
    return text.replace("-", "−")
