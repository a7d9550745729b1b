"""How far a step can be shared: rates measured here, what they predict for 1, 2 and 4 processes
and what these take, then 8 GPUs and 64 machines on paper. For docs/scaling.md.

    python -m benchmarks.distributed.scaling [--quick] [--out FOLDER]

Writes a CSV (a row for each number of processes, global batch and side) and a picture.
"""

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.distributed.launch import launch
from benchmarks.distributed.model import (
    Compute,
    Link,
    best,
    fit_compute,
    fit_link,
    pays_from,
    step,
)
from benchmarks.options import Device, complain, device_here
from benchmarks.results import available_cores, provenance, write_csv, write_probe

PROCESSES = (1, 2, 4)
# Nothing of this was measured: assumptions, with their reasons in docs/scaling.md.
GPU = Compute(60e-6, 0.03e-6)
NVLINK = Link(3e-6, 450e9)
ETHERNET = Link(50e-6, 25e9 / 8)
PAPER = {
    "8 GPUs, NVLink": (GPU, NVLINK, 8),
    "64 machines, 25 Gbit/s": (None, ETHERNET, 64),
    "the same, halving and doubling": (None, ETHERNET._replace(ring=False), 64),
}
BATCHES = (64, 512, 4096, 60_000)


def main(
    quick: Annotated[bool, typer.Option("--quick")] = False,
    device: Annotated[Device, typer.Option()] = Device.cpu,
    out: Annotated[Path, typer.Option()] = Path("results"),
) -> None:
    try:
        device_here(device)
        write_probe(out)
    except (typer.BadParameter, OSError) as error:
        sys.exit(complain(str(error)))
    found = {}
    for processes in PROCESSES:
        print(f"measuring {processes} process{'es' * (processes > 1)}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rates.json"
            arguments = [str(path), device.value, "quick" if quick else "all"]
            status = launch(arguments, processes, 1, "benchmarks.distributed.rates")
            if status:
                sys.exit(status)
            found[processes] = json.loads(path.read_text())
    cores = available_cores()
    rows = predicted(found, cores)
    path = out / f"scaling-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.csv"
    origin = provenance()
    write_csv(path, [row | origin for row in rows])
    report(found, rows, cores)
    picture = path.with_suffix(".png")
    plot(rows, picture)
    print(f"saved {path} and {picture}", file=sys.stderr)


def rates(found: dict[int, dict]) -> tuple[dict[str, Compute], Link]:
    """c0 and c1 of each side from the steps of one process; α and β from the all-reduces of two,
    those between a hundredth of the gradient and ten times it."""
    computes = {}
    for side in ("manual", "torch"):
        us = {int(batch): own[side][0] for batch, own in found[1]["steps"].items()}
        computes[side] = fit_compute(list(us), [1e-6 * t for t in us.values()])
    size = found[2]["gradient"]
    near = [pair for pair in found[2]["all_reduce"] if size / 100 < pair[0] < 10 * size]
    near = near if len(near) > 1 else found[2]["all_reduce"]
    return computes, fit_link(2, *zip(*near, strict=True))


def predicted(found: dict[int, dict], cores: int) -> list[dict]:
    """What was measured, and what the rates of one and of two processes predict."""
    computes, link = rates(found)
    rows = []
    for processes, own in found.items():
        crowd = max(1.0, processes / cores)
        for batch, sides in own["steps"].items():
            for side, (us, share) in sides.items():
                seconds = step(computes[side], link, processes, int(batch), own["gradient"], crowd)
                rows.append(
                    {
                        "processes": processes,
                        "batch": int(batch),
                        "side": side,
                        "step_us": us,
                        "predicted_us": 1e6 * seconds,
                        "all_reduce_share": share,
                        "predicted_share": crowd
                        * link.all_reduce(processes, own["gradient"])
                        / seconds,
                    }
                )
    return rows


def report(found: dict[int, dict], rows: list[dict], cores: int) -> None:
    """Markdown, as it stands in docs/scaling.md."""
    computes, link = rates(found)
    size = found[2]["gradient"]
    for side, compute in computes.items():
        print(f"{side}: c0 {1e6 * compute.step:.0f} µs, c1 {1e6 * compute.sample:.2f} µs a sample")
    print(
        f"all-reduce, 2 processes: α {1e6 * link.latency:.0f} µs, β {link.bandwidth / 1e9:.2f} GB/s"
        f"; gradient {size:,} bytes\n"
    )
    print("| bytes | " + " | ".join(f"{n} processes" for n in found if n > 1) + " |")
    print("|---" * sum(1 for n in found if n > 1) + "|---|")
    for k, (n_bytes, _) in enumerate(found[2]["all_reduce"]):
        taken = [own["all_reduce"][k][1] for n, own in found.items() if n > 1]
        print(f"| {n_bytes:,} | " + " | ".join(f"{1e6 * t:,.0f} µs" for t in taken) + " |")
    print(f"\n| batch, side | {' | '.join(f'{n}: measured, predicted' for n in found)} |")
    print("|---" * (1 + len(found)) + "|")
    frame = pd.DataFrame(rows)
    for (batch, side), own in frame.groupby(["batch", "side"]):
        cells = [f"{r.step_us:,.0f}, {r.predicted_us:,.0f}" for r in own.itertuples()]
        print(f"| {batch}, {side} | {' | '.join(cells)} |")
    print()
    for name, (compute, paper, processes) in PAPER.items():
        compute = compute or computes["manual"]
        times = [
            step(compute, paper, 1, b, size) / step(compute, paper, processes, b, size)
            for b in BATCHES
        ]
        print(
            f"{name}: all-reduce {1e6 * paper.all_reduce(processes, size):,.0f} µs; pays from a "
            f"batch of {pays_from(compute, paper, processes, size):,.0f}; times as fast as one at "
            + ", ".join(f"{b:,}: {t:.2f}" for b, t in zip(BATCHES, times, strict=True))
            + "; quickest number at "
            + ", ".join(f"{b:,}: {best(compute, paper, b, size, processes)}" for b in BATCHES)
        )
    print(f"{cores} cores")


def plot(rows: list[dict], path: Path) -> None:
    """Steps against the global batch: measured as points, predicted as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for ax, (side, of_side) in zip(axes, pd.DataFrame(rows).groupby("side"), strict=True):
        for processes, own in of_side.groupby("processes"):
            (drawn,) = ax.plot(own.batch, own.predicted_us, label=f"{processes}")
            ax.plot(own.batch, own.step_us, "o", color=drawn.get_color())
        ax.set(title=side, xlabel="global batch", xscale="log", yscale="log")
        ax.legend(title="processes")
    axes[0].set_ylabel("µs a step (points: measured, lines: predicted)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
