"""Start the processes of a run on this machine, and end all of them when one ends badly."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from pathlib import Path

from rich.console import Console
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks.mnist import Settings
from benchmarks.sharing import THREADS

MODULE = "benchmarks.distributed"


def launch(arguments: list[str], processes: int, threads: int, module: str = MODULE) -> int:
    """Run `python -m module` with these arguments in so many processes; returns the exit status.
    Of a run that fails one line on stderr says which rank was the first, and how it ended."""
    # It warns of, and then shows in a table, what the one line says.
    logging.disable(logging.CRITICAL)
    before = dict(os.environ)
    paths = [str(Path(__file__).parents[2]), *filter(None, [before.get("PYTHONPATH")])]
    os.environ |= dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        with tempfile.TemporaryDirectory(prefix="handgrad-") as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id=str(uuid.uuid4()),
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",  # any port that is free
                local_addr="localhost",
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(log_dir=folder),
            )
            elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 130:
            return 130
        Console(stderr=True).show_cursor()  # a progress bar that was ended has hidden it
        print(f"handgrad: error: {told(rank, failure)}", file=sys.stderr)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ |= before
    return 0


def told(rank: int, failure: ProcessFailure) -> str:
    """Its own message where it left one."""
    if isinstance(failure.message, dict):
        return failure.message["message"]
    if failure.exitcode < 0:
        return f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    return f"rank {rank} ended with status {failure.exitcode}"


def arguments(
    settings: Settings,
    dataset: str,
    data_root: Path | None,
    out: Path,
    as_json: bool,
    as_csv: bool,
) -> list[str]:
    """The options of `handgrad bench` that say the same."""
    given = [f"--hidden={width}" for width in settings.hidden]
    for name, value in vars(settings).items():
        if name != "hidden":
            given.append(f"--{name.replace('_', '-')}={value}")
    given += [f"--dataset={dataset}", f"--out={out}"]
    given += [] if data_root is None else [f"--data-root={data_root}"]
    return given + ["--json"] * as_json + ["--csv"] * as_csv
