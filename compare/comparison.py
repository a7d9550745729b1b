"""What a comparison says: the table, whether it passed, whose fault it is."""

import platform
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from compare.vacuity import declared, why


class EquivalenceError(AssertionError):
    """The two sides differ by more than rounding; the text is the table. comparison: all of it."""

    def __init__(self, comparison: "Comparison") -> None:
        super().__init__(f"manual and torch differ\n{comparison}")
        self.comparison = comparison


@dataclass(frozen=True)
class Comparison:
    """The verdict on a pair.

    frame: a row for each tensor, in causal order, with the columns
        step, name, stage, shape, dtype  of manual's tensor (where both have one, they are equal)
        max_abs, max_rel, max_ulp        the largest difference: absolute, relative to torch's
                                         value, in units in the last place of the dtype
        allowed, used                    at the worst element: what rounding alone can explain,
                                         and the difference as a share of it
        worst                            index of the element where `used` is largest
        manual, torch, oracle            the values there (oracle: NaN where it was not asked)
        verdict                          ok, mismatch, nonfinite, shape, dtype, missing or vacuous
        blame                            None, manual, torch, both or undecided
    context: the seed and the versions that reproduce it, and what manual's backward raised, if
        it did; the tensors that it did not come to are missing.
    reasons: (step, name) → where that row's allowance comes from, in words.
    allow_vacuous: patterns of row names whose verdict "vacuous" is a pass.
    """

    frame: pd.DataFrame
    context: str
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)
    allow_vacuous: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return bool(len(self.frame)) and not len(self.failures)

    @property
    def blame(self) -> str | None:
        """Who is wrong in the first row that is: None, "manual", "torch", "both" or "undecided"."""
        wrong = self.frame.blame[self.frame.verdict != "ok"].dropna()
        return wrong.iloc[0] if len(wrong) else None

    @property
    def failures(self) -> pd.DataFrame:
        """The rows that are not ok, nor vacuous and declared; the first is the cause."""
        names, verdicts = self.frame["name"], self.frame.verdict
        passes = [
            verdict == "ok" or (verdict == "vacuous" and declared(name, self.allow_vacuous))
            for name, verdict in zip(names, verdicts, strict=True)
        ]
        return self.frame[~np.array(passes, dtype=bool)]

    def __str__(self) -> str:
        text = table(self.frame)
        count = f"{len(self.frame)} tensors"
        if self.passed:
            return f"{text}\n{count}: all ok, at most {self.frame.used.max():.0%} of the allowance"
        first = self.failures.iloc[0]
        return (
            f"{text}\n{count}, {len(self.failures)} not ok; first: step {first.step}, "
            f"{first['name']}: {describe(first)}\n{self.context}"
        )


def describe(row: pd.Series) -> str:
    """One failing row in words."""
    if row.verdict == "mismatch":
        values = f"manual {_value(row.manual)} and torch {_value(row.torch)} at {list(row.worst)}"
        if not np.isfinite(row.allowed):
            return f"{values} differ, and there is no bound on what rounding may do"
        return f"{values} differ by {row.used:.3g} times what rounding allows ({row.allowed:.3g})"
    if row.verdict == "nonfinite":
        values = f"manual {_value(row.manual)}, torch {_value(row.torch)}"
        return f"not finite at {list(row.worst)}: {values}"
    if row.verdict == "vacuous":
        return f"vacuous: {why(row['name'])}"
    return f"{row.verdict}: manual has {row.manual}, torch {row.torch}"


def table(frame: pd.DataFrame) -> str:
    """The frame as text, one line a row."""
    shown = frame[["step", "name", "shape", "dtype", "max_abs", "max_ulp", "allowed", "used"]]
    shown = shown.assign(
        shape=[str(list(s)) if isinstance(s, tuple) else "" for s in frame["shape"]],
        max_abs=[_number(v) for v in frame.max_abs],
        max_ulp=[_number(v) for v in frame.max_ulp],
        allowed=[_number(v) for v in frame.allowed],
        used=[_number(100 * v, "%") for v in frame.used],
        worst=[str(list(w)) if isinstance(w, tuple) else "" for w in frame.worst],
        manual=[_value(v) for v in frame.manual],
        torch=[_value(v) for v in frame.torch],
        verdict=frame.verdict,
    )
    return shown.to_string(index=False)


def _number(value: float, unit: str = "") -> str:
    return "" if pd.isna(value) else f"{value:.2g}{unit}"


def _value(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def context(seed: int | None, device: str) -> str:
    """What it takes to see the same again."""
    return (
        f"seed {seed}, numpy {np.__version__}, torch {torch.__version__} on {device}, "
        f"python {platform.python_version()}, {platform.machine()}"
    )
