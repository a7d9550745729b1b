"""docs/errata.md, made from the marking of examples/sheets.

python -m compare.worked.errata [SHEETS [PAGE]]
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from compare.worked.claims import number_text
from compare.worked.formula import Formula
from compare.worked.marking import Marked, Marking, mark
from compare.worked.sheet import read

SHEETS, PAGE = Path("examples/sheets"), Path("docs/errata.md")
HEAD = """# Errata

What is printed wrong in the worked examples of the source documents. This page is made from the
marking of the [sheets](../examples/sheets) by `python -m compare.worked.errata`, and a test sees
to it that it is current. Every exact figure is what manual, autograd and an oracle in 80 digits
agree on; every formula under "right" has been evaluated and found exact.
"""


def page(markings: Iterable[Marking]) -> str:
    """The page, in Markdown."""
    markings = list(markings)
    parts = [HEAD]
    for marking in markings:
        wrong = [m for m in marking.claims if m.mark == "wrong"]
        follows = [m for m in marking.claims if m.mark == "follows"]
        if not wrong and not follows:
            continue
        parts.append(f"## {_text(marking.sheet.title)}\n")
        parts.append(f"{_text(marking.sheet.source)}; {_link(marking)}: {_count(marking)}.\n")
        if wrong:
            rows = ["| | printed | right | how it shows |", "|---|---|---|---|"]
            parts.append("\n".join(rows + [_row(m) for m in wrong]) + "\n")
        if follows:
            parts.append("Not new mistakes, but what the figures before them give:\n")
            parts.append("\n".join(map(_carried, follows)) + "\n")
    clean = [m for m in markings if all(c.mark in ("exact", "rounding") for c in m.claims)]
    if clean:
        parts.append("## Nothing wrong\n")
        lines = [f"- {_text(m.sheet.title)} ({_link(m)}): {_count(m)}" for m in clean]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _row(m: Marked) -> str:
    claim = m.claim
    name, printed = _text(claim.label), _code(claim.printed)
    right, shows = f"{_text(m.should)}", []
    if claim.stage == "statement":
        right, shows = "does not hold", []
    elif isinstance(claim.value, Formula):
        shows.append(f"it gives {number_text(m.claimed)}, and {_text(m.should)} is exact")
        right = ""
    if claim.correction is not None:
        right = _code(str(claim.correction))
    shows += [text for text in (_text(m.hint), _text(claim.note)) if text]
    return f"| {name} | {printed} | {right} | {'; '.join(shows)} |"


def _carried(m: Marked) -> str:
    sources = ", ".join(map(_text, m.follows))
    return (
        f"- {_text(m.claim.label)} = {_code(m.claim.printed)} (exact: {m.should}), from {sources}"
    )


def _count(marking: Marking) -> str:
    count = dict.fromkeys(("exact", "rounding", "follows", "wrong"), 0)
    for m in marking.claims:
        count[m.mark] += 1
    return ", ".join(f"{n} {name}" for name, n in count.items() if n)


def _link(marking: Marking) -> str:
    name = marking.sheet.path.name
    return f"[{name}](../examples/sheets/{name})"


def _code(text: str) -> str:
    """A code span in a table."""
    return f"`{' '.join(text.split()).replace('`', '')}`".replace("|", "\\|")


def _text(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}") if sign != "`" else text.replace(sign, "'")
    return " ".join(text.split())


def main(sheets: Path = SHEETS, out: Path = PAGE) -> None:
    markings = [mark(read(path)) for path in sorted(sheets.glob("*.toml"))]
    out.write_text(page(markings), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
