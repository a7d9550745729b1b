"""Bugs in the backward of a module of one's own: a LayerNorm written by hand, whose twin is
torch's, and one that is no module at all, only behaves like one."""

from collections.abc import Iterator

import numpy as np
import torch

import torch_ref
from compare.cases.case import Draw
from manual import nn
from manual.nn import module as base
from tests.planted.bug import Arguments, Bug, edited
from tests.planted.cases import BATCH, IN, onto, regression


class LayerNorm(nn.Module):
    """y = γ x̂ + β with x̂ = (x − μ) / σ over the last dimension, σ² = var + eps."""

    def __init__(self, n: int, eps: float = 1e-3, *, dtype: np.dtype) -> None:
        self.eps = eps
        self.weight = nn.Parameter(np.linspace(0.5, 1.5, n).astype(dtype))
        self.bias = nn.Parameter(np.linspace(-1, 1, n).astype(dtype))

    def forward(self, x: np.ndarray) -> np.ndarray:
        d = x - x.mean(-1, keepdims=True)
        sigma = np.sqrt((d * d).mean(-1, keepdims=True) + x.dtype.type(self.eps))
        self.saved = d / sigma, sigma
        return self.weight.data * self.saved[0] + self.bias.data

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) / σ, with dx̂ = γ dy, as in BatchNorm1d."""
        normed, sigma = self.recall()
        self.weight.grad = (dy * normed).sum(0)
        self.bias.grad = dy.sum(0)
        d = self.weight.data * dy
        mean = d.mean(-1, keepdims=True)
        return (d - mean - normed * (d * normed).mean(-1, keepdims=True)) / sigma


@torch_ref.twin.register
def _(module: LayerNorm) -> torch.nn.Module:
    return torch.nn.LayerNorm(module.weight.size, module.eps)


class Plain:
    """The same formulas in a class that knows nothing of handgrad but `Parameter`."""

    def __init__(self, n: int, dtype: np.dtype) -> None:
        self.eps = 1e-3
        self.weight = nn.Parameter(np.linspace(0.5, 1.5, n).astype(dtype))
        self.bias = nn.Parameter(np.linspace(-1, 1, n).astype(dtype))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from (("weight", self.weight), ("bias", self.bias))

    def forward(self, x: np.ndarray) -> np.ndarray:
        d = x - x.mean(-1, keepdims=True)
        self.sigma = np.sqrt((d * d).mean(-1, keepdims=True) + x.dtype.type(self.eps))
        self.normed = d / self.sigma
        return self.weight.data * self.normed + self.bias.data

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.weight.grad = (dy * self.normed).sum(0)
        self.bias.grad = dy.sum(0)
        d = self.weight.data * dy
        d = d - d.mean(-1, keepdims=True) - self.normed * (d * self.normed).mean(-1, keepdims=True)
        return d / self.sigma


def normed(draw: Draw) -> Arguments:
    own = LayerNorm(7, dtype=draw.dtype)
    return regression(draw, nn.Sequential(draw.linear(5, 7), own, draw.linear(7, 4)))


def first_normed(draw: Draw) -> Arguments:
    """Where nobody asks for its dx."""
    own = LayerNorm(IN, dtype=draw.dtype)
    return onto(draw, own, draw.normal(BATCH, IN), nn.MSELoss())


def plain(draw: Draw) -> Arguments:
    """No module of manual, with a twin that is handed over."""
    given = onto(draw, Plain(IN, draw.dtype), draw.normal(BATCH, IN), nn.MSELoss())
    return given | {"twin": torch.nn.LayerNorm(IN, 1e-3)}


BUGS = [
    Bug(
        "Module",
        "a LayerNorm of one's own without the mean's derivative",
        edited(LayerNorm.backward, "(d - mean - normed", "(d - normed"),
        normed,
        "d_activation.0",
    ),
    Bug(
        "Module",
        "a LayerNorm of one's own without the variance's derivative",
        edited(
            LayerNorm.backward,
            "(d - mean - normed * (d * normed).mean(-1, keepdims=True))",
            "(d - mean)",
        ),
        normed,
        "d_activation.0",
    ),
    Bug(
        "Module",
        "a LayerNorm of one's own with γ taken twice",
        edited(LayerNorm.backward, "d = self.weight.data * dy", "d = self.weight.data**2 * dy"),
        normed,
        "d_activation.0",
    ),
    Bug(
        "Module",
        "a LayerNorm of one's own whose dx is multiplied by σ",
        edited(LayerNorm.backward, "keepdims=True)) / sigma", "keepdims=True)) * sigma"),
        normed,
        "d_activation.0",
    ),
    Bug(
        "Module",
        "a LayerNorm of one's own whose dγ lacks x̂",
        edited(LayerNorm.backward, "(dy * normed).sum(0)", "dy.sum(0)"),
        normed,
        "grad.1.weight",
    ),
    Bug(
        "Module",
        "a LayerNorm of one's own whose dβ is the mean",
        edited(LayerNorm.backward, "self.bias.grad = dy.sum(0)", "self.bias.grad = dy.mean(0)"),
        normed,
        "grad.1.bias",
    ),
    Bug(
        "Module",
        "backward_parameters, where a module has none of its own, hands on −dy",
        edited(base.Module.backward_parameters, "self.backward(dy)", "self.backward(-dy)"),
        first_normed,
        "grad.weight (backward_parameters)",
    ),
    Bug(
        "Module",
        "a class of one's own whose dx lacks the mean's derivative",
        edited(Plain.backward, "d = d - d.mean(-1, keepdims=True) - ", "d = d - "),
        plain,
        "d_x",
    ),
    Bug(
        "Module",
        "a class of one's own whose dγ is the mean",
        edited(Plain.backward, "(dy * self.normed).sum(0)", "(dy * self.normed).mean(0)"),
        plain,
        "grad.weight",
    ),
    Bug(
        "Module",
        "a class of one's own that takes the cotangent for 1",
        edited(Plain.backward, "d = self.weight.data * dy", "d = self.weight.data + 0 * dy"),
        plain,
        "d_x",
    ),
]
