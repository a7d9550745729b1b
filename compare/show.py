"""The tables of `handgrad verify`."""

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from compare import homework
from compare.device import described
from compare.verify import DTYPES


def plain_table(title: str) -> Table:
    """The look of every table here: no lines but one, and narrow."""
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )


def results_table(results: list[dict], seed: int, device: str = "cpu") -> Table:
    """A row for each subject: its cases together, both dtypes beside one another."""
    table = plain_table(
        f"manual against torch, seed {seed}: the largest share of what rounding allows"
        + ("" if device == "cpu" else f"\n{described(device)}")
    )
    table.add_column(no_wrap=True)
    table.add_column("cases", justify="right")
    table.add_column("tensors", justify="right")
    for dtype in DTYPES:
        table.add_column(str(dtype), justify="right")
    table.add_column("verdict")
    by_subject: dict[str, list[dict]] = {}
    for result in results:
        by_subject.setdefault(result["subject"], []).append(result)
    for subject, group in by_subject.items():
        failed = [r for r in group if r["verdict"] != "ok"]
        verdict = "ok"
        if failed:
            first = failed[0]
            verdict = f"{len(failed)} not ok; {first['case']}, {first['dtype']}: "
            verdict = escape(f"{verdict}{first['verdict']} at {first['worst']}")
        table.add_row(
            subject,
            str(len(group)),
            str(sum(r["tensors"] for r in group)),
            *(_largest([r["used"] for r in group if r["dtype"] == str(d)]) for d in DTYPES),
            f"[bold red]{verdict}[/]" if failed else f"[green]{verdict}[/]",
        )
    return table


def _largest(used: list[float]) -> str:
    return f"{max(used):.0%}" if used else ""


def coverage_table(rows: list[dict], seed: int) -> Table:
    """What is covered, and how often."""
    table = plain_table(f"what handgrad verify covers, seed {seed}")
    for name in ("", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("cases", "steps"):
        table.add_column(name, justify="right")
    table.add_column("ranks", no_wrap=True)
    table.add_column("arguments varied", overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def homework_table(device: str = "cpu") -> Table:
    """The loss, updated weights and biases of both problems, exact, and either side's error."""
    table = plain_table("the homework's updates, float64: exact, and how far each side is off")
    table.add_column()
    frames = []
    for name in homework.PROBLEMS:
        table.add_column(f"({name}) exact", justify="right", style="bold", no_wrap=True)
        table.add_column("manual", justify="right")
        table.add_column("torch", justify="right")
        frame = homework.check(name, np.dtype(np.float64), device)
        frames.append(frame.set_index("name"))
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
