"""R² of both sides, equal, and the split that it is measured on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score

from manual import nn, optim, training

PATH = Path(__file__).parents[2] / "examples" / "diabetes_regression.py"
SPEC = importlib.util.spec_from_file_location("diabetes_regression", PATH)
diabetes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(diabetes)


@pytest.fixture(scope="module")
def run():
    return diabetes.run(3)


@pytest.fixture(scope="module")
def rows(run_example):
    """The table's numbers, a row for each seed and then mean and standard deviation."""
    lines = run_example("diabetes_regression")[0].splitlines()
    start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["seed"])
    words = [line.split() for line in lines[start + 2 :]]
    found = {w[0]: np.array(w[1:5], float) for w in words if len(w) in (5, 6) and w[1][0] == "0"}
    return found, lines


def test_a_quarter_is_the_test_and_nobody_is_in_two_parts():
    for seed in (0, 1):
        split = diabetes.split_data(seed)
        assert len(split.test.x) / 442 == pytest.approx(0.25, abs=0.003)
        assert len(split.training.x) + len(split.test.x) == 442
        assert len(split.learning.x) + len(split.validation.x) == len(split.training.x)
        assert 0.14 < len(split.validation.x) / len(split.training.x) < 0.16
        everyone = np.concatenate([split.learning.x, split.validation.x, split.test.x])
        assert len(np.unique(everyone, axis=0)) == 442
        together = np.concatenate([split.validation.x, split.learning.x])
        assert np.array_equal(together, split.training.x)


def test_standardised_by_the_training_part_alone():
    split = diabetes.split_data(0)
    for values in (split.training.x, split.training.y):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-13)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-13)
    assert np.abs(split.test.x.mean(axis=0)).max() > 0.01
    mean, std = split.scale
    _, y = load_diabetes(return_X_y=True)
    parts = np.concatenate([split.training.y, split.test.y])[:, 0] * std + mean
    np.testing.assert_allclose(np.sort(parts), np.sort(y), rtol=1e-12)


def test_seeds_split_differently():
    first, second = (diabetes.split_data(seed).test.x for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, diabetes.split_data(0).test.x)


def test_r_squared_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, prediction = rng.normal(3, 2, (50, 1)), rng.normal(3, 2, (50, 1))
    assert diabetes.r_squared(y, prediction) == pytest.approx(r2_score(y, prediction), abs=1e-14)
    assert diabetes.r_squared(y, y) == 1
    assert diabetes.r_squared(y, np.full_like(y, y.mean())) == 0
    with pytest.raises(ValueError, match=r"expected shape \(50, 1\), got \(50,\)"):
        diabetes.r_squared(y, prediction[:, 0])


def test_both_sides_are_one(run):
    """In float64, some hundred steps: no more than 1e-6 of R², and of every prediction."""
    manual, torch = (run.predictions[side] for side in ("manual", "torch"))
    assert np.abs(manual - torch).max() <= 1e-6
    assert np.ptp(manual) > 1
    assert run.histories["manual"].best == run.histories["torch"].best
    for ours, theirs in zip(*(run.histories[s].epochs for s in ("manual", "torch")), strict=True):
        assert abs(ours.loss - theirs.loss) <= 1e-6
        assert abs(ours.validation_loss - theirs.validation_loss) <= 1e-6


def test_early_stopping_on_the_validation_part(run):
    history = run.histories["manual"]
    assert history.stopped == "early stopping"
    assert len(history.epochs) == history.best + diabetes.PATIENCE < diabetes.EPOCHS
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert history.best == 1 + int(np.argmin(losses))


def test_every_model_is_judged_on_the_test_part(run):
    assert tuple(run.predictions) == diabetes.MODELS
    y = run.split.test.y
    x, target = run.split.training
    design = np.column_stack([np.ones(len(x)), x])
    theta = np.linalg.lstsq(design, target, rcond=None)[0]
    line = np.column_stack([np.ones(len(y)), run.split.test.x]) @ theta
    np.testing.assert_allclose(run.predictions["linear regression"], line, atol=1e-10)
    for model in diabetes.MODELS:
        assert run.predictions[model].shape == y.shape
        assert 0.1 < diabetes.r_squared(y, run.predictions[model]) < 0.8


def test_the_prediction_is_the_trained_networks(run):
    """Trained once more, and its layers written out."""
    net, split = diabetes.network(3), run.split
    training.fit(
        net,
        nn.MSELoss(),
        optim.Adam(net.parameters(), lr=0.003),
        *split.learning,
        epochs=500,
        batch_size=32,
        generator=np.random.default_rng(3),
        validation=split.validation,
        patience=10,
    )
    hidden, _, last = net
    h = np.maximum(split.test.x @ hidden.weight.data.T + hidden.bias.data, 0)
    expected = h @ last.weight.data.T + last.bias.data
    np.testing.assert_allclose(run.predictions["manual"], expected, rtol=0, atol=1e-12)


def test_the_network_is_what_it_says():
    net = diabetes.network(0)
    assert [p.shape for p in net.parameters()] == [(32, 10), (32,), (1, 32), (1,)]
    x = np.zeros((2, 10))
    assert training.predict(net, x).shape == (2, 1)
    assert np.array_equal(diabetes.network(0)[0].weight.data, net[0].weight.data)
    assert not np.array_equal(diabetes.network(1)[0].weight.data, net[0].weight.data)


def test_what_it_prints(rows, run):
    found, lines = rows
    assert list(found) == [*map(str, range(10)), "mean", "std"]
    sizes = [len(part.x) for part in (run.split.learning, run.split.validation, run.split.test)]
    assert [int(word) for word in lines[0].split() if word.isdigit()] == sizes
    (row,) = (line.split() for line in lines if line.startswith("    3  "))
    assert row[-1] == str(run.histories["manual"].best)
    figures = np.array([found[str(seed)] for seed in diabetes.SEEDS])
    expected = [diabetes.r_squared(run.split.test.y, run.predictions[m]) for m in diabetes.MODELS]
    np.testing.assert_allclose(found["3"], expected, atol=5.1e-5)
    np.testing.assert_allclose(found["mean"], figures.mean(axis=0), atol=1.1e-4)
    np.testing.assert_allclose(found["std"], figures.std(axis=0, ddof=1), atol=1.1e-4)
    assert np.array_equal(figures[:, 2], figures[:, 3])
    (apart,) = (line for line in lines if line.startswith("manual and torch: R² at most "))
    assert float(apart.split()[6]) <= 1e-6
    assert float(apart.split()[-1]) <= 1e-6
    gains = {line.split(":")[0]: line.split() for line in lines if line.startswith("manual − ")}
    for k, other in enumerate(("linear regression", "MLPRegressor")):
        own = figures[:, 2] - figures[:, k]
        words = gains[f"manual − {other}"]
        at = words.index("±")
        assert float(words[at - 1].rstrip(",")) == pytest.approx(own.mean(), abs=7e-4)
        assert float(words[at + 1]) == pytest.approx(own.std(ddof=1), abs=7e-4)


def test_the_docstrings_lesson(rows):
    """The splits differ by more than the models do, and the line is not beaten for certain."""
    figures = np.array([rows[0][str(seed)] for seed in diabetes.SEEDS])
    assert figures.std(axis=0, ddof=1).min() > np.ptp(figures.mean(axis=0))
    gain = figures[:, 2] - figures[:, 0]
    assert abs(gain.mean()) < 2 * gain.std(ddof=1) / np.sqrt(len(gain))
