"""Layer by layer: one wrong layer is one wrong row, and it is manual that is blamed for it."""

from functools import partial

import numpy as np
import pytest

from compare import compare
from manual import nn, optim
from manual.optim import clip

DTYPES = [np.float64, np.float32]


def off(dtype):
    """A factor that rounding cannot explain."""
    return dtype(1 + (1e-2 if dtype == np.float32 else 1e-6))


class ForwardOff(nn.Tanh):
    def forward(self, x):
        return super().forward(x) * off(x.dtype.type)


class DxOff(nn.GELU):
    def backward(self, dy):
        return super().backward(dy) * off(dy.dtype.type)


class WeightOff(nn.Linear):
    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.weight.grad[1, 2] *= off(dy.dtype.type)


class BiasForgotten(nn.Linear):
    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad = None


class BiasNaN(nn.Linear):
    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad[1] = np.nan


class DxOfResidual(nn.Residual):
    """The way around f forgotten in backward."""

    def backward(self, dy):
        return self.module.backward(dy)


class NoSkip(nn.Residual):
    """The way around f forgotten in forward."""

    def forward(self, x):
        super().forward(x)
        return self.module(x)


LAYERS = {
    "forward": ({"tanh": ForwardOff}, "activation.1", "mismatch"),
    "dx": ({"gelu": DxOff}, "d_activation.3", "mismatch"),
    "weight gradient": ({"linear": WeightOff}, "grad.2.weight", "mismatch"),
    "bias gradient not written": ({"linear": BiasForgotten}, "grad.2.bias", "missing"),
    "bias gradient not a number": ({"linear": BiasNaN}, "grad.2.bias", "nonfinite"),
    "Residual without dy": ({"residual": DxOfResidual}, "d_activation.2", "mismatch"),
    "Residual without x": ({"residual": NoSkip}, "activation.3", "mismatch"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", LAYERS)
def test_one_wrong_layer_is_one_wrong_row(mistake, dtype, deep, only):
    parts, row, verdict = LAYERS[mistake]
    assert only(compare(*deep(dtype, **parts), oracle=False)) == (row, verdict, "manual")


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_mistake_no_row_fails(dtype, deep):
    net, *given = deep(dtype)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    scheduler = optim.ExponentialLR(optimizer, 0.9)
    options = {"optimizer": optimizer, "scheduler": scheduler}
    options["clip"] = partial(optim.clip_grad_norm_, max_norm=0.1)
    comparison = compare(net, *given, **options, steps=2)
    assert comparison.passed, comparison
    assert set(comparison.frame.verdict) == {"ok"}
    assert comparison.blame is None
    assert not comparison.frame["name"].str.contains(r"\(").any()


class LossOff(nn.MSELoss):
    def forward(self, prediction, target):
        return super().forward(prediction, target) * off(prediction.dtype.type)


class LossDxOff(nn.MSELoss):
    def backward(self, dloss=None):
        dprediction = super().backward(dloss)
        return dprediction * off(dprediction.dtype.type)


class Spinning(optim.SGD):
    def step(self):
        for p in self.param_groups[0]["params"]:
            p.grad[...] *= off(p.data.dtype.type)
        super().step()


class Hasty(optim.ExponentialLR):
    def step(self):
        super().step()
        self.optimizer.param_groups[0]["lr"] *= 1 + 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("criterion", "row"), [(LossOff, "loss"), (LossDxOff, "d_activation.5")])
def test_a_wrong_loss_is_one_wrong_row(criterion, row, dtype, deep, only):
    net, _, x, y = deep(dtype)
    assert only(compare(net, criterion(), x, y)) == (row, "mismatch", "manual")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_clipping_is_blamed_on_manual(monkeypatch, dtype, deep, first):
    net, *given = deep(dtype)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    norm = clip._norm
    monkeypatch.setattr(clip, "_norm", lambda g, p: norm(g, p) * off(g.dtype.type))
    by_norm = partial(optim.clip_grad_norm_, max_norm=0.1)
    comparison = compare(net, *given, optimizer=optimizer, clip=by_norm)
    assert first(comparison) == ("grad_norm", "mismatch", "manual")
    names = set(comparison.failures["name"])  # and no gradient before, no update after
    assert names == {"grad_norm", *(f"clipped.{name}" for name, _ in net.named_parameters())}
    assert set(comparison.failures.blame) == {"manual"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_update_is_wrong_in_the_updated_rows_alone(dtype, deep):
    net, *given = deep(dtype)
    comparison = compare(net, *given, optimizer=Spinning(net.parameters(), lr=0.1))
    failures = comparison.failures
    assert set(failures["name"]) == {f"updated.{name}" for name, _ in net.named_parameters()}
    assert set(failures.blame) == {"manual"}
    assert set(failures.verdict) == {"mismatch"}


def test_a_wrong_schedule_is_wrong_in_its_rate_alone(deep, only):
    net, *given = deep()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    options = {"optimizer": optimizer, "scheduler": Hasty(optimizer, 0.5)}
    assert only(compare(net, *given, **options)) == ("lr.0", "mismatch", "manual")


# How modules are put together.


def nested(g, kind=nn.Sequential):
    def linear():
        return nn.Linear(3, 3, dtype=np.float64, generator=g)

    return {
        "Residual of Residual": nn.Residual(nn.Residual(linear())),
        "Residual(Identity)": nn.Residual(nn.Identity()),
        "Residual of nothing": nn.Residual(kind()),
        "Residual that begins with nothing": nn.Residual(kind(kind(), linear(), kind())),
        "Residual that ends with a Residual": nn.Residual(
            kind(nn.Residual(kind(linear(), nn.Tanh())), nn.Residual(linear()))
        ),
        "Sequentials": kind(kind(kind(linear(), kind())), nn.Tanh(), kind()),
        "nothing": kind(),
        "Residuals of nothing": nn.Residual(nn.Residual(kind(kind()))),
        "a single module": linear(),
    }


NESTED = list(nested(np.random.default_rng(0)))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", NESTED)
def test_any_nesting_passes(name, inside):
    g = np.random.default_rng(0)
    net = nested(g)[name]
    if inside:
        net = nn.Sequential(nn.Linear(3, 3, dtype=np.float64, generator=g), net, nn.Sigmoid())
    x, y = g.normal(size=(4, 3)), g.normal(size=(4, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.1) if list(net.parameters()) else None
    comparison = compare(net, nn.MSELoss(), x, y, optimizer=optimizer)
    assert comparison.passed, comparison
    backward = comparison.frame[comparison.frame.stage == "backward"]
    exact = backward.allowed == 0  # what a Residual hands on as it is
    assert (backward.oracle.notna() | exact).all(), backward[["name", "oracle", "allowed"]]


@pytest.mark.parametrize("name", [name for name in NESTED if "Residual" in name])
def test_a_residual_without_dy_is_blamed_however_it_is_nested(monkeypatch, name, first):
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 3, dtype=np.float64, generator=g), nested(g)[name])
    x, y = g.normal(size=(4, 3)), g.normal(size=(4, 3))
    monkeypatch.setattr(nn.Residual, "backward", lambda self, dy: self.module.backward(dy))
    comparison = compare(net, nn.MSELoss(), x, y)
    row, *rest = first(comparison)
    assert rest == ["mismatch", "manual"]
    assert row.startswith(("d_x.1.", "d_activation.0", "d_activation.1."))
    residuals = sum(isinstance(module, nn.Residual) for module in net.modules())
    assert len(comparison.failures) == residuals


class Skips(nn.Sequential):
    """Leaves out the second module in forward."""

    def forward(self, x):
        for k, module in enumerate(self):
            x = x if k == 1 else module(x)
        return x


class SkipsLast(nn.Sequential):
    def forward(self, x):
        for module in list(self)[:-1]:
            x = module(x)
        return x


class SkipsInBackward(nn.Sequential):
    def backward(self, dy):
        for k, module in reversed(list(enumerate(self))):
            dy = dy if k == 1 else module.backward(dy)
        return dy


class WrongOrder(nn.Sequential):
    def forward(self, x):
        first, second, *rest = self
        for module in (second, first, *rest):
            x = module(x)
        return x


class ForwardsInBackward(nn.Sequential):
    """Backward through the modules in the order of forward."""

    def backward(self, dy):
        for module in self:
            dy = module.backward(dy)
        return dy


class Doubles(nn.Sequential):
    """Does something of its own between two modules."""

    def forward(self, x):
        first, *rest = self
        x = 2 * first(x)
        for module in rest:
            x = module(x)
        return x


class LosesTheFirstDx(nn.Sequential):
    def backward(self, dy):
        super().backward(dy)
        return dy


COMPOSITIONS = {
    Skips: ("activation.1", "missing"),
    SkipsLast: ("prediction", "mismatch"),
    SkipsInBackward: ("d_activation.0", "mismatch"),
    WrongOrder: ("activation.0", "mismatch"),
    ForwardsInBackward: ("d_activation.3", "mismatch"),
    Doubles: ("activation.1", "mismatch"),
    LosesTheFirstDx: ("d_x", "mismatch"),
}


@pytest.mark.parametrize("kind", COMPOSITIONS)
def test_modules_wrongly_put_together_are_caught(kind, first):
    g = np.random.default_rng(0)
    layers = [nn.Linear(3, 3, dtype=np.float64, generator=g) for _ in range(2)]
    net = kind(layers[0], nn.Tanh(), layers[1], nn.Sigmoid())
    x, y = g.normal(size=(4, 3)), g.normal(size=(4, 3))
    comparison = compare(net, nn.MSELoss(), x, y)
    assert first(comparison) == (*COMPOSITIONS[kind], "manual")


# What raises.


class RaisesInForward(nn.Tanh):
    def forward(self, x):
        raise ValueError("no forward today")


class RaisesInBackward(nn.Tanh):
    def backward(self, dy):
        raise ZeroDivisionError("no backward today")


class RaisesInParameters(nn.Linear):
    def backward_parameters(self, dy):
        raise KeyError("no gradients today")


def test_a_forward_that_raises_costs_its_own_rows_alone(deep, first):
    comparison = compare(*deep(tanh=RaisesInForward))
    assert first(comparison) == ("activation.1", "missing", "manual")
    missing = {"activation.1", "d_activation.0"}  # its backward has nothing to go on
    assert set(comparison.failures["name"]) == missing
    assert "forward of RaisesInForward '1' raised ValueError: no forward today" in str(comparison)


def test_a_backward_that_raises_costs_its_own_rows_alone(deep, only, first):
    comparison = compare(*deep(tanh=RaisesInBackward))
    assert only(comparison) == ("d_activation.0", "missing", "manual")
    told = "backward of RaisesInBackward '1' raised ZeroDivisionError: no backward today"
    assert told in str(comparison)
    comparison = compare(*deep(linear=RaisesInParameters))
    assert set(comparison.failures["name"]) == {"grad.2.weight", "grad.2.bias", "d_activation.1"}
    assert set(comparison.failures.blame) == {"manual"}
    assert "backward of RaisesInParameters '2' raised KeyError" in str(comparison)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_loss_that_raises_is_named(monkeypatch, method, deep, first):
    def raises(self, *given):
        raise ValueError("not today")

    monkeypatch.setattr(nn.MSELoss, method, raises)
    comparison = compare(*deep())
    row = {"forward": "loss", "backward": "d_activation.5"}[method]
    assert first(comparison) == (row, "missing", "manual")
    assert "raised ValueError: not today" in str(comparison)


def test_an_update_that_raises_is_named(monkeypatch, deep, first):
    def raises(self):
        raise ValueError("not today")

    net, *given = deep()
    monkeypatch.setattr(optim.SGD, "step", raises)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    comparison = compare(net, *given, optimizer=optimizer, steps=3)
    assert first(comparison) == ("updated.0.weight", "missing", "manual")
    assert "manual's update raised ValueError: not today" in str(comparison)
    assert set(comparison.frame.step) == {1}  # nobody can go on from there


# What must not be changed.


class ChangesX(nn.Tanh):
    def forward(self, x):
        y = super().forward(x)
        x *= 2
        return y


class ChangesDy(nn.Tanh):
    def backward(self, dy):
        dx = super().backward(dy)
        dy[...] = 0
        return dx


class ChangesWeight(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        self.weight.data[0, 0] += 1
        return y


class ChangesTarget(nn.MSELoss):
    def forward(self, prediction, target):
        loss = super().forward(prediction, target)
        target[...] = 0
        return loss


class ChangesPrediction(nn.MSELoss):
    def forward(self, prediction, target):
        loss = super().forward(prediction, target)
        prediction[...] = 0
        return loss


CHANGES = {
    "activation": ({"tanh": ChangesX}, None, "activation.0 (changed)"),
    "upstream gradient": ({"tanh": ChangesDy}, None, "d_activation.1 (changed)"),
    "parameter": ({"linear": ChangesWeight}, None, "2.weight (changed)"),
    "target": ({}, ChangesTarget(), "y (changed)"),
    "prediction": ({}, ChangesPrediction(), "prediction (changed)"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", CHANGES)
def test_what_was_given_is_left_as_it_was(what, dtype, deep, first):
    parts, criterion, row = CHANGES[what]
    net, usual, x, y = deep(dtype, **parts)
    comparison = compare(net, criterion or usual, x, y)
    assert row in set(comparison.failures["name"])
    assert first(comparison) == (row, "mismatch", "manual")


def test_the_input_of_the_network_is_left_as_it_was(only):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(4, 3)), g.normal(size=(4, 3))
    assert only(compare(ChangesX(), nn.MSELoss(), x, y)) == ("x (changed)", "mismatch", "manual")
    kept = x.copy()
    compare(ChangesX(), nn.MSELoss(), x, y)
    np.testing.assert_array_equal(x, kept)


class ListForward(nn.Tanh):
    def forward(self, x):
        return super().forward(x).tolist()


class ListBackward(nn.Tanh):
    def backward(self, dy):
        return super().backward(dy).tolist()


@pytest.mark.parametrize(
    ("kind", "row", "what"),
    [(ListForward, "activation.1", "forward"), (ListBackward, "d_activation.0", "backward")],
)
def test_what_is_no_array_is_missing_where_it_was_returned(kind, row, what):
    g = np.random.default_rng(3)
    net = nn.Sequential(nn.Linear(4, 3, generator=g), kind(), nn.Linear(3, 2, generator=g))
    x, y = (g.normal(size=(5, n)).astype(np.float32) for n in (4, 2))
    compared = compare(net, nn.MSELoss(), x, y)
    first = compared.failures.iloc[0]
    assert (first["name"], first.verdict, first.blame) == (row, "missing", "manual"), compared
    assert f"{what} of {kind.__name__} '1' returned a list, expected an ndarray" in str(compared)
