"""A network of one's own with its torch twin handed over."""

import copy
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch

import torch_ref
import torch_ref.modules
from compare import compare
from compare.sides import OneUnit, copy_values, go_on, manual_run, stand, torch_run
from compare.trace import Run, manual_step, units
from manual import nn, optim

DTYPES = [np.float64, np.float32]
TORCH = {np.float64: torch.float64, np.float32: torch.float32}


class LayerNorm:
    """By hand, without any base: forward, backward and named_parameters are all there is."""

    def __init__(self, n, dtype=np.float64):
        g = np.random.default_rng(0)
        self.weight, self.bias = (nn.Parameter(g.normal(size=n).astype(dtype)) for _ in range(2))

    def named_parameters(self):
        return [("weight", self.weight), ("bias", self.bias)]

    def forward(self, x):
        d = x - x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + x.dtype.type(1e-5))
        self.saved = d * inverse, inverse
        return d * inverse * self.weight.data + self.bias.data

    def backward(self, dy):
        z, inverse = self.saved
        self.weight.grad, self.bias.grad = (dy * z).sum(0), dy.sum(0)
        dz = dy * self.weight.data
        inner = dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True)
        return inner * inverse


class Trainable:
    """Something with data and a gradient, and no more."""

    def __init__(self, data):
        self.data, self.grad = data, None


class Scale:
    """y = w x, with a parameter that is none of manual's."""

    def __init__(self, n, dtype=np.float64):
        self.w = Trainable(np.linspace(0.5, 2, n).astype(dtype))

    def named_parameters(self):
        yield "w", self.w

    def forward(self, x):
        self.x = x
        return self.w.data * x

    def backward(self, dy):
        self.w.grad = (dy * self.x).sum(0)
        return dy * self.w.data


class TorchScale(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return self.w * x


def data(dtype=np.float64, n_in=4, n_out=4, n=6):
    g = np.random.default_rng(5)
    return [g.normal(size=(n, k)).astype(dtype) for k in (n_in, n_out)]


def linear(n_in, n_out, dtype=np.float64, seed=0):
    return nn.Linear(n_in, n_out, dtype=dtype, generator=np.random.default_rng(seed))


# What passes.


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_class_of_ones_own_is_proven_over_several_steps(dtype):
    """Its twin's values, and its dtype, do not matter."""
    net, theirs = LayerNorm(4, dtype), torch.nn.LayerNorm(4)
    optimizer = optim.Adam([p for _, p in net.named_parameters()], lr=0.01)
    options = {"optimizer": optimizer, "steps": 4, "twin": theirs}
    comparison = compare(net, nn.MSELoss(), *data(dtype), **options)
    assert comparison.passed, comparison
    rows = ["x", "activation", "loss", "d_activation", "grad.weight", "grad.bias", "d_x"]
    rows += ["updated.weight", "updated.bias"]
    assert list(comparison.frame["name"]) == 4 * rows
    assert (theirs.weight == 1).all()
    assert theirs.weight.dtype == torch.float32
    assert comparison.frame.oracle[comparison.frame["name"] == "d_x"].notna().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_parameter_needs_data_and_a_gradient_alone(dtype):
    comparison = compare(Scale(4, dtype), nn.MSELoss(), *data(dtype), twin=TorchScale(4))
    assert comparison.passed, comparison
    assert "grad.w" in set(comparison.frame["name"])


class Square(nn.Module):
    def forward(self, x):
        self.saved = (x,)
        return x * x

    def backward(self, dy):
        (x,) = self.recall()
        return 2 * x * dy


class WrongSquare(Square):
    def backward(self, dy):
        return super().backward(dy) / 2


class TorchSquare(torch.nn.Module):
    def forward(self, x):
        return x * x


class HalfSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return x * dy


class WrongTorchSquare(torch.nn.Module):
    def forward(self, x):
        return HalfSlope.apply(x)


def chain(square, dtype=np.float64):
    inner = nn.Sequential(linear(5, 3, dtype), square())
    return nn.Sequential(linear(4, 5, dtype), nn.BatchNorm1d(5, dtype=dtype), inner)


def torch_chain(square):
    inner = torch.nn.Sequential(torch.nn.Linear(5, 3), square())
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), inner)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequential_with_a_child_of_ones_own_is_judged_part_by_part(dtype):
    net, theirs = chain(Square, dtype), torch_chain(TorchSquare)
    options = {"optimizer": optim.SGD(net.parameters(), lr=0.01), "steps": 3, "twin": theirs}
    kept = copy.deepcopy(theirs.state_dict())
    comparison = compare(net, nn.MSELoss(), *data(dtype, 4, 3), **options, allow_vacuous=["*"])
    assert comparison.passed, comparison
    rows = {"activation.0", "activation.1", "activation.2.0", "activation.2.1", "grad.2.0.weight"}
    assert rows | {"buffer.1.running_var"} <= set(comparison.frame["name"])
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert type(theirs[2]) is torch.nn.Sequential
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in theirs.modules())


