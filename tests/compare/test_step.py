"""A step as it is in training: what no layer by itself shows, and trajectories."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from compare import EquivalenceError, assert_equivalent, compare
from compare.cases import cases
from compare.judge import COLUMNS
from compare.propagation import Bounds
from compare.sides import manual_run, torch_run
from compare.step import Sides, paired
from compare.trace import Run, Tensor
from manual import nn, optim

DTYPES = [np.float64, np.float32]


# Every instance by itself is right, and so is every layer fed with torch's values.


def lent(value, lender):
    """One array of the class, with this value, which the next of that shape overwrites."""
    key = value.shape, value.dtype
    array = lender.arrays.setdefault(key, np.empty_like(value))
    array[...] = value
    return array


class OneBuffer(nn.Tanh):
    """Returns what the next forward of any instance overwrites."""

    arrays = {}  # noqa: RUF012

    def forward(self, x):
        return lent(super().forward(x), OneBuffer)


class OneGradient(nn.Tanh):
    """Its backward returns what the next backward of any instance overwrites."""

    arrays = {}  # noqa: RUF012

    def backward(self, dy):
        return lent(super().backward(dy), OneGradient)


class BiasOnlyOnTheWay(nn.Linear):
    """Its bias has a gradient only where dx is asked for, too."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.bias.grad = dy.sum(0)
        return dx

    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad = None


class ZeroBias(BiasOnlyOnTheWay):
    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad = np.zeros_like(self.bias.data)


class Accumulates(nn.Linear):
    """As in torch, where there is a gradient already; but nobody sets it to zero here."""

    def backward_parameters(self, dy):
        before = self.weight.grad
        before = 0 if before is None else before.copy()
        super().backward_parameters(dy)
        self.weight.grad = self.weight.grad + before


class OfTheClass(nn.Tanh):
    """What forward keeps belongs to every instance."""

    kept = None

    def forward(self, x):
        type(self).kept = super().forward(x)
        return self.kept

    def backward(self, dy):
        return dy * (1 - self.kept**2)


class OnlyOne(OfTheClass):
    """Of which a network has one."""


class SkipsInTraining(nn.Sequential):
    def backward_parameters(self, dy):
        for module in list(self)[:1:-1]:
            dy = module.backward(dy)
        self[0].backward_parameters(dy)


class LazyInTraining(nn.Sequential):
    """As fast as can be."""

    def backward_parameters(self, dy):
        for module in list(self)[:0:-1]:
            dy = module.backward(dy)


def net_of(dtype, activation=nn.Tanh, linear=nn.Linear, net=nn.Sequential):
    g = np.random.default_rng(1)

    def layer(kind=nn.Linear):
        return kind(4, 4, dtype=dtype, generator=g)

    made = net(
        *(layer(linear), activation(), layer(), activation()),
        *(nn.Residual(nn.Sequential(activation(), layer())), activation()),
    )
    x, y = (g.normal(size=(6, 4)).astype(dtype) for _ in range(2))
    return made, nn.MSELoss(), x, y


