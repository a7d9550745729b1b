"""Paths: the derivative of a deep weight is a sum over every path from that weight to an output.

A path runs from the neuron that the weight feeds to an output, along one weight a layer. What it
adds is a product: the number that enters by the weight, the slope of every activation on the
path, every weight on it, and the slope of the loss at its end. Backprop adds up the same
products but shares their common factors, so that its cost grows with the number of weights and
not with the number of paths.

Two sigmoid networks show it: 4-3-2-1 without biases (20 weights) and 2-3-2-2 with biases (23).
Every path of every weight is enumerated, and the sums are compared with the backward written by
hand and with torch's autograd. For the second network the lecture notes on neural networks print
some derivatives as formulas: each is evaluated as printed, and again with its faults mended.

    python examples/paths.py [FOLDER]      the picture: FOLDER/paths.png
"""

from collections.abc import Callable, Collection
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.plot import folder, save
from benchmarks.show import console
from compare.show import plain_table
from manual import init, nn
from torch_ref import twin

SEED = 2


class Problem(NamedTuple):
    """A network of Linear and Sigmoid layers, one observation, and a loss: Σ (y − ŷ)² or half."""

    net: nn.Sequential
    x: tuple[float, ...]
    y: tuple[float, ...]
    criterion: nn.HalfSquaredError | nn.SumSquaredError


class Weight(NamedTuple):
    """w_mn of a layer (from 1): it leads from neuron m of the layer before to neuron n. m = 0 is
    the bias. All of them count from 1."""

    layer: int
    m: int
    n: int

    def __str__(self) -> str:
        return f"w{self.m}{self.n}{'⁰¹²³'[self.layer]}"

    def of(self, gradients: dict[str, np.ndarray]) -> float:
        """This weight's entry among the gradients of a network."""
        linear = 2 * (self.layer - 1)
        if self.m == 0:
            return float(gradients[f"{linear}.bias"][self.n - 1])
        return float(gradients[f"{linear}.weight"][self.n - 1, self.m - 1])


class Step(NamedTuple):
    """A forward: a[l] are the activations of layer l (a[0] is x), w[l] (out, in) its weights (w[0]
    is empty), slope[l] = σ'(z^l), and dloss = ∂L/∂a^L."""

    a: list[np.ndarray]
    w: list[np.ndarray]
    slope: list[np.ndarray]
    dloss: np.ndarray


class Route(NamedTuple):
    """A path: the neurons on it, from the one that the weight feeds, and what it adds to ∂L/∂w."""

    neurons: tuple[int, ...]
    share: float


def network(*widths: int, bias: bool, seed: int = SEED) -> nn.Sequential:
    """Sigmoid layers with every parameter uniform in [−2, 2)."""
    generator = np.random.default_rng(seed)
    layers = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias, dtype=np.float64), nn.Sigmoid()]
    net = nn.Sequential(*layers)
    for p in net.parameters():
        init.uniform_(p, -2, 2, generator=generator)
    return net


def training_notes(seed: int = SEED) -> Problem:
    """The 4-3-2-1 network of the notes on training an MLP; L = Σ (y − ŷ)²."""
    net = network(4, 3, 2, 1, bias=False, seed=seed)
    return Problem(net, (1.0, -0.5, 2.0, 0.25), (0.8,), nn.SumSquaredError())


def lecture_notes(seed: int = SEED) -> Problem:
    """The 2-3-2-2 network of the lecture notes on neural networks; E = ½ ‖y − a³‖²."""
    net = network(2, 3, 2, 2, bias=True, seed=seed)
    return Problem(net, (0.7, -1.5), (0.9, 0.2), nn.HalfSquaredError())


def weights(net: nn.Sequential) -> list[Weight]:
    """All of them, layer by layer."""
    listed = []
    for layer, linear in enumerate(net[::2], 1):
        ins = range(1 if linear.bias is None else 0, linear.in_features + 1)
        listed += [Weight(layer, m, n) for n in range(1, linear.out_features + 1) for m in ins]
    return listed


