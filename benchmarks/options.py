"""What several commands take on the command line, and what they refuse."""

import math
import sys
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the table as JSON instead.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the table as CSV instead.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the --checkpoint; where there is none yet, begin."),
]


def whole(low: int, high: float = math.inf) -> dict:
    """Option settings for a whole number in [low, high]."""
    expected = f"a whole number >= {low}" + (f" and <= {high}" if high < math.inf else "")

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise typer.BadParameter(f"expected {expected}, got {str(text)!r}")
        return value

    return {"parser": number, "metavar": "<int>"}


def real(low: str) -> dict:
    """Option settings for a number, "> 0" or ">= 0", that is finite in float32, too."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 < value < 3.4e38 or (value == 0 and low == ">= 0")):
            raise typer.BadParameter(f"expected a finite number {low}, got {str(text)!r}")
        return value

    return {"parser": number, "metavar": "<float>"}


Processes = Annotated[
    int | None,
    typer.Option(
        help="That share the work; what they find does not depend on it. "
        "Default: of verify 1, of trust the cores here.",
        **whole(1),
    ),
]


class DatasetName(StrEnum):
    sample = "sample"
    mnist = "mnist"
    fashion = "fashion"


class Activation(StrEnum):
    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"
    identity = "identity"


class OptimizerName(StrEnum):
    sgd = "sgd"


class Dtype(StrEnum):
    float32 = "float32"
    float64 = "float64"


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


def device_here(device: Device) -> None:
    """Refuse a GPU that cannot be used, with what is missing. Both sides must be able to use it."""
    from compare.device import require
    from manual.arrays import DeviceError

    try:
        require(device.value)
    except DeviceError as error:
        raise typer.BadParameter(f"--device {device.value}: {error}") from None


def one_format(json: bool, csv: bool) -> None:
    """Refuse two formats at once."""
    if json and csv:
        raise typer.BadParameter("expected --json or --csv, got both")


def resumes(resume: bool, checkpoint: Path | None) -> None:
    """Refuse to resume from nothing."""
    if resume and checkpoint is None:
        raise typer.BadParameter("--resume goes on from a --checkpoint: give its path")


def given(ctx: typer.Context) -> set[str]:
    """The names of the options that the command line has."""
    return {name for name in ctx.params if ctx.get_parameter_source(name).name == "COMMANDLINE"}


def refuse(options: Collection[str], why: str) -> None:
    """Refuse options that were given, for they would change nothing."""
    for name in sorted(options):
        raise typer.BadParameter(f"--{name.replace('_', '-')} {why}")


def threads_here(threads: int) -> None:
    """Refuse more threads than there are cores."""
    from benchmarks.results import available_cores

    cores = available_cores()
    if threads > cores:
        raise typer.BadParameter(
            f"--threads must be at most {cores}, the cores here, got {threads}"
        )


def complain(message: str) -> int:
    """Say on stderr, in one line, what is wrong; the exit status for that."""
    if message:  # without any argument the help has said it all
        print(f"handgrad: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
