"""SGD against torch.optim.SGD, step by step in float64, for every combination of options."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch

from manual import nn, optim
from torch_ref import twin

RNG = np.random.default_rng
SHAPES = [(3, 2), (4,), (2, 2), (1,)]
GRID = [
    {"momentum": m, "dampening": d, "nesterov": n, "weight_decay": w, "maximize": x}
    for m, d, n, w, x in itertools.product(
        [0, 0.9], [0, 0.3], [False, True], [0, 0.05], [False, True]
    )
    if not n or (m > 0 and d == 0)
]


def described(options):
    return "-".join(f"{name}={value}" for name, value in options.items() if value) or "plain"


def network(seed, dtype):
    """The parameters of a network, in one buffer, one of them transposed."""
    rng = RNG(seed)
    net = nn.Module()
    for k, shape in enumerate(SHAPES):
        value = rng.normal(size=shape).astype(dtype)
        setattr(net, f"p{k}", nn.Parameter(np.asfortranarray(value) if k == 0 else value))
    net.flatten_parameters()
    return list(net.parameters())


def parameters(seed):
    """The parameters of a network, and their torch twins."""
    own = network(seed, np.float64)
    return own, [torch.nn.Parameter(torch.tensor(p.data)) for p in own]


def step(own, theirs, optimizers, rng, without=()):
    """The same random gradients to both sides, then one step each; gradients must stay."""
    given = []
    for k, (p, q) in enumerate(zip(own, theirs, strict=True)):
        grad = None if k in without else rng.normal(size=p.shape).astype(p.dtype)
        given.append(grad)
        p.grad, q.grad = grad, None if grad is None else torch.tensor(grad)
    for optimizer in optimizers:
        optimizer.step()
    for p, grad in zip(own, given, strict=True):
        assert (p.grad is None) if grad is None else np.array_equal(p.grad, grad)


def agree(own, theirs, tolerance=1e-12):
    """1e-12 after 100 steps: each rounds a handful of numbers of size 1 to 10, 100 × 10 eps."""
    for p, q in zip(own, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", GRID, ids=described)
def test_a_hundred_steps(options):
    own, theirs = parameters(1)
    start = [p.data.copy() for p in own]
    pair = optim.SGD(own, 0.1, **options), torch.optim.SGD(theirs, 0.1, **options)
    rng = RNG(2)
    for _ in range(100):
        step(own, theirs, pair, rng)
        agree(own, theirs)
    assert not any(np.isin(p.data, s).any() for p, s in zip(own, start, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_other_dtypes(dtype):
    """One step is a handful of roundings; ten of them stay within 100 eps of float64."""
    options = {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}
    own = network(3, dtype)
    exact = [nn.Parameter(p.data.astype(np.float64)) for p in own]
    pair = optim.SGD(own, 0.1, **options), optim.SGD(exact, 0.1, **options)
    rng = RNG(4)
    for _ in range(10):
        for p, q in zip(own, exact, strict=True):
            p.grad = rng.normal(size=p.shape).astype(dtype)
            q.grad = p.grad.astype(np.float64)
        for optimizer in pair:
            optimizer.step()
    allowed = 100 * float(max(np.finfo(dtype).eps, np.finfo(np.float64).eps))
    for p, q in zip(own, exact, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.data.astype(float), q.data, rtol=allowed, atol=allowed)
    assert all(v.dtype == dtype for _, v in pair[0].momentum_buffers())


@pytest.mark.parametrize("options", GRID, ids=described)
def test_groups_with_options_of_their_own_that_change(options):
    own, theirs = parameters(5)
    other = GRID[(GRID.index(options) + 7) % len(GRID)]

    def groups(p):
        yield {"params": [p[0], p[1]]}
        yield {"params": iter(p[2:3]), "lr": 0.3, **other}
        yield {"params": p[3], "weight_decay": 0.2}

    pair = optim.SGD(groups(own), 0.1, **options), torch.optim.SGD(groups(theirs), 0.1, **options)
    rng = RNG(6)
    for k in range(12):
        if k == 4:
            for optimizer in pair:
                optimizer.param_groups[1]["lr"] = 0.01
                optimizer.param_groups[0]["momentum"] = 0.5
                optimizer.param_groups[2]["weight_decay"] = 0
        if k == 8:
            for optimizer in pair:
                optimizer.param_groups[0]["momentum"] = 0
                optimizer.param_groups[0]["nesterov"] = False
        if k == 10:
            for optimizer in pair:
                optimizer.param_groups[0]["momentum"] = 0.9
        step(own, theirs, pair, rng)
        agree(own, theirs)


@pytest.mark.parametrize("options", GRID, ids=described)
def test_parameters_without_a_gradient_are_left_alone(options):
    own, theirs = parameters(7)
    pair = optim.SGD(own, 0.1, **options), torch.optim.SGD(theirs, 0.1, **options)
    rng = RNG(8)
    for without in [(0, 2), (2,), (), (1, 3), (0, 1, 2, 3), (0,), ()]:
        before = [p.data.copy() for p in own]
        step(own, theirs, pair, rng, without)
        agree(own, theirs)
        for k, (p, kept) in enumerate(zip(own, before, strict=True)):
            assert np.array_equal(p.data, kept) == (k in without)


@pytest.mark.parametrize("options", GRID, ids=described)
def test_the_twin_goes_on_where_the_original_stands(options):
    own, theirs = parameters(9)
    groups = [{"params": own[:3]}, {"params": own[3:], "lr": 0.3}]
    optimizer, rng = optim.SGD(groups, 0.1, **options), RNG(10)
    for without in [(1,), (1, 3), (1,)]:  # parameter 1 has not begun
        step(own, theirs, [optimizer], rng, without)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in own]
    reference = twin(optimizer, theirs)
    assert isinstance(reference, torch.optim.SGD)
    buffers = list(optimizer.momentum_buffers())
    assert [p.shape for p, _ in buffers] == ([(3, 2), (2, 2), (1,)] if options["momentum"] else [])
    for _, v in buffers:
        v[...] = np.nan  # copies: nothing happens
    for _ in range(5):
        step(own, theirs, [optimizer, reference], rng)
        agree(own, theirs)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_network_and_optimizer_trains_on_bitwise_identically(duplicate):
    rng = RNG(11)
    net = nn.Sequential(nn.Linear(3, 4, generator=rng), nn.Tanh(), nn.Linear(4, 2, generator=rng))
    optimizer = optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    x, y = rng.normal(size=(2, 6, 3)).astype(np.float32)
    criterion, y = nn.MSELoss(), y[:, :2].copy()

    def train(net, optimizer):
        for _ in range(5):
            criterion(net(x), y)
            net.backward(criterion.backward())
            optimizer.step()
        return net.state_dict()

    train(net, optimizer)
    kept = net.state_dict()
    both = duplicate((net, optimizer))
    copied = train(*both)
    assert all(np.array_equal(kept[name], value) for name, value in net.state_dict().items())
    trained = train(net, optimizer)
    assert all(np.array_equal(copied[name], value) for name, value in trained.items())
    assert not any(np.array_equal(kept[name], value) for name, value in trained.items())


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *itertools.product(["lr", "momentum", "weight_decay"], [-0.1, np.nan, np.inf]),
        *itertools.product(["dampening"], [np.nan, np.inf, -np.inf]),  # as in torch, −0.1 is good
    ],
)
def test_bad_numbers(name, bad):
    own, _ = parameters(0)
    with pytest.raises(ValueError, match=f"SGD: {name} must be .*got {bad!r}"):
        optim.SGD(own, **{name: bad})
    with pytest.raises(ValueError, match=f"SGD: {name} must be .*got {bad!r}"):
        optim.SGD([{"params": own, name: bad}])
    optimizer = optim.SGD(own)
    optimizer.param_groups[0][name] = bad
    with pytest.raises(ValueError, match=f"SGD: {name} must be .*got {bad!r}"):
        optimizer.step()


def test_bad_arguments():
    own, theirs = parameters(0)
    for options in ({"momentum": 0}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov needs momentum > 0 and dampening 0"):
            optim.SGD(own, nesterov=True, **options)
    for nothing in ([], iter(()), nn.Tanh().parameters()):
        with pytest.raises(ValueError, match="no parameters"):
            optim.SGD(nothing)
    with pytest.raises(TypeError, match="got one Parameter"):
        optim.SGD(own[0])
    for bad in ([*own, own[0]], [{"params": own}, {"params": own[1]}]):
        with pytest.raises(ValueError, match=r"shape \(\d.*\) was given twice"):
            optim.SGD(bad)
    for bad, kind in [([own[0].data], "ndarray"), (theirs, "Parameter"), ([own[0], {}], "dict")]:
        with pytest.raises(TypeError, match=f"updates Parameters, got {kind}"):
            optim.SGD(bad)
    with pytest.raises(TypeError, match="dict"):
        optim.SGD([{"params": own[0]}, own[1]])
    for bad in ({"params": own, "learning_rate": 1}, {"lr": 1}):
        with pytest.raises(ValueError, match="has 'params' and any of lr, momentum"):
            optim.SGD([bad])
    for bad in ([], [own[0], nn.Parameter(np.ones(2, np.float32))]):
        with pytest.raises(ValueError, match="all of one dtype"):
            optim.SGD([{"params": bad}])


def test_defaults_are_torchs():
    own, theirs = parameters(0)
    [group], [reference] = optim.SGD(own).param_groups, torch.optim.SGD(theirs).param_groups
    assert all(reference[name] == value for name, value in group.items() if name != "params")


def test_a_converted_network_keeps_its_momentum():
    net = nn.Linear(3, 2, generator=np.random.default_rng(0))
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for p in net.parameters():
        p.grad = np.full(p.shape, 1 / 3, np.float32)
    optimizer.step()
    net.to(np.float64)
    for p in net.parameters():
        p.grad = np.full(p.shape, 1e-12)
    optimizer.step()
    for _, v in optimizer.momentum_buffers():
        assert v.dtype == np.float64
        np.testing.assert_array_equal(v, 0.9 * np.float64(np.float32(1 / 3)) + 1e-12)


@pytest.mark.parametrize("name", ["lr", "momentum", "dampening", "weight_decay"])
def test_options_must_be_numbers(name):
    with pytest.raises(TypeError, match=f"{name} must be a number, got '0.1'"):
        optim.SGD(nn.Linear(3, 2).parameters(), **{name: "0.1"})
