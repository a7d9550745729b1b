"""The table of a sweep, a row for each contestant, a column for each batch size."""

import math
from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from benchmarks.steps.contestant import MANUAL, NAMES, PRODUCTS
from compare.show import plain_table

GROUP = ["network", "loss", "dtype", "threads", "device"]
WIDEST = 5  # columns that fit into 80 characters


def title(row: dict) -> str:
    """What the rows of a group have in common."""
    many = "s" * (row["threads"] > 1)
    if row["device"] == "cuda":
        return f"{row['network']}, {row['loss']}, {row['dtype']}, {row['gpu']}"
    return f"{row['network']}, {row['loss']}, {row['dtype']}, {row['threads']} thread{many}"


def groups(rows: list[dict]) -> Iterator[tuple[str, pd.DataFrame]]:
    """(title, rows) of each network, dtype and number of threads, as they come."""
    for _, own in pd.DataFrame(rows).groupby(GROUP, sort=False):
        yield title(own.iloc[0].to_dict()), own


def tables(rows: list[dict]) -> Iterator[tuple[str, Table]]:
    """(title, table) of each group, two where it has many batch sizes; 80 characters wide at
    most."""
    for name, own in groups(rows):
        batches = list(own.batch.drop_duplicates())
        for first in range(0, len(batches), WIDEST):
            yield name, _table(own[own.batch.isin(batches[first : first + WIDEST])])


def _table(rows: pd.DataFrame) -> Table:
    table = plain_table("")
    table.add_column("batch", no_wrap=True)
    batches = list(rows.batch.drop_duplicates())
    for batch in batches:
        table.add_column(str(batch), justify="right", no_wrap=True)
    cells = {(row.contestant, row.batch): row for row in rows.itertuples()}
    for contestant in NAMES:
        own = [cells.get((contestant, batch)) for batch in batches]
        if any(own):
            style = "dark_orange" if contestant == MANUAL else ""
            table.add_row(
                contestant,
                *("" if cell is None else _cell(cell) for cell in own),
                style="dim" if contestant in PRODUCTS else style,
            )
    return table


def _cell(row) -> str:
    """Microseconds and ratio; below them the ratio's quartiles, where each round has a ratio."""
    if row.contestant == MANUAL:
        return digits(row.us)
    text = f"{digits(row.us)} {digits(row.times_manual):>4}"
    if math.isnan(row.times_manual_q1):
        return text
    return f"{text}\n[dim]{digits(row.times_manual_q1)}–{digits(row.times_manual_q3)}[/]"


def digits(value: float) -> str:
    """Three digits (two behind the point at most): a clock gives no more here."""
    places = 0 if value >= 99.5 else 1 if value >= 9.95 else 2
    return f"{value:.{places}f}"
