"""Each claim of a sheet marked as printed, the way a careful teacher does.

exact      the exact value rounds to the printed one
rounding   within two units of the last printed place, or within 0.5 % of the exact value (for an
           updated parameter: of its change)
follows    wrong, but what the sheet's own earlier figures give: an error carried forward
wrong      anything else
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from compare.worked.claims import Claim
from compare.worked.sheet import Sheet


@dataclass(frozen=True)
class Marked:
    """A claim with its mark. exact: the exact value, rounded once. follows: the slips (or, with
    none, the rounded figures) that a "follows" carries forward. carried: what the sheet's own
    earlier figures give. hint: what may have happened; "" where nothing shows."""

    claim: Claim
    exact: float
    mark: str
    follows: tuple[str, ...] = ()
    carried: float | None = None
    hint: str = ""


@dataclass(frozen=True)
class Marking:
    """A sheet with its marks. claims: in causal order. exact: row → float64 array, every number
    of the step."""

    sheet: Sheet
    claims: list[Marked]
    exact: dict[str, np.ndarray]

    @property
    def passed(self) -> bool:
        """Nothing is wrong."""
        return all(marked.mark != "wrong" for marked in self.claims)

    @property
    def verdict(self) -> str:
        raise NotImplementedError

    @property
    def frame(self) -> pd.DataFrame:
        raise NotImplementedError


def mark(sheet: Sheet) -> Marking:
    raise NotImplementedError
