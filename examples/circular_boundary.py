"""A circle learnt by a straight line: logistic regression on squared features.

Logistic regression is a Linear layer of one output behind a sigmoid: its boundary, where the
output is ½, is Θ·features = 0. On the features (1, x1, x2) that is a straight line, and no line
divides the inside of a circle from the outside. On (1, x1, x2, x1², x2²) the same network learns
the circle. The lecture notes on neural networks give its parameters: Θ = (−1, 0, 0, 1, 1), which
says 1 where x1² + x2² ≥ 1.

The boundary is the same for Θ and for any positive multiple of it, so the learnt Θ is compared
after a division by −Θ0. Its size says how sharp the boundary is: where it makes no mistake, the
loss still falls as Θ grows, and training has no end.

    python examples/circular_boundary.py [FOLDER]      the picture: FOLDER/circular_boundary.png
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.plot import folder, save
from benchmarks.show import console
from compare.show import plain_table
from manual import nn, optim
from manual.training import Epoch, fit, predict

SEED = 0
STEPS = (20, 200, 2000)
NOTES = np.array([-1.0, 0.0, 0.0, 1.0, 1.0])
SIDE = np.sqrt(np.pi / 2)  # half of the square's: the circle has half of its area
COLOURS = ("#1b6ca8", "#d95f02")

Features = Callable[[np.ndarray], np.ndarray]


def plain(points: np.ndarray) -> np.ndarray:
    """(x1, x2); the 1 is the layer's bias."""
    return points


def squared(points: np.ndarray) -> np.ndarray:
    """(x1, x2, x1², x2²); the 1 is the layer's bias."""
    return np.concatenate([points, points**2], axis=1)


TITLES = {plain: "1, x1, x2", squared: "1, x1, x2, x1², x2²"}


class Points(NamedTuple):
    """x (n, 2), uniform in the square, and y (n, 1): 1 where x1² + x2² ≥ 1, else 0."""

    x: np.ndarray
    y: np.ndarray


class Learnt(NamedTuple):
    """thetas: {step: bias and weights after it}; losses: before each step, of the training points;
    accuracy: on the training and on the test points, at the end."""

    net: nn.Sequential
    thetas: dict[int, np.ndarray]
    losses: list[float]
    accuracy: tuple[float, float]


def sample(n: int, generator: np.random.Generator) -> Points:
    x = generator.uniform(-SIDE, SIDE, size=(n, 2))
    return Points(x, ((x**2).sum(axis=1, keepdims=True) >= 1).astype(np.float64))


def learn(
    features: Features, training: Points, test: Points, generator: np.random.Generator
) -> Learnt:
    """Gradient descent on all the training points at once, from a random Θ."""
    x, thetas = features(training.x), {}
    net = nn.Sequential(
        nn.Linear(x.shape[1], 1, dtype=np.float64, generator=generator), nn.Sigmoid()
    )

    def keep(epoch: Epoch) -> None:
        if epoch.epoch in STEPS:
            thetas[epoch.epoch] = np.append(net[0].bias.data, net[0].weight.data)

    history = fit(
        net,
        nn.BCELoss(),
        optim.SGD(net.parameters(), lr=1, momentum=0.9),
        x,
        training.y,
        epochs=STEPS[-1],
        batch_size=None,
        generator=generator,
        callback=keep,
    )
    accuracy = tuple(
        float(((predict(net, features(part.x)) >= 0.5) == part.y).mean())
        for part in (training, test)
    )
    return Learnt(net, thetas, [epoch.loss for epoch in history.epochs], accuracy)


def best_line(points: Points) -> float:
    """The largest share of the points that a straight line gets right: tried are 360 directions,
    and in each every place between two points."""
    n, best = len(points.y), 0.0
    for angle in np.radians(np.arange(360)):
        along = np.argsort(points.x @ (np.cos(angle), np.sin(angle)))
        ones = np.append(0, np.cumsum(points.y[along, 0]))  # among the first 0, 1, …, n points
        right = (np.arange(n + 1) - ones) + (ones[-1] - ones)  # 0 for those, 1 for the others
        best = max(best, right.max() / n)
    return float(best)


def draw(axes: Axes, features: Features, learnt: Learnt, points: Points) -> None:
    """The points, the true circle and the learnt boundary; behind them what is predicted."""
    ticks = np.linspace(-SIDE, SIDE, 201)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    p = predict(learnt.net, features(grid)).reshape(len(ticks), -1)
    axes.contourf(ticks, ticks, p, levels=[0, 0.5, 1], colors=COLOURS, alpha=0.12)
    for label, marker in ((0, "o"), (1, "^")):
        x1, x2 = points.x[points.y[:, 0] == label].T
        axes.scatter(x1, x2, s=14, c=COLOURS[label], marker=marker, linewidths=0)
    turn = np.linspace(0, 2 * np.pi, 361)
    axes.plot(np.cos(turn), np.sin(turn), c="black", lw=5, alpha=0.25)
    axes.contour(ticks, ticks, p, levels=[0.5], colors="black", linewidths=1.5, linestyles="--")
    axes.set(xlabel="x1", ylabel="x2", aspect="equal", xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
    axes.spines[["top", "right"]].set_visible(False)
    right = f"{learnt.accuracy[1]:.1%} of the test points right"
    axes.set_title(f"{TITLES[features]}: {right}", fontsize=11)


def picture(points: Points, both: dict[Features, Learnt]) -> Figure:
    figure = Figure(figsize=(10, 5.4), dpi=150, layout="constrained")
    for axes, (features, learnt) in zip(figure.subplots(1, 2), both.items(), strict=True):
        draw(axes, features, learnt, points)
    handles = [
        Line2D([], [], ls="", marker="o", c=COLOURS[0], label="0: inside"),
        Line2D([], [], ls="", marker="^", c=COLOURS[1], label="1: outside"),
        Line2D([], [], c="black", lw=5, alpha=0.25, label="x1² + x2² = 1"),
        Line2D([], [], c="black", lw=1.5, ls="--", label="learnt boundary"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def main(out: Path) -> None:
    generator = np.random.default_rng(SEED)
    training, test = sample(400, generator), sample(2000, generator)
    print(f"{len(training.x)} training and {len(test.x)} test points, seed {SEED};", end=" ")
    print(f"{test.y.mean():.2%} of the test points are outside\n")

    both = {features: learn(features, training, test, generator) for features in (plain, squared)}
    table = plain_table(f"points right after {STEPS[-1]} steps")
    for column in ("features", "loss", "training", "test"):
        table.add_column(column, justify="left" if column == "features" else "right")
    for features, learnt in both.items():
        shares = (f"{share:.2%}" for share in learnt.accuracy)
        table.add_row(TITLES[features], f"{learnt.losses[-1]:.4f}", *shares)
    table.add_row("the best of all lines", "", *(f"{best_line(p):.2%}" for p in (training, test)))
    console.print(table)

    table = plain_table("Θ / −Θ0 on the squared features")
    for column in ("", "1", "x1", "x2", "x1²", "x2²", "−Θ0", "loss"):
        table.add_column(column, justify="right" if column else "left")
    learnt = both[squared]
    for step, theta in learnt.thetas.items():
        values = (f"{value:.3f}" for value in theta / -theta[0])
        loss = f"{learnt.losses[step - 1]:.4f}"
        table.add_row(f"step {step}", *values, f"{-theta[0]:.1f}", loss)
    table.add_row("lecture notes", *(f"{value:.3f}" for value in NOTES), f"{-NOTES[0]:.1f}", "")
    console.print(table)

    path = out / "circular_boundary.png"
    save(picture(training, both), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
