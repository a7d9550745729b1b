"""Bugs in the schedules, and in the clipping of gradients."""

from functools import cache, partial
from typing import Any

import numpy as np

from compare.cases.case import Draw
from manual import nn, optim
from manual.optim import clip, lr_scheduler
from tests.planted.bug import Arguments, Bug, Case, edited
from tests.planted.cases import layers


@cache
def scheduled(kind: type, steps: int, **options: Any) -> Case:
    """A schedule of two groups with rates of their own."""

    def case(draw: Draw) -> Arguments:
        given = layers()(draw)
        parameters = list(given["net"].parameters())
        groups = [{"params": parameters[::2]}, {"params": parameters[1::2], "lr": 0.05}]
        optimizer = optim.SGD(groups, lr=0.1)
        more = {"optimizer": optimizer, "scheduler": kind(optimizer, **options)}
        return given | more | {"steps": steps}

    return case


@cache
def clipped(function: Any, **options: Any) -> Case:
    def case(draw: Draw) -> Arguments:
        given = layers()(draw)
        optimizer = optim.SGD(given["net"].parameters(), lr=0.1)
        return given | {"optimizer": optimizer, "clip": partial(function, **options)}

    return case


def nearly_nothing(draw: Draw) -> Arguments:
    """Gradients of which 10⁻⁶ is a good part."""
    net, x = draw.linear(5, 4), draw.normal(6, 5)
    criterion = nn.BCEWithLogitsLoss(np.full(4, 1e-5, draw.dtype))
    y = draw.uniform(0, 1, 6, 4)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    own = partial(optim.clip_grad_norm_, max_norm=1e-6)
    return {"net": net, "criterion": criterion, "x": x, "y": y, "optimizer": optimizer, "clip": own}


STEP, EXPONENTIAL, COSINE = (
    kind._next_lr for kind in (optim.StepLR, optim.ExponentialLR, optim.CosineAnnealingLR)
)
NORM, VALUE = optim.clip_grad_norm_, optim.clip_grad_value_
SCALE = "for g in grads:\n                g *= factor"

BUGS = [
    # StepLR
    Bug(
        "StepLR",
        "a step early",
        edited(STEP, "self.last_epoch %", "(self.last_epoch + 1) %"),
        scheduled(optim.StepLR, 1, step_size=2, gamma=0.5),
        "lr.0",
    ),
    Bug(
        "StepLR",
        "in every epoch",
        edited(STEP, "lr * self.gamma if due else lr", "lr * self.gamma"),
        scheduled(optim.StepLR, 1, step_size=2, gamma=0.5),
        "lr.0",
    ),
    Bug(
        "StepLR",
        "the base rate times gamma, not the present one",
        edited(STEP, "lr * self.gamma if due", "base_lr * self.gamma if due"),
        scheduled(optim.StepLR, 4, step_size=2, gamma=0.5),
        "lr.0",
        step=4,
    ),
    # ExponentialLR
    Bug(
        "ExponentialLR",
        "divided by gamma",
        edited(EXPONENTIAL, "lr * self.gamma", "lr / self.gamma"),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.0",
    ),
    Bug(
        "ExponentialLR",
        "the base rate times gamma, not the present one",
        edited(EXPONENTIAL, "lr * self.gamma", "base_lr * self.gamma"),
        scheduled(optim.ExponentialLR, 2, gamma=0.8),
        "lr.0",
        step=2,
    ),
    # CosineAnnealingLR
    Bug(
        "CosineAnnealingLR",
        "down to 0, not to eta_min",
        edited(COSINE, "ratio * (lr - self.eta_min) + self.eta_min", "ratio * lr"),
        scheduled(optim.CosineAnnealingLR, 1, T_max=3, eta_min=0.01),
        "lr.0",
    ),
    Bug(
        "CosineAnnealingLR",
        "a quarter of a cosine",
        edited(COSINE, "epoch / self.T_max", "epoch / (2 * self.T_max)"),
        scheduled(optim.CosineAnnealingLR, 1, T_max=3, eta_min=0.01),
        "lr.0",
    ),
    Bug(
        "CosineAnnealingLR",
        "twice as fast up again",
        edited(
            COSINE,
            "(1 - math.cos(math.pi / self.T_max)) / 2",
            "(1 - math.cos(math.pi / self.T_max))",
        ),
        scheduled(optim.CosineAnnealingLR, 4, T_max=3, eta_min=0.01),
        "lr.0",
        step=4,
    ),
    # lr_scheduler
    Bug(
        "lr_scheduler",
        "every group has the first one's rate",
        edited(lr_scheduler.LRScheduler._set, "= lr\n", "= rates[0]\n"),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.1",
    ),
    Bug(
        "lr_scheduler",
        "the optimizer never hears of the new rate",
        edited(lr_scheduler.LRScheduler._set, 'group["lr"] = lr', "pass"),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.0",
    ),
    # clip_grad_norm_
    Bug(
        "clip_grad_norm_",
        "the root forgotten",
        edited(clip._norm, ".sum()) ** (1 / p)", ".sum())"),
        clipped(NORM, max_norm=0.1),
        "grad_norm",
    ),
    Bug(
        "clip_grad_norm_",
        "returns the norm from afterwards",
        edited(NORM, "return norm", "return norm * factor"),
        clipped(NORM, max_norm=0.1),
        "grad_norm",
    ),
    Bug(
        "clip_grad_norm_",
        "always the norm of order 2",
        edited(NORM, "for g in grads]), norm_type)", "for g in grads]), 2.0)"),
        clipped(NORM, max_norm=0.1, norm_type=1.0),
        "grad_norm",
    ),
    Bug(
        "clip_grad_norm_",
        "small gradients made larger",
        edited(NORM, "np.minimum(max_norm / (norm + 1e-6), 1)", "max_norm / (norm + 1e-6)"),
        clipped(NORM, max_norm=1e3),
        "clipped.0.weight",
    ),
    Bug(
        "clip_grad_norm_",
        "10⁻⁶ forgotten",
        edited(NORM, "(norm + 1e-6)", "norm"),
        nearly_nothing,
        "clipped.weight",
    ),
    Bug(
        "clip_grad_norm_",
        "each gradient by its own norm",
        edited(
            NORM,
            "g *= factor",
            "g *= np.minimum(max_norm / (_norm(g, norm_type) + 1e-6), 1)",
        ),
        clipped(NORM, max_norm=0.1),
        "clipped.0.weight",
    ),
    Bug(
        "clip_grad_norm_",
        "the last gradient left as it is",
        edited(NORM, "            for g in grads:", "            for g in grads[:-1]:"),
        clipped(NORM, max_norm=0.1),
        "clipped.2.bias",
    ),
    # clip_grad_value_
    Bug(
        "clip_grad_value_",
        "only from above",
        edited(
            VALUE, "np.clip(g, -clip_value, clip_value, out=g)", "np.minimum(g, clip_value, out=g)"
        ),
        clipped(VALUE, clip_value=0.02),
        "clipped.0.weight",
    ),
    Bug(
        "clip_grad_value_",
        "the signs lost",
        edited(VALUE, "np.clip(g, -", "np.clip(np.abs(g), -"),
        clipped(VALUE, clip_value=0.02),
        "clipped.0.weight",
    ),
]
