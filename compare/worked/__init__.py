"""Hand-worked solutions, marked figure by figure: `mark(read("sheet.toml"))`."""

from compare.worked.agreement import DisagreementError
from compare.worked.claims import Claim
from compare.worked.errors import SheetError
from compare.worked.marking import Marked, Marking, mark
from compare.worked.places import Place
from compare.worked.sheet import Sheet, parse, read

__all__ = [
    "Claim",
    "DisagreementError",
    "Marked",
    "Marking",
    "Place",
    "Sheet",
    "SheetError",
    "mark",
    "parse",
    "read",
]