def test_whose_part_is_wrong_is_known_without_a_definition(only):
    given = nn.MSELoss(), *data(np.float64, 4, 3)
    comparison = compare(chain(WrongSquare), *given, twin=torch_chain(TorchSquare))
    assert only(comparison) == ("d_activation.2.0", "mismatch", "manual")
    comparison = compare(chain(Square), *given, twin=torch_chain(WrongTorchSquare))
    assert only(comparison) == ("d_activation.2.0", "mismatch", "torch")
    comparison = compare(chain(WrongSquare), *given, twin=torch_chain(WrongTorchSquare))
    assert only(comparison) == ("d_activation.2.0", "mismatch", "both")


class TorchWhole(torch.nn.Module):
    """Parameters of the same names in a module that is no Sequential."""

    def __init__(self):
        super().__init__()
        for name, module in torch_chain(TorchSquare).named_children():
            self.add_module(name, module)

    def forward(self, x):
        return self._modules["2"](self._modules["1"](self._modules["0"](x)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_twin_of_another_structure_is_one_unit(dtype, first):
    net = chain(Square, dtype)
    options = {"optimizer": optim.SGD(net.parameters(), lr=0.01), "steps": 3, "twin": TorchWhole()}
    given = nn.MSELoss(), *data(dtype, 4, 3)
    comparison = compare(net, *given, **options, allow_vacuous=["*"])
    assert comparison.passed, comparison
    names = set(comparison.frame["name"])
    assert {"activation", "d_x", "grad.2.0.weight", "buffer.1.running_mean"} <= names
    assert "activation.0" not in names
    wrong = chain(WrongSquare, dtype)
    row, _, blame = first(compare(wrong, *given, twin=TorchWhole(), allow_vacuous=["*"]))
    assert row.startswith("grad.")
    assert blame == "manual"


def test_the_training_shortcut_of_a_network_as_one_unit_is_proven_too(monkeypatch, first):
    net = chain(Square)
    monkeypatch.setattr(nn.Sequential, "backward_parameters", lambda self, dy: None)
    comparison = compare(
        net, nn.MSELoss(), *data(np.float64, 4, 3), twin=TorchWhole(), allow_vacuous=["*"]
    )
    row, _, blame = first(comparison)
    assert row == "grad.0.weight (backward_parameters)"
    assert blame == "manual"


def test_a_twin_of_known_modules_may_be_handed_over_too():
    net = nn.Sequential(linear(4, 3), nn.Residual(linear(3, 3, seed=1)), nn.Tanh())
    assert compare(net, nn.MSELoss(), *data(np.float64, 4, 3), twin=torch_ref.twin(net)).passed


class Whole:
    """A network by hand that happens to be made of known modules."""

    factor = 1

    def __init__(self, net):
        self.net = net

    def named_parameters(self):
        return self.net.named_parameters()

    def forward(self, x):
        return self.net.forward(x)

    def backward(self, dy):
        return self.factor * self.net.backward(dy)


@pytest.mark.parametrize("kind", [nn.Sequential, nn.Residual])
def test_a_network_by_hand_may_have_a_twin_that_could_be_taken_apart(kind, only):
    net = kind(linear(4, 4))
    own, theirs = Whole(net), torch_ref.twin(net)
    options = {"optimizer": optim.SGD(net.parameters(), lr=0.1, momentum=0.9), "twin": theirs}
    comparison = compare(own, nn.MSELoss(), *data(), **options, steps=3)
    assert comparison.passed, comparison
    name = next(name for name, _ in net.named_parameters())
    rows = ["x", "activation", "loss", "d_activation", f"grad.{name}"]
    assert list(comparison.frame["name"])[:5] == rows
    assert comparison.frame.oracle[comparison.frame["name"] == "d_x"].notna().all()
    own.factor = 1.01
    assert only(compare(own, nn.MSELoss(), *data(), twin=theirs))[::2] == ("d_x", "manual")


def test_a_residual_is_judged_part_by_part_where_its_twin_is_one_too():
    net = nn.Residual(nn.Sequential(linear(4, 4), nn.Residual(nn.Sequential(nn.Tanh()))))
    inner = torch.nn.Sequential(torch.nn.Tanh())
    inner = torch.nn.Sequential(torch.nn.Linear(4, 4), torch_ref.modules.Residual(inner))
    theirs = torch_ref.modules.Residual(inner)
    comparison = compare(net, nn.MSELoss(), *data(), twin=theirs)
    assert comparison.passed, comparison
    expected = ["module.0", "module.1.module.0", "module.1", ""]
    names = [f"activation.{path}".rstrip(".") for path in expected]
    assert [n for n in comparison.frame["name"] if n.startswith("activation")] == names


# What must be rejected, and what does not fit.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entry", ["weight", "bias"])
def test_a_gradient_that_is_off_in_a_class_of_ones_own_is_caught(monkeypatch, entry, dtype, only):
    right = LayerNorm.backward

    def off(self, dy):
        dx = right(self, dy)
        getattr(self, entry).grad[1] *= 1 + (1e-2 if dtype == np.float32 else 1e-6)
        return dx

    monkeypatch.setattr(LayerNorm, "backward", off)
    comparison = compare(
        LayerNorm(4, dtype), nn.MSELoss(), *data(dtype), twin=torch.nn.LayerNorm(4)
    )
    assert only(comparison) == (f"grad.{entry}", "mismatch", "manual")


WRONG_GRADIENTS = {
    "another shape": (lambda g: g[None], "shape"),
    "one that broadcasts": (lambda g: g[:1], "shape"),
    "a number": (lambda g: g.sum(), "shape"),
    "another dtype": (lambda g: g.astype(np.float32), "dtype"),
    "none": (lambda g: None, "missing"),
    "not a number": (lambda g: g * np.nan, "nonfinite"),
    "infinite": (lambda g: g * np.inf, "nonfinite"),
    "one not a number": (lambda g: np.where(np.arange(4) == 2, np.nan, g), "nonfinite"),
}


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
def test_a_gradient_of_another_kind_is_caught(monkeypatch, wrong, only):
    spoil, verdict = WRONG_GRADIENTS[wrong]
    right = Scale.backward

    def spoilt(self, dy):
        dx = right(self, dy)
        self.w.grad = spoil(self.w.grad)
        return dx

    monkeypatch.setattr(Scale, "backward", spoilt)
    comparison = compare(Scale(4), nn.MSELoss(), *data(), twin=TorchScale(4))
    assert only(comparison) == ("grad.w", verdict, "manual")


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS)
def test_a_dx_of_another_kind_is_caught(monkeypatch, wrong, first):
    spoil, verdict = WRONG_GRADIENTS[wrong]
    right = Scale.backward
    monkeypatch.setattr(Scale, "backward", lambda self, dy: spoil(right(self, dy)))
    comparison = compare(Scale(4), nn.MSELoss(), *data(), twin=TorchScale(4))
    assert first(comparison) == ("d_x", verdict, "manual")


@pytest.mark.parametrize(
    "theirs",
    [torch.nn.LayerNorm(5), torch.nn.LayerNorm(4, bias=False), TorchScale(4), torch.nn.Tanh()],
)
def test_parameters_that_do_not_fit_are_an_error(theirs):
    with pytest.raises(ValueError, match=r"the network's parameters are .*weight.*, the twin's {"):
        compare(LayerNorm(4), nn.MSELoss(), *data(), twin=theirs)


def test_buffers_that_do_not_fit_are_an_error():
    net = nn.BatchNorm1d(4, dtype=np.float64)
    theirs = torch.nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="the twin has no buffer 'running_mean' of shape"):
        compare(net, nn.MSELoss(), *data(), twin=theirs)


