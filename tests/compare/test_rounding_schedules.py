"""The error rule of learning rates: none below the truth, however long it runs."""

import mpmath
import pytest
import torch

from compare.rounding import rate_rule
from compare.rounding.schedules import DOUBLE

SCHEDULES = [
    (torch.optim.lr_scheduler.StepLR, {"step_size": 3, "gamma": 0.7}),
    (torch.optim.lr_scheduler.ExponentialLR, {"gamma": 0.93}),
    (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": 1}),
    (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": 3, "eta_min": 0.3}),
    (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": 17, "eta_min": 0.01}),
    (torch.optim.lr_scheduler.CosineAnnealingLR, {"T_max": 200, "eta_min": 0.05}),
]


def exact(kind, options, base, epoch):
    base = mpmath.mpf(base)
    if kind is torch.optim.lr_scheduler.StepLR:
        return base * mpmath.mpf(options["gamma"]) ** (epoch // options["step_size"])
    if kind is torch.optim.lr_scheduler.ExponentialLR:
        return base * mpmath.mpf(options["gamma"]) ** epoch
    low = mpmath.mpf(options.get("eta_min", 0.0))
    return low + (base - low) * (1 + mpmath.cos(mpmath.pi * epoch / options["T_max"])) / 2


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(("kind", "options"), SCHEDULES)
@mpmath.workdps(40)
def test_torchs_rates_are_within_the_bounds(kind, options):
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.1)
    scheduler = kind(optimizer, **options)
    group = optimizer.param_groups[0]
    largest = 0.0
    for epoch in range(1, 500):
        bound = rate_rule(scheduler, dict(group), epoch)
        scheduler.step()
        error = abs(float(mpmath.mpf(group["lr"]) - exact(kind, options, 0.1, epoch)))
        assert error <= bound, epoch
        assert error <= rate_rule(scheduler, dict(group), epoch), epoch
        largest = max(largest, error)
    if options.get("T_max") == 200:  # far above the roundings of a product or two
        assert largest > 500 * DOUBLE * 0.1


def test_a_rate_that_is_added_counts():
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=1e-6)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=0.5)
    assert rate_rule(scheduler, optimizer.param_groups[0], 1) == 8 * DOUBLE * 0.5
    assert rate_rule(scheduler, optimizer.param_groups[0], 5) == 40 * DOUBLE * 0.5


def test_a_rate_that_has_fallen_counts_as_it_was():
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.1)
    group = {"lr": 1e-5, "initial_lr": 1.0}
    assert rate_rule(scheduler, group, 3) == 24 * DOUBLE
