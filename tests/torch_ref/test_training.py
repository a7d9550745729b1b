"""fit and predict on both sides: the same batches, losses, weights, reasons to stop, errors."""

import copy

import numpy as np
import pytest
import torch

from manual import nn, optim, training
from torch_ref import training as reference
from torch_ref import twin

RNG = np.random.default_rng
N, IN, OUT = 23, 3, 4


def network(seed, dtype=np.float64):
    rng = RNG(seed)
    return nn.Sequential(
        nn.Linear(IN, 5, dtype=dtype, generator=rng),
        nn.Tanh(),
        nn.Sequential(nn.Linear(5, OUT, dtype=dtype, generator=rng), nn.Identity()),
    )


def data(criterion, seed=1, n=N, noise=0.1):
    """Something to learn: a linear map, with noise; or the place of its greatest value."""
    rng = RNG(seed)
    x = rng.normal(size=(n, IN))
    y = np.dot(x, RNG(9).normal(size=(IN, OUT))) + noise * rng.normal(size=(n, OUT))
    return x, y.argmax(axis=1) if isinstance(criterion, nn.CrossEntropyLoss) else y


def fit_both(criterion, x, y, *, sgd=None, dtype=np.float64, **options):
    """[(net, history, generator), …] of manual and of its twin, from the same start."""
    net = network(0, dtype)
    other = twin(net)
    optimizer = optim.SGD(net.parameters(), **{"lr": 0.1, "momentum": 0.9, **(sgd or {})})
    sides = [
        (training, net, criterion, optimizer),
        (reference, other, twin(criterion), twin(optimizer, other.parameters())),
    ]
    done = []
    for module, side, loss, steps in sides:
        rng = RNG(2)
        arguments = {"epochs": 6, "batch_size": 5, "generator": rng, **options}
        done.append((side, module.fit(side, loss, steps, x, y, **arguments), rng))
    return done


def agree(done, tolerance=1e-12):
    """float64 and some dozens of steps, each of a few roundings of numbers near 1: 1e-12."""
    (net, history, rng), (other, expected, other_rng) = done
    assert len(history.epochs) == len(expected.epochs)
    assert (history.best, history.stopped) == (expected.best, expected.stopped)
    for epoch, epoch_there in zip(history.epochs, expected.epochs, strict=True):
        assert epoch.epoch == epoch_there.epoch
        assert (epoch.validation_loss is None) == (epoch_there.validation_loss is None)
        losses = [epoch.loss, epoch.validation_loss or 0.0]
        there = [epoch_there.loss, epoch_there.validation_loss or 0.0]
        np.testing.assert_allclose(losses, there, rtol=tolerance, atol=tolerance)
    state = other.state_dict()
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value, state[name].numpy(), rtol=tolerance, atol=tolerance)
    assert rng.bit_generator.state == other_rng.bit_generator.state
    return history


CRITERIA = [
    nn.MSELoss(),
    nn.MSELoss("sum"),
    nn.HalfSquaredError(),
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(np.array([1.0, 2, 3, 4]), reduction="sum", label_smoothing=0.1),
]


@pytest.mark.parametrize("batch_size", [1, 5, N, 100])
@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: f"{type(c).__name__}-{c.reduction}")
def test_the_same_weights_and_history(criterion, batch_size):
    x, y = data(criterion)
    lr = 0.02 if criterion.reduction == "mean" else 0.005 / min(batch_size, N)
    validation = data(criterion, 7, 9)
    options = {"batch_size": batch_size, "validation": validation, "sgd": {"lr": lr}}
    history = agree(fit_both(criterion, x, y, **options))
    assert history.stopped == "epochs"
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_early_stopping_restores_the_best_weights_on_both_sides():
    criterion = nn.MSELoss()
    x, y = data(criterion, noise=2)
    options = {"validation": data(criterion, 8, 6, noise=2), "epochs": 60, "patience": 3}
    done = fit_both(criterion, x, y, **options)
    history = agree(done)
    assert history.stopped == "early stopping"
    assert len(history.epochs) == history.best + 3 > 4
    expected = history.epochs[history.best - 1].validation_loss
    for module, (net, *_) in zip((training, reference), done, strict=True):
        prediction = module.predict(net, options["validation"][0])
        assert float(criterion(prediction, options["validation"][1])) == pytest.approx(
            expected, rel=1e-13
        )


