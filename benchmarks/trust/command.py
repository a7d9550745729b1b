"""`handgrad trust`: examine, count, report."""

import sys
from pathlib import Path

import pandas as pd

from benchmarks.results import provenance, write_csv
from benchmarks.runs.log import Run
from benchmarks.show import console, print_records, working
from benchmarks.trust import checkers, report
from benchmarks.trust.examine import Finding, examine, examine_all
from benchmarks.trust.networks import network

SHOWN = 20  # offenders


def trust(seed: int, networks: int, processes: int, out: Path, as_json: bool, as_csv: bool) -> int:
    """Examine networks 0 … networks − 1 and report; returns the exit status.

    processes: that share the networks; the findings are those of one, but for the times.
    Raises OSError (before anything is examined) where `out` cannot be written to,
    `sharing.WorkerDied` where a process ends."""
    log = Run(out, "trust")
    findings: list[Finding] = []
    status = 0
    try:
        with working("examining", total=networks) as progress:
            for examined in examine_all(seed, networks, processes, progress):
                findings += examined
    except KeyboardInterrupt:
        status = 130
    if not findings:
        return status
    frame = pd.DataFrame(findings)
    count = frame.number.nunique()
    rows = report.counts(frame)
    given = {"networks": count, "seed": seed, **provenance()}
    if not print_records([row | given for row in rows], as_json, as_csv):
        console.print(report.counts_table(rows, f"{count} random networks, seed {seed}"))
        console.print(report.footnote(frame))
    path = log.path("", ".csv")
    write_csv(path, [row | given for row in rows])
    log.record([_run_row(row, given, status) for row in rows])
    bad = report.offenders(frame).sort_values(["experiment", "number"])
    for finding in bad.head(SHOWN).itertuples():
        where = f" ({finding.where})" if finding.where else ""
        print(
            f"{finding.experiment}, {finding.dtype}: {finding.says}{where}; "
            f"handgrad trust --seed {seed} --only {finding.number}",
            file=sys.stderr,
        )
    if len(bad) > SHOWN:
        print(f"and {len(bad) - SHOWN} more", file=sys.stderr)
    print(f"saved {path}", file=sys.stderr)
    return status or (0 if report.trusted(frame) else 1)


def _run_row(row: dict, given: dict, status: int) -> dict:
    """A checker stands for a side; "seconds" would be those of a whole run."""
    names = {"checker": "side", "seconds": "network_seconds"}
    figures = {names.get(name, name.replace(" ", "_")): value for name, value in row.items()}
    return figures | given | {"outcome": "interrupted" if status else "finished"}


def show(seed: int, number: int) -> int:
    """Print one network, handgrad's table of it and what every checker says of it, as it is and
    with every error; exit status 1 where handgrad is wrong."""
    given = network(seed, number)
    print(given)
    print(checkers.compared(given, given.steps))
    frame = pd.DataFrame(examine(seed, number, every=True))
    print(frame[["experiment", "checker", "says", "where", "seconds"]].to_string(index=False))
    return 1 if len(report.offenders(frame)) else 0
