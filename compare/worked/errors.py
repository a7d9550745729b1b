"""What is wrong with a sheet, in one line that names file, key and what was expected."""

import difflib
from collections.abc import Iterable
from typing import Any

SHOWN = 80  # characters of a value in a message


class SheetError(ValueError):
    """A sheet that cannot be read. Its text names the file, the key and what was expected."""

    def __init__(self, path: object, key: str, problem: str) -> None:
        place = f"{path}: {shown(key)}" if key else f"{path}"
        super().__init__(f"{place}: {problem}")


class Problem(ValueError):
    """What is wrong with one value; who knows file and key makes a `SheetError` of it."""


def shown(value: Any) -> str:
    """A value as it stands in a message: on one line, and not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def quoted(value: Any) -> str:
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


def nearest(word: Any, known: Iterable[str]) -> str:
    """ " (nearest: 'sigmoid')", or "" where nothing that is known is near."""
    if not isinstance(word, str):
        return ""
    # Long words are no misspellings, and take long to compare.
    found = difflib.get_close_matches(word[:SHOWN], list(known), 1, 0.5)
    return f" (nearest: '{shown(found[0])}')" if found else ""


def one_of(value: Any, known: Iterable[str]) -> Problem:
    """The problem of a word that is none of those known."""
    known = list(known)
    return Problem(
        f"expected one of {', '.join(known)}, got {quoted(value)}{nearest(value, known)}"
    )
