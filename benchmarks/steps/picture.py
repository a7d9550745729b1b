"""The picture of a sweep: time for a step against batch size, the bare products as the floor."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.plot import COLOURS, save
from benchmarks.steps.contestant import MANUAL, NAMES
from benchmarks.steps.table import groups

FLOOR = "#8c8c8c"
STYLES = {
    MANUAL: {"color": COLOURS["manual"], "marker": "o", "linewidth": 2.6, "zorder": 5},
    "torch eager": {"color": COLOURS["torch"], "marker": "s"},
    "torch fused SGD": {"color": "#5fa2d4", "marker": "D"},
    "torch compiled": {"color": "#0b3c5d", "marker": "^"},
    "JAX jit": {"color": "#7b4fa3", "marker": "v"},
    "scikit-learn": {"color": "#3a8f5c", "marker": "P"},
    "NumPy products": {"color": FLOOR, "linestyle": "--"},
    "torch products": {"color": FLOOR, "linestyle": ":"},
}
WIDTH, HEIGHT = 5.2, 4.6  # of a panel, in inches
LEGEND = 0.9


def plot(rows: list[dict], heading: str, path: Path) -> None:
    """Write one PNG with a panel for each network, dtype and number of threads that has more than
    one batch size (or for each, where none has)."""
    panels = list(groups(rows))
    panels = [each for each in panels if each[1].batch.nunique() > 1] or panels
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    size = max(WIDTH * columns, 7.5), HEIGHT * lines + LEGEND
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(heading, fontsize=11)
    every = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, own) in zip(every, panels, strict=False):
        _panel(axes, title, own)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    named = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    order = [name for name in NAMES if name in named]
    figure.legend(
        [named[name] for name in order], order, loc="outside lower center", ncols=4, frameon=False
    )
    save(figure, path)


def _panel(axes: Axes, title: str, rows: pd.DataFrame) -> None:
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="µs a step")
    axes.set_title(title.replace("entropy, ", "entropy,\n"), fontsize=9)
    for name in NAMES:
        own = rows[rows.contestant == name].sort_values("batch")
        if not len(own):
            continue
        axes.plot(own.batch, own.us, label=name, **({"linewidth": 1.5, "ms": 5} | STYLES[name]))
        if "linestyle" not in STYLES[name]:
            axes.fill_between(
                own.batch, own.us_q1, own.us_q3, color=STYLES[name]["color"], alpha=0.15, lw=0
            )
    batches = sorted(rows.batch.unique())
    axes.xaxis.set_major_locator(FixedLocator(batches))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda us, _: f"{us:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="both", axis="y", alpha=0.2)
    axes.set_axisbelow(True)
    floor = rows[rows.contestant == "NumPy products"].sort_values("batch")
    if len(floor):
        bottom = axes.get_ylim()[0]
        axes.fill_between(floor.batch, bottom, floor.us, color=FLOOR, alpha=0.12, lw=0)
        axes.set_ylim(bottom=bottom)
