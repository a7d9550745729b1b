"""What is recorded of torch's side, and that mistakes there are blamed on it."""

import numpy as np
import pytest
import torch

import torch_ref
from compare import compare
from compare.trace import Run, torch_side, torch_step
from manual import nn, optim
from torch_ref import modules

DTYPES = [np.float64, np.float32]


def given(dtype=np.float64, middle=nn.Tanh, last=nn.Linear):
    g = np.random.default_rng(2)
    net = nn.Sequential(
        nn.Linear(4, 3, dtype=dtype, generator=g), middle(), last(3, 3, dtype=dtype, generator=g)
    )
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (4, 3))
    return net, nn.HalfSquaredError(), x, y


def twin(middle=torch.nn.Tanh, last=torch.nn.Linear):
    return torch.nn.Sequential(torch.nn.Linear(4, 3), middle(), last(3, 3))


def wrong_backward(change):
    """tanh, with `change` made to the gradient that its backward returns."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(torch.tanh(x))
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, dy):
            (y,) = ctx.saved_tensors
            return change(dy * (1 - y * y), dy)

    class Module(torch.nn.Module):
        def forward(self, x):
            return Wrong.apply(x)

    return Module


def nan_at(gradient, value):
    gradient = gradient.clone()
    gradient[2, 1] = value
    return gradient


BACKWARDS = {
    "a factor": (lambda dx, dy: dx * 1.01, "mismatch"),
    "the sign": (lambda dx, dy: -dx, "mismatch"),
    "dy as it is": (lambda dx, dy: dy.clone(), "mismatch"),
    "zeros": (lambda dx, dy: torch.zeros_like(dx), "mismatch"),
    "one NaN": (lambda dx, dy: nan_at(dx, torch.nan), "nonfinite"),
    "one infinite": (lambda dx, dy: nan_at(dx, -torch.inf), "nonfinite"),
    "nothing": (lambda dx, dy: None, "missing"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", BACKWARDS)
def test_a_wrong_backward_of_torchs_is_blamed_on_torch(mistake, dtype, first):
    change, verdict = BACKWARDS[mistake]
    comparison = compare(*given(dtype), twin=twin(wrong_backward(change)))
    assert first(comparison) == ("d_activation.0", verdict, "torch")


def test_the_right_backward_is_right():
    assert compare(*given(), twin=twin(wrong_backward(lambda dx, dy: dx))).passed


class Module(torch.nn.Module):
    """A module of the given forward."""

    function = staticmethod(torch.tanh)

    def forward(self, x):
        return self.function(x)


def module(function):
    return type("Own", (Module,), {"function": staticmethod(function)})


FORWARDS = {
    "a factor": (lambda x: torch.tanh(x) * 1.01, "activation.1", "mismatch"),
    "all NaN": (lambda x: torch.tanh(x) * torch.nan, "activation.1", "nonfinite"),
    "cut off from the graph": (lambda x: torch.tanh(x.detach()), "d_activation.1", "missing"),
}


@pytest.mark.parametrize("mistake", FORWARDS)
def test_a_wrong_forward_of_torchs_is_blamed_on_torch(mistake, first):
    function, row, verdict = FORWARDS[mistake]
    assert first(compare(*given(), twin=twin(module(function)))) == (row, verdict, "torch")


class Growing(torch.nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        self.weight.data += 1
        return y


class Detached(torch.nn.Linear):
    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight.detach(), self.bias)


class Deep(torch.nn.Linear):
    """Another shape, which broadcasts beside the right one."""

    def forward(self, x):
        return super().forward(x)[None]


class Precise(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x).double()


@pytest.mark.parametrize(
    ("last", "row", "verdict"),
    [
        (Growing, "2.weight (changed)", "mismatch"),
        (Detached, "grad.2.weight", "missing"),
        (Deep, "activation.2", "shape"),
        (Precise, "activation.2", "dtype"),
    ],
)
def test_what_else_may_be_wrong_on_torchs_side(last, row, verdict, first):
    comparison = compare(*given(np.float32), twin=twin(last=last))
    assert row in set(comparison.failures["name"])
    assert first(comparison) == (row, verdict, "torch")


def test_another_shape_on_manuals_side_is_blamed_on_manual(first):
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x)[None]

    assert first(compare(*given(last=Own), twin=twin())) == ("activation.2", "shape", "manual")

    class Single(nn.Linear):
        def forward(self, x):
            return super().forward(x).astype(np.float32)

    assert first(compare(*given(last=Single), twin=twin())) == ("activation.2", "dtype", "manual")


def test_a_parameter_without_a_gradient_on_either_side_is_vacuous():
    class Own(nn.Linear):
        def backward_parameters(self, dy):
            super().backward_parameters(dy)
            self.weight.grad = None

    comparison = compare(*given(last=Own), twin=twin(last=Detached))
    row = comparison.failures.iloc[0]
    assert (row["name"], row.verdict) == ("grad.2.weight", "vacuous")
    assert comparison.blame is None
    assert len(comparison.failures) == 1


def test_the_input_and_the_target_are_left_alone(first):
    class Greedy(torch.nn.Module):
        def forward(self, x):
            y = x * 2
            x.data.add_(1)
            return y

    class Doubling(nn.Module):
        def forward(self, x):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    _, criterion, x, _ = given()
    net = nn.Sequential(Doubling())
    options = {"twin": torch.nn.Sequential(Greedy())}
    comparison = compare(net, criterion, x, x, **options)
    assert first(comparison) == ("x (changed)", "mismatch", "torch")

    class GreedyLoss(nn.HalfSquaredError):
        pass

    class TorchGreedyLoss(torch_ref.modules.HalfSquaredError):
        def forward(self, prediction, target):
            loss = super().forward(prediction, target)
            target.mul_(2)
            return loss

    torch_ref.twin.register(GreedyLoss, lambda criterion: TorchGreedyLoss())
    net, _, x, y = given()
    comparison = compare(net, GreedyLoss(), x, y)
    assert "y (changed)" in set(comparison.failures["name"])
    assert set(comparison.failures.blame) == {"torch"}


def overwrites_its_input(x):
    y = x.clone()
    x.data.mul_(2)
    return y


def test_an_activation_that_torch_overwrites_shows_where_it_is_needed(first):
    """Behind autograd's back: tanh's own backward needs what it returned."""
    net = nn.Sequential(nn.Tanh(), nn.Identity())
    theirs = torch.nn.Sequential(torch.nn.Tanh(), module(overwrites_its_input)())
    _, criterion, x, _ = given()
    comparison = compare(net, criterion, x, x, twin=theirs)
    assert first(comparison) == ("d_x", "mismatch", "torch")


def test_a_gradient_that_torch_overwrites_shows_where_it_is_needed(first):
    def zero(dx, dy):
        dy.zero_()
        return dx

    net = nn.Residual(nn.Tanh())
    theirs = torch_ref.modules.Residual(wrong_backward(zero)())
    _, criterion, x, _ = given()
    comparison = compare(net, criterion, x, x, twin=theirs)
    row, verdict, blame = first(comparison)
    assert (verdict, blame) == ("mismatch", "torch")
    assert row.startswith("d_")


# What is recorded.


def test_values_are_copies_and_no_hook_stays():
    net, criterion, x, y = given()
    sides = Run(*torch_ref.twins(net, criterion, optim.SGD(net.parameters(), lr=0.5)))
    tx, ty = torch.tensor(x), torch.tensor(y)
    first = torch_step(sides, tx, ty)
    kept = {name: row.value.copy() for name, row in first.rows.items()}
    torch_step(sides, tx, ty)
    for name, row in first.rows.items():
        np.testing.assert_array_equal(row.value, kept[name], err_msg=name)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in sides.net.modules())
    assert tx.grad is None
    assert not tx.requires_grad
    np.testing.assert_array_equal(tx.numpy(), x)


def test_hooks_go_also_where_a_forward_raises():
    def raises(x):
        raise ValueError("not today")

    theirs = twin(module(raises))
    with pytest.raises(ValueError, match="not today"):
        torch_step(Run(theirs, torch.nn.MSELoss()), torch.ones(2, 4), torch.ones(2, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in theirs.modules())


def test_what_passes_through_a_unit_is_recorded():
    net, criterion, x, y = given()
    built, loss, _ = torch_ref.twins(net, criterion, None)
    step = torch_step(Run(built, loss), torch.tensor(x), torch.tensor(y))
    passages = step.passages
    assert list(passages) == ["0", "1", "2"]
    np.testing.assert_array_equal(passages["0"].x, x)
    for before, after in (("0", "1"), ("1", "2")):
        np.testing.assert_array_equal(passages[before].y, passages[after].x)
        np.testing.assert_array_equal(passages[before].dy, passages[after].dx)
    np.testing.assert_array_equal(passages["2"].y, step.prediction)
    np.testing.assert_array_equal(passages["2"].dy, step.rows["d_activation.2"].value)
    np.testing.assert_array_equal(passages["0"].dx, step.rows["d_x"].value)
    for passage in passages.values():
        assert passage.dx.shape == passage.x.shape
        assert passage.dy.shape == passage.y.shape


class Twice(torch.nn.Module):
    def forward(self, x, other):
        return x + 2 * other


def test_a_part_may_take_more_than_one_input():
    """Of a network that runs its parts by a forward of its own."""

    class Own(modules.Sequential):
        def forward(self, x):
            return self[0](x, torch.ones_like(x))

    x = torch.arange(6.0).reshape(2, 3)
    rows = torch_step(Run(Own(Twice()), torch.nn.MSELoss()), x, x).rows
    np.testing.assert_array_equal(rows["activation.0"].value, x.numpy() + 2)
    np.testing.assert_array_equal(rows["d_activation.0"].value, np.full((2, 3), 4 / 6, np.float32))


def test_what_a_residual_leaves_out_has_no_gradient():
    class Lazy(modules.Residual):
        def forward(self, x):
            return 2 * x

    x = torch.ones(2, 3)
    net = modules.Sequential(Lazy(torch.nn.Tanh()))
    names = list(torch_step(Run(net, torch.nn.MSELoss()), x, x).rows)
    assert names == ["x", "activation.0", "loss", "d_activation.0", "d_x"]


def test_a_gradient_of_the_last_step_is_not_kept_as_zeros():
    class Once(torch.nn.Linear):
        runs = 0

        def forward(self, x):
            self.runs += 1
            return super().forward(x) if self.runs == 1 else 2 * x

    run, x = Run(Once(3, 3), torch.nn.MSELoss()), torch.ones(2, 3)
    first, second = (torch_step(run, x, x).rows for _ in range(2))
    assert {"grad.weight", "grad.bias"} <= first.keys()
    assert not {"grad.weight", "grad.bias"} & second.keys()


def test_the_cotangent_goes_where_the_loss_is(monkeypatch):
    """Onto its device, and into its dtype."""
    seen = []

    class Noting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(ctx, dloss):
            seen.append((dloss.device.type, dloss.dtype))
            return dloss

    class Criterion(torch.nn.MSELoss):
        def forward(self, prediction, y):
            return Noting.apply(super().forward(prediction, y))

    # A device without numbers, which is everywhere.
    monkeypatch.setattr(torch_side, "_array", lambda tensor: np.zeros(tensor.shape))
    run = Run(torch.nn.Tanh(), Criterion(reduction="none"))
    x = torch.ones(2, 3, dtype=torch.float64, device="meta")
    torch_step(run, x, x, lambda shape: np.ones(shape, np.float32))
    assert seen == [("meta", torch.float64)]
