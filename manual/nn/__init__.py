"""Modules and losses, torch.nn name for name, each with its backward written out."""

from manual.nn.activations import Identity, ReLU, Sigmoid, Tanh
from manual.nn.containers import Residual, Sequential
from manual.nn.criterion import Criterion
from manual.nn.cross_entropy import CrossEntropyLoss
from manual.nn.dropout import Dropout
from manual.nn.flatten import Flatten
from manual.nn.linear import Linear
from manual.nn.losses import HalfSquaredError, MSELoss
from manual.nn.module import Module
from manual.nn.normalization import BatchNorm1d
from manual.nn.parameter import Parameter

__all__ = [
    "BatchNorm1d",
    "Criterion",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "HalfSquaredError",
    "Identity",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Tanh",
]