END = "(end to end)"
TRAINED = "(backward_parameters)"
WHOLE = {
    "outputs in one buffer": ({"activation": OneBuffer}, f"activation.1 {END}", "mismatch"),
    "gradients in one buffer": (
        {"activation": OneGradient},
        f"d_activation.3 {END}",
        "mismatch",
    ),
    "kept by the class": (
        {"linear": lambda *args, **options: nn.Sequential(nn.Linear(*args, **options), OnlyOne())},
        f"d_activation.0.0 {END}",
        "mismatch",
    ),
    "bias forgotten in training": (
        {"linear": BiasOnlyOnTheWay},
        f"grad.0.bias {TRAINED}",
        "nonfinite",
    ),
    "gradient added to the last step's": (
        {"linear": Accumulates},
        f"grad.0.weight {TRAINED}",
        "nonfinite",
    ),
    "bias zero in training": ({"linear": ZeroBias}, f"grad.0.bias {TRAINED}", "mismatch"),
    "a layer skipped in training": (
        {"net": SkipsInTraining},
        f"grad.0.weight {TRAINED}",
        "mismatch",
    ),
    "the first layer left out in training": (
        {"net": LazyInTraining},
        f"grad.0.weight {TRAINED}",
        "nonfinite",
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", WHOLE)
def test_what_no_layer_shows_is_caught_end_to_end(mistake, dtype, only):
    parts, row, verdict = WHOLE[mistake]
    comparison = compare(*net_of(dtype, **parts))
    assert only(comparison) == (row, verdict, "manual")
    assert row in str(comparison)


class Counting(nn.Tanh):
    """Right only in its first forward: of this instance, or (`everywhere`) of all."""

    everywhere = False
    calls = 0

    def forward(self, x):
        if self.everywhere:
            Counting.calls += 1
        else:
            self.calls = self.calls + 1
        return super().forward(x) * (1 if self.calls == 1 else x.dtype.type(1.01))


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(Counting, "calls", 0)
    return Counting


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_second_forward_that_differs_is_caught(counting, dtype, first):
    net, *given = net_of(dtype)
    net = nn.Sequential(net[0], counting(), net[2])
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    comparison = compare(net, *given, optimizer=optimizer, steps=3)
    assert first(comparison) == ("activation.1", "mismatch", "manual")
    assert comparison.failures.iloc[0].step == 2


def test_a_second_forward_of_another_copy_that_differs_is_caught(monkeypatch, counting, first):
    monkeypatch.setattr(counting, "everywhere", True)
    net, *given = net_of(np.float64)
    comparison = compare(nn.Sequential(net[0], counting(), net[2]), *given)
    assert first(comparison) == (f"activation.1 {END}", "mismatch", "manual")


def test_what_raises_end_to_end_alone_is_named(monkeypatch, first):
    calls = []

    def only_once(self, x):
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("once is enough")
        return forward(self, x)

    net, *given = net_of(np.float64)
    net = nn.Sequential(net[0], nn.Tanh(), net[2])
    forward = nn.Tanh.forward
    monkeypatch.setattr(nn.Tanh, "forward", only_once)
    comparison = compare(net, *given)
    assert first(comparison) == (f"activation.1 {END}", "missing", "manual")
    assert "manual raised ValueError: once is enough" in str(comparison)


def test_what_a_layer_shows_is_not_said_twice(monkeypatch, only):
    monkeypatch.setattr(nn.MSELoss, "forward", wrong_loss)
    assert only(compare(*net_of(np.float64))) == ("loss", "mismatch", "manual")


def wrong_loss(self, prediction, target):
    self.saved = (prediction - target,)
    return ((prediction - target) ** 2).sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_correct_pairs_have_rows_of_layers_only(dtype):
    for case in cases(np.dtype(dtype), np.random.default_rng(3)):
        if case.subject not in ("Residual", "Adam"):
            continue
        options = {"optimizer": case.optimizer, "steps": case.steps, "oracle": False}
        frame = compare(case.net, case.criterion, case.x, case.y, **options).frame
        assert not frame["name"].str.contains(r"[( ]").any(), case.name


# Trajectories.


def small(dtype, kind=optim.SGD, **options):
    g = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(3, 4, dtype=dtype, generator=g),
        nn.Tanh(),
        nn.Linear(4, 2, dtype=dtype, generator=g),
    )
    x, y = (g.normal(size=(5, n)).astype(dtype) for n in (3, 2))
    return net, nn.MSELoss(), x, y, kind(net.parameters(), **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "options"), [(optim.SGD, {"lr": 0.1, "momentum": 0.9}), (optim.Adam, {"lr": 0.01})]
)
def test_a_hundred_steps_of_a_correct_pair_pass(kind, options, dtype):
    *given, optimizer = small(dtype, kind, **options)
    comparison = compare(*given, optimizer=optimizer, steps=100, oracle=False)
    assert comparison.passed, comparison
    assert list(comparison.frame.step.unique()) == list(range(1, 101))


