"""Schedules against torch.optim.lr_scheduler, epoch by epoch: the same floats."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn, optim
from manual.optim import lr_scheduler

CASES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.5}),
    ("StepLR", {"step_size": 4, "gamma": 2.0}),
    ("StepLR", {"step_size": 2.5, "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ExponentialLR", {"gamma": 0.0}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1, "eta_min": 0.2}),
    ("CosineAnnealingLR", {"T_max": 2}),
    ("CosineAnnealingLR", {"T_max": 3.5, "eta_min": 0.5}),
]


def optimizers(**more):
    """(manual, torch), of two groups with rates 0.1 and 0.3."""
    return [
        library.SGD([{"params": [a], **more}, {"params": [b], "lr": 0.3, **more}], lr=0.1)
        for library, a, b in (
            (optim, nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))),
            (torch.optim, torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))),
        )
    ]


def both(kind, pair, **options):
    own = getattr(lr_scheduler, kind)(pair[0], **options)
    theirs = getattr(torch.optim.lr_scheduler, kind)(pair[1], **options)
    pair[1].step()  # torch warns where nothing was optimized before the first epoch's end
    return own, theirs


def agree(own, theirs):
    rates = [group["lr"] for group in own.optimizer.param_groups]
    assert rates == [group["lr"] for group in theirs.optimizer.param_groups]
    assert own.get_last_lr() == theirs.get_last_lr() == rates
    assert (own.last_epoch, own.base_lrs) == (theirs.last_epoch, theirs.base_lrs)
    initial = [group["initial_lr"] for group in own.optimizer.param_groups]
    assert initial == [group["initial_lr"] for group in theirs.optimizer.param_groups]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_the_same_rates_as_torch(kind, options):
    pair = optimizers()
    own, theirs = both(kind, pair, **options)
    agree(own, theirs)
    assert own.get_last_lr() == [0.1, 0.3]
    for _ in range(100):
        own.step()
        theirs.step()
        agree(own, theirs)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_rate_changed_from_outside_is_gone_on_from(kind, options):
    pair = optimizers()
    own, theirs = both(kind, pair, **options)
    for epoch in range(30):
        if epoch % 4 == 1:
            for optimizer in pair:
                optimizer.param_groups[epoch % 2]["lr"] = 0.7 / (epoch + 1)
        own.step()
        theirs.step()
        agree(own, theirs)


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("last_epoch", [0, 1, 2, 5, 9])
def test_resuming_at_an_epoch(kind, options, last_epoch):
    pair = optimizers(initial_lr=0.8)
    own, theirs = both(kind, pair, **options, last_epoch=last_epoch)
    agree(own, theirs)
    assert own.last_epoch == last_epoch + 1
    assert own.base_lrs == [0.8, 0.8]
    for _ in range(12):
        own.step()
        theirs.step()
        agree(own, theirs)


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(["StepLR", "ExponentialLR", "CosineAnnealingLR"]),
    gamma=st.floats(0, 1.5),
    period=st.integers(1, 12),
    eta_min=st.floats(0, 0.5),
    outside=st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=30),
)
def test_any_schedule(kind, gamma, period, eta_min, outside):
    options = {
        "StepLR": {"step_size": period, "gamma": gamma},
        "ExponentialLR": {"gamma": gamma},
        "CosineAnnealingLR": {"T_max": period, "eta_min": eta_min},
    }[kind]
    pair = optimizers()
    own, theirs = both(kind, pair, **options)
    for lr in outside:
        for optimizer in pair if lr is not None else ():
            optimizer.param_groups[0]["lr"] = lr
        own.step()
        theirs.step()
        agree(own, theirs)


def closed_form(kind, options, base, epoch):
    if kind == "StepLR":
        return base * options.get("gamma", 0.1) ** (epoch // options["step_size"])
    if kind == "ExponentialLR":
        return base * options["gamma"] ** epoch
    low = options.get("eta_min", 0.0)
    return low + (base - low) * (1 + math.cos(math.pi * epoch / options["T_max"])) / 2


@pytest.mark.parametrize(
    ("kind", "options"), [case for case in CASES if 2.5 not in case[1].values()]
)
def test_the_formula_in_the_docstring(kind, options):
    """Independent of torch; some roundings an epoch."""
    [optimizer, _] = optimizers()
    own = getattr(lr_scheduler, kind)(optimizer, **options)
    for epoch in range(40):
        expected = [closed_form(kind, options, base, epoch) for base in (0.1, 0.3)]
        np.testing.assert_allclose(own.get_last_lr(), expected, rtol=1e-11, atol=1e-15)
        own.step()


def test_two_schedules_at_once():
    """Each goes on from what the other left."""
    pair = optimizers()
    first = both("StepLR", pair, step_size=2, gamma=0.5)
    for schedule in first * 2:
        schedule.step()
    second = both("CosineAnnealingLR", pair, T_max=5)  # base_lrs: those before the first
    agree(*second)
    assert second[0].base_lrs == [0.1, 0.3]
    for _ in range(12):
        for own, theirs in (first, second):
            own.step()
            theirs.step()
            agree(own, theirs)


@pytest.mark.parametrize("from_torch", [False, True])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_loading_a_state_goes_on_from_it(kind, options, from_torch):
    pair = optimizers()
    schedules = both(kind, pair, **options)
    for _ in range(5):
        for schedule in schedules:
            schedule.step()
    others = {"StepLR": [99], "ExponentialLR": [0.1], "CosineAnnealingLR": [99]}[kind]
    [optimizer, _] = optimizers()
    loaded = getattr(lr_scheduler, kind)(optimizer, *others)
    state = schedules[from_torch].state_dict()
    loaded.load_state_dict(state)
    optimizer.load_state_dict(pair[0].state_dict())
    for _ in range(10):
        agree(loaded, schedules[1])
        for schedule in (loaded, *schedules):
            schedule.step()
        agree(schedules[0], schedules[1])


def test_a_state_dict_is_a_copy():
    [optimizer, _] = optimizers()
    schedule = lr_scheduler.StepLR(optimizer, 1)
    state = schedule.state_dict()
    assert state == {
        "step_size": 1,
        "gamma": 0.1,
        "base_lrs": [0.1, 0.3],
        "last_epoch": 0,
        "_last_lr": [0.1, 0.3],
    }
    kept = copy.deepcopy(state)
    schedule.step()
    assert state == kept
    schedule.load_state_dict(state)
    state["base_lrs"][0] = schedule.get_last_lr()[0] = 9
    assert schedule.base_lrs == schedule.get_last_lr() == [0.1, 0.3]


def test_bad_states_change_nothing():
    [optimizer, _] = optimizers()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    good = schedule.state_dict()
    for change in ({"base_lrs": [0.1]}, {"_last_lr": [0.1] * 3}, {"more": 1}):
        with pytest.raises(ValueError, match="ExponentialLR: the state dict has"):
            schedule.load_state_dict({**good, "gamma": 0.9, **change})
    with pytest.raises(ValueError, match="expected"):
        schedule.load_state_dict({"gamma": 0.9})
    assert schedule.state_dict() == good


@pytest.mark.parametrize(
    ("schedule", "change", "told"),
    [
        (lambda o: lr_scheduler.StepLR(o, 2), {"step_size": 0}, "step_size must not be 0"),
        (lambda o: lr_scheduler.StepLR(o, 2), {"gamma": -1}, "gamma must be a finite number >= 0"),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), {"gamma": math.nan}, "gamma must be"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 2), {"T_max": 0}, "T_max must not be 0"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 2), {"eta_min": math.inf}, "eta_min must be"),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), {"last_epoch": -2}, "last_epoch must be"),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), {"base_lrs": [0.1, math.nan]}, "base_lrs"),
    ],
)
def test_a_state_with_a_number_that_has_no_sense_changes_nothing(schedule, change, told):
    [optimizer, _] = optimizers()
    made = schedule(optimizer)
    good = made.state_dict()
    with pytest.raises(ValueError, match=told):
        made.load_state_dict({**good, **change})
    name = next(iter(change))
    with pytest.raises(TypeError, match="must be a number"):
        made.load_state_dict({**good, name: [None] * 2 if name == "base_lrs" else "1"})
    assert made.state_dict() == good


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_optimizer_and_schedule_belongs_together(duplicate):
    [optimizer, _] = optimizers()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    copied, its_schedule = duplicate((optimizer, schedule))
    its_schedule.step()
    assert [group["lr"] for group in copied.param_groups] == [0.05, 0.15]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.3]


def test_it_is_the_optimizers_rate():
    p = nn.Parameter(np.zeros(1))
    optimizer = optim.SGD([p], lr=1.0)
    schedule = optim.ExponentialLR(optimizer, 0.5)
    for expected in (-1, -1.5, -1.75):
        p.grad = np.ones(1)
        optimizer.step()
        schedule.step()
        assert p.data == expected


def test_bad_arguments():
    [optimizer, reference] = optimizers()
    for bad in (None, reference):
        with pytest.raises(TypeError, match=f"^{type(bad).__name__} is not an Optimizer"):
            lr_scheduler.ExponentialLR(bad, 0.5)
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'initial_lr'"):
        lr_scheduler.ExponentialLR(optimizer, 0.5, last_epoch=3)
    for bad in (0, np.nan, np.inf):
        with pytest.raises(ValueError, match="StepLR: step_size must"):
            lr_scheduler.StepLR(optimizer, bad)
        with pytest.raises(ValueError, match="CosineAnnealingLR: T_max must"):
            lr_scheduler.CosineAnnealingLR(optimizer, bad)
    for bad in (np.nan, -np.inf):
        with pytest.raises(ValueError, match=f"StepLR: gamma must be .*got {bad!r}"):
            lr_scheduler.StepLR(optimizer, 3, bad)
        with pytest.raises(ValueError, match=f"ExponentialLR: gamma must be .*got {bad!r}"):
            lr_scheduler.ExponentialLR(optimizer, bad)
        with pytest.raises(ValueError, match=f"^CosineAnnealingLR: eta_min must be .*got {bad!r}"):
            lr_scheduler.CosineAnnealingLR(optimizer, 3, bad)
    for kind in (lr_scheduler.StepLR, lr_scheduler.CosineAnnealingLR, lr_scheduler.ExponentialLR):
        with pytest.raises(TypeError, match=r"must be a number, got '3'"):
            kind(optimizer, "3")
    assert all("initial_lr" not in group for group in optimizer.param_groups)


def test_a_group_that_the_schedule_does_not_know():
    """It has no base rate. In torch it follows the others."""
    [optimizer, _] = optimizers()
    schedule = lr_scheduler.StepLR(optimizer, 1)
    optimizer.add_param_group({"params": nn.Parameter(np.ones(1))})
    with pytest.raises(ValueError, match="argument"):
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.3, 0.1]


def test_a_schedule_without_a_formula():
    [optimizer, _] = optimizers()
    with pytest.raises(NotImplementedError, match=r"^LRScheduler has no _next_lr$"):
        lr_scheduler.LRScheduler(optimizer).step()


def test_arguments_are_torchs():
    import inspect

    for kind in ("StepLR", "ExponentialLR", "CosineAnnealingLR"):
        own = inspect.signature(getattr(lr_scheduler, kind)).parameters
        theirs = inspect.signature(getattr(torch.optim.lr_scheduler, kind)).parameters
        assert [(p.name, p.default) for p in own.values()] == [
            (p.name, p.default) for p in theirs.values()
        ]


def test_a_negative_gamma_is_refused_when_made():
    """The optimizer would refuse the learning rate that it leads to."""
    optimizer = optim.SGD([nn.Parameter(np.ones(2))], 0.1)
    with pytest.raises(ValueError, match="StepLR: gamma must be a finite number >= 0, got -1"):
        optim.StepLR(optimizer, 3, gamma=-1)
    with pytest.raises(ValueError, match="ExponentialLR: gamma must be a finite number >= 0"):
        optim.ExponentialLR(optimizer, -0.5)
