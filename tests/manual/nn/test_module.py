"""Module: names, state dicts, buffers, modes, dtypes; and a module of one's own."""

import numpy as np
import pytest
import torch

from manual import nn
from manual.checks import check_array
from manual.nn.parameter import runs
from torch_ref import twin

RNG = np.random.default_rng


class Scaled(nn.Module):
    """y = s f(x): a parameter and a module of its own."""

    def __init__(self, inner, value=2.0):
        self.scale = nn.Parameter(np.full(1, value))
        self.inner = inner
        self.note = "neither a parameter nor a module"

    def forward(self, x):
        y = self.inner(x)
        self.saved = (y,)
        return self.scale.data * y

    def backward(self, dy):
        (y,) = self.recall()
        self.scale.overwrite_grad()[0] = np.sum(dy * y)
        return self.inner.backward(self.scale.data * dy)


def network(seed=0, dtype=np.float32):
    rng = RNG(seed)
    return nn.Sequential(
        nn.Linear(3, 4, dtype=dtype, generator=rng),
        nn.Sequential(nn.Tanh(), nn.Linear(4, 2, bias=False, dtype=dtype, generator=rng)),
    )


def test_names_are_dotted_paths():
    net = Scaled(network(dtype=np.float64))
    names = ["scale", "inner.0.weight", "inner.0.bias", "inner.1.1.weight"]
    assert [name for name, _ in net.named_parameters()] == list(net.state_dict()) == names
    paths = ["", "inner", "inner.0", "inner.1", "inner.1.0", "inner.1.1"]
    assert [path for path, _ in net.named_modules()] == paths
    assert [name for name, _ in net.named_children()] == ["inner"]
    assert list(net.modules())[1] is net.inner
    assert [p.shape for p in net.parameters()] == [(1,), (4, 3), (4,), (2, 4)]


def test_a_shared_parameter_comes_once():
    net = Scaled(nn.Tanh())
    net.again = net.scale
    assert [name for name, _ in net.named_parameters()] == ["scale"]


def test_a_module_of_ones_own_has_a_correct_backward(slope):
    net = Scaled(network(1).to(np.longdouble)).to(np.longdouble)
    assert len(list(runs(net.parameters()))) == 1
    x, dy = RNG(2).normal(size=(5, 3)), RNG(3).normal(size=(5, 2)).astype(np.longdouble)
    x = x.astype(np.longdouble)
    net(x)
    dx = net.backward(dy)
    np.testing.assert_allclose(dx, slope(lambda at: np.sum(dy * net(at)), x), rtol=1e-9, atol=1e-9)
    net(x)
    assert net.backward_parameters(dy) is None
    for p in net.parameters():

        def loss(value, p=p):
            p.data = value
            return np.sum(dy * net(x))

        kept, grad = p.data.copy(), p.grad.copy()
        np.testing.assert_allclose(grad, slope(loss, kept), rtol=1e-9, atol=1e-9)
        p.data = kept


def test_both_directions_must_be_defined():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(np.ones(2))
    for backward in (Empty().backward, Empty().backward_parameters):
        with pytest.raises(NotImplementedError, match="Empty has no backward"):
            backward(np.ones(2))
    with pytest.raises(RuntimeError, match=r"Scaled\.backward called before forward"):
        Scaled(nn.Tanh()).backward(np.ones(2))


def test_state_dict_holds_copies():
    net = network()
    state = net.state_dict()
    kept = {name: value.copy() for name, value in state.items()}
    for p in net.parameters():
        p.data += 1
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    state["0.weight"][...] = 9
    assert not (net[0].weight.data == 9).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_state_dicts_go_to_torch_and_back(dtype):
    net, other = network(1, dtype), network(2, dtype)
    reference = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(4, 2, bias=False)),
    ).to(getattr(torch, np.dtype(dtype).name))
    state = {name: torch.from_numpy(value) for name, value in net.state_dict().items()}
    assert state.keys() == reference.state_dict().keys()
    reference.load_state_dict(state)
    places = [p.data for p in other.parameters()]
    other.load_state_dict(reference.state_dict())
    for (name, value), place in zip(net.state_dict().items(), places, strict=True):
        assert np.array_equal(other.state_dict()[name], value)
        assert np.array_equal(place, value)  # written in place
    with torch.no_grad():
        reference[0].weight.zero_()
    assert other[0].weight.data.all()


def test_loading_converts_numbers():
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": [[1, 2]], "bias": np.array([0.1])})
    assert np.array_equal(net.weight.data, np.array([[1, 2]], np.float32))
    assert np.array_equal(net.bias.data, np.array([0.1], np.float32))


class Counting(nn.Module):
    """A floating buffer, a counting one and one that is not there, around a module."""

    def __init__(self, inner):
        self.inner = inner
        self.register_buffer("total", np.array([1.5, 2.5]))
        self.register_buffer("absent", None)
        self.register_buffer("count", np.array(3))
        self.scale = nn.Parameter(np.ones(2))


