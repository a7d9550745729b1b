"""Modules and losses, torch.nn name for name, each with its backward written out."""

from manual.nn.activations import (
    ELU,
    GELU,
    Arctan,
    Identity,
    LogSigmoid,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from manual.nn.binary_cross_entropy import BCELoss, BCEWithLogitsLoss
from manual.nn.containers import Residual, Sequential
from manual.nn.criterion import Criterion
from manual.nn.cross_entropy import CrossEntropyLoss, NLLLoss
from manual.nn.dropout import Dropout
from manual.nn.flatten import Flatten
from manual.nn.linear import Linear
from manual.nn.losses import HalfSquaredError, L1Loss, MSELoss, SumSquaredError
from manual.nn.module import Module
from manual.nn.normalization import BatchNorm1d
from manual.nn.parameter import Parameter
from manual.nn.piecewise import LeakyReLU, Maxout, PReLU, ReLU, Step
from manual.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "Arctan",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Criterion",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "HalfSquaredError",
    "Identity",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Maxout",
    "Module",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "SumSquaredError",
    "Tanh",
]
