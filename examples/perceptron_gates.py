"""A perceptron learns AND, OR and NOT, and never XOR.

A perceptron is one line (one plane) with a step behind it: output 1 where w·x + b >= 0. Its rule
corrects the weights after every wrong answer, and where some line separates the zeros from the
ones it finds such a line after finitely many corrections. No line separates XOR: there the rule
goes round for ever through the same weights.

The lecture notes on the perceptron print the gates' weights w and thresholds T = −b, and the rule
w ← w − x (C − O), where C is the computed output and O the one to learn. The figures below show
that this sign is right, and what happens to a reader who takes O for the output instead.

    python examples/perceptron_gates.py [FOLDER]      the picture: FOLDER/perceptron_gates.png
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plot import folder, save
from manual import Perceptron
from manual.perceptron import Fit

PAIRS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {  # inputs, outputs to learn
    "AND": (PAIRS, np.array([0, 0, 0, 1])),
    "OR": (PAIRS, np.array([0, 1, 1, 1])),
    "NOT": (np.array([[0.0], [1.0]]), np.array([1, 0])),
    "XOR": (PAIRS, np.array([0, 1, 1, 0])),
}
NOTES = {"AND": ([1.0, 1.0], 1.5), "OR": ([1.0, 1.0], 0.5), "NOT": ([-1.0], -0.5)}  # w, T
MAX_CYCLES = 1000
LEARNT, PRINTED = "#d95f02", "#1b6ca8"


def learn(name: str) -> tuple[Perceptron, Fit]:
    """A perceptron that has visited the samples of the gate in order, from weights of 0."""
    x, y = GATES[name]
    perceptron = Perceptron(x.shape[1], dtype=np.float64)
    return perceptron, perceptron.fit(x, y, max_cycles=MAX_CYCLES)


def notes(name: str) -> Perceptron:
    weight, threshold = NOTES[name]
    return Perceptron(len(weight), weight=np.array(weight), bias=-threshold)


def one_more_cycle(perceptron: Perceptron, name: str) -> list[tuple[np.ndarray, float]]:
    """(w, b) after each sample of the next cycle."""
    x, y = GATES[name]
    after = []
    for i in range(len(x)):
        perceptron.fit(x[i : i + 1], y[i : i + 1], max_cycles=1)
        after.append((perceptron.weight, perceptron.bias))
    return after


def printed_rule(name: str, cycles: int, o_is_output: bool) -> tuple[np.ndarray, int]:
    """w ← w − x (C − O) as it is printed, with either reading of its letters; the last weight is
    the bias, whose input is 1. Returns the weights and how many were wrong in the last cycle."""
    w = np.zeros(GATES[name][0].shape[1] + 1)
    for _ in range(cycles):
        wrong = 0
        for inputs, desired in zip(*GATES[name], strict=True):
            x = np.append(inputs, 1.0)
            output = int(w @ x >= 0)
            wrong += output != desired
            c, o = (desired, output) if o_is_output else (output, desired)
            w = w - x * (c - o)
        if wrong == 0:
            break
    return w, wrong


def vector(w: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in w) + ")"


def print_gates(learnt: dict[str, tuple[Perceptron, Fit]]) -> None:
    print("From w = 0, b = 0 with rate 1; a gate is learnt when a cycle corrects nothing.")
    print("A sample on the line itself, w·x = T, counts as 1.")
    print()
    print("gate  learnt  cycles  corrections  w, T = -b      right  notes' w, T      right")
    for name, (perceptron, fit) in learnt.items():
        x, y = GATES[name]
        row = f"{name:<6}{'yes' if fit.converged else 'no':<8}{fit.cycles:<8}"
        row += f"{fit.corrections.sum():<13}"
        row += f"{vector(perceptron.weight) + f', {-perceptron.bias + 0:g}':<15}"
        row += f"{(perceptron.predict(x) == y).sum()}/{len(y)}    "
        if name in NOTES:
            row += f"{vector(NOTES[name][0]) + f', {NOTES[name][1]:g}':<17}"
            row += f"{(notes(name).predict(x) == y).sum()}/{len(y)}"
        print(row.rstrip())


def print_xor(fit: Fit, cycle: list[tuple[np.ndarray, float]]) -> None:
    print()
    print(f"XOR: corrections in the last ten cycles: {' '.join(map(str, fit.corrections[-10:]))}")
    print("The weights in the cycle after that, sample by sample:")
    print(f"  before  w = {vector(fit.weight[-1])}, b = {fit.bias[-1]:g}")
    for inputs, (weight, bias) in zip(PAIRS, cycle, strict=True):
        print(f"  {vector(inputs)}  w = {vector(weight)}, b = {bias:g}")
    same = np.array_equal(cycle[-1][0], fit.weight[-1]) and cycle[-1][1] == fit.bias[-1]
    print(f"They {'are back where they were: it never ends.' if same else 'have moved on.'}")


def print_sign() -> None:
    print()
    print("The printed rule w <- w - x (C - O) on AND, w = (w1, w2, b):")
    w, wrong = printed_rule("AND", MAX_CYCLES, o_is_output=False)
    print(f"  C computed, O to learn (the notes): {vector(w)}, wrong in the last cycle: {wrong}")
    print("  read the other way round, its sign is wrong and the weights run away:")
    for cycles in (1, 10, 100, 1000):
        w, wrong = printed_rule("AND", cycles, o_is_output=True)
        print(f"    cycle {cycles:>4}: {vector(w)}, wrong in it: {wrong}")


def draw_line(axes: Axes, perceptron: Perceptron, **style: object) -> None:
    """Where w·x + b = 0, in the window of the axes."""
    (w1, w2), b = perceptron.weight, perceptron.bias
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    if abs(w2) >= abs(w1):
        ends = np.array([left, right])
        axes.plot(ends, -(w1 * ends + b) / w2, **style)
    else:
        ends = np.array([low, high])
        axes.plot(-(w2 * ends + b) / w1, ends, **style)


def draw_plane(axes: Axes, name: str, low: float, high: float) -> None:
    """The window and the four samples."""
    x, y = GATES[name]
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="$x_1$", ylabel="$x_2$")
    axes.set(xticks=[0, 1], yticks=[0, 1], aspect="equal")
    for label, face in ((0, "white"), (1, "black")):
        own = x[y == label]
        axes.scatter(*own.T, s=90, c=face, edgecolors="black", zorder=3, clip_on=False)


def draw_gate(axes: Axes, name: str, perceptron: Perceptron, fit: Fit) -> None:
    draw_plane(axes, name, -0.6, 1.6)
    grid = np.linspace(-0.6, 1.6, 300)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    output = perceptron.predict(points).reshape(300, 300)
    axes.contourf(grid, grid, output, levels=[0.5, 1.5], colors=[LEARNT], alpha=0.15)
    draw_line(axes, perceptron, color=LEARNT, linewidth=2, label="learnt")
    draw_line(axes, notes(name), color=PRINTED, linewidth=2, linestyle="--", label="the notes'")
    axes.set_title(f"{name}: learnt in {fit.cycles} cycles", fontsize=11)


def draw_not(axes: Axes, perceptron: Perceptron, fit: Fit) -> None:
    """One input: the output as a step over it, which jumps at x = T / w."""
    (x, y), grid = GATES["NOT"], np.linspace(-0.6, 1.6, 2201)
    sides = ((perceptron, LEARNT, "-"), (notes("NOT"), PRINTED, "--"))
    for side, colour, style in sides:
        axes.plot(grid, side.predict(grid[:, None]), color=colour, linestyle=style, linewidth=2)
    axes.scatter(x[:, 0], y, s=90, c=["white" if v == 0 else "black" for v in y], zorder=3)
    axes.collections[-1].set_edgecolor("black")
    axes.set(xlim=(-0.6, 1.6), ylim=(-0.35, 1.35), xticks=[0, 1], yticks=[0, 1])
    axes.set(xlabel="$x_1$", ylabel="output")
    axes.set_title(f"NOT: learnt in {fit.cycles} cycles", fontsize=11)


def draw_xor(axes: Axes, cycle: list[tuple[np.ndarray, float]], fit: Fit) -> None:
    """The line after each of the four corrections that repeat."""
    draw_plane(axes, "XOR", -1.5, 1.7)
    for k, (weight, bias) in enumerate(cycle, 1):
        line = Perceptron(2, weight=weight, bias=bias)
        draw_line(axes, line, color=LEARNT, alpha=0.25 + 0.18 * k, linewidth=2)
        x, y = axes.lines[-1].get_data()
        axes.annotate(str(k), (x[1], y[1]), (-9, -9), textcoords="offset points", ha="right")
    axes.set_title(f"XOR: not in {fit.cycles} cycles (1 2 3 4 1 …)", fontsize=11)


def draw(learnt: dict[str, tuple[Perceptron, Fit]], cycle: list, path: Path) -> None:
    figure = Figure(figsize=(9, 8.4), dpi=120, layout="constrained")
    figure.suptitle("What one line can do: white is 0, black is 1", fontsize=12)
    panels = dict(zip(GATES, figure.subplots(2, 2).flat, strict=True))
    for name in ("AND", "OR"):
        draw_gate(panels[name], name, *learnt[name])
    panels["AND"].legend(frameon=False, loc="lower left")
    draw_not(panels["NOT"], *learnt["NOT"])
    draw_xor(panels["XOR"], cycle, learnt["XOR"][1])
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main(out: Path) -> None:
    learnt = {name: learn(name) for name in GATES}
    perceptron, fit = learnt["XOR"]
    print_gates(learnt)
    cycle = one_more_cycle(perceptron, "XOR")
    print_xor(fit, cycle)
    print_sign()
    path = out / "perceptron_gates.png"
    draw(learnt, cycle, path)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
