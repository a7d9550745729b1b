"""The error rules of activations and maxout: every term needed, none below the truth."""

import numpy as np
import pytest
import torch

from compare.rounding import Rounding, rule
from manual import nn
from torch_ref import modules, twin

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)
FLOAT32 = Rounding.of(np.dtype(np.float32))

POINTWISE = [
    torch.nn.Sigmoid(),
    torch.nn.Tanh(),
    modules.Arctan(),
    torch.nn.LogSigmoid(),
    torch.nn.ReLU(),
    torch.nn.LeakyReLU(0.3),
    torch.nn.LeakyReLU(-0.5),
    torch.nn.ELU(),
    torch.nn.ELU(2.0),
    torch.nn.Softplus(),
    torch.nn.Softplus(2.5, 4.0),
    torch.nn.SiLU(),
    torch.nn.GELU(),
    torch.nn.GELU("tanh"),
    modules.Step(),
]


def both(module, x):
    """(f(x), f'(x)) in float64."""
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = module(point)
    (slope,) = torch.autograd.grad(y, point, torch.ones_like(y))
    return y.detach().numpy(), slope.numpy(force=True)


# E passed on, nothing rounded.


@pytest.mark.parametrize("source", ["x", "dy"])
@pytest.mark.parametrize("module", POINTWISE[:-1], ids=str)
def test_an_error_passes_on_as_the_derivatives_say(module, source, away_from_0, errors, passed_on):
    g = np.random.default_rng(0)
    inputs = {"x": away_from_0(g, 2, 5), "dy": away_from_0(g, 2, 5)}
    e = {"x": np.zeros((2, 5)), "dy": np.zeros((2, 5)), source: errors(g, 2, 5)}
    worst = passed_on(module, inputs, source, e[source])
    ey, backward = rule(module, NONE, {}, inputs["x"], e["x"])
    edx, gradients = backward(inputs["dy"], e["dy"])
    assert gradients == {}
    np.testing.assert_allclose(ey, worst["y"], rtol=1e-4, atol=0)
    np.testing.assert_allclose(edx, worst["x"], rtol=1e-4, atol=1e-18)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("module", POINTWISE, ids=str)
def test_no_value_or_slope_of_a_wide_interval_is_missed(module, seed):
    """Intervals of every width, at kinks and wherever f or f' turn round."""
    g = np.random.default_rng(seed)
    x, ex = 4 * g.normal(size=400), 10 ** g.uniform(-3, 1, 400)
    ey, backward = rule(module, NONE, {}, x, ex)
    edx, _ = backward(np.ones(400), np.zeros(400))
    y, s = both(module, x)
    for t in np.linspace(-1, 1, 81):
        other_y, other_s = both(module, x + t * ex)
        # to 10⁻⁴: f is flat where it turns
        assert (np.abs(other_y - y) <= ey + 1e-4).all()
        assert (np.abs(other_s - s) <= edx + 1e-4).all()


def test_at_a_kink_within_rounding_either_slope_is_allowed():
    x, ex = np.array([1e-9, 1.0, -1e-9, 0.0]), np.array([1e-7, 1e-7, 1e-7, 0.0])
    for module, jump in (
        (torch.nn.ReLU(), 1),
        (torch.nn.LeakyReLU(-0.5), 1.5),
        (torch.nn.ELU(0.3), 0.7),
        (torch.nn.PReLU(), 0.75),
    ):
        theta = {"weight": (np.array([0.25]), np.zeros(1))}
        theta = theta if isinstance(module, torch.nn.PReLU) else {}
        _, backward = rule(module, FLOAT32, theta, x, ex)
        edx, _ = backward(np.full(4, 2.0), np.zeros(4))
        assert (edx[[0, 2]] >= 2 * jump * (1 - 1e-6)).all()
        assert (edx[[1, 3]] < 1e-5).all()
    ey, _ = rule(modules.Step(), FLOAT32, {}, x, ex)
    assert (ey[[0, 2]] >= 1).all()
    assert (ey[[1, 3]] == 0).all()


