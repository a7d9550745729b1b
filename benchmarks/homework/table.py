"""The tables: every run beside the homework's figures, and what several seeds say."""

import pandas as pd
from rich.table import Table

from benchmarks.bench import STYLES
from benchmarks.homework.parts import PARTS, Figures, printed
from benchmarks.homework.spread import SURE, Finding
from compare.show import plain_table

METRICS = ("precision", "recall", "f1")
BY_NAME = {part.name: part for part in PARTS}


def title(row: dict) -> str:
    """The settings, which all runs have in common."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    on = "" if row["device"] == "cpu" else f", {row['gpu']}, float32 products in float32 (no TF32)"
    return (
        f"{row['dataset']}, 784-{row['hidden']}-1 or 10, {row['activation']}, {row['optimizer']} "
        f"lr {row['lr']} momentum {row['momentum']} weight decay {row['weight_decay']}, "
        f"batch {row['batch_size']}, at most {row['epochs']} epochs, {row['dtype']}, {threads}{on}"
    )


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def cells(row: dict) -> list[str]:
    """Accuracy, loss, precision, recall, F1, epochs (best of run), seconds, weights' difference."""
    return [
        percent(row["test_accuracy"]),
        f"{row['test_loss']:.4f}",
        *(percent(row[name]) for name in METRICS),
        f"{row['best_epoch']}/{row['epochs_run']}",
        f"{row['seconds']:.1f}",
        f"{row['max_weight_difference']:.0e}" if row["side"] == "manual" else "",
    ]


def homework_cells(figures: Figures | None) -> list[str]:
    """Accuracy, loss, precision, recall and F1 as the homework prints them."""
    if figures is None:
        return [""] * 5
    shares = ["" if value is None else f"{round(100 * value, 3):g}" for value in figures[2:]]
    return [f"{round(100 * figures.accuracy, 3):g}", f"{figures.loss:g}", *shares]


def reached(row: dict, figures: Figures | None) -> bool:
    """Whether the accuracy is at least the homework's, where it has one and the images are as
    many (the sample has a fifteenth of them)."""
    comparable = figures is not None and row["dataset"] == "mnist"
    return not comparable or row["test_accuracy"] >= figures.accuracy


def runs_table(rows: list[dict], digits: tuple[int, int]) -> Table:
    """For each run the homework's figures, then manual's and torch's. It fits into 80 columns."""
    columns = ("acc.", "loss", "prec.", "recall", "F1", "epochs", "sec.", "apart")
    table = _table(f"{title(rows[0])}, seed {rows[0]['seed']}", columns)
    for row in rows:
        figures = printed(BY_NAME[row["run"]], digits)
        if row["side"] == "manual":
            _begin(table, row["run"], homework_cells(figures))
        shown = cells(row)
        if not reached(row, figures):
            shown[0] = f"[red]{shown[0]}[/]"
        table.add_row(_coloured(row["side"]), *shown)
    return table


def spread_table(frame: pd.DataFrame, digits: tuple[int, int], row: dict) -> Table:
    """Mean and, below it, standard deviation over the seeds, beside the homework's one figure. It
    fits into 80 columns."""
    first, n = row["seed"], int(frame.seeds.max())
    seeds = f"seeds {first} to {first + n - 1}: mean ± standard deviation"
    columns = ("acc.", "lowest", "loss", "prec.", "recall", "F1")
    table = _table(f"{title(row)}, {seeds}", columns)
    for own in frame.to_dict("records"):
        if own["side"] == "manual":
            accuracy, *others = homework_cells(printed(BY_NAME[own["run"]], digits))
            _begin(table, own["run"], [accuracy, "", *others])
        means, spreads = zip(*(c.partition("±")[::2] for c in spread_cells(own)), strict=True)
        table.add_row(_coloured(own["side"]), *means)
        if any(spreads):
            table.add_row("    ±", *spreads)
    return table


def _table(heading: str, columns: tuple[str, ...]) -> Table:
    table = plain_table(heading)
    table.add_column("test images, %", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _begin(table: Table, run: str, homework: list[str]) -> None:
    """A line with the run's name, and one with the homework's figures."""
    table.add_row(f"[bold]{run}[/]")
    table.add_row("  homework", *homework)


def _coloured(side: str) -> str:
    return f"  [{STYLES[side]}]{side}[/]"


def spread_cells(own: dict) -> list[str]:
    """Accuracy, the lowest of all seeds, loss, precision, recall and F1 of a row of `spread`."""

    def both(name: str, scale: float, places: int) -> str:
        mean, std = scale * own[f"{name}_mean"], scale * own[f"{name}_std"]
        return f"{mean:.{places}f}" + ("" if pd.isna(std) else f"±{std:.{places}f}")

    return [
        both("test_accuracy", 100, 2),
        percent(own["test_accuracy_min"]),
        both("test_loss", 1, 4),
        *(both(name, 100, 2) for name in METRICS),
    ]


def findings_lines(found: list[Finding]) -> list[str]:
    """A line for each question."""
    if not found:
        return []
    lines = [
        f"manual, seed by seed, with an interval of confidence ({SURE:.0%} that all of one "
        "figure are right):"
    ]
    return lines + [finding_line(one) for one in found]


def finding_line(one: Finding) -> str:
    """One run less another, and whether that is more than chance."""
    scale, unit, places = (100, " %", 2) if one.figure == "test_accuracy" else (1, "", 4)
    mean, low, high = (f"{scale * v:+.{places}f}" for v in (one.mean, one.low, one.high))
    if one.found:
        better = (one.mean > 0) == (one.figure == "test_accuracy")
        verdict = "better" if better else "worse"
    else:
        verdict = "no finding"
    figure = one.figure.removeprefix("test_")
    return (
        f"  {figure}: {one.one} − {one.other} = {mean}{unit} ({low} to {high}), "
        f"{one.seeds} seeds: {verdict}"
    )
