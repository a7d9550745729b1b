"""The tables of `handgrad verify`."""

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from compare import homework
from compare.verify import DTYPES


def plain_table(title: str) -> Table:
    """The look of every table here: no lines but one, and narrow."""
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )


def results_table(results: list[dict], seed: int) -> Table:
    """A row for each case; both dtypes beside one another."""
    table = plain_table(
        f"manual against torch, seed {seed}: the largest share of what rounding allows"
    )
    table.add_column("case", no_wrap=True)
    table.add_column("tensors", justify="right")
    for dtype in DTYPES:
        table.add_column(str(dtype), justify="right")
    table.add_column("verdict")
    by_case: dict[str, dict[str, dict]] = {}
    for result in results:
        by_case.setdefault(result["case"], {})[result["dtype"]] = result
    for name, pair in by_case.items():
        failed = [r for r in pair.values() if r["verdict"] != "ok"]
        verdict = "; ".join(f"{r['dtype']} {r['verdict']} at {r['worst']}" for r in failed)
        table.add_row(
            name,
            str(sum(r["tensors"] for r in pair.values())),
            *(f"{pair[str(dtype)]['used']:.0%}" for dtype in DTYPES),
            f"[bold red]{verdict}[/]" if failed else "[green]ok[/]",
        )
    return table


def homework_table() -> Table:
    """The loss, updated weights and biases of both problems, exact, and either side's error."""
    table = plain_table("the homework's updates, float64: exact, and how far each side is off")
    table.add_column("")
    frames = []
    for name in homework.PROBLEMS:
        table.add_column(f"({name}) exact", justify="right", style="bold", no_wrap=True)
        table.add_column("manual", justify="right")
        table.add_column("torch", justify="right")
        frames.append(homework.check(name, np.dtype(np.float64)).set_index("name"))
    places = {short: (f"updated.{key}", index) for short, (key, index) in homework.NAMES.items()}
    for short, (row_name, index) in (places | {"loss": ("loss", ())}).items():
        cells = [short]
        for frame in frames:
            exact, *sides = (
                np.array(frame.loc[row_name][k])[index] for k in ("exact", "manual", "torch")
            )
            cells += [f"{exact:.16f}", *(_error(abs(side - exact)) for side in sides)]
        table.add_row(*cells)
    return table


def _error(value: float) -> str:
    return f"{value:.0e}" if value else "0"
