"""The formulas of optimizers, clipping and schedules against torch's in float64, step by step."""

import functools
import itertools

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