def test_a_buffer_that_manual_has_not_is_missing(first):
    class Bare(LayerNorm):
        pass

    class Counts(torch.nn.LayerNorm):
        def __init__(self):
            super().__init__(4)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += len(x)
            return super().forward(x)

    comparison = compare(Bare(4), nn.MSELoss(), *data(), twin=Counts())
    assert first(comparison) == ("buffer.seen", "missing", "manual")


# A loss of one's own, for which there is no definition.


class Quartic(nn.Criterion):
    """Σ (ŷ − y)⁴."""

    factor = 4

    def __init__(self):
        super().__init__("sum")

    def forward(self, prediction, target):
        self.saved = (prediction - target,)
        return (self.saved[0] ** 4).sum()

    def backward(self, dloss=None):
        (d,) = self.recall()
        return self.factor * d**3


class FourForThree(torch.autograd.Function):
    @staticmethod
    def forward(ctx, d):
        ctx.save_for_backward(d)
        return (d**4).sum()

    @staticmethod
    def backward(ctx, dloss):
        (d,) = ctx.saved_tensors
        return 3 * d**3 * dloss


class TorchQuartic(torch.nn.Module):
    wrong = False

    def forward(self, prediction, target):
        d = prediction - target
        return FourForThree.apply(d) if self.wrong else (d**4).sum()


