"""What is allowed: never less than the true rounding error, and not much more."""

import numpy as np
import pytest
import torch

import torch_ref
from compare.rounding import Rounding, loss_rule, rule
from compare.tolerance import Bounds
from compare.trace import Run, manual_step, torch_step
from manual import nn, optim
from torch_ref import twins

CRITERIA = [
    nn.HalfSquaredError(),
    nn.MSELoss(),
    nn.MSELoss("sum"),
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(np.float32([0.5, 1, 2, 4]), label_smoothing=0.2, reduction="sum"),
    nn.CrossEntropyLoss(ignore_index=1),
]


def setting(seed):
    """A random 3-layer float32 net ending in 4 outputs, data of a random scale."""
    g = np.random.default_rng(seed)
    activation = [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity][seed % 4]
    criterion = CRITERIA[seed % len(CRITERIA)]
    modules = []
    for n_in, n_out in ((9, 33), (33, 17), (17, 4)):
        modules += [nn.Linear(n_in, n_out, generator=g), activation()]
        modules[-2].weight.data *= np.float32(10 ** g.uniform(-1, 0.7))
    net = nn.Sequential(*modules[:-1])
    options = [{}, {"momentum": 0.9, "dampening": 0.2}, {"momentum": 0.9, "nesterov": True}]
    optimizer = optim.SGD(
        net.parameters(), lr=0.01, weight_decay=0.1 * (seed % 2), **options[seed % 3]
    )
    x = (g.normal(size=(20, 9)) * 10 ** g.uniform(-2, 1)).astype(np.float32)
    if isinstance(criterion, nn.CrossEntropyLoss):
        return net, criterion, optimizer, x, np.r_[0, 2, g.integers(0, 4, 18)]
    return net, criterion, optimizer, x, g.normal(size=(20, 4)).astype(np.float32)


@pytest.mark.parametrize("seed", range(36))
def test_the_true_error_of_either_side_stays_within_its_half(seed):
    """float64 stands in for the exact values: its own error is 10⁻⁹ of float32's."""
    net, criterion, optimizer, x, y = setting(seed)
    exact = twins(net, criterion, optimizer, dtype=torch.float64)
    bounds = Bounds(
        Run(*twins(net, criterion, optimizer, dtype=torch.float64)), np.dtype(np.float32)
    )
    theirs = twins(net, criterion, optimizer)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    dy = ty.double() if ty.is_floating_point() else ty
    for step in range(3):
        allowed = bounds.step(tx.double(), dy)
        true = {row.name: row.value for row in torch_step(Run(*exact), tx.double(), dy)}
        sides = manual_step(Run(net, criterion, optimizer), x, y), torch_step(Run(*theirs), tx, ty)
        for side, rows in zip(("manual", "torch"), sides, strict=True):
            assert {row.name for row in rows} == true.keys()
            for row in rows:
                error = np.abs(row.value.astype(np.float64) - true[row.name])
                assert (error <= allowed[row.name] / 2).all(), f"{side}, step {step}, {row.name}"


