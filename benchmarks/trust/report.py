"""What was found, counted: a row for each checker and dtype, and whether it is good enough."""

import pandas as pd
from rich.table import Table

from benchmarks.trust.examine import CHECKERS, CORRECT, DEAD
from benchmarks.trust.planted import ERRORS
from compare.show import plain_table

ENTRY = ERRORS[0]
ALWAYS = ERRORS[1:]
LABELS = {
    "zero": "gradient all zero",
    "shape": "gradient of another shape",
    "dtype": "gradient of another dtype",
    "nan": "NaN in a gradient",
    "nan on both": "NaN on both sides",
    "missing": "no gradient",
}
HOPELESS = {
    "all zero": "the whole gradient is 0",
    "rounding": "torch's entry is off by more than the planted share",
    "underflow": "the change is below the smallest normal number",
}
JUDGED = ("pass", "wrong", "vacuous")
CAUGHT = 0.995  # of the errors in one entry, at least
SHARES = {"float32": "1 %", "float64": "1e-6"}


def counts(findings: pd.DataFrame) -> list[dict]:
    """A row for each checker and dtype.

    For every experiment "… networks", those on which the checker gave a verdict, and how many of
    these were "false alarms" (correct), "caught" (each error) or "passed" (zero on both).
    seconds: of a correct network, the mean of those that the checker was run on.
    """
    rows = []
    for checker in CHECKERS:
        for dtype in SHARES:
            own = findings[(findings.checker == checker) & (findings.dtype == dtype)]
            judged = own[own.says.isin(JUDGED)]
            row: dict = {"checker": checker, "dtype": dtype}
            for experiment in (CORRECT, *ERRORS, DEAD):
                says = judged[judged.experiment == experiment].says
                row[f"{experiment} networks"] = len(says)
                if experiment == CORRECT:
                    row["false alarms"] = int((says != "pass").sum())
                elif experiment == DEAD:
                    row[f"{experiment} passed"] = int((says == "pass").sum())
                else:
                    row[f"{experiment} caught"] = int((says == "wrong").sum())
            row["seconds"] = float(judged[judged.experiment == CORRECT].seconds.mean())
            rows.append(row)
    return rows


def footnote(findings: pd.DataFrame) -> str:
    """What was not counted, and why."""
    one = findings[findings.checker == CHECKERS[0]].drop_duplicates(["experiment", "number"])
    lines = []
    for error in ERRORS[:2]:
        says = one[one.experiment == error].says
        lines.append(
            f"Not counted under {error!r}, for nobody could find it there: "
            + ", ".join(f"{(says == why).sum()} where {what}" for why, what in HOPELESS.items())
        )
    own = one[one.experiment == CORRECT]
    vacuous = ((own["where"] != "") & (own.says == "pass")).sum()
    lines.append(
        f"{CHECKERS[0]} called a row of {vacuous} correct networks vacuous; that is no alarm here. "
        f"{own.redrawn.sum()} draws that left the range of float32 were drawn again."
    )
    return "\n".join(lines)


def offenders(findings: pd.DataFrame) -> pd.DataFrame:
    """Where handgrad itself was wrong: an alarm about a correct network, an error that passed, and
    what is zero on both sides and not called vacuous."""
    own = findings[(findings.checker == CHECKERS[0]) & findings.says.isin(JUDGED)]
    return own[own.says != own.experiment.map({CORRECT: "pass", DEAD: "vacuous"}).fillna("wrong")]


def trusted(findings: pd.DataFrame) -> bool:
    """No false alarm, nothing missed that is to be found always, and of the entries enough."""
    bad = offenders(findings)
    entries = findings[(findings.checker == CHECKERS[0]) & (findings.experiment == ENTRY)]
    entries = entries[entries.says.isin(JUDGED)]
    missed = (bad.experiment == ENTRY).sum()
    return len(bad) == missed and missed <= (1 - CAUGHT) * len(entries)


def counts_table(rows: list[dict], title: str) -> Table:
    """A column for each checker; of the errors that are to be found always, both dtypes together.
    Errors are counted that were caught: of so many networks. It fits into 80 columns."""
    table = plain_table(title)
    table.add_column("", no_wrap=True)
    for checker in CHECKERS:
        table.add_column(checker, justify="right", no_wrap=True)
    cells = {(row["checker"], row["dtype"]): row for row in rows}

    def add(label: str, dtypes: tuple[str, ...], count: str, of: str) -> None:
        own = [[cells[checker, dtype] for dtype in dtypes] for checker in CHECKERS]
        shown = [(sum(row[count] for row in some), sum(row[of] for row in some)) for some in own]
        table.add_row(label, *(f"{n:,}/{total:,}" if total else "" for n, total in shown))

    for dtype in SHARES:
        add(f"false alarms, {dtype}", (dtype,), "false alarms", f"{CORRECT} networks")
    for dtype, share in SHARES.items():
        label = f"one {dtype} off by {share}"
        add(label, (dtype,), f"{ENTRY} caught", f"{ENTRY} networks")
    for error in ALWAYS:
        add(LABELS[error], tuple(SHARES), f"{error} caught", f"{error} networks")
    add("all 0 on both, passed", tuple(SHARES), f"{DEAD} passed", f"{DEAD} networks")
    for dtype in SHARES:
        seconds = [cells[checker, dtype]["seconds"] for checker in CHECKERS]
        shown = ("" if pd.isna(s) else f"{1000 * s:.0f}" for s in seconds)
        table.add_row(f"milliseconds, {dtype}", *shown)
    return table
