"""The error rules of the modules with sums: every term needed, no bound below the worst case."""

import numpy as np
import pytest
import torch

from compare import assert_equivalent
from compare.rounding import Rounding, buffer_rule, rule, to_use_up
from manual import nn
from torch_ref import modules

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)


# E passed on, nothing rounded: one source at a time, against autograd's second derivatives.


@pytest.mark.parametrize("source", ["x", "dy", "weight", "bias"])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_an_error_passes_through_a_linear_module_as_the_derivatives_say(
    bias, lead, source, away_from_0, errors, passed_on
):
    if source == "bias" and not bias:
        return
    g = np.random.default_rng(0)
    module = torch.nn.Linear(3, 4, bias=bias)
    inputs = {"x": away_from_0(g, *lead, 3), "dy": away_from_0(g, *lead, 4)}
    inputs |= {name: away_from_0(g, *p.shape) for name, p in module.named_parameters()}
    e = {name: np.zeros(v.shape) for name, v in inputs.items()}
    e[source] = errors(g, *inputs[source].shape)
    worst = passed_on(module, inputs, source, e[source])
    theta = {name: (v, e[name]) for name, v in inputs.items() if name not in ("x", "dy")}
    ey, backward = rule(module, NONE, theta, inputs["x"], e["x"])
    edx, gradients = backward(inputs["dy"], e["dy"])
    assert gradients.keys() == theta.keys()
    for name, found in {"y": ey, "x": edx, **gradients}.items():
        np.testing.assert_allclose(found, worst[name], rtol=1e-4, atol=0, err_msg=name)


@pytest.mark.parametrize("lead", [(5,), (2, 3)])
def test_a_linear_module_rounds_once_for_each_term(lead, away_from_0):
    g = np.random.default_rng(0)
    x, dy, w, b = (away_from_0(g, *s) for s in ((*lead, 3), (*lead, 4), (4, 3), (4,)))
    theta = {"weight": (w, np.zeros((4, 3))), "bias": (b, np.zeros(4))}
    ey, backward = rule(torch.nn.Linear(3, 4), SINGLE, theta, x, np.zeros(x.shape))
    edx, gradients = backward(dy, np.zeros(dy.shape))
    x, dy, w, b = (np.abs(v) for v in (x, dy, w, b))
    rows, drows = x.reshape(-1, 3), dy.reshape(-1, 4)
    n = len(rows)
    np.testing.assert_allclose(ey, 4 * U * (x @ w.T + b))
    np.testing.assert_allclose(edx, 4 * U * (dy @ w))
    np.testing.assert_allclose(gradients["weight"], n * U * (drows.T @ rows))
    np.testing.assert_allclose(gradients["bias"], n * U * drows.sum(0))


def test_a_long_sum_rounds_by_its_root_and_a_bias_by_every_row():
    x, w = np.ones((1000, 900)), np.ones((1, 900))
    theta = {"weight": (w, 0 * w), "bias": (np.zeros(1), np.zeros(1))}
    ey, backward = rule(torch.nn.Linear(900, 1), SINGLE, theta, x, 0 * x)
    edx, gradients = backward(np.ones((1000, 1)), np.zeros((1000, 1)))
    np.testing.assert_allclose(ey, 6 * 901**0.5 * U * 900)
    np.testing.assert_allclose(edx, U)
    np.testing.assert_allclose(gradients["weight"], 6 * 1000**0.5 * U * 1000)
    np.testing.assert_allclose(gradients["bias"], 1000 * U * 1000)


def test_an_error_far_above_a_value_is_rounded_as_what_it_is():
    """Exact 0 that may be 1: of the sums over it every term has its roundoff."""
    theta = {"weight": (np.full((1, 3), 2.0), np.zeros((1, 3)))}
    x, e, dy = np.zeros((4, 3)), np.ones((4, 3)), np.zeros((4, 1))
    ey, backward = rule(torch.nn.Linear(3, 1, bias=False), SINGLE, theta, x, e)
    np.testing.assert_allclose(ey, 6 + 4 * U * 6, rtol=1e-9)
    edx, gradients = backward(dy, 1 + dy)
    np.testing.assert_allclose(edx, 2 + U * 2, rtol=1e-9)
    np.testing.assert_allclose(gradients["weight"], 4 + 4 * U * 4, rtol=1e-9)


def test_equal_rows_of_a_large_batch_pass():
    g = np.random.default_rng(0)
    x, y = (np.tile(g.normal(size=n).astype(np.float32), (20_000, 1)) for n in (3, 2))
    assert_equivalent(nn.Linear(3, 2, generator=g), nn.HalfSquaredError(), x, y)


