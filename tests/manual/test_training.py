"""fit and predict on a manual network; test_training_loop.py has the loop by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn, optim, training
from manual.nn.parameter import runs

RNG = np.random.default_rng


class Recorder(nn.Identity):
    """Keeps what passes through it and in which mode."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, x.copy()))
        return super().forward(x)


def problem(seed=0, n=23, dtype=np.float64):
    rng = RNG(seed)
    net = nn.Sequential(
        Recorder(),
        nn.Linear(3, 4, dtype=dtype, generator=rng),
        nn.Tanh(),
        nn.Linear(4, 2, dtype=dtype, generator=rng),
    )
    return net, rng.normal(size=(n, 3)).astype(dtype), rng.normal(size=(n, 2)).astype(dtype)


def test_fit_is_the_plain_loop():
    net, x, y = problem()
    other, *_ = problem()
    criterion, options = nn.MSELoss(), {"lr": 0.1, "momentum": 0.9}
    history = training.fit(
        *(net, criterion, optim.SGD(net.parameters(), **options), x, y),
        epochs=3,
        batch_size=5,
        generator=RNG(1),
    )
    rng, optimizer, losses = RNG(1), optim.SGD(other.parameters(), **options), []
    for _ in range(3):
        order, total = rng.permutation(23), 0.0
        for k in range(0, 23, 5):
            at = order[k : k + 5]
            total += float(criterion(other(x[at]), y[at])) * len(at)
            other.backward(criterion.backward())
            optimizer.step()
        losses.append(total / 23)
    assert [e.loss for e in history.epochs] == losses
    assert [e.validation_loss for e in history.epochs] == [None] * 3
    assert all(e.seconds > 0 for e in history.epochs)
    for name, value in other.state_dict().items():
        assert np.array_equal(net.state_dict()[name], value)


def test_the_best_weights_come_back_wherever_the_parameters_lie():
    net, x, y = problem(4)
    net[1].to(np.float64)  # into a buffer of its own
    assert len(list(runs(net.parameters()))) == 2
    states = []
    history = training.fit(
        *(net, nn.MSELoss(), optim.SGD(net.parameters(), 0.5, maximize=True), x, y),
        epochs=5,
        batch_size=5,
        generator=RNG(1),
        validation=(x, y),
        patience=2,
        callback=lambda epoch: states.append(net.state_dict()),
    )
    assert (history.best, len(states)) == (1, 3)
    assert all(np.array_equal(net.state_dict()[name], states[0][name]) for name in states[0])


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
@pytest.mark.parametrize(
    "criterion", [nn.MSELoss(), nn.MSELoss("sum"), nn.HalfSquaredError()], ids=lambda c: c.reduction
)
def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(criterion, batch_size):
    """With lr = 0 it is that of the whole set at once; 23 sums of numbers near 1: 1e-13."""
    net, x, y = problem(1)
    history = training.fit(
        *(net, criterion, optim.SGD(net.parameters(), lr=0.0), x, y),
        epochs=2,
        batch_size=batch_size,
        generator=RNG(1),
        validation=(x, y),
    )
    whole = float(criterion(net(x), y))
    share = whole if criterion.reduction == "mean" else whole / 23
    np.testing.assert_allclose([e.loss for e in history.epochs], share, rtol=1e-13)
    np.testing.assert_allclose([e.validation_loss for e in history.epochs], share, rtol=1e-13)


def test_modes_batches_and_scale():
    net, *_ = problem(dtype=np.float32)
    x = RNG(2).integers(0, 256, (7, 3), dtype=np.uint8)
    x.flags.writeable = False
    y = np.zeros((7, 2), np.float32)
    training.fit(
        *(net, nn.MSELoss(), optim.SGD(net.parameters()), x, y),
        epochs=2,
        batch_size=4,
        generator=RNG(3),
        scale=1 / 255,
        validation=(x[:2], y[:2]),
    )
    rng, expected = RNG(3), []
    for _ in range(2):
        order = rng.permutation(7)
        expected += [(True, order[:4]), (True, order[4:]), (False, np.arange(2))]
    assert len(net[0].seen) == len(expected)
    for (mode, seen), (training_mode, rows) in zip(net[0].seen, expected, strict=True):
        assert mode == training_mode
        assert seen.dtype == np.float32
        assert np.array_equal(seen, x[rows].astype(np.float32) * np.float32(1 / 255))


def test_scaled_converts_only_with_a_scale():
    x = np.array([1, 2], np.uint8)
    assert training.scaled(x, np.float32, None) is x
    assert training.scaled(x, np.longdouble, 1.0).dtype == np.longdouble
    net, x, _ = problem()
    with pytest.raises(TypeError, match=r"Identity: x.*uint8"):
        training.predict(net, x.astype(np.uint8))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 1000])
def test_predict(batch_size, mode):
    net, x, _ = problem(2, 10)
    whole = net(x)
    net.train(mode)
    net[1].training = not mode  # a part that is frozen stays frozen
    net[0].seen.clear()
    got = training.predict(net, x, batch_size=batch_size)
    np.testing.assert_allclose(got, whole, rtol=1e-14, atol=1e-14)  # BLAS: 64 eps
    assert not any(seen_mode for seen_mode, _ in net[0].seen)
    assert max(len(seen) for _, seen in net[0].seen) == min(batch_size, 10)
    assert [m.training for m in net.modules()] == [mode != (m is net[1]) for m in net.modules()]
    with pytest.raises(ValueError, match="expected x of shape"):
        training.predict(net, x[:, :2])
    assert net.training == mode


def test_predicting_nothing_is_refused():
    net, x, _ = problem()
    with pytest.raises(ValueError, match="no samples"):
        training.predict(net, x[:0])


def test_predictions_may_be_infinite_but_not_nan():
    net, x, _ = problem(3, 10)
    x[7, 1] = np.inf
    assert np.isinf(training.predict(nn.Sequential(net[1]), x)[7]).all()
    x[7, 1] = np.nan
    with pytest.raises(FloatingPointError, match="prediction for sample 7 is not a number"):
        training.predict(net, x, batch_size=3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_fit_learns_what_a_least_squares_solver_finds(seed):
    """A linear network and full batches: gradient descent ends where the normal equations do."""
    rng = RNG(seed)
    x = np.linalg.qr(rng.normal(size=(12, 3)))[0] * 2
    x -= x.mean(axis=0)
    y = rng.normal(size=(12, 2))
    net = nn.Sequential(nn.Linear(3, 2, bias=False, dtype=np.float64, generator=rng))
    curvature = np.linalg.eigvalsh(x.T @ x)
    history = training.fit(
        *(net, nn.HalfSquaredError(), optim.SGD(net.parameters(), 1 / curvature[-1]), x, y),
        epochs=20_000,
        batch_size=12,
        generator=rng,
        tolerance=1e-14,
    )
    expected = np.linalg.lstsq(x, y)[0].T
    assert history.stopped == "tolerance"
    # a last change below 1e-14 leaves at most 1e-14 × condition to go
    allowed = 1e-13 * curvature[-1] / curvature[0]
    np.testing.assert_allclose(net[0].weight.data, expected, rtol=0, atol=allowed)


def test_a_network_without_parameters_cannot_be_trained():
    net, x = nn.Sequential(nn.Tanh()), np.ones((2, 3))
    with pytest.raises(ValueError, match="no parameters"):
        training.predict(net, x)
    with pytest.raises(ValueError, match="no parameters"):
        training.fit(net, nn.MSELoss(), None, x, x, epochs=1, batch_size=1, generator=RNG(0))
