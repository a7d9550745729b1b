"""What a recorded step is made of, on either side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from manual.arrays import host

Draw = Callable[[tuple], np.ndarray]  # shape → the cotangent of a loss that is no scalar


class Tensor(NamedTuple):
    """A copy of one recorded tensor. stage: "forward", "backward" or "updated". expected: what it
    must be, for a tensor that only one side can have."""

    name: str
    stage: str
    value: np.ndarray
    expected: np.ndarray | None = None


class Run(NamedTuple):
    """One side of a comparison, manual or torch. clip(parameters) changes the gradients before the
    optimizer takes them; optimizer, scheduler and clip may be None. device: where manual's side is,
    "cpu" or "cuda"."""

    net: Any
    criterion: Any
    optimizer: Any = None
    scheduler: Any = None
    clip: Callable | None = None
    device: str = "cpu"


def kept(value: Any) -> np.ndarray:
    """A copy of an array, in NumPy."""
    return np.array(host(value))


def cotangent(criterion: Any, loss: Any, draw: Draw) -> np.ndarray | None:
    """∂L/∂loss where the loss is not the L that is differentiated: with reduction "none"."""
    return draw(np.shape(host(loss))) if getattr(criterion, "reduction", None) == "none" else None


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[Tensor]:
    """What a step changed and must not: none, unless something is wrong."""
    return [
        Tensor(f"{name} (changed)", "forward", kept(value), before[name])
        for name, value in after.items()
        if not same(value, before[name])
    ]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """To the bit, but for signs of 0; NaNs are equal."""
    a, b = np.asarray(host(a)), np.asarray(host(b))
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