def forward(problem: Problem) -> Step:
    a, w, slope = [np.array(problem.x)], [np.empty((0, 0))], [np.empty(0)]
    for linear, sigmoid in zip(problem.net[::2], problem.net[1::2], strict=True):
        a.append(sigmoid(linear(a[-1][None]))[0])
        w.append(linear.weight.data)
        slope.append(a[-1] * (1 - a[-1]))
    factor = 1 if isinstance(problem.criterion, nn.HalfSquaredError) else 2
    return Step(a, w, slope, -factor * (np.array(problem.y) - a[-1]))


def routes(weight: Weight, step: Step) -> list[Route]:
    """Every path from the weight to an output, and what it adds to ∂L/∂w: for the path through
    the neurons n, p, …, q of the layers l, l+1, …, L

        a_m^(l−1) · σ'(z_n^l) · w_np^(l+1) σ'(z_p^(l+1)) · … · ∂L/∂a_q^L        (a_0 = 1)
    """
    later = range(weight.layer + 1, len(step.a))
    entering = step.a[weight.layer - 1][weight.m - 1] if weight.m else 1.0
    found = []
    for tail in product(*(range(1, len(step.a[layer]) + 1) for layer in later)):
        neurons = (weight.n, *tail)
        factors = [entering, step.slope[weight.layer][weight.n - 1]]
        for layer, (start, end) in zip(later, pairwise(neurons), strict=True):
            factors += [step.w[layer][end - 1, start - 1], step.slope[layer][end - 1]]
        found.append(Route(neurons, float(prod(factors) * step.dloss[neurons[-1] - 1])))
    return found


def by_hand(problem: Problem) -> dict[str, np.ndarray]:
    problem.criterion(problem.net(np.array([problem.x])), np.array([problem.y]))
    problem.net.backward(problem.criterion.backward())
    return {name: p.grad for name, p in problem.net.named_parameters()}


def by_torch(problem: Problem) -> dict[str, np.ndarray]:
    net, x, y = twin(problem.net), *(torch.tensor([v], dtype=torch.float64) for v in problem[1:3])
    twin(problem.criterion)(net(x), y).backward()
    return {name: p.grad.numpy() for name, p in net.named_parameters()}


FAULTS = {
    "2": "the factor 2 of ‖y − a³‖², but E is ½ ‖y − a³‖²",
    "y1": "y1 in the path to the second output, where y2 belongs",
    "∂σ/∂w": "∂σ¹/∂w12¹ for ∂σ¹/∂z2¹: the factor x1 comes twice",
    "sign": "the minus sign of −(y − v) is lost",
}


class Formula(NamedTuple):
    """A derivative as the lecture notes print it. value(faults) evaluates it with these faults
    of its own: value(faults) as printed, value(()) mended."""

    name: str
    weight: Weight
    faults: tuple[str, ...]
    value: Callable[[Collection[str]], float]


