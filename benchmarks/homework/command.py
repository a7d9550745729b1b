"""`handgrad homework`: prove, train, report, for every run and seed."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import FLOAT64_AGREES
from benchmarks.data import Dataset
from benchmarks.homework import page, pictures
from benchmarks.homework.kept import Kept
from benchmarks.homework.parts import PARTS
from benchmarks.homework.spread import findings, spread
from benchmarks.homework.study import PATIENCE, SHARE, STD, Trained, choose, pair_of, study
from benchmarks.homework.table import findings_lines, runs_table, spread_table
from benchmarks.mnist import Settings, prove
from benchmarks.plot import png
from benchmarks.progress import about_run
from benchmarks.results import replace as put
from benchmarks.results import sweep, write_csv, write_probe
from benchmarks.runs.log import Run, records
from benchmarks.show import console, print_records, working
from benchmarks.tensor_file import TensorFileError
from manual.resuming import ResumeError


@dataclass(frozen=True)
class Study:
    """What is asked for: the two digits, and seeds, of which settings.seed is the first."""

    settings: Settings
    data: Dataset
    digits: tuple[int, int]
    seeds: int = 1

    @property
    def all_seeds(self) -> range:
        return range(self.settings.seed, self.settings.seed + self.seeds)

    def about(self) -> dict[str, Any]:
        """What must be the same in a study that is resumed: all but epochs and seeds."""
        about = about_run(self.settings, self.data) | {"digits": list(self.digits)}
        del about["seed"]
        return about | {"patience": PATIENCE, "share": SHARE, "std": STD}


class NotProven(Exception):
    """The two sides of a pair differ; the text is the table."""


def homework(
    asked: Study,
    out: Path,
    html: Path | None,
    as_json: bool,
    as_csv: bool,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> int:
    """Run the study; returns the exit status. What is finished is on disk at any time, and in the
    folder `checkpoint` all that an unfinished run goes on from with `resume`.

    Raises OSError (before any training) where a folder or the page cannot be written to,
    TensorFileError for a checkpoint that cannot be resumed from."""
    kept = None if checkpoint is None else Kept(checkpoint, resume, asked.about(), asked.all_seeds)
    log = Run(out, "homework", kept and kept.began)
    if html is not None:
        write_probe(html.parent)
        if html.is_dir():
            raise IsADirectoryError(f"--html {html}: expected a file, got a folder")
    path = log.path(asked.data.name, ".csv")
    sweep(path)
    before = records(path)  # by the study until it was stopped
    first: list[Trained] = []  # of the first seed: for the pictures
    rows: list[dict] = []
    status = 0
    try:
        with working("homework", total=2 * len(PARTS) * asked.seeds) as progress:
            for trained in trainings(asked, progress, kept):
                if trained.seed == asked.settings.seed:
                    first.append(trained)
                rows += trained.rows
                write_csv(path, rows + others(before, rows))
                log.record(trained.rows)
    except KeyboardInterrupt:
        print(f"interrupted after {len(rows) // 2} finished runs{told(kept)}", file=sys.stderr)
        status = 130
    except NotProven as error:
        print(f"the pair is not proven, so it is not trained: {error}", file=sys.stderr)
        status = 1
    except FloatingPointError as error:
        print(f"training stopped: {error} (lr {asked.settings.lr}){told(kept)}", file=sys.stderr)
        status = 1
    except ResumeError as error:
        raise TensorFileError(f"{checkpoint}: {error}") from error
    if not rows:
        return status
    found = findings(rows)
    if not print_records(rows, as_json, as_csv):
        if asked.seeds == 1:
            console.print(runs_table(rows, asked.digits))
        else:
            console.print(spread_table(spread(rows), asked.digits, rows[0]))
            console.print("\n".join(findings_lines(found)), soft_wrap=True)
    saved = [path]
    drawn = {name: png(draw(first)) for name, draw in pictures.PICTURES.items()}
    for name, picture in drawn.items():
        saved.append(path.with_name(f"{path.stem}-{name}.png"))
        put(saved[-1], picture)
    if html is not None:
        saved.append(html)
        put(html, page.page(rows, asked.digits, drawn).encode())
    print(f"saved {', '.join(map(str, saved))}", file=sys.stderr)
    return status or _agree(rows)


def others(before: list[dict], rows: list[dict]) -> list[dict]:
    """Rows from before of runs and seeds that are not among `rows`: not taken up again yet, or of
    seeds that are not asked for now."""
    done = {(row["run"], str(row["seed"])) for row in rows}
    return [row for row in before if (row.get("run"), row.get("seed")) not in done]


def told(kept: Kept | None) -> str:
    """What to say of the checkpoints where the study is stopped."""
    return f"; {kept.folder} holds what --resume goes on from" if kept else ""


def trainings(
    asked: Study, progress: Callable[[str], object], kept: Kept | None = None
) -> Iterator[Trained]:
    """Every part with every seed, seed by seed. Raises NotProven before a pair that differs is
    trained; FloatingPointError as `study`."""
    for seed in asked.all_seeds:
        settings = replace(asked.settings, seed=seed)
        for part in PARTS:
            images = choose(asked.data, part, asked.digits, settings.dtype, seed)
            pair = pair_of(part, settings, images.train_x.shape[1])
            proof = prove(pair, images, settings)
            if not proof.passed:
                raise NotProven(f"{part.name}, seed {seed}\n{proof}")
            trained = study(part, pair, images, settings, progress, kept)
            used = float(proof.frame.used.max())
            yield trained._replace(rows=[row | {"proof_used": used} for row in trained.rows])


def _agree(rows: list[dict]) -> int:
    """1, and a line on stderr, for float64 weights that ended further apart than rounding."""
    wrong = [
        row
        for row in rows
        if row["dtype"] == "float64" and not row["max_weight_difference"] <= FLOAT64_AGREES
    ]
    for row in wrong[::2]:
        print(
            f"{row['run']}, seed {row['seed']}: the weights of the two sides are "
            f"{row['max_weight_difference']:.1e} apart after the run in float64, more than "
            f"{FLOAT64_AGREES:.0e}: one of them trains wrongly",
            file=sys.stderr,
        )
    return 1 if wrong else 0
