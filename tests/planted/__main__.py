"""Plant every bug of the catalogue and print what `compare` says: `python -m tests.planted`."""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
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
    dtypes = " and ".join(str(dtype) for dtype in DTYPES)
    table = plain_table(f"planted bugs, each in {dtypes}, seed {seed}")
    table.add_column("bug", overflow="fold")
    for name in ("rejected by", "first row", "blame", ""):
        table.add_column(name, no_wrap=name == "")
    wrong = 0
    for area, results in found.items():
        table.add_row(f"[bold]{area}[/]")
        for bug, both in results:
            ok = all(as_expected(bug, one) for one in both)
            wrong += not ok
            table.add_row(
                escape(bug.name),
                _together(one.verdict for one in both),
                escape(_together(_place(one) for one in both)),
                _together(str(one.blame) for one in both),
                "[green]ok[/]" if ok else f"[bold red]NOT[/] {escape(expected(bug))}",
            )
        table.add_section()
    console.print(table)
    console.print(
        f"{len(bugs)} bugs, {len(bugs) - wrong} rejected, located and blamed as they should be"
    )
    return wrong


def expected(bug: Bug) -> str:
    return f"expected {bug.row}{_step(bug.step)}, {bug.blame}"


def _place(found: Found) -> str:
    return found.row + _step(found.step)


def _step(step: int) -> str:
    return f", step {step}" if step > 1 else ""


def _together(values) -> str:
    """What is the same in either dtype once."""
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
