"""What every process of a run does: come together, agree, prove, time, train. Rank 0 reports."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pandas as pd
from rich.table import Table

from benchmarks.bench import FLOAT64_AGREES, STYLES, run_rows
from benchmarks.data import Dataset, load
from benchmarks.distributed import proof, timing, training
from benchmarks.distributed.group import Group, agree, connect, digest_of, join
from benchmarks.distributed.watch import RankError, Watch, end
from benchmarks.mnist import Settings, equal_threads, make_pair
from benchmarks.mnist import prove as prove_pair
from benchmarks.results import provenance, write_csv
from benchmarks.runs.log import Run
from benchmarks.show import console, print_records, working
from compare.device import true_float32
from compare.show import plain_table

VERSIONS = ("handgrad", "numpy", "torch", "git_commit")


def member(
    settings: Settings,
    dataset: str,
    data_root: Path | None,
    out: Path,
    as_json: bool,
    as_csv: bool,
) -> int:
    """One of the processes; returns its exit status."""
    return guarded(
        lambda watch: _run(watch, settings, load(dataset, data_root), out, as_json, as_csv)
    )


def guarded(run: Callable[[Watch], int]) -> int:
    """Join the others and run; what `run` returns. What ends it early is told to all others, and
    to who started them, with its rank; then the process ends at once."""
    watch, who = None, f"rank {os.environ.get('RANK', '?')}"
    try:
        watch = join()
        return run(watch)
    except (RankError, proof.NotEqual) as error:
        message = str(error)
    except (FloatingPointError, OSError, ValueError) as error:
        message = f"{who}: {error}"
    except MemoryError as error:
        message = f"{who}: not enough memory: {error}"
    except KeyboardInterrupt:
        os._exit(130)  # who waits for an all-reduce would not end otherwise
    except Exception as error:
        traceback.print_exc()
        message = f"{who}: {type(error).__name__}: {error}"
    message = " ".join(message.split())
    if watch is not None:
        watch.report(message)
    return end(message)


def _run(
    watch: Watch, settings: Settings, data: Dataset, out: Path, as_json: bool, as_csv: bool
) -> int:
    origin = provenance()
    agree(
        watch,
        {
            **asdict(settings),
            "dataset": data.name,
            "training samples": len(data.train_x),
            "test samples": len(data.test_x),
            "data": digest_of({k: v for k, v in vars(data).items() if hasattr(v, "shape")})[:16],
            **{name: origin[name] for name in VERSIONS},
        },
    )
    first = watch.rank == 0
    log = Run(out, "bench") if first else None
    with equal_threads(settings.threads), true_float32(settings.device):
        if first:
            _prove_pair(data, settings)
            watch.announce("pair proven")
        watch.wait_for("pair proven")
        group = connect(watch, settings.device)
        proven = proof.prove(group, data, settings)
        if first:
            _say_proven(proven, group.world)
            with working(f"{group.world} processes") as progress:
                steps = timing.measure(group, data, settings, progress)
                rows = _train(group, data, settings, steps, log, progress)
        else:
            steps = timing.measure(group, data, settings)
            rows = _train(group, data, settings, steps)
        group.leave()
    return _report(rows, settings, log, as_json, as_csv) if first else 0


def _prove_pair(data: Dataset, settings: Settings) -> None:
    """As in every bench: the very pair, manual against torch. One process is enough."""
    found = prove_pair(make_pair(settings, data.train_x.shape[1], data.classes), data, settings)
    if not found.passed:
        print(found, file=sys.stderr)
        raise proof.NotEqual("the pair is not proven, so nothing is trained")


def _say_proven(proven: proof.Proof, processes: int) -> None:
    print(
        f"proven in float64: {processes} processes compute what one does, with manual and with "
        f"torch, over batches of {', '.join(map(str, proven.sizes))}: {proven.tensors} tensors, "
        f"using at most {proven.used:.1%} of {proof.ALLOWED:.0e} a step; all ranks have the same "
        "bits",
        file=sys.stderr,
    )


def _train(
    group: Group,
    data: Dataset,
    settings: Settings,
    steps: dict[str, timing.Step],
    log: Run | None = None,
    progress=lambda what: None,
) -> list[dict]:
    rows = []
    try:
        for two in training.train(group, data, settings, progress):
            for row in two:
                step = steps[row["side"]]
                row |= {"step_us": step.us, "all_reduce_share": step.share}
            rows += two
            if log is not None:
                write_csv(log.path(_what(rows[0]), ".csv"), rows)
    except (FloatingPointError, KeyboardInterrupt) as error:
        if log is not None and rows:
            outcome = "diverged" if isinstance(error, FloatingPointError) else "interrupted"
            log.record([row | {"outcome": outcome} for row in run_rows(rows)])
        raise
    return rows


def _what(row: dict) -> str:
    return f"{row['dataset']}-{row['processes']}-processes"


def _report(rows: list[dict], settings: Settings, log: Run, as_json: bool, as_csv: bool) -> int:
    log.record([row | {"outcome": "finished"} for row in run_rows(rows)])
    if not print_records(rows, as_json, as_csv):
        console.print(table(rows))
    print(f"saved {log.path(_what(rows[0]), '.csv')}", file=sys.stderr)
    apart = rows[-1]["max_weight_difference"]
    if settings.dtype == "float64" and not apart <= FLOAT64_AGREES:
        print(
            f"the weights of the two sides are {apart:.1e} apart after the run in float64, "
            f"more than {FLOAT64_AGREES:.0e}: one of them trains wrongly",
            file=sys.stderr,
        )
        return 1
    return 0


def table(rows: list[dict]) -> Table:
    """A row for each side: what a step takes, and where the training has ended."""
    first = rows[0]
    title = (
        f"{first['dataset']}, 784-{first['hidden']}-10 {first['activation']}, global batch "
        f"{first['batch_size']}, {first['dtype']}, {first['processes']} processes with "
        f"{first['threads']} thread{'s' * (first['threads'] > 1)} on {first['cores']} cores"
    )
    shown = plain_table(title)
    shown.add_column("side")
    for column in ("µs a step", "all-reduce", "seconds an epoch", "test accuracy", "weights apart"):
        shown.add_column(column, justify="right")
    frame = pd.DataFrame(rows)
    for side, style in STYLES.items():
        own = frame[frame.side == side]
        last = own.iloc[-1]
        shown.add_row(
            f"[{style}]{side}[/]",
            f"{last.step_us:,.0f}",
            f"{last.all_reduce_share:.0%}",
            f"{median(own.seconds):.3f}",
            f"{last.test_accuracy:.2%}",
            f"{last.max_weight_difference:.1e}",
        )
    return shown
