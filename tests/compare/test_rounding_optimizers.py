"""The error rules of optimizers and clipping: every term needed, none below the truth."""

from functools import partial

import mpmath
import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from compare import assert_equivalent
from compare.rounding import Ball, Rounding, clip_rule, update_rule
from manual import nn, optim

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)
FLOAT32 = Rounding.of(np.dtype(np.float32))

# SGD, of which every output is a linear function.

OPTIONS = [{}, {"weight_decay": 0.5}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}]
OPTIONS += [{"momentum": 0.9, "nesterov": True}]
OPTIONS += [{"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.5}]
OPTIONS += [{"momentum": 0.9, "nesterov": True, "weight_decay": 0.5}]


def sgd(options, theta, gradient, velocity=None):
    """torch's (updated θ, velocity) of float64 scalars."""
    p = torch.tensor(float(theta), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.7, **options)
    p.grad = torch.tensor(float(gradient), dtype=torch.float64)
    if velocity is not None:
        v = torch.tensor(float(velocity), dtype=torch.float64)
        optimizer.state[p]["momentum_buffer"] = v
    optimizer.step()
    return np.array([p.item(), float(optimizer.state[p].get("momentum_buffer") or 0)])


def updated(options, r, theta, gradient, velocity=None):
    """(E(updated θ), velocity as a Ball) from (value, E) of each."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.7, **options)
    state = {} if velocity is None else {"momentum_buffer": Ball(*velocity, r)}
    group = optimizer.param_groups[0]
    new = update_rule(optimizer, group, Ball(*theta, r), Ball(*gradient, r), state)
    return new.e, state.get("momentum_buffer")


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_error_passes_through_an_update_as_its_coefficients_say(
    options, started, away_from_0, errors
):
    """θ has two paths, kept apart: itself, coefficient 1, and the gradient of its decay."""
    if started and "momentum" not in options:
        return
    g = np.random.default_rng(0)
    value, gradient, velocity = away_from_0(g, 3, 6)
    for source in range(3 if started else 2):
        e = np.zeros((3, 6))
        e[source] = errors(g, 6)
        before = (velocity, e[2]) if started else None
        new, after = updated(options, NONE, (value, e[0]), (gradient, e[1]), before)
        unit = np.eye(3)[source]
        of_theta, of_velocity = sgd(options, *(unit if started else unit[:2]))
        coefficient = 1 + abs(of_theta - 1) if source == 0 else abs(of_theta)
        np.testing.assert_allclose(new, coefficient * e[source], rtol=1e-9)
        assert (new >= abs(of_theta) * e[source] * (1 - 1e-9)).all()
        if "momentum" in options:
            np.testing.assert_allclose(after.e, abs(of_velocity) * e[source], rtol=1e-9)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_update_rounds_each_sum_and_product(options, started, away_from_0):
    """Its roundings, counted: a + c b has those of c, of the product and of the sum."""
    g = np.random.default_rng(0)
    value, gradient, velocity = np.abs(away_from_0(g, 3, 6))
    none = np.zeros(6)
    state = (velocity, none) if started and "momentum" in options else None
    new, _ = updated(options, SINGLE, (value, none), (gradient, none), state)

    def add(a, c, b):
        (a, ea), (b, eb) = a, b
        return a + c * b, ea + abs(c) * eb + U * (np.abs(a + c * b) + 2 * np.abs(c * b))

    step, mu = (gradient, none), options.get("momentum", 0)
    if "weight_decay" in options:
        step = add(step, options["weight_decay"], (value, none))
    if mu:
        kept = (1 - options.get("dampening", 0)) if state else 1
        scaled = kept * step[0], kept * step[1] + (kept < 1) * 2 * U * kept * step[0]
        v = add(scaled, mu, (velocity, none)) if state else step
        step = add(step, mu, v) if options.get("nesterov") else v
    np.testing.assert_allclose(new, add((value, none), -0.7, step)[1], rtol=1e-6)


def test_a_momentum_started_on_huge_gradients_is_known_to_the_bounds():
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(5, 7, generator=g), nn.Linear(7, 4, generator=g))
    optimizer = optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    criterion, start = nn.HalfSquaredError(), net.state_dict()
    x, y = (g.normal(size=(8, n)).astype(np.float32) for n in (5, 4))
    criterion(net(x * np.float32(1e4)), y)
    net.backward(criterion.backward())
    optimizer.step()
    net.load_state_dict(start)
    assert_equivalent(net, criterion, x, y, optimizer=optimizer, steps=3)


# The others, run: torch's float32 update against float64, gradients with the error that is given.

GRID = [(torch.optim.SGD, options) for options in OPTIONS]
for kind in (torch.optim.Adam, torch.optim.AdamW):
    for betas in ((0.9, 0.999), (0.0, 0.5), (0.45, 0.6), (0.6, 0.4), (0.99, 0.9)):
        GRID += [
            (kind, {"betas": betas}),
            (kind, {"betas": betas, "amsgrad": True, "weight_decay": 0.3}),
            (kind, {"betas": betas, "maximize": True, "eps": 1e-3, "weight_decay": 0.1}),
        ]
for alpha in (0.99, 0.5, 0.1, 0.0):
    GRID += [
        (torch.optim.RMSprop, {"alpha": alpha}),
        (torch.optim.RMSprop, {"alpha": alpha, "momentum": 0.9, "weight_decay": 0.1}),
    ]
for alpha in (0.99, 0.9, 0.5):
    GRID += [
        (torch.optim.RMSprop, {"alpha": alpha, "centered": True, "maximize": True}),
        (torch.optim.RMSprop, {"alpha": alpha, "centered": True, "momentum": 0.9, "eps": 0.01}),
    ]
GRID += [
    (torch.optim.Adagrad, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    (torch.optim.Adagrad, {"maximize": True, "eps": 1e-3, "weight_decay": 0.1}),
]
LR, STEPS, N = 0.02, 10, 2000


def shown(value):
    return value.__name__ if isinstance(value, type) else str(value)


def bounded(kind, options, seed, error_of, r=FLOAT32):
    """Step by step (error of float32, E), of the parameter."""
    g = np.random.default_rng(seed)
    start = np.where(g.random(N) < 0.8, g.normal(size=N), 0).astype(np.float32)
    single, double = (torch.tensor(start, dtype=d) for d in (torch.float32, torch.float64))
    optimizers = [kind([p.requires_grad_()], lr=LR, **options) for p in (single, double)]
    [group] = optimizers[1].param_groups
    state = {
        name: Ball(value.numpy().copy(), 0.0, r)
        for name, value in optimizers[1].state[double].items()
        if name != "step"
    }
    e, scale = np.zeros(N), 10 ** g.uniform(-6, 2, N)
    for _ in range(STEPS):
        gradient = (g.normal(size=N) * scale).astype(np.float32).astype(np.float64)
        error = error_of(g, gradient)
        side = (gradient + error * g.choice([-1, 1, 0, 0.5], N)).astype(np.float32)
        side = np.where(np.abs(side - gradient) <= error, side, gradient.astype(np.float32))
        theta = Ball(double.detach().numpy().copy(), e, r)
        updated = update_rule(optimizers[1], group, theta, Ball(gradient, error, r), state)
        single.grad, double.grad = torch.tensor(side), torch.tensor(gradient)
        for optimizer in optimizers:
            optimizer.step()
        value = double.detach().numpy().copy()
        np.testing.assert_allclose(updated.value, value, rtol=1e-8, atol=1e-12)
        e = updated.e + r.tiny
        yield np.abs(single.detach().numpy() - value), e


ERRORS = {
    "none": lambda g, gradient: 0 * gradient,
    "small": lambda g, gradient: np.abs(gradient) * 10 ** g.uniform(-7, -2, N),
    "all": lambda g, gradient: np.abs(gradient) * 10 ** g.uniform(0, 3, N),
}


@pytest.mark.parametrize("kind_of_error", ERRORS)
@pytest.mark.parametrize(("kind", "options"), GRID, ids=shown)
def test_no_update_of_float32_leaves_its_ball(kind, options, kind_of_error):
    """Also where gradients are all rounding: E is finite, and no more than either side can move."""
    for step, (error, e) in enumerate(bounded(kind, options, 0, ERRORS[kind_of_error])):
        assert np.isfinite(e).all(), step
        assert (error <= e).all(), (step, (error / e).max())
        if kind_of_error == "none":  # so little that a mistake of 0.1 % of a step shows
            assert np.median(e) < 1e-3 * LR, step


def test_what_a_step_moves_is_capped():
    """By lr for Adagrad, 1/√(1 − α) lr for RMSprop, √(Σ ((1 − β₁) β₁ᵏ)² / …) lr for Adam, where
    nothing is known of the gradient; the worst gradients reach it."""
    r = Rounding(u=1e-30, tiny=0.0)
    zero = Ball(np.zeros(1), 0.0, r)
    for kind, options, caps in (
        (torch.optim.Adagrad, {}, [1, 1, 1]),
        (torch.optim.RMSprop, {"alpha": 0.9}, [10**0.5] * 3),
        (torch.optim.RMSprop, {"alpha": 0.5}, [2**0.5] * 3),
        (torch.optim.Adam, {"betas": (0.0, 0.75)}, None),
        (torch.optim.Adam, {"betas": (0.5, 0.75)}, None),
        (torch.optim.AdamW, {"betas": (0.9, 0.5)}, None),
        (torch.optim.RMSprop, {"alpha": 0.5, "centered": True}, None),
        (torch.optim.RMSprop, {"alpha": 0.9, "centered": True}, None),
    ):
        optimizer = kind([torch.zeros(1)], lr=1.0, **options)
        [group] = optimizer.param_groups
        state = {}
        for step in range(3):
            gradient = Ball(np.array([1e-9]), np.array([1.0]), r)
            moved = update_rule(optimizer, group, zero, gradient, state)
            cap = moved.e[0] - abs(moved.value[0])
            assert np.isfinite(cap)
            if caps is not None:
                np.testing.assert_allclose(cap, caps[step], rtol=1e-9)
            reached = 0
            for seed in range(20):
                reached = max(reached, moves(kind, options, step + 1, np.random.default_rng(seed)))
            assert reached <= cap * (1 + 1e-9)
            assert reached >= 0.5 * cap, (kind, options, step)


def moves(kind, options, steps, g):
    """How far the last of some steps moves a parameter, with gradients of many sizes."""
    p = torch.zeros(300, dtype=torch.float64, requires_grad=True)
    optimizer = kind([p], lr=1.0, **{**options, "eps": 1e-30} | decay_free(kind))
    size, base = 10 ** g.uniform(-3, 0), g.normal()
    for _ in range(steps):
        before = p.detach().clone()
        p.grad = torch.tensor(base * size ** g.uniform(0, 1, 300) * (1 + 0.3 * g.normal(size=300)))
        optimizer.step()
    return (p.detach() - before).abs().max().item()


def decay_free(kind):
    return {"weight_decay": 0.0} if kind is torch.optim.AdamW else {}


@pytest.mark.parametrize("betas", [(0.0, 0.75), (0.5, 0.75), (0.9, 0.5), (0.9, 0.999)])
def test_the_cap_of_adam_is_reached_by_gradients_in_proportion_to_both_weights(betas):
    r, steps = Rounding(u=1e-30, tiny=0.0), 5
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer, state = torch.optim.Adam([p], lr=1.0, betas=betas, eps=1e-30), {}
    for k in reversed(range(steps)):
        before = p.item()
        p.grad = torch.tensor([(betas[0] / betas[1]) ** k]).double()
        optimizer.step()
        nothing = Ball(np.array([1e-9]), np.array([1.0]), r)
        zero = Ball(np.zeros(1), 0.0, r)
        moved = update_rule(optimizer, optimizer.param_groups[0], zero, nothing, state)
    cap = moved.e[0] - abs(moved.value[0])
    np.testing.assert_allclose(before - p.item(), cap, rtol=1e-5)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.99, 0.9999), (0.5, 0.9)])
@mpmath.workdps(40)
def test_what_float64_makes_of_a_bias_correction_is_allowed(betas):
    """1 − 0.999ᵗ is 0.002 at first, and 0.999ᵗ is rounded beside 1: an error far above those of
    the update's other roundings, the same one on both sides."""
    r = Rounding.of(np.dtype(np.float64))
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer, state = torch.optim.Adam([p], lr=1.0, betas=betas, eps=0.0), {}
    (b1, b2), m, v, largest = (mpmath.mpf(b) for b in betas), mpmath.mpf(0), mpmath.mpf(0), 0.0
    g = np.random.default_rng(0)
    for t in range(1, 9):
        gradient = g.uniform(0.5, 2, 1)  # of one sign: m does not cancel
        m = b1 * m + (1 - b1) * mpmath.mpf(gradient[0])
        v = b2 * v + (1 - b2) * mpmath.mpf(gradient[0]) ** 2
        exact = -(m / (1 - b1**t)) / mpmath.sqrt(v / (1 - b2**t))
        with torch.no_grad():
            p.zero_()  # so that only the update itself is rounded
        p.grad = torch.tensor(gradient)
        optimizer.step()
        zero, ball = Ball(np.zeros(1), 0.0, r), Ball(gradient, 0.0, r)
        moved = update_rule(optimizer, optimizer.param_groups[0], zero, ball, state)
        error = abs(float(mpmath.mpf(p.item()) - exact))
        assert error <= moved.e[0]
        largest = max(largest, error / abs(p.item()))
        assert moved.e[0] <= 2.0**-53 * (50 + 3 / (1 - betas[1] ** t)) * abs(p.item())
    if betas[1] > 0.99:  # far more than the others come to
        assert largest > 50 * 2.0**-53


def test_where_rounding_consumes_the_variance_of_equal_gradients_nothing_is_certain():
    """α = 0.1: after ten of them α^t v is 10⁻¹⁰ v, and float32 divides by eps."""
    p = torch.zeros(1, requires_grad=True)
    optimizer, state = torch.optim.RMSprop([p], lr=1.0, alpha=0.1, centered=True), {}
    for _ in range(10):
        gradient, zero = Ball(np.ones(1), np.ones(1), FLOAT32), Ball(np.zeros(1), 0.0, FLOAT32)
        moved = update_rule(optimizer, optimizer.param_groups[0], zero, gradient, state)
    assert moved.e == np.inf


def test_an_optimizer_without_a_rule_says_so():
    optimizer = torch.optim.Adadelta([torch.zeros(1)])
    ball = Ball(np.zeros(1), 0.0, NONE)
    with pytest.raises(TypeError) as caught:
        update_rule(optimizer, optimizer.param_groups[0], ball, ball, {})
    assert str(caught.value) == (
        "no rounding rule is known for Adadelta; register one with "
        "@compare.rounding.update_rule.register"
    )


def test_the_group_says_whether_the_decay_is_decoupled_or_else_the_class():
    """Older versions of torch have no such option."""
    theta, gradient = (Ball(np.array([v]), np.array([0.25]), SINGLE) for v in (2.0, 3.0))

    def e(kind, **given):
        optimizer = kind([torch.zeros(1)], lr=0.5, weight_decay=0.3)
        group = optimizer.param_groups[0] | given
        for name in [name for name, value in given.items() if value is None]:
            del group[name]
        return update_rule(optimizer, group, theta, gradient, {}).e[0]

    adam, adamw = e(torch.optim.Adam), e(torch.optim.AdamW)
    assert adam != adamw
    assert e(torch.optim.Adam, decoupled_weight_decay=None) == adam
    assert e(torch.optim.AdamW, decoupled_weight_decay=None) == adamw
    assert e(torch.optim.Adam, decoupled_weight_decay=True) == adamw
    assert e(torch.optim.AdamW, decoupled_weight_decay=False) == adam


# Clipping.


def gradients(g, r, share=1e-6):
    values = [g.normal(size=shape) for shape in ((3, 4), (5,))]
    return [Ball(v, share * np.abs(v) * g.uniform(0.7, 1.3, v.shape), r) for v in values]


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, np.inf])
def test_a_norm_has_the_errors_of_its_gradients(norm_type):
    g = np.random.default_rng(0)
    balls = gradients(g, NONE)
    flat = np.concatenate([b.e.ravel() for b in balls])
    clip = partial(clip_grad_norm_, max_norm=0.5, norm_type=norm_type)
    norm, clipped = clip_rule(clip, balls)
    np.testing.assert_allclose(norm.e, np.linalg.norm(flat, norm_type))
    factor = 0.5 / (norm.value + 1e-6)
    for ball, out in zip(balls, clipped, strict=True):
        np.testing.assert_allclose(out.value, factor * ball.value)
        expected = factor * ball.e + np.abs(ball.value) * factor * norm.e / norm.value
        np.testing.assert_allclose(out.e, expected, rtol=1e-5)
    exact, clipped = clip_rule(clip, [Ball(b.value, 0.0, SINGLE) for b in balls])
    np.testing.assert_allclose(exact.e, (17 + 8) * U * exact.value)
    # the norm's, max_norm's, of + 10⁻⁶, of the quotient twice (as a limit's, too), of the product
    np.testing.assert_allclose(clipped[0].e, (25 + 5) * U * np.abs(clipped[0].value), rtol=1e-5)