def test_tolerance_and_callback_stop_both_sides():
    criterion = nn.MSELoss()
    x, y = data(criterion)
    steady = {"epochs": 500, "batch_size": N, "tolerance": 1e-2}
    history = agree(fit_both(criterion, x, y, **steady))
    assert history.stopped == "tolerance"
    assert 1 < len(history.epochs) < 500
    history = agree(fit_both(criterion, x, y, callback=lambda epoch: epoch.epoch == 2))
    assert (history.stopped, len(history.epochs)) == ("callback", 2)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1 / 255, 0.3, 2.0])
def test_scaling_gives_bitwise_the_same_batch(scale, dtype, kind):
    x = RNG(3).integers(0, 256, (50, 6)).astype(kind)
    kept = x.copy()
    ours = training.scaled(x, dtype, scale)
    theirs = reference.scaled(torch.from_numpy(x), getattr(torch, np.dtype(dtype).name), scale)
    assert ours.dtype == theirs.numpy().dtype == dtype
    assert np.array_equal(ours, theirs.numpy())
    assert np.array_equal(x, kept)


def test_scaled_images_train_both_sides_alike():
    criterion = nn.CrossEntropyLoss()
    x = RNG(4).integers(0, 256, (N, IN), dtype=np.uint8)
    y = RNG(5).integers(0, OUT, N)
    agree(fit_both(criterion, x, y, scale=1 / 255, validation=(x[:7], y[:7]), patience=2))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64])
def test_targets_of_any_integer_type(kind):
    criterion = nn.CrossEntropyLoss()
    x, y = data(criterion)
    agree(fit_both(criterion, x, y.astype(kind), validation=(x, y.astype(kind))))


def test_the_data_may_lie_in_any_memory_and_stays_as_it_is(layout):
    criterion = nn.MSELoss()
    x, y = (layout(array) for array in data(criterion))
    agree(fit_both(criterion, x, y, validation=(x, y), scale=0.5, epochs=2))


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("mode", [True, False])
def test_predict(mode, scale, layout):
    net, x = network(0), layout(RNG(6).normal(size=(10, IN)))
    other = twin(net).train(mode)
    kept = x.copy()
    expected = training.predict(net, x, scale)
    for batch_size in (1, 4, 10, 1000):
        got = reference.predict(other, x, scale, batch_size)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)  # 450 eps, numbers ~ 1
    assert np.array_equal(x, kept)
    assert all(module.training == mode for module in other.modules())


@pytest.mark.parametrize("scale", [None, 0.5])
def test_predict_leaves_writable_data_alone(scale):
    for module, net in ((training, network(0)), (reference, twin(network(0)))):
        x = RNG(6).normal(size=(10, IN))
        kept = x.copy()
        module.predict(net, x, scale)
        assert np.array_equal(x, kept)


def test_the_twin_sees_both_modes():
    class Modes(torch.nn.Identity):
        seen = ()

        def forward(self, x):
            self.seen = (*self.seen, (self.training, len(x)))
            return x

    net = torch.nn.Sequential(Modes(), twin(network(0)))
    x, y = data(nn.MSELoss())
    reference.fit(
        *(net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters(), 0.1), x, y),
        epochs=2,
        batch_size=15,
        generator=RNG(0),
        validation=(x[:4], y[:4]),
    )
    assert net[0].seen == ((True, 15), (True, 8), (False, 4)) * 2
    net.train()
    reference.predict(net, x[:3])
    assert net[0].seen[-1] == (False, 3)


def sides():
    net = network(0)
    other = twin(net)
    optimizer = optim.SGD(net.parameters(), 0.1)
    yield training, net, nn.MSELoss, optimizer
    yield reference, other, torch.nn.MSELoss, twin(optimizer, other.parameters())


both = pytest.mark.parametrize("side", [0, 1], ids=["manual", "torch"])


