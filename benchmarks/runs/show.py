"""The tables of `handgrad results`."""

from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from benchmarks.runs.select import is_number
from compare.show import plain_table

# Shown where nobody asks for others, if any row has something there.
USUAL = (
    "when",
    "command",
    "run",
    "side",
    "dataset",
    "dtype",
    "test_accuracy",
    "test_loss",
    "false_alarms",
    "epochs_run",
    "seconds",
    "step_us",
    "seed",
    "git_commit",
)


def usual(frame: pd.DataFrame) -> list[str]:
    """The names of `USUAL` under which a row has something."""
    return [name for name in USUAL if name in frame and frame[name].notna().any()]


def text(name: str, value: Any) -> str:
    """A cell, short: times to the second, 9 digits of a commit or digest, shares in percent."""
    if pd.isna(value):
        return ""
    if name == "when":
        return str(value)[:19].replace("T", " ")
    if name in ("git_commit", "weights"):
        return str(value)[:9]
    if isinstance(value, str):  # also where others put text into a column of figures
        return value
    if name.startswith(("test_accuracy", "train_accuracy", "precision", "recall", "f1")):
        return f"{value:.2%}"
    if name.startswith("max_weight_difference"):
        return f"{value:.1e}"
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def rows_table(frame: pd.DataFrame, title: str) -> Table:
    """The rows with their numbers; numbers to the right."""
    table = plain_table(title)
    table.add_column("#", justify="right")
    for name in frame:
        table.add_column(name, justify="right" if is_number(frame[name]) else "left")
    for number, row in zip(frame.index, frame.to_dict("records"), strict=True):
        table.add_row(str(number), *(escape(text(k, v)) for k, v in row.items()))
    return table


def contrast_table(frame: pd.DataFrame) -> Table:
    """Rows side by side."""
    table = plain_table("where the rows differ")
    for name in frame:
        table.add_column(name, justify="left" if name == "column" else "right")
    for row in frame.to_dict("records"):
        name = row.pop("column")
        shown = [text("" if key == "ratio" else name, value) for key, value in row.items()]
        table.add_row(name, *map(escape, shown))
    return table


def groups_table(frame: pd.DataFrame, by: list[str]) -> Table:
    """Groups, and of each figure mean ± standard deviation."""
    figures = [n.removesuffix("_mean") for n in frame if n.endswith("_mean") and n not in by]
    table = plain_table("mean ± standard deviation")
    for name in by:
        table.add_column(name)
    for name in ("rows", *figures):
        table.add_column(name, justify="right")
    for row in frame.to_dict("records"):
        shown = [text(name, row[name]) for name in (*by, "rows")]
        for name in figures:
            mean, std = text(name, row[f"{name}_mean"]), text(name, row[f"{name}_std"])
            shown.append(f"{mean} ± {std}" if std else mean)
        table.add_row(*map(escape, shown))
    return table
