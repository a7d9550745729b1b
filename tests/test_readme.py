"""What the README says works when pasted."""

import re
from pathlib import Path

import pytest

from benchmarks.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].split()[1:]
    for line in README.splitlines()
    if line.startswith("handgrad bench") and "--dataset mnist" not in line
]


def test_there_is_something_to_paste():
    assert len(BLOCKS) == 5
    assert len(COMMANDS) == 2


@pytest.mark.parametrize(
    "block", BLOCKS, ids=["pytest", "own module", "own class", "any backward", "manual"]
)
def test_python_blocks_run(block, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    if "print(comparison)" in block:
        assert "first: step 1, d_activation.0: manual" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert len(list((tmp_path / "results").iterdir())) == 2
