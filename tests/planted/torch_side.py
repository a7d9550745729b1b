"""Bugs on torch's side: autograd.Functions with a wrong backward or forward, modules, losses,
optimizers, schedules and clipping that do something else than their name says."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch

from compare.cases.case import Draw
from manual import nn, optim
from tests.planted import by_hand
from tests.planted.bug import Arguments, Bug, Case, Plant, edited, patched
from tests.planted.by_hand import OwnMSELoss, OwnSigmoid
from tests.planted.cases import alone, between, layers, onto
from tests.planted.class_losses import classes
from tests.planted.linear import skipping
from tests.planted.losses import direct, of
from tests.planted.normalization import normed
from tests.planted.optimizers import steps
from tests.planted.schedules import clipped, scheduled
from torch_ref import modules, optimizers

LINEAR, SIGMOID, RELU, SOFTMAX, MSE = (
    by_hand.LinearFunction,
    by_hand.SigmoidFunction,
    by_hand.ReLUFunction,
    by_hand.SoftmaxFunction,
    by_hand.MSEFunction,
)


@cache
def registered() -> Case:
    def case(draw: Draw) -> Arguments:
        net = nn.Sequential(draw.linear(5, 7), OwnSigmoid(), draw.linear(7, 4))
        return onto(draw, net, draw.normal(6, 5), OwnMSELoss())

    return case


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


def bug(subject: str, wrong: str, plant: Plant, case: Case, row: str) -> Bug:
    return Bug(subject, f"in torch, {wrong}", plant, case, row, "torch")


BUGS = [
    # autograd.Functions, handed over
    bug(
        "Sigmoid",
        "1 − y missing in the derivative",
        edited(SIGMOID.backward, "* y * (1 - y)", "* y"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    bug(
        "Sigmoid",
        "sign of the derivative",
        edited(SIGMOID.backward, "(1 - y)", "(y - 1)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    bug(
        "Sigmoid",
        "the cotangent forgotten",
        edited(SIGMOID.backward, "dy * y", "y"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    bug(
        "Sigmoid",
        "e^x for e^−x",
        edited(SIGMOID.forward, "torch.exp(-x)", "torch.exp(x)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "activation.1",
    ),
    bug(
        "Sigmoid",
        "NaN where y > ½",
        edited(SIGMOID.backward, "dy * y * (1 - y)", "dy * y * (1 - y) / (y < 0.5)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    bug(
        "Linear",
        "dx = dy Wᵀ (square)",
        edited(LINEAR.backward, "dy @ weight", "dy @ weight.T"),
        by_hand.by_hand(layers(square=True)),
        "d_activation.1",
    ),
    bug(
        "Linear",
        "dW transposed (square)",
        edited(LINEAR.backward, "dy.T @ x", "x.T @ dy"),
        by_hand.by_hand(layers(square=True)),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "dW divided by the batch",
        edited(LINEAR.backward, "dy.T @ x", "dy.T @ x / len(x)"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "dW all zero",
        edited(LINEAR.backward, "dy.T @ x", "0 * weight"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "dW missing",
        edited(LINEAR.backward, "dy.T @ x", "None"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "the median entry of dW off by 1 % (float32) or 1e-6 (float64)",
        edited(
            LINEAR.backward,
            "dweight = dy.T @ x",
            "dweight = dy.T @ x\n"
            "    at = dweight.abs().flatten().argsort()[dweight.numel() // 2]\n"
            "    dweight.view(-1)[at] *= 1.01 if x.dtype == torch.float32 else 1 + 1e-6",
        ),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "db the mean over the batch",
        edited(LINEAR.backward, "dy.sum(0)", "dy.mean(0)"),
        by_hand.by_hand(layers()),
        "grad.2.bias",
    ),
    bug(
        "Linear",
        "the bias forgotten",
        edited(LINEAR.forward, "x @ weight.T + bias", "x @ weight.T"),
        by_hand.by_hand(layers()),
        "activation.0",
    ),
    bug(
        "ReLU",
        "slope 1 at exactly 0",
        edited(RELU.backward, "x > 0", "x >= 0"),
        by_hand.by_hand(alone(nn.ReLU)),
        "d_x",
    ),
    bug(
        "ReLU",
        "dy goes through everywhere",
        edited(RELU.backward, "torch.where(x > 0, dy, 0.0)", "1 * dy"),
        by_hand.by_hand(between(nn.ReLU)),
        "d_activation.0",
    ),
    bug(
        "Softmax",
        "the diagonal of the Jacobian alone",
        edited(SOFTMAX.backward, "(dy - (dy * y).sum(1, keepdim=True))", "(dy - dy * y)"),
        by_hand.by_hand(between(nn.Softmax, dim=1)),
        "d_activation.0",
    ),
    bug(
        "Softmax",
        "over the batch",
        edited(SOFTMAX.forward, "torch.softmax(x, 1)", "torch.softmax(x, 0)"),
        by_hand.by_hand(between(nn.Softmax, dim=1)),
        "activation.1",
    ),
    # autograd.Functions, registered
    bug(
        "Sigmoid",
        "1 − y missing in the derivative of a registered twin",
        edited(SIGMOID.backward, "* y * (1 - y)", "* y"),
        registered(),
        "d_activation.0",
    ),
    bug(
        "MSELoss",
        "the 2 forgotten in the gradient of a registered twin",
        edited(MSE.backward, "dloss * 2 *", "dloss *"),
        registered(),
        "d_activation.2",
    ),
    bug(
        "MSELoss",
        "the gradient of a registered twin not divided by the number of elements",
        edited(MSE.backward, " / target.numel()", ""),
        registered(),
        "d_activation.2",
    ),
    # Forwards
    bug(
        "GELU",
        "the approximation where the exact one is asked for",
        forward_of(torch.nn.GELU, lambda self, x: torch.nn.functional.gelu(x, approximate="tanh")),
        between(nn.GELU),
        "activation.1",
    ),
    bug(
        "ELU",
        "α forgotten",
        forward_of(torch.nn.ELU, lambda self, x: torch.nn.functional.elu(x)),
        between(nn.ELU, alpha=0.3),
        "activation.1",
    ),
    bug(
        "LeakyReLU",
        "always the default slope",
        forward_of(torch.nn.LeakyReLU, lambda self, x: torch.nn.functional.leaky_relu(x)),
        between(nn.LeakyReLU, negative_slope=0.3),
        "activation.1",
    ),
    bug(
        "Softplus",
        "β forgotten",
        forward_of(torch.nn.Softplus, lambda self, x: torch.nn.functional.softplus(x)),
        between(nn.Softplus, beta=2.5),
        "activation.1",
    ),
    bug(
        "LogSoftmax",
        "the logarithm forgotten",
        forward_of(torch.nn.LogSoftmax, lambda self, x: torch.softmax(x, 1)),
        between(nn.LogSoftmax, dim=1),
        "activation.1",
    ),
    bug(
        "Maxout",
        "the smallest",
        forward_of(modules.Maxout, lambda self, x: -largest(self, -x)),
        alone(nn.Maxout, 6, 8),
        "activation",
    ),
    bug(
        "Residual",
        "the way around forgotten",
        forward_of(modules.Residual, lambda self, x: self.module(x)),
        skipping,
        "activation.1",
    ),
    bug(
        "Dropout",
        "not divided by 1 − p",
        forward_of(
            modules.Dropout,
            lambda self, x: x * torch.tensor(self.generator.random(tuple(x.shape)) >= self.p),
        ),
        between(nn.Dropout, p=0.3),
        "activation.1",
    ),
    bug(
        "BatchNorm1d",
        "the running variance biased",
        forward_of(torch.nn.BatchNorm1d, biased_batch_norm),
        normed(),
        "buffer.1.running_var",
    ),
    bug(
        "HalfSquaredError",
        "½ forgotten",
        forward_of(modules.HalfSquaredError, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.HalfSquaredError),
        "loss",
    ),
    bug(
        "MSELoss",
        "sum for mean",
        forward_of(torch.nn.MSELoss, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.MSELoss),
        "loss",
    ),
    bug(
        "CrossEntropyLoss",
        "smoothing forgotten",
        forward_of(
            torch.nn.CrossEntropyLoss,
            lambda self, p, y: torch.nn.functional.cross_entropy(p, y),
        ),
        classes(label_smoothing=0.1),
        "loss",
    ),
    bug(
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
    bug(
        "SGD",
        "lr doubled",
        patched(torch.optim.SGD, step=two_steps),
        steps(optim.SGD, 1, lr=0.1),
        "updated.0.weight",
    ),
    bug(
        "Adam",
        "no bias correction",
        patched(torch.optim.Adam, step=without_correction),
        steps(optim.Adam, 1, lr=0.01),
        "updated.0.weight",
    ),
    bug(
        "LBFGS",
        "lr doubled",
        patched(torch.optim.LBFGS, step=twice_as_far),
        steps(optim.LBFGS, 1, max_iter=1),
        "updated.0.weight",
    ),
    bug(
        "ExponentialLR",
        "divided by gamma",
        patched(torch.optim.lr_scheduler.ExponentialLR, get_lr=rising),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.0",
    ),
    bug(
        "clip_grad_norm_",
        "the root forgotten",
        other_clip(rootless),
        clipped(optim.clip_grad_norm_, max_norm=0.1),
        "grad_norm",
    ),
]
