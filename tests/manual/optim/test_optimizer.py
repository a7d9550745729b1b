"""What all optimizers share: groups, options, closures, the state dict, copies, conversions."""

import copy
import inspect
import itertools
import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch

from manual import nn, optim
from manual.optim.optimizer import GroupState

RNG = np.random.default_rng
OPTIONS = {
    "SGD": {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "Adam": {"amsgrad": True, "weight_decay": 0.01},
    "AdamW": {"betas": (0.5, 0.6)},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adagrad": {"initial_accumulator_value": 0.3, "lr_decay": 0.1},
}
STATE = {
    "SGD": ["momentum_buffer"],
    "Adam": ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "AdamW": ["step", "exp_avg", "exp_avg_sq"],
    "RMSprop": ["step", "square_avg", "momentum_buffer", "grad_avg"],
    "Adagrad": ["step", "sum"],
}
KINDS = [*OPTIONS, "LBFGS"]
POSITIVE = {
    "SGD": ["lr", "momentum", "weight_decay"],
    "Adam": ["lr", "eps", "weight_decay"],
    "AdamW": ["lr", "eps", "weight_decay"],
    "RMSprop": ["lr", "alpha", "eps", "weight_decay", "momentum"],
    "Adagrad": ["lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"],
}


def parameters(dtype=np.float64):
    rng = RNG(0)
    return [nn.Parameter(rng.normal(size=shape).astype(dtype)) for shape in [(3, 2), (4,), (1,)]]


def groups_of(p):
    return [{"params": p[:2]}, {"params": p[2:], "lr": 0.3, "weight_decay": 0.0}]


def give(own, seed=1, without=()):
    rng = RNG(seed)
    for k, p in enumerate(own):
        p.grad = None if k in without else rng.normal(size=p.shape).astype(p.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_torchs(kind):
    """All that are no choice of a kernel: name, order, default, and by keyword only."""
    kernels = {"foreach", "fused", "capturable", "differentiable"}
    own = inspect.signature(getattr(optim, kind)).parameters.values()
    theirs = inspect.signature(getattr(torch.optim, kind)).parameters.values()
    assert [(p.name, p.default) for p in own] == [
        (p.name, p.default) for p in theirs if p.name not in kernels
    ]
    # Behind an argument that is not taken, a position would mean something else.
    taken = list(itertools.takewhile(lambda p: p.name not in kernels, theirs))
    assert [p.name for p in own if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        p.name for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def test_every_optimizer_is_here():
    public = [getattr(optim, name) for name in optim.__all__]
    classes = [kind for kind in public if inspect.isclass(kind)]
    found = {kind.__name__ for kind in classes if issubclass(kind, optim.Optimizer)}
    assert found == {*KINDS, "Optimizer"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_closure_is_called_first_and_its_loss_returned(kind):
    [p, *_] = parameters()
    optimizer, calls = getattr(optim, kind)([p], lr=0.01), []

    def closure():
        calls.append(p.data.copy())
        p.grad = 2 * p.data
        return (p.data**2).sum()

    start = p.data.copy()
    assert optimizer.step(closure) == (start**2).sum()
    np.testing.assert_array_equal(calls[0], start)
    assert len(calls) == 1 or kind == "LBFGS"
    assert (p.data**2).sum() < (start**2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_zero_grad(kind):
    own = parameters()
    optimizer = getattr(optim, kind)(own)
    give(own, without=(1,))
    optimizer.zero_grad(set_to_none=False)
    assert own[1].grad is None
    assert all(not p.grad.any() for p in (own[0], own[2]))
    optimizer.zero_grad()
    assert [p.grad for p in own] == [None] * 3


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_group_added_later_is_as_one_given_at_once(kind):
    pairs = []
    for later in (False, True):
        own = parameters()
        first, second = groups_of(own)
        optimizer = getattr(optim, kind)([first] if later else [first, second], **OPTIONS[kind])
        if later:
            optimizer.add_param_group(second)
        pairs.append((own, optimizer))
    for seed in range(3):
        for own, optimizer in pairs:
            give(own, seed)
            optimizer.step()
    for p, q in zip(pairs[0][0], pairs[1][0], strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert pairs[1][1].param_groups[1]["lr"] == 0.3
    assert second.keys() == {"params", "lr", "weight_decay"}  # the caller's dict stays as it is


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_layout_of_the_state_dict(kind):
    own = parameters()
    optimizer = getattr(optim, kind)(groups_of(own), **OPTIONS[kind])
    give(own, without=(1,))
    optimizer.step()
    optimizer.step()
    found = optimizer.state_dict()
    assert found.keys() == {"state", "param_groups"}
    assert [group["params"] for group in found["param_groups"]] == [[0, 1], [2]]
    assert [group["lr"] for group in found["param_groups"]] == [optimizer.defaults["lr"], 0.3]
    assert found["state"].keys() == ({0, 1, 2} if kind == "Adagrad" else {0, 2})
    for i in (0, 2):
        assert list(found["state"][i]) == STATE[kind]
        assert found["state"][i].get("step", 2) == 2
        for name in set(STATE[kind]) - {"step"}:
            assert found["state"][i][name].shape == own[i].shape
            found["state"][i][name][...] = np.nan  # a copy: nothing happens
    found["param_groups"][0]["lr"] = 99
    optimizer.step()
    assert all(np.isfinite(p.data).all() for p in own)
    assert optimizer.param_groups[0]["lr"] != 99


@pytest.mark.parametrize("from_torch", [False, True])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("kind", OPTIONS)
def test_loading_a_state_goes_on_from_it(pair, kind, steps, from_torch):
    """Also torch's own, which has options of its kernels besides; bit for bit from ours."""
    sides = pair(3).start(
        kind, lambda p: [{"params": p[:3]}, {"params": p[3:], "lr": 0.3}], **OPTIONS[kind]
    )
    for k in range(steps):
        sides.step(without=(1, 3) if k else (1,))
    state = sides.optimizers[from_torch].state_dict()
    fresh = [nn.Parameter(p.data) for p in sides.own]
    loaded = getattr(optim, kind)([{"params": fresh[:3]}, {"params": fresh[3:]}], lr=99)
    loaded.load_state_dict(copy.deepcopy(state))
    assert [group["lr"] for group in loaded.param_groups] == [
        group["lr"] for group in sides.optimizers[0].param_groups
    ]
    for _ in range(3):
        sides.step()
        for p, q in zip(fresh, sides.own, strict=True):
            p.grad = q.grad
        loaded.step()
        allowed = 1e-14 if from_torch else 0
        for p, q in zip(fresh, sides.own, strict=True):
            np.testing.assert_allclose(p.data, q.data, rtol=0, atol=allowed)


def test_loading_converts_the_dtype_and_copies():
    own = parameters()
    optimizer = optim.SGD(own, momentum=0.9)
    give(own)
    optimizer.step()
    state = optimizer.state_dict()
    narrow = parameters(np.float32)
    loaded = optim.SGD(narrow, momentum=0.9)
    loaded.load_state_dict(state)
    for i, entry in loaded.state_dict()["state"].items():
        assert entry["momentum_buffer"].dtype == np.float32
        expected = state["state"][i]["momentum_buffer"].astype(np.float32)
        np.testing.assert_array_equal(entry["momentum_buffer"], expected)
        state["state"][i]["momentum_buffer"][...] = np.nan
    assert np.isfinite(loaded.state_dict()["state"][0]["momentum_buffer"]).all()


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_state_in_longdouble_keeps_its_digits(kind):
    own = parameters(np.longdouble)
    optimizer = getattr(optim, kind)(own, **OPTIONS[kind])
    for p in own:
        p.grad = np.full(p.shape, 1 / np.longdouble(3))
    optimizer.step()
    state = optimizer.state_dict()["state"]
    loaded = getattr(optim, kind)(own, **OPTIONS[kind])
    loaded.load_state_dict(optimizer.state_dict())
    for i, entry in loaded.state_dict()["state"].items():
        assert all(np.array_equal(entry[name], value) for name, value in state[i].items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("state"), "needs 'state' and 'param_groups'"),
        (lambda s: s["param_groups"].pop(), r"groups of \[2\] parameters, expected \[2, 1\]"),
        (lambda s: s["param_groups"][0]["params"].pop(), r"groups of \[1, 1\]"),
        (lambda s: s["param_groups"][1].pop("lr"), "has the options"),
        (lambda s: s["param_groups"][1].update(more=1), "has the options .*more"),
        (lambda s: s["param_groups"][1].update(lr=-1), "lr must be a finite number >= 0"),
        (lambda s: s["state"].update({7: {}}), r"a state for \[7\]"),
        (lambda s: s["state"][2].update(more=1), "has .*'more'.* for parameter 0 of a group"),
        (lambda s: s["state"][0].pop("exp_avg"), "expected .*'exp_avg'"),
        (lambda s: s["state"][0].pop("step"), "expected .*'step'"),
        (lambda s: s["state"][0].update(step=-1), "step must be"),
        (lambda s: s["state"][0].update(step=float("nan")), "step must be"),
        (lambda s: s["state"][2].update(exp_avg=np.zeros(2)), r"exp_avg .* has shape \(2,\)"),
        (lambda s: s["state"][0].update(exp_avg_sq=np.zeros((2, 3))), r"shape \(2, 3\)"),
        (lambda s: s["state"][2].update(exp_avg=np.zeros(1, complex)), "complex128"),
    ],
)
def test_bad_states_change_nothing(change, message):
    own = parameters()
    optimizer = optim.Adam(groups_of(own))
    give(own)
    optimizer.step()
    before, bad = optimizer.state_dict(), optimizer.state_dict()
    bad["param_groups"][0]["lr"] = 0.7
    bad["state"][0]["exp_avg"][...] = 5
    change(bad)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(bad)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, entry in before["state"].items():
        assert all(np.array_equal(after["state"][i][name], value) for name, value in entry.items())


def test_the_state_of_another_optimizer_is_refused():
    own = parameters()
    for kind, other in itertools.permutations(["SGD", "Adam", "RMSprop", "Adagrad"], 2):
        with pytest.raises(ValueError, match=f"{kind}: the state dict has the options"):
            getattr(optim, kind)(own).load_state_dict(getattr(optim, other)(own).state_dict())


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))],
    ids=["deepcopy", "pickle"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_network_and_optimizer_trains_on_bitwise_identically(kind, duplicate):
    rng = RNG(11)
    net = nn.Sequential(nn.Linear(3, 4, generator=rng), nn.Tanh(), nn.Linear(4, 2, generator=rng))
    optimizer = getattr(optim, kind)(net.parameters(), 0.1, **OPTIONS.get(kind, {}))
    x, y = rng.normal(size=(2, 6, 3)).astype(np.float32)
    criterion, y = nn.MSELoss(), y[:, :2].copy()

    def train(net, optimizer):
        def closure():
            loss = criterion(net(x), y)
            net.backward(criterion.backward())
            return loss

        for _ in range(5):
            optimizer.step(closure)
        return net.state_dict()

    train(net, optimizer)
    kept = net.state_dict()
    both = duplicate((net, optimizer))
    copied = train(*both)
    assert all(np.array_equal(kept[name], value) for name, value in net.state_dict().items())
    trained = train(net, optimizer)
    assert all(np.array_equal(copied[name], value) for name, value in trained.items())
    assert not any(np.array_equal(kept[name], value) for name, value in trained.items())


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_converted_network_keeps_its_state(kind):
    net = nn.Linear(3, 2, generator=RNG(0))
    optimizer = getattr(optim, kind)(net.parameters(), lr=0.1, **OPTIONS[kind])
    give(list(net.parameters()))
    optimizer.step()
    before = optimizer.state_dict()["state"]
    net.to(np.float64)
    after = optimizer.state_dict()["state"]
    for i, entry in before.items():
        for name in set(entry) - {"step"}:
            assert (entry[name].dtype, after[i][name].dtype) == (np.float32, np.float64)
            np.testing.assert_array_equal(entry[name], after[i][name])
    give(list(net.parameters()))
    optimizer.step()
    assert all(
        entry[name].dtype == np.float64
        for entry in optimizer.state_dict()["state"].values()
        for name in set(entry) - {"step"}
    )


def test_a_momentum_after_a_conversion():
    net = nn.Linear(3, 2, generator=RNG(0))
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for p in net.parameters():
        p.grad = np.full(p.shape, 1 / 3, np.float32)
    optimizer.step()
    net.to(np.float64)
    for p in net.parameters():
        p.grad = np.full(p.shape, 1e-12)
    optimizer.step()
    for entry in optimizer.state_dict()["state"].values():
        v = entry["momentum_buffer"]
        np.testing.assert_array_equal(v, 0.9 * np.float64(np.float32(1 / 3)) + 1e-12)


@pytest.mark.parametrize("number", [np.float64, np.float32, np.longdouble])
@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_are_numpys_numbers_do_not_change_the_dtype(kind, number):
    pairs = []
    for make in (float, number):
        own = parameters(np.float32)
        options = {
            name: tuple(map(make, value)) if name == "betas" else make(value)
            for name, value in {**OPTIONS[kind], "lr": 0.25}.items()
            if not isinstance(value, bool)
        }
        pairs.append((own, getattr(optim, kind)(own, **options)))
    for own, optimizer in pairs:
        give(own)
        optimizer.step()
        optimizer.step()
        states = optimizer.state_dict()["state"].values()
        arrays = [v for entry in states for name, v in entry.items() if name != "step"]
        assert {v.dtype for v in arrays} == {np.dtype(np.float32)}
    for p, q in zip(pairs[0][0], pairs[1][0], strict=True):
        if number is not np.float32:  # whose 0.9 is another number
            np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [
        *(
            (kind, name, bad)
            for kind, names in POSITIVE.items()
            for name, bad in itertools.product(names, [-0.1, np.nan, np.inf])
        ),
        *(("SGD", "dampening", bad) for bad in (np.nan, np.inf, -np.inf)),  # −0.1 is good in torch
        *(("Adam", "betas", bad) for bad in [(-0.1, 0.9), (0.9, 1.0), (1.0, 0.9), (0.9, np.nan)]),
        *(("AdamW", "betas", bad) for bad in [(0.9, -0.1), (0.9,), (0.9, 0.9, 0.9), 0.9]),
    ],
)
def test_bad_numbers(kind, name, bad):
    own = parameters()
    message = rf"{kind}: {name}(\[[01]\])? must be "
    with pytest.raises(ValueError, match=message):
        getattr(optim, kind)(own, **{name: bad})
    with pytest.raises(ValueError, match=message):
        getattr(optim, kind)([{"params": own, name: bad}])
    optimizer = getattr(optim, kind)(own)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters()[0], name: bad})
    assert len(optimizer.param_groups) == 1
    give(own)
    before = [p.data.copy() for p in own]
    optimizer.param_groups[0][name] = bad
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert all(np.array_equal(p.data, b) for p, b in zip(own, before, strict=True))


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in POSITIVE.items() for name in names]
)
def test_options_must_be_numbers(kind, name):
    with pytest.raises(TypeError, match=f"{kind}: {name} must be a number, got '0.1'"):
        getattr(optim, kind)(parameters(), **{name: "0.1"})
    with pytest.raises(TypeError, match=f"{kind}: {name} must be a number, got array"):
        getattr(optim, kind)(parameters(), **{name: np.array([0.1])})


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind):
    make, own = getattr(optim, kind), parameters()
    theirs = [torch.nn.Parameter(torch.ones(2))]
    for nothing in ([], iter(()), nn.Tanh().parameters()):
        with pytest.raises(ValueError, match="no parameters"):
            make(nothing)
    with pytest.raises(TypeError, match="got one Parameter"):
        make(own[0])
    with pytest.raises(ValueError, match=r"shape \(3, 2\) was given twice"):
        make([*own, own[0]])
    with pytest.raises(TypeError, match="need an order that stays, got a set"):
        make([{"params": set(own)}])
    for bad, got in [([own[0].data], "ndarray"), (theirs, "Parameter"), ([own[0], {}], "dict")]:
        with pytest.raises(TypeError, match=f"updates Parameters, got {got}"):
            make(bad)
    for bad in ({"params": own, "learning_rate": 1}, {"lr": 1}):
        with pytest.raises(ValueError, match="has 'params' and any of lr, "):
            make([bad])
    for bad in ([], [own[0], nn.Parameter(np.ones(2, np.float32))]):
        with pytest.raises(ValueError, match="all of one dtype"):
            make([{"params": bad}])
    if kind != "LBFGS":
        with pytest.raises(ValueError, match="was given twice"):
            make([{"params": own}, {"params": own[1]}])
        with pytest.raises(TypeError, match="a parameter group is a dict"):
            make([{"params": own[0]}, own[1]])