class FromStep37(optim.SGD):
    """From its 37th step on a little too far, with the last bias alone."""

    steps = 0

    def step(self):
        super().step()
        self.steps = self.steps + 1
        if self.steps >= 37:
            bias = self.param_groups[0]["params"][3]
            bias.data[...] -= bias.dtype.type(0.01) * self.param_groups[0]["lr"] * bias.grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_step_and_the_tensor_at_which_two_sides_part_are_named(dtype, first):
    *given, optimizer = small(dtype, FromStep37, lr=0.1)
    comparison = compare(*given, optimizer=optimizer, steps=40, oracle=False)
    assert first(comparison) == ("updated.2.bias", "mismatch", "manual")
    assert comparison.failures.iloc[0].step == 37
    assert list(comparison.failures.step) == [37, 38, 39, 40]
    assert "step 37" in str(comparison)
    assert "updated.2.bias" in str(comparison)


class FromStep5(nn.Tanh):
    """A cache that runs over."""

    calls = 0

    def forward(self, x):
        self.calls = self.calls + 1
        return super().forward(x)

    def backward(self, dy):
        return super().backward(dy) * (1 if self.calls < 5 else dy.dtype.type(1.01))


def test_a_layer_that_is_wrong_later_is_named_with_its_step(first):
    net, *given, _ = small(np.float64)
    net = nn.Sequential(net[0], FromStep5(), net[2])
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    comparison = compare(net, *given, optimizer=optimizer, steps=7, oracle=False)
    assert first(comparison) == ("d_activation.0", "mismatch", "manual")
    assert list(comparison.failures.step) == [5, 6, 7]


# What is given stays as it is, and what does not go together is refused.


def state_of(*things):
    """All that can be seen of them, to the bit."""
    found = []
    for thing in things:
        if isinstance(thing, np.ndarray):
            found.append((thing.dtype, thing.shape, thing.tobytes(), thing.flags.writeable))
        elif isinstance(thing, nn.Parameter):
            found += state_of(thing.data, thing.grad)
        elif isinstance(thing, torch.Tensor):
            grad = None if thing.grad is None else thing.grad.numpy()
            found += state_of(thing.detach().numpy(), grad)
        elif isinstance(thing, np.random.Generator):
            found.append(str(thing.bit_generator.state))
        elif isinstance(thing, dict):
            found += [list(thing), *state_of(*thing.values())]
        elif isinstance(thing, list | tuple):
            found += [len(thing), *state_of(*thing)]
        elif isinstance(thing, torch.nn.Module):
            found += [thing.training, *state_of(dict(thing.named_parameters()))]
            found += state_of(dict(thing.named_buffers()))
            found += [str(thing), *map(type, thing.modules())]
            found += [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in thing.modules()]
        elif hasattr(thing, "__dict__") and not isinstance(thing, type):
            found += [type(thing), *state_of(vars(thing))]
        else:
            found.append(thing)
    return found


@pytest.mark.parametrize("own_twin", [False, True])
def test_everything_given_is_left_as_it_was(own_twin):
    g = np.random.default_rng(0)
    generator = np.random.default_rng(1)
    layers = [nn.Linear(3, 4, generator=g), nn.BatchNorm1d(4), nn.Linear(4, 2, generator=g)]
    if not own_twin:
        layers.insert(2, nn.Dropout(0.3, generator))
    net = nn.Sequential(*layers)
    x, y = g.normal(size=(6, 3)).astype(np.float32), g.integers(0, 2, 6)
    criterion = nn.CrossEntropyLoss(weight=np.float32([1, 2]))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    scheduler = optim.StepLR(optimizer, 2)
    clip = partial(optim.clip_grad_norm_, max_norm=0.1)
    criterion(net(x), y)  # everything has begun
    net.backward(criterion.backward())
    optimizer.step()
    scheduler.step()
    given = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )
    given(torch.randn(6, 3)).sum().backward()
    twin = given if own_twin else None
    things = [net, criterion, optimizer, scheduler, x, y, generator, given, clip.keywords]
    before, torch_state = state_of(*things), torch.get_rng_state()
    numpy_state = str(np.random.get_state())  # noqa: NPY002
    kept = copy.deepcopy(net.state_dict())
    options = {"optimizer": optimizer, "scheduler": scheduler, "clip": clip, "steps": 3}
    comparison = compare(net, criterion, x, y, **options, seed=4, twin=twin, allow_vacuous=["*"])
    assert comparison.passed, comparison
    assert state_of(*things) == before
    assert torch.equal(torch_state, torch.get_rng_state())
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002
    for name, value in kept.items():
        np.testing.assert_array_equal(value, net.state_dict()[name])
    assert x.flags.writeable
    again = compare(net, criterion, x, y, **options, seed=4, twin=twin, allow_vacuous=["*"])
    assert again.frame.equals(comparison.frame)


