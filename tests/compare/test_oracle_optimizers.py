"""The formulas of optimizers, clipping and schedules against torch's in float64, step by step."""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

from compare.oracle.optimizers import clipped, known, rates_after, updated
from manual import nn, optim
from torch_ref import twin

OPTIMIZERS = {
    "SGD": (
        optim.SGD,
        [
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.2},
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
            {"lr": 0.1, "momentum": 0.8, "nesterov": True},
            {"lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True, "weight_decay": 0.1},
        ],
    ),
    "Adam": (
        optim.Adam,
        [
            {"lr": 0.1},
            {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1},
            {"lr": 0.1, "weight_decay": 0.3, "maximize": True},
            {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)},
            {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True},
        ],
    ),
    "AdamW": (optim.AdamW, [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.4, "amsgrad": True}]),
    "RMSprop": (
        optim.RMSprop,
        [
            {"lr": 0.1},
            {"lr": 0.1, "alpha": 0.6, "eps": 0.1, "weight_decay": 0.2},
            {"lr": 0.1, "momentum": 0.7, "maximize": True},
            {"lr": 0.1, "centered": True},
            {"lr": 0.1, "centered": True, "momentum": 0.7},
        ],
    ),
    "Adagrad": (
        optim.Adagrad,
        [
            {"lr": 0.1},
            {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 0.1},
        ],
    ),
}
CASES = [(name, k) for name, (_, options) in OPTIMIZERS.items() for k in range(len(options))]


def gradients(generator, shape):
    """Of sizes from 1e-3 to 10, with zeros; large first ones, for amsgrad."""
    for size in (10, 1, 0.1, 0.001, 1, 3):
        yield np.where(generator.random(shape) < 0.2, 0, generator.normal(size=shape) * size)


@pytest.mark.parametrize("resumed", [0, 2])
@pytest.mark.parametrize(("name", "k"), CASES)
def test_an_update_is_torchs(name, k, resumed):
    """From {} at the first step, or from the state dict of an optimizer that has made some."""
    kind, options = OPTIMIZERS[name]
    generator = np.random.default_rng(k)
    p = nn.Parameter(generator.normal(size=(2, 5)))
    own = kind([p], **options[k])
    for g in itertools.islice(gradients(generator, p.shape), resumed):
        p.grad = g
        own.step()
    q = torch.nn.Parameter(torch.tensor(p.data))
    theirs = twin(own, [q])
    state = dict(own.state_dict()["state"].get(0, {}))
    for g in gradients(generator, p.shape):
        before, kept = q.detach().numpy().copy(), g.copy()
        q.grad = torch.tensor(g)
        found = updated(own, own.param_groups[0], before, g, state)
        theirs.step()
        assert found.dtype == np.longdouble
        allowed = 8 * np.finfo(float).eps * (np.abs(before) + np.abs(found - before))
        assert (np.abs(found - q.detach().numpy()) <= allowed).all(), (name, options[k])
        assert np.array_equal(g, kept)
    if name != "SGD":
        assert state["step"] == resumed + 6


def test_the_state_is_the_witnesss_own():
    p = nn.Parameter(np.ones(2))
    p.grad = np.ones(2)
    own = optim.Adam([p])
    own.step()
    entry = own.state_dict()["state"][0]
    state = dict(entry)
    updated(own, own.param_groups[0], p.data, p.grad, state)
    assert state["exp_avg"].dtype == np.longdouble
    assert entry["exp_avg"].tolist() == own.state_dict()["state"][0]["exp_avg"].tolist()


def test_without_a_state_adagrad_begins_with_the_constructors_sum():
    p, g = nn.Parameter(np.ones(2)), np.array([1.0, 2.0])
    own = optim.Adagrad([p], lr=1.0, initial_accumulator_value=3.0, eps=0.0)
    found = updated(own, own.param_groups[0], p.data, g, {})
    assert np.abs(found - (1 - g / np.sqrt(3 + g * g))).max() <= 1e-15


