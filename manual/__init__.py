"""Backprop written by hand in NumPy: torch.nn name for name, each backward beside its forward."""

from manual import init, nn, optim, training

__all__ = ["init", "nn", "optim", "training"]
