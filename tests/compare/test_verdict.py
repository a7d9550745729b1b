"""`compare`: what it must accept, and above all what it must reject."""

import copy
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import torch_ref
from compare import EquivalenceError, assert_equivalent, compare, verdict
from compare.judge import COLUMNS, judge
from compare.report import describe
from compare.step import Sides
from compare.trace import Tensor
from manual import nn, optim

DTYPES = [np.float64, np.float32]


def setting(dtype=np.float64, seed=0, activation=nn.Sigmoid, square=False, **options):
    """A 5-7-4 (or 5-5-5) net with non-zero biases, its criterion, optimizer and a batch of 6."""
    g = np.random.default_rng(seed)
    hidden, out = (5, 5) if square else (7, 4)
    net = nn.Sequential(
        nn.Linear(5, hidden, dtype=dtype, generator=g),
        activation(),
        nn.Linear(hidden, out, dtype=dtype, generator=g),
    )
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, **options)
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (5, out))
    return net, nn.MSELoss(), x, y, optimizer


def run(net, criterion, x, y, optimizer, **options):
    return compare(net, criterion, x, y, optimizer=optimizer, **options)


def first_failure(comparison):
    assert not comparison.passed
    row = comparison.failures.iloc[0]
    return row["name"], row.verdict


def test_rows_stand_in_causal_order_with_the_columns_of_the_design():
    frame = run(*setting()).frame
    assert list(frame.columns) == COLUMNS
    assert list(frame["name"]) == [
        "x",
        "activation.0",
        "activation.1",
        "activation.2",
        "loss",
        "d_activation.2",
        "grad.2.weight",
        "grad.2.bias",
        "d_activation.1",
        "d_activation.0",
        "grad.0.weight",
        "grad.0.bias",
        "d_x",
        "updated.0.weight",
        "updated.0.bias",
        "updated.2.weight",
        "updated.2.bias",
    ]
    stages = ["forward"] * 5 + ["backward"] * 8 + ["updated"] * 4
    assert list(frame.stage) == stages
    assert frame["shape"].iloc[6] == (4, 7)
    assert set(frame.dtype) == {"float64"}


def test_steps_repeat_the_rows():
    frame = run(*setting(), steps=3).frame
    assert list(frame.step) == [1] * 17 + [2] * 17 + [3] * 17


