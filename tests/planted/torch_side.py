"""Bugs on torch's side: modules, losses, optimizers, schedules and clipping that do something else
than their name says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from manual import nn, optim
from tests.planted.bug import Arguments, Plant, in_torch, patched
from tests.planted.cases import alone, between
from tests.planted.class_losses import classes
from tests.planted.linear import skipping
from tests.planted.losses import direct, of
from tests.planted.normalization import normed
from tests.planted.optimizers import steps
from tests.planted.schedules import clipped, scheduled
from torch_ref import modules, optimizers


def forward_of(kind: type, forward: Any) -> Plant:
    return patched(kind, forward=forward)


def other_clip(wrong: Any) -> Plant:
    """In place of torch's clip_grad_norm_."""

    @contextmanager
    def plant(arguments: Arguments) -> Iterator[None]:
        known = {optim.clip_grad_norm_: wrong}
        with (
            mock.patch.object(torch.nn.utils, "clip_grad_norm_", wrong),
            mock.patch.dict(optimizers.FUNCTIONS, known),
        ):
            yield

    return plant


# What is planted in place of torch's.

largest = modules.Maxout.forward


def biased_batch_norm(self: torch.nn.BatchNorm1d, x: torch.Tensor) -> torch.Tensor:
    """The running variance moves to the biased one."""
    y = torch.nn.functional.batch_norm(x, None, None, self.weight, self.bias, True, 0, self.eps)
    with torch.no_grad():
        self.num_batches_tracked += 1
        self.running_mean.lerp_(x.mean(0), self.momentum)
        self.running_var.lerp_(x.var(0, unbiased=False), self.momentum)
    return y


def two_steps(self: torch.optim.SGD, closure: Any = None) -> None:
    with torch.no_grad():
        for group in self.param_groups:
            for p in group["params"]:
                p -= 2 * group["lr"] * p.grad


LBFGS_STEP = torch.optim.LBFGS.step


def twice_as_far(self: torch.optim.LBFGS, closure: Any) -> Any:
    """A step with 2 lr."""
    group = self.param_groups[0]
    group["lr"] *= 2
    loss = LBFGS_STEP(self, closure)
    group["lr"] /= 2
    return loss


def without_correction(self: torch.optim.Adam, closure: Any = None) -> None:
    """Adam's first step, without the bias corrections."""
    with torch.no_grad():
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                v = (1 - beta2) * p.grad**2
                p -= group["lr"] * (1 - beta1) * p.grad / (v.sqrt() + group["eps"])


def rootless(parameters: Any, max_norm: float, norm_type: float = 2.0) -> torch.Tensor:
    grads = [p.grad for p in parameters]
    norm = sum((g**2).sum() for g in grads)
    for g in grads:
        g *= torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return norm


def rising(self: torch.optim.lr_scheduler.ExponentialLR) -> list[float]:
    return [group["lr"] / self.gamma for group in self.optimizer.param_groups]


BUGS = [
    # Forwards
    in_torch(
        "GELU",
        "the approximation where the exact one is asked for",
        forward_of(torch.nn.GELU, lambda self, x: torch.nn.functional.gelu(x, approximate="tanh")),
        between(nn.GELU),
        "activation.1",
    ),
    in_torch(
        "ELU",
        "α forgotten",
        forward_of(torch.nn.ELU, lambda self, x: torch.nn.functional.elu(x)),
        between(nn.ELU, alpha=0.3),
        "activation.1",
    ),
    in_torch(
        "LeakyReLU",
        "always the default slope",
        forward_of(torch.nn.LeakyReLU, lambda self, x: torch.nn.functional.leaky_relu(x)),
        between(nn.LeakyReLU, negative_slope=0.3),
        "activation.1",
    ),
    in_torch(
        "Softplus",
        "β forgotten",
        forward_of(torch.nn.Softplus, lambda self, x: torch.nn.functional.softplus(x)),
        between(nn.Softplus, beta=2.5),
        "activation.1",
    ),
    in_torch(
        "LogSoftmax",
        "the logarithm forgotten",
        forward_of(torch.nn.LogSoftmax, lambda self, x: torch.softmax(x, 1)),
        between(nn.LogSoftmax, dim=1),
        "activation.1",
    ),
    in_torch(
        "Maxout",
        "the smallest",
        forward_of(modules.Maxout, lambda self, x: -largest(self, -x)),
        alone(nn.Maxout, 6, 8),
        "activation",
    ),
    in_torch(
        "Residual",
        "the way around forgotten",
        forward_of(modules.Residual, lambda self, x: self.module(x)),
        skipping,
        "activation.1",
    ),
    in_torch(
        "Dropout",
        "not divided by 1 − p",
        forward_of(
            modules.Dropout,
            lambda self, x: x * torch.tensor(self.generator.random(tuple(x.shape)) >= self.p),
        ),
        between(nn.Dropout, p=0.3),
        "activation.1",
    ),
    in_torch(
        "BatchNorm1d",
        "the running variance biased",
        forward_of(torch.nn.BatchNorm1d, biased_batch_norm),
        normed(),
        "buffer.1.running_var",
    ),
    in_torch(
        "HalfSquaredError",
        "½ forgotten",
        forward_of(modules.HalfSquaredError, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.HalfSquaredError),
        "loss",
    ),
    in_torch(
        "MSELoss",
        "sum for mean",
        forward_of(torch.nn.MSELoss, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.MSELoss),
        "loss",
    ),
    in_torch(
        "CrossEntropyLoss",
        "smoothing forgotten",
        forward_of(
            torch.nn.CrossEntropyLoss,
            lambda self, p, y: torch.nn.functional.cross_entropy(p, y),
        ),
        classes(label_smoothing=0.1),
        "loss",
    ),
    in_torch(
        "BCEWithLogitsLoss",
        "pos_weight forgotten",
        forward_of(
            torch.nn.BCEWithLogitsLoss,
            lambda self, p, y: torch.nn.functional.binary_cross_entropy_with_logits(p, y),
        ),
        direct(nn.BCEWithLogitsLoss, -3, 3, pos_weight=(4,)),
        "loss",
    ),
    # Updates
    in_torch(
        "SGD",
        "lr doubled",
        patched(torch.optim.SGD, step=two_steps),
        steps(optim.SGD, 1, lr=0.1),
        "updated.0.weight",
    ),
    in_torch(
        "Adam",
        "no bias correction",
        patched(torch.optim.Adam, step=without_correction),
        steps(optim.Adam, 1, lr=0.01),
        "updated.0.weight",
    ),
    in_torch(
        "LBFGS",
        "lr doubled",
        patched(torch.optim.LBFGS, step=twice_as_far),
        steps(optim.LBFGS, 1, max_iter=1),
        "updated.0.weight",
    ),
    in_torch(
        "ExponentialLR",
        "divided by gamma",
        patched(torch.optim.lr_scheduler.ExponentialLR, get_lr=rising),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.0",
    ),
    in_torch(
        "clip_grad_norm_",
        "the root forgotten",
        other_clip(rootless),
        clipped(optim.clip_grad_norm_, max_norm=0.1),
        "grad_norm",
    ),
]
