"""What each remedy does to the gradients of ten layers, and what clipping does not do."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from manual import nn

PATH = Path(__file__).parents[2] / "examples" / "vanishing_gradient.py"
SPEC = importlib.util.spec_from_file_location("vanishing_gradient", PATH)
vanishing = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(vanishing)

RECIPES = {r.name: r for r in (*vanishing.VANISHING, *vanishing.EXPLODING)}
SIGMOID, CLIPPED = "sigmoid", "4 clipped to ±1"
TANH, RELU = "tanh, N(0, 1)", "ReLU, N(0, 0.5²)"
CLIPPED_TANH, CLIPPED_RELU = "tanh, clipped to ±1", "ReLU, clipped to ±1"


@pytest.fixture(scope="module")
def measured():
    """Every network at the start, and after no more than two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vanishing, "STEPS", 2)
        return {name: vanishing.measure(recipe) for name, recipe in RECIPES.items()}


@pytest.fixture(scope="module")
def printed(run_example):
    """{network: its words after the name} of both tables, and the whole text."""
    text = run_example("vanishing_gradient")[0]
    rows = {}
    for line in text.splitlines():
        for name in RECIPES:
            if line.startswith(f" {name}  "):
                rows[name] = line.removeprefix(f" {name}").split()
    return rows, text


def ratio(own):
    return own.typical[0] / own.typical[-1]


def test_what_is_compared():
    assert list(RECIPES) == [
        SIGMOID,
        "1 N(0, 0.01²)",
        "1 Glorot",
        "1 Glorot, 4 times",
        "2 ReLU",
        "2 ReLU, He",
        "3 batch normalisation",
        CLIPPED,
        "5 residual",
        TANH,
        CLIPPED_TANH,
        RELU,
        CLIPPED_RELU,
    ]
    sigmoids = [r.name for r in RECIPES.values() if r.activation is nn.Sigmoid]
    assert [name[0] for name in sigmoids] == ["s", "1", "1", "1", "3", "4", "5"]
    for recipe in RECIPES.values():
        net = vanishing.network(recipe, np.random.default_rng(0))
        kinds = [type(module) for module in net.modules()]
        assert kinds.count(nn.Linear) == 11
        assert kinds.count(recipe.activation) == 10
        assert kinds.count(nn.BatchNorm1d) == (10 if recipe.name[0] == "3" else 0)
        assert kinds.count(nn.Residual) == (10 if recipe.name[0] == "5" else 0)


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        (SIGMOID, 1 / np.sqrt(3 * 32)),
        ("1 N(0, 0.01²)", 0.01),
        ("1 Glorot", np.sqrt(2 / 64)),
        ("1 Glorot, 4 times", 4 * np.sqrt(2 / 64)),
        ("2 ReLU, He", np.sqrt(2 / 32)),
        (TANH, 1),
        (RELU, 2 * np.sqrt(2 / 32)),
    ],
)
def test_weights(name, spread):
    """Of 10240 weights the standard deviation is known to 0.7 %: 5 times that."""
    net = vanishing.network(RECIPES[name], np.random.default_rng(0))
    weights = np.concatenate([p.data.ravel() for p in net.parameters() if p.ndim == 2][:10])
    assert abs(weights.std() / spread - 1) <= 0.035
    assert abs(weights.mean()) <= 5 * spread / 100
    biases = [p.data for p in net.parameters() if p.ndim == 1][:10]
    assert all(b.any() == (RECIPES[name].initialise is None) for b in biases)


@pytest.mark.parametrize("name", RECIPES)
def test_norms_are_those_of_torch(measured, name):
    """A layer's products sum 32 terms twice: some 70 roundings of 1e-16, ten layers 1e-13; where
    gradients grow a hundredfold, so may what is wrong with them."""
    assert measured[name].norms.shape == (3, 10)
    assert 0 < measured[name].off <= (1e-11 if name in (TANH, CLIPPED_TANH) else 1e-12)


def test_the_sigmoid_takes_more_than_its_quarter_at_every_layer(measured):
    """‖δ^l‖ ≤ ¼ ‖W^(l+1)‖ ‖δ^(l+1)‖ with ‖W‖ near 2/√3: less than 0.29 a layer, and ∂L/∂W has
    beside δ what enters the layer, which is alike in all but the first."""
    norms = measured[SIGMOID].norms
    assert (norms[:, 1:-1] < 0.29 * norms[:, 2:]).all()
    assert 1e-9 < ratio(measured[SIGMOID]) < 1e-7


