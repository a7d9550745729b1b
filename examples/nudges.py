"""Nudges: how far the output of a network moves when one parameter is moved a little.

The lecture on backpropagation takes a 2-2-1 regression network (sigmoid hidden layer, identity
output) and two observations. The nudge of a parameter θ is ∂a²/∂θ. A nudge weighted by twice
the residual y − a² is what that observation adds to −∇R, where R = Σ (y − a²)², and the sum
over the observations says which parameter matters most.

All nine nudges of both observations are computed here by the backward written by hand, by
torch's autograd and by differences of the forward. Beside them stands every figure that the
lecture prints, and those that are wrong are named.

    python examples/nudges.py [FOLDER]      the picture: FOLDER/nudges.png
"""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.markup import escape

from benchmarks.plot import folder, save
from benchmarks.show import console
from compare.show import plain_table
from manual import nn
from torch_ref import twin

# w_ij^l leads from node j of layer l−1 to node i of layer l.
NAMES = ("w11¹", "w12¹", "b1¹", "w21¹", "w22¹", "b2¹", "w11²", "w12²", "b1²")
# The scan lost w21¹, w22¹ and b2¹. With these, z2¹ is 0.5 and 0.8 for the two observations, and
# nothing that the lecture prints depends on the three but through z2¹.
LOST = (0.3, 0.5, 0.6)
X = np.array([[3.0, -2.0], [-1.0, 1.0]])
Y = np.array([[1.2], [0.7]])


def network(lost: tuple[float, float, float] = LOST) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(2, 2, dtype=np.float64), nn.Sigmoid(), nn.Linear(2, 1, dtype=np.float64)
    )
    w21, w22, b2 = lost
    net.load_state_dict(
        {
            "0.weight": np.array([[0.2, 0.4], [w21, w22]]),
            "0.bias": np.array([0.1, b2]),
            "2.weight": np.array([[0.6, 0.2]]),
            "2.bias": np.array([0.4]),
        }
    )
    return net


def in_order(state: dict[str, np.ndarray]) -> np.ndarray:
    """Nine numbers, one for each parameter, in the order of NAMES."""
    hidden = np.column_stack([state["0.weight"], state["0.bias"]])
    return np.concatenate([hidden.ravel(), state["2.weight"].ravel(), state["2.bias"]])