@torch_ref.twin.register
def _(criterion: Quartic) -> torch.nn.Module:
    return TorchQuartic()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_of_ones_own_is_proven(dtype):
    net = linear(4, 4, dtype)
    comparison = compare(net, Quartic(), *data(dtype))
    assert comparison.passed, comparison
    frame = comparison.frame.set_index("name")
    asked = frame.loc["d_activation"]
    assert asked.oracle == pytest.approx(asked.torch, rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_who_is_wrong_in_a_loss_of_ones_own(monkeypatch, dtype, only):
    given = linear(4, 4, dtype), Quartic(), *data(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(Quartic, "factor", 3)
        assert only(compare(*given)) == ("d_activation", "mismatch", "manual")
        patch.setattr(TorchQuartic, "wrong", True)
        assert only(compare(*given)) == ("d_activation", "mismatch", "both")
    monkeypatch.setattr(TorchQuartic, "wrong", True)
    assert only(compare(*given)) == ("d_activation", "mismatch", "torch")


def test_a_whole_twin_keeps_each_part_in_the_mode_of_manuals():
    """A BatchNorm in eval, in a network that trains and is one unit."""
    net = chain(Square, np.float64)
    net[1].eval()
    given = nn.MSELoss(), *data(np.float64, 4, 3)
    assert compare(net, *given, twin=TorchWhole(), allow_vacuous=["*"]).passed
    mine = torch_chain(TorchSquare).eval()
    assert compare(chain(Square, np.float64), *given, twin=mine, allow_vacuous=["*"]).passed
    assert not mine.training


# How a side is made.


def everything(net):
    """A network's side with all that can belong to it."""
    optimizer = optim.SGD(net.parameters(), lr=0.5, momentum=0.5)
    scheduler = optim.StepLR(optimizer, 2)
    clip = partial(optim.clip_grad_norm_, max_norm=0.5)
    return net, nn.MSELoss(), optimizer, scheduler, clip


def test_manuals_side_is_of_copies_that_belong_together():
    net, *others, clip = everything(nn.Sequential(linear(4, 3), nn.Tanh()))
    own, built = manual_run(net, None, *others, clip)
    assert built is None
    assert own.clip is clip
    for mine, given in zip(own[:4], (net, *others), strict=True):
        assert type(mine) is type(given)
        assert mine is not given
    assert own.scheduler.optimizer is own.optimizer
    assert own.optimizer.param_groups[0]["params"][0] is own.net[0].weight
    np.testing.assert_array_equal(own.net[0].weight.data, net[0].weight.data)


def test_one_unit_trains_as_its_network_does():
    called = []

    class Trained(Scale):
        def backward(self, dy):
            called.append(("backward", dy))

    class Short(Trained):
        def backward_parameters(self, dy):
            called.append(("backward_parameters", dy))

    for kind in (Trained, Short):
        OneUnit(kind(4)).backward_parameters(3.0)
    assert called == [("backward", 3.0), ("backward_parameters", 3.0)]


def test_a_twin_that_is_handed_over_is_copied_and_overwrites_nothing():
    given = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(inplace=True))
    _, built = manual_run(nn.Sequential(linear(4, 3), nn.ReLU()), given, nn.MSELoss(), *[None] * 3)
    assert type(built) is torch_ref.modules.Sequential
    assert [name for name, _ in built.named_children()] == ["0", "1"]
    assert type(built[0]) is torch.nn.Linear
    assert built[1].inplace is False
    assert given[1].inplace
    assert built[0] is not given[0]


def test_a_twin_whose_parts_have_other_names_is_one_unit():
    """Its parameters have the same."""
    parts = {"0": torch.nn.Linear(4, 3), "activation": torch.nn.Tanh()}
    given = torch.nn.Sequential(OrderedDict(parts))
    net = nn.Sequential(linear(4, 3), nn.Tanh())
    own, built = manual_run(net, given, nn.MSELoss(), None, None, None)
    assert [unit.path for unit in units(own.net)] == [""]
    assert [unit.path for unit in units(built)] == [""]
    assert type(built) is torch.nn.Sequential
    assert built is not given
    x = np.ones((2, 4))
    np.testing.assert_array_equal(own.net.forward(x), net(x))
    assert [name for name, _ in own.net.named_parameters()] == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("net", "theirs"),
    [
        (nn.Residual(linear(4, 4)), torch.nn.Linear(4, 4)),
        (linear(4, 4), torch_ref.modules.Residual(torch.nn.Linear(4, 4))),
    ],
)
def test_where_one_side_alone_is_a_residual_it_is_one_unit(net, theirs):
    own, built = manual_run(net, theirs, nn.MSELoss(), None, None, None)
    assert [unit.path for unit in units(own.net)] == [""]
    assert [unit.path for unit in units(built)] == [""]


