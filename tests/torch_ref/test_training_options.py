"""fit on both sides with every optimizer, with schedules, clipping, whole batches, buffers."""

from functools import partial

import numpy as np
import pytest
import torch

from manual import nn, optim, training
from torch_ref import training as reference
from torch_ref import twin, twins

RNG = np.random.default_rng
OPTIMIZERS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad]
CLIPS = [
    None,
    partial(optim.clip_grad_norm_, max_norm=0.1),
    partial(optim.clip_grad_value_, clip_value=0.01),
]


def network(seed=0):
    rng = RNG(seed)
    return nn.Sequential(
        nn.Linear(3, 6, bias=False, dtype=np.float64, generator=rng),  # its gradient would be 0
        nn.BatchNorm1d(6, dtype=np.float64),
        nn.Tanh(),
        nn.Dropout(0.2, RNG(5)),
        nn.Residual(nn.Linear(6, 6, dtype=np.float64, generator=rng)),
        nn.Linear(6, 2, dtype=np.float64, generator=rng),
    )


def data(n=24):
    rng = RNG(1)
    x = rng.normal(size=(n, 3))
    return x, np.sin(x[:, :2]) + 0.1 * rng.normal(size=(n, 2))


def fit_both(net, make, *, schedule=None, clip=None, **options):
    """(history, state) of manual and of its twin, from the same start."""
    optimizer, criterion = make(net.parameters()), nn.MSELoss()
    scheduler = schedule and schedule(optimizer)
    sides = [(training, net, criterion, optimizer, scheduler, clip)]
    torchs = twins(net, criterion, optimizer)
    theirs = scheduler and twin(scheduler, torchs[2])
    sides.append((reference, *torchs, theirs, clip and twin(clip)))
    x, y = data()
    options = {"epochs": 4, "batch_size": 6, **options}
    found = []
    for module, side, loss, steps, changes, clipping in sides:
        arguments = {"generator": RNG(2), "scheduler": changes, "clip": clipping, **options}
        history = module.fit(side, loss, steps, x, y, **arguments)
        state = {name: np.asarray(v).copy() for name, v in side.state_dict().items()}
        found.append((history, state, [group["lr"] for group in steps.param_groups]))
    return found


def agree(found, tolerance=1e-9):
    (history, state, lr), (expected, there, lr_there) = found
    losses, losses_there = ([e.loss for e in h.epochs] for h in (history, expected))
    np.testing.assert_allclose(losses, losses_there, rtol=tolerance)
    assert (history.best, history.stopped) == (expected.best, expected.stopped)
    assert state.keys() == there.keys()
    for name, value in state.items():
        np.testing.assert_allclose(value, there[name], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(lr, lr_there, rtol=1e-12)
    return history, state, lr


@pytest.mark.parametrize("batch_size", [1, 6, None])
@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_every_optimizer(kind, batch_size):
    net = network()
    if batch_size == 1:  # a batch of one has no variance
        net = nn.Sequential(net[0], net[2], net[5])
    start = net.state_dict()
    history, state, _ = agree(fit_both(net, partial(kind, lr=0.01), batch_size=batch_size))
    assert len(history.epochs) == 4
    assert all(not np.array_equal(state[name], start[name]) for name in start)


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_lbfgs_with_a_closure_over_the_whole_batch(line_search_fn):
    make = partial(optim.LBFGS, lr=0.5, max_iter=5, line_search_fn=line_search_fn)
    net = network()
    smooth = nn.Sequential(net[0], net[2], net[5])
    history, _, _ = agree(fit_both(smooth, make, batch_size=None), tolerance=1e-7)
    assert history.epochs[-1].loss < history.epochs[0].loss


@pytest.mark.parametrize("clip", CLIPS[1:], ids=lambda clip: clip.func.__name__)
def test_clipping_comes_between_backward_and_update(clip):
    """With plain SGD an update is lr times the gradient, so it is bounded like the gradient."""
    net = network()
    free = agree(fit_both(network(), partial(optim.SGD, lr=1.0), epochs=1, batch_size=None))
    start = net.state_dict()
    _, state, _ = agree(
        fit_both(net, partial(optim.SGD, lr=1.0), clip=clip, epochs=1, batch_size=None)
    )
    names = [name for name, _ in net.named_parameters()]
    moved = np.concatenate([(state[n] - start[n]).ravel() for n in names])
    unclipped = np.concatenate([(free[1][n] - start[n]).ravel() for n in names])
    if clip.func is optim.clip_grad_norm_:
        assert np.linalg.norm(unclipped) > 0.11
        assert np.linalg.norm(moved) == pytest.approx(0.1, rel=1e-4)  # 1e-6 in the coefficient
    else:
        assert np.abs(unclipped).max() > 0.011
        np.testing.assert_allclose(moved, np.clip(unclipped, -0.01, 0.01), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (partial(optim.StepLR, step_size=2, gamma=0.1), 0.1 * 0.1**2),
        (partial(optim.ExponentialLR, gamma=0.5), 0.1 * 0.5**4),
        (partial(optim.CosineAnnealingLR, T_max=8), 0.05),
    ],
)
def test_a_schedule_takes_a_step_after_every_epoch(schedule, expected):
    _, _, lr = agree(fit_both(network(), partial(optim.SGD, lr=0.1), schedule=schedule))
    assert lr == pytest.approx([expected])


