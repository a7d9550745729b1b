"""Modules and losses, torch.nn name for name, each with its backward written out."""

from manual.nn.activations import Identity, ReLU, Sigmoid, Tanh
from manual.nn.containers import Sequential
from manual.nn.criterion import Criterion
from manual.nn.cross_entropy import CrossEntropyLoss
from manual.nn.linear import Linear
from manual.nn.losses import HalfSquaredError, MSELoss, SumSquaredError
from manual.nn.module import Module
from manual.nn.parameter import Parameter

__all__ = [
    "Criterion",
    "CrossEntropyLoss",
    "HalfSquaredError",
    "Identity",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SumSquaredError",
    "Tanh",
]
