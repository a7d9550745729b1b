"""Bugs on torch's side: autograd.Functions with a wrong backward or forward."""

from functools import cache

from compare.cases.case import Draw
from manual import nn
from tests.planted import by_hand
from tests.planted.bug import Arguments, Case, edited, in_torch
from tests.planted.by_hand import OwnMSELoss, OwnSigmoid
from tests.planted.cases import alone, between, layers, onto

LINEAR, SIGMOID, RELU, SOFTMAX, MSE = (
    by_hand.LinearFunction,
    by_hand.SigmoidFunction,
    by_hand.ReLUFunction,
    by_hand.SoftmaxFunction,
    by_hand.MSEFunction,
)


@cache
def registered() -> Case:
    """A sigmoid and a loss whose twins are registered, in a network."""

    def case(draw: Draw) -> Arguments:
        net = nn.Sequential(draw.linear(5, 7), OwnSigmoid(), draw.linear(7, 4))
        return onto(draw, net, draw.normal(6, 5), OwnMSELoss())

    return case


BUGS = [
    # Handed over
    in_torch(
        "Sigmoid",
        "1 − y missing in the derivative",
        edited(SIGMOID.backward, "* y * (1 - y)", "* y"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    in_torch(
        "Sigmoid",
        "sign of the derivative",
        edited(SIGMOID.backward, "(1 - y)", "(y - 1)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    in_torch(
        "Sigmoid",
        "the cotangent forgotten",
        edited(SIGMOID.backward, "dy * y", "y"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    in_torch(
        "Sigmoid",
        "e^x for e^−x",
        edited(SIGMOID.forward, "torch.exp(-x)", "torch.exp(x)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "activation.1",
    ),
    in_torch(
        "Sigmoid",
        "NaN where y > ½",
        edited(SIGMOID.backward, "dy * y * (1 - y)", "dy * y * (1 - y) / (y < 0.5)"),
        by_hand.by_hand(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    in_torch(
        "Linear",
        "dx = dy Wᵀ (square)",
        edited(LINEAR.backward, "dy @ weight", "dy @ weight.T"),
        by_hand.by_hand(layers(square=True)),
        "d_activation.1",
    ),
    in_torch(
        "Linear",
        "dW transposed (square)",
        edited(LINEAR.backward, "dy.T @ x", "x.T @ dy"),
        by_hand.by_hand(layers(square=True)),
        "grad.2.weight",
    ),
    in_torch(
        "Linear",
        "dW divided by the batch",
        edited(LINEAR.backward, "dy.T @ x", "dy.T @ x / len(x)"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    in_torch(
        "Linear",
        "dW all zero",
        edited(LINEAR.backward, "dy.T @ x", "0 * weight"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    in_torch(
        "Linear",
        "dW missing",
        edited(LINEAR.backward, "dy.T @ x", "None"),
        by_hand.by_hand(layers()),
        "grad.2.weight",
    ),
    in_torch(
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
    in_torch(
        "Linear",
        "db the mean over the batch",
        edited(LINEAR.backward, "dy.sum(0)", "dy.mean(0)"),
        by_hand.by_hand(layers()),
        "grad.2.bias",
    ),
    in_torch(
        "Linear",
        "the bias forgotten",
        edited(LINEAR.forward, "x @ weight.T + bias", "x @ weight.T"),
        by_hand.by_hand(layers()),
        "activation.0",
    ),
    in_torch(
        "ReLU",
        "slope 1 at exactly 0",
        edited(RELU.backward, "x > 0", "x >= 0"),
        by_hand.by_hand(alone(nn.ReLU)),
        "d_x",
    ),
    in_torch(
        "ReLU",
        "dy goes through everywhere",
        edited(RELU.backward, "torch.where(x > 0, dy, 0.0)", "1 * dy"),
        by_hand.by_hand(between(nn.ReLU)),
        "d_activation.0",
    ),
    in_torch(
        "Softmax",
        "the diagonal of the Jacobian alone",
        edited(SOFTMAX.backward, "(dy - (dy * y).sum(1, keepdim=True))", "(dy - dy * y)"),
        by_hand.by_hand(between(nn.Softmax, dim=1)),
        "d_activation.0",
    ),
    in_torch(
        "Softmax",
        "over the batch",
        edited(SOFTMAX.forward, "torch.softmax(x, 1)", "torch.softmax(x, 0)"),
        by_hand.by_hand(between(nn.Softmax, dim=1)),
        "activation.1",
    ),
    # Registered
    in_torch(
        "Sigmoid",
        "1 − y missing in the derivative of a registered twin",
        edited(SIGMOID.backward, "* y * (1 - y)", "* y"),
        registered(),
        "d_activation.0",
    ),
    in_torch(
        "MSELoss",
        "the 2 forgotten in the gradient of a registered twin",
        edited(MSE.backward, "dloss * 2 *", "dloss *"),
        registered(),
        "d_activation.2",
    ),
    in_torch(
        "MSELoss",
        "the gradient of a registered twin not divided by the number of elements",
        edited(MSE.backward, " / target.numel()", ""),
        registered(),
        "d_activation.2",
    ),
]
