"""Modules and losses, torch.nn name for name, each with its backward written out."""

from manual.nn.activations import Identity, ReLU, Sigmoid, Tanh
from manual.nn.binary_cross_entropy import BCELoss, BCEWithLogitsLoss
from manual.nn.containers import Sequential
from manual.nn.criterion import Criterion
from manual.nn.cross_entropy import CrossEntropyLoss, NLLLoss
from manual.nn.linear import Linear
from manual.nn.losses import HalfSquaredError, L1Loss, MSELoss, SumSquaredError
from manual.nn.module import Module
from manual.nn.parameter import Parameter

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "Criterion",
    "CrossEntropyLoss",
    "HalfSquaredError",
    "Identity",
    "L1Loss",
    "Linear",
    "MSELoss",
    "Module",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SumSquaredError",
    "Tanh",
]
