"""What a sheet claims, and the numbers in it: the digits as written count."""

import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from compare.worked import decimals
from compare.worked.errors import Problem, quoted
from compare.worked.formula import Formula
from compare.worked.places import Place

MOST_DIGITS = 40
MOST_TEXT = 2_000  # characters
LEAST, MOST = Decimal("1e-30"), Decimal("1e30")  # of a number that is not 0


class Figure(NamedTuple):
    """A number as it is written: its digits are the claim."""

    text: str
    value: Decimal

    def __repr__(self) -> str:
        return self.text  # as a message quotes it


@dataclass(frozen=True)
class Claim:
    """What a sheet claims. name: the sheet's own. stage: the table it stands in. printed: the
    digits as written, or the formula's text. value: what these say. label: the name, with the
    stage where it stands in several. note: the sheet's, on what is wrong with it. correction: the
    formula that is right."""

    name: str
    place: Place
    stage: str
    printed: str
    value: Decimal | Formula
    label: str = ""
    note: str = ""
    correction: Formula | None = None


@dataclass(frozen=True)
class Step:
    """How parameters are updated. frozen: those that are not; weight_decay is for weights only."""

    optimizer: str
    lr: Decimal
    momentum: Decimal = Decimal(0)
    weight_decay: Decimal = Decimal(0)
    frozen: tuple[str, ...] = ()


def figure(text: str) -> Figure:
    """A number of a TOML file; NaN where its exponent is beyond all measure."""
    try:
        return Figure(text, decimals.CONTEXT.create_decimal(text.replace("_", "")))
    except ArithmeticError:  # 1e999999999
        return Figure(text, Decimal("nan"))


def number(value: Any) -> Figure:
    """The number that was read from TOML. Raises `Problem` for what is none, is not finite, or is
    beyond what is worked by hand."""
    if type(value) is int and abs(value) <= MOST:
        value = Figure(str(value), Decimal(value))
    if type(value) is int:
        raise Problem(f"expected a number of at most {MOST} in size, got a larger one")
    if not isinstance(value, Figure):
        raise Problem(f"expected a number, got {quoted(value)}")
    if not value.value.is_finite():
        raise Problem(f"expected a finite number, got {value.text}")
    if value.value and not LEAST <= abs(value.value) <= MOST:
        raise Problem(f"expected 0 or a number from {LEAST} to {MOST} in size, got {value.text}")
    if len(value.value.as_tuple().digits) > MOST_DIGITS:
        raise Problem(f"expected at most {MOST_DIGITS} digits, got {value.text[:60]}")
    return value


def line(value: Any) -> str:
    """A text on one line. Raises `Problem` for what is none, or could upset a terminal."""
    if any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in text(value)):
        raise Problem(f"expected one line without control characters, got {value[:80]!a}")
    return value


def text(value: Any) -> str:
    """A text that was read from TOML. Raises `Problem` for what is none, or is too long."""
    if not isinstance(value, str):
        raise Problem(f"expected text in quotes, got {quoted(value)}")
    if len(value) > MOST_TEXT:
        raise Problem(f"expected at most {MOST_TEXT:,} characters, got {len(value):,}")
    return value


def number_text(value: float) -> str:
    """A number that is no claim, in a few digits."""
    return f"{value:.6g}"
