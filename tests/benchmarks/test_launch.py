"""`handgrad bench --processes`: processes started here, one line about what ends them, and nobody
left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import cli
from benchmarks.distributed import launch, member, timing
from benchmarks.mnist import Settings
from benchmarks.runs.log import Run
from tests.benchmarks.processes import gone

ROOT = Path(__file__).parents[2]
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT


@pytest.fixture(autouse=True)
def signals():
    """torch's launcher handles signals, and does not stop to."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("what", "processes", "status", "line"),
    [
        ("nothing", 4, 0, ""),
        ("kill", 2, 1, "handgrad: error: rank 1 was killed by SIGKILL\n"),
        ("kill", 4, 1, "handgrad: error: rank 1 was killed by SIGKILL\n"),
        ("exit", 2, 1, "handgrad: error: rank 1 ended with status 5\n"),
        ("tell", 2, 1, "handgrad: error: rank 3 is odd\n"),
        ("interrupted", 2, 130, ""),
    ],
)
def test_a_rank_that_ends_badly_ends_all_in_one_line(
    what, processes, status, line, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    folder = tmp_path / "seen"
    folder.mkdir()
    module = "tests.benchmarks.dying"
    began = time.monotonic()
    assert launch.launch([what, str(folder)], processes, 3, module) == status
    assert time.monotonic() - began < 20
    assert capfd.readouterr() == ("", line)
    assert dict(os.environ) == before
    seen = list(folder.iterdir())
    assert sorted(path.name[0] for path in seen) == [str(r) for r in range(processes)]
    assert {path.read_text() for path in seen} == {"3"}
    assert gone(*(int(path.name[2:]) for path in seen))


def test_the_processes_are_given_the_same_options(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    started, loaded, taken = [], [], []
    monkeypatch.setattr(launch, "launch", lambda *args: started.append(args) or 0)
    monkeypatch.setattr("benchmarks.data.load", lambda *args: loaded.append(args))
    monkeypatch.setattr(
        "benchmarks.distributed.member.member", lambda *args: taken.append(args) or 0
    )
    options = "--hidden 7 --hidden 5 --activation tanh --lr 0.3 --momentum 0.5 --weight-decay 0.1"
    options += " --batch-size 9 --epochs 3 --dtype float64 --threads 1 --seed 4 --out there --csv"
    options += " --dataset mnist --data-root somewhere"
    with pytest.raises(SystemExit) as exited:
        cli.main(["bench", "--processes", "3", *options.split()])
    assert exited.value.code == 0
    ((arguments, processes, threads),) = started
    assert (processes, threads) == (3, 1)
    assert loaded == [("mnist", Path("somewhere"))]  # what is wrong with it is said once
    assert (tmp_path / "there").is_dir()
    with pytest.raises(SystemExit):
        cli.main(["bench", "--member", *arguments])
    settings = Settings(
        hidden=(7, 5),
        activation="tanh",
        lr=0.3,
        momentum=0.5,
        weight_decay=0.1,
        batch_size=9,
        epochs=3,
        dtype="float64",
        seed=4,
    )
    assert taken == [(settings, "mnist", Path("somewhere"), Path("there"), False, True)]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--processes 0", "--processes"),
        ("--processes 2 --steps", "--processes has no meaning with --steps"),
        ("--member --processes 2", "--processes does not go with torchrun"),
        ("--member --steps", "--steps does not go with torchrun"),
        ("--processes 2 --checkpoint x", "--checkpoint does not go with --processes"),
        ("--processes 2 --batch-size 8 --batch-size 9", "--batch-size can be given more than once"),
    ],
)
def test_what_is_refused(options, line, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exited:
        cli.main(["bench", *options.split()])
    assert exited.value.code == 2
    assert line in capfd.readouterr().err


def started(tmp_path, *options):
    code = "from benchmarks.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, "bench", "--processes", "2", "--hidden", "4", *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_train_and_what_they_came_to_is_written(tmp_path):
    run = started(tmp_path, "--epochs", "1", "--dtype", "float64", "--json")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert "proven in float64: 2 processes compute what one does" in err
    assert "over batches of 64, 63, 1" in err
    rows = pd.DataFrame(json.loads(out))
    assert list(rows.side) == ["manual", "torch"]
    assert set(rows.processes) == {2}
    assert rows.max_weight_difference.between(0, 1e-9, inclusive="neither").all()
    assert (rows.step_us > 0).all()
    assert (rows.all_reduce_share < 1).all()
    (path,) = (tmp_path / "results").glob("bench-sample-2-processes-*.csv")
    assert list(pd.read_csv(path).side) == ["manual", "torch"]
    runs = pd.read_csv(tmp_path / "results" / "runs.csv")
    assert list(runs.command) == ["bench", "bench"]
    assert list(runs.processes) == [2, 2]
    assert set(runs.outcome) == {"finished"}
    assert runs.step_us.tolist() == rows.step_us.tolist()
    assert runs.all_reduce_share.tolist() == rows.all_reduce_share.tolist()


def ranks_of(parent):
    """Rank → process, of those that are its children."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            own = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        named = [word for word in words if word.startswith(b"RANK=")]
        if int(own[1]) == parent and named:
            found[int(named[0][5:])] = int(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for ranks in /proc")
def test_a_kill_in_the_midst_of_training_ends_the_run(tmp_path):
    run = started(tmp_path, "--epochs", "1000000")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/bench-*.csv")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline, "no epoch finished"
        time.sleep(0.05)
    ranks = ranks_of(run.pid)
    assert ranks.keys() == {0, 1}
    killed = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert gone(*ranks.values())
    assert time.monotonic() - killed < 60
    assert run.returncode == 1
    assert err.strip().splitlines()[-1] == "handgrad: error: rank 1 was killed by SIGKILL"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(FloatingPointError("the loss became nan"), "diverged"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_is_finished_is_in_runs_csv_when_a_run_ends_early(
    error, outcome, tmp_path, monkeypatch
):
    def train(*args):
        rows = {"epoch": 1, "seconds": 0.5, "samples_per_second": 9.0, "seed": 3}
        origin = {"dataset": "sample", "processes": 2}
        yield [rows | origin | {"side": side} for side in ("manual", "torch")]
        raise error

    monkeypatch.setattr(member.training, "train", train)
    steps = {"manual": timing.Step(7.0, 0.5), "torch": timing.Step(9.0, 0.25)}
    log = Run(tmp_path, "bench")
    with pytest.raises(type(error)):
        member._train(None, None, None, steps, log)
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert list(frame.outcome) == [outcome] * 2
    assert list(frame.step_us) == [7.0, 9.0]
    assert list(frame.epochs_run) == [1, 1]
    assert len(pd.read_csv(next(tmp_path.glob("bench-*.csv")))) == 2
