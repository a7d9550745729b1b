"""The tables of `handgrad verify`, to the letter."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from compare import homework, verify
from compare.show import coverage_table, homework_table, plain_table, results_table


def printed(table, width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().split("\n"))


def columns(table):
    return [(c.header, c.justify, c.no_wrap, c.overflow, str(c.style)) for c in table.columns]


RESULTS = [
    ("Tanh", "Tanh() [2, 3]", "float64", 5, 0.254, "d_x", "ok"),
    ("Adam", "Adam(lr=[bold])", "float32", 9, 12.5, "updated.0.weight", "mismatch"),
    ("Tanh", "Tanh() [4]", "float32", 7, 0.1, "d_x", "ok"),
    ("Adam", "Adam()", "float32", 20, 0.5, "loss", "ok"),
    ("Tanh", "Tanh() [5]", "float32", 30, 0.5, "d_x", "ok"),
    ("Adam", "Adam()", "float32", 400, 1.25, "loss", "missing"),
]
KEYS = ("subject", "case", "dtype", "tensors", "used", "worst", "verdict")


def test_the_results():
    table = results_table([dict(zip(KEYS, r, strict=True)) for r in RESULTS], 7)
    assert printed(table, 110) == (
        "manual against torch, seed 7: the largest share of what rounding allows\n"
        "\n"
        "       cases  tensors  float64  float32  verdict\n"
        f" {'─' * 104}\n"
        " Tanh      3       42      25%      50%  ok\n"
        " Adam      3      429             1250%  2 not ok; Adam(lr=[bold]), float32: mismatch at "
        "updated.0.weight"
    )
    number = ("right", False, "ellipsis", "")
    assert columns(table) == [
        ("", "left", True, "ellipsis", ""),
        *((name, *number) for name in ("cases", "tensors", "float64", "float32")),
        ("verdict", "left", False, "ellipsis", ""),
    ]
    assert list(table.columns[-1].cells) == [
        "[green]ok[/]",
        r"[bold red]2 not ok; Adam(lr=\[bold]), float32: mismatch at updated.0.weight[/]",
    ]


def test_every_table_begins_at_the_left_edge():
    table = plain_table("what it is")
    assert (table.title, table.title_justify, table.pad_edge) == ("what it is", "left", False)


def test_what_is_covered():
    rows = [
        {"subject": "Tanh", "kind": "module", "cases": 3, "steps": 4, "ranks": "0 to 3"},
        {"subject": "Adam", "kind": "optimizer", "cases": 30, "steps": 120, "ranks": "2"},
    ]
    table = coverage_table([r | {"arguments": "x, y"} for r in rows], 7)
    assert printed(table, 80) == (
        "what handgrad verify covers, seed 7\n"
        "\n"
        "       kind       cases  steps  ranks   arguments varied\n"
        f" {'─' * 55}\n"
        " Tanh  module         3      4  0 to 3  x, y\n"
        " Adam  optimizer     30    120  2       x, y"
    )
    assert columns(table) == [
        ("", "left", True, "ellipsis", ""),
        ("kind", "left", True, "ellipsis", ""),
        ("cases", "right", False, "ellipsis", ""),
        ("steps", "right", False, "ellipsis", ""),
        ("ranks", "left", True, "ellipsis", ""),
        ("arguments varied", "left", False, "fold", ""),
    ]


def test_the_list_fits_80_columns():
    rows = verify.coverage(0)
    text = printed(coverage_table(rows, 0), 80)
    assert all(row["subject"] in text for row in rows)
    assert "…" not in text


def test_the_homework(monkeypatch):
    """Of made-up numbers: manual is too high by 2⁻⁴⁴, torch too low by 2⁻⁴⁰."""
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (1, 3), "2.bias": (1,)}
    asked = []

    def check(name, dtype, device):
        asked.append((name, dtype))
        rows = [("loss", np.array(0.25))]
        for number, (key, shape) in enumerate(shapes.items(), 1):
            value = 10.0 * number + np.arange(float(np.prod(shape))).reshape(shape)
            rows.append((f"updated.{key}", value if name == "a" else -value))
        frame = [
            {
                "name": row,
                "exact": exact.tolist(),
                "manual": (exact if row == "loss" else exact + 2.0**-44).tolist(),
                "torch": (exact - 2.0**-40).tolist(),
            }
            for row, exact in rows
        ]
        return pd.DataFrame(frame)

    monkeypatch.setattr(homework, "check", check)
    table = homework_table()
    assert asked == [("a", np.float64), ("b", np.float64)]
    numbers = {f"w{k + 1}": 10 + k for k in range(6)} | {f"w{k + 7}": 30 + k for k in range(3)}
    numbers |= {f"b{k + 1}": 20 + k for k in range(3)} | {"b4": 40}
    lines = [
        f" {name:<4}  {n}.0000000000000000   6e-14  9e-13  -{n}.0000000000000000   6e-14  9e-13"
        for name, n in numbers.items()
    ]
    loss = "0.2500000000000000       0  9e-13"
    assert printed(table, 80) == "\n".join(
        [
            "the homework's updates, float64: exact, and how far each side is off",
            "",
            "                 (a) exact  manual  torch             (b) exact  manual  torch",
            f" {'─' * 77}",
            *lines,
            f" loss   {loss}    {loss}",
        ]
    )
    assert columns(table) == [
        ("", "left", False, "ellipsis", ""),
        ("(a) exact", "right", True, "ellipsis", "bold"),
        ("manual", "right", False, "ellipsis", ""),
        ("torch", "right", False, "ellipsis", ""),
        ("(b) exact", "right", True, "ellipsis", "bold"),
        ("manual", "right", False, "ellipsis", ""),
        ("torch", "right", False, "ellipsis", ""),
    ]


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_homework_fits_80_columns(name):
    exact = homework.exact(name)
    text = printed(homework_table(), 80)
    assert f"{exact['updated.2.bias'][0]:.16f}" in text
    assert "…" not in text