def test_what_is_certainly_not_clipped_is_only_multiplied_by_1():
    balls = gradients(np.random.default_rng(0), SINGLE)
    for limit, share in ((1e3, 0), (None, 1)):
        norm = np.linalg.norm(np.concatenate([b.value.ravel() for b in balls]))
        clip = partial(clip_grad_norm_, max_norm=limit or norm * (1 + 1e-7))
        norm, [out, _] = clip_rule(clip, balls)
        spread = share * norm.e / norm.value
        least = balls[0].e + spread * np.abs(out.value) * 0.5
        assert (out.e >= least).all()
        assert (out.e <= balls[0].e + (spread * 2 + 4 * U) * np.abs(out.value)).all()


def test_values_are_clipped_with_the_errors_of_what_is_not():
    value, e = np.array([0.2, -0.499, 0.499, -0.6, 3.0, 0.501]), np.full(6, 0.01)
    norm, [out] = clip_rule(partial(clip_grad_value_, clip_value=0.5), [Ball(value, e, NONE)])
    assert norm is None
    np.testing.assert_array_equal(out.value, np.clip(value, -0.5, 0.5))
    np.testing.assert_allclose(out.e, [0.01, 0.01, 0.01, 0, 0, 0.009])
    _, [out] = clip_rule(
        partial(clip_grad_value_, clip_value=0.3), [Ball(np.array([1.0]), 0.0, SINGLE)]
    )
    assert out.e == 0.3 * U  # float32's 0.3 is another number


