"""`handgrad bench --steps`: prove, time, report; and `handgrad bench --advise`."""

import sys
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.results import available_cores, provenance, write_csv
from benchmarks.runs.log import Run
from benchmarks.show import console, print_records, working
from benchmarks.steps.alone import ChildError
from benchmarks.steps.contestant import NAMES
from benchmarks.steps.picture import plot
from benchmarks.steps.probe import Advice
from benchmarks.steps.probe import advise as measure_settings
from benchmarks.steps.problem import Problem
from benchmarks.steps.sweep import QUICK_ROUNDS, ROUNDS, Outcome, Point, measure
from benchmarks.steps.table import digits, tables
from compare.show import plain_table
from manual.arrays import module_of


def steps(
    points: list[Point],
    names: Collection[str],
    quick: bool,
    out: Path,
    as_json: bool,
    as_csv: bool,
) -> int:
    """Measure the points and report; returns the exit status, 1 where somebody's step is not
    manual's. names: the contestants; who cannot take part is named once, with the reason.

    Raises OSError (before anything is timed) where `out` cannot be written to."""
    log = Run(out, "steps")
    origin = provenance() | {"jax": _version("jax"), "scikit_learn": _version("scikit-learn")}
    if points[0].problem.device == "cuda":
        origin["cupy"] = module_of("cuda").__version__
    path = log.path("", ".csv")
    rows: list[dict] = []
    told: set[str] = set()
    status = 0
    seed = points[0].problem.seed
    print(f"weights, data and the order of the turns are those of seed {seed}", file=sys.stderr)
    try:
        with working("steps") as progress:
            for outcome in measure(points, names, QUICK_ROUNDS if quick else ROUNDS, progress):
                rows += [row | origin for row in outcome.rows]
                status |= _tell(outcome, told)
                if rows:
                    write_csv(path, rows)
    except ChildError as error:
        print(f"a process that measures ended: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print(f"interrupted after {len(rows)} finished measurements", file=sys.stderr)
        status = 130
    if not rows:
        return status
    log.record([_run_row(row, seed) | origin for row in rows])
    if not print_records(rows, as_json, as_csv):
        for title, table in tables(rows):
            console.print(f"\n{title}", table, sep="\n")
        console.print(footnote(rows[0]))
    picture = path.with_suffix(".png")
    where = rows[0]["gpu"] or f"{rows[0]['machine']}, {rows[0]['blas']}"
    plot(rows, f"One training step, {where}", picture)
    print(f"saved {path} and {picture}", file=sys.stderr)
    return status


def _run_row(row: dict, seed: int) -> dict:
    """A measurement as a row of runs.csv."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    return {
        "run": f"{row['network']}, batch {row['batch']}, {threads}",
        "side": row["contestant"],
        "step_us": row["us"],
        "times_manual": row["times_manual"],
        "batch_size": row["batch"],
        **{name: row[name] for name in ("network", "loss", "dtype", "threads", "device", "gpu")},
        "seed": seed,
    }


def footnote(row: dict) -> str:
    """How to read the tables, and what they were measured with."""
    versions = [f"{name} {row[key]}" for name, key in _NAMED.items() if row.get(key)]
    if row["device"] == "cuda":
        return (
            "µs a step, and how many times manual's; below, the quartiles over the rounds.\n"
            "Each turn is timed until the GPU is done; products of float32 in float32 (no TF32).\n"
            f"{row['gpu']}, {row['machine']}, {', '.join(versions)}"
        )
    return (
        "µs a step, and how many times manual's; below, the quartiles of that over the\n"
        "rounds. With several threads everybody runs alone: there it is the ratio of the\n"
        "medians. The bare matrix products are a floor and not a step.\n"
        f"{row['machine']}, {row['cores']} cores, NumPy's BLAS {row['blas']}, "
        f"{', '.join(versions)}"
    )


_NAMED = {
    "Python": "python",
    "NumPy": "numpy",
    "torch": "torch",
    "CuPy": "cupy",
    "JAX": "jax",
    "scikit-learn": "scikit_learn",
}


def _tell(outcome: Outcome, told: set[str]) -> int:
    """Say who was not timed and why: 1 where a step is not equal."""
    for name in NAMES:
        if name in outcome.not_equal:
            print(f"refused: {name} is not manual: {outcome.not_equal[name]}", file=sys.stderr)
        elif name in outcome.left_out:
            line = f"left out: {name}: {outcome.left_out[name]}"
            if line not in told:
                print(line, file=sys.stderr)
            told.add(line)
    return 1 if outcome.not_equal else 0


def _version(package: str) -> str:
    """Empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


ADVICE_ROUNDS, HINT_ROUNDS = 7, 3


def advise(problem: Problem, threads: int, as_json: bool, as_csv: bool) -> int:
    """Measure manual's step with other settings of NumPy's BLAS, and say which are faster."""
    found = _measured(problem, threads, ADVICE_ROUNDS, thorough=True)
    if found is None:
        return 1
    rows = advice_rows(found, problem)
    if not print_records([row | provenance() for row in rows], as_json, as_csv):
        table = plain_table("")
        table.add_column("setting", no_wrap=True)
        for column in ("µs a step", "times as fast"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(row["setting"], digits(row["us"]), digits(row["times_as_fast"]))
        console.print(f"manual, {problem.network}, {problem.dtype}, batch {problem.batch}", table)
    for line in found.lines or ["nothing faster found than how it runs now"]:
        print(line, file=sys.stderr)
    return 0


def advice_rows(found: Advice, problem: Problem) -> list[dict]:
    """A row for each setting, the present one first."""
    present = next(iter(found.us.values()))
    return [
        {
            "setting": str(setting),
            "threads": setting.threads,
            "kernels": setting.kernels,
            "network": problem.network,
            "dtype": problem.dtype,
            "batch": problem.batch,
            "us": median(us),
            "times_as_fast": median(b / a for b, a in zip(present, us, strict=True)),
            "seed": problem.seed,
        }
        for setting, us in found.us.items()
    ]


def hint(problem: Problem, threads: int) -> None:
    """After an ordinary run: a line on stderr for each setting that would be faster."""
    found = _measured(problem, threads, HINT_ROUNDS, thorough=False)
    for line in found.lines if found else ():
        print(f"faster: {line}", file=sys.stderr)


def _measured(problem: Problem, threads: int, rounds: int, thorough: bool) -> Advice | None:
    """None, and a line on stderr, where it cannot be measured."""
    try:
        with working("looking for faster settings") as progress:
            return measure_settings(problem, threads, available_cores(), rounds, thorough, progress)
    except ChildError as error:
        print(f"a process that measures ended: {error}", file=sys.stderr)
        return None