def test_a_failure_too_leaves_everything_as_it_was(monkeypatch):
    net, *given = net_of(np.float64)
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy / 0)
    before = state_of(net, *given)
    with pytest.raises(EquivalenceError):
        assert_equivalent(net, *given)
    assert state_of(net, *given) == before


def test_methods_of_an_instances_own_are_kept():
    """A forward that is an attribute of the instance is run, and is still there afterwards."""

    class Chosen(nn.Module):
        def __init__(self):
            self.forward, self.backward = np.negative, np.negative

    g = np.random.default_rng(0)
    net = Chosen()
    given = net, nn.MSELoss(), g.normal(size=(4, 3)), g.normal(size=(4, 3))

    class Negative(torch.nn.Module):
        def forward(self, x):
            return -x

    assert compare(*given, twin=Negative()).passed
    assert net.forward is np.negative


@pytest.mark.parametrize("patterns", ["*", "grad.0.bias", ""])
def test_a_pattern_alone_is_no_list_of_patterns(patterns):
    with pytest.raises(TypeError, match="allow_vacuous must be a list of patterns"):
        compare(*net_of(np.float64), allow_vacuous=patterns)


@pytest.mark.parametrize("wrong", [nn.Tanh(), torch.nn.Tanh, "Tanh", 3])
def test_a_twin_that_is_no_torch_module_is_refused(wrong):
    with pytest.raises(TypeError, match=r"twin must be a torch\.nn\.Module, got "):
        compare(*net_of(np.float64), twin=wrong)


def test_another_dtype_than_the_networks_is_refused():
    net, criterion, x, y = net_of(np.float64)
    with pytest.raises(TypeError, match=r"x is float32, but the network's '0.weight' is float64"):
        compare(net, criterion, x.astype(np.float32), y.astype(np.float32))
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        compare(net, criterion, x.astype(int), y)


# What a step is made of.


def tensor(name, value=1.0, expected=None):
    expected = None if expected is None else np.array(expected)
    return Tensor(name, "forward", np.array(value), expected)


def named(*rows):
    return {row.name: row for row in rows}


def test_rows_are_paired_in_torchs_order_with_manuals_own_in_place():
    mine = [tensor(name) for name in ("0", "a", "a2", "c (changed)", "b (end to end)", "c", "c2")]
    theirs = [tensor(name, 2.0) for name in ("a", "b", "c", "d")]
    pairs = list(paired(named(*mine), named(*theirs)))
    names = [(a or b).name for a, b in pairs]
    assert names == ["0", "a", "a2", "b", "b (end to end)", "c", "c2", "c (changed)", "d"]
    for a, b in pairs:
        name = (a or b).name
        assert (a is not None, b is not None) == (name not in "bd", name in "abcd"), name
        assert [float(t.value) for t in (a, b) if t is not None] in ([1], [2], [1, 2])


def test_a_row_that_says_what_it_must_be_is_its_own_other_side():
    mine, theirs = named(tensor("x (changed)", 3.0, 4.0)), named(tensor("y (changed)", 5.0, 6.0))
    found = {a.name: (float(a.value), float(b.value)) for a, b in paired(mine, theirs)}
    assert found == {"x (changed)": (3, 4), "y (changed)": (6, 5)}


def draw(shape):
    return np.ones(shape)


def sides_of(net, criterion, x, y, oracle=False, **others):
    own, _ = manual_run(net, None, criterion, *map(others.get, ("optimizer", "scheduler", "clip")))
    return Sides(own, None, x.dtype, "cpu", 0, oracle)


