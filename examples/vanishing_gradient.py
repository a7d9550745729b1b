"""Vanishing gradients: ten sigmoid layers, and what each of five remedies does to them.

Going back through a layer multiplies a gradient by its weights and by the slope of its
activation. The slope of the sigmoid is at most ¼, so with ordinary weights each layer leaves less
than a quarter of the gradient, and the first of ten layers does not learn. The lecture notes on
neural networks name five remedies. Measured here, for each: the norm of ∂L/∂W in every layer at
the start, the ratio of the first layer's to the last one's, and the loss after some training.

Two of the remedies do not do what the notes say. Weights of small variance make the gradients
vanish the faster: behind a sigmoid they have to be larger, about 1/σ'(0) = 4 times Glorot's. And
clipping to a (min, max) range lifts no gradient that vanishes, for it is inside the range already.
What it does is to bound gradients that explode, as in the networks with large weights here.

    python examples/vanishing_gradient.py [FOLDER]      the picture: FOLDER/vanishing_gradient.png
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.plot import folder, save
from benchmarks.show import console
from compare.show import plain_table
from manual import init, nn, optim
from manual.training import fit
from torch_ref import twin

SEEDS = range(3)  # one for each draw of the weights
LAYERS, WIDTH, SAMPLES = 10, 32, 64
LR, STEPS, CLIP = 0.01, 200, 1


class Recipe(NamedTuple):
    """How the ten layers are made. initialise(weight, generator=…) draws the weights (with biases
    of 0); None leaves what Linear draws, as torch: uniform in ±1/√32."""

    name: str
    activation: type[nn.Module] = nn.Sigmoid
    initialise: Callable | None = None
    normalised: bool = False
    residual: bool = False
    clipped: bool = False


VANISHING = [
    Recipe("sigmoid"),
    Recipe("1 N(0, 0.01²)", initialise=partial(init.normal_, std=0.01)),
    Recipe("1 Glorot", initialise=init.xavier_normal_),
    Recipe("1 Glorot, 4 times", initialise=partial(init.xavier_normal_, gain=4)),
    Recipe("2 ReLU", nn.ReLU),
    Recipe("2 ReLU, He", nn.ReLU, partial(init.kaiming_normal_, nonlinearity="relu")),
    Recipe("3 batch normalisation", normalised=True),
    Recipe(f"4 clipped to ±{CLIP}", clipped=True),
    Recipe("5 residual", residual=True),
]
EXPLODING = [
    Recipe("tanh, N(0, 1)", nn.Tanh, partial(init.normal_, std=1)),
    Recipe(f"tanh, clipped to ±{CLIP}", nn.Tanh, partial(init.normal_, std=1), clipped=True),
    Recipe("ReLU, N(0, 0.5²)", nn.ReLU, partial(init.normal_, std=0.5)),  # twice He's
    Recipe(f"ReLU, clipped to ±{CLIP}", nn.ReLU, partial(init.normal_, std=0.5), clipped=True),
]


class Measured(NamedTuple):
    """norms: (seeds, layers), ‖∂L/∂W‖ at the start. losses: (seeds,), after the training, NaN
    where that came to an end with a loss that was no number. off: the largest relative difference
    of a norm to torch's."""

    norms: np.ndarray
    losses: np.ndarray
    off: float

    @property
    def typical(self) -> np.ndarray:
        """The geometric mean over the seeds, by layer."""
        return np.exp(np.log(self.norms).mean(axis=0))


def data(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = generator.normal(size=(SAMPLES, WIDTH))
    return x, np.sin(x[:, :1] + x[:, 1:2])


def network(recipe: Recipe, generator: np.random.Generator) -> nn.Sequential:
    """The ten layers, and a Linear behind them that gives one number."""
    layers = []
    for _ in range(LAYERS):
        linear = nn.Linear(WIDTH, WIDTH, dtype=np.float64, generator=generator)
        if recipe.initialise is not None:
            recipe.initialise(linear.weight, generator=generator)
            linear.bias.data = np.zeros(WIDTH)
        norm = [nn.BatchNorm1d(WIDTH, dtype=np.float64)] if recipe.normalised else []
        layer = nn.Sequential(linear, *norm, recipe.activation())
        layers.append(nn.Residual(layer) if recipe.residual else layer)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1, dtype=np.float64, generator=generator))


def gradient_norms(net: nn.Sequential, x: np.ndarray, y: np.ndarray, clipped: bool) -> np.ndarray:
    """‖∂L/∂W‖ of the ten layers, first layer first."""
    criterion = nn.MSELoss()
    criterion(net(x), y)
    net.backward(criterion.backward())
    if clipped:
        optim.clip_grad_value_(net.parameters(), CLIP)
    weights = [p for p in net.parameters() if p.ndim == 2]
    return np.array([np.linalg.norm(p.grad) for p in weights[:LAYERS]])


