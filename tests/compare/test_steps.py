"""Several steps: roundings do not pile up, and what a step leaves to the next is still proven."""

import numpy as np
import pytest

from compare import compare
from manual import nn, optim


def setting(kind=optim.Adam, dtype=np.float32, seed=0, **options):
    """Biases before BatchNorm have a gradient of 0, of which either side sees only rounding; Adam
    makes whole steps of it, so that the two sides' biases drift apart."""
    g = np.random.default_rng(seed)

    def linear(n_in, n_out):
        return nn.Linear(n_in, n_out, dtype=dtype, generator=g)

    inner = nn.Sequential(linear(5, 5), nn.BatchNorm1d(5, dtype=dtype), nn.PReLU(5, dtype=dtype))
    net = nn.Sequential(
        *(linear(4, 5), nn.BatchNorm1d(5, dtype=dtype), nn.Dropout(0.2, g)),
        *(nn.Residual(inner), nn.GELU(), linear(5, 3)),
    )
    x, y = g.normal(size=(8, 4)).astype(dtype), g.integers(0, 3, 8)
    return net, nn.CrossEntropyLoss(), x, y, kind(net.parameters(), lr=0.01, **options)


def run(net, criterion, x, y, optimizer, steps=4):
    return compare(net, criterion, x, y, optimizer=optimizer, steps=steps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {"amsgrad": True}), (optim.Adagrad, {})],
)
@pytest.mark.parametrize("seed", range(2))
def test_a_deep_network_passes_step_after_step(kind, options, dtype, seed):
    comparison = run(*setting(kind, dtype, seed, **options))
    assert comparison.passed, comparison
    # The last step is judged no less sharply than the first.
    frame = comparison.frame[comparison.frame.stage == "forward"].set_index(["step", "name"])
    first, last = frame.loc[1].allowed, frame.loc[4].allowed
    assert last.median() <= 10 * first.median()


def test_a_state_that_is_not_kept_shows_in_the_next_step(monkeypatch):
    update = optim.Adam._update

    def forgetful(self, theta, grad, state, step, group):
        update(self, theta, grad, {**state, "exp_avg_sq": state["exp_avg_sq"].copy()}, step, group)

    monkeypatch.setattr(optim.Adam, "_update", forgetful)
    failures = run(*setting(dtype=np.float64)).failures
    assert failures.iloc[0].step == 2
    assert failures.iloc[0]["name"].startswith("updated.")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("seed", range(2))
def test_l_bfgs_passes_step_after_step(seed, line_search_fn, dtype):
    options = {"max_iter": 3, "line_search_fn": line_search_fn}
    comparison = run(*setting(optim.LBFGS, dtype, seed, **options), steps=3)
    assert comparison.passed, comparison
    assert {"state.d", "state.prev_flat_grad"} <= set(comparison.frame["name"])


@pytest.mark.parametrize("key", ["d", "prev_flat_grad"])
def test_a_state_that_l_bfgs_does_not_keep_shows(monkeypatch, key):
    step = optim.LBFGS.step

    def forgetful(self, closure):
        loss = step(self, closure)
        self._states[0][key] = self._states[0][key] * 1.01
        return loss

    monkeypatch.setattr(optim.LBFGS, "step", forgetful)
    failures = run(*setting(optim.LBFGS, np.float64, max_iter=3), steps=2).failures
    assert (failures.iloc[0].step, failures.iloc[0]["name"]) == (1, f"state.{key}")