def test_softplus_may_take_either_branch_where_rounding_decides_on_the_threshold():
    """float32's 2.5 · 1.6 is 4, the true product a little more."""
    x = np.array([np.float32(1.6)], np.float32)
    module = torch.nn.Softplus(2.5, 4.0)
    exact = module(torch.tensor(x).double()).item()
    assert exact - module(torch.tensor(x)).item() < -0.005
    ey, backward = rule(module, FLOAT32, {}, x.astype(np.float64), np.zeros(1))
    assert ey[0] > 0.005
    assert backward(np.ones(1), np.zeros(1))[0][0] > 0.01
    assert rule(module, FLOAT32, {}, np.array([1.61]), np.zeros(1))[0][0] < 1e-5


# What is rounded: the count of every rule, and that no float32 on either side needs more.

COUNTS = {
    "Sigmoid": lambda m, x, y, s: (8 * y, 8 * y),
    "Tanh": lambda m, x, y, s: (8 * abs(y), 16 * y * y),
    "Arctan": lambda m, x, y, s: (8 * abs(y), 8 * s),
    "LogSigmoid": lambda m, x, y, s: (17 * abs(y), 16 * s + 2 * (x < 0)),
    "ReLU": lambda m, x, y, s: (0 * y, 0 * y),
    "LeakyReLU": lambda m, x, y, s: (2 * abs(y), abs(s)),
    "ELU": lambda m, x, y, s: (10 * abs(y), 10 * np.maximum(s, m.alpha)),
    "SiLU": lambda m, x, y, s: (
        11 * abs(y),
        16 * y / x * (1 + abs(x) * (1 - y / x)) + 2 * abs(y),
    ),
    "GELU": lambda m, x, y, s: (
        18 * abs(x),
        16 * (1 + abs(x) * np.where(m.approximate == "none", *gelu_peaks(x))),
    ),
    "Step": lambda m, x, y, s: (0 * y, 0 * y),
}


def gelu_peaks(x):
    return np.exp(-x * x / 2) * (1 + x * x), (1 + 0.134145 * x * x)


@pytest.mark.parametrize("module", POINTWISE, ids=str)
def test_an_activation_rounds_itself_and_its_slope(module, away_from_0):
    g = np.random.default_rng(0)
    x, dy = away_from_0(g, 2, 5), away_from_0(g, 2, 5)
    y, s = both(module, x)
    ey, backward = rule(module, SINGLE, {}, x, 0 * x)
    edx, _ = backward(dy, 0 * dy)
    if isinstance(module, torch.nn.Softplus):  # z = βx is off by 2 u z, that is x by 2 u x
        z = module.beta * x
        above = z > module.threshold
        of_y = 16 * np.abs(y) + 2 * np.abs(x) * s
        of_s = 16 * s + np.where(above, 0, 2 * np.abs(z) * s * (1 - s))
    else:
        of_y, of_s = COUNTS[type(module).__name__](module, x, y, s)
    np.testing.assert_allclose(ey, U * of_y, rtol=1e-5)
    np.testing.assert_allclose(edx, U * (of_s + 3 * np.abs(s)) * np.abs(dy), rtol=1e-5)


