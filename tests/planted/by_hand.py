"""Modules of torch whose backward somebody wrote as an autograd.Function: right, as they stand."""

from functools import cache
from typing import Any

import torch
from torch.autograd import Function

import torch_ref
from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Case


class LinearFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor):
        x, weight = ctx.saved_tensors
        dx = dy @ weight
        dweight = dy.T @ x
        dbias = dy.sum(0)
        return dx, dweight, dbias


class SigmoidFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor):
        y = 1 / (1 + torch.exp(-x))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor):
        (y,) = ctx.saved_tensors
        return dy * y * (1 - y)


class ReLUFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor):
        ctx.save_for_backward(x)
        return torch.clamp(x, min=0)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, 0.0)


class SoftmaxFunction(Function):
    """Over the dimension 1."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor):
        y = torch.softmax(x, 1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor):
        (y,) = ctx.saved_tensors
        return y * (dy - (dy * y).sum(1, keepdim=True))


class MSEFunction(Function):
    @staticmethod
    def forward(ctx: Any, prediction: torch.Tensor, target: torch.Tensor):
        ctx.save_for_backward(prediction, target)
        return ((prediction - target) ** 2).mean()

    @staticmethod
    def backward(ctx: Any, dloss: torch.Tensor):
        prediction, target = ctx.saved_tensors
        return dloss * 2 * (prediction - target) / target.numel(), None


class Linear(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LinearFunction.apply(x, self.weight, self.bias)


class Sigmoid(torch.nn.Sigmoid):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SigmoidFunction.apply(x)


class ReLU(torch.nn.ReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLUFunction.apply(x)


class Softmax(torch.nn.Module):
    """No kind of torch.nn.Softmax, so that nothing is known of its rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SoftmaxFunction.apply(x)


class MSELoss(torch.nn.MSELoss):
    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return MSEFunction.apply(prediction, target)


OF = {torch.nn.Linear: Linear, torch.nn.Sigmoid: Sigmoid, torch.nn.ReLU: ReLU}
OF[torch.nn.Softmax] = Softmax


@cache
def by_hand(case: Case) -> Case:
    """The same with a twin handed over: torch's own, with these modules in their places."""

    def changed(draw: Draw) -> Arguments:
        given = case(draw)
        built = torch_ref.twin(given["net"])
        for module in built.modules():
            module.__class__ = OF.get(type(module), type(module))
        return given | {"twin": built}

    return changed


# The other way to a twin: to register one, for a class of one's own.


class OwnSigmoid(nn.Sigmoid):
    """manual's, with a twin of its own."""


class OwnMSELoss(nn.MSELoss):
    """manual's, with a twin of its own."""


@torch_ref.twin.register
def _(module: OwnSigmoid) -> torch.nn.Module:
    return Sigmoid()


@torch_ref.twin.register
def _(criterion: OwnMSELoss) -> torch.nn.Module:
    return MSELoss()