def test_flatten_and_identity_only_pass_on(errors):
    g = np.random.default_rng(0)
    x, ex, dy = g.normal(size=(2, 3, 4)), errors(g, 2, 3, 4), g.normal(size=(2, 3, 4))
    ey, backward = rule(torch.nn.Flatten(1), SINGLE, {}, x, ex)
    np.testing.assert_array_equal(ey, ex.reshape(2, 12))
    edx, gradients = backward(dy.reshape(2, 12), ex.reshape(2, 12))
    np.testing.assert_array_equal(edx, ex)
    assert gradients == {}
    ey, backward = rule(torch.nn.Identity(), SINGLE, {}, x, ex)
    np.testing.assert_array_equal(ey, ex)
    np.testing.assert_array_equal(backward(dy, 2 * ex)[0], 2 * ex)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_scales_errors_and_rounds_twice_what_it_scales(training, p, errors):
    g = np.random.default_rng(0)
    x, ex = g.normal(size=(20, 3)), errors(g, 20, 3)
    module = modules.Dropout(p, np.random.default_rng(5)).train(training)
    factor = modules.Dropout(p, np.random.default_rng(5)).train(training)(torch.ones(20, 3))
    factor = factor.double().numpy()
    ey, backward = rule(module, SINGLE, {}, x, ex)
    rounded = (factor != 0) & (factor != 1)
    assert rounded.any() == (training and p == 0.3)
    for found, value in ((ey, x), (backward(2 * x, ex)[0], 2 * x)):
        expected = factor * ex + 2 * U * np.abs(factor * value) * rounded
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


# Batch normalisation. x, dy and the parameters are the inputs of a formula of our own.


def normalised(x, mean, variance, weight, bias, eps):
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def in_training(eps, axes):
    def f(x, dy, weight, bias):
        x, weight, bias = (t.requires_grad_() for t in (x, weight, bias))
        mean = x.mean(axes, keepdim=True)
        variance = ((x - mean) ** 2).mean(axes, keepdim=True)
        shape = mean.shape
        y = normalised(x, mean, variance, weight.reshape(shape), bias.reshape(shape), eps)
        return y, *torch.autograd.grad(y, (x, weight, bias), dy, create_graph=True)

    return f


def in_evaluation(eps, shape):
    def f(x, dy, weight, bias, mean, variance):
        x, weight, bias = (t.requires_grad_() for t in (x, weight, bias))
        y = normalised(x, *(t.reshape(shape) for t in (mean, variance, weight, bias)), eps)
        return y, *torch.autograd.grad(y, (x, weight, bias), dy, create_graph=True)

    return f


NAMES = ["x", "dy", "weight", "bias", "running_mean", "running_var"]


def batch(away_from_0, rank):
    """Values for NAMES, the variance positive."""
    g = np.random.default_rng(rank)
    shape = (4, 3) if rank == 2 else (2, 3, 4)
    values = [away_from_0(g, *shape), away_from_0(g, *shape)]
    values += [away_from_0(g, 3) for _ in range(4)]
    values[-1] = np.abs(values[-1])
    return dict(zip(NAMES, values, strict=True))


def bounds(module, values, e, r=NONE):
    """E of y, dx, dγ and dβ."""
    theta = {name: (values[name], e[name]) for name in NAMES[2:]}
    ey, backward = rule(module, r, theta, values["x"], e["x"])
    edx, gradients = backward(values["dy"], e["dy"])
    return ey, edx, gradients["weight"], gradients["bias"]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("source", NAMES)