@pytest.mark.parametrize(("kind", "options"), [(optim.SGD, {}), (optim.LBFGS, {"max_iter": 2})])
def test_every_side_goes_on_from_where_manual_stands(kind, options):
    *given, x, y, optimizer = small(np.float32, kind, lr=0.1, **options)
    sides = sides_of(*given, x, y, oracle=True, optimizer=optimizer)
    own = sides.own
    for step in (1, 2, 3):
        assert sides.layers.net is not own.net
        assert sides.units.keys() == {"activation.0", "activation.1", "activation.2"}
        for side, dtype in ((sides.theirs, torch.float32), (sides.exact, torch.float64)):
            for name, p in own.net.named_parameters():
                value = dict(side.net.named_parameters())[name]
                assert value.dtype == dtype
                assert torch.equal(value.detach(), torch.tensor(p.data).to(dtype))
        for p, q in zip(own.net.parameters(), sides.layers.net.parameters(), strict=True):
            assert p.data is not q.data
            np.testing.assert_array_equal(p.data, q.data)
        rows, raised = sides.step(x, y, draw)
        assert raised == []
        assert {row["verdict"] for row in rows} <= {"ok", "vacuous"}
        assert {row["step"] for row in rows} == {step}
        sides.go_on()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_that_is_no_scalar_has_one_cotangent_on_every_side(dtype):
    net, _, x, y, optimizer = small(dtype, lr=0.1)
    sides = sides_of(net, nn.MSELoss(reduction="none"), x, y, oracle=True, optimizer=optimizer)
    g = np.random.default_rng(7)
    cotangent = g.normal(size=y.shape).astype(np.float32)
    for _ in range(2):
        rows, raised = sides.step(x, y, lambda shape: cotangent.reshape(shape))
        assert raised == []
        assert {row["verdict"] for row in rows} == {"ok"}
        sides.go_on()


def test_sides_have_the_device_and_the_seed_given(monkeypatch):
    monkeypatch.setattr("compare.step.moved", lambda run, device: run)  # torch alone knows "meta"
    net, criterion, x, _ = net_of(np.float64)
    sides = Sides(Run(net, criterion), None, x.dtype, "meta", 5, True)
    devices = [side.net[0].weight.device.type for side in (sides.theirs, sides.exact)]
    assert devices == ["meta", "cpu"]
    generator = sides.testimony.witness.generator
    assert generator.random() == np.random.default_rng(5).random()
    for unit in sides.units.values():
        assert unit.module in list(sides.layers.net.modules())


def test_a_network_of_another_dtype_is_named():
    net, criterion, x, y = net_of(np.float64)
    with pytest.raises(TypeError) as caught:
        sides_of(net, criterion, x.astype(np.float32), y)
    expected = "compare: x is float32, but the network's '0.weight' is float64: "
    assert str(caught.value) == expected + "expected dtype float64"


def test_where_each_allowance_comes_from_is_kept_for_each_step():
    *given, optimizer = small(np.float64, lr=0.1)
    comparison = compare(*given, optimizer=optimizer, steps=2)
    frame = comparison.frame
    assert set(comparison.reasons) == set(zip(frame.step, frame["name"], strict=True))
    assert all(comparison.reasons.values())


def test_what_only_the_whole_step_shows_has_its_reason(only):
    comparison = compare(*net_of(np.float64, activation=OneBuffer))
    assert comparison.reasons[1, f"activation.1 {END}"] == (
        "the roundings of every layer, one after the other, through the whole step"
    )
    assert comparison.failures.iloc[0].allowed > 0
    assert list(comparison.failures.step) == [1]


def test_l_bfgs_has_rows_of_the_whole_step_and_their_reason():
    *given, optimizer = small(np.float64, optim.LBFGS, lr=0.1, max_iter=2)
    comparison = compare(*given, optimizer=optimizer)
    assert comparison.passed, comparison
    frame = comparison.frame
    rows = [name for name in frame["name"] if name.startswith(("state", "updated"))]
    parameters = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert rows == ["state.d", "state.prev_flat_grad", *(f"updated.{p}" for p in parameters)]
    assert list(frame["name"])[-6:] == rows
    expected = "L-BFGS: four times the spread of its results when all it sees is rounded otherwise"
    assert {comparison.reasons[1, name] for name in rows} == {expected}
    assert frame.oracle.iloc[-6:].notna().all()
    assert not compare(*given, optimizer=optimizer, oracle=False).frame.oracle.notna().any()