class TorchCounting(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("total", torch.tensor([1.5, 2.5], dtype=torch.float64))
        self.register_buffer("absent", None)
        self.register_buffer("count", torch.tensor(3))
        self.scale = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))


def test_buffers_are_named_and_ordered_as_in_torch():
    net = Counting(nn.Sequential(nn.Linear(2, 3, dtype=np.float64), Counting(nn.Tanh())))
    theirs = TorchCounting(
        torch.nn.Sequential(torch.nn.Linear(2, 3).double(), TorchCounting(torch.nn.Tanh()))
    )
    assert list(net.state_dict()) == list(theirs.state_dict())
    names = ["total", "count", "inner.1.total", "inner.1.count"]
    assert [n for n, _ in net.named_buffers()] == [n for n, _ in theirs.named_buffers()] == names
    assert [b.shape for b in net.buffers()] == [(2,), (), (2,), ()]
    assert next(net.buffers()) is net.total
    assert net.absent is None
    state = net.state_dict()
    net.total += 1
    net.count += 1
    assert (state["total"].tolist(), state["count"].tolist()) == ([1.5, 2.5], 3)
    net.load_state_dict(theirs.state_dict())
    assert (net.total.tolist(), net.count.tolist()) == ([1.5, 2.5], 3)
    assert Counting._buffers == nn.Module._buffers == ()  # each module has its own


def test_a_buffer_registered_again_is_replaced():
    net = Counting(nn.Tanh())
    net.register_buffer("count", np.array(7))
    net.register_buffer("absent", np.zeros(1))
    assert [name for name, _ in net.named_buffers()] == ["total", "absent", "count"]
    assert net.state_dict()["count"] == 7


def test_bad_buffers():
    net = Counting(nn.Tanh())
    kept = list(net.state_dict())
    for name in ("scale", "inner", "forward", "training"):
        with pytest.raises(KeyError, match=f"Counting has an attribute '{name}'"):
            net.register_buffer(name, np.ones(2))
        with pytest.raises(KeyError, match="exists"):
            torch.nn.BatchNorm1d(2).register_buffer("weight", torch.ones(2))
    for name in ("", "a.b", 3, None):
        with pytest.raises(KeyError, match="text without a dot"):
            net.register_buffer(name, np.ones(2))
    for bad in (3, [1.0], nn.Parameter(np.ones(2)), "text"):
        with pytest.raises(TypeError, match=f"'new' must be a NumPy.*, got {type(bad).__name__}"):
            net.register_buffer("new", bad)
    assert list(net.state_dict()) == kept
    assert not hasattr(net, "new")


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_to_converts_floating_buffers_alone(dtype):
    net = Counting(Counting(nn.Tanh()))
    total = net.total
    assert net.to(dtype) is net
    assert net.total.dtype == net.inner.total.dtype == net.scale.dtype == dtype
    assert net.count.dtype == net.inner.count.dtype == np.int64
    assert net.total.tolist() == [1.5, 2.5]
    assert total.dtype == np.float64  # the old array stays as it was
    assert net.absent is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"count": np.array(3.0)}, "'count' holds float64, expected whole numbers"),
        ({"count": np.array(True)}, "'count' holds bool, expected whole numbers"),
        ({"count": np.array([3])}, r"'count' has shape \(1,\), expected \(\)"),
        ({"total": np.array([1, 1j])}, "'total' holds complex128, expected real numbers"),
        ({"total": np.ones(3)}, r"'total' has shape \(3,\), expected \(2,\)"),
        ({"absent": np.ones(3)}, "unexpected 'absent'"),
        ({"count": None}, "missing 'count'"),
    ],
)
def test_buffers_that_do_not_fit_change_nothing(changes, text):
    net = Counting(nn.Tanh())
    kept = net.state_dict()
    state = change({name: value + 1 for name, value in kept.items()}, **changes)
    for error in (ValueError, RuntimeError):  # RuntimeError is torch's
        with pytest.raises(error, match=f"does not fit Counting.*{text}"):
            net.load_state_dict(state)
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


def test_a_number_too_large_changes_nothing():
    """NumPy warns (here an error) of 1e300 as float32; what came before is not loaded either."""
    net = network()
    kept = net.state_dict()
    state = {name: value.astype(np.float64) + 1 for name, value in kept.items()}
    state["1.1.weight"][...] = 1e300
    with pytest.raises(RuntimeWarning, match="overflow"):
        net.load_state_dict(state)
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("bad", [None, [("weight", np.ones(2))], 3], ids=repr)
def test_a_state_is_a_mapping(bad):
    with pytest.raises(TypeError, match=f"expected a mapping, got {type(bad).__name__}"):
        network().load_state_dict(bad)
    with pytest.raises(TypeError):
        torch.nn.Linear(2, 3).load_state_dict(bad)


