"""What a mutation run found, against the list of mutants that no test can kill."""

import os
import re
import tomllib
from collections import Counter
from pathlib import Path

from mutmut import configuration
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from rich.console import Console
from rich.table import Table

EQUIVALENT = Path(__file__).with_name("equivalent")
STRICT = "zip's strict= is an assertion: both are of one length."


def key(name: str) -> tuple[str, str]:
    """Of manual.nn.linear.xǁLinearǁforward__mutmut_3: manual.nn.linear.Linear.forward and the lines
    that it takes away and puts in, with their - and +."""
    module, _, mangled = name.partition("__mutmut")[0].rpartition(".")
    function = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    diff = get_diff_for_mutant(name, path=Path(f"{module.replace('.', '/')}.py")).splitlines()
    lines = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    change = "\n".join(f"{line[0]} {' '.join(line[1:].split())}" for line in lines)
    return f"{module}.{function}", change


def listed() -> dict[tuple[str, str], str]:
    """(function, change) → reason."""
    return {
        (entry["function"], text.strip()): entry["reason"]
        for path in sorted(EQUIVALENT.glob("*.toml"))
        for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]
        for text in entry["changes"]
    }


def reason(name: str, reasons: dict[tuple[str, str], str]) -> str | None:
    """Why no test can kill that mutant, where it is known."""
    mutant = key(name)
    before, after = (
        [
            re.sub(r",? ?(strict=\w+)?(?=\)|$)", "", line[2:])
            for line in mutant[1].split("\n")
            if line[0] == sign
        ]
        for sign in "-+"
    )
    return STRICT if before == after else reasons.get(mutant)


def report(root: Path, parts: dict) -> int:
    """Print the score of every file and whatever is wrong; 1 where something is."""
    reasons, unused, survivors, rows = listed(), set(listed()), [], {}
    for part, (patterns, left_out, _) in parts.items():
        home = root / ".mutants" / part
        if not (home / "mutants").is_dir():
            continue
        os.chdir(home)
        configuration.reset_config()
        configuration.config().only_mutate = patterns
        configuration.config().do_not_mutate = left_out
        for path in sorted(Path(part).rglob("*.py")):
            data = SourceFileMutationData(path=path)
            data.load()
            count = Counter()
            for name, code in data.exit_code_by_key.items():
                status = status_by_exit_code[code]
                count["mutants"] += 1
                if status in ("killed", "not checked"):
                    count[status] += 1
                    continue
                mutant = key(name)
                if reason(name, reasons):
                    count["equivalent"] += 1
                    unused.discard(mutant)
                elif status == "timeout":
                    count["killed"] += 1
                else:
                    count["survived"] += 1
                    survivors.append((name, status, *mutant))
            if count:
                rows[str(path)] = count
            if count["not checked"] or not count:
                module = str(path.with_suffix("")).replace("/", ".")
                unused -= {mutant for mutant in unused if mutant[0].startswith(f"{module}.")}
    table = Table("file", *("mutants", "killed", "equivalent", "survived", "not run"))
    rows["all"] = sum(rows.values(), Counter())
    for path, count in rows.items():
        columns = ("mutants", "killed", "equivalent", "survived", "not checked")
        table.add_row(path, *(str(count[name]) for name in columns), end_section=path == "all")
    console = Console(width=120)
    console.print(table)
    for name, status, where, text in survivors:
        console.print(f"{status}: {where} ({name})\n{text}\n", markup=False, highlight=False)
    for where, text in sorted(unused):
        console.print(f"listed but killed: {where}\n{text}\n", markup=False, highlight=False)
    total = rows["all"]
    run = total["mutants"] - total["not checked"]
    if run:
        score = (total["killed"] + total["equivalent"]) / run
        console.print(
            f"{total['survived']} mutants survive without a reason ({score:.2%} accounted)"
        )
    return int(bool(survivors or unused))
