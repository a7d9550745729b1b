"""The pictures of the study. Each is drawn from the runs of one seed, as many as there are."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.homework.study import Trained
from benchmarks.plot import COLOURS, STYLES

SIDE = 28  # pixels of an image
SHOWN = 16  # images in a strip
GAP = 3  # pixels between them


def curves(runs: list[Trained]) -> Figure:
    """Training and validation loss of both sides, and the epoch whose weights were restored."""
    figure = Figure(figsize=(11, 6.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, 3, squeeze=False).flat
    for ax, run in zip(axes, runs, strict=False):
        for side in ("torch", "manual"):
            history = run.sides[side].history
            epochs = [e.epoch for e in history.epochs]
            style = {"color": COLOURS[side], **STYLES[side]}
            ax.plot(epochs, [e.loss for e in history.epochs], label=f"{side}, training", **style)
            style |= {"marker": "s", "markersize": 4, "markerfacecolor": "white"}
            validation = [e.validation_loss for e in history.epochs]
            ax.plot(epochs, validation, label=f"{side}, validation", **style)
        _mark_stop(ax, run)
        ax.set(title=run.part.name, yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y", alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in list(axes)[len(runs) :]:
        ax.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("loss", fontsize=10)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _mark_stop(ax: Axes, run: Trained) -> None:
    """The end of the run, and the weights that it ended with, of manual's side."""
    history = run.sides["manual"].history
    ended = len(history.epochs)
    if not run.part.stops:
        note = f"ends with epoch {ended}"
    else:
        ax.axvline(history.best, color="#444", linestyle=":", linewidth=1.5)
        how = "stopped after" if history.stopped == "early stopping" else "not stopped by"
        note = f"best epoch {history.best} (dotted),\n{how} epoch {ended}"
    ax.annotate(note, (0.97, 0.96), xycoords="axes fraction", ha="right", va="top", fontsize=8,
                bbox={"color": "white", "pad": 1})  # fmt: skip


def matrices(runs: list[Trained]) -> Figure:
    """The confusion matrix of every run, manual's, and in how many images torch says otherwise."""
    figure = Figure(figsize=(12, 5.2), dpi=150, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    small = list(left.subplots(2, 3, squeeze=False).flat)
    large = right.subplots()
    for run in runs:
        ax = small.pop(0) if run.part.binary else large
        _matrix(ax, run)
        if not run.part.binary:
            large = None
    for ax in [*small, *([large] if large is not None else [])]:
        ax.set_axis_off()
    return figure


def _matrix(ax: Axes, run: Trained) -> None:
    matrix = run.confusion("manual")
    names = [str(digit) for digit in run.images.names]
    shade = np.log1p(matrix)
    ax.imshow(shade, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        dark = shade[row, column] > 0.6 * shade.max()
        ax.text(column, row, str(count), ha="center", va="center", fontsize=8,
                color="white" if dark else "black")  # fmt: skip
    ticks = range(len(names))
    differ = int((run.sides["manual"].said != run.sides["torch"].said).sum())
    torch = f"torch differs in {differ}" if differ else "torch: the same"
    ax.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
    ax.set(xlabel="said", ylabel="true")
    ax.set_title(f"{run.part.name}\n{torch}", fontsize=9)


def mistakes(runs: list[Trained]) -> Figure:
    """Test images that both sides get wrong, the first of each run, each as true → said."""

    def captions(run: Trained, chosen: np.ndarray) -> list[str]:
        names, said = run.images.names, run.sides["manual"].said
        return [f"{names[run.true[k]]} → {names[said[k]]}" for k in chosen]

    figure = Figure(figsize=(11, 1.15 * len(runs) + 0.3), dpi=150, layout="constrained")
    for ax, run in zip(figure.subplots(len(runs), squeeze=False).flat, runs, strict=True):
        wrong = {name: side.said != run.true for name, side in run.sides.items()}
        both = np.flatnonzero(wrong["manual"] & wrong["torch"])
        one = int((wrong["manual"] != wrong["torch"]).sum())
        chosen = both[:SHOWN]
        _strip(ax, 255 - run.images.test_x[chosen], "gray", (0, 255), captions(run, chosen))
        which = f" (the first {SHOWN})" if len(both) > SHOWN else ""
        ax.set_title(
            f"{run.part.name}: {len(both)} of {len(run.true)} wrong on both sides{which}, "
            f"{one} on one side alone", fontsize=9, loc="left",
        )  # fmt: skip
    return figure


def weights(runs: list[Trained]) -> Figure:
    """What the first layer weighs each pixel with, in the units with the largest weights (by the
    sum of their squares): manual's, red above 0 and blue below."""
    figure = Figure(figsize=(11, 1.05 * len(runs) + 0.3), dpi=150, layout="constrained")
    for ax, run in zip(figure.subplots(len(runs), squeeze=False).flat, runs, strict=True):
        layer = next(iter(run.sides["manual"].weights.values()))
        first = layer[np.argsort(-(layer**2).sum(axis=1), kind="stable")[:SHOWN]]
        largest = float(np.abs(first).max())
        _strip(ax, first, "RdBu_r", (-largest, largest), [])
        ax.set_title(f"{run.part.name} (±{largest:.2f})", fontsize=9, loc="left")
    return figure


def _strip(
    ax: Axes, images: np.ndarray, colours: str, limits: tuple[float, float], captions: list[str]
) -> None:
    """Images (n ≤ SHOWN, 784) side by side, each with its caption below."""
    strip = np.full((SIDE, SHOWN * (SIDE + GAP) - GAP), np.nan)
    for k, image in enumerate(images):
        start = k * (SIDE + GAP)
        strip[:, start : start + SIDE] = image.reshape(SIDE, SIDE)
    ax.imshow(strip, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    for k, caption in enumerate(captions):
        ax.text(k * (SIDE + GAP) + SIDE / 2, SIDE + 1, caption, ha="center", va="top", fontsize=8)
    ax.set_axis_off()


PICTURES: dict[str, Callable[[list[Trained]], Figure]] = {
    "curves": curves,
    "confusion": matrices,
    "mistakes": mistakes,
    "weights": weights,
}