def test_only_what_is_used_is_kept():
    p, g = nn.Parameter(np.ones(2)), np.array([0.5, 2.0])
    kept = {}
    for name, options in (("plain", {}), ("all", {"momentum": 0.5, "centered": True})):
        own, kept[name] = optim.RMSprop([p], alpha=0.75, **options), {}
        updated(own, own.param_groups[0], p.data, g, kept[name])
    assert kept["plain"].keys() == {"step", "square_avg"}
    assert kept["all"].keys() == {"step", "square_avg", "grad_avg", "momentum_buffer"}
    assert kept["all"]["square_avg"].tolist() == [0.0625, 1]
    assert kept["all"]["grad_avg"].tolist() == [0.125, 0.5]


class Own(optim.SGD):
    """With its base's twin, and so with its base's formula."""


class Other(optim.Optimizer):
    pass


def test_whose_formula_is_known():
    p = nn.Parameter(np.ones(2))
    assert known(Own([p], lr=0.5))
    assert not known(Other([p], {}))
    assert not known(optim.LBFGS([p]))
    assert updated(optim.LBFGS([p]), {}, p.data, p.data, {}) is None
    own = Own([p], lr=0.5)
    assert updated(own, own.param_groups[0], p.data, np.ones(2), {}).tolist() == [0.5, 0.5]


NORMS = [2.0, 1.0, 1.5, 3, np.inf, -np.inf, 0, -1.0]


@pytest.mark.parametrize("max_norm", [0.3, 1e6])
@pytest.mark.parametrize("norm_type", NORMS)
def test_clipping_by_norm_is_torchs(norm_type, max_norm):
    generator = np.random.default_rng(1)
    given = [generator.normal(size=shape) * 2 for shape in ((2, 3), (4,), (), (0,))]
    given = given if 0 <= norm_type < np.inf else given[:3]  # torch has no extreme of nothing
    clip = functools.partial(optim.clip_grad_norm_, max_norm=max_norm, norm_type=norm_type)
    total, found = clipped(clip, given)
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in given]
    for q, g in zip(theirs, given, strict=True):
        q.grad = torch.tensor(g)
    expected = twin(clip)(theirs)
    assert abs(total - expected.item()) <= 1e-14 * total
    for value, q in zip(found, theirs, strict=True):
        assert value.shape == q.grad.shape
        assert np.allclose(value.astype(float), q.grad.numpy(), rtol=1e-14, atol=0)


def test_clipping_by_value_and_positional_arguments():
    given = [np.array([-3.0, 0.2, 5.0])]
    total, [found] = clipped(functools.partial(optim.clip_grad_value_, clip_value=0.5), given)
    assert total is None
    assert found.tolist() == [-0.5, 0.2, 0.5]
    assert given[0].tolist() == [-3.0, 0.2, 5.0]
    by_keyword = clipped(functools.partial(optim.clip_grad_norm_, max_norm=1, norm_type=1.0), given)
    assert abs(by_keyword[0] - 8.2) < 1e-15
    assert np.abs(by_keyword[1][0] - np.array([-3.0, 0.2, 5.0]) / 8.200001).max() < 1e-15
    assert clipped(lambda parameters: None, given) is None
    assert clipped(functools.partial(np.clip, a_max=1), given) is None


SCHEDULES = {
    "StepLR": lambda o: optim.StepLR(o, 3, 0.5),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 5, 0.01),
    "CosineAnnealingLR(7)": lambda o: optim.CosineAnnealingLR(o, 7),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_closed_form_is_torchs_recursion(name):
    groups = [{"params": [nn.Parameter(np.ones(1))], "lr": lr} for lr in (0.3, 0.05)]
    own = optim.SGD(groups)
    scheduler = SCHEDULES[name](own)
    theirs = twin(own, [torch.nn.Parameter(torch.ones(1)) for _ in groups])
    their_scheduler = twin(scheduler, theirs)
    for epoch in range(1, 30):
        theirs.step()
        their_scheduler.step()
        found = rates_after(scheduler, epoch)
        for rate, group in zip(found, theirs.param_groups, strict=True):
            assert abs(rate - group["lr"]) <= 1e-16 * epoch  # one rounding a step