def test_nesterov_needs_momentum():
    own = parameters()
    for options in ({"momentum": 0}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov needs momentum > 0 and dampening 0"):
            optim.SGD(own, nesterov=True, **options)


@pytest.mark.parametrize("options", [{"momentum": 0}, {"dampening": 0.3}])
def test_a_group_may_spare_its_parameters_nesterovs_momentum(options):
    own = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in own]
    pair = [
        make([{"params": ps[:1]}, {"params": ps[1:], **options}], 0.1, momentum=0.9, nesterov=True)
        for make, ps in ((optim.SGD, own), (torch.optim.SGD, theirs))
    ]
    for step in range(3):
        give(own)
        for p, q in zip(own, theirs, strict=True):
            q.grad = torch.tensor(p.grad) + step
            p.grad = p.grad + step
        for optimizer in pair:
            optimizer.step()
    for p, q in zip(own, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-13, atol=1e-13)


def test_an_optimizer_of_ones_own():
    class Signs(optim.Optimizer):
        _buffers = ("last",)
        _limits: ClassVar = {"lr": (0, 1)}

        def __init__(self, params, lr=0.5):
            super().__init__(params, {"lr": lr})

        def _update(self, theta, grad, state, step, group):
            theta -= group["lr"] * np.sign(grad) * step
            state["last"][...] = grad

    own = parameters()
    start = [p.data.copy() for p in own]
    optimizer = Signs(own)
    give(own, without=(1,))
    optimizer.step()
    optimizer.step()
    np.testing.assert_allclose(own[0].data, start[0] - 1.5 * np.sign(own[0].grad), rtol=1e-15)
    assert np.array_equal(own[1].data, start[1])
    np.testing.assert_array_equal(optimizer.state_dict()["state"][0]["last"], own[0].grad)
    with pytest.raises(ValueError, match="Signs: lr must be a finite number >= 0 and < 1, got 1"):
        Signs(own, 1)
    give(own)
    with pytest.raises(NotImplementedError, match="Optimizer has no _update"):
        optim.Optimizer(own, {}).step()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_what_an_optimizer_of_ones_own_is_given(dtype):
    """The options with numbers as Python's (or longdoubles), all else as it is; a state in the
    parameters' dtype."""
    given = []

    class Own(optim.Optimizer):
        _buffers = ("last",)

        def _update(self, theta, grad, state, step, group):
            given.append((state["last"].dtype, step, group))

    own = parameters(dtype)
    rate, texts = np.float32(0.5), {"mode": "fast", "decoupled": False, "limit": None}
    optimizer = Own(own, {"lr": rate, "betas": [rate, 1], **texts})
    give(own)
    optimizer.step()
    number = np.longdouble if dtype is np.longdouble else float
    options = {"lr": number(0.5), "betas": (number(0.5), number(1)), **texts}
    assert given
    for dtype_of_state, step, group in given:
        assert (dtype_of_state, step, group) == (dtype, 1, options)
        assert [type(v) for v in (group["lr"], *group["betas"])] == [number] * 3
        assert group["decoupled"] is False


