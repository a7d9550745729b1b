"""Sequential: the chain rule against torch, names, slices, sharing."""

import numpy as np
import pytest

from manual import nn, optim
from manual.nn.parameter import runs
from torch_ref import twin

RNG = np.random.default_rng


def linear(n_in, n_out, seed=0, dtype=np.float64, **options):
    return nn.Linear(n_in, n_out, dtype=dtype, generator=RNG(seed), **options)


def networks():
    """name → Sequential of every shape that the chain rule goes through."""
    yield "linear first", nn.Sequential(linear(3, 4), nn.Tanh(), linear(4, 2, 1), nn.Sigmoid())
    yield "activation first", nn.Sequential(nn.Tanh(), nn.Sigmoid(), linear(3, 4), nn.ReLU())
    yield (
        "nested",
        nn.Sequential(
            nn.Sequential(nn.Identity(), nn.Sequential(nn.Tanh())),
            nn.Sequential(nn.Sequential(nn.ReLU(), linear(3, 3)), nn.Tanh()),
            nn.Sequential(linear(3, 5, 1, bias=False), nn.Sequential()),
        ),
    )
    yield "named", nn.Sequential({"in": linear(3, 4), "act": nn.Tanh(), "out": linear(4, 2, 1)})
    yield "no parameters", nn.Sequential(nn.Tanh(), nn.ReLU())
    yield "empty", nn.Sequential()


@pytest.fixture(params=list(networks()), ids=lambda pair: pair[0])
def net(request):
    return dict(networks())[request.param[0]]


def test_matches_torch(net, layout, in_torch):
    """float64: some ten roundings of numbers near 1 on either side; 1e-13 is 450 eps."""
    x = layout(RNG(1).normal(size=(6, 3)))
    y = net(x)
    dy = layout(RNG(2).normal(size=y.shape))
    dx = net.backward(dy)
    expected_y, expected_dx, grads = in_torch(net, x, dy)
    np.testing.assert_allclose(y, expected_y, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-13, atol=1e-13)
    named = dict(net.named_parameters())
    assert list(named) == list(grads)
    for name, p in named.items():
        np.testing.assert_allclose(p.grad, grads[name], rtol=1e-13, atol=1e-13)


def test_backward_parameters_gives_the_same_gradients(net):
    y = net(RNG(1).normal(size=(6, 3)))
    dy = RNG(2).normal(size=y.shape)
    net.backward(dy)
    expected = [p.grad.copy() for p in net.parameters()]
    for p in net.parameters():
        p.grad = None
    assert net.backward_parameters(dy) is None
    for p, grad in zip(net.parameters(), expected, strict=True):
        assert np.array_equal(p.grad, grad)


def test_backward_parameters_stops_at_the_first_parameters():
    class Unused(nn.Tanh):
        def backward(self, dy):
            raise AssertionError("this dx is not needed")

    net = nn.Sequential(nn.Sequential(Unused()), Unused(), nn.Sequential(Unused(), linear(3, 2)))
    net[2][1].backward = None  # only backward_parameters may be called
    dy = net(np.ones((4, 3)))
    net.backward_parameters(dy)
    assert np.array_equal(net[2][1].bias.grad, dy.sum(axis=0))


def test_no_module_means_identity():
    x = np.ones((2, 3))
    net = nn.Sequential()
    assert net(x) is x
    assert net.backward(x) is x
    assert len(net) == len(list(net.parameters())) == 0


def test_access():
    modules = [linear(3, 4), nn.Tanh(), linear(4, 2)]
    net = nn.Sequential(*modules)
    assert len(net) == 3
    assert list(net) == modules
    assert net[0] is modules[0]
    assert net[-1] is modules[2]
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        net[3]


def test_names_from_a_mapping():
    net = nn.Sequential({"in": linear(3, 4), "act": nn.Tanh(), "out": linear(4, 2)})
    assert list(net.state_dict()) == ["in.weight", "in.bias", "out.weight", "out.bias"]
    assert list(twin(net).state_dict()) == list(net.state_dict())


