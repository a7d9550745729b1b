"""The study on one page that needs no other file: table, answers and pictures."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.homework.parts import PARTS, printed
from benchmarks.homework.spread import SURE, findings, spread
from benchmarks.homework.study import INITIAL, PATIENCE, SHARE
from benchmarks.homework.table import (
    cells,
    finding_line,
    homework_cells,
    reached,
    spread_cells,
    title,
)

CAPTIONS = {
    "curves": "Learning curves: loss on the images trained on and on those kept for validation, "
    "both sides; the dotted line is the epoch whose weights early stopping restored.",
    "confusion": "Confusion matrices of the test images.",
    "mistakes": "Test images that both sides get wrong, true → said.",
    "weights": "First-layer weights as images, manual's, of the units with the largest: red pixels "
    "speak for the unit, blue ones against it.",
}


def page(rows: list[dict], digits: tuple[int, int], pictures: dict[str, bytes]) -> str:
    """The page as HTML. pictures: PNG files, by the names that `CAPTIONS` has."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    seeds = sorted({row["seed"] for row in rows})
    return environment.get_template("page.html").render(
        title=title(rows[0]),
        row=rows[0],
        seeds=seeds,
        share=SHARE,
        patience=PATIENCE,
        positive=digits[1],
        initial=[
            (", ".join(part.name for part in PARTS if part.initial == key), initial.text)
            for key, initial in INITIAL.items()
        ],
        runs=_blocks([row for row in rows if row["seed"] == seeds[0]], digits),
        spread=_spread(rows, digits) if len(seeds) > 1 else [],
        sure=SURE,
        findings=[(finding_line(one).strip(), one.found) for one in findings(rows)],
        pictures=[
            (name, CAPTIONS[name], b64encode(picture).decode())
            for name, picture in pictures.items()
        ],
    )


def _blocks(rows: list[dict], digits: tuple[int, int]) -> list[dict]:
    """For each run its name, the homework's cells, and for each side its name, cells and whether
    the accuracy is at least the homework's."""
    blocks = []
    for part in PARTS:
        figures = printed(part, digits)
        own = [row for row in rows if row["run"] == part.name]
        if own:
            sides = [(row["side"], cells(row), reached(row, figures)) for row in own]
            blocks.append({"name": part.name, "homework": homework_cells(figures), "sides": sides})
    return blocks


def _spread(rows: list[dict], digits: tuple[int, int]) -> list[dict]:
    """As `_blocks`, of the seeds together."""
    records = spread(rows).to_dict("records")
    blocks = []
    for part in PARTS:
        accuracy, *others = homework_cells(printed(part, digits))
        own = [record for record in records if record["run"] == part.name]
        if own:
            sides = [(record["side"], spread_cells(record), True) for record in own]
            blocks.append({"name": part.name, "homework": [accuracy, "", *others], "sides": sides})
    return blocks