def test_where_rounding_decides_on_l_bfgs_s_way_its_rows_are_vacuous(monkeypatch):
    """Unless they have another shape, say."""
    *given, optimizer = small(np.float64, optim.LBFGS, lr=0.1, max_iter=2)
    bounds = Bounds.step

    def unbounded(self, *given):
        found = bounds(self, *given)
        return found | {n: e + np.inf for n, e in found.items() if n == "state.d"}

    monkeypatch.setattr(Bounds, "step", unbounded)
    frame = compare(*given, optimizer=optimizer).frame
    rows = frame[frame["name"].str.startswith(("state", "updated"))]
    assert len(rows) == 6
    assert set(rows.verdict) == {"vacuous"}
    assert set(rows.allowed) == {np.inf}
    assert set(rows.used) == {0.0}
    assert set(rows.blame) == {None}
    assert set(frame.verdict.iloc[:-6]) == {"ok"}
    step = optim.LBFGS.step

    def spoilt(self, closure):
        step(self, closure)
        self.param_groups[0]["params"][0].data[0, 0] = values.pop(0)
        del self._states[0]["prev_flat_grad"]

    monkeypatch.setattr(optim.LBFGS, "step", spoilt)
    values = [5.0, np.nan]
    for verdict, blame in (("vacuous", None), ("nonfinite", "manual")):
        comparison = compare(*given, optimizer=optimizer, oracle=False)
        frame = comparison.frame.set_index("name")
        row = frame.loc["updated.0.weight"]
        assert (row.verdict, row.blame) == (verdict, blame)
        row = frame.loc["state.prev_flat_grad"]
        assert (row.manual, row.verdict, row.allowed) == ("nothing", "vacuous", np.inf)


def test_a_wrong_step_of_l_bfgs_is_asked_about_without_the_oracle_too(monkeypatch):
    *given, optimizer = small(np.float64, optim.LBFGS, lr=0.1, max_iter=2)
    step = optim.LBFGS.step

    def wrong(self, closure):
        step(self, closure)
        self.param_groups[0]["params"][1].data[...] *= 1.01

    monkeypatch.setattr(optim.LBFGS, "step", wrong)
    for oracle in (True, False):
        comparison = compare(*given, optimizer=optimizer, oracle=oracle)
        assert list(comparison.failures["name"]) == ["updated.0.bias"]
        assert comparison.blame == "manual"
        assert np.isfinite(comparison.failures.oracle.iloc[0])


def test_a_parameter_that_nobody_reaches_has_a_row_that_says_so():
    class Spare(nn.Tanh):
        def __init__(self):
            self.spare = nn.Parameter(np.ones((2, 3)))

    class TorchSpare(torch.nn.Tanh):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Parameter(torch.ones(2, 3))

    x = np.array([[1.0, -2.0]])
    row = compare(Spare(), nn.MSELoss(), x, 0 * x, twin=TorchSpare()).frame.iloc[-1]
    found = {name: value for name, value in row.items() if not pd.isna(value)}
    assert found == {
        "step": 1,
        "name": "grad.spare",
        "stage": "backward",
        "shape": (2, 3),
        "dtype": "float64",
        "manual": "nothing",
        "torch": "nothing",
        "verdict": "vacuous",
    }
    assert row.worst is None
    assert row.blame is None


def test_of_bad_input_manuals_error_is_raised():
    net, _, x, _ = net_of(np.float64)
    y = np.array([0, 1, 2, 3, 4, 0])  # of four classes
    with pytest.raises(IndexError, match=r"^CrossEntropyLoss: "):
        compare(net, nn.CrossEntropyLoss(), x, y)


