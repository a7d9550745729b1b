"""twin: every public type has one, with the same values, copied."""

import inspect

import numpy as np
import pytest
import torch

import torch_ref
from manual import nn
from torch_ref import modules, twin

RNG = np.random.default_rng
ABSTRACT = {nn.Module, nn.Criterion, nn.Parameter}
EXAMPLES = {  # name → one of that class, where it cannot be made without arguments
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "Linear": lambda: nn.Linear(2, 3),
    "Residual": lambda: nn.Residual(nn.Linear(3, 3)),
    "Sequential": lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh()),
}
PUBLIC = [
    kind
    for kind in (getattr(nn, name) for name in dir(nn))
    if inspect.isclass(kind) and kind.__module__.startswith("manual.") and kind not in ABSTRACT
]


def example(kind):
    return EXAMPLES.get(kind.__name__, kind)()


@pytest.mark.parametrize("kind", [k for k in PUBLIC if issubclass(k, nn.Module | nn.Criterion)])
def test_every_public_module_and_criterion_has_a_twin(kind):
    """Of the same name: torch.nn's own or one made from it; torch_ref's where torch.nn has none."""
    built = twin(example(kind))
    assert isinstance(built, torch.nn.Module)
    assert type(built).__name__ == kind.__name__
    home = torch.nn if hasattr(torch.nn, kind.__name__) else modules
    assert isinstance(built, getattr(home, kind.__name__))
    assert getattr(built, "reduction", None) == getattr(example(kind), "reduction", None)


def test_the_public_types_are_found():
    assert {nn.Linear, nn.ReLU, nn.CrossEntropyLoss, nn.Sequential} <= set(PUBLIC)
    assert all(getattr(nn, name) in {*PUBLIC, *ABSTRACT} for name in nn.__all__)


def network(dtype=np.float32):
    rng = RNG(0)
    return nn.Sequential(
        {
            "first": nn.Linear(3, 4, dtype=dtype, generator=rng),
            "act": nn.ReLU(),
            "rest": nn.Sequential(nn.Linear(4, 2, bias=False, dtype=dtype, generator=rng)),
        }
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_copies_in_their_own_dtype(dtype):
    net = network(dtype)
    state = net.state_dict()
    built = twin(net)
    assert list(built.state_dict()) == list(state)
    for name, p in built.named_parameters():
        assert p.requires_grad
        assert p.numpy(force=True).dtype == dtype
        assert np.array_equal(p.numpy(force=True), state[name])
    for p in net.parameters():
        p.data += 1
    assert all(np.array_equal(p.numpy(force=True), state[n]) for n, p in built.named_parameters())
    with torch.no_grad():
        built.first.weight.zero_()
    assert net[0].weight.data.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_dtype(dtype):
    built = twin(network(), dtype=dtype)
    assert {p.dtype for p in built.parameters()} == {dtype}
    for name, p in built.named_parameters():
        assert np.array_equal(p.numpy(force=True), network().state_dict()[name])
    weight = np.array([1.0, 2.0])
    assert twin(nn.CrossEntropyLoss(weight), dtype=dtype).weight.dtype == dtype


def test_a_device():
    assert {p.device.type for p in twin(network(), device="meta").parameters()} == {"meta"}


def test_the_options_of_a_criterion():
    weight = np.array([1.0, 2.0, 3.0])
    built = twin(nn.CrossEntropyLoss(weight, -3, "sum", 0.2))
    assert (built.ignore_index, built.reduction, built.label_smoothing) == (-3, "sum", 0.2)
    weight[0] = 9
    assert built.weight.tolist() == [1.0, 2.0, 3.0]
    assert twin(nn.CrossEntropyLoss()).weight is None
    for reduction in ("mean", "sum", "none"):
        assert twin(nn.MSELoss(reduction)).reduction == reduction


def test_half_squared_error_is_half_the_sum():
    loss = twin(nn.HalfSquaredError())(torch.tensor([[1.0, 5], [2, 2]]), torch.ones(2, 2))
    assert loss.item() == 9
    assert twin(nn.HalfSquaredError()).reduction == "sum"


@pytest.mark.parametrize(
    "bad", [object(), 3, None, np.ones(2), nn.Parameter(np.ones(2))], ids=lambda v: type(v).__name__
)
def test_no_twin_is_known(bad):
    name = f"{type(bad).__module__}.{type(bad).__name__}"
    with pytest.raises(TypeError, match=rf"known for {name}; register one with @torch_ref\.twin"):
        twin(bad)


def test_a_module_of_ones_own(in_torch):
    class Shift(nn.Module):
        def __init__(self, value):
            self.shift = nn.Parameter(value)

        def forward(self, x):
            return x + self.shift.data

        def backward(self, dy):
            self.shift.grad = dy.sum(axis=0)
            return dy

    class TorchShift(torch.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(size))

        def forward(self, x):
            return x + self.shift

    net = nn.Sequential(nn.Linear(3, 2, dtype=np.float64), Shift(np.array([2.0, -1.0])))
    with pytest.raises(TypeError, match="Shift; register one"):
        twin(net)

    @torch_ref.twin.register
    def _(module: Shift) -> torch.nn.Module:
        return TorchShift(module.shift.shape)

    x, dy = RNG(1).normal(size=(5, 3)), RNG(2).normal(size=(5, 2))
    built = twin(net)
    assert type(built[1]) is TorchShift
    assert built[1].shift.tolist() == [2, -1]
    net(x)
    net.backward(dy)
    _, _, grads = in_torch(net, x, dy)
    np.testing.assert_allclose(net[1].shift.grad, grads["1.shift"], rtol=1e-14)  # five terms


def test_longdouble_has_no_twin():
    for bad in (network(np.longdouble), nn.Linear(2, 3, dtype=np.longdouble)):
        with pytest.raises(TypeError, match="torch has no longdouble; pass dtype"):
            twin(bad)
        for name, value in twin(bad, dtype=torch.float64).state_dict().items():
            assert np.array_equal(value.numpy(), bad.state_dict()[name].astype(np.float64))


class Subclass(nn.ReLU):
    pass


def test_a_subclass_has_the_twin_of_its_base():
    assert type(twin(Subclass())) is torch.nn.ReLU


def test_buffers_are_copies_in_the_same_order():
    for options in ({}, {"affine": False}, {"track_running_stats": False}, {"bias": False}):
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, 0.1, None, **options))
        net(RNG(0).normal(size=(4, 2)).astype(np.float32))
        built, state = twin(net), net.state_dict()
        assert list(built.state_dict()) == list(state)
        for name, value in built.state_dict().items():
            assert np.array_equal(value.numpy(), state[name])
            assert value.numpy().dtype == state[name].dtype
        assert (built[1].eps, built[1].momentum) == (0.1, None)
        for buffer in net.buffers():
            buffer += 1
        assert all(np.array_equal(v.numpy(), state[n]) for n, v in built.state_dict().items())