def test_a_group_state_is_one_buffer():
    """One pass for all that lies together: this is what makes an update quick."""
    own = parameters()
    state = GroupState(own)
    [buffer] = state.prepare(("sum",), np.float64).values()
    assert buffer.shape == (11,)
    assert state.prepare(("sum",), np.float64)["sum"] is buffer
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    optimizer, calls = optim.Adam(net.parameters()), []
    optimizer._update = lambda theta, *rest: calls.append(theta.size)
    for p in net.parameters():
        p.grad = np.ones(p.shape, np.float32)
    optimizer.step()
    assert calls == [17]


CHANGES = {
    "nothing": lambda net, optimizer: None,
    "a gradient is forgotten": lambda net, optimizer: setattr(net[0].bias, "grad", None),
    "all are forgotten": lambda net, optimizer: optimizer.zero_grad(),
    "all are zeros": lambda net, optimizer: optimizer.zero_grad(set_to_none=False),
    "moved into another buffer": lambda net, optimizer: nn.Sequential(nn.Linear(2, 2), net),
    "in float64": lambda net, optimizer: net.to(np.float64),
    "another order": lambda net, optimizer: nn.Sequential(net[2], net[0]),
    "another option": lambda net, optimizer: optimizer.param_groups[0].update(lr=0.25),
    "its own state": lambda net, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
    "a group's list": lambda net, optimizer: optimizer.param_groups[0].update(
        params=list(optimizer.param_groups[0]["params"])
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_change_between_steps_is_noticed(kind, change):
    """A step begins from where the last one found the parameters; one that looks for them every
    time does the same, bit for bit."""
    found = []
    for looks_every_time in (False, True):
        net = nn.Sequential(nn.Linear(2, 3, generator=RNG(0)), nn.Tanh(), nn.Linear(3, 2))
        net[2].load_state_dict({"weight": np.ones((2, 3)), "bias": np.zeros(2)})
        optimizer = getattr(optim, kind)(net.parameters(), lr=0.1, **OPTIONS.get(kind, {}))
        rng, seen = RNG(1), []
        for step in range(6):
            if step == 3:
                CHANGES[change](net, optimizer)
            for p in net.parameters() if step != 3 else ():
                p.grad = rng.normal(size=p.shape).astype(p.dtype)
            if looks_every_time:
                optimizer._states[0].arrangement = None
            optimizer.step()
            seen += [p.data.copy() for p in net.parameters()]
        found.append(seen)
    for mine, expected in zip(*found, strict=True):
        assert np.array_equal(mine, expected)
    assert not np.array_equal(found[0][0], found[0][-4])


def test_the_parameters_are_looked_for_once():
    own = parameters()
    optimizer = optim.Adam(own, lr=0.1)
    give(own)
    optimizer.step()
    pieces = optimizer._states[0].pieces
    optimizer.step()
    assert optimizer._states[0].pieces is pieces
    nn.Linear(2, 2)  # anybody's new parameter
    optimizer.step()
    assert optimizer._states[0].pieces is not pieces


def test_a_step_that_is_interrupted_while_it_looks_leaves_nothing_behind(monkeypatch):
    own = parameters()
    optimizer = optim.SGD(own, lr=0.1)
    give(own)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    for name in ("_needed", "_look_at_options"):
        with monkeypatch.context() as patch:
            patch.setattr(optimizer, name, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                optimizer.step()
    before = [p.data.copy() for p in own]
    optimizer.step()
    assert all((p.data != data).all() for p, data in zip(own, before, strict=True))
    assert set(optimizer.state_dict()["state"]) == {0, 1, 2}


def test_a_pickle_of_an_optimizer_has_every_number_once():
    own = [nn.Parameter(np.ones(5000)) for _ in range(2)]
    optimizer = optim.SGD(own, lr=0.1, momentum=0.9)
    give(own)
    optimizer.step()
    arrays = 3 * 2 * 5000 * 8  # values, gradients, momentum
    assert len(pickle.dumps(optimizer)) < 1.1 * arrays


def test_a_momentum_that_begins_later():
    own = parameters()
    start = [p.data.copy() for p in own]
    optimizer = optim.SGD(own, lr=0.5)
    give(own)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.5
    for _ in range(2):
        optimizer.step()
    for p, data in zip(own, start, strict=True):  # the velocities are g, g and 1.5 g
        np.testing.assert_allclose(p.data, data - 0.5 * 3.5 * p.grad, rtol=1e-14, atol=1e-14)


def test_a_group_with_another_number_of_parameters_is_refused():
    *own, other = parameters()
    optimizer = optim.SGD(own, lr=0.1)
    give([*own, other])
    optimizer.step()
    optimizer.param_groups[0]["params"].append(other)
    with pytest.raises(ValueError, match="SGD: a group has 3 parameters now, and had 2"):
        optimizer.step()


def test_options_are_looked_at_once_and_after_a_conversion():
    p = nn.Parameter(np.ones(3))
    p.grad = np.ones(3)
    optimizer, checked = optim.Adam([p], lr=0.1), []
    optimizer._check = checked.append
    for _ in range(3):
        optimizer.step()
    assert len(checked) == 1
    p.to(np.longdouble)
    options = []
    optimizer._update = lambda *given: options.append(given[-1])
    optimizer.step()
    assert isinstance(options[0]["lr"], np.longdouble)  # or 1 − β would be as precise as float64
    assert len(checked) == 2


def test_an_option_is_checked_whenever_it_has_changed_even_in_place():
    p = nn.Parameter(np.ones(3))
    p.grad = np.ones(3)
    optimizer = optim.Adam([p], betas=[0.9, 0.999])
    optimizer.step()
    betas = optimizer.param_groups[0]["betas"]
    betas[0] = 0.5
    before = p.data.copy()
    optimizer.step()
    other = nn.Parameter(np.ones(3))
    other.grad = np.ones(3)
    expected = optim.Adam([other], betas=[0.9, 0.999])
    expected.step()
    expected.param_groups[0]["betas"] = (0.5, 0.999)
    expected.step()
    assert np.array_equal(p.data, other.data)
    assert not np.array_equal(p.data, before)
    betas[1] = 2
    with pytest.raises(ValueError, match=r"betas\[1\]"):
        optimizer.step()