def test_early_stopping_restores_buffers_with_the_weights():
    """The weights of the best epoch, and the statistics that belong to them."""
    x, y = data()
    validation = (x + 3, -y)  # gets worse as training goes on
    net, other = network(), network()
    make = partial(optim.SGD, lr=0.05)
    options = {"patience": 2, "validation": validation, "epochs": 9}
    history, state, _ = agree(fit_both(net, make, **options))
    assert history.stopped == "early stopping"
    assert history.best < len(history.epochs)
    _, expected, _ = agree(fit_both(other, make, epochs=history.best))
    for name, value in state.items():
        np.testing.assert_array_equal(value, expected[name])
    assert state["1.num_batches_tracked"] == 4 * history.best


def test_the_whole_batch_is_one_step_in_its_own_order():
    seen = []

    class Recorder(nn.Identity):
        def forward(self, x):
            seen.append(x.copy())
            return super().forward(x)

    net = nn.Sequential(Recorder(), nn.Linear(3, 2, dtype=np.float64, generator=RNG(0)))
    x, y = data()
    generator = RNG(3)
    before = generator.bit_generator.state
    options = {"epochs": 2, "batch_size": None, "generator": generator}
    training.fit(net, nn.MSELoss(), optim.SGD(net.parameters()), x, y, **options)
    assert len(seen) == 2
    assert all(np.array_equal(batch, x) for batch in seen)
    assert generator.bit_generator.state == before


def test_a_penalty_may_spare_the_biases():
    net = nn.Sequential(nn.Linear(3, 2, dtype=np.float64, generator=RNG(0)))
    weight, bias = net.parameters()
    groups = [{"params": [weight], "weight_decay": 0.5}, {"params": [bias]}]
    x, y = data()
    plain = nn.Sequential(nn.Linear(3, 2, dtype=np.float64, generator=RNG(0)))
    for n, params in ((net, groups), (plain, plain.parameters())):
        optimizer = optim.SGD(params, lr=0.1)
        training.fit(n, nn.MSELoss(), optimizer, x, y, epochs=1, batch_size=None, generator=RNG(0))
    start = nn.Linear(3, 2, dtype=np.float64, generator=RNG(0)).weight.data
    np.testing.assert_allclose(weight.data, plain[0].weight.data - 0.1 * 0.5 * start, rtol=1e-12)
    np.testing.assert_array_equal(bias.data, plain[0].bias.data)


def test_torch_has_gradients_in_the_closure_of_fit():
    net = network()
    built, criterion, optimizer = twins(net, nn.MSELoss(), optim.LBFGS(net.parameters()))
    x, y = data()
    with torch.no_grad():  # what a caller may have switched off is on in a step of L-BFGS
        reference.fit(
            built, criterion, optimizer, x, y, epochs=1, batch_size=None, generator=RNG(0)
        )
    assert any(
        not np.array_equal(v.numpy(), net.state_dict()[k]) for k, v in built.state_dict().items()
    )
