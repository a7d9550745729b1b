"""The twins of optimizers, schedules and clipping: same options, same state, and they go on from
where the originals stand."""

import functools
import inspect

import numpy as np
import pytest
import torch

from manual import nn, optim
from torch_ref import twin, twins

RNG = np.random.default_rng
OPTIMIZERS = [
    kind
    for kind in vars(optim).values()
    if inspect.isclass(kind) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
]
SCHEDULES = {
    optim.StepLR: {"step_size": 3, "gamma": 0.5},
    optim.ExponentialLR: {"gamma": 0.9},
    optim.CosineAnnealingLR: {"T_max": 4, "eta_min": 0.01},
}
OPTIONS = [
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1, "maximize": True}),
    (optim.Adam, {"amsgrad": True, "betas": (0.5, 0.6)}),
    (optim.Adam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (optim.AdamW, {"eps": 0.1, "maximize": True}),
    (optim.RMSprop, {}),
    (optim.RMSprop, {"momentum": 0.9, "centered": True, "alpha": 0.7}),
    (optim.Adagrad, {"initial_accumulator_value": 0.5, "lr_decay": 0.1}),
]


def network(dtype=np.float64):
    make = {"dtype": dtype, "generator": RNG(0)}
    return nn.Sequential(nn.Linear(3, 4, **make), nn.Tanh(), nn.Linear(4, 2, **make))


def give(net, theirs, rng, without=()):
    for k, (p, q) in enumerate(zip(net.parameters(), theirs.parameters(), strict=True)):
        g = None if k in without else rng.normal(size=p.shape)
        p.grad, q.grad = g, None if g is None else torch.tensor(g)


def agree(net, theirs, allowed=1e-14):
    """A few steps of numbers of size 1: some ten roundings of float64 each."""
    for p, q in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=allowed)


def test_every_public_name_has_a_twin():
    """All classes and functions of manual.optim, found there and not listed here."""
    assert {kind for kind, _ in OPTIONS} | {optim.LBFGS} == set(OPTIMIZERS)
    public = {getattr(optim, name) for name in optim.__all__}
    functions = {f for f in public if inspect.isfunction(f)}
    assert public == {
        *OPTIMIZERS,
        *SCHEDULES,
        *functions,
        optim.Optimizer,
        optim.lr_scheduler,
    }
    net = network()
    for kind in OPTIMIZERS:
        built = twin(kind(net.parameters()), twin(net).parameters())
        assert type(built) is getattr(torch.optim, kind.__name__)
    for kind, options in SCHEDULES.items():
        assert getattr(optim.lr_scheduler, kind.__name__) is kind
        optimizer = optim.SGD(net.parameters())
        built = twin(kind(optimizer, **options), twin(optimizer, twin(net).parameters()))
        assert type(built) is getattr(torch.optim.lr_scheduler, kind.__name__)
    for function in functions:
        assert twin(function) is getattr(torch.nn.utils, function.__name__)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("steps", [0, 3])
def test_the_twin_goes_on_where_the_original_stands(kind, options, steps):
    net, rng = network(), RNG(1)
    weights, biases = [[p for p in net.parameters() if p.ndim == n] for n in (2, 1)]
    groups = [{"params": weights}, {"params": biases, "lr": 0.3, "weight_decay": 0}]
    optimizer = kind(groups, lr=0.1, **options)
    for k in range(steps):
        give(net, twin(net), rng, without=(0,) if k else (0, 3))  # parameter 0 has not begun
        optimizer.step()
    theirs, _, reference = twins(net, nn.MSELoss(), optimizer)
    assert isinstance(reference, getattr(torch.optim, kind.__name__))
    for _ in range(5):
        give(net, theirs, rng)
        optimizer.step()
        reference.step()
        agree(net, theirs)


