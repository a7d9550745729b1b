"""What a comparison says: the table, whether it passed, whose fault it is."""

import difflib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from compare import report
from compare.vacuity import declared


class EquivalenceError(AssertionError):
    """The two sides differ by more than rounding, or a check could not have failed; the text is
    the table. comparison: all of it."""

    def __init__(self, comparison: "Comparison") -> None:
        vacuous = set(comparison.failures.verdict) == {"vacuous"}
        what = "a check could not have failed" if vacuous else "manual and torch differ"
        super().__init__(f"{what}\n{comparison}")
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
    context: the seed, versions, threads and command that reproduce it, and what manual raised, if
        it did; the tensors that it did not come to are missing.
    reasons: (step, name) → where that row's allowance comes from, in words.
    allow_vacuous: patterns of row names whose verdict "vacuous" is a pass.
    asked: how much the oracle was asked, in words.

    `frame.to_csv` and `frame.to_json` write it; a notebook shows it in colours.
    """

    frame: pd.DataFrame
    context: str
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)
    allow_vacuous: tuple[str, ...] = ()
    asked: str = ""

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

    def explain(self, name: str, step: int | None = None) -> str:
        """In words: where what is allowed for that tensor comes from, what its worst element is,
        what manual, torch and the oracle have there, and whether it is rounding or a bug.

        step: default the first in which it fails, or else the last. Raises KeyError for a name or
        a step that there is not.
        """
        rows = self.frame[self.frame["name"] == name]
        if step is not None:
            rows = rows[rows.step == step]
        if not len(rows):
            names = self.frame["name"].unique()
            near = [] if name in names else difflib.get_close_matches(str(name), names)
            hint = f"; did you mean {near}?" if near else ""
            where = "" if step is None else f" in step {step}"
            raise KeyError(f"explain: there is no tensor {name!r}{where}{hint}")
        failed = rows[~rows.verdict.isin(["ok", "vacuous"])]
        row = failed.iloc[0] if len(failed) else rows.iloc[-1]
        return report.explain(row, self.reasons.get((int(row.step), name)))

    def __str__(self) -> str:
        failures = self.failures
        rows, others = report.shown(self.frame, failures)
        text = f"{report.table(rows)}\n{others}{self._summary(failures)}"
        return text if self.passed else f"{text}\n{self.context}"

    def _repr_html_(self) -> str:
        failures = self.failures
        rows, others = report.shown(self.frame, failures)
        return report.html(rows, f"{others}{self._summary(failures)}")

    def _summary(self, failures: pd.DataFrame) -> str:
        return report.summary(self.frame, failures, self.asked)
