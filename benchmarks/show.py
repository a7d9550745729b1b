"""What the commands print: tables on stdout, progress on stderr."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console()


@contextmanager
def working(title: str, total: int | None = None) -> Iterator[Callable[[str], object]]:
    """A progress bar while the block runs. Calling what it yields says what begins now; each call
    but the first counts one piece as done."""
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=-1)
        yield lambda what: bar.update(task, description=f"{title}: {what}", advance=1)


def print_records(records: list[dict], as_json: bool, as_csv: bool) -> bool:
    """Print the records in the format asked for; False where none was asked for. JSON has no
    infinity and no NaN; they become null."""
    if as_json:
        finite = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()}
            for r in records
        ]
        print(json.dumps(finite, indent=2, allow_nan=False))
    elif as_csv:
        print(pd.DataFrame(records).to_csv(index=False), end="")
    return as_json or as_csv