def test_a_target_may_be_of_any_whole_dtype():
    net, _, x, _ = net_of(np.float64)
    for kind in (np.int8, np.int32, np.uint8, np.int64):
        y = np.array([0, 1, 2, 3, 3, 0], kind)
        assert compare(net, nn.CrossEntropyLoss(), x, y, oracle=False).passed


def test_nobody_but_manuals_copies_sees_what_is_given():
    """A step gets copies of its own, so that one that changes them is wrong by itself."""
    net, _, x, y = net_of(np.float64)
    kept = x.copy(), y.copy()
    sides = sides_of(net, Greedy(), x, y)
    rows, raised = sides.step(x, y, draw)
    assert raised == []
    [row] = [row for row in rows if row["verdict"] != "ok"]
    assert (row["name"], row["blame"]) == ("y (changed)", "manual")
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


class Greedy(nn.MSELoss):
    def forward(self, prediction, target):
        loss = super().forward(prediction, target)
        target += 1
        return loss


# Layer by layer: what becomes of one row.


def rows_of(net, x, y, criterion=None, given=None, draw=draw):
    own, built = manual_run(net, given, criterion or nn.MSELoss(), None, None, None)
    sides = Sides(own, built, x.dtype, "cpu", 0, False)
    rows, raised = sides.step(x, y, draw)
    assert raised == []
    return sides, {row["name"]: row for row in rows}


def verdicts(rows):
    return {name: row["verdict"] for name, row in rows.items()}


def test_what_could_not_have_failed_is_vacuous_and_no_failure():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    sides, rows = rows_of(nn.ReLU(), x, x + 1)
    expected = {"x": "ok", "activation": "vacuous", "loss": "ok", "d_activation": "ok"}
    assert verdicts(rows) == expected | {"d_x": "ok"}
    assert sides.whole
    sides, rows = rows_of(nn.ReLU(), x, x)
    expected |= {"d_activation": "vacuous", "d_x": "vacuous"}
    assert verdicts(rows) == expected
    assert sides.whole
    _, rows = rows_of(nn.Sequential(nn.ReLU(), nn.Tanh()), x - 2.5, x)
    assert set(verdicts(rows).values()) == {"ok"}


class NoBias(nn.Linear):
    """Its backward forgets one gradient."""

    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad = None


def test_a_gradient_that_one_side_alone_has_is_missing_and_manuals_mistake():
    net = NoBias(2, 3, dtype=np.float64, generator=np.random.default_rng(0))
    x, y = np.array([[1.0, -2.0], [0.5, 3.0]]), np.ones((2, 3))
    sides, rows = rows_of(net, x, y)
    assert verdicts(rows) == dict.fromkeys(rows, "ok") | {"grad.bias": "missing"}
    found = rows["grad.bias"]
    assert (found["manual"], found["torch"], found["blame"]) == ("nothing", "it", "manual")
    assert not sides.whole
    assert len(sides.step(x, y, draw)[0]) == len(rows)  # none of them twice


def test_what_torch_changes_and_must_not_is_torchs_mistake():
    class Own(nn.Tanh):
        def __init__(self):
            self.spare = nn.Parameter(np.ones(2))

    class TorchOwn(torch.nn.Tanh):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            with torch.no_grad():
                self.spare += 1
            return super().forward(x)

    x = np.array([[1.0, -2.0]])
    _, rows = rows_of(Own(), x, 0 * x, given=TorchOwn())
    row = rows["spare (changed)"]
    assert (row["manual"], row["torch"]) == (1.0, 2.0)
    assert (row["verdict"], row["blame"]) == ("mismatch", "torch")


def test_every_row_has_every_column():
    class Spare(nn.Tanh):
        def __init__(self):
            self.spare = nn.Parameter(np.ones(2))

    class TorchSpare(torch.nn.Tanh):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Parameter(torch.ones(2))

    x = np.array([[1.0, -2.0]])
    _, rows = rows_of(Spare(), x, 0 * x, given=TorchSpare())
    for row in rows.values():
        assert list(row) == COLUMNS
    nothing = rows["grad.spare"]
    assert nothing["worst"] is None
    assert nothing["blame"] is None
    for name in ("max_abs", "max_rel", "max_ulp", "allowed", "used", "oracle"):
        assert np.isnan(nothing[name]), name


