"""Backprop written by hand in NumPy: torch.nn name for name, each backward beside its forward."""

from manual import descent, init, nn, optim, perceptron, training
from manual.descent import newton_raphson, steepest_descent
from manual.perceptron import Perceptron

__all__ = [
    "Perceptron",
    "descent",
    "init",
    "newton_raphson",
    "nn",
    "optim",
    "perceptron",
    "steepest_descent",
    "training",
]
