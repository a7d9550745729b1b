"""twin: every public type has one, with the same values, copied."""

import inspect

import numpy as np
import pytest
import torch

import torch_ref
from manual import nn
from torch_ref import twin

RNG = np.random.default_rng
ABSTRACT = {nn.Module, nn.Criterion, nn.Parameter}
EXAMPLES = {
    nn.Linear: lambda: nn.Linear(2, 3),
    nn.Sequential: lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh()),
}
PUBLIC = [
    kind
    for kind in (getattr(nn, name) for name in dir(nn))
    if inspect.isclass(kind) and kind.__module__.startswith("manual.") and kind not in ABSTRACT
]


def example(kind):
    return EXAMPLES.get(kind, kind)()


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_public_module_and_criterion_has_a_twin(kind):
    built = twin(example(kind))
    assert isinstance(built, torch.nn.Module)
    assert type(built).__name__ == kind.__name__
    if kind is not nn.HalfSquaredError:  # which torch.nn lacks
        assert isinstance(built, getattr(torch.nn, kind.__name__))


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


@pytest.mark.parametrize("bad", [object(), 3, None, np.ones(2), nn.Parameter(np.ones(2))], ids=repr)
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
