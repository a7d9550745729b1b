"""One column of runs.csv against another."""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.plot import COLOURS
from benchmarks.runs.select import SelectError, column, is_number

WIDE = 100  # largest over smallest: from there on the axis is logarithmic


def scatter(frame: pd.DataFrame, x: str, y: str) -> Figure:
    """A point for each row that has both, in a colour for each side, with a marker for each
    command. y: numbers; x: numbers, "when", or names.

    Raises SelectError for other columns, and where no row has both."""
    if not is_number(column(frame, y)):
        raise SelectError(f"{y!r} has no numbers to plot")
    column(frame, x)
    own = frame.dropna(subset=[x, y])
    if own.empty:
        raise SelectError(f"no row has both {x!r} and {y!r}")
    across = own[x]
    if x == "when":
        try:
            across = pd.to_datetime(across)
        except ValueError:
            raise SelectError("'when' has something that is no date and time") from None
    elif not is_number(across):
        across = across.astype(str)
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    ax = figure.subplots()
    if across.dtype == object or pd.api.types.is_string_dtype(across):
        ax.xaxis.update_units(sorted(set(across)))  # names in this order, not in that of the rows
    keys = [name for name in ("command", "side") if name in own]
    labels = own[keys].fillna("").agg(", ".join, axis=1) if keys else pd.Series("", own.index)
    for k, label in enumerate(sorted(set(labels))):
        chosen = labels == label
        side = label.rpartition(", ")[2]
        ax.scatter(
            across[chosen],
            own[y][chosen],
            label=label,
            s=44,
            alpha=0.6,
            color=COLOURS.get(side, f"C{k % 10}"),
            marker="os^Dvp"[k % 6],
        )
    for name, values, scale in ((x, across, ax.set_xscale), (y, own[y], ax.set_yscale)):
        wide = is_number(values) and values.min() > 0 and values.max() / values.min() >= WIDE
        if wide and name not in ("seed",):
            scale("log")
    ax.set(xlabel=x, ylabel=y, title=f"{len(own)} rows of runs.csv")
    ax.tick_params(axis="x", rotation=0 if is_number(across) else 30)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if len(set(labels)) > 1:
        ax.legend(frameon=False)
    return figure