def test_in_evaluation_an_error_passes_as_the_derivatives_say(
    source, rank, away_from_0, errors, worst_cases
):
    values = batch(away_from_0, rank)
    e = {name: np.zeros(v.shape) for name, v in values.items()}
    e[source] = errors(np.random.default_rng(1), *values[source].shape)
    module = torch.nn.BatchNorm1d(3, eps=0.1).eval()
    f = in_evaluation(0.1, (1, 3, 1)[:rank])
    worst = worst_cases(f, values.values(), NAMES.index(source), e[source])
    if source == "running_mean":  # the same for all of Σ dy (x − μ)/σ, added up as if it were not
        dy = np.abs(values["dy"]).sum((0, 2)[: rank - 1])
        worst[2] = dy * e[source] / np.sqrt(values["running_var"] + 0.1)
    for found, expected in zip(bounds(module, values, e), worst, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0)
    after = buffer_rule(module, NONE, {n: (values[n], e[n]) for n in NAMES[2:]}, 0, 0)
    for name in NAMES[4:]:
        np.testing.assert_array_equal(after[name], e[name])


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("source", NAMES[:4])
def test_in_training_an_error_is_at_most_a_few_times_overstated(
    source, rank, away_from_0, errors, worst_cases
):
    """x reaches y and dx by mean and variance, too, and the rule adds up what partly cancels. No
    factor holds for all data: with n values, y_i does not move with x_i where x̂_i² = n − 1. Here
    x̂² < 3 and n is 4 or 8. What has one path is exact."""
    values = batch(away_from_0, rank)
    n = values["x"].size // 3
    e = {name: np.zeros(v.shape) for name, v in values.items()}
    e[source] = errors(np.random.default_rng(1), *values[source].shape)
    axes = (0, 2)[: rank - 1]
    x = values["x"]
    square = (x - x.mean(axes, keepdims=True)) ** 2 / x.var(axes, keepdims=True)
    assert square.max() < 3
    assert n in (4, 8)
    module = torch.nn.BatchNorm1d(3, eps=0.1)
    worst = worst_cases(
        in_training(0.1, axes), list(values.values())[:4], NAMES.index(source), e[source]
    )
    found = bounds(module, values, e)
    one_path = {"x": [3], "dy": [0, 2, 3], "weight": [0, 1, 2, 3], "bias": [0, 1, 2, 3]}
    for k, (bound, exact) in enumerate(zip(found, worst, strict=True)):
        if k in one_path[source]:
            np.testing.assert_allclose(bound, exact, rtol=1e-4, atol=1e-20)
        else:
            assert (bound >= exact * (1 - 1e-6)).all()
            assert (bound <= exact * 16).all()
            assert np.median(bound / exact) < 8


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("rank", [2, 3])
def test_running_statistics_take_a_share_of_the_error(rank, momentum, away_from_0, errors):
    values = batch(away_from_0, rank)
    g, axes = np.random.default_rng(1), (0, 2)[: rank - 1]
    x, n = values["x"], values["x"].size // 3
    module = torch.nn.BatchNorm1d(3, momentum=momentum)
    m = 0.25 if momentum is None else momentum
    zero, ex, ev = 0 * x, errors(g, *x.shape), errors(g, 3)
    theta = {name: (values[name], np.zeros(3)) for name in NAMES[4:]}
    theta["num_batches_tracked"] = (np.array(3), np.zeros(()))
    after = buffer_rule(module, NONE, theta, x, ex)
    centred = np.abs(x - x.mean(axes, keepdims=True))
    np.testing.assert_allclose(after["running_mean"], m * ex.mean(axes))
    mean_error = ex.mean(axes, keepdims=True)  # counts, though Σ (x − μ) = 0
    np.testing.assert_allclose(
        after["running_var"],
        m * 2 / (n - 1) * (centred * (ex + mean_error)).sum(axes),
        rtol=1e-4,
    )
    assert after["num_batches_tracked"] == 0
    for name in NAMES[4:]:
        of_old = buffer_rule(module, NONE, theta | {name: (values[name], ev)}, x, zero)
        np.testing.assert_allclose(of_old[name], (1 - m) * ev)


