"""Backprop written by hand in NumPy: torch.nn name for name, each backward beside its forward."""

from manual import init, nn, optim, perceptron, training
from manual.perceptron import Perceptron

__all__ = ["Perceptron", "init", "nn", "optim", "perceptron", "training"]