def torch_norms(net: nn.Sequential, x: np.ndarray, y: np.ndarray, clipped: bool) -> np.ndarray:
    theirs = twin(net)
    torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    if clipped:
        torch.nn.utils.clip_grad_value_(theirs.parameters(), CLIP)
    weights = [p for p in theirs.parameters() if p.ndim == 2]
    return np.array([p.grad.norm().item() for p in weights[:LAYERS]])


def measure(recipe: Recipe) -> Measured:
    norms, losses, off = [], [], 0.0
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        x, y = data(generator)
        net = network(recipe, generator)
        own, theirs = (f(net, x, y, recipe.clipped) for f in (gradient_norms, torch_norms))
        norms.append(own)
        off = max(off, float(np.abs(own / theirs - 1).max()))
        losses.append(trained(net, x, y, recipe.clipped))
    return Measured(np.array(norms), np.array(losses), off)


def trained(net: nn.Sequential, x: np.ndarray, y: np.ndarray, clipped: bool) -> float:
    """The loss after gradient descent on all the data; NaN where it diverged."""
    try:
        history = fit(
            net,
            nn.MSELoss(),
            optim.SGD(net.parameters(), lr=LR),
            x,
            y,
            epochs=STEPS,
            batch_size=None,
            generator=np.random.default_rng(0),
            clip=partial(optim.clip_grad_value_, clip_value=CLIP) if clipped else None,
        )
    except FloatingPointError:
        return float("nan")
    return history.epochs[-1].loss


def picture(vanishing: dict[str, Measured], exploding: dict[str, Measured]) -> Figure:
    """‖∂L/∂W‖ by layer: the geometric mean of the draws, and from the least to the largest."""
    figure = Figure(figsize=(10, 6), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=[1.6, 1])
    colours = ["#000000", "#a6cee3", "#5b9bd0", "#1b4f8a", "#f2b07b", "#d95f02", "#1b9e77"]
    colours += ["#e7298a", "#7b3fa0"]
    titles = ("ten sigmoid layers, and the remedies", "exploding, and clipped")
    layers = np.arange(1, LAYERS + 1)
    for axes, measured, title in zip(panels, (vanishing, exploding), titles, strict=True):
        for k, (name, own) in enumerate(measured.items()):
            clipped = "±" in name
            colour = colours[k] if measured is vanishing else ("#1b6ca8", "#d95f02")[k // 2]
            style = {"ls": "--" if clipped else "-", "lw": 2, "marker": "o", "ms": 4}
            axes.plot(layers, own.typical, c=colour, label=name, **style)
            ends = own.norms.min(axis=0), own.norms.max(axis=0)
            axes.fill_between(layers, *ends, color=colour, alpha=0.1, linewidth=0)
        axes.set(yscale="log", xlabel="layer", ylabel="‖∂L/∂W‖", title=title, xticks=layers)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    return figure


def main(out: Path) -> None:
    threadpool_limits(1)  # in networks this small, threads only wait for one another
    vanishing, exploding = ({r.name: measure(r) for r in group} for group in (VANISHING, EXPLODING))
    variance = np.median([data(np.random.default_rng(seed))[1].var() for seed in SEEDS])
    print(f"{LAYERS} layers of {WIDTH}, {SAMPLES} samples, seeds {SEEDS[0]} to {SEEDS[-1]}")
    print("‖∂W¹‖, ‖∂W¹⁰‖: the norm of ∂L/∂W at the start, geometric mean over the seeds")
    print(f"a layer: (first/last) to the power 1/{LAYERS - 1}")
    print(f"loss: after {STEPS} steps at rate {LR}, median over the seeds;")
    print(f"      always to predict the mean has a loss of {variance:.3f}\n")
    for group, title in ((vanishing, "vanishing, and the remedies"), (exploding, "exploding")):
        table = plain_table(title)
        table.add_column("network", no_wrap=True, min_width=22)
        for column in ("‖∂W¹‖", "‖∂W¹⁰‖", "first/last", "a layer", "loss"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, own in group.items():
            first, last = own.typical[[0, -1]]
            a_layer = (first / last) ** (1 / (LAYERS - 1))
            failed = int(np.isnan(own.losses).sum())
            loss = f"{failed} diverged" if failed else f"{np.median(own.losses):.3f}"
            figures = (f"{value:.1e}" for value in (first, last, first / last))
            table.add_row(name, *figures, f"{a_layer:.3f}", loss)
        console.print(table)
    off = max(own.off for group in (vanishing, exploding) for own in group.values())
    print(f"the norms are at most {off:.0e} off torch's, relatively")

    path = out / "vanishing_gradient.png"
    save(picture(vanishing, exploding), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
