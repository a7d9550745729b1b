"""Sequential and Residual: the chain rule against torch, names, slices, sharing, modes."""

import copy
import pickle

import numpy as np
import pytest
import torch

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
    yield "residual", nn.Sequential(linear(3, 4), nn.Residual(linear(4, 4, 1)), linear(4, 2, 2))
    yield "residual of a residual", nn.Residual(nn.Residual(nn.Sequential(linear(3, 3), nn.Tanh())))
    yield (
        "residual first",
        nn.Sequential(
            nn.Residual(nn.Sequential(nn.Tanh(), nn.Residual(nn.Sigmoid()))),
            nn.Residual(nn.Sequential(nn.Sequential(nn.Residual(linear(3, 3))), nn.Sequential())),
            nn.Tanh(),
        ),
    )
    yield "residual without parameters", nn.Residual(nn.Sigmoid())
    normed = nn.Residual(nn.Sequential(linear(3, 3, 1), nn.BatchNorm1d(3, dtype=np.float64)))
    yield (
        "one of each",
        nn.Sequential(
            nn.Dropout(0.3, RNG(7)),
            nn.Residual(nn.Sequential(normed, nn.Dropout(0.5, RNG(8)))),
            nn.Flatten(),
            linear(3, 2, 2),
        ),
    )


@pytest.fixture(params=list(networks()), ids=lambda pair: pair[0])
def net(request):
    return dict(networks())[request.param[0]]


def test_matches_torch(net, layout, in_torch):
    """float64: some ten roundings of numbers near 1 on either side; 1e-13 is 450 eps."""
    x = layout(RNG(1).normal(size=(6, 3)))
    before = copy.deepcopy(net)
    y = net(x)
    dy = layout(RNG(2).normal(size=y.shape))
    dx = net.backward(dy)
    expected_y, expected_dx, grads = in_torch(before, x, dy)
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


def test_no_module_looks_at_its_arguments_all_the_same():
    net = nn.Sequential()
    with pytest.raises(RuntimeError, match=r"Sequential\.backward called before forward"):
        net.backward(np.ones((2, 3)))
    for bad in ([1.0], np.ones(3, int)):
        with pytest.raises(TypeError, match=r"^Sequential: x"):
            net(bad)
    net(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^Sequential: dy.*\(2, 3\), got \(3,\)"):
        net.backward(np.ones(3))
    with pytest.raises(TypeError, match=r"Sequential: dy.*float32"):
        net.backward(np.ones((2, 3), np.float32))


def test_append():
    net, added = nn.Sequential(linear(3, 4)), linear(4, 2, 1)
    assert net.append(nn.Tanh()).append(added) is net
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"]
    assert net[2] is added
    assert len(list(runs(net.parameters()))) == 1
    made = nn.Sequential(linear(3, 4), nn.Tanh(), linear(4, 2, 1))
    x = RNG(1).normal(size=(5, 3))
    assert np.array_equal(net(x), made(x))
    assert np.array_equal(net.backward(x[:, :2]), made.backward(x[:, :2]))
    inner = nn.Sequential()
    outer = nn.Sequential(linear(3, 3), inner)
    inner.append(linear(3, 2, 1))
    outer.flatten_parameters()
    assert len(list(runs(outer.parameters()))) == 1
    assert outer(x).shape == (5, 2)


def test_append_refuses_and_changes_nothing():
    net = nn.Sequential({"1": linear(3, 3)})
    with pytest.raises(ValueError, match="would name the module '1', which is taken"):
        net.append(nn.Tanh())
    net = nn.Sequential(nn.Tanh())
    for bad in (np.tanh, None, nn.Tanh):
        with pytest.raises(TypeError, match="Sequential: '1' must be a manual"):
            net.append(bad)
    with pytest.raises(ValueError, match="'0' and '1' are the same object"):
        net.append(net[0])
    assert len(net) == 1
    empty = nn.Sequential()
    for inside in (empty, nn.Sequential(empty), nn.Residual(empty)):
        with pytest.raises(ValueError, match=r"'the Sequential itself' and '0.* are the same"):
            empty.append(inside)
    assert len(empty) == 0


def test_train_and_eval_reach_every_depth():
    net = dict(networks())["one of each"]
    twins = twin(net)
    x = RNG(1).normal(size=(6, 3))
    assert not np.array_equal(net(x), net(x))
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert np.array_equal(net(x), net(x))
    twins.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
    expected = twins.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(net(x), expected, rtol=1e-13, atol=1e-13)  # as `test_matches_torch`
    net.train()
    assert all(module.training for module in net.modules())
    assert len(list(net.modules())) == 11


def test_copies_keep_buffers_and_one_flat_buffer():
    net = dict(networks())["one of each"]
    x, dy = RNG(1).normal(size=(6, 3)), RNG(2).normal(size=(6, 2))
    net(x)
    copies = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    y = net(x)
    net.backward(dy)
    for other in copies:
        assert np.array_equal(other(x), y)  # the same masks and running statistics
        other.backward_parameters(dy)
        values = zip(other.state_dict().items(), net.state_dict().items(), strict=True)
        assert all(a == b and np.array_equal(v, w) for (a, v), (b, w) in values)
        (data, grad), *more = runs(other.parameters())
        assert not more
        assert np.array_equal(grad, next(runs(net.parameters()))[1])
        data += 1
        assert np.array_equal(other[3].bias.data, net[3].bias.data + 1)
        other[1].module[0].module[1].running_mean += 1
        assert not np.shares_memory(
            other[1].module[0].module[1].running_mean, net[1].module[0].module[1].running_mean
        )


def test_state_dicts_go_to_torch_and_back_with_buffers():
    net = dict(networks())["one of each"]
    net(RNG(1).normal(size=(6, 3)))
    theirs = twin(net)
    assert list(net.state_dict()) == list(theirs.state_dict())
    inner = "1.module.0.module."
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(net.state_dict())[:2] == [f"{inner}0.weight", f"{inner}0.bias"]
    assert list(net.state_dict())[2:7] == [f"{inner}1.{name}" for name in names]
    other = dict(networks())["one of each"]
    places = list(other.buffers())
    other.load_state_dict(theirs.state_dict())
    for (name, value), expected in zip(
        other.state_dict().items(), net.state_dict().values(), strict=True
    ):
        assert np.array_equal(value, expected), name
        assert value.dtype == expected.dtype
    assert all(a is b for a, b in zip(other.buffers(), places, strict=True))  # written in place


def test_repr_is_torchs():
    for net in dict(networks()).values():
        assert repr(net) == repr(twin(net))


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 4, 3)], ids=str)
def test_residual_takes_every_rank(shape, in_torch):
    net = nn.Residual(nn.Tanh() if shape == () else linear(3, 3))
    if shape == ():
        net = nn.Residual(nn.Identity())  # the rank is the inner module's affair
    x, dy = np.asarray(RNG(1).normal(size=shape)), np.asarray(RNG(2).normal(size=shape))
    y, dx = net(x), net.backward(dy)
    expected_y, expected_dx, _ = in_torch(net, x, dy)
    for got, expected in ((y, expected_y), (dx, expected_dx)):
        assert isinstance(got, np.ndarray)
        assert got.shape == shape
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_residual_keeps_the_dtype_and_its_arguments(dtype, slope):
    net = nn.Residual(nn.Sequential(linear(3, 3, dtype=dtype), nn.Tanh()))
    x, dy = RNG(1).normal(size=(4, 3)).astype(dtype), RNG(2).normal(size=(4, 3)).astype(dtype)
    y = net(x)
    kept = y.copy()
    dx = net.backward(dy)
    assert y.dtype == dx.dtype == dtype
    assert np.array_equal(y, kept)
    if dtype == np.longdouble:
        expected = slope(lambda at: np.sum(dy * net(at)), x)
        np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-9)


