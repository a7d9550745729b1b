"""The picture of a benchmark run."""

import argparse
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from benchmarks.results import replace

COLOURS = {"manual": "#d95f02", "torch": "#1b6ca8"}
# Where the curves coincide both must show: a wide line under a narrow, dashed one.
STYLES = {"torch": {"linewidth": 5, "alpha": 0.45}, "manual": {"linewidth": 1.8, "ls": "--"}}


def plot(rows: list[dict], title: str, path: Path) -> None:
    """Write one PNG: the loss curves of both sides in one plot, their throughput as bars."""
    frame = pd.DataFrame(rows)
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    loss, throughput = figure.subplots(1, 2, width_ratios=[2, 1])
    figure.suptitle(title, fontsize=11)
    for side in ("torch", "manual"):
        own = frame[frame.side == side]
        style = {"color": COLOURS[side], "marker": "o", **STYLES[side]}
        loss.plot(own.epoch, own.train_loss, label=f"{side}, training", **style)
        style["marker"] = "s"
        loss.plot(own.epoch, own.test_loss, label=f"{side}, test", **style, markerfacecolor="white")
    loss.set(xlabel="epoch", ylabel="cross-entropy loss", title="loss")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False)

    medians = frame.groupby("side").samples_per_second.median().reindex(list(COLOURS))
    bars = throughput.bar(medians.index, medians, color=list(COLOURS.values()), width=0.6)
    throughput.bar_label(bars, fmt="{:,.0f}", padding=3)
    throughput.set(ylabel="samples per second (median epoch)", title="training throughput")
    throughput.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    throughput.margins(y=0.12)
    for axes in (loss, throughput):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    save(figure, path)


def folder(description: str) -> Path:
    """The folder that an example was given on its command line, or `results`. Ends the program
    with the usage for --help, for a second argument, and for what is a file."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", default="results", type=Path, help="for the picture (results)"
    )
    chosen = parser.parse_args().folder
    if chosen.exists() and not chosen.is_dir():
        parser.error(f"{chosen} is not a folder")
    return chosen


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all; the folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, png(figure))


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