def test_the_twins_state_is_a_copy():
    net, rng = network(), RNG(2)
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    theirs, _, reference = twins(net, nn.MSELoss(), optimizer)
    give(net, theirs, rng)
    optimizer.step()
    theirs, _, reference = twins(net, nn.MSELoss(), optimizer)
    kept = [p.detach().clone() for p in theirs.parameters()]
    states = [s["exp_avg"].clone() for s in reference.state.values()]
    for _ in range(3):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(theirs.parameters(), kept, strict=True))
    assert all(
        torch.equal(s["exp_avg"], m) for s, m in zip(reference.state.values(), states, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_state_takes_the_dtype_of_the_twins_parameters(kind, dtype):
    net = network(np.longdouble)
    optimizer, x = kind(net.parameters(), lr=0.1), RNG(3).normal(size=(5, 3)).astype(np.longdouble)

    def closure():
        loss = criterion(net(x), x[:, :2].copy())
        net.backward(criterion.backward())
        return loss

    criterion = nn.MSELoss()
    optimizer.step(closure)
    reference = twin(optimizer, twin(net, dtype=dtype).parameters())
    tensors = {
        (name, v.dtype)
        for state in reference.state.values()
        for name, value in state.items()
        for v in (value if isinstance(value, list) else [value])
        if torch.is_tensor(v) and name != "step"
    }
    assert {d for _, d in tensors} == ({dtype} if optimizer.state_dict()["state"] else set())
    assert tensors or kind is optim.SGD


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("steps", [0, 2])
def test_lbfgs_goes_on_where_the_original_stands(line_search_fn, steps):
    net, rng = network(), RNG(4)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    optimizer = optim.LBFGS(
        net.parameters(), lr=0.5, max_iter=4, history_size=3, line_search_fn=line_search_fn
    )
    criterion = nn.MSELoss()

    def closure():
        loss = criterion(net(x), y)
        net.backward(criterion.backward())
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    theirs, their_criterion, reference = twins(net, criterion, optimizer)

    def their_closure():
        reference.zero_grad()
        loss = their_criterion(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        return loss

    for _ in range(3):
        loss, expected = optimizer.step(closure), reference.step(their_closure)
        assert abs(loss - expected.item()) < 1e-12
        agree(net, theirs, 1e-12)  # a direction is a sum over pairs of vectors
    own, [state] = optimizer.state_dict()["state"][0], reference.state.values()
    assert (own["func_evals"], own["n_iter"]) == (state["func_evals"], state["n_iter"])
    assert own["n_iter"] > 3 * (steps + 3)


def test_the_optimizers_options_and_order():
    net = network()
    parameters = list(net.parameters())
    groups = [
        {"params": parameters[1:], "lr": np.float32(0.5), "momentum": 0.9, "nesterov": True},
        {"params": parameters[0], "weight_decay": np.longdouble(0.25), "maximize": True},
    ]
    optimizer = optim.SGD(groups, 0.1, dampening=0)
    theirs = list(twin(net).parameters())
    built = twin(optimizer, [*theirs[1:], theirs[0]])
    for group, expected in zip(built.param_groups, optimizer.param_groups, strict=True):
        assert [tuple(p.shape) for p in group["params"]] == [p.shape for p in expected["params"]]
        assert all(group[name] == expected[name] for name in expected if name != "params")
        assert {type(group[name]) for name in ("lr", "weight_decay")} <= {float, int}
    assert built.param_groups[1]["params"][0] is theirs[0]
    with pytest.raises(ValueError, match="the optimizer's parameters have shapes"):
        twin(optimizer, theirs)
    with pytest.raises(ValueError, match="the optimizer's parameters have shapes"):
        twin(optimizer, theirs[:2])
    with pytest.raises(TypeError, match="needs the parameters of the twin network"):
        twin(optimizer)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_a_schedules_twin_goes_on_where_the_original_stands(kind, epochs):
    """Without torch's warning about scheduler.step() before optimizer.step(): it would be an
    error here."""
    net = network()
    weights, biases = [[p for p in net.parameters() if p.ndim == n] for n in (2, 1)]
    optimizer = optim.SGD([{"params": weights}, {"params": biases, "lr": 0.3}], lr=0.1)
    schedule = kind(optimizer, **SCHEDULES[kind])
    for _ in range(epochs):
        schedule.step()
    optimizer.param_groups[0]["lr"] *= 1.5
    reference = twin(
        optimizer,
        twins(net, nn.MSELoss(), optimizer)[2].param_groups[0]["params"]
        + twins(net, nn.MSELoss(), optimizer)[2].param_groups[1]["params"],
    )
    reference.param_groups[0]["lr"] = 9  # the twin brings the rates along
    built = twin(schedule, reference)
    assert built.optimizer is reference
    for _ in range(10):
        for own, theirs in zip(optimizer.param_groups, reference.param_groups, strict=True):
            assert own["lr"] == theirs["lr"]
            assert own["initial_lr"] == theirs["initial_lr"]
        assert schedule.get_last_lr() == built.get_last_lr()
        assert (schedule.last_epoch, schedule.base_lrs) == (built.last_epoch, built.base_lrs)
        schedule.step()
        built.step()


def test_what_a_schedules_twin_needs():
    net = network()
    schedule = optim.ExponentialLR(optim.SGD(net.parameters()), 0.5)
    for nothing in (None, list(twin(net).parameters())):
        with pytest.raises(TypeError, match="needs the torch optimizer"):
            twin(schedule, nothing)
    first, *rest = twin(net).parameters()
    two = torch.optim.SGD([{"params": first}, {"params": rest}])
    with pytest.raises(ValueError, match="the schedule is for 1 groups, the optimizer has 2"):
        twin(schedule, two)


def test_a_partial_keeps_its_arguments():
    own = functools.partial(optim.clip_grad_norm_, max_norm=0.5, norm_type=1)
    net = network()
    theirs = twin(net)
    give(net, theirs, RNG(5))
    norms = own(net.parameters()), twin(own)(theirs.parameters())
    assert abs(norms[0] - norms[1].item()) < 1e-13
    for p, q in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-14)
    with pytest.raises(TypeError, match="no twin is known"):
        twin(functools.partial(print))


def test_a_class_of_ones_own_has_the_twin_of_its_base():
    class Mine(optim.Adam):
        pass

    class Own(optim.Optimizer):
        pass

    class Schedule(optim.StepLR):
        pass

    net = network()
    theirs = list(twin(net).parameters())
    built = twin(Mine(net.parameters()), theirs)
    assert type(built) is torch.optim.Adam
    schedule = twin(Schedule(Mine(net.parameters()), 3), built)
    assert type(schedule) is torch.optim.lr_scheduler.StepLR
    with pytest.raises(TypeError, match=r"no twin is known for .*Own"):
        twin(Own(net.parameters(), {}), theirs)
