"""Which rows of runs.csv, and in which order."""

import difflib
import operator
import re

import pandas as pd

OPERATORS = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


class SelectError(ValueError):
    """A column that is not there, or a condition that means nothing; the message is one line."""


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Raises SelectError, with the nearest names, where there is no such column."""
    if name in frame:
        return frame[name]
    near = difflib.get_close_matches(name, frame.columns, n=3) or list(frame.columns)
    raise SelectError(f"no column {name!r}; expected one of {', '.join(near)}")


def is_number(values: pd.Series) -> bool:
    """Whether the column holds numbers (True and False are none)."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def where(frame: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows for which COLUMN=VALUE (or !=, <, <=, >, >=) holds. Numbers are compared as
    numbers, all else as text. COLUMN= are the rows where it is empty, COLUMN!= the others; an
    empty cell fulfils no other condition.

    Raises SelectError for what is no condition, and for a text where the column has numbers."""
    parts = re.fullmatch(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", condition, re.DOTALL)
    if parts is None:
        expected = " ".join(OPERATORS)
        raise SelectError(f"expected COLUMN, one of {expected} and a value, got {condition!r}")
    name, sign, text = parts.groups()
    values = column(frame, name)
    if text == "":
        if sign not in ("=", "!="):
            raise SelectError(f"{condition!r}: expected a value after {sign}")
        return frame[values.isna() if sign == "=" else values.notna()]
    value: float | str = text
    if is_number(values) and values.notna().any():
        try:
            value = float(text)
        except ValueError:
            raise SelectError(f"{condition!r}: {name} has numbers, got {text!r}") from None
    else:
        values = values.astype("object").map(str, na_action="ignore")
    there = values.notna()
    return frame[there & OPERATORS[sign](values.where(there, value), value)]


def ordered(frame: pd.DataFrame, by: list[str], descending: bool) -> pd.DataFrame:
    """Sorted by columns, the first first; rows that are equal stay in the order of writing, and
    empty cells come last. Raises SelectError as `column`."""
    for name in by:
        column(frame, name)
    if not by:
        return frame[::-1] if descending else frame
    return frame.sort_values(by, ascending=not descending, kind="stable")
