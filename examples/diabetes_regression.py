"""Regression on real data: how much of the progress of diabetes ten measurements foretell.

442 patients, ten measurements each (age, sex, body mass index, blood pressure, six blood serum
figures), and how far the illness has gone a year later. A quarter of the patients are set aside
for the test. The figure is R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² on them: 1 is perfect, 0 is what the
mean alone reaches.

One small network is trained twice on the same batches, with early stopping: by the backward
written by hand and by torch's autograd, and both reach the same R² to many digits. Beside them
stand scikit-learn's MLPRegressor, of the same shape and with the same solver, and plain linear
regression. All is done for several splits, for one split is luck: R² moves more from split to
split than from model to model, and so few patients do not show that a network beats a line.

    python examples/diabetes_regression.py [FOLDER]      the picture: FOLDER/diabetes_regression.png
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

import torch_ref
from benchmarks.plot import COLOURS, folder, save
from benchmarks.show import console
from compare.show import plain_table
from manual import nn, optim, training
from manual.training import History
from torch_ref.twin import twins

SEEDS = range(10)  # one for each split
TEST, VALIDATION = 0.25, 0.15  # of all, and of the rest
HIDDEN, LR, BATCH, EPOCHS, PATIENCE = 32, 0.003, 32, 500, 10
MODELS = ("linear regression", "MLPRegressor", "manual", "torch")


class Part(NamedTuple):
    """x (n, 10) and y (n, 1), standardised."""

    x: np.ndarray
    y: np.ndarray


class Split(NamedTuple):
    """training is all but the test; the networks learn from `learning` and stop by `validation`.
    scale: mean and standard deviation of y in training."""

    training: Part
    learning: Part
    validation: Part
    test: Part
    scale: tuple[float, float]


class Run(NamedTuple):
    """The predictions for the test patients by model, standardised, and how both nets learnt."""

    split: Split
    predictions: dict[str, np.ndarray]
    histories: dict[str, History]


def split_data(seed: int) -> Split:
    """A quarter for the test; x and y shifted and scaled by the other patients' figures."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(seed).permutation(len(x))
    n_test = round(TEST * len(x))
    test, rest = order[:n_test], order[n_test:]
    values = np.column_stack([x, y])
    mean, std = values[rest].mean(axis=0), values[rest].std(axis=0)
    values = (values - mean) / std
    validation, learning = np.split(rest, [round(VALIDATION * len(rest))])
    parts = (Part(values[i, :-1], values[i, -1:]) for i in (rest, learning, validation, test))
    return Split(*parts, scale=(float(mean[-1]), float(std[-1])))


def run(seed: int) -> Run:
    """All four models on one split."""
    split = split_data(seed)
    net, histories, predictions = network(seed), {}, {}
    criterion, optimizer = nn.MSELoss(), optim.Adam(net.parameters(), lr=LR)
    theirs = twins(net, criterion, optimizer)
    sides = {
        "manual": (training, (net, criterion, optimizer)),
        "torch": (torch_ref.training, theirs),
    }
    for side, (module, pair) in sides.items():
        histories[side] = module.fit(
            *pair,
            *split.learning,
            epochs=EPOCHS,
            batch_size=BATCH,
            generator=np.random.default_rng(seed),  # the same batches for both
            validation=split.validation,
            patience=PATIENCE,
        )
        predictions[side] = module.predict(pair[0], split.test.x)
    mlp = MLPRegressor(
        hidden_layer_sizes=(HIDDEN,),
        learning_rate_init=LR,
        batch_size=BATCH,
        max_iter=EPOCHS,
        alpha=0,
        early_stopping=True,
        validation_fraction=VALIDATION,
        n_iter_no_change=PATIENCE,
        random_state=seed,
    )
    for name, model in (("linear regression", LinearRegression()), ("MLPRegressor", mlp)):
        model.fit(split.training.x, split.training.y[:, 0])
        predictions[name] = model.predict(split.test.x)[:, None]
    return Run(split, {name: predictions[name] for name in MODELS}, histories)


def network(seed: int) -> nn.Sequential:
    generator = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(10, HIDDEN, dtype=np.float64, generator=generator),
        nn.ReLU(),
        nn.Linear(HIDDEN, 1, dtype=np.float64, generator=generator),
    )