def nudges(net: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """∂a²/∂θ for one observation: the backward of a² itself, so it starts from ∂a²/∂a² = 1."""
    net.backward(np.ones_like(net(x[None])))
    return in_order({name: p.grad for name, p in net.named_parameters()})


def torch_nudges(net: nn.Sequential, x: np.ndarray) -> np.ndarray:
    theirs = twin(net)
    theirs(torch.from_numpy(x[None])).sum().backward()
    return in_order({name: p.grad.numpy() for name, p in theirs.named_parameters()})


def differences(net: nn.Sequential, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """(a²(θ + h) − a²(θ − h)) / 2h for each θ, in extended precision: no derivative is used."""
    net, x, h = copy.deepcopy(net).to(np.longdouble), x.astype(np.longdouble), np.longdouble(step)
    slopes = {}
    for name, p in net.named_parameters():
        slopes[name] = np.empty(p.shape)
        for at in np.ndindex(p.shape):
            kept = p.data[at]
            p.data[at] = kept + h
            above = net(x[None])
            p.data[at] = kept - h
            slopes[name][at] = ((above - net(x[None])) / (2 * h)).item()
            p.data[at] = kept
    return in_order(slopes)


def gradient(net: nn.Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """∇R for R = Σ (y − a²)² over all the observations given."""
    criterion = nn.SumSquaredError()
    criterion(net(x), y)
    net.backward(criterion.backward())
    return in_order({name: p.grad for name, p in net.named_parameters()})


def torch_gradient(net: nn.Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    theirs, criterion = twin(net), twin(nn.SumSquaredError())
    criterion(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    return in_order({name: p.grad.numpy() for name, p in theirs.named_parameters()})


class Figures(NamedTuple):
    """What the network gives: hidden (2, 2), output and residual (2,), nudges (2, 9)."""

    hidden: np.ndarray
    output: np.ndarray
    residual: np.ndarray
    nudges: np.ndarray


def figures(net: nn.Sequential) -> Figures:
    hidden = net[1](net[0](X))
    output = net(X)[:, 0]
    return Figures(hidden, output, Y[:, 0] - output, np.array([nudges(net, x) for x in X]))


class Claim(NamedTuple):
    """A figure as the lecture prints it, and what it should be."""

    observation: int
    what: str
    printed: str
    exact: float
    why: str = ""

    @property
    def mark(self) -> str:
        """`exact` where the exact value rounds to the printed one, `rounding` within two units of
        the last printed place, else `wrong`."""
        places = len(self.printed.partition(".")[2])
        if f"{self.exact:.{places}f}" == self.printed:
            return "exact"
        return "rounding" if abs(float(self.printed) - self.exact) <= 2 * 10**-places else "wrong"


def claims(found: Figures) -> list[Claim]:
    """Every figure that the lecture prints, in its order."""
    first = dict(zip(NAMES, found.nudges[0], strict=True))
    second = dict(zip(NAMES, found.nudges[1], strict=True))
    copied = "copied: it is a{}¹ = {:.3f} here"
    return [
        Claim(1, "a²", "0.809", found.output[0], "0.8094 from 0.475 and 0.622"),
        Claim(1, "a1¹", "0.475", found.hidden[0, 0]),
        Claim(1, "a2¹", "0.622", found.hidden[0, 1]),
        Claim(1, "∂a²/∂w11², text", "0.475", first["w11²"]),
        Claim(1, "∂a²/∂w12², text", "0.622", first["w12²"]),
        Claim(1, "∂a²/∂b1², text", "1", first["b1²"]),
        Claim(1, "∂a²/∂w11¹", "0.449", first["w11¹"]),
        Claim(1, "∂a²/∂w12¹", "-0.299", first["w12¹"]),
        Claim(1, "∂a²/∂b1¹", "0.150", first["b1¹"]),
        Claim(1, "∂a²/∂w21¹", "0.141", first["w21¹"]),
        Claim(1, "∂a²/∂w22¹", "-0.094", first["w22¹"]),
        Claim(1, "∂a²/∂b2¹", "0.045", first["b2¹"], "0.141 / 3 = 0.094 / 2 = 0.047"),
        Claim(1, "residual y − a²", "0.311", found.residual[0], "1.2 − 0.809 is 0.391"),
        Claim(1, "∂a²/∂w11², vector", "0.455", first["w11²"], "it is a1¹ = 0.475, as in the text"),
        Claim(1, "∂a²/∂w12², vector", "0.622", first["w12²"]),
        Claim(
            1, "factor in −∇R", "0.311", 2 * found.residual[0], "2 (y − a²): the 2 is missing too"
        ),
        Claim(2, "a²", "0.88", found.output[1]),
        Claim(2, "residual y − a²", "-0.18", found.residual[1]),
        Claim(2, "a1¹", "0.574", found.hidden[1, 0]),
        Claim(2, "a2¹", "0.689", found.hidden[1, 1], "cut off, not rounded"),
        Claim(2, "∂a²/∂w11²", "0.455", second["w11²"], copied.format(1, found.hidden[1, 0])),
        Claim(2, "∂a²/∂w12²", "0.622", second["w12²"], copied.format(2, found.hidden[1, 1])),
        Claim(2, "∂a²/∂b1²", "1", second["b1²"]),
    ]


def statements(net: nn.Sequential, found: Figures) -> list[tuple[str, bool, str]]:
    """What the lecture says in words or formulas: (statement, whether it holds, the figures)."""
    size = dict(zip(NAMES, np.abs(found.nudges[0]), strict=True))
    slope = dict(zip(NAMES, gradient(net, X[:1], Y[:1]), strict=True))
    z, w11, dR = net[0](X[:1])[0, 0], net[2].weight.data[0, 0], -2 * found.residual[0]
    formula = dR * w11 * np.exp(-z) * (1 + np.exp(-z)) ** -2 * X[0, 0]
    change = dR * found.hidden[0, 0]
    return [
        (
            "b1² matters more than w11², it more than w12²",
            size["b1²"] > size["w11²"] > size["w12²"],
            f"1, {size['w11²']:.3f}, {size['w12²']:.3f}: w12² comes before w11²",
        ),
        (
            "w11¹ matters more than w12¹, w12¹ more than b1¹",
            size["w11¹"] > size["w12¹"] > size["b1¹"],
            f"{size['w11¹']:.3f}, {size['w12¹']:.3f}, {size['b1¹']:.3f}",
        ),
        (
            "∂R/∂w11¹ = −2 (y − a²) w11² e^−z (1 + e^−z)^−2 x1",
            bool(abs(formula - slope["w11¹"]) <= 1e-15),
            f"{formula:.4f}, as backprop has it",
        ),
        (
            "−2η (y − a²) a1¹ = −η ∂R/∂w11²",
            bool(abs(change + slope["w11²"]) <= 1e-15),
            f"{change:.4f} η on the left: it is +η ∂R/∂w11²",
        ),
        (
            "w21¹ moves z1² by 3η",
            bool(abs(found.nudges[0, 3] - 3) <= 1e-15),
            f"z2¹ by 3η; z1² = a² by {found.nudges[0, 3]:.3f} η",
        ),
    ]


def picture(found: Figures, listed: list[Claim]) -> Figure:
    """Left: the nudges of both observations, with the wrong printed ones. Right: what each adds
    to −∇R."""
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = ("#1b6ca8", "#d95f02")
    places, width = np.arange(len(NAMES)), 0.38
    shares = 2 * found.residual[:, None] * found.nudges
    for k, colour in enumerate(colours):
        at = places + (k - 0.5) * width
        left.bar(at, found.nudges[k], width, color=colour, label=f"observation {k + 1}")
        right.bar(at, shares[k], width, color=colour, label=f"observation {k + 1}")
    wrong = {
        (c.observation, name): float(c.printed)
        for c in listed
        for name in NAMES
        if c.mark == "wrong" and c.what.startswith(f"∂a²/∂{name}")
    }
    at = [NAMES.index(name) + (observation - 1.5) * width for observation, name in wrong]
    marks = {"color": "black", "marker": "x", "s": 45, "zorder": 3}
    left.scatter(at, list(wrong.values()), label="printed, wrong", **marks)
    total = shares.sum(axis=0)
    right.scatter(places, total, color="black", marker="D", s=28, zorder=3, label="sum: −∇R")
    left.set(title="nudges", ylabel="∂a²/∂θ")
    right.set(title="what each observation adds to −∇R", ylabel="2 (y − a²) ∂a²/∂θ")
    for axes in (left, right):
        axes.set_xticks(places, NAMES)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
    return figure


def main(out: Path) -> None:
    net = network()
    found = figures(net)
    slopes = gradient(net, X, Y)

    table = plain_table("the nudges ∂a²/∂θ of both observations, and −∇R")
    for column in ("θ", "observation 1", "observation 2", "−∂R/∂θ", "rank"):
        table.add_column(column, justify="left" if column == "θ" else "right")
    order = list(np.argsort(-np.abs(slopes)))
    for k, name in enumerate(NAMES):
        values = (*found.nudges[:, k], -slopes[k])
        table.add_row(name, *(f"{v:.6f}" for v in values), str(order.index(k) + 1))
    console.print(table)

    def apart(one: np.ndarray, other: np.ndarray) -> str:
        return f"{np.abs(one - other).max():.0e}"

    by_torch = np.array([torch_nudges(net, x) for x in X])
    by_differences = np.array([differences(net, x) for x in X])
    print(f"{NAMES[order[0]]} matters most, {NAMES[order[1]]} next. Largest differences:")
    print(f"  nudges by hand and by torch      {apart(found.nudges, by_torch)}")
    print(f"  nudges by hand and differences   {apart(found.nudges, by_differences)}")
    print(f"  ∇R by hand and by torch          {apart(slopes, torch_gradient(net, X, Y))}")
    summed = -2 * found.residual @ found.nudges
    print(f"  ∇R and the sum of −2 (y − a²) ∂a²/∂θ over both   {apart(slopes, summed)}\n")

    listed = claims(found)
    table = plain_table("the figures as printed, and exact")
    for column in ("obs.", "figure", "printed", "exact", "mark", "why"):
        table.add_column(column, justify="right" if column in ("printed", "exact") else "left")
    styles = {"exact": "green", "rounding": "yellow", "wrong": "bold red"}
    for claim in listed:
        mark = f"[{styles[claim.mark]}]{claim.mark}[/]"
        exact = f"{claim.exact:.5f}"
        table.add_row(str(claim.observation), claim.what, claim.printed, exact, mark, claim.why)
    console.print(table)

    table = plain_table("what it says in words or as a formula")
    for column in ("statement", "", "figures"):
        table.add_column(column)
    for statement, holds, seen in statements(net, found):
        mark = "[green]right[/]" if holds else "[bold red]wrong[/]"
        table.add_row(escape(statement), mark, seen)
    console.print(table)
    print(f"The scan lost w21¹, w22¹ and b2¹: taken as {LOST[0]}, {LOST[1]} and {LOST[2]}, which")
    print("reproduce every readable figure that is not wrong. Nothing here is random.")

    path = out / "nudges.png"
    save(picture(found, listed), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
