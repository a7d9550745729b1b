"""Plant every bug of the catalogue and print what `compare` says: `python -m tests.planted`."""

import argparse
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from threadpoolctl import threadpool_limits

from benchmarks.show import console, working
from compare.show import plain_table
from compare.verify import DTYPES
from tests.planted import AREAS
from tests.planted.bug import Bug, Found, as_expected, find


def report(areas: dict[str, Sequence[Bug]], seed: int) -> int:
    """Print the table; the number of bugs that were not found as they should be."""
    found: dict[str, list[tuple[Bug, list[Found]]]] = {}
    bugs = [(area, bug) for area, own in areas.items() for bug in own]
    with working("planting", len(bugs)) as begin:
        for area, bug in bugs:
            begin(bug.name)
            results = [find(bug, np.dtype(dtype), seed) for dtype in DTYPES]
            found.setdefault(area, []).append((bug, results))
    table = plain_table(f"planted bugs, each in {' and '.join(map(str, DTYPES))}, seed {seed}")
    table.add_column("subject", no_wrap=True)
    table.add_column("what is wrong", min_width=30, overflow="fold")
    for name in ("rejected by", "first row", "blame"):
        table.add_column(name)
    table.add_column("")
    wrong = []
    for area, results in found.items():
        table.add_row(f"[bold]{area}[/]")
        for bug, each in results:
            ok = all(as_expected(bug, one) for one in each)
            if not ok:
                wrong.append((bug, each))
            table.add_row(
                bug.subject,
                escape(bug.wrong),
                _once(one.verdict for one in each),
                escape(_once(_place(one.row, one.step) for one in each)),
                _once(str(one.blame) for one in each),
                "[green]ok[/]" if ok else "[bold red]NOT[/]",
            )
        table.add_section()
    Console(width=max(console.width, 120)).print(table)  # its own width, also where piped
    for bug, each in wrong:
        console.print(f"NOT as expected: {bug.name}", markup=False, style="bold red")
        console.print(f"  expected {_place(bug.row, bug.step)}: {bug.blame}", markup=False)
        for dtype, one in zip(DTYPES, each, strict=True):
            place = _place(one.row, one.step) or "nothing"
            console.print(f"  found in {dtype} {place}: {one.blame}", markup=False)
    right = len(bugs) - len(wrong)
    console.print(f"{len(bugs)} bugs, {right} rejected, located and blamed as they should be")
    return len(wrong)


def _place(row: str, step: int) -> str:
    return f"{row}, step {step}" if step > 1 else row


def _once(values: Iterable[str]) -> str:
    """What is the same in either dtype is said once."""
    return " | ".join(dict.fromkeys(values))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default: 0)")
    seed = parser.parse_args().seed
    torch.set_num_threads(1)  # these networks are too small for more
    with threadpool_limits(1):
        return int(report(AREAS, seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
