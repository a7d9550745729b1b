"""Backprop written by hand in NumPy: torch.nn name for name, each backward beside its forward.

A part is loaded when it is first used, so that importing the package costs next to nothing.
"""

from importlib import import_module

HOMES = {"Perceptron": "perceptron", "newton_raphson": "descent", "steepest_descent": "descent"}

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


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(import_module(f"manual.{HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"manual.{name}")
    raise AttributeError(f"module 'manual' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