def test_residual_passes_backward_parameters_on():
    class Unused(nn.Tanh):
        def backward(self, dy):
            raise AssertionError("this dx is not needed")

    net = nn.Residual(nn.Sequential(Unused(), linear(3, 3)))
    net.module[1].backward = None  # only backward_parameters may be called
    dy = RNG(2).normal(size=(4, 3))
    net(np.ones((4, 3)))
    assert net.backward_parameters(dy) is None
    # whatever the order in which four numbers are added
    apart = np.abs(net.module[1].bias.grad - dy.sum(axis=0))
    assert (apart <= 4 * np.finfo(float).eps * np.abs(dy).sum(axis=0)).all()


def test_residual_errors():
    for bad in (np.tanh, None, nn.Tanh, nn.MSELoss()):
        with pytest.raises(TypeError, match=r"Residual: expected a manual\.nn\.Module, got"):
            nn.Residual(bad)
    for net in (nn.Residual(linear(3, 1)), nn.Residual(nn.Flatten(0))):
        x = np.ones((4, 3))
        for error in (ValueError, RuntimeError):
            with pytest.raises(error, match=r"added to x: expected shape \(4, 3\), got \("):
                net(x)
        with pytest.raises(RuntimeError, match=r"Residual\.backward called before forward"):
            net.backward(x)
        with pytest.raises(RuntimeError, match=r"Residual\.backward called before forward"):
            net.backward_parameters(x)

    class Single(nn.Identity):
        def forward(self, x):
            return super().forward(x).astype(np.float32)

    with pytest.raises(TypeError, match="added to x: expected dtype float64, got float32"):
        nn.Residual(Single())(np.ones((4, 3)))
    net = nn.Residual(linear(3, 3))
    with pytest.raises(TypeError, match="Residual: x: expected a NumPy array, got list"):
        net([1.0, 2, 3])
    net(np.ones((4, 3)))
    for backward in (net.backward, net.backward_parameters):
        for shape in ((4, 1), (3,), (), (1, 3)):
            with pytest.raises(ValueError, match=r"Residual: dy.*\(4, 3\), got \("):
                backward(np.ones(shape))
    assert net.module.weight.grad is None
    with pytest.raises(ValueError, match=r"'0\.module' and '1' are the same object"):
        nn.Sequential(net, net.module)


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
