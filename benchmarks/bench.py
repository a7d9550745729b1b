"""`handgrad bench`: prove, train, report."""

import sys
from pathlib import Path
from statistics import median

import pandas as pd
from rich.table import Table

from benchmarks.data import Dataset
from benchmarks.mnist import Pair, Settings, make_pair, prove, train
from benchmarks.plot import plot
from benchmarks.progress import Progress, begin
from benchmarks.results import sweep, write_csv
from benchmarks.runs.log import Run
from benchmarks.show import console, print_records, working
from benchmarks.steps.command import hint
from benchmarks.steps.problem import Problem
from benchmarks.tensor_file import TensorFileError
from compare.device import described
from compare.show import plain_table
from manual.resuming import ResumeError

FLOAT64_AGREES = 1e-9  # largest difference between weights after a run
STYLES = {"manual": "dark_orange", "torch": "steel_blue1"}


def bench(
    settings: Settings,
    data: Dataset,
    out: Path,
    as_json: bool,
    as_csv: bool,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> int:
    """Run the benchmark; returns the exit status. The CSV holds every finished epoch at any time,
    and so does the checkpoint, with all that the next ones depend on. resume: go on from it.

    Raises OSError (before any training) where `out` or the checkpoint cannot be written to,
    TensorFileError for a checkpoint that cannot be resumed from.
    """
    run = begin(checkpoint, resume, settings, data)
    pair = make_pair(settings, data.train_x.shape[1], data.classes)
    proof = prove(pair, data, settings)
    if not proof.passed:
        print(f"the pair is not proven, so nothing is trained\n{proof}", file=sys.stderr)
        return 1
    print(
        f"proven: {len(proof.frame)} tensors over {proof.frame.step.max()} steps agree, using at "
        f"most {proof.frame.used.max():.0%} of what rounding allows",
        file=sys.stderr,
    )
    log = Run(out, "bench", run.began)
    path = log.path(data.name, ".csv")
    sweep(path)
    if run.rows:  # these may be more than the run wrote there before it was stopped
        write_csv(path, run.rows)
    status, outcome = _train(run, pair, data, settings, path)
    rows = run.rows
    if not rows:
        return status
    log.record([row | {"outcome": outcome} for row in run_rows(rows)])
    if not print_records(rows, as_json, as_csv):
        console.print(epochs_table(rows, settings))
        console.print(summary_table(rows, settings))
    saved = f"{path}"
    if status == 0:
        picture = path.with_suffix(".png")
        plot(rows, _title(rows[0]), picture)
        saved += f" and {picture}"
    print(f"saved {saved}", file=sys.stderr)
    apart = rows[-1]["max_weight_difference"]
    if status == 0 and settings.dtype == "float64" and not apart <= FLOAT64_AGREES:
        print(
            f"the weights of the two sides are {apart:.1e} apart after the run in float64, "
            f"more than {FLOAT64_AGREES:.0e}: one of them trains wrongly",
            file=sys.stderr,
        )
        return 1
    if status == 0 and settings.device == "cpu":  # the hint is about the CPU's BLAS
        hint(_problem(settings, data), settings.threads)
    return status


def _train(
    run: Progress, pair: Pair, data: Dataset, settings: Settings, path: Path
) -> tuple[int, str]:
    """Train what is left to train, row by row into `run` and the CSV; returns the exit status
    and, in a word, how it ended."""
    try:
        with working("training", total=2 * settings.epochs - len(run.rows)) as progress:
            for rows in train(pair, data, settings, progress, run.states):
                run.add(rows)
                write_csv(path, run.rows)
    except ResumeError as error:
        raise TensorFileError(f"{run.path}: {error}") from error
    except KeyboardInterrupt:
        if run.rows:  # it may have come while these were being written
            write_csv(path, run.rows)
        print(f"interrupted after {run.epochs} finished epochs{run.told()}", file=sys.stderr)
        return 130, "interrupted"
    except FloatingPointError as error:
        print(f"training stopped: {error} (lr {settings.lr}){run.told()}", file=sys.stderr)
        return 1, "diverged"
    return 0, "finished"


def _problem(settings: Settings, data: Dataset) -> Problem:
    """A step as it was trained."""
    return Problem(
        (data.train_x.shape[1], *settings.hidden, data.classes),
        settings.activation,
        dtype=settings.dtype,
        batch=settings.batch_size,
        seed=settings.seed,
    )


def _title(row: dict) -> str:
    return (
        f"{row['dataset']}, 784-{row['hidden']}-10 {row['activation']}, {row['optimizer']} "
        f"lr {row['lr']}, batch {row['batch_size']}, {row['dtype']}, "
        f"{row['threads']} thread{'s' * (row['threads'] > 1)}, seed {row['seed']}"
    )


def run_rows(rows: list[dict]) -> list[dict]:
    """For each side the figures of its last epoch, the seconds of all, and the samples a second
    of the median one."""
    summary = []
    for side in STYLES:
        own = [row for row in rows if row["side"] == side]
        last = {name: value for name, value in own[-1].items() if name != "epoch"}
        figures = {
            "epochs_run": len(own),
            "seconds": sum(row["seconds"] for row in own),
            "samples_per_second": median(row["samples_per_second"] for row in own),
        }
        summary.append(last | figures)
    return summary


def epochs_table(rows: list[dict], settings: Settings) -> Table:
    """Two rows for each epoch, one a side."""
    table = plain_table(f"{_title(rows[0])}\nboth on {described(settings.device)}")
    for column in ("epoch", "side"):
        table.add_column(column)
    for column in ("train loss", "train acc.", "test acc.", "seconds", "samples/s"):
        table.add_column(column, justify="right")
    table.add_column("weights differ by", justify="right")
    for row in rows:
        first = row["side"] == "manual"
        table.add_row(
            str(row["epoch"]) if first else "",
            f"[{STYLES[row['side']]}]{row['side']}[/]",
            f"{row['train_loss']:.5f}",
            f"{row['train_accuracy']:.2%}",
            f"{row['test_accuracy']:.2%}",
            f"{row['seconds']:.3f}",
            f"{row['samples_per_second']:,.0f}",
            f"{row['max_weight_difference']:.1e}" if first else "",
        )
    return table


def summary_table(rows: list[dict], settings: Settings) -> Table:
    """A row for each side: test accuracy at the end, and the median epoch."""
    table = plain_table("at the end, and the speed of the median epoch")
    for column in ("side", "device"):
        table.add_column(column)
    for column in ("test accuracy", "test loss", "seconds", "samples/s", "times torch"):
        table.add_column(column, justify="right")
    frame = pd.DataFrame(rows)
    # The two sides of one epoch ran one after the other: a ratio for each epoch, then the median.
    seconds = frame.pivot(index="epoch", columns="side", values="seconds")
    for side, own in frame.groupby("side"):
        table.add_row(
            f"[{STYLES[side]}]{side}[/]",
            settings.device,
            f"{own.test_accuracy.iloc[-1]:.2%}",
            f"{own.test_loss.iloc[-1]:.5f}",
            f"{own.seconds.median():.3f}",
            f"{own.samples_per_second.median():,.0f}",
            f"{(seconds.torch / seconds[side]).median():.2f}",
        )
    return table