def test_a_nested_network_continues_the_dotted_path():
    g = np.random.default_rng(0)
    inner = nn.Sequential(nn.Linear(3, 2, generator=g), nn.Tanh())
    net = nn.Sequential(inner, nn.Linear(2, 4, generator=g))
    x, y = (g.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
    comparison = compare(net, nn.MSELoss(), x, y)
    names = list(comparison.frame["name"])
    assert comparison.passed
    assert names[1:4] == ["activation.0.0", "activation.0.1", "activation.1"]
    assert "grad.0.0.weight" in names


def test_a_single_module_is_a_network_too():
    g = np.random.default_rng(0)
    x, y = (g.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
    frame = compare(nn.Linear(3, 4, generator=g), nn.MSELoss(), x, y).frame
    grads = ["grad.weight", "grad.bias"]
    assert list(frame["name"]) == ["x", "activation", "loss", "d_activation", *grads, "d_x"]


@pytest.mark.parametrize("seed", range(40))
def test_correct_networks_pass(seed):
    g = np.random.default_rng(seed)
    dtype = DTYPES[seed % 2]
    widths = g.integers(1, 65, g.integers(2, 6))
    modules = []
    for n_in, n_out in pairwise(widths):
        linear = nn.Linear(n_in, n_out, dtype=dtype, generator=g)
        linear.weight.data *= dtype(10 ** g.uniform(-1.5, 0.5))
        modules += [linear, g.choice([nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity])()]
    net = nn.Sequential(*modules)
    n = int(g.integers(1, 33))
    x = (g.normal(size=(n, widths[0])) * 10 ** g.uniform(-2, 1)).astype(dtype)
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    if seed % 3:
        criterion, y = nn.CrossEntropyLoss(), g.integers(0, widths[-1], n)
    else:
        criterion, y = nn.HalfSquaredError(), g.normal(size=(n, widths[-1])).astype(dtype)
    assert_equivalent(
        net, criterion, x, y, optimizer=optimizer, steps=3, seed=seed, allow_vacuous=["*"]
    )


def test_everything_given_is_left_as_it_was():
    net, criterion, x, y, optimizer = setting()
    criterion(net(x), y)
    net.backward(criterion.backward())
    optimizer.step()  # momentum has started
    before = copy.deepcopy((net, criterion, optimizer, x, y))
    first = run(net, criterion, x, y, optimizer, steps=2)
    for name, value in before[0].state_dict().items():
        np.testing.assert_array_equal(value, net.state_dict()[name])
    for p, q in zip(before[0].parameters(), net.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
    kept, now = before[2].state_dict()["state"], optimizer.state_dict()["state"]
    assert kept.keys() == now.keys() == {0, 1, 2, 3}
    for i in kept:
        np.testing.assert_array_equal(kept[i]["momentum_buffer"], now[i]["momentum_buffer"])
    np.testing.assert_array_equal(before[3], x)
    np.testing.assert_array_equal(before[4], y)
    assert "forward" not in vars(net[0])
    assert first.frame.equals(run(net, criterion, x, y, optimizer, steps=2).frame)


# What must be rejected. Each planted mistake is in a method of manual; the first failing row must
# be the tensor that is wrong.


def linear_backward(change):
    def backward_parameters(self, dy):
        original(self, dy)
        change(self, dy)

    original = nn.Linear.backward_parameters
    return nn.Linear, "backward_parameters", backward_parameters


def scaled_entry(self, dy):
    self.weight.grad[1, 2] *= 1 + (1e-2 if dy.dtype == np.float32 else 1e-6)


def transposed(self, dy):
    self.weight.grad = self.weight.grad.T.copy()


def averaged_bias(self, dy):
    self.bias.grad = self.bias.grad / len(dy)


def zeroed(self, dy):
    self.weight.grad = np.zeros_like(self.weight.grad)


def nan_entry(self, dy):
    self.weight.grad[0, 0] = np.nan


def forgotten_bias(self, dy):
    self.bias.grad = None


MUTANTS = {
    "weight gradient, one entry": (*linear_backward(scaled_entry), "grad.2.weight", "mismatch"),
    "weight gradient transposed": (*linear_backward(transposed), "grad.2.weight", "mismatch"),
    "weight gradient zero": (*linear_backward(zeroed), "grad.2.weight", "mismatch"),
    "weight gradient nan": (*linear_backward(nan_entry), "grad.2.weight", "nonfinite"),
    "bias gradient averaged": (*linear_backward(averaged_bias), "grad.2.bias", "mismatch"),
    "bias gradient added to what was there": (
        nn.Linear,
        "backward_parameters",
        lambda self, dy: (
            np.dot(self.saved[0].T, dy, out=self.weight.overwrite_grad().T),
            self.bias.overwrite_grad().__iadd__(dy.sum(0)),
        ),
        "grad.2.bias",
        "nonfinite",
    ),
    "dx of the first layer alone": (
        nn.Linear,
        "backward",
        lambda self, dy: (
            (self.backward_parameters(dy), dy @ self.weight.data)[1]
            * (1.001 if self.in_features == 5 else 1)
        ),
        "d_x",
        "mismatch",
    ),
    "bias gradient not written": (*linear_backward(forgotten_bias), "grad.2.bias", "missing"),
    "dx without the weight": (
        nn.Linear,
        "backward",
        lambda self, dy: (self.backward_parameters(dy), dy @ np.abs(self.weight.data))[1],
        "d_activation.1",
        "mismatch",
    ),
    "slope without 1 − y": (
        nn.Sigmoid,
        "backward",
        lambda self, dy: dy * self.saved[0],
        "d_activation.0",
        "mismatch",
    ),
    "cotangent dropped": (
        nn.Sigmoid,
        "backward",
        lambda self, dy: self.saved[0] * (1 - self.saved[0]),
        "d_activation.0",
        "mismatch",
    ),
    "gradient of another shape": (
        nn.Sigmoid,
        "backward",
        lambda self, dy: (dy * self.saved[0] * (1 - self.saved[0]))[None].repeat(2, 0),
        "d_activation.0",
        "shape",
    ),
    "forward changed": (
        nn.Sigmoid,
        "forward",
        lambda self, x: (setattr(self, "saved", (np.tanh(x),)), np.tanh(x))[1],
        "activation.1",
        "mismatch",
    ),
    "mean for sum": (
        nn.MSELoss,
        "forward",
        lambda self, p, t: (setattr(self, "saved", (p - t,)), ((p - t) ** 2).sum())[1],
        "loss",
        "mismatch",
    ),
    "loss right, its gradient not": (
        nn.MSELoss,
        "backward",
        lambda self, dloss=None: self.saved[0] / self.saved[0].size,
        "d_activation.2",
        "mismatch",
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_method_is_caught_where_it_is_wrong(monkeypatch, mutant, dtype):
    owner, method, wrong, row, verdict = MUTANTS[mutant]
    given = setting(dtype, square=mutant == "weight gradient transposed")
    monkeypatch.setattr(owner, method, wrong)
    assert first_failure(run(*given)) == (row, verdict)
    net, criterion, x, y, optimizer = given
    with pytest.raises(EquivalenceError, match=row.replace(".", r"\.")):
        assert_equivalent(net, criterion, x, y, optimizer=optimizer)


def test_a_gradient_of_another_dtype_is_caught(monkeypatch):
    given = setting(np.float32)
    monkeypatch.setattr(
        nn.MSELoss, "backward", lambda self, dloss=None: 2 * self.saved[0].astype(float) / 24
    )
    comparison = run(*given, steps=3)
    assert first_failure(comparison) == ("d_activation.2", "dtype")
    assert "manual raised DtypeError: Linear: dy: expected dtype float32" in str(comparison)
    assert set(comparison.frame.step) == {1}  # nobody can go on from there


def test_changed_input_activation_or_parameter_is_caught(monkeypatch):
    def in_place(self, x):
        self.saved = (np.tanh(x, out=x),)
        return x.copy()

    given = setting(activation=nn.Tanh)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Tanh, "forward", in_place)
        assert first_failure(run(*given)) == ("activation.0 (changed)", "mismatch")

    forward = nn.Linear.forward
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", lambda self, x: (forward(self, x), x.__imul__(2))[0])
        assert first_failure(run(*given)) == ("x (changed)", "mismatch")

    def grows(self, x):
        self.weight.data += 1
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", grows)
    assert first_failure(run(*given)) == ("0.weight (changed)", "mismatch")


@pytest.mark.parametrize(
    ("option", "wrong"), [("lr", 0.11), ("momentum", 0.8), ("weight_decay", 0.01)]
)
def test_a_wrong_update_is_caught(monkeypatch, option, wrong):
    given = setting(weight_decay=0.02)
    step = optim.SGD.step

    def wrong_step(self):
        for group in self.param_groups:
            group[option] = wrong
        step(self)

    monkeypatch.setattr(optim.SGD, "step", wrong_step)
    name, verdict = first_failure(run(*given, steps=3))
    assert name.startswith("updated.")
    assert verdict == "mismatch"


def test_a_nan_on_both_sides_is_not_equal():
    net, criterion, x, y, optimizer = setting()
    x[2, 3] = np.nan
    assert first_failure(run(net, criterion, x, y, optimizer)) == ("x", "nonfinite")
    x[2, 3] = np.inf
    assert first_failure(run(net, criterion, x, y, optimizer)) == ("x", "nonfinite")


def test_a_criterion_that_changes_the_target_is_caught(monkeypatch):
    forward = nn.MSELoss.forward

    def spoils(self, prediction, target):
        loss = forward(self, prediction, target)
        target[...] = 0
        return loss

    given = setting()
    monkeypatch.setattr(nn.MSELoss, "forward", spoils)
    assert first_failure(run(*given)) == ("y (changed)", "mismatch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_choice_at_an_exact_zero_is_caught(monkeypatch, dtype):
    """Rows of zeros through a Linear without bias are 0 on both sides, exactly: relu'(0) = 0."""
    g = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(5, 7, bias=False, dtype=dtype, generator=g),
        nn.ReLU(),
        nn.Linear(7, 4, dtype=dtype, generator=g),
    )
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (5, 4))
    x[:2] = 0
    assert compare(net, nn.MSELoss(), x, y).passed
    forward = nn.ReLU.forward
    monkeypatch.setattr(
        nn.ReLU, "forward", lambda self, x: (forward(self, x), setattr(self, "saved", (x,)))[0]
    )
    monkeypatch.setattr(nn.ReLU, "backward", lambda self, dy: dy * (self.saved[0] > 0))
    assert compare(net, nn.MSELoss(), x, y).passed
    monkeypatch.setattr(nn.ReLU, "backward", lambda self, dy: dy * (self.saved[0] >= 0))
    assert first_failure(compare(net, nn.MSELoss(), x, y)) == ("d_activation.0", "mismatch")


def test_only_what_training_calls_being_wrong_is_caught(monkeypatch):
    """`fit` calls backward_parameters of the whole network, which skips the first dx."""
    given = setting()

    def skips(self, dy):
        for module in list(self)[:0:-1]:
            dy = module.backward(dy)

    monkeypatch.setattr(nn.Sequential, "backward_parameters", skips)
    name, verdict = first_failure(run(*given))
    assert name == "grad.0.weight (backward_parameters)"
    assert verdict == "nonfinite"


def test_a_momentum_that_has_started_is_allowed_its_rounding():
    net, criterion, x, y, optimizer = setting(np.float32)
    criterion(net(x * 1000), y * 1000)
    net.backward(criterion.backward())
    optimizer.param_groups[0]["lr"] = 1e-9
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    assert_equivalent(net, criterion, x, y, optimizer=optimizer, steps=2)


def test_large_nearly_equal_logits_are_no_alarm():
    g = np.random.default_rng(0)
    net = nn.Linear(20, 5, generator=g)
    net.weight.data[...] = net.weight.data[:1] * (1 + 1e-7 * np.float32(g.normal(size=(5, 1))))
    x = (1e7 * g.normal(size=(8, 20))).astype(np.float32)
    assert_equivalent(net, nn.CrossEntropyLoss(), x, g.integers(0, 5, 8))


def test_equal_rows_whose_roundings_all_have_one_sign_are_no_alarm():
    g = np.random.default_rng(0)
    net = nn.Linear(3, 2, generator=g)
    x = np.repeat(g.normal(size=(1, 3)).astype(np.float32), 20_000, axis=0)
    y = np.repeat(g.normal(size=(1, 2)).astype(np.float32), 20_000, axis=0)
    assert_equivalent(net, nn.HalfSquaredError(), x, y)


def test_torchs_global_state_is_left_alone_and_does_not_matter():
    net, criterion, x, y, _ = setting()
    state = torch.get_rng_state()
    with torch.no_grad():
        assert compare(net, criterion, x, y).passed
    assert torch.equal(state, torch.get_rng_state())


# A module of one's own, and mistakes on torch's side.


class Cube(nn.Module):
    """y = (w x)³, with a factor w for each column."""

    def __init__(self, n, dtype):
        self.weight = nn.Parameter(np.linspace(0.5, 1.5, n).astype(dtype))

    def forward(self, x):
        self.saved = (x,)
        return (self.weight.data * x) ** 3

    def backward(self, dy):
        (x,) = self.recall()
        w = self.weight.data
        self.weight.grad = (3 * (w * x) ** 2 * x * dy).sum(0)
        return 3 * (w * x) ** 2 * w * dy


class TorchCube(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(n))
        self.factor = 1.0

    def forward(self, x):
        return WrongBackward.apply((self.weight * x) ** 3, self.factor)


class WrongBackward(torch.autograd.Function):
    """The identity, whose backward is wrong unless factor is 1."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return ctx.factor * dy, None


@torch_ref.twin.register
def _(module: Cube) -> torch.nn.Module:
    return TorchCube(len(module.weight.data))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(5))
def test_a_module_of_ones_own_is_proven(dtype, seed):
    g = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(5, 3, dtype=dtype, generator=g), Cube(3, dtype))
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (5, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    assert_equivalent(
        net, nn.MSELoss(), x, y, optimizer=optimizer, steps=3, seed=seed, allow_vacuous=["*"]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_mistakes_in_a_module_of_ones_own_are_caught(monkeypatch, dtype):
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(5, 3, dtype=dtype, generator=g), Cube(3, dtype))
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (5, 3))
    right = Cube.backward

    def off(self, dy):
        dx = right(self, dy)
        self.weight.grad[1] *= 1 + (1e-2 if dtype == np.float32 else 1e-6)
        return dx

    with monkeypatch.context() as patch:
        patch.setattr(Cube, "backward", off)
        assert first_failure(compare(net, nn.MSELoss(), x, y))[0] == "grad.1.weight"
    init = TorchCube.__init__
    monkeypatch.setattr(
        TorchCube, "__init__", lambda self, n: (init(self, n), setattr(self, "factor", 1.01))[0]
    )
    name, verdict = first_failure(compare(net, nn.MSELoss(), x, y))
    assert (name, verdict) == ("grad.1.weight", "mismatch")


class Mixed(nn.Module):
    """tanh, doubled in training mode."""

    def forward(self, x):
        self.saved = (np.tanh(x),)
        return self.saved[0] * (2 if self.training else 1)

    def backward(self, dy):
        return dy * (1 - self.saved[0] ** 2) * (2 if self.training else 1)


class TorchDoubled(torch.nn.Module):
    def forward(self, x):
        return x * (2 if self.training else 1)


@torch_ref.twin.register
def _(module: Mixed) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Tanh(), TorchDoubled())


@pytest.mark.parametrize("mode", [True, False])
def test_the_twin_may_be_a_sequential_and_is_in_the_same_mode(mode):
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 2, generator=g), Mixed()).train(mode)
    x, y = (g.normal(size=(4, n)).astype(np.float32) for n in (3, 2))
    comparison = compare(net, nn.MSELoss(), x, y)
    assert comparison.passed, comparison
    assert "activation.1" in set(comparison.frame["name"])


def test_a_criterion_may_return_a_python_float(monkeypatch):
    forward = nn.MSELoss.forward
    given = setting(np.float32)
    monkeypatch.setattr(nn.MSELoss, "forward", lambda *args: float(forward(*args)))
    assert run(*given).passed


# The text.


def test_the_message_carries_table_seed_and_versions(monkeypatch):
    net, criterion, x, y, optimizer = setting(seed=17)
    monkeypatch.setattr(nn.Sigmoid, "backward", lambda self, dy: dy)
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(net, criterion, x, y, optimizer=optimizer, seed=17)
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    for part in ("seed 17", np.__version__, torch.__version__, "d_activation.0", "mismatch"):
        assert part in text
    assert "grad.0.weight" in text  # every failing row, not the first alone
    assert "activation.2" in text  # and those that pass


def test_the_text_of_a_pass_says_how_much_of_the_allowance_was_used():
    assert "17 tensors: all ok" in str(run(*setting()))
    assert "% of the allowance" in str(run(*setting()))


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps") as caught:
        run(*setting(), steps=steps)
    assert str(caught.value) == f"compare: steps must be a whole number >= 1, got {steps}"


def test_arguments_that_do_not_go_together_are_refused():
    net, criterion, x, y, optimizer = setting()
    other = optim.ExponentialLR(optim.SGD(net.parameters(), lr=0.1), 0.9)
    for options, text in (
        ({"steps": 2}, "compare: more than one step needs an optimizer"),
        (
            {"optimizer": optimizer, "scheduler": other},
            "compare: the scheduler must be one of the given optimizer",
        ),
        ({"scheduler": other}, "compare: the scheduler must be one of the given optimizer"),
    ):
        with pytest.raises(ValueError, match="optimizer") as caught:
            compare(net, criterion, x, y, **options)
        assert str(caught.value) == text
    with pytest.raises(ValueError, match="not the network's"):
        compare(nn.Sequential(nn.Linear(5, 4, dtype=float)), criterion, x, y, optimizer=optimizer)
    with pytest.raises(ValueError, match="inhomogeneous"):
        compare(net, criterion, [*x.tolist(), [1, 2]], y)


def test_a_difference_without_a_bound_says_so():
    mine, theirs = (Tensor("a", "forward", np.full(2, value)) for value in (1.0, 0.0))
    row = judge(1, mine, theirs, np.full(2, np.inf))
    assert row["verdict"] == "mismatch"
    assert "at [0] differ, and there is no bound" in describe(pd.Series(row))


class NoArray:
    """What named_parameters gives must have data that is an array."""

    forward = backward = lambda self, x: x

    def named_parameters(self):
        return [("weight", np.ones((4, 5)))]


class Forward:
    forward = lambda self, x: x  # noqa: E731


class Both(Forward):
    backward = Forward.forward


class NoTwin(Exception):
    pass


class Unknown:
    """A criterion without a reduction."""

    forward = backward = lambda self, *given: np.zeros(())


@torch_ref.twin.register
def _(criterion: Unknown) -> torch.nn.Module:
    raise NoTwin("no twin today")


def refused(error, text, **change):
    given = dict(zip(("net", "criterion", "x", "y", "optimizer"), setting(), strict=True))
    with pytest.raises(error) as caught:
        compare(**given | change)
    assert str(caught.value) == f"compare: {text}"


def test_a_network_of_another_kind_is_named():
    must = "net must have a method"
    refused(TypeError, f"{must} 'forward', got a int", net=3)
    refused(TypeError, f"{must} 'forward', got the class Linear", net=nn.Linear)
    refused(TypeError, f"{must} 'backward', got a Forward", net=Forward())
    refused(TypeError, f"{must} 'named_parameters', got a Both", net=Both())
    refused(
        TypeError,
        "the network's parameter 'weight' must have data (an ndarray) and grad, got a ndarray",
        net=NoArray(),
    )


def test_a_criterion_of_another_kind_is_named():
    must = "criterion must have a method"
    refused(TypeError, f"{must} 'forward', got a NoneType", criterion=None)
    refused(TypeError, f"{must} 'forward', got the class MSELoss", criterion=nn.MSELoss)
    refused(TypeError, f"{must} 'backward', got a Forward", criterion=Forward())


def test_an_input_or_target_of_another_kind_is_named():
    for name, size in (("x", 5), ("y", 4)):
        array = f"{name} must be an ndarray, got a torch.Tensor"
        refused(TypeError, array, **{name: torch.ones(6, size)})
        numbers = f"{name} must be an array of numbers, got"
        refused(TypeError, f"{numbers} complex128", **{name: np.ones((6, size), complex)})
        refused(TypeError, f"{numbers} object", **{name: None})
        refused(TypeError, f"{numbers} <U1", **{name: ["a"] * 6})
    floats = "x must be float32 or float64, got"
    refused(TypeError, f"{floats} int64", x=np.ones((6, 5), int))
    refused(TypeError, f"{floats} float16", x=np.ones((6, 5), np.float16))
    nothing = "x has no elements (shape (0, 5)), so nothing can be judged"
    refused(ValueError, nothing, x=np.ones((0, 5)))


def test_an_option_of_another_kind_is_named():
    refused(TypeError, "optimizer must have param_groups, got the class SGD", optimizer=optim.SGD)
    refused(ValueError, "the scheduler must be one of the given optimizer", scheduler=3)
    refused(TypeError, "twin must be a torch.nn.Module, got Tanh", twin=nn.Tanh())
    refused(ValueError, "seed must be >= 0, got -1", seed=-1)
    refused(TypeError, "seed must be a whole number, got 1.5", seed=1.5)
    refused(TypeError, "seed must be a whole number, got '1'", seed="1")
    patterns = "allow_vacuous must be a list of patterns, got"
    refused(TypeError, f"{patterns} None", allow_vacuous=None)
    refused(TypeError, f"{patterns} [3]", allow_vacuous=[3])


def test_a_single_number_is_an_input():
    net = nn.Linear(1, 1, dtype=np.float64, generator=np.random.default_rng(0))
    assert compare(net, nn.MSELoss(), np.ones((1, 1)), np.zeros((1, 1)), oracle=False).passed


def test_numbers_of_any_kind_are_a_target():
    net, _, x, _, optimizer = setting()
    for y in (
        np.ones((6, 4)),
        np.ones((6, 4), int),
        np.ones((6, 4), bool),
        np.ones((6, 4), np.uint8),
    ):
        with pytest.raises(NoTwin) as caught:
            compare(net, Unknown(), x, y, optimizer=optimizer)
        assert str(caught.value) == "no twin today"


def test_a_criterion_need_not_say_how_it_reduces():
    net, _, x, y, _ = setting()
    with pytest.raises(NoTwin):
        compare(net, Unknown(), x, y, optimizer=optim.LBFGS(net.parameters()))


def test_a_loss_that_is_no_scalar_has_a_cotangent_of_seed_and_step():
    """The same numbers in either dtype."""
    seen = []

    class Noting(nn.MSELoss):
        def backward(self, dloss=None):
            seen.append(dloss)
            return super().backward(dloss)

    for seed, dtype in ((3, np.float64), (3, np.float32), (None, np.float64)):
        net, _, x, y, optimizer = setting(dtype)
        options = {"optimizer": optimizer, "steps": 2, "seed": seed, "oracle": False}
        seen.clear()
        assert compare(net, Noting(reduction="none"), x, y, **options).passed
        assert len(seen) == 6  # layer by layer, end to end, and what training calls
        for step, dloss in zip((1, 1, 1, 2, 2, 2), seen, strict=True):
            draw = np.random.default_rng((seed or 0, step)).normal(size=(6, 4))
            expected = draw.astype(np.float32).astype(dtype)
            np.testing.assert_array_equal(dloss, expected, strict=True)


def test_seed_and_device_reach_the_sides_and_the_message(monkeypatch):
    seen = []

    class Noting(Sides):
        def __init__(self, own, given, *rest):
            seen.append(rest)
            super().__init__(own, given, *rest)

        def go_on(self):
            seen.append(self.steps)
            super().go_on()

    monkeypatch.setattr(verdict, "Sides", Noting)
    comparison = run(*setting(), seed=7, oracle=False, allow_vacuous=["d_x"])
    run(*setting(np.float32), steps=3)
    assert seen == [(np.float64, "cpu", 7, False), (np.float32, "cpu", 0, True), 1, 2]
    assert comparison.context.startswith(f"seed 7, numpy {np.__version__}, torch ")
    assert " on cpu, " in comparison.context
    assert comparison.allow_vacuous == ("d_x",)
    assert comparison.asked == "; the oracle was not asked about gradients"


def test_what_raised_stands_before_the_context(monkeypatch):
    def raises(self, *given):
        raise ValueError("not today")

    monkeypatch.setattr(nn.Sigmoid, "forward", raises)
    monkeypatch.setattr(nn.MSELoss, "forward", raises)
    lines = run(*setting(), oracle=False).context.splitlines()
    assert lines[0] == "manual's forward of Sigmoid '1' raised ValueError: not today"
    assert lines[1] == "manual's loss raised ValueError: not today"
    assert lines[2].startswith("seed None, ")


def test_schedule_clip_and_reasons_reach_the_comparison():
    *given, optimizer = setting()
    scheduler = optim.ExponentialLR(optimizer, 0.9)
    clip = partial(optim.clip_grad_value_, clip_value=0.1)
    options = {"optimizer": optimizer, "scheduler": scheduler, "clip": clip, "oracle": False}
    comparison = compare(*given, **options)
    assert comparison.passed
    names = list(comparison.frame["name"])
    assert names[-1] == "lr.0"
    assert "clipped.0.weight" in names
    assert comparison.reasons.keys() == {(1, name) for name in names}


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("rows", [1, 6])
def test_l_bfgs_needs_one_loss(rows, line_search_fn):
    net, _, x, y, _ = setting()
    optimizer = optim.LBFGS(net.parameters(), line_search_fn=line_search_fn)
    with pytest.raises(ValueError, match="LBFGS") as caught:
        compare(net, nn.MSELoss(reduction="none"), x[:rows], y[:rows], optimizer=optimizer)
    expected = "compare: LBFGS needs one loss, and reduction 'none' gives an array"
    assert str(caught.value) == expected


def test_a_twin_that_returns_no_tensor_is_named():
    class Pair(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    _, criterion, x, y, _ = setting()
    net = nn.Linear(5, 4, dtype=np.float64, generator=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"the twin's .* must return a tensor, got a tuple"):
        compare(net, criterion, x, y, twin=Pair(5, 4))


def test_it_runs_where_torch_is_to_keep_no_graph():
    with torch.inference_mode():
        assert run(*setting()).passed
        assert torch.is_inference_mode_enabled()


def test_explain_names_a_step_or_a_name_that_there_is_not():
    compared = run(*setting())
    with pytest.raises(KeyError, match=r"there is no tensor 'loss' in step 3\"$"):
        compared.explain("loss", 3)
    with pytest.raises(KeyError, match=r"no tensor 'los'; did you mean .'loss'"):
        compared.explain("los")
    with pytest.raises(KeyError, match="there is no tensor 3"):
        compared.explain(3)