@pytest.mark.parametrize("modes", [(True, False), (False, True), (False, False), (True, True)])
def test_every_part_of_a_twin_is_in_the_mode_of_manuals(modes):
    inner = nn.Sequential(nn.Tanh())
    net = nn.Sequential(linear(4, 3), inner).train(modes[0])
    inner.train(modes[1])
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sequential(torch.nn.Tanh()))
    theirs.train(not modes[0])[1].train(not modes[1])
    _, built = manual_run(net, theirs, nn.MSELoss(), None, None, None)
    assert [m.training for m in (built, built[0], built[1], built[1][0])] == [
        *(modes[0], modes[0], modes[1], modes[1])
    ]


def test_a_network_without_parts_may_have_a_mode():
    for mode in (True, False):
        net, theirs = LayerNorm(4), torch.nn.LayerNorm(4).train(not mode)
        net.training = mode
        assert manual_run(net, theirs, None, None, None, None)[1].training == mode


@pytest.mark.parametrize("given", [None, torch.nn.Linear(4, 3)])
def test_torchs_side_is_on_its_device(given):
    net = linear(4, 3)
    for device in ("cpu", "meta"):
        side = torch_run(Run(net, nn.MSELoss()), given, device, torch.float64)
        assert side.net.weight.device.type == device