def test_a_module_with_buffers_alone_has_their_dtype():
    bare = nn.BatchNorm1d(3, affine=False, dtype=np.float64)
    assert twin(bare).running_mean.dtype == torch.float64
    assert twin(bare).num_batches_tracked.dtype == torch.int64
    assert twin(bare, dtype=torch.float32).running_mean.dtype == torch.float32
    with pytest.raises(TypeError, match="torch has no longdouble; pass dtype"):
        twin(bare.to(np.longdouble))
    assert twin(bare, dtype=torch.float64).running_var.tolist() == [1, 1, 1]
    assert not twin(nn.BatchNorm1d(3, affine=False, track_running_stats=False)).state_dict()


def test_a_count_too_large_for_float32_stays_whole():
    net = nn.BatchNorm1d(3)
    net.num_batches_tracked += 2**24 + 1
    assert twin(net).num_batches_tracked.item() == 2**24 + 1


class Counting(nn.ReLU):
    """A count before the first floating array."""

    def __init__(self):
        self.register_buffer("count", np.array(7))
        self.register_buffer("level", np.array([0.1]))


@twin.register
def _(module: Counting) -> torch.nn.Module:
    built = torch.nn.ReLU()
    built.register_buffer("count", torch.tensor(0))
    built.register_buffer("level", torch.zeros(1))
    return built


def test_a_count_is_not_the_dtype_of_a_module():
    state = twin(Counting()).state_dict()
    assert state["level"].dtype == torch.float64
    assert (state["count"].item(), state["level"].item()) == (7, 0.1)


def test_modes_are_copied_module_by_module():
    inner = nn.Residual(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5, RNG(0))))
    net = nn.Sequential(inner, nn.Dropout(0.5, RNG(1)))
    inner.eval()
    inner.module[1].train()
    theirs = dict(twin(net).named_modules())
    assert {path: m.training for path, m in net.named_modules()} == {
        path: m.training for path, m in theirs.items()
    }
    assert [m.training for m in net.modules()] == [True, False, False, False, True, True]


def test_a_residual_of_any_depth():
    net = nn.Linear(2, 2, generator=RNG(0))
    for _ in range(4):
        net = nn.Residual(nn.Sequential(net, nn.Tanh()))
    built = twin(net)
    assert list(built.state_dict()) == list(net.state_dict())
    assert next(iter(built.state_dict())) == ".".join(["module.0"] * 4) + ".weight"
    assert type(built.module[0].module[0]) is modules.Residual


def test_dropouts_that_share_a_generator_share_its_copy():
    """They draw in turn; with a copy each, the second would draw what the first has drawn."""
    rng, x = RNG(0), np.ones((4, 30), np.float32)
    net = nn.Sequential(nn.Dropout(0.5, rng), nn.Residual(nn.Dropout(0.5, rng)))
    net(x)
    state = rng.bit_generator.state
    built, again = twin(net), twin(net)
    assert built[0].generator is built[1].module.generator
    assert built[0].generator is not rng
    assert built[0].generator is not again[0].generator
    expected = [built(torch.tensor(x)).numpy() for _ in range(2)]
    assert rng.bit_generator.state == state  # the twin draws from its own
    for y in expected:
        assert np.array_equal(net(x), y)
        assert np.array_equal(again(torch.tensor(x)).numpy(), y)
    assert twin(nn.Dropout(0.25)).p == 0.25
    nothing = twin(nn.Dropout(0, rng))
    assert np.array_equal(nothing(torch.tensor(x)).numpy(), x)
    assert nothing.generator.bit_generator.state == rng.bit_generator.state  # as in manual
    built.eval()
    assert np.array_equal(built(torch.tensor(x)).numpy(), 2 * x)


def test_no_features():
    built = twin(nn.Linear(0, 3))
    assert built.weight.shape == (3, 0)
