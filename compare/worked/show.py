"""A marked sheet as a table, a line of verdict, and records."""

from rich.markup import escape
from rich.table import Table

from compare.show import plain_table
from compare.worked.claims import number_text
from compare.worked.formula import Formula
from compare.worked.marking import Marked, Marking

STYLES = {"exact": "green", "rounding": "green", "follows": "yellow", "wrong": "bold red"}


def table(marking: Marking) -> Table:
    """Every claim in causal order: what it is, as printed, exact, its mark, and why."""
    found = plain_table(escape(marking.sheet.title))
    found.add_column(overflow="fold")
    found.add_column("printed", justify="right", overflow="fold")
    found.add_column("exact", justify="right", no_wrap=True)
    found.add_column("mark", no_wrap=True)
    found.add_column(overflow="fold")
    for m in marking.claims:
        style = STYLES[m.mark]
        cells = (m.claim.label, m.claim.printed, m.should)
        found.add_row(*map(escape, cells), f"[{style}]{m.mark}[/]", escape(why(m)))
    return found


def why(m: Marked) -> str:
    """What stands behind a mark, in a few words."""
    if m.follows:
        return f"from {', '.join(m.follows)}"
    if m.mark == "wrong" and isinstance(m.claim.value, Formula):
        given = f"it gives {number_text(m.claimed)}"
        return f"{given}: {m.hint}" if m.hint else given
    return m.hint


def line(marking: Marking) -> str:
    return f"{marking.sheet.path}: {marking.verdict}"
