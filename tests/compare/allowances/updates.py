"""The rules of what comes after the gradients: optimizers, clipping, schedules; and of Balls."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import lr_scheduler

from compare.rounding import Ball, Rounding, clip_rule, rate_rule, update_rule
from tests.compare.allowances import FORMATS, Rows, errors, wave


def ball(r: Rounding, size: float, *shape: int, phase: float = 0.0) -> Ball:
    return Ball(wave(*shape, phase=phase), errors(size, *shape, phase=phase), r)


def both(name: str, found: Ball) -> Rows:
    """The error, and what it is an error of."""
    return {name: found.e, f"{name}, value": found.value}


def updated(kind: type, **options: dict) -> Iterator[tuple[str, Rows]]:
    """After one to four steps, of gradients of changing and unchanging signs."""
    for name, given in options.items():
        optimizer = kind([torch.zeros(1)], **given)
        [group] = optimizer.param_groups
        for of, (r, size) in FORMATS.items():
            theta, state = ball(r, size, 9, phase=1), {}
            for step in range(1, 5):
                gradient = ball(r, size, 9, phase=0.4 * step - 0.4)
                theta = update_rule(optimizer, group, theta, gradient, state)
                rows = {"theta": theta.e}
                for key, value in state.items():
                    rows[key] = value.e if isinstance(value, Ball) else value
                yield f"{name}, step {step}; {of}", rows


SGD = partial(
    updated,
    torch.optim.SGD,
    plain={"lr": 0.7},
    maximize={"lr": 0.7, "maximize": True, "weight_decay": 0.3},
    momentum={"lr": 0.7, "momentum": 0.9},
    dampening={"lr": 0.7, "momentum": 0.6, "dampening": 0.3, "weight_decay": 0.3},
    nesterov={"lr": 0.7, "momentum": 0.6, "nesterov": True, "maximize": True},
)
ADAMS = {
    "plain": {"lr": 0.7},
    "decay": {"lr": 0.7, "weight_decay": 0.3, "betas": (0.6, 0.7)},
    "no_decay": {"lr": 0.7, "weight_decay": 0.0, "betas": (0.0, 0.5)},
    "amsgrad": {"lr": 0.7, "amsgrad": True, "betas": (0.6, 0.4), "eps": 0.01},
    "maximize": {"lr": 0.7, "maximize": True, "weight_decay": 0.3, "betas": (0.6, 0.7)},
}
RMSPROP = partial(
    updated,
    torch.optim.RMSprop,
    plain={"lr": 0.7},
    centered={"lr": 0.7, "centered": True, "alpha": 0.9},
    hardly={"lr": 0.7, "centered": True, "alpha": 0.2214, "eps": 0.01},
    forgetful={"lr": 0.7, "centered": True, "alpha": 0.1, "eps": 0.01},
    momentum={"lr": 0.7, "momentum": 0.6, "weight_decay": 0.3, "alpha": 0.4},
    maximize={"lr": 0.7, "maximize": True, "alpha": 0.0},
    all_kept={"lr": 0.7, "alpha": 1.0, "eps": 0.01},
    all_kept_centered={"lr": 0.7, "alpha": 1.0, "eps": 0.01, "centered": True},
)
ADAGRAD = partial(
    updated,
    torch.optim.Adagrad,
    plain={"lr": 0.7},
    falling={"lr": 0.7, "lr_decay": 0.2, "eps": 0.01},
    maximize={"lr": 0.7, "maximize": True, "weight_decay": 0.3},
)


def clipped(**clips: Callable) -> Iterator[tuple[str, Rows]]:
    for name, clip in clips.items():
        for of, (r, size) in FORMATS.items():
            gradients = [ball(r, size, 5, 8), ball(r, size, 4, phase=2)]
            if name == "unknown":  # a single one, with errors as large as itself
                gradients = [Ball(wave(5, 8), errors(0.3, 5, 8), r)]
            norm, found = clip_rule(clip, gradients)
            assert all(result.r == r for result in found)
            rows = {} if norm is None else both("norm", norm)
            for k, gradient in enumerate(found):
                rows |= both(f"clipped {k}", gradient)
            yield f"{name}; {of}", rows


NORM = np.linalg.norm([*wave(40), *wave(4, phase=2)])
CLIP_NORM = partial(
    clipped,
    halved=partial(clip_grad_norm_, max_norm=2.3),
    kept=partial(clip_grad_norm_, max_norm=100.0),
    doubtful=partial(
        clip_grad_norm_, max_norm=float(np.linalg.norm(np.r_[wave(40), wave(4, phase=2)]))
    ),
    unknown=partial(clip_grad_norm_, max_norm=2.3),
    sums=partial(clip_grad_norm_, max_norm=2.3, norm_type=1.0),
    largest=partial(clip_grad_norm_, max_norm=0.5, norm_type=np.inf, error_if_nonfinite=True),
)
CLIP_VALUE = partial(
    clipped,
    some=partial(clip_grad_value_, clip_value=0.5),
    unknown=partial(clip_grad_value_, clip_value=0.5),
    none=partial(clip_grad_value_, clip_value=3.0),
    all=partial(clip_grad_value_, clip_value=0.0),
)


def rates(kind: type, **options: dict) -> Iterator[tuple[str, Rows]]:
    for name, given in options.items():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
        scheduler = kind(optimizer, **given)
        for group in ({"lr": 0.3}, {"lr": 0.01, "initial_lr": 0.3}, {"lr": -0.2}):
            found = {
                f"after {epochs}": np.array(rate_rule(scheduler, group, epochs))
                for epochs in (0, 1, 2, 3, 4, 5, 9)
            }
            yield f"{name}, {', '.join(f'{key} {value}' for key, value in group.items())}", found


RATES = {
    "ExponentialLR": partial(rates, lr_scheduler.ExponentialLR, plain={"gamma": 0.9}),
    "StepLR": partial(rates, lr_scheduler.StepLR, plain={"step_size": 2}),
    "CosineAnnealingLR": partial(
        rates,
        lr_scheduler.CosineAnnealingLR,
        short={"T_max": 1},
        some={"T_max": 4, "eta_min": 0.1},
        high={"T_max": 4, "eta_min": 0.5},
        negative={"T_max": 4, "eta_min": -0.5},
    ),
}

OPERATIONS = {
    "minus": lambda a, b: -a,
    "sum of two": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "by a number": lambda a, b: 0.3 * a,
    "by an array": lambda a, b: a * b.value,
    "by 1": lambda a, b: a * 1,
    "by an array of 1": lambda a, b: a * np.ones(1),
    "quotient": lambda a, b: a / b,
    "by one for all": lambda a, b: a / Ball(np.array(-2.0), 0.25, a.r),
    "of one for all": lambda a, b: Ball(np.array(2.0), 0.25, a.r) / (b * b).plus(0.25),
    "plus": lambda a, b: a.plus(-0.3),
    "root": lambda a, b: (a * a).sqrt(),
    "root of little": lambda a, b: Ball(np.abs(a.value) * 1e-3, b.e, a.r).sqrt(),
    "maximum": lambda a, b: a.maximum(b),
    "within": lambda a, b: a.within(2.0**-9),
    "within each": lambda a, b: a.within(np.abs(b.e) / 2),
    "of columns": lambda a, b: a.sum(0),
    "of rows": lambda a, b: a.sum(1),
    "of all": lambda a, b: a.sum((0, 1)),
    "of nothing": lambda a, b: Ball(a.value[:0], a.e[:0], a.r).sum(0),
}


def balls() -> Iterator[tuple[str, Rows]]:
    for of, (r, size) in FORMATS.items():
        a, b = ball(r, size, 7, 6), ball(r, size, 7, 6, phase=1)
        b.value[0, :3] = 0, 2.0**-10, -(2.0**-10)  # maybe 0
        b.value[1, 1] = a.value[1, 1]
        for name, f in OPERATIONS.items():
            yield f"{name}; {of}", both("result", f(a, b))


UPDATES = {
    "Ball": balls,
    "SGD": SGD,
    "Adam": partial(updated, torch.optim.Adam, **ADAMS),
    "AdamW": partial(updated, torch.optim.AdamW, **ADAMS),
    "RMSprop": RMSPROP,
    "Adagrad": ADAGRAD,
    "clip_grad_norm_": CLIP_NORM,
    "clip_grad_value_": CLIP_VALUE,
    **RATES,
}
