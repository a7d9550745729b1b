"""What the README says works when pasted."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.cli import main
from benchmarks.steps import command as steps_command

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BENCH = [
    shlex.split(line, comments=True)[1:]
    for line in README.splitlines()
    if line.startswith("handgrad bench")
    and "--dataset mnist" not in line
    and "--device cuda" not in line
]
STUDIED = [
    shlex.split(line, comments=True)[1:]
    for line in README.splitlines()
    if line.startswith(("handgrad homework", "handgrad results")) and "--device cuda" not in line
]
ON_GPU = [
    shlex.split(line, comments=True)[1:]
    for line in README.splitlines()
    if line.startswith("handgrad ") and "--device cuda" in line
]
TIMED = [command for command in BENCH if "--steps" in command or "--advise" in command]
SHARED = [command for command in BENCH if "--processes" in command]
COMMANDS = [command for command in BENCH if command not in (*TIMED, *SHARED)]


def test_there_is_something_to_paste():
    assert len(BLOCKS) == 7
    assert len(COMMANDS) == 2
    assert len(TIMED) == 5
    assert len(STUDIED) == 9
    assert len(SHARED) == 1
    assert len(ON_GPU) == 4


@pytest.mark.parametrize(
    "block",
    BLOCKS,
    ids=["pytest", "own module", "own class", "any backward", "manual", "weights", "resumed"],
)
def test_python_blocks_run(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    if "print(comparison)" in block:
        assert "first: step 1, d_activation.0: manual" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bench, "hint", lambda *args: None)  # which times other settings
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert len(list((tmp_path / "results").glob("bench-*"))) == 2


@pytest.mark.parametrize("command", TIMED, ids=" ".join)
def test_commands_that_time_are_understood(command, monkeypatch):
    """What they do takes a minute, and has tests of its own."""
    called = []
    for name in ("steps", "advise"):
        monkeypatch.setattr(steps_command, name, lambda *args: called.append(args) or 0)
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert len(called) == 1


@pytest.mark.parametrize("command", SHARED, ids=" ".join)
def test_commands_that_start_processes_are_understood(command, monkeypatch, tmp_path):
    """What these do has tests of its own."""
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr("benchmarks.data.load", lambda name, root: name)
    monkeypatch.setattr(
        "benchmarks.distributed.launch.launch", lambda *args: called.append(args) or 0
    )
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert len(called) == 1


@pytest.mark.parametrize("command", ON_GPU, ids=" ".join)
def test_commands_for_a_gpu_are_understood(command, monkeypatch, capsys):
    """As far as to see that CuPy is missing; what they do has tests of its own."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 2
    assert "--device cuda: device 'cuda' needs CuPy" in capsys.readouterr().err


@pytest.mark.parametrize("command", STUDIED, ids=" ".join)
def test_commands_that_study_are_understood(command, monkeypatch):
    """What they do has tests of its own."""
    called = []
    monkeypatch.setattr("benchmarks.data.load", lambda name, root: name)
    for name in ("benchmarks.homework.command.homework", "benchmarks.runs.command.results"):
        monkeypatch.setattr(name, lambda *args: called.append(args) or 0)
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert len(called) == 1