class Warmup(optim.lr_scheduler.LRScheduler):
    pass


def test_a_schedule_of_ones_own_has_no_closed_form():
    assert rates_after(Warmup(optim.SGD([nn.Parameter(np.ones(1))])), 3) is None


# The same from the papers' formulas once more, with 50 digits: those of torch's documentation.


def sgd(o, theta, g, state, t):
    g = g + o["weight_decay"] * theta
    if o["momentum"] == 0:
        return theta - o["lr"] * g
    b = g if t == 1 else o["momentum"] * state["b"] + (1 - o["dampening"]) * g
    state["b"] = b
    return theta - o["lr"] * (g + o["momentum"] * b if o["nesterov"] else b)


def adam(o, theta, g, state, t):
    if o["decoupled_weight_decay"]:
        theta = theta - o["lr"] * o["weight_decay"] * theta
    else:
        g = g + o["weight_decay"] * theta
    beta1, beta2 = o["betas"]
    state["m"] = beta1 * state.get("m", 0) + mpmath.mpf(1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + mpmath.mpf(1 - beta2) * g**2
    v = state["v"]
    if o["amsgrad"]:
        v = state["max"] = max(v, state.get("max", v))
    v = mpmath.sqrt(v / (1 - beta2**t)) + o["eps"]
    return theta - o["lr"] * state["m"] / (1 - beta1**t) / v


def rmsprop(o, theta, g, state, t):
    g = g + o["weight_decay"] * theta
    state["v"] = o["alpha"] * state.get("v", 0) + mpmath.mpf(1 - o["alpha"]) * g**2
    v = state["v"]
    if o["centered"]:
        state["a"] = o["alpha"] * state.get("a", 0) + mpmath.mpf(1 - o["alpha"]) * g
        v = v - state["a"] ** 2
    d = g / (mpmath.sqrt(v) + o["eps"])
    if o["momentum"]:
        d = state["b"] = o["momentum"] * state.get("b", 0) + d
    return theta - o["lr"] * d


def adagrad(o, theta, g, state, t):
    g = g + o["weight_decay"] * theta
    state["sum"] = state.get("sum", o["initial_accumulator_value"]) + g**2
    lr = mpmath.mpf(o["lr"] / (1 + (t - 1) * o["lr_decay"]))
    return theta - lr * g / (mpmath.sqrt(state["sum"]) + o["eps"])


PAPERS = {"SGD": sgd, "Adam": adam, "AdamW": adam, "RMSprop": rmsprop, "Adagrad": adagrad}


@pytest.mark.parametrize(("name", "k"), CASES)
def test_an_update_has_all_digits(name, k):
    kind, options = OPTIMIZERS[name]
    theta = [1 / 3, -2 / 7, 5.0]
    own = kind([nn.Parameter(np.array(theta))], **options[k])
    group, state, states = own.param_groups[0], {}, [{}, {}, {}]
    units = 60 * float(np.finfo(np.longdouble).eps)
    with mpmath.workdps(50):
        for t, g in enumerate(([1 / 7, -3 / 11, 0.0], [-2 / 3, 1e-3 / 7, 1 / 9]), start=1):
            found = updated(own, group, np.array(theta), np.array(g), state)
            for i, (before, slope, kept) in enumerate(zip(theta, g, states, strict=True)):
                slope = mpmath.mpf(-slope if group["maximize"] else slope)
                exact = PAPERS[name](group, mpmath.mpf(before), slope, kept, t)
                own_digits = mpmath.mpf(float(found[i])) + float(found[i] - float(found[i]))
                assert abs(own_digits - exact) <= units * max(1, abs(exact))
            theta = found.astype(float).tolist()


def test_options_are_pythons_floats():
    """1 − τ in single precision would have 7 digits."""
    p, g = nn.Parameter(np.ones(1)), np.array([1 / 3])
    found = []
    for number in (np.float32, lambda value: float(np.float32(value))):
        own, state = optim.SGD([p], lr=0.1, momentum=0.9), {}
        group = own.param_groups[0] | {"dampening": number(0.1)}
        for _ in range(2):
            value = updated(own, group, p.data, g, state)
        found.append(value)
    assert found[0] == found[1]


def test_every_number_is_in_the_dtype_that_is_asked_for():
    p = nn.Parameter(np.ones(2))
    own, given = optim.Adam([p]), {"step": 3.0, "exp_avg": [0.5, 1.0], "exp_avg_sq": [1.0, 1.0]}
    for dtype in (np.float32, np.float64, np.longdouble):
        state = dict(given)
        value = updated(own, own.param_groups[0], np.ones(2), np.ones(2), state, dtype)
        assert {value.dtype, state["exp_avg"].dtype, state["exp_avg_sq"].dtype} == {np.dtype(dtype)}
        assert (state["step"], type(state["step"])) == (4, int)
        total, [found] = clipped(
            functools.partial(optim.clip_grad_norm_, max_norm=1.0), [np.ones(2)], dtype
        )
        assert total.dtype == found.dtype == dtype
        _, [found] = clipped(
            functools.partial(optim.clip_grad_value_, clip_value=0.1), [np.ones(2)], dtype
        )
        assert found.dtype == dtype
        rates = rates_after(optim.CosineAnnealingLR(own, 5), 2, dtype)
        assert [rate.dtype for rate in rates] == [dtype]


def test_norms_and_rates_have_all_digits():
    eps, g = float(np.finfo(np.longdouble).eps), np.array([1 / 3, -2 / 7, 10 / 3])
    with mpmath.workdps(50):
        for p in (1.0, 1.5, 2.0, 3.0):
            by_norm = functools.partial(optim.clip_grad_norm_, max_norm=0.3, norm_type=p)
            total, [found] = clipped(by_norm, [g])
            exact = sum(abs(mpmath.mpf(v)) ** p for v in g) ** (1 / mpmath.mpf(p))
            assert abs(mpmath.mpf(float(total)) + float(total - float(total)) - exact) <= 20 * eps
            exact = g[0] * mpmath.mpf(0.3) / (exact + mpmath.mpf("1e-6"))
            digits = mpmath.mpf(float(found[0])) + float(found[0] - float(found[0]))
            assert abs(digits - exact) <= 1e-21 + 20 * eps
        own = optim.SGD([nn.Parameter(np.ones(1))], lr=0.3)
        cosine = optim.CosineAnnealingLR(own, 7, 0.01)
        [rate] = rates_after(cosine, 3)
        exact = (
            0.01 + (mpmath.mpf(0.3) - mpmath.mpf(0.01)) * (1 + mpmath.cos(3 * mpmath.pi / 7)) / 2
        )
        assert abs(mpmath.mpf(float(rate)) + float(rate - float(rate)) - exact) <= 4 * eps
        [rate] = rates_after(optim.ExponentialLR(own, 0.9), 3)
        exact = mpmath.mpf(0.3) * mpmath.mpf(0.9) ** 3
        assert abs(mpmath.mpf(float(rate)) + float(rate - float(rate)) - exact) <= 4 * eps
        [rate] = rates_after(optim.StepLR(own, 4, 0.7), 11)
        exact = mpmath.mpf(0.3) * mpmath.mpf(0.7) ** 2
        assert abs(mpmath.mpf(float(rate)) + float(rate - float(rate)) - exact) <= 4 * eps
    assert math.isclose(rates_after(optim.StepLR(own, 4, 0.7), 12)[0], 0.3 * 0.7**3)
