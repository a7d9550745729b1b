"""What several seeds say: mean and spread, and whether one run is better than another."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

FIGURES = ("test_accuracy", "test_loss", "precision", "recall", "f1")
# What the homework finds, or that one could read out of its table.
QUESTIONS = (
    ("early stopping", "no early stopping"),
    ("Glorot uniform", "He normal"),
    ("Glorot uniform", "random normal"),
    ("He normal", "random normal"),
)
SURE = 0.95  # that none of the answers for one figure is a "better" by chance


def spread(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each run and side, in the order of the rows: seeds, and of every figure its mean,
    standard deviation (n − 1; NaN for one seed), least and largest value: test_loss_mean …"""
    frame = pd.DataFrame(rows)
    groups = frame.groupby(["run", "side"], sort=False)
    table = groups[list(FIGURES)].agg(["mean", "std", "min", "max"])
    table.columns = ["_".join(names) for names in table.columns]
    table.insert(0, "seeds", groups.size())
    return table.reset_index()


class Finding(NamedTuple):
    """manual's `figure` of `one` run less that of the `other`, seed by seed, in pairs: the mean,
    and an interval of confidence by Student's t. The interval is as wide as it takes for all the
    questions about one figure to be right together with probability `SURE` (Bonferroni)."""

    figure: str
    one: str
    other: str
    seeds: int
    mean: float
    low: float
    high: float

    @property
    def found(self) -> bool:
        """Whether 0, no difference, lies outside the interval. One without width is none: then
        the figure was too coarse to vary, an accuracy over few images."""
        return self.low < self.high and not self.low <= 0 <= self.high


def findings(rows: list[dict[str, Any]]) -> list[Finding]:
    """An answer for each question and figure (accuracy, loss), where two seeds or more are there
    for both runs."""
    frame = pd.DataFrame(rows)
    own = frame[frame.side == "manual"].pivot(index="seed", columns="run")
    answers = []
    for figure in ("test_accuracy", "test_loss"):
        for one, other in QUESTIONS:
            if not {one, other} <= set(own[figure].columns):
                continue
            differences = (own[figure][one] - own[figure][other]).dropna().to_numpy()
            if len(differences) >= 2:
                low, high = interval(differences, 1 - (1 - SURE) / len(QUESTIONS))
                answers.append(
                    Finding(figure, one, other, len(differences), differences.mean(), low, high)
                )
    return answers


def interval(sample: np.ndarray, confidence: float) -> tuple[float, float]:
    """Of the mean of what the sample (2 or more) is drawn from."""
    mean, n = float(sample.mean()), len(sample)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * sample.std(ddof=1) / math.sqrt(n)
    return mean - half, mean + half
