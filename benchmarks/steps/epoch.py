"""An epoch with its data: 60,000 images, gathered and scaled batch by batch, in one thread.

`python -m benchmarks.steps.epoch` prints a table and writes a CSV: manual's `fit`, torch with
tensors that are indexed by a permutation, torch with the usual DataLoader; and manual's memory.
"""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from benchmarks.data import load
from benchmarks.mnist import equal_threads
from benchmarks.results import provenance, write_csv, write_probe
from benchmarks.show import console, working
from benchmarks.steps import memory
from benchmarks.steps.batches import Batches, check_batches, indexed, loaded
from benchmarks.steps.memory import BATCH, SCALE
from benchmarks.steps.problem import LR, Problem, setup
from benchmarks.steps.timing import Quartiles, collector_off, ratios
from benchmarks.steps.torch_side import Side
from compare.show import plain_table
from manual.training import fit

SAMPLES, ROUNDS = 60_000, 5
INDEXED, LOADER = "torch, indexed tensors", "torch, DataLoader"


def contestants(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Callable[[], float]]:
    """Name → one epoch from the same weights, in seconds."""
    problem = Problem(batch=BATCH, seed=seed)

    def manual() -> float:
        net, criterion, optimizer, *_ = setup(problem)
        generator = np.random.default_rng(seed)
        options = {"epochs": 1, "batch_size": BATCH, "generator": generator, "scale": SCALE}
        return fit(net, criterion, optimizer, x, y, **options).epochs[0].seconds

    def in_torch(batches: Callable[..., Batches]) -> float:
        side = Side(problem)
        optimizer = torch.optim.SGD(side.net.parameters(), lr=LR)
        start = time.perf_counter()
        for images, labels in batches(x, y, seed):
            optimizer.zero_grad()
            side.criterion(side.net(images), labels).backward()
            optimizer.step()
        return time.perf_counter() - start

    return {
        "manual": manual,
        INDEXED: lambda: in_torch(indexed),
        LOADER: lambda: in_torch(loaded),
    }


def measure(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    rounds: int,
    progress: Callable[[str], object] = lambda what: None,
) -> list[dict]:
    """A row for each contestant; in every round each has a turn, in shuffled order."""
    check_batches(x[: 5 * BATCH + 1], y[: 5 * BATCH + 1], seed)
    order = np.random.default_rng([seed, 2])
    with equal_threads(1), collector_off():
        run = contestants(x, y, seed)
        seconds = {name: np.empty(rounds) for name in run}
        for k in range(rounds):
            for name in order.permutation(list(run)):
                progress(f"round {k + 1} of {rounds}, {name}")
                seconds[name][k] = run[name]()
    rows = []
    for name, ratio in ratios(seconds).items():
        own, share = Quartiles.of(seconds[name]), Quartiles.of(ratio)
        rows.append(
            {
                "contestant": name,
                "samples": len(x),
                "batch": BATCH,
                "seconds": own.median,
                "seconds_q1": own.low,
                "seconds_q3": own.high,
                "times_manual": share.median,
                "times_manual_q1": share.low,
                "times_manual_q3": share.high,
                "rounds": rounds,
                "seed": seed,
            }
        )
    return rows


def main() -> None:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(prog="benchmarks.steps.epoch", description=__doc__)
    parser.add_argument("--data-root", type=Path, help="holds MNIST/raw; default: random images")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="for the CSV")
    given = parser.parse_args()
    write_probe(given.out)
    x, y = data(given.data_root, given.seed)
    with working("an epoch", total=3 * given.rounds) as progress:
        rows = measure(x, y, given.seed, given.rounds, progress)
    mib = memory.measure(x, y)
    rows = [row | {"manual_mib": mib} | provenance() for row in rows]
    console.print(f"an epoch of {len(x):,} images, batch {BATCH}, 1 thread, gathering included")
    console.print(table(rows), f"manual's peak memory: {mib:.0f} MiB above Python with NumPy")
    path = given.out / f"epoch-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.csv"
    write_csv(path, rows)
    print(f"saved {path}", file=sys.stderr)


def data(root: Path | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's images and labels, or as many random ones, which take as long."""
    if root is not None:
        mnist = load("mnist", root)
        return mnist.train_x, mnist.train_y
    generator = np.random.default_rng([seed, 3])
    images = generator.integers(0, 256, (SAMPLES, 784), dtype=np.uint8)
    return images, generator.integers(0, 10, SAMPLES)


def table(rows: list[dict]) -> Table:
    """A row for each contestant."""
    found = plain_table("")
    found.add_column("")
    for column in ("seconds", "quartiles", "times manual's", "quartiles"):
        found.add_column(column, justify="right")
    for row in rows:
        found.add_row(
            row["contestant"],
            f"{row['seconds']:.3f}",
            f"{row['seconds_q1']:.3f}–{row['seconds_q3']:.3f}",
            f"{row['times_manual']:.2f}",
            f"{row['times_manual_q1']:.2f}–{row['times_manual_q3']:.2f}",
        )
    return found


if __name__ == "__main__":
    main()
