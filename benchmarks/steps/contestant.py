"""Who takes part: what a contestant must be able to do, and the list of them."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import numpy as np

from benchmarks.steps.problem import Problem

MANUAL = "manual"
# Name → where it is made. Imported only when its turn comes: some may not be installed.
MAKERS = {
    MANUAL: "numpy_side:manual",
    "torch eager": "torch_side:eager",
    "torch fused SGD": "torch_side:fused",
    "torch compiled": "torch_side:compiled",
    "JAX jit": "peers:jax_jit",
    "scikit-learn": "peers:scikit_learn",
    "NumPy products": "numpy_side:products",
    "torch products": "torch_side:products",
}
# On a GPU.
ON_GPU = {
    MANUAL: "numpy_side:manual",
    "manual, CUDA graph": "graphs:captured",
    "torch eager": "torch_side:eager",
    "torch, CUDA graph": "torch_side:captured",
    "torch compiled": "torch_side:compiled",
}
NAMES = tuple(dict.fromkeys([*MAKERS, *ON_GPU]))
PRODUCTS = ("NumPy products", "torch products")  # they do less than a step: the floor


class Contestant(NamedTuple):
    """step: does one training step, and returns when it is done (on a GPU: when it is asked for).
    restart: puts back the weights that all begin with.
    wait: returns when all that was asked for is done; a GPU computes while Python goes on.
    results: after one step from there, what it came to by the names of `compare`'s rows:
    "updated.0.weight" → array, in manual's shapes; or, of the bare products, "grad.0.weight".
    """

    step: Callable[[], object]
    restart: Callable[[], object]
    results: Callable[[], dict[str, np.ndarray]]
    wait: Callable[[], object] = lambda: None


class LeftOut(Exception):
    """A contestant that cannot take part here; the message says why, in one line."""


def makers(device: str) -> dict[str, str]:
    """Who takes part there."""
    return MAKERS if device == "cpu" else ON_GPU


def make(name: str, problem: Problem) -> Contestant:
    """Raises LeftOut."""
    module, function = makers(problem.device)[name].split(":")
    found = import_module(f"benchmarks.steps.{module}")
    return getattr(found, function)(problem)
