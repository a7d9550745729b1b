"""The options of `handgrad homework`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.options import (
    Csv,
    Device,
    Dtype,
    Json,
    Resume,
    device_here,
    one_format,
    resumes,
    threads_here,
    whole,
)


def homework(
    digits: Annotated[
        tuple[int, int],
        typer.Option(help="The two digits told apart; the second is the one looked for."),
    ] = (5, 6),
    seeds: Annotated[
        int,
        typer.Option(help="Repeat with so many seeds; report mean and spread.", **whole(1, 1000)),
    ] = 1,
    seed: Annotated[
        int, typer.Option(help="The first: of weights, batches and validation.", **whole(0))
    ] = 0,
    dataset: Annotated[
        Literal["sample", "mnist"], typer.Option(help="sample: the packaged 5,000 digits of MNIST.")
    ] = "sample",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds MNIST/raw/*.gz.")
    ] = None,
    epochs: Annotated[
        int, typer.Option(help="At most; without early stopping all of them.", **whole(1))
    ] = 40,
    dtype: Annotated[Dtype, typer.Option()] = Dtype.float64,
    device: Annotated[
        Device, typer.Option(help="Of both sides; cuda needs a GPU and CuPy.")
    ] = Device.cpu,
    threads: Annotated[int, typer.Option(help="On both sides.", **whole(1))] = 1,
    html: Annotated[
        Path | None, typer.Option(metavar="PAGE", help="Table and pictures on one HTML page.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Holds, after every epoch, all that --resume needs."),
    ] = None,
    resume: Resume = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV and the pictures.")] = Path(
        "results"
    ),
    json: Json = False,
    csv: Csv = False,
) -> int:
    """The homework's MNIST study with both sides, beside its own figures: two digits without
    and with early stopping, with three kinds of initial weights, then all ten digits.

    --checkpoint: a file for each run and side, replaced after every epoch as a whole. A study that
    was killed ends with --resume, and else the same options (--epochs and --seeds may be more),
    bit for bit where it would have ended.

    Writes a CSV (a row for each run and side) and four pictures. Exit status 1 where a pair is
    not proven, a training diverges, or the sides end apart in float64; no pair is trained before
    its proof."""
    one_format(json, csv)
    if not all(0 <= digit <= 9 for digit in digits) or digits[0] == digits[1]:
        given = " ".join(map(str, digits))
        raise typer.BadParameter(f"--digits: expected two different digits, 0 to 9, got {given}")

    resumes(resume, checkpoint)

    from dataclasses import replace

    from benchmarks.data import load
    from benchmarks.homework import command, study
    from benchmarks.progress import held

    threads_here(threads)
    device_here(device)
    settings = replace(
        study.SETTINGS,
        epochs=epochs,
        dtype=dtype.value,
        device=device.value,
        threads=threads,
        seed=seed,
    )
    asked = command.Study(settings, load(dataset, data_root), digits, seeds)
    with held(checkpoint):
        return command.homework(asked, out, html, json, csv, checkpoint, resume)