def test_batch_normalisation_counts_its_roundings():
    """Two values ±1 a channel, far from 0: mean 0 to n u, x̂ = 1/√1.1, and the size of x itself
    as x α + (β − μ α) has it."""
    values = {"x": np.array([[1.0], [-1.0]]), "dy": np.array([[2.0], [1.0]])}
    values |= dict(zip(NAMES[2:], (np.array([v]) for v in (3.0, 0.5, 0.0, 1.0)), strict=True))
    e = {name: np.zeros(v.shape) for name, v in values.items()}
    hat = 1 / 1.1**0.5
    module = torch.nn.BatchNorm1d(1, eps=0.1)
    mean = 2  # Σ |x| / n of 2 u, and 0 has no rounding
    deviation = mean + 1
    variance = 2 * deviation + 1 + 2 + 2  # of d, of the squares, of their sum, of the share
    inverse = (variance + 0.1 + 1.1) / 2.2 + 1 + 1  # with ε, its own rounding and the sum's
    expected = deviation + inverse + 1
    y = 3 * hat * (expected + 1) + np.abs([3 * hat + 0.5, -3 * hat + 0.5]) + 3 * 3 * hat
    ey, edx, eweight, ebias = bounds(module, values, e, SINGLE)
    np.testing.assert_allclose(ey.ravel(), U * y, rtol=1e-5)
    np.testing.assert_allclose(ebias, U * 2 * 3)
    product = 2 * 3 + (deviation + 1) * 3  # of the sum, of d and of the product
    np.testing.assert_allclose(eweight, U * hat * (product + 1 * (inverse + 1)), rtol=1e-5)
    assert (edx > 0).all()
    ey, edx, *_ = bounds(module.eval(), values, e, SINGLE)
    inverse = 1.1 / 2.2 + 0.1 / 2.2 + 2
    y = 3 * hat * (1 + inverse + 2) + np.abs([3 * hat + 0.5, -3 * hat + 0.5]) + 3 * 3 * hat
    np.testing.assert_allclose(ey.ravel(), U * y, rtol=1e-5)
    np.testing.assert_allclose(
        edx.ravel(), U * 3 * hat * np.array([2, 1]) * (inverse + 2), rtol=1e-6
    )


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_a_channel_that_is_all_rounding_has_finite_bounds(eps, away_from_0):
    values = batch(away_from_0, 2)
    values["x"] = 1e4 + 1e-5 * values["x"]
    e = {name: np.zeros(v.shape) for name, v in values.items()}
    e["x"] = np.full(values["x"].shape, 1e-2)
    found = bounds(torch.nn.BatchNorm1d(3, eps=eps), values, e, SINGLE)
    assert all(np.isfinite(bound).all() for bound in found)
    weight, alpha = np.abs(values["weight"]), 1 / eps**0.5
    assert (found[0] <= weight * (2 * 5**0.5 + 3 * U * 2 * 2.1e4 * alpha)).all()
    # … and none below what the two extreme batches of a side can show
    g = np.random.default_rng(0)

    def run(x):
        module = torch.nn.BatchNorm1d(3, eps=eps).double()
        module.weight.data = torch.tensor(values["weight"])
        point = torch.tensor(x).requires_grad_()
        y = module(point)
        return y.detach().numpy(), torch.autograd.grad(y, point, torch.tensor(values["dy"]))[
            0
        ].numpy()

    y, dx = run(values["x"])
    for _ in range(50):
        other_y, other_dx = run(values["x"] + e["x"] * g.choice([-1, 0, 1], values["x"].shape))
        assert (np.abs(other_y - y) <= found[0]).all()
        assert (np.abs(other_dx - dx) <= found[1]).all()


def test_of_a_constant_channel_one_value_may_stand_out():
    """By √(n − 1) = 2.6 standard deviations, if that one alone is rounded up."""
    x = np.full((8, 1), 10.0)
    module = torch.nn.BatchNorm1d(1, affine=False).double()
    ey, _ = rule(module, SINGLE, {}, x, np.ones((8, 1)))
    x[0] += 1
    y = module(torch.tensor(x)).numpy()
    assert np.abs(y).max() > 2.6
    assert (np.abs(y) <= ey).all()
    assert (ey < 3.01).all()


def test_a_channel_that_float32_makes_constant_is_scaled_by_all_that_eps_allows():
    """x α + (β − μ α) with α = 1/√ε: u of x α is left of it."""
    x = 1e7 + np.random.default_rng(0).uniform(-0.4, 0.4, (8, 1))
    ex = np.abs(x.astype(np.float32) - x)
    assert np.ptp(x.astype(np.float32)) == 0
    ey, _ = rule(torch.nn.BatchNorm1d(1, affine=False), SINGLE, {}, x, ex)
    assert (ey >= U * 1e7 / np.sqrt(1e-5)).all()


# A module without a rule.


class Swish(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = torch.nn.Parameter(torch.tensor(1.5))
        self.mix = torch.nn.Parameter(torch.linspace(-1, 1, 25).reshape(5, 5))

    def forward(self, x):
        return (x * torch.sigmoid(self.beta * x)) @ self.mix


@pytest.mark.parametrize("seed", range(20))
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


def test_only_a_network_that_draws_is_copied():
    def made(part):
        return modules.Sequential(torch.nn.Linear(3, 3), modules.Residual(part))

    plain = made(torch.nn.ReLU())
    assert to_use_up(plain) is plain
    for part in (modules.Dropout(0.3, np.random.default_rng(0)), Swish()):
        net = made(part)
        copied = to_use_up(net)
        assert copied is not net
        assert copied[1].module is not part
        assert type(copied[1].module) is type(part)
