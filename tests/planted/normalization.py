"""Bugs in BatchNorm1d."""

from functools import cache
from typing import Any

from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Bug, Case, edited
from tests.planted.cases import evaluated, regression


@cache
def normed(*inner: int, **options: Any) -> Case:
    """BatchNorm1d(5), whose statistics, weight and bias are not those at first, and Tanh. x: of
    the shape (6, 5, …)."""

    def case(draw: Draw) -> Arguments:
        norm = nn.BatchNorm1d(5, **options, dtype=draw.dtype)
        for p in norm.parameters():
            p.data = draw.uniform(0.5, 2, 5)
        if norm.running_mean is not None:
            norm.running_mean[...] = draw.normal(5)
            norm.running_var[...] = draw.uniform(0.5, 2, 5)
        given = regression(draw, nn.Sequential(nn.Tanh(), norm), 6, 5, *inner)
        return given | {"x": 2 * given["x"] + 1}

    return case


FORWARD, BACKWARD = "activation.1", "d_activation.0"

BUGS = [
    Bug(
        "BatchNorm1d",
        "the unbiased variance in x̂",
        edited(
            nn.BatchNorm1d.forward,
            "var = y.sum(axes, keepdims=True) / n",
            "var = y.sum(axes, keepdims=True) / (n - 1)",
        ),
        normed(),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "eps outside the root",
        edited(nn.BatchNorm1d.forward, "np.sqrt(var + self.eps)", "(np.sqrt(var) + self.eps)"),
        normed(),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "the batch's statistics in evaluation",
        edited(
            nn.BatchNorm1d.forward,
            "self.training or self.running_mean is None",
            "True",
            "if self.track_running_stats:",
            "if False:",
        ),
        evaluated(normed()),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "the running statistics in training",
        edited(nn.BatchNorm1d.forward, "self.training or self.running_mean is None", "False"),
        normed(),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "statistics over the batch alone, of an x of rank 3",
        edited(
            nn.BatchNorm1d.forward,
            "rest = normed.sum(axes, keepdims=True) / n",
            "normed -= normed.mean(0)\n        rest = normed.sum(axes, keepdims=True) / n",
        ),
        normed(3),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "the bias forgotten",
        edited(nn.BatchNorm1d.forward, "y += self.bias.data.reshape(column)", "pass"),
        normed(),
        FORWARD,
    ),
    Bug(
        "BatchNorm1d",
        "the running variance biased",
        edited(nn.BatchNorm1d._track, "(n / (n - 1)) * var", "var"),
        normed(),
        "buffer.1.running_var",
    ),
    Bug(
        "BatchNorm1d",
        "running statistics that move in evaluation",
        edited(
            nn.BatchNorm1d.forward,
            "inverse = 1 / np.sqrt(var + self.eps)",
            "inverse = 1 / np.sqrt(var + self.eps)\n"
            "    if not from_batch:\n"
            "        self._track(x.size, n, x.mean(axes), x.var(axes))",
        ),
        evaluated(normed()),
        "buffer.1.running_mean",
    ),
    Bug(
        "BatchNorm1d",
        "momentum and 1 − momentum exchanged",
        edited(nn.BatchNorm1d._track, "factor = self.momentum", "factor = 1 - self.momentum"),
        normed(),
        "buffer.1.running_mean",
    ),
    Bug(
        "BatchNorm1d",
        "batches not counted",
        edited(nn.BatchNorm1d._track, "self.num_batches_tracked += 1", "pass"),
        normed(),
        "buffer.1.num_batches_tracked",
    ),
    Bug(
        "BatchNorm1d",
        "the mean over all batches off by one",
        edited(
            nn.BatchNorm1d._track,
            "1 / int(self.num_batches_tracked)",
            "1 / (int(self.num_batches_tracked) + 1)",
        ),
        normed(momentum=None),
        "buffer.1.running_mean",
    ),
    Bug(
        "BatchNorm1d",
        "the mean's derivative forgotten",
        edited(nn.BatchNorm1d.backward, "dx -= dbeta / n", "pass"),
        normed(),
        BACKWARD,
    ),
    Bug(
        "BatchNorm1d",
        "the variance's derivative forgotten",
        edited(nn.BatchNorm1d.backward, "np.subtract(dy, dx, out=dx)", "dx = dy.copy()"),
        normed(),
        BACKWARD,
    ),
    Bug(
        "BatchNorm1d",
        "γ forgotten in dx",
        edited(
            nn.BatchNorm1d.backward, "inverse * self.weight.data.reshape(inverse.shape)", "inverse"
        ),
        normed(),
        BACKWARD,
    ),
    Bug(
        "BatchNorm1d",
        "in evaluation dx as in training",
        edited(nn.BatchNorm1d.backward, "if not from_batch:", "if False:"),
        evaluated(normed()),
        BACKWARD,
    ),
    Bug(
        "BatchNorm1d",
        "n the batch alone, of an x of rank 3",
        edited(nn.BatchNorm1d.backward, "math.prod(dy.shape[::2])", "len(dy)"),
        normed(3),
        BACKWARD,
    ),
    Bug(
        "BatchNorm1d",
        "dγ without x̂",
        edited(nn.BatchNorm1d._parameter_gradients, "terms.sum", "dy.sum"),
        evaluated(normed()),
        "grad.1.weight",
    ),
    Bug(
        "BatchNorm1d",
        "dβ the mean over the batch",
        edited(nn.BatchNorm1d._parameter_gradients, ", dy.sum(", ", dy.mean("),
        evaluated(normed()),
        "grad.1.bias",
    ),
]