def test_every_remedy_but_clipping_lifts_the_first_layer(measured):
    r = {name: ratio(own) for name, own in measured.items()}
    assert r["1 N(0, 0.01²)"] < 1e-8 * r[SIGMOID]  # smaller weights make it worse
    assert r[SIGMOID] < r["1 Glorot"] / 10 < r["1 Glorot, 4 times"] / 1000 < 1e-4
    assert r[SIGMOID] < r["2 ReLU"] / 1e4
    assert 0.05 < r["2 ReLU, He"] < 5
    assert 0.3 < r["3 batch normalisation"] < 3
    assert 0.01 < r["5 residual"] < 1


def test_clipping_does_not_touch_gradients_that_vanish(measured):
    assert np.array_equal(measured[CLIPPED].norms, measured[SIGMOID].norms)


def test_clipping_bounds_gradients_that_explode(measured):
    """No element over CLIP: no norm over CLIP √(32 · 32)."""
    bound = vanishing.CLIP * 32
    assert ratio(measured[TANH]) > 50
    assert measured[TANH].norms[:, 0].min() > 10
    assert measured[RELU].norms.min() > 1e5
    for name in (CLIPPED_TANH, CLIPPED_RELU):
        assert measured[name].norms.max() <= bound * (1 + 1e-14)
    assert measured[CLIPPED_RELU].norms.min() > bound / 3
    small = measured[TANH].norms < vanishing.CLIP  # no element of these is over CLIP
    assert small.any()
    assert np.array_equal(measured[CLIPPED_TANH].norms[small], measured[TANH].norms[small])


@pytest.mark.parametrize("clipped", [False, True])
def test_a_step_is_clipped(clipped, monkeypatch):
    """One step moves no weight by more than lr · CLIP, and some by just that."""
    monkeypatch.setattr(vanishing, "STEPS", 1)
    generator = np.random.default_rng(0)
    x, y = vanishing.data(generator)
    net = vanishing.network(RECIPES[RELU], generator)
    before = np.concatenate([p.data.ravel() for p in net.parameters()])
    assert np.isfinite(vanishing.trained(net, x, y, clipped))
    moved = np.abs(np.concatenate([p.data.ravel() for p in net.parameters()]) - before).max()
    limit = vanishing.LR * vanishing.CLIP
    assert moved == pytest.approx(limit, rel=1e-10) if clipped else moved > 100 * limit


def test_typical_is_the_geometric_mean():
    own = vanishing.Measured(np.array([[1.0, 8.0], [4.0, 2.0]]), np.zeros(2), 0)
    np.testing.assert_allclose(own.typical, [2, 4], rtol=1e-15)


def test_a_training_that_diverges_is_no_number():
    recipe = RECIPES[RELU]
    generator = np.random.default_rng(0)
    x, y = vanishing.data(generator)
    assert np.isnan(vanishing.trained(vanishing.network(recipe, generator), x, y, False))


def test_printed_norms(printed, measured):
    rows, text = printed
    assert list(rows) == list(RECIPES)
    for name, own in measured.items():
        first, last = own.typical[[0, -1]]
        assert rows[name][:3] == [f"{value:.1e}" for value in (first, last, first / last)]
        assert rows[name][3] == f"{(first / last) ** (1 / 9):.3f}"
    assert "seeds 0 to 2" in text


def test_printed_losses(printed):
    """What does not learn ends where it may: at the loss of the mean alone."""
    rows, text = printed
    mean = text.partition("has a loss of ")[2][:5]
    for name in (SIGMOID, "1 N(0, 0.01²)", "1 Glorot", CLIPPED):
        assert rows[name][4] == mean
    for name in ("2 ReLU, He", "3 batch normalisation", TANH, CLIPPED_TANH, CLIPPED_RELU):
        assert float(rows[name][4]) < float(mean) / 4
    assert float(rows["5 residual"][4]) < float(mean)
    assert rows[RELU][4:] == ["3", "diverged"]
