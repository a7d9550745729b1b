"""The same mistake on both sides: they agree with one another, and not with the definition."""

import torch

from manual import nn, optim
from manual.nn import activations
from manual.optim import clip, lr_scheduler
from tests.planted import by_hand
from tests.planted.bug import Bug, Case, Plant, edited, patched, together
from tests.planted.cases import alone, between, layers
from tests.planted.class_losses import classes
from tests.planted.linear import skipping
from tests.planted.losses import direct, of
from tests.planted.normalization import normed
from tests.planted.optimizers import ADAM, SGD, steps
from tests.planted.piecewise import PASS_ON
from tests.planted.schedules import clipped, scheduled
from tests.planted.torch_functions import LINEAR, MSE, RELU, SIGMOID, SOFTMAX, registered
from tests.planted.torch_side import (
    biased_batch_norm,
    forward_of,
    largest,
    other_clip,
    rising,
    rootless,
    twice_as_far,
    two_steps,
    without_correction,
)
from torch_ref import modules

PRODUCT = "np.dot(x.T, dy, out=dweight.T)"
GRADIENTS = nn.Linear.backward_parameters
HAND = by_hand.by_hand


def one_nan(self: torch.nn.Tanh, x: torch.Tensor) -> torch.Tensor:
    hole = torch.zeros_like(x)
    hole[2, 3] = torch.nan
    return torch.tanh(x) + hole


def bug(subject: str, wrong: str, mine: Plant, theirs: Plant, case: Case, row: str) -> Bug:
    return Bug(subject, f"on both sides, {wrong}", together(mine, theirs), case, row, "both")