def test_the_witness_is_told_what_is_allowed_and_what_for_certain():
    """A sum of 400 is allowed 6 √400 roundings; for certain, 400."""
    told = []
    net = nn.Linear(400, 1, dtype=np.float64, generator=np.random.default_rng(0))
    x, y = np.random.default_rng(1).normal(size=(2, 400)), np.ones((2, 1))
    sides = sides_of(net, nn.MSELoss(), x, y)
    step = sides.testimony.step

    def noting(before, exact, theirs, target, draw, judged, certain):
        told.extend([{each.row["name"]: each.allowed for each in judged}, certain()])
        step(before, exact, theirs, target, draw, judged, certain)

    sides.testimony.step = noting
    rows, _ = sides.step(x, y, draw)
    allowed, certain = told
    assert allowed.keys() == certain.keys() == {row["name"] for row in rows}
    for row in rows:
        assert np.broadcast_to(allowed[row["name"]], row["shape"])[row["worst"]] == row["allowed"]
    share = certain["activation"] / allowed["activation"]
    np.testing.assert_allclose(share, 400 / 120, rtol=0.02)  # and one for the bias


# And the whole.


class WrongAtFirst(nn.MSELoss):
    """In the first of its forwards, which is layer by layer."""

    forwards = 0

    def forward(self, prediction, target):
        self.forwards += 1
        return super().forward(prediction, target) * (2 if self.forwards == 1 else 1)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_once_a_layer_has_failed_the_whole_is_not_judged(reduction, monkeypatch):
    judged = []
    step = Bounds.step
    monkeypatch.setattr(Bounds, "step", lambda self, *given: judged.append(1) or step(self, *given))
    net, _, x, y, optimizer = small(np.float64, lr=0.1)
    sides = sides_of(net, WrongAtFirst(reduction=reduction), x, y, optimizer=optimizer)
    for wrong in (["loss"], []):
        rows, raised = sides.step(x, y, draw)
        assert raised == []
        assert [row["name"] for row in rows if row["verdict"] != "ok"] == wrong
        assert not sides.whole
        sides.go_on()
    assert judged == []


# What torch's side is given.


def test_torch_computes_on_the_device_and_in_the_dtype_given(monkeypatch):
    net, criterion, x, y = net_of(np.float32)
    built = []

    def noting(own, given, device, dtype):
        built.append((device, dtype))
        return torch_run(own, given, device, dtype)

    monkeypatch.setattr("compare.step.torch_run", noting)
    monkeypatch.setattr("compare.step.moved", lambda run, device: run)  # torch alone knows "meta"
    sides = Sides(Run(net, criterion), None, x.dtype, "meta", 0, False)
    assert built == [("meta", torch.float32), ("cpu", torch.float64)]

    def stopping(run, x, y, draw):
        assert run is sides.theirs
        raise KeyError(x.device.type, x.dtype, y.device.type, y.dtype)

    monkeypatch.setattr("compare.step.torch_step", stopping)
    with pytest.raises(KeyError) as caught:
        sides.step(x, y, draw)
    assert caught.value.args == ("meta", torch.float32, "meta", torch.float32)


def test_where_torch_alone_raises_its_error_is_raised():
    """And manual, which is asked whether it has a clearer one, has not made a step."""

    class Broken(torch.nn.Linear):
        def forward(self, x):
            raise KeyError("torch's own")

    net = nn.Linear(3, 2, dtype=np.float64, generator=np.random.default_rng(0))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    criterion = nn.MSELoss(reduction="none")
    own, given = manual_run(net, Broken(3, 2), criterion, optimizer, None, None)
    sides = Sides(own, given, x.dtype, "cpu", 0, False)
    with pytest.raises(KeyError) as caught:
        sides.step(x, y, draw)
    assert str(caught.value) == '"torch\'s own"'
    np.testing.assert_array_equal(own.net.weight.data, net.weight.data)
    assert own.net.weight.grad is None