OURS = [
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Arctan(),
    nn.LogSigmoid(),
    nn.ReLU(),
    nn.LeakyReLU(0.3),
    nn.LeakyReLU(-0.5),
    nn.ELU(),
    nn.ELU(0.3),
    nn.Softplus(),
    nn.Softplus(2.5, 4.0),
    nn.Softplus(0.1),
    nn.SiLU(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.Step(),
]


@pytest.mark.parametrize("module", OURS, ids=repr)
def test_float32_stays_within_the_roundings_that_are_counted(module):
    """From 10⁻⁴⁰ to 10⁴ on either side of 0, and densely between −30 and 30."""
    g = np.random.default_rng(0)
    spread = 10.0 ** g.uniform(-40, 4, 4000) * g.choice([-1, 1], 4000)
    x = np.concatenate([np.linspace(-30, 30, 20_001), spread, [0.0, -0.0]]).astype(np.float32)
    dy = g.normal(size=x.shape).astype(np.float32)
    theirs = twin(module)
    exact, slope = both(theirs, x)
    ey, backward = rule(theirs, FLOAT32, {}, x.astype(np.float64), np.zeros(x.shape))
    edx, _ = backward(dy.astype(np.float64), np.zeros(x.shape))
    dx = slope * dy.astype(np.float64)
    mine = module(x)
    point = torch.tensor(x, requires_grad=True)
    other = theirs(point)
    (other_dx,) = torch.autograd.grad(other, point, torch.tensor(dy))
    tiny = FLOAT32.tiny
    for y_side, dx_side in (
        (mine, module.backward(dy)),
        (other.detach().numpy(), other_dx.numpy(force=True)),
    ):
        floor = np.where((exact != 0) & (np.abs(exact) < tiny / U), tiny, 0)
        assert (np.abs(y_side - exact) <= np.maximum(ey, floor)).all()
        floor = np.where((dx != 0) & (np.abs(dx) < tiny / U), tiny, 0)
        assert (np.abs(dx_side - dx) <= np.maximum(edx, floor)).all()


@pytest.mark.parametrize(
    "module", [nn.Sigmoid(), nn.LogSigmoid(), nn.Softplus(), nn.Softplus(0.5), nn.SiLU()], ids=str
)
def test_what_float64_itself_cannot_hold_may_come_out_as_0(module):
    """e^−745.2 is the smallest number on one side and 0 on the other, and in the float64 run that
    the rule sees, where a 0 looks exact."""
    r = Rounding.of(np.dtype(np.float64))
    x = np.concatenate([np.linspace(-1600, -700, 3000), np.linspace(700, 1600, 3000)])
    theirs = twin(module)
    y, s = both(theirs, x)
    ey, backward = rule(theirs, r, {}, x, np.zeros(x.shape))
    es, _ = backward(np.ones(x.shape), np.zeros(x.shape))
    assert (y == 0).any() or (s == 0).any()
    assert (ey[y == 0] >= r.tiny).all()
    assert (es[s == 0] >= r.tiny).all()
    assert (np.abs(module(x) - y) <= 2 * ey).all()
    assert (np.abs(module.backward(np.ones(x.shape)) - s) <= 2 * es).all()
    assert (ey[y == 0] <= 2000 * r.tiny).all()  # |x| tiny, for x σ(x)


def test_an_error_of_the_saved_output_reaches_the_slope():
    """y off by 4 units in the last place moves y (1 − y) by as much, relatively, where y is small;
    at y near 1 by an absolute 8 u, whatever is left of 1 − y."""
    x = np.array([-30.0, 30.0])
    _, backward = rule(torch.nn.Sigmoid(), FLOAT32, {}, x, np.zeros(2))
    edx, _ = backward(np.ones(2), np.zeros(2))
    small = np.exp(-30.0)
    assert 8 * U * small <= edx[0] <= 16 * U * small
    assert 8 * U <= edx[1] * (1 + 1e-6) <= 16 * U


# PReLU: a slope that is learnt.


@pytest.mark.parametrize("shape", [(6,), (5, 3), (2, 3, 4)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source", ["x", "dy", "weight"])
def test_an_error_passes_through_prelu_as_the_derivatives_say(
    source, channels, shape, away_from_0, errors, passed_on
):
    g = np.random.default_rng(0)
    channels = 1 if len(shape) == 1 else channels  # torch takes a single row for one of channels
    inputs = {"x": away_from_0(g, *shape), "dy": away_from_0(g, *shape)}
    inputs["weight"] = np.array([0.25, -0.7, 1.5])[:channels]
    e = {name: np.zeros(v.shape) for name, v in inputs.items()}
    e[source] = errors(g, *inputs[source].shape)
    module = torch.nn.PReLU(channels)
    worst = passed_on(module, inputs, source, e[source])
    theta = {"weight": (inputs["weight"], e["weight"])}
    ey, backward = rule(module, NONE, theta, inputs["x"], e["x"])
    edx, gradients = backward(inputs["dy"], e["dy"])
    np.testing.assert_allclose(ey, worst["y"], rtol=1e-4, atol=0)
    np.testing.assert_allclose(edx, worst["x"], rtol=1e-4, atol=0)
    np.testing.assert_allclose(gradients["weight"], worst["weight"], rtol=1e-4, atol=0)


def test_prelu_rounds_its_products_and_its_sum():
    x, dy = np.array([[-2.0, 3.0], [-0.5, -1.0], [0.0, 1.0]]), np.full((3, 2), -2.0)
    zero = np.zeros((3, 2))
    for w, terms in (([0.25], [6]), ([0.25, -3.0], [3, 3])):
        w = np.array(w)
        theta = {"weight": (w, 0 * w)}
        ey, backward = rule(torch.nn.PReLU(len(w)), SINGLE, theta, x, zero)
        edx, gradients = backward(dy, zero)
        below = x <= 0
        np.testing.assert_allclose(ey, U * np.abs(w * x) * below)
        np.testing.assert_allclose(edx, U * np.abs(w * dy) * below)
        size = np.abs(dy * x) * below
        size = size.sum(0) if len(w) > 1 else size.sum(keepdims=True)[0]
        np.testing.assert_allclose(gradients["weight"], (1 + np.array(terms)) * U * size)


def test_prelu_at_0_has_the_slope_of_its_negative_side():
    """As torch's own: an error of dy passes on by |w|, not by 1."""
    theta = {"weight": (np.array([-3.0]), np.zeros(1))}
    zero = np.zeros(2)
    _, backward = rule(torch.nn.PReLU(), NONE, theta, np.array([0.0, -0.0]), zero)
    edx, gradients = backward(zero + 1, zero + 0.5)
    np.testing.assert_array_equal(edx, [1.5, 1.5])
    np.testing.assert_array_equal(gradients["weight"], 0)


def test_prelu_near_0_may_have_either_slope_in_its_gradient_too():
    x, ex, dy, edy = (np.array([v]) for v in (1e-8, 1e-7, 2.0, 0.5))
    theta = {"weight": (np.array([0.25]), np.zeros(1))}
    ey, backward = rule(torch.nn.PReLU(), NONE, theta, x, ex)
    np.testing.assert_allclose(ey, (1 + 0.75) * 1e-7 + 0.75 * 1e-8)
    edx, gradients = backward(dy, edy)
    np.testing.assert_allclose(edx, (1 + 0.75) * 0.5 + 0.75 * 2)
    np.testing.assert_allclose(gradients["weight"], 0.5 * (1e-8 + 1e-7) + 2 * 1e-7)


# Maxout.


@pytest.mark.parametrize("source", ["x", "dy"])
def test_an_error_passes_through_maxout_as_the_derivatives_say(
    source, away_from_0, errors, passed_on
):
    g = np.random.default_rng(0)
    inputs = {"x": away_from_0(g, 4, 6), "dy": away_from_0(g, 4, 2)}
    e = {name: np.zeros(v.shape) for name, v in inputs.items()}
    e[source] = errors(g, *inputs[source].shape)
    module = modules.Maxout(3)
    worst = passed_on(module, inputs, source, e[source])
    ey, backward = rule(module, SINGLE, {}, inputs["x"], e["x"])
    # the largest of the pieces' errors is allowed, whichever piece is the largest
    largest = e["x"].reshape(4, 2, 3).max(-1)
    np.testing.assert_array_equal(ey, largest)
    assert (ey >= worst["y"]).all()
    np.testing.assert_allclose(backward(inputs["dy"], e["dy"])[0], worst["x"], rtol=1e-9)


def test_of_pieces_within_rounding_any_may_have_the_gradient():
    x = np.array([[1.0, 1.0 - 1e-8, 0.9], [2.0, 1.0, 2.0], [5.0, 1.0, 2.0]])
    ex = np.full((3, 3), 1e-7)
    ex[1] = 0  # equal for certain: the first, on either side
    _, backward = rule(modules.Maxout(3), SINGLE, {}, x, ex)
    edx, _ = backward(np.full((3, 1), -2.0), np.full((3, 1), 0.5))
    np.testing.assert_array_equal(edx, [[2.5, 2.5, 0], [0.5, 0, 0], [0.5, 0, 0]])