def printed_formulas(step: Step, y: tuple[float, ...]) -> list[Formula]:
    """The five formulas of the 2-3-2-2 network, then the two of a network with one hidden layer
    (inputs x_k, hidden o_j = σ(Σ x_k w_kj), outputs v_i = σ(Σ o_j u_ji)), which is what the
    layers 2 and 3 of this one are."""
    (x1, _), (_, a21, a31), (a12, a22), (a13, a23) = step.a
    (w113, w213), (w123, w223) = step.w[3]  # w113 is w_11^(3): from neuron 1 to neuron 1
    (_, w212, _), (_, w222, _) = step.w[2]
    y1, y2 = y

    def ends(faults: Collection[str]) -> tuple[float, float]:
        """−2 (y1 − a1³) a1³ (1 − a1³), and the same of the second output."""
        two, second = 2 if "2" in faults else 1, y1 if "y1" in faults else y2
        return -two * (y1 - a13) * a13 * (1 - a13), -two * (second - a23) * a23 * (1 - a23)

    def w01_3(faults: Collection[str]) -> float:
        return ends(faults)[0]

    def w21_3(faults: Collection[str]) -> float:
        return ends(faults)[0] * a22

    def w31_2(faults: Collection[str]) -> float:
        first, second = ends(faults)
        return first * w113 * a12 * (1 - a12) * a31 + second * w123 * a12 * (1 - a12) * a31

    def w01_2(faults: Collection[str]) -> float:
        first, second = ends(faults)
        return first * w113 * a12 * (1 - a12) + second * w123 * a12 * (1 - a12)

    def w12_1(faults: Collection[str]) -> float:
        first, second = ends(faults)
        slope = a21 * (1 - a21) * (x1 if "∂σ/∂w" in faults else 1)
        dz1, dz2 = w212 * slope * x1, w222 * slope * x1
        s1, s2 = a12 * (1 - a12), a22 * (1 - a22)
        return first * (w113 * s1 * dz1 + w213 * s2 * dz2) + second * (
            w123 * s1 * dz1 + w223 * s2 * dz2
        )

    def u_ji(faults: Collection[str]) -> float:
        sign = 1 if "sign" in faults else -1
        return sign * (y1 - a13) * a13 * (1 - a13) * a22

    def w_kj(faults: Collection[str]) -> float:
        sign = 1 if "sign" in faults else -1
        outputs = ((y1, a13, w113), (y2, a23, w123))
        return sum(
            sign * (y - v) * (v * (1 - v) * u) * (a12 * (1 - a12) * a31) for y, v, u in outputs
        )

    return [
        Formula("w01³", Weight(3, 0, 1), ("2",), w01_3),
        Formula("w21³", Weight(3, 2, 1), ("2",), w21_3),
        Formula("w31²", Weight(2, 3, 1), ("2", "y1"), w31_2),
        Formula("w01²", Weight(2, 0, 1), ("2", "y1"), w01_2),
        Formula("w12¹", Weight(1, 1, 2), ("2", "y1", "∂σ/∂w"), w12_1),
        Formula("u, as w21³", Weight(3, 2, 1), ("sign",), u_ji),
        Formula("w, as w31²", Weight(2, 3, 1), ("sign",), w_kj),
    ]


COLOURS = {True: "#d95f02", False: "#1b6ca8"}  # of a path that adds, or that takes away


def signed(value: float) -> str:
    return f"{value:+.5f}".replace("-", "−")


def draw(axes: Axes, problem: Problem, weight: Weight) -> None:
    """The network in grey, the paths of the weight over it: the wider, the more it adds."""
    step = forward(problem)

    def at(layer: int, neuron: int) -> tuple[float, float]:
        return layer, (len(step.a[layer]) + 1) / 2 - neuron

    for layer in range(1, len(step.a)):
        for end, start in np.ndindex(step.w[layer].shape):
            axes.plot(
                *zip(at(layer - 1, start + 1), at(layer, end + 1), strict=True), c="0.85", lw=1
            )
    found = routes(weight, step)
    largest, gap = max(abs(route.share) for route in found), 0.055
    handles = []
    for k, route in enumerate(found):
        neurons = ((weight.layer - 1, weight.m), *enumerate(route.neurons, weight.layer))
        xs, ys = np.array([at(*neuron) for neuron in neurons]).T
        colour, width = COLOURS[route.share > 0], 0.8 + 5 * abs(route.share) / largest
        shift = (k - (len(found) - 1) / 2) * gap
        axes.plot(xs, ys + shift, c=colour, lw=width, alpha=0.75, solid_joinstyle="round", zorder=2)
        name = " → ".join(str(neuron) for _, neuron in neurons)
        handles.append(Line2D([], [], c=colour, lw=width, label=f"{name}:  {signed(route.share)}"))
    for layer, a in enumerate(step.a):
        for neuron in range(1, len(a) + 1):
            axes.scatter(*at(layer, neuron), s=520, c="white", edgecolors="black", zorder=3)
            axes.text(*at(layer, neuron), str(neuron), ha="center", va="center", zorder=4)
    total = sum(route.share for route in found)
    widths = "-".join(str(len(a)) for a in step.a)
    loss = "E" if isinstance(problem.criterion, nn.HalfSquaredError) else "L"
    title = f"{widths}: ∂{loss}/∂{weight} = {signed(total)}, the sum over {len(found)} paths"
    axes.set_title(title, fontsize=11)
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), frameon=False)
    axes.margins(0.1)
    axes.set_axis_off()