def test_slices_share_parameters():
    net = nn.Sequential(linear(3, 4), nn.Tanh(), linear(4, 4, 1), nn.Tanh(), linear(4, 2, 2))
    kept, x = net.state_dict(), RNG(1).normal(size=(5, 3))
    y = net(x)
    assert np.array_equal(net[3:](net[:3](x)), y)
    assert [name for name, _ in net[3:].named_children()] == ["3", "4"]
    assert len(net[1:1]) == 0
    assert len(list(runs(net.parameters()))) == 1  # consecutive parameters did not move
    ends = net[::4]
    assert [name for name, _ in ends.named_children()] == ["0", "4"]
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())
    assert ends[1] is net[4]
    ends[1].bias.data += 1
    np.testing.assert_allclose(net(x), y + 1, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("bad", [np.tanh, "Tanh", None, nn.Tanh, nn.MSELoss()], ids=repr)
def test_only_modules(bad):
    with pytest.raises(TypeError, match="Sequential: '1' must be a manual"):
        nn.Sequential(nn.Tanh(), bad)
    with pytest.raises(TypeError, match="Sequential: 'a' must be a manual"):
        nn.Sequential({"a": bad})


@pytest.mark.parametrize("name", ["", "a.b", 0, None], ids=repr)
def test_bad_names(name):
    with pytest.raises(ValueError, match=f"text without a dot, got {name!r}"):
        nn.Sequential({name: nn.Tanh()})


def test_a_module_stands_in_one_place():
    shared = nn.Tanh()
    with pytest.raises(ValueError, match="'0' and '2' are the same object"):
        nn.Sequential(shared, linear(3, 3), shared)
    with pytest.raises(ValueError, match=r"'0' and '1\.1' are the same object"):
        nn.Sequential(shared, nn.Sequential(linear(3, 3), shared))
    twice = linear(3, 3)
    with pytest.raises(ValueError, match=r"'0' and '1\.0' are the same object"):
        nn.Sequential(twice, nn.Sequential(twice))


def test_a_parameter_stands_in_one_place():
    first, second = linear(3, 3), linear(3, 3)
    second.weight = first.weight
    with pytest.raises(ValueError, match=r"'0\.weight' and '1\.weight' are the same object"):
        nn.Sequential(first, second)
    with pytest.raises(ValueError, match=r"'0\.0\.weight' and '1\.weight' are the same object"):
        nn.Sequential(nn.Sequential(first), second)
    second.weight = second.other = nn.Parameter(np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"'0\.weight' and '0\.other' are the same object"):
        nn.Sequential(second)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_wrapping_after_the_optimizer_was_made(momentum):
    """The parameters move to another buffer; optimizer and both networks still mean the same."""

    def make():
        net = nn.Sequential(linear(3, 4), nn.Tanh(), linear(4, 2, 1))
        return net, optim.SGD(net.parameters(), lr=0.1, momentum=momentum)

    def train(net, optimizer, steps):
        criterion, rng = nn.MSELoss(), RNG(5)
        for _ in range(steps):
            criterion(net(rng.normal(size=(6, 3))), rng.normal(size=(6, 2)))
            net.backward(criterion.backward())
            optimizer.step()

    straight, optimizer = make()
    train(straight, optimizer, 4)
    train(straight, optimizer, 4)
    inner, optimizer = make()
    train(inner, optimizer, 4)
    before = [p.data for p in inner.parameters()]
    head = nn.Sequential(linear(3, 3, 2), nn.Identity())
    outer = nn.Sequential(nn.Identity(), nn.Sequential(inner), head[1:])
    wider = nn.Sequential(nn.Sequential(head[0]), outer)  # here they move
    moved = [p.data for p in inner.parameters()]
    assert not any(np.shares_memory(a, b) for a, b in zip(moved, before, strict=True))
    train(outer, optimizer, 4)
    for name, value in inner.state_dict().items():
        assert np.array_equal(value, straight.state_dict()[name])
        assert np.array_equal(value, outer.state_dict()[f"1.0.{name}"])
        assert np.array_equal(value, wider.state_dict()[f"1.1.0.{name}"])
    assert np.array_equal(head[0].weight.data, linear(3, 3, 2).weight.data)  # not optimized


def test_a_slice_moves_no_parameter():
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    before = [p.data for p in net.parameters()]
    part = net[::2]
    assert all(p.data is array for p, array in zip(net.parameters(), before, strict=True))
    assert list(part.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_shared_parameter_of_a_subclass_is_refused():
    class Mine(nn.Parameter):
        pass

    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    first.bias = second.bias = Mine(np.zeros(2))
    with pytest.raises(ValueError, match="same object"):
        nn.Sequential(first, second)
