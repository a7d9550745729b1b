"""Work shared over processes: the order of its results, and what becomes of a process that dies."""

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import cli, proofs, sharing
from benchmarks.sharing import WorkerDied, shared
from compare import verify
from tests.benchmarks import sharing_work
from tests.benchmarks.processes import gone
from tests.benchmarks.sharing_work import work

MANY = [("slow" if k % 5 == 0 else "x", k) for k in range(12)]


def name(item):
    return f"item {item[1]}"


@pytest.mark.parametrize("processes", [1, 2, 3, 20])
def test_results_come_in_the_order_of_the_items(processes):
    assert list(shared(work, MANY, processes, name)) == MANY


def test_one_process_is_this_one_and_more_are_others():
    pids = [("pid", k) for k in range(6)]
    assert set(shared(work, pids, 1, name)) == {os.getpid()}
    found = set(shared(work, pids, 2, name))
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2
    assert gone(*found)


def test_nothing_to_do():
    assert list(shared(work, [], 3, name)) == []


@pytest.mark.parametrize(
    ("what", "how"), [("kill", "was killed by SIGKILL"), ("exit", "ended with status 7")]
)
def test_a_process_that_dies_is_an_error_that_names_the_item(what, how):
    items = [*MANY[:5], (what, 5), ("hang", 6), *MANY[7:]]
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=f"^the process that worked on item 5 {how}$"):
        list(shared(work, items, 2, name))
    assert time.monotonic() - began < 20


def test_what_work_raises_is_raised_here_with_the_item():
    with pytest.raises(ArithmeticError, match="no 1") as raised:
        list(shared(work, [("x", 0), ("raise", 1), ("hang", 2)], 2, name))
    assert any("worked on item 1" in note for note in raised.value.__notes__)
    assert any("sharing_work.py" in note for note in raised.value.__notes__)
    with pytest.raises(RuntimeError, match="Unsendable: odd"):
        list(shared(work, [("unsendable", 0), ("x", 1)], 2, name))


def test_who_stops_early_leaves_no_process_behind():
    results = shared(work, [("pid", 0), ("pid", 1), ("hang", 2), ("hang", 3)], 2, name)
    pids = {next(results), next(results)}
    results.close()
    assert gone(*pids)


def test_processes_end_with_the_one_that_started_them():
    """Even where that is killed, and can end nobody."""
    code = (
        "from benchmarks.sharing import shared\n"
        "from tests.benchmarks.sharing_work import work\n"
        "if __name__ == '__main__':\n"
        "    for r in shared(work, [('pid', k) for k in range(10**5)], 2, str):\n"
        "        print(r, flush=True)"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pids = {int(parent.stdout.readline()) for _ in range(20)}
        parent.kill()
        parent.stdout.close()
    assert pids
    assert gone(*pids)


def test_each_process_has_one_thread():
    (found,) = {tuple(f) for f in shared(sharing_work.threads, [0, 1, 2], 2, str)}
    assert found in {(1,), ()}  # none where threadpoolctl knows none of the libraries


def test_the_environment_is_as_before(monkeypatch):
    for before in (None, "ACTIVE"):
        if before is None:
            monkeypatch.delenv(sharing.WAITING, raising=False)
        else:
            monkeypatch.setenv(sharing.WAITING, before)
        list(shared(work, [("x", 0)], 2, name))
        assert os.environ.get(sharing.WAITING) == before


SOME = ("Dropout", "StepLR")  # randomness of its own, several steps


@pytest.fixture
def handgrad(capfd):
    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main([str(a) for a in args])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


def test_verify_says_the_same_byte_by_byte_however_many_share_it(handgrad):
    options = [word for subject in SOME for word in ("--only", subject)]
    found = [
        handgrad("verify", *options, "--csv", "--seed", 4, "--processes", n) for n in (1, 2, 3)
    ]
    assert found[0][0] == 0
    assert found[0] == found[1] == found[2]
    rows = pd.read_csv(StringIO(found[0][1]))
    assert set(rows.subject) == set(SOME)


def test_the_cases_of_a_process_are_those_of_all():
    """Whichever it is given, and whatever was drawn before."""
    names = [str(job) for job in verify.jobs(3, {"Tanh", "Adam"})]
    numbered = proofs._numbered(3, frozenset({"Tanh", "Adam"}), "cpu")
    assert len(names) > 20
    for number in (2, 3, 11, len(names) - 1):
        job = numbered(number)
        assert str(job) == names[number]
        (own,) = job.prove()
        assert f"{own['case']}, {own['dtype']}" == names[number]
    assert {job.dtype for job in verify.jobs(3, {"Tanh"})} == {np.dtype("f4"), np.dtype("f8")}


def test_a_command_whose_process_dies_says_so_in_one_line(handgrad, monkeypatch):
    def dying(*args):
        raise WorkerDied("the process that worked on GELU() [4], float32 was killed by SIGKILL")
        yield

    monkeypatch.setattr(proofs, "shared", dying)
    status, out, err = handgrad("verify", "--only", "GELU", "--processes", 2)
    assert (status, out) == (1, "")
    assert err.strip().splitlines()[-1] == (
        "handgrad: error: the process that worked on GELU() [4], float32 was killed by SIGKILL"
    )
    assert "Traceback" not in err
