"""The gates' figures against the rule written down once more, in whole numbers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TABLES = {
    "AND": {(0, 0): 0, (0, 1): 0, (1, 0): 0, (1, 1): 1},
    "OR": {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 1},
    "NOT": {(0,): 1, (1,): 0},
    "XOR": {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 0},
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def output(w, x):
    return int(sum(a * b for a, b in zip(w, (*x, 1), strict=True)) >= 0)


def rule(table, cycles, sign=1):
    """(weights with the bias last, corrections of each cycle) by w ← w + sign (y − ŷ) x."""
    w, corrections = [0] * (len(next(iter(table))) + 1), []
    while len(corrections) < cycles and 0 not in corrections[-1:]:
        corrections.append(0)
        for x, y in table.items():
            error = y - output(w, x)
            corrections[-1] += error != 0
            w = [a + sign * error * b for a, b in zip(w, (*x, 1), strict=True)]
    return w, corrections


def numbers(text):
    return [float(n) for n in NUMBER.findall(text)]


@pytest.fixture(scope="module")
def lines(run_example):
    """Of a run with a folder of its own; the other examples are run without."""
    return run_example("perceptron_gates", "a/b")[0].splitlines()


def row(lines, name):
    (line,) = (line for line in lines if line.startswith(f"{name} "))
    return line


@pytest.mark.parametrize("name", TABLES)
def test_learnt_gate(lines, name):
    line, table = row(lines, name), TABLES[name]
    w, corrections = rule(table, 1000)
    *weight, bias = w
    right = sum(output(w, x) == y for x, y in table.items())
    assert line.split()[1] == ("no" if name == "XOR" else "yes")
    expected = [len(corrections), sum(corrections), *weight, -bias, right, len(table)]
    assert numbers(line)[: len(expected)] == expected
    assert (right == len(table)) == (name != "XOR")


@pytest.mark.parametrize(
    ("name", "gate"), [("AND", (1, 1, 1.5)), ("OR", (1, 1, 0.5)), ("NOT", (-1, -0.5))]
)
def test_the_notes_gates_are_right(lines, name, gate):
    *weight, threshold = gate
    table = TABLES[name]
    assert all(output([*weight, -threshold], x) == y for x, y in table.items())
    assert numbers(row(lines, name))[-len(gate) - 2 :] == [*gate, len(table), len(table)]


def test_xor_goes_round(lines):
    (last,) = (line for line in lines if line.startswith("XOR: corrections"))
    assert numbers(last) == rule(TABLES["XOR"], 1000)[1][-10:] == [4] * 10
    at = next(k for k, line in enumerate(lines) if line.lstrip().startswith("before"))
    w, table = rule(TABLES["XOR"], 1000)[0], TABLES["XOR"]
    assert numbers(lines[at]) == w
    for line, (x, y) in zip(lines[at + 1 :], table.items(), strict=False):
        error = y - output(w, x)
        w = [a + error * b for a, b in zip(w, (*x, 1), strict=True)]
        assert numbers(line) == [*x, *w]
    assert numbers(lines[at + 4]) == [1, 1, *numbers(lines[at])]
    assert lines[at + 5] == "They are back where they were: it never ends."


def test_the_sign_of_the_printed_rule(lines):
    """C − O is computed minus desired: with O for the output every correction is backwards."""
    (right,) = (line for line in lines if "C computed" in line)
    assert numbers(right) == [*rule(TABLES["AND"], 1000)[0], 0]
    after = [numbers(line) for line in lines if line.lstrip().startswith("cycle ")]
    assert [n[0] for n in after] == [1, 10, 100, 1000]
    for cycles, *w, wrong in after:
        expected, corrections = rule(TABLES["AND"], cycles, sign=-1)
        assert w == expected == [cycles, cycles, 3 * cycles]
        assert wrong == corrections[-1] == 3


@pytest.mark.parametrize("arguments", [["a", "b"], ["--folder"], [__file__]])
def test_bad_arguments_end_with_one_line(arguments, tmp_path):
    """As in every example: nothing is made, and no picture is drawn."""
    script = Path(__file__).parents[2] / "examples" / "perceptron_gates.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
