"""training.train, the loop both sides share, by itself: with scripted losses and weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual import training

RNG = np.random.default_rng


def loop(weights=None, validation=None, losses=None, **options):
    """`training.train` on a script: after epoch e the weights are weights[e − 1]. One step each."""
    epochs = len(weights if weights is not None else validation or losses)
    weights = np.arange(1.0, epochs + 1) if weights is None else np.asarray(weights, float)
    state = {"epoch": 0, "now": np.zeros_like(weights[0]).reshape(-1)}

    def step(index):
        state["epoch"] += 1
        state["now"] = weights[state["epoch"] - 1].reshape(-1)
        return losses[state["epoch"] - 1] if losses else 1.0

    class Network:
        def state_dict(self):
            return {"weights": state["now"].copy()}

        def load_state_dict(self, values):
            state["now"] = values["weights"]

    history = training.train(
        step,
        lambda: state["now"].copy(),
        {"network": Network()},
        lambda run: None,
        **{
            "about": {},
            "n": 2,
            "reduction": "mean",
            "set_training": lambda mode: None,
            "epochs": epochs,
            "batch_size": 2,
            "generator": RNG(0),
            "validate": (lambda: validation[state["epoch"] - 1]) if validation else None,
            "patience": None,
            "tolerance": None,
            "scheduler": None,
            "callback": None,
            "checkpoint": None,
            "resume": None,
            **options,
        },
    )
    return history, state["now"]


@given(n=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 99))
def test_batches_hold_every_index_once(n, size, seed):
    parts = list(training.batches(n, size, RNG(seed)))
    assert [len(p) for p in parts] == [min(size, n - k) for k in range(0, n, size)]
    order = np.concatenate(parts)
    assert sorted(order) == list(range(n))
    assert np.array_equal(order, RNG(seed).permutation(n))


def test_every_epoch_has_an_order_of_its_own():
    rng = RNG(0)
    first, second = (np.concatenate(list(training.batches(50, 7, rng))) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("validation", "patience", "epochs", "best", "stopped"),
    [
        ([5, 4, 3, 2], 1, 4, 4, "epochs"),
        ([5, 4, 6, 2], 1, 3, 2, "early stopping"),
        ([5, 4, 6, 2], 2, 4, 4, "epochs"),
        ([5, 4, 6, 7, 1], 2, 4, 2, "early stopping"),
        ([5, 5, 5, 5], 2, 3, 1, "early stopping"),  # as good is not better
        ([1, 2, 3, 4], 9, 4, 1, "epochs"),  # the best is restored here, too
        ([5, 4, 6, 2], None, 4, 4, "epochs"),
        ([1, 2, 3, 4], None, 4, 4, "epochs"),
    ],
)
def test_patience(validation, patience, epochs, best, stopped):
    history, weights = loop(validation=validation, patience=patience)
    assert (len(history.epochs), history.best, history.stopped) == (epochs, best, stopped)
    assert weights == [best]
    assert [e.validation_loss for e in history.epochs] == validation[:epochs]
    assert [e.epoch for e in history.epochs] == list(range(1, epochs + 1))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 4))
def test_the_network_ends_with_its_best_weights(validation, patience):
    history, weights = loop(validation=validation, patience=patience)
    seen = [e.validation_loss for e in history.epochs]
    assert weights == [history.best] == [1 + int(np.argmin(seen))]
    waited = len(seen) - history.best
    assert waited <= patience
    assert (history.stopped == "early stopping") == (waited == patience)
    assert waited == patience or len(seen) == len(validation)


@pytest.mark.parametrize(
    ("weights", "tolerance", "epochs"),
    [
        ([[1, -1], [1.5, -1], [1.5, -1.25], [9, 9]], 0.25, 3),  # exactly the tolerance
        ([[1, -1], [0.5, -1], [0.5, -1], [9, 9]], 0, 3),
        ([[1, -1], [0, -1], [1, -1], [0, -1]], 0.5, 4),  # downwards counts, too
        ([[0.1, 0], [9, 9]], 0.1, 1),
    ],
)
def test_tolerance(weights, tolerance, epochs):
    history, now = loop(weights, tolerance=tolerance)
    assert len(history.epochs) == history.best == epochs
    assert np.array_equal(now, weights[epochs - 1])
    steady = "tolerance" if epochs < 4 else "epochs"
    assert history.stopped == steady


def test_the_callback_sees_every_epoch_and_stops():
    seen = []

    def callback(epoch):
        seen.append(epoch)
        return epoch.epoch == 3

    history, weights = loop(validation=[3, 1, 2, 0], patience=3, callback=callback)
    assert seen == history.epochs
    assert (history.stopped, history.best, len(seen)) == ("callback", 2, 3)
    assert weights == [2]
    history, _ = loop(validation=[3, 1, 2], callback=lambda epoch: None)
    assert history.stopped == "epochs"


def test_every_epoch_trains_in_training_mode():
    seen = []

    def validate():
        seen.append("validated")
        return 1.0

    loop(np.ones(2), set_training=seen.append, validate=validate)
    assert seen == [True, "validated", True, "validated"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad):
    with pytest.raises(FloatingPointError, match=f"the loss became {bad} in epoch 2, step 1"):
        loop(losses=[1.0, bad, 1.0])
    with pytest.raises(FloatingPointError, match="a weight became non-finite in epoch 2"):
        loop(weights=[[1, 2], [1, bad], [1, 2]])
    with pytest.raises(FloatingPointError, match=f"validation loss became {bad} in epoch 2"):
        loop(validation=[1.0, bad, 1.0])