@pytest.mark.parametrize("max_norm", [0.05, 1.0, 3.0, 1e3])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
def test_float32_clips_within_the_bounds(norm_type, max_norm):
    for seed in range(20):
        g = np.random.default_rng(seed)
        values = [g.normal(size=s).astype(np.float32) for s in ((3, 4), (5,))]
        sides = []
        for dtype in (torch.float32, torch.float64):
            ps = [torch.zeros(v.shape, dtype=dtype, requires_grad=True) for v in values]
            for p, v in zip(ps, values, strict=True):
                p.grad = torch.tensor(v, dtype=dtype)
            norm = clip_grad_norm_(ps, max_norm, norm_type)
            sides.append([norm.item(), *(p.grad.double().numpy() for p in ps)])
        balls = [Ball(v.astype(np.float64), 0.0, FLOAT32) for v in values]
        clip = partial(clip_grad_norm_, max_norm=max_norm, norm_type=norm_type)
        norm, clipped = clip_rule(clip, balls)
        for single, double, ball in zip(*sides, [norm, *clipped], strict=True):
            np.testing.assert_allclose(ball.value, double, rtol=1e-12)
            assert (np.abs(single - double) <= ball.e).all()


def test_a_clipping_without_a_rule_says_so():
    with pytest.raises(TypeError, match="no rounding rule is known for _get_total_norm"):
        clip_rule(partial(torch.nn.utils.get_total_norm), [])


@pytest.mark.parametrize(("share", "certain"), [(99.5, False), (100.5, True)])
def test_a_variance_counts_as_certain_from_a_hundred_roundings(share, certain):
    """After one step of g the variance is α (1 − α) g², and |g| divided by its root has a limit;
    but not where rounding may consume it."""
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.RMSprop([p], lr=1.0, alpha=share * U, centered=True, eps=0.0)
    theta, g = (Ball(np.full(1, v), np.full(1, v), FLOAT32) for v in (0.0, 1.0))
    found = update_rule(optimizer, optimizer.param_groups[0], theta, g, {})
    assert np.isfinite(found.e).all() == certain