@pytest.mark.parametrize("seed", range(12))
def test_an_ordinary_network_leaves_no_room_for_a_mistake(seed):
    """torch's initial weights, unit inputs: of a gradient's median entry less than 10⁻³ in
    float32 and 10⁻¹² in float64."""
    for dtype, limit in ((np.float32, 1e-3), (np.float64, 1e-12)):
        g = np.random.default_rng(seed)
        net = nn.Sequential(
            nn.Linear(30, 20, dtype=dtype, generator=g),
            [nn.Sigmoid, nn.Tanh, nn.ReLU][seed % 3](),
            nn.Linear(20, 4, dtype=dtype, generator=g),
        )
        criterion = nn.CrossEntropyLoss()
        x, y = torch.from_numpy(g.normal(size=(16, 30))), torch.from_numpy(g.integers(0, 4, 16))
        exact = twins(net, criterion, None, dtype=torch.float64)
        values = {row.name: np.abs(row.value) for row in torch_step(Run(*exact), x, y)}
        allowed = Bounds(Run(*exact), np.dtype(dtype)).step(x, y)
        for name in ("grad.0.weight", "grad.0.bias", "grad.2.weight", "grad.2.bias"):
            kept = values[name] > 0
            middle = np.argsort(values[name][kept])[kept.sum() // 2]
            assert allowed[name][kept][middle] < limit * values[name][kept][middle], name


def test_a_sum_is_allowed_no_more_than_one_roundoff_for_each_term():
    r = Rounding.of(np.dtype(np.float32))
    assert r.u == 2.0**-24
    assert r.sum(3) == 3 * r.u
    assert r.sum(10_000) == 600 * r.u


def test_at_a_kink_within_rounding_either_slope_is_allowed():
    r = Rounding.of(np.dtype(np.float32))
    x, ex = np.array([1e-9, 1.0, -1e-9, 0.0]), np.array([1e-7, 1e-7, 1e-7, 0.0])
    _, backward = rule(torch.nn.ReLU(), r, {}, x, ex)
    edx, _ = backward(np.full(4, 2.0), np.zeros(4))
    assert (edx[[0, 2]] >= 2).all()
    assert (edx[[1, 3]] < 1e-6).all()


def test_saturated_softmax_allows_an_absolute_error_of_the_subtraction():
    """p − 1 in float32 is off by up to one roundoff of 1, however small 1 − p is."""
    r = Rounding.of(np.dtype(np.float32))
    z, y = np.array([[40.0, 0.0, 0.0]]), np.array([0])
    _, edz = loss_rule(torch.nn.CrossEntropyLoss(), r, z, np.zeros_like(z), y, np.ones(()))
    assert r.u < edz[0, 0] < 100 * r.u
    assert edz[0, 1] < 1e-15


class Swish(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = torch.nn.Parameter(torch.tensor(1.5))
        self.mix = torch.nn.Parameter(torch.linspace(-1, 1, 25).reshape(5, 5))

    def forward(self, x):
        return (x * torch.sigmoid(self.beta * x)) @ self.mix


@pytest.mark.parametrize("seed", range(40))
def test_the_black_box_rule_covers_the_error_of_a_module_without_a_rule(seed):
    """Against its own float32-to-float64 distance, on inputs with an error of their own."""
    g = np.random.default_rng(seed)
    r = Rounding.of(np.dtype(np.float32))
    single, double = Swish(), Swish().double()
    x = g.normal(size=(8, 5)) * 10 ** g.uniform(-1, 1)
    ex = 1e-6 * np.abs(x)
    theta = {n: (p.detach().numpy(), np.zeros(p.shape)) for n, p in double.named_parameters()}
    ey, backward = rule(double, r, theta, x, ex)
    dy = g.normal(size=(8, 5))
    edx, gradients = backward(dy, np.zeros_like(dy))
    point = torch.tensor(x).requires_grad_()
    exact = double(point)
    exact.backward(torch.from_numpy(dy))
    moved = torch.tensor(x + ex * g.choice([-1, 1], x.shape)).float().requires_grad_()
    rounded = single(moved)
    rounded.backward(torch.from_numpy(dy).float())

    def error(a, b):
        return (a.detach().double() - b.detach()).abs().numpy()

    assert (error(rounded, exact) <= ey).all()
    assert (error(moved.grad, point.grad) <= edx).all()
    for name, p in single.named_parameters():
        distance = error(p.grad, dict(double.named_parameters())[name].grad)
        assert (distance <= gradients[name]).all(), name
    assert ey.max() < 1e-2 * exact.detach().abs().max()


class OwnLoss(torch.nn.Module):
    def forward(self, prediction, target):
        return (prediction - target).abs().mean()


def test_a_custom_criterion_is_a_black_box_too():
    r = Rounding.of(np.dtype(np.float32))
    z, y = np.linspace(-2, 2, 12).reshape(3, 4), np.linspace(0, 1, 12).reshape(3, 4)
    eloss, edz = loss_rule(OwnLoss(), r, z, 1e-7 * np.abs(z), y, np.ones(()))
    exact = np.abs(z - y).mean()
    assert abs(np.abs(np.float32(z) - np.float32(y)).mean() - exact) <= eloss < 1e-4
    assert edz.shape == z.shape
    assert (edz < 1e-4).all()


def test_twins_are_used_up_by_the_bounds_alone():
    net, criterion, _, x, y = setting(0)
    before = net.state_dict()
    twin = torch_ref.twin(net, dtype=torch.float64)
    Bounds(Run(twin, torch_ref.twin(criterion)), np.dtype(np.float32)).step(
        torch.from_numpy(x).double(), torch.from_numpy(y).double()
    )
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_slope_peak_inside_the_interval_is_seen():
    """σ' is 1/4 at 0 and smaller at both ends of −2 ± 3."""
    r = Rounding.of(np.dtype(np.float64))
    _, backward = rule(torch.nn.Sigmoid(), r, {}, np.array([-2.0]), np.array([3.0]))
    edx, _ = backward(np.ones(1), np.zeros(1))
    slope = 1 / (1 + np.exp(2.0)) * (1 - 1 / (1 + np.exp(2.0)))
    assert edx[0] >= 0.25 - slope


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1, 10])
def test_softmax_bounds_hold_for_large_errors_of_the_logits(scale):
    r = Rounding.of(np.dtype(np.float64))
    g = np.random.default_rng(0)
    z, y = 3 * g.normal(size=(5, 4)), g.integers(0, 4, 5)
    ez = scale * g.uniform(size=z.shape)
    eloss, edz = loss_rule(torch.nn.CrossEntropyLoss(), r, z, ez, y, np.ones(()))

    def at(z):
        point = torch.tensor(z).requires_grad_()
        loss = torch.nn.functional.cross_entropy(point, torch.from_numpy(y))
        return loss.item(), torch.autograd.grad(loss, point)[0].numpy()

    loss, dz = at(z)
    for _ in range(300):
        other_loss, other_dz = at(z + ez * g.choice([-1, 1], z.shape))
        assert abs(other_loss - loss) <= eloss
        assert (np.abs(other_dz - dz) <= edz).all()


def test_an_error_of_the_saved_output_reaches_the_slope():
    """y off by 4 units in the last place moves y (1 − y) by as much, relatively, where y is small;
    at y near 1 by an absolute 8 u, whatever is left of 1 − y."""
    r = Rounding.of(np.dtype(np.float32))
    x = np.array([-30.0, 30.0])
    _, backward = rule(torch.nn.Sigmoid(), r, {}, x, np.zeros(2))
    edx, _ = backward(np.ones(2), np.zeros(2))
    small = np.exp(-30.0)
    assert 8 * r.u * small <= edx[0] <= 16 * r.u * small
    assert 8 * r.u <= edx[1] * (1 + 1e-6) <= 16 * r.u