def test_a_network_without_a_mode_leaves_its_twin_in_its_own():
    for mode in (True, False):
        theirs = torch.nn.LayerNorm(4).train(mode)
        assert manual_run(LayerNorm(4), theirs, None, None, None, None)[1].training == mode


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("handed_over", [False, True])
def test_torchs_side_has_manuals_values_in_a_dtype(dtype, handed_over):
    net = nn.Sequential(linear(4, 3), nn.BatchNorm1d(3, dtype=np.float64))
    net[1].running_mean[...] = [1, 2, 3]
    own = Run(*everything(net))
    given = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    given = given if handed_over else None
    dtype = torch.float64 if handed_over and dtype is None else dtype
    side = torch_run(own, given, "cpu", dtype)
    expected = dtype or torch.float64
    assert {p.dtype for p in side.net.parameters()} == {expected}
    for name, p in net.named_parameters():
        value = dict(side.net.named_parameters())[name].detach()
        assert torch.equal(value, torch.tensor(p.data).to(expected))
    assert side.net[1].running_mean.tolist() == [1, 2, 3]
    assert type(side.criterion) is torch.nn.MSELoss
    assert type(side.optimizer) is torch.optim.SGD
    assert side.optimizer.param_groups[0]["params"][0] is side.net[0].weight
    assert side.scheduler.optimizer is side.optimizer
    assert side.clip.keywords["max_norm"] == 0.5
    if handed_over:
        assert given[1].running_mean.tolist() == [0, 0, 0]
        assert given[0].weight.dtype == torch.float32


def test_torchs_side_goes_on_from_where_manual_stands():
    """The weights; with L-BFGS its state, too."""
    for kind, options in ((optim.SGD, {"momentum": 0.5}), (optim.LBFGS, {"max_iter": 3})):
        net, criterion, x, y = linear(4, 4), nn.MSELoss(), *data()
        optimizer = kind(net.parameters(), lr=0.1, **options)
        own = Run(net, criterion, optimizer)
        side = torch_run(own, None, "cpu", torch.float32)
        before = copy.deepcopy(side.optimizer.state_dict())
        manual_step(own, x, y)
        go_on(side, own)
        assert side.net.weight.dtype == torch.float32
        assert torch.equal(side.net.weight.detach(), torch.tensor(net.weight.data).float())
        state = side.optimizer.state_dict()["state"]
        if kind is optim.SGD:
            assert state == before["state"]
        else:
            mine = optimizer.state_dict()["state"][0]
            np.testing.assert_allclose(state[0]["d"].numpy(), mine["d"], rtol=1e-6)


def test_what_does_not_fit_is_named():
    net = linear(4, 3)
    with pytest.raises(ValueError, match="parameters") as caught:
        stand(torch.nn.Linear(4, 3, bias=False), net, torch.float64)
    expected = "compare: the network's parameters are {'weight': [3, 4], 'bias': [3]}, "
    assert str(caught.value) == expected + "the twin's {'weight': [3, 4]}"
    norm = nn.BatchNorm1d(3, dtype=np.float64)
    bare = torch.nn.BatchNorm1d(3, track_running_stats=False)
    other = torch.nn.BatchNorm1d(3)
    other.running_mean = torch.zeros(1)
    for theirs in (bare, other):
        with pytest.raises(ValueError, match="buffer") as caught:
            stand(theirs, norm, torch.float64)
        assert str(caught.value) == "compare: the twin has no buffer 'running_mean' of shape [3]"


def test_one_copy_of_a_network_is_put_where_another_stands():
    nets = [
        nn.Sequential(linear(4, 3, seed=k), nn.BatchNorm1d(3, dtype=np.float64)) for k in (0, 1)
    ]
    nets[1][1].running_var[...] = 7
    arrays = [p.data for p in nets[0].parameters()]
    copy_values(*nets)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(value, nets[1].state_dict()[name])
    assert all(p.data is a for p, a in zip(nets[0].parameters(), arrays, strict=True))
    scales = Scale(4), Scale(4)  # without buffers
    scales[1].w.data[...] = 5
    copy_values(*scales)
    assert (scales[0].w.data == 5).all()
