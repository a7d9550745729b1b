"""Runs side by side: what differs between some of them, and what groups of them come to."""

import pandas as pd

from benchmarks.runs.select import SelectError, column, is_number

FIGURES = (
    "test_accuracy",
    "test_loss",
    "precision",
    "recall",
    "f1",
    "seconds",
    "samples_per_second",
    "step_us",
    "max_weight_difference",
    "false_alarms",
)


def side_by_side(frame: pd.DataFrame, numbers: list[int]) -> pd.DataFrame:
    """A row for each column in which the rows `numbers` differ, a column for each of them; for
    two, "ratio" is the second's number over the first's.

    Raises SelectError for a number that is not there."""
    for number in numbers:
        if number not in frame.index:
            raise SelectError(f"no row {number}: expected 1 to {len(frame)}")
    chosen = frame.loc[numbers]
    differ = [name for name in frame if chosen[name].nunique(dropna=False) > 1]
    table = pd.DataFrame({str(number): chosen.loc[number, differ] for number in numbers})
    if len(numbers) == 2:
        one, two = numbers
        table["ratio"] = [
            chosen.loc[two, name] / chosen.loc[one, name]
            if is_number(chosen[name]) and chosen.loc[one, name] != 0
            else None
            for name in differ
        ]
    return table.rename_axis("column").reset_index()


def groups(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row for each value of the columns `by`: how many rows, and of each figure that is there
    its mean and standard deviation (n − 1), figure_mean and figure_std.

    Raises SelectError as `column`, and where no row has a figure."""
    for name in by:
        column(frame, name)
    figures = [name for name in FIGURES if name in frame and frame[name].notna().any()]
    figures = [name for name in figures if is_number(frame[name]) and name not in by]
    if not figures:
        raise SelectError(f"no row has one of {', '.join(FIGURES)}")
    grouped = frame.groupby(by, dropna=False, sort=True)
    table = grouped[figures].agg(["mean", "std"])
    table.columns = ["_".join(names) for names in table.columns]
    table.insert(0, "rows", grouped.size())
    return table.reset_index()
