"""`handgrad check`: mark hand-worked solutions."""

import sys
from pathlib import Path

from benchmarks.options import complain
from benchmarks.show import console, print_records
from compare import worked
from compare.worked import show


def check(sheets: list[Path], html: Path | None, as_json: bool, as_csv: bool) -> int:
    """Mark the sheets, show the marks and write the page; returns the exit status."""
    markings, unread, undecided = [], 0, 0
    for path in sheets:
        try:
            markings.append(worked.mark(worked.read(path)))
        except worked.DisagreementError as error:
            print(f"not marked: {error}", file=sys.stderr)
            undecided += 1
        except (worked.SheetError, OSError) as error:
            unread += complain(str(error))
    records = [row for marking in markings for row in marking.records]
    if not print_records(records, as_json, as_csv):
        for marking in markings:
            console.print(show.table(marking))
    for marking in markings:
        print(show.line(marking), file=sys.stderr if as_json or as_csv else sys.stdout)
    if html is not None and markings:
        from compare.worked.page import write

        write(markings, html)
    if unread:
        return 2
    return 1 if undecided or not all(marking.passed for marking in markings) else 0