def r_squared(y: np.ndarray, prediction: np.ndarray) -> float:
    """1 − Σ (y − ŷ)² / Σ (y − ȳ)². Raises ValueError where the shapes differ."""
    if y.shape != prediction.shape:
        raise ValueError(f"r_squared: expected shape {y.shape}, got {prediction.shape}")
    return float(1 - ((y - prediction) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def picture(seed: int, run: Run) -> Figure:
    """One split: the losses of both nets by epoch, and what is predicted against what came."""
    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    loss, scatter = figure.subplots(1, 2, width_ratios=[1.25, 1])
    # Where the curves coincide both must show: a wide line under a narrow, dashed one.
    styles = {"torch": {"lw": 5, "alpha": 0.4}, "manual": {"lw": 1.5, "ls": "--"}}
    for side, style in styles.items():
        history = run.histories[side]
        numbers = [epoch.epoch for epoch in history.epochs]
        for what, marker in (("loss", "o"), ("validation_loss", "s")):
            name = "training" if what == "loss" else "validation"
            values = [getattr(epoch, what) for epoch in history.epochs]
            own = {"c": COLOURS[side], "marker": marker, "ms": 3, "label": f"{side}, {name}"}
            loss.plot(numbers, values, **own, **style, mfc="white" if marker == "s" else None)
    loss.axvline(run.histories["manual"].best, c="black", lw=0.8, ls=":", label="best, restored")
    loss.set(xlabel="epoch", ylabel="mean squared error, standardised", title=f"split {seed}")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False)

    mean, std = run.split.scale
    true = run.split.test.y[:, 0] * std + mean
    marks = {
        "torch": {"c": COLOURS["torch"], "s": 50, "alpha": 0.4},
        "MLPRegressor": {"c": "#777777", "s": 18, "marker": "x", "linewidths": 0.9},
        "manual": {"c": COLOURS["manual"], "s": 10},
    }
    for model, style in marks.items():
        label = f"{model}, R² {r_squared(run.split.test.y, run.predictions[model]):.3f}"
        scatter.scatter(true, run.predictions[model][:, 0] * std + mean, label=label, **style)
    ends = (true.min(), true.max())
    scatter.plot(ends, ends, c="black", lw=0.8)
    scatter.set(xlabel="true", ylabel="predicted", title="progress of the test patients")
    scatter.legend(frameon=False, loc="upper left", fontsize=9)
    for axes in (loss, scatter):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    return figure


def main(out: Path) -> None:
    threadpool_limits(1)  # in networks this small, threads only wait for one another
    runs = {seed: run(seed) for seed in SEEDS}
    figures = np.array(
        [[r_squared(r.split.test.y, r.predictions[m]) for m in MODELS] for r in runs.values()]
    )
    split = runs[SEEDS[0]].split
    sizes = (len(part.x) for part in (split.learning, split.validation, split.test))
    print("{} patients to learn from, {} for early stopping, {} for the test".format(*sizes))
    print(f"10-{HIDDEN}-1 ReLU networks, Adam, learning rate {LR}, batches of {BATCH}\n")

    table = plain_table("R² on the test patients, seed by seed")
    for column in ("seed", *MODELS, "best epoch"):
        table.add_column(column, justify="right")
    for (seed, own), row in zip(runs.items(), figures, strict=True):
        best = str(own.histories["manual"].best)
        table.add_row(str(seed), *(f"{value:.4f}" for value in row), best)
    table.add_section()
    for name, values in (("mean", figures.mean(axis=0)), ("std", figures.std(axis=0, ddof=1))):
        table.add_row(name, *(f"{value:.4f}" for value in values), "")
    console.print(table)

    of = dict(zip(MODELS, figures.T, strict=True))
    apart = max(
        np.abs(r.predictions["manual"] - r.predictions["torch"]).max() for r in runs.values()
    )
    print(
        f"manual and torch: R² at most {np.abs(of['manual'] - of['torch']).max():.0e} apart,",
        end=" ",
    )
    print(f"standardised predictions {apart:.0e}")
    for other in MODELS[:2]:
        gain = of["manual"] - of[other]
        print(f"manual − {other}: {gain.mean():+.3f}, ± {gain.std(ddof=1):.3f} from split to split")

    path = out / "diabetes_regression.png"
    save(picture(SEEDS[0], runs[SEEDS[0]]), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(folder(__doc__))