BUGS = [
    # Backwards
    bug(
        "Sigmoid",
        "1 − y missing in the derivative",
        edited(nn.Sigmoid.backward, "dx *= y", "dx[...] = y"),
        edited(SIGMOID.backward, "* y * (1 - y)", "* y"),
        HAND(between(nn.Sigmoid)),
        "d_activation.0",
    ),
    bug(
        "Sigmoid",
        "sign of the derivative",
        edited(nn.Sigmoid.backward, "np.subtract(1, y", "np.subtract(y, 1"),
        edited(SIGMOID.backward, "(1 - y)", "(y - 1)"),
        registered(),
        "d_activation.0",
    ),
    bug(
        "Linear",
        "dW divided by the batch",
        edited(GRADIENTS, PRODUCT, "np.dot(x.T, dy / len(x), out=dweight.T)"),
        edited(LINEAR.backward, "dy.T @ x", "dy.T @ x / len(x)"),
        HAND(layers()),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "dW transposed (square)",
        edited(GRADIENTS, PRODUCT, "dweight[...] = np.dot(x.T, dy)"),
        edited(LINEAR.backward, "dy.T @ x", "x.T @ dy"),
        HAND(layers(square=True)),
        "grad.2.weight",
    ),
    bug(
        "Linear",
        "dW all zero",
        edited(GRADIENTS, PRODUCT, "dweight[...] = 0"),
        edited(LINEAR.backward, "dy.T @ x", "0 * weight"),
        HAND(layers()),
        "grad.2.weight",
    ),
    bug(
        "Tanh",
        "one NaN in y",
        edited(nn.Tanh.forward, "self.saved", "y[2, 3] = np.nan\n    self.saved"),
        forward_of(torch.nn.Tanh, one_nan),
        layers(),
        "activation.1",
    ),
    bug(
        "Linear",
        "db the mean over the batch",
        edited(GRADIENTS, "np.dot(ones, dy", "np.dot(ones / len(x), dy"),
        edited(LINEAR.backward, "dy.sum(0)", "dy.mean(0)"),
        HAND(layers()),
        "grad.2.bias",
    ),
    bug(
        "Linear",
        "dx with |W|",
        edited(nn.Linear.backward, "self.weight.data,", "np.abs(self.weight.data),"),
        edited(LINEAR.backward, "dy @ weight", "dy @ weight.abs()"),
        HAND(layers()),
        "d_activation.1",
    ),
    bug(
        "ReLU",
        "dy goes through everywhere",
        edited(nn.ReLU.backward, PASS_ON, "dy"),
        edited(RELU.backward, "torch.where(x > 0, dy, 0.0)", "1 * dy"),
        HAND(between(nn.ReLU)),
        "d_activation.0",
    ),
    bug(
        "Softmax",
        "the diagonal of the Jacobian alone",
        edited(nn.Softmax.backward, "np.dot(ones, terms, out=sums)", "terms"),
        edited(SOFTMAX.backward, "(dy - (dy * y).sum(1, keepdim=True))", "(dy - dy * y)"),
        HAND(between(nn.Softmax, dim=1)),
        "d_activation.0",
    ),
    bug(
        "MSELoss",
        "the 2 forgotten in the gradient",
        edited(nn.MSELoss.backward, "2, difference", "1, difference"),
        together(
            forward_of(torch.nn.MSELoss, by_hand.MSELoss.forward),
            edited(MSE.backward, "dloss * 2 *", "dloss *"),
        ),
        of(nn.MSELoss),
        "d_activation",
    ),
    # Forwards
    bug(
        "Sigmoid",
        "e^x for e^−x",
        edited(activations.sigmoid, "np.negative(x", "np.positive(x"),
        edited(SIGMOID.forward, "torch.exp(-x)", "torch.exp(x)"),
        HAND(between(nn.Sigmoid)),
        "activation.1",
    ),
    bug(
        "Linear",
        "the bias forgotten",
        edited(nn.Linear.forward, "y += self.bias.data", "pass"),
        edited(LINEAR.forward, "x @ weight.T + bias", "x @ weight.T"),
        HAND(layers()),
        "activation.0",
    ),
    bug(
        "GELU",
        "the approximation where the exact one is asked for",
        edited(nn.GELU.forward, 'if self.approximate == "none" else', "if False else"),
        forward_of(torch.nn.GELU, lambda self, x: torch.nn.functional.gelu(x, approximate="tanh")),
        between(nn.GELU),
        "activation.1",
    ),
    bug(
        "ELU",
        "α forgotten",
        edited(nn.ELU.forward, "y *= self.alpha", "pass"),
        forward_of(torch.nn.ELU, lambda self, x: torch.nn.functional.elu(x)),
        between(nn.ELU, alpha=0.3),
        "activation.1",
    ),
    bug(
        "LeakyReLU",
        "always the default slope",
        edited(nn.LeakyReLU.forward, "= self.negative_slope", "= 0.01"),
        forward_of(torch.nn.LeakyReLU, lambda self, x: torch.nn.functional.leaky_relu(x)),
        between(nn.LeakyReLU, negative_slope=0.3),
        "activation.1",
    ),
    bug(
        "Softplus",
        "not divided by β",
        edited(nn.Softplus.forward, "y /= self.beta", "pass"),
        forward_of(torch.nn.Softplus, lambda self, x: torch.nn.functional.softplus(self.beta * x)),
        between(nn.Softplus, beta=2.5),
        "activation.1",
    ),
    bug(
        "Maxout",
        "the smallest",
        edited(nn.Maxout.forward, "parts.argmax", "parts.argmin", "parts.max", "parts.min"),
        forward_of(modules.Maxout, lambda self, x: -largest(self, -x)),
        alone(nn.Maxout, 6, 8),
        "activation",
    ),
    bug(
        "Residual",
        "the way around forgotten",
        together(
            edited(nn.Residual.forward, "np.add(x", "np.add(0"),
            edited(nn.Residual.backward, "np.add(dy", "np.add(0"),
        ),
        forward_of(modules.Residual, lambda self, x: self.module(x)),
        skipping,
        "activation.1",
    ),
    bug(
        "Dropout",
        "not divided by 1 − p",
        edited(nn.Dropout.forward, "mask *= 1 / (1 - self.p)", "pass"),
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
        edited(nn.BatchNorm1d._track, "(n / (n - 1)) * var", "var"),
        forward_of(torch.nn.BatchNorm1d, biased_batch_norm),
        normed(),
        "buffer.1.running_var",
    ),
    # Losses
    bug(
        "HalfSquaredError",
        "½ forgotten",
        edited(nn.HalfSquaredError.forward, "(difference) / 2", "(difference)"),
        forward_of(modules.HalfSquaredError, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.HalfSquaredError),
        "loss",
    ),
    bug(
        "SumSquaredError",
        "½ that does not belong there",
        edited(
            nn.SumSquaredError.forward,
            "return _sum_of_squares(difference)",
            "return _sum_of_squares(difference) / 2",
        ),
        forward_of(modules.SumSquaredError, lambda self, p, y: ((p - y) ** 2).sum() / 2),
        of(nn.SumSquaredError),
        "loss",
    ),
    bug(
        "MSELoss",
        "sum for mean",
        edited(nn.MSELoss.forward, "total / difference.size", "total"),
        forward_of(torch.nn.MSELoss, lambda self, p, y: ((p - y) ** 2).sum()),
        of(nn.MSELoss),
        "loss",
    ),
    bug(
        "MSELoss",
        "the mean over the samples instead of all elements",
        edited(nn.MSELoss.forward, "total / difference.size", "total / len(difference)"),
        forward_of(torch.nn.MSELoss, lambda self, p, y: ((p - y) ** 2).sum() / len(p)),
        of(nn.MSELoss),
        "loss",
    ),
    bug(
        "CrossEntropyLoss",
        "smoothing forgotten",
        edited(nn.CrossEntropyLoss._target, "if self.label_smoothing:", "if False:"),
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
        edited(nn.BCEWithLogitsLoss._yes, "self.pos_weight, target", "1, target"),
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
        edited(SGD, 'group["lr"], d', '2 * group["lr"], d'),
        patched(torch.optim.SGD, step=two_steps),
        steps(optim.SGD, 1, lr=0.1),
        "updated.0.weight",
    ),
    bug(
        "Adam",
        "no bias correction",
        edited(ADAM, "lr / (1 - beta1**step)", "lr", "work /= (1 - beta2**step) ** 0.5", "pass"),
        patched(torch.optim.Adam, step=without_correction),
        steps(optim.Adam, 1, lr=0.01),
        "updated.0.weight",
    ),
    bug(
        "LBFGS",
        "lr doubled",
        edited(optim.LBFGS._minimize, 'float(group["lr"])', '2 * float(group["lr"])'),
        patched(torch.optim.LBFGS, step=twice_as_far),
        steps(optim.LBFGS, 1, max_iter=1),
        "updated.0.weight",
    ),
    bug(
        "ExponentialLR",
        "divided by gamma",
        edited(lr_scheduler.ExponentialLR._next_lr, "lr * self.gamma", "lr / self.gamma"),
        patched(torch.optim.lr_scheduler.ExponentialLR, get_lr=rising),
        scheduled(optim.ExponentialLR, 1, gamma=0.8),
        "lr.0",
    ),
    bug(
        "clip_grad_norm_",
        "the root forgotten",
        edited(
            clip._norm,
            "return unit * number((x**p).sum()) ** (1 / p)",
            "return unit**2 * (x**p).sum()",
        ),
        other_clip(rootless),
        clipped(optim.clip_grad_norm_, max_norm=0.1),
        "grad_norm",
    ),
]