@both
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"epochs": None}, "epochs must be a whole number >= 1, got None"),
        ({"epochs": 2.0}, "epochs must be a whole number >= 1, got 2.0"),
        ({"batch_size": 0}, "batch_size .*got 0"),
        ({"batch_size": -1}, "batch_size .*got -1"),
        ({"batch_size": 1.5}, "batch_size .*got 1.5"),
        ({"patience": 0, "validation": "data"}, "patience .*got 0"),
        ({"patience": 2}, "needs validation data"),
        ({"tolerance": -1.0}, "tolerance .*got -1.0"),
        ({"tolerance": float("nan")}, "tolerance .*got nan"),
        ({"x": np.ones((5, IN))}, r"equally many samples .*got \(5, 23\)"),
        ({"x": np.ones((0, IN)), "y": np.ones((0, OUT))}, r"got \(0, 0\)"),
        ({"reduction": "none"}, "reduction must be mean or sum, got 'none'"),
    ],
)
def test_bad_arguments(side, options, text):
    module, net, criterion, optimizer = list(sides())[side]
    x, y = data(nn.MSELoss())
    options = {"x": x, "y": y, "epochs": 1, "batch_size": 5, "generator": RNG(0), **options}
    if "validation" in options:
        options["validation"] = x, y
    criterion = criterion(reduction=options.pop("reduction", "mean"))
    with pytest.raises(ValueError, match=text):
        module.fit(net, criterion, optimizer, **options)


@both
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"x": [[1.0] * IN]}, TypeError, "fit: x must be an array, got list"),
        ({"y": 3.0}, TypeError, "fit: y must be an array, got float"),
        (
            {"validation": np.ones((2, IN))},
            TypeError,
            r"validation must be \(x, y\) or None",
        ),
        ({"validation": (np.ones((2, IN)), [1, 2])}, TypeError, "validation's y must be an array"),
        (
            {"validation": (np.ones((2, IN)), np.ones((3, OUT)))},
            ValueError,
            r"validation's x and y need equally many samples \(>= 1\), got \(2, 3\)",
        ),
        (
            {"generator": None},
            TypeError,
            "generator must be a numpy.random.Generator, got NoneType",
        ),
        ({"generator": 3}, TypeError, r"generator must be .*, got int"),
    ],
)
def test_bad_data_is_refused_before_anything_is_trained(side, options, error, text):
    module, net, criterion, optimizer = list(sides())[side]
    before = copy.deepcopy(list(net.parameters()))
    x, y = data(nn.MSELoss())
    options = {"x": x, "y": y, "epochs": 1, "batch_size": 5, "generator": RNG(0), **options}
    with pytest.raises(error, match=text):
        module.fit(net, criterion(), optimizer, **options)
    assert all((p.data == b.data).all() for p, b in zip(net.parameters(), before, strict=True))


@both
def test_a_loss_that_is_not_finite(side):
    """An x of inf in one sample: found in the epoch and the step it comes in."""
    module, net, criterion, optimizer = list(sides())[side]
    x, y = data(nn.MSELoss())
    y[RNG(3).permutation(N)[12]] = np.inf
    with pytest.raises(FloatingPointError, match="the loss became inf in epoch 1, step 3"):
        module.fit(net, criterion(), optimizer, x, y, epochs=3, batch_size=5, generator=RNG(3))


@both
def test_a_prediction_that_is_not_a_number(side):
    module, net, *_ = list(sides())[side]
    x, _ = data(nn.MSELoss())
    x[7, 1] = np.nan
    with pytest.raises(FloatingPointError, match="prediction for sample 7 is not a number"):
        module.predict(net, x, batch_size=5)
    assert net.training


@both
def test_a_learning_rate_that_is_far_too_great(side):
    module, net, criterion, optimizer = list(sides())[side]
    optimizer.param_groups[0]["lr"] = 1e200
    x, y = data(nn.MSELoss())
    with pytest.raises(FloatingPointError, match=r"the loss became (inf|nan) in epoch 1, step 2"):
        module.fit(net, criterion(), optimizer, x, y, epochs=3, batch_size=5, generator=RNG(3))