def change(state, **changes):
    state = {**state, **{name.replace("_", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"0_bias": None}, "missing '0.bias'"),
        ({"0_other": np.ones(2)}, "unexpected '0.other'"),
        ({"0_bias": np.ones(3)}, r"'0.bias' has shape \(3,\), expected \(4,\)"),
        ({"0_bias": np.ones((4, 1))}, r"shape \(4, 1\)"),
        ({"0_bias": 1.0}, r"shape \(\)"),
        ({"0_weight": np.ones((3, 4))}, r"'0.weight' has shape \(3, 4\), expected \(4, 3\)"),
        ({"0_bias": np.ones(4, complex)}, "'0.bias' holds complex128"),
        ({"0_bias": np.ones(4, bool)}, "'0.bias' holds bool"),
        ({"0_bias": list("abcd")}, "'0.bias' holds <U1"),
        ({"0_bias": None, "1_1_weight": np.ones(3)}, r"missing '0.bias'|'1.1.weight' has shape"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(changes, text):
    net = network()
    kept = net.state_dict()
    state = change({name: value + 1 for name, value in kept.items()}, **changes)
    with pytest.raises(ValueError, match=f"does not fit Sequential.*({text})"):
        net.load_state_dict(state)
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


def test_every_problem_of_a_state_dict_is_named():
    with pytest.raises(ValueError, match="does not fit") as error:
        network().load_state_dict({"0.bias": np.ones(3), "extra": np.ones(1)})
    assert str(error.value) == (
        "state dict does not fit Sequential: '0.bias' has shape (3,), expected (4,); "
        "missing '0.weight'; missing '1.1.weight'; unexpected 'extra'"
    )


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble, "float32"])
def test_to_converts_everything_and_keeps_one_buffer(dtype):
    net = network()
    x = RNG(1).normal(size=(5, 3)).astype(np.float32)
    net.backward(net(x))
    before = [(p.data.copy(), p.grad.copy()) for p in net.parameters()]
    assert net.to(dtype) is net
    for p, (data, grad) in zip(net.parameters(), before, strict=True):
        assert p.dtype == p.grad.dtype == dtype
        assert np.array_equal(p.data, data)
        assert np.array_equal(p.grad, grad)
    assert len(list(runs(net.parameters()))) == 1
    y = net(x.astype(dtype))
    assert y.dtype == net.backward(np.ones_like(y)).dtype == dtype
    with pytest.raises(TypeError, match="float16"):
        net.to(np.float16)
    assert net[0].weight.dtype == dtype


def test_modes_reach_every_module():
    net = Scaled(network())
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net
    assert all(module.training for module in net.modules())
    assert net.train(False).inner[1][0].training is False
    for bad in (1, "eval", None):
        with pytest.raises(ValueError, match=f"mode must be True or False, got {bad!r}"):
            net.train(bad)
        with pytest.raises(ValueError, match="boolean"):
            torch.nn.Tanh().train(bad)


def test_repr_is_torchs():
    net = network()
    assert repr(net) == repr(twin(net))
    assert repr(nn.Sequential()) == repr(torch.nn.Sequential())
    assert repr(Scaled(nn.Tanh())) == "Scaled(\n  (inner): Tanh()\n)"

    class Told(Scaled):
        def extra_repr(self):
            return "told"

    class TorchTold(torch.nn.Module):
        def extra_repr(self):
            return "told"

    theirs = TorchTold()
    theirs.inner = torch.nn.Sequential(torch.nn.Tanh())
    expected = repr(theirs).replace("TorchTold", "Told")
    assert repr(Told(nn.Sequential(nn.Tanh()))) == expected


def test_check_array():
    array = np.ones((2, 3))
    check_array("a", array)
    check_array("a", array, (2, 3), np.dtype(np.float64))
    with pytest.raises(ValueError, match=r"a: expected shape \(3, 2\), got \(2, 3\)"):
        check_array("a", array, (3, 2))
    with pytest.raises(TypeError, match="a: expected dtype float32, got float64"):
        check_array("a", array, dtype=np.dtype(np.float32))
    with pytest.raises(TypeError, match="a: expected a NumPy array, got Parameter"):
        check_array("a", nn.Parameter(array))
    with pytest.raises(TypeError, match=r"a: expected float32, .*, got >f8"):
        check_array("a", array.astype(">f8"))


def test_gradients_are_forgotten_or_zeroed():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    first, *_, last = net.parameters()
    last.grad = np.ones(last.shape, np.float32)
    net.zero_grad(set_to_none=False)
    assert first.grad is None
    assert np.array_equal(last.grad, np.zeros(last.shape))
    net.zero_grad()
    assert [p.grad for p in net.parameters()] == [None] * 4


def test_children_are_the_modules_directly_inside():
    inner = nn.Sequential(nn.Tanh())
    net = nn.Sequential(nn.Linear(2, 3), inner)
    assert list(net.children()) == [net[0], inner]