def picture(drawn: list[tuple[Problem, Weight]]) -> Figure:
    figure = Figure(figsize=(10, 5.2), dpi=150, layout="constrained")
    for axes, (problem, weight) in zip(figure.subplots(1, len(drawn)), drawn, strict=True):
        draw(axes, problem, weight)
    return figure


def main(out: Path) -> None:
    training, lecture = training_notes(), lecture_notes()
    step, hand, autograd = forward(training), by_hand(training), by_torch(training)
    table = plain_table(f"the 4-3-2-1 network, every weight (seed {SEED})")
    for column in ("weight", "paths", "Σ over paths", "by hand", "off", "torch off"):
        table.add_column(column, justify="left" if column == "weight" else "right", no_wrap=True)
    for weight in weights(training.net):
        shares = [route.share for route in routes(weight, step)]
        total, mine = sum(shares), weight.of(hand)
        off, torch_off = mine - total, weight.of(autograd) - total
        figures = (f"{total:.9f}", f"{mine:.9f}", f"{abs(off):.0e}", f"{abs(torch_off):.0e}")
        table.add_row(str(weight), str(len(shares)), *figures)
    console.print(table)

    step, hand, autograd = forward(lecture), by_hand(lecture), by_torch(lecture)
    listed = weights(lecture.net)
    found = [[route.share for route in routes(weight, step)] for weight in listed]
    pairs = list(zip(listed, found, strict=True))
    off = [max(abs(w.of(g) - sum(shares)) for w, shares in pairs) for g in (hand, autograd)]
    print(f"the 2-3-2-2 network: {len(listed)} weights, {sum(map(len, found))} paths; the sums are")
    print(f"at most {off[0]:.0e} off the gradients by hand, {off[1]:.0e} off torch's\n")

    table = plain_table("the lecture notes' formulas as printed and mended, E = ½ ‖y − a³‖²")
    for column in ("∂E/∂", "printed", "mended", "by hand", "printed is", "no ½", "faults"):
        table.add_column(column, justify="left" if column in ("∂E/∂", "faults") else "right")
    right_for = {1: [], 2: []}
    for formula in printed_formulas(step, lecture.y):
        printed, mended = formula.value(formula.faults), formula.value(())
        right = formula.weight.of(hand)
        for factor, names in right_for.items():
            if np.isclose(printed, factor * right, rtol=1e-12, atol=0):
                names.append(formula.name)
        ratios = (f"{printed / right:.3f} ×", f"{printed / (2 * right):.3f} ×")
        values = (f"{value:.6f}" for value in (printed, mended, right))
        table.add_row(formula.name, *values, *ratios, ", ".join(formula.faults))
    console.print(table)
    for fault, meaning in FAULTS.items():
        print(f"  {fault:6} {meaning}")
    print(f"right as printed for E = ½ ‖y − a³‖²: {', '.join(right_for[1]) or 'none'}")
    print(f"right as printed for E = ‖y − a³‖², without the ½: {', '.join(right_for[2])}\n")

    drawn = [(training, Weight(1, 1, 1)), (lecture, Weight(1, 1, 2))]
    path = out / "paths.png"
    save(picture(drawn), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
