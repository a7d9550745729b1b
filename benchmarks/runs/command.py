"""`handgrad results`: show, sort, filter, compare and plot what all runs came to."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.plot import save
from benchmarks.runs import contrast, picture, select, show
from benchmarks.runs.log import NAME, read
from benchmarks.show import console, print_records


@dataclass(frozen=True)
class Query:
    """What is asked for: the options of the command."""

    where: list[str] = field(default_factory=list)
    sort: list[str] = field(default_factory=list)
    descending: bool = False
    last: int | None = None
    columns: list[str] = field(default_factory=list)
    compare: list[int] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    plot: tuple[str, str] | None = None


def results(folder: Path, query: Query, as_json: bool, as_csv: bool) -> int:
    """Answer the query; returns the exit status, 1 where no row is left.

    Raises LogError for a runs.csv that cannot be read, SelectError for a query that means
    nothing, OSError where the picture cannot be written."""
    frame = every = read(folder)
    for condition in query.where:
        frame = select.where(frame, condition)
    frame = select.ordered(frame, query.sort, query.descending)
    if query.last is not None:
        frame = frame.tail(query.last)
    if frame.empty:
        print(f"no row of {folder / NAME} fulfils that", file=sys.stderr)
        return 1
    if query.compare:
        table = contrast.side_by_side(every, query.compare)
        shown = show.contrast_table(table)
    elif query.by:
        table = contrast.groups(frame, query.by)
        shown = show.groups_table(table, query.by)
    else:
        for name in query.columns:
            select.column(frame, name)
        all_of_it = as_json or as_csv
        chosen = query.columns or (list(frame) if all_of_it else show.usual(frame))
        table = frame[chosen].reset_index()
        shown = show.rows_table(frame[chosen], f"{len(frame)} of {len(every)} rows")
    target = None
    if query.plot is not None:
        target = folder / f"runs-{query.plot[0]}-{query.plot[1]}.png"
        save(picture.scatter(frame, *query.plot), target)
    records = table.astype("object").where(table.notna(), None).to_dict("records")
    if not print_records(records, as_json, as_csv):
        console.print(shown)
    if target is not None:
        print(f"saved {target}", file=sys.stderr)
    return 0
