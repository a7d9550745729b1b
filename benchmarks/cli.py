"""The command line: what handgrad can be asked. Heavy imports wait for the command."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.homework.cli import homework
from benchmarks.options import (
    Activation,
    Csv,
    DatasetName,
    Device,
    Dtype,
    Json,
    OptimizerName,
    Processes,
    Resume,
    complain,
    device_here,
    given,
    one_format,
    real,
    refuse,
    resumes,
    threads_here,
    whole,
)
from benchmarks.runs.cli import results
from benchmarks.sharing import WorkerDied

app = typer.Typer(
    name="handgrad",
    help="Backprop written by hand in NumPy, proven tensor by tensor against torch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command()
def verify(
    ctx: typer.Context,
    seed: Annotated[int, typer.Option(help="Of weights and data.", **whole(0))] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every tensor of every case.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A name, as LeakyReLU or homework; repeat for more. Default: all."),
    ] = None,
    covered: Annotated[
        bool, typer.Option("--list", help="What is covered and how often; nothing is run.")
    ] = False,
    processes: Processes = None,
    device: Annotated[
        Device, typer.Option(help="Of both sides; cuda needs a GPU and CuPy.")
    ] = Device.cpu,
    json: Json = False,
    csv: Csv = False,
) -> int:
    """Prove manual against torch: the homework's two updates, then every module, loss,
    optimizer and schedule, in float64 and float32. Exit status 1 on any mismatch."""
    one_format(json, csv)

    from threadpoolctl import threadpool_limits

    from benchmarks import proofs
    from benchmarks.show import console, print_records, working
    from compare import show
    from compare import verify as run

    known = run.subjects()
    for name in only or ():
        if name not in known:
            raise typer.BadParameter(f"--only: expected one of {', '.join(known)}, got {name!r}")
    if covered:
        refuse(given(ctx) & {"processes", "device"}, "has no meaning with --list")
        rows = [row for row in run.coverage(seed) if not only or row["subject"] in only]
        if not print_records(rows, json, csv):
            console.print(show.coverage_table(rows, seed))
        return 0
    device_here(device)
    # in networks this small, threads only wait for one another
    with threadpool_limits(1), working("proving") as progress:
        results = list(proofs.verify(seed, progress, only or None, processes or 1, device.value))
    failed = [r for r in results if r["verdict"] != "ok"]
    records = [{k: v for k, v in r.items() if k != "detail"} for r in results]
    if not print_records(records, json, csv):
        if not only or run.HOMEWORK in only:
            console.print(show.homework_table(device.value))
        console.print(show.results_table(results, seed, device.value))
    for result in results if verbose else failed:
        print(f"\n{result['case']}, {result['dtype']}", file=sys.stderr)
        print(run.detail_text(result), file=sys.stderr)
    tensors = sum(r["tensors"] for r in results)
    print(
        f"{len(results)} cases, {tensors} tensors: "
        + (f"{len(failed)} cases FAILED" if failed else "all ok"),
        file=sys.stderr,
    )
    return 1 if failed else 0


@app.command()
def check(
    sheets: Annotated[
        list[Path], typer.Argument(metavar="SHEET.toml …", help="Worked solutions to mark.")
    ],
    json: Json = False,
    csv: Csv = False,
    html: Annotated[
        Path | None, typer.Option(metavar="PAGE", help="Write a page that steps through them.")
    ] = None,
) -> int:
    """Mark hand-worked solutions, figure by figure: exact, rounding, follows or wrong.

    Every exact figure is what manual, autograd and an oracle in 80 digits agree on. `follows`
    is wrong, but what the sheet's own earlier figures give: it counts as right. Exit status 1
    where a figure is wrong, or where the three do not agree; 2 for a sheet that cannot be read."""
    one_format(json, csv)

    from benchmarks.check import check as run

    return run(sheets, html, json, csv)


# Options of the training that mean nothing for single steps.
TRAINING = frozenset(
    [
        "checkpoint",
        "dataset",
        "data_root",
        "epochs",
        "lr",
        "momentum",
        "optimizer",
        "processes",
        "resume",
        "weight_decay",
    ]
)


@app.command()
def bench(
    ctx: typer.Context,
    steps: Annotated[
        bool,
        typer.Option(
            "--steps",
            help="Time single steps of manual, torch and others instead, over batch sizes.",
        ),
    ] = False,
    advise: Annotated[
        bool,
        typer.Option(
            "--advise",
            help="Measure whether other BLAS kernels or threads would be faster instead.",
        ),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --steps: a small sweep.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="With --steps: a contestant, as 'JAX jit'; repeat for more."),
    ] = None,
    dataset: Annotated[
        DatasetName, typer.Option(help="sample: the packaged 5,000 digits of MNIST.")
    ] = DatasetName.sample,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds MNIST/raw/*.gz (FashionMNIST/raw/*.gz)."),
    ] = None,
    hidden: Annotated[
        list[int],
        typer.Option(help="Width of a hidden layer; repeat for more layers.", **whole(1, 10**6)),
    ] = [128],  # noqa: B006  typer copies it
    activation: Annotated[Activation, typer.Option()] = Activation.relu,
    optimizer: Annotated[OptimizerName, typer.Option()] = OptimizerName.sgd,
    lr: Annotated[float, typer.Option(help="Learning rate.", **real("> 0"))] = 0.1,
    momentum: Annotated[float, typer.Option(**real(">= 0"))] = 0.0,
    weight_decay: Annotated[float, typer.Option(**real(">= 0"))] = 0.0,
    batch_size: Annotated[
        list[int],
        typer.Option(help="Repeat for more with --steps.", **whole(1)),
    ] = [64],  # noqa: B006
    epochs: Annotated[int, typer.Option(**whole(1))] = 5,
    dtype: Annotated[Dtype, typer.Option()] = Dtype.float32,
    device: Annotated[
        Device, typer.Option(help="Of both sides; cuda needs a GPU and CuPy.")
    ] = Device.cpu,
    threads: Annotated[
        list[int],
        typer.Option(
            help="On both sides. With more than 1 the idle threads of one disturb the other. "
            "Repeat for more with --steps.",
            **whole(1),
        ),
    ] = [1],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of weights and batch order.", **whole(0))] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File that holds, after every epoch, all that --resume needs."),
    ] = None,
    resume: Resume = False,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Share every batch over so many processes here. For several machines: torchrun "
            "-m benchmarks.distributed, with these options.",
            **whole(1),
        ),
    ] = None,
    member: Annotated[bool, typer.Option("--member", hidden=True)] = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV and the picture.")] = Path(
        "results"
    ),
    json: Json = False,
    csv: Csv = False,
) -> int:
    """Prove the pair, then train it on MNIST with both sides and report accuracy and speed.

    Writes a CSV (a row for each side and epoch) and a picture. Exit status 1 where the pair is
    not proven or the training diverges; nothing is trained before the proof.

    --checkpoint: one file for both sides, replaced after every epoch as a whole. A run that was
    killed ends with --resume, and else the same options (--epochs may be more), bit for bit where
    it would have ended.

    --steps: a network, its data and its weights alike for all; every contestant's step is proven
    equal to manual's before it is timed. Without --hidden, --activation, --dtype and --batch-size
    a sweep over three networks. Writes a CSV and a picture. Exit status 1 where a step differs.

    --processes: each has a share of every batch, and the gradients are averaged: manual's by an
    all-reduce of its flat buffer, torch's by DistributedDataParallel. First it is proven that they
    compute what one process does. A process that dies, or does not agree with the others on what
    is to be done, ends the run with an error that names its rank."""
    one_format(json, csv)
    chosen = given(ctx)
    if steps and advise:
        raise typer.BadParameter("expected --steps or --advise, got both")
    if steps or advise:
        refuse(chosen & TRAINING, f"has no meaning with {'--steps' if steps else '--advise'}")
    if not steps:
        refuse(chosen & {"quick", "only"}, "goes with --steps")
        for name, values in (("batch_size", batch_size), ("threads", threads)):
            refuse([name] * (len(values) > 1), "can be given more than once only with --steps")
    if advise:
        refuse(chosen & {"out", "device"}, "has no meaning with --advise")
    if steps and device is Device.cuda and max(threads) > 1:
        raise typer.BadParameter("--threads means nothing with --steps on a GPU")
    resumes(resume, checkpoint)
    if member:
        refuse(chosen & {"processes", "steps", "advise"}, "does not go with torchrun")
    if steps:
        from benchmarks.steps.contestant import makers

        for name in only or ():
            if name not in makers(device.value):
                known = ", ".join(map(repr, makers(device.value)))
                raise typer.BadParameter(f"--only: expected one of {known}, got {name!r}")

    from benchmarks import bench as run
    from benchmarks.data import load
    from benchmarks.mnist import Settings
    from benchmarks.progress import held

    threads_here(max(threads))
    device_here(device)
    if steps or advise:
        from benchmarks.steps import command, sweep
        from benchmarks.steps.problem import Problem

        widths = 784, *hidden, 10
        problem = Problem(
            widths, activation.value, dtype=dtype.value, seed=seed, device=device.value
        )
        if advise:
            problem = replace(problem, batch=batch_size[0])
            return command.advise(problem, threads[0], json, csv)
        if chosen & {"hidden", "activation", "dtype", "batch_size"}:
            batches = batch_size if "batch_size" in chosen else []
            points = sweep.points_of(problem, batches, threads, quick)
        else:
            points = sweep.default_points(threads, seed, quick, device.value)
        names = only or list(makers(device.value))
        return command.steps(points, names, quick, out, json, csv)
    if processes or member:
        refuse(chosen & {"checkpoint", "resume"}, "does not go with --processes")
    settings = Settings(
        hidden=tuple(hidden),
        activation=activation.value,
        optimizer=optimizer.value,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size[0],
        epochs=epochs,
        dtype=dtype.value,
        device=device.value,
        threads=threads[0],
        seed=seed,
    )
    if member:
        from benchmarks.distributed.member import member as take_part

        return take_part(settings, dataset.value, data_root, out, json, csv)
    data = load(dataset.value, data_root)
    if processes:
        from benchmarks.distributed.launch import arguments, launch
        from benchmarks.results import write_probe

        write_probe(out)
        options = arguments(settings, dataset.value, data_root, out, json, csv)
        return launch(options, processes, settings.threads)
    with held(checkpoint):
        return run.bench(settings, data, out, json, csv, checkpoint, resume)


@app.command()
def trust(
    ctx: typer.Context,
    networks: Annotated[int, typer.Option(help="How many.", **whole(1))] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the networks.", **whole(0))] = 0,
    only: Annotated[
        int | None,
        typer.Option(help="The number of one network: show it and all its tensors.", **whole(0)),
    ] = None,
    processes: Processes = None,
    out: Annotated[Path, typer.Option(help="Folder for the CSV.")] = Path("results"),
    json: Json = False,
    csv: Csv = False,
) -> int:
    """How far a verdict can be trusted: false alarms about correct random networks and planted
    errors missed, of handgrad, torch.testing.assert_close, numpy.allclose and gradcheck.

    Writes a CSV (a row for each checker and dtype). Exit status 1 where handgrad raises a false
    alarm, misses more than 0.5 % of the smallest errors, or any other."""
    one_format(json, csv)

    from benchmarks.results import available_cores
    from benchmarks.trust import command

    if only is not None:
        refuse(given(ctx) & {"networks", "processes"}, "has no meaning with --only")
        return command.show(seed, only)
    return command.trust(seed, networks, processes or available_cores(), out, json, csv)


app.command()(homework)
app.command()(results)


def main(args: list[str] | None = None) -> None:
    """Run a command. Exit status: 0 pass, 1 a check failed, 2 wrong usage or bad input (one line,
    no traceback), 130 interrupted."""
    try:
        status = app(args, standalone_mode=False)
    except typer.TyperException as error:
        sys.exit(complain(error.format_message().replace("Value error, ", "")))
    except (ValueError, OSError) as error:
        from benchmarks.data import DataError
        from benchmarks.tensor_file import TensorFileError

        if not isinstance(error, DataError | TensorFileError | OSError):
            raise
        sys.exit(complain(str(error)))
    except WorkerDied as error:
        complain(str(error))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        sys.exit(complain(f"not enough memory: {error}"))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(status or 0)
