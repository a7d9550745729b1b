"""What a case is made of, and how it is drawn."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from manual import nn


class Case(NamedTuple):
    """A pair to prove, for the sake of `subject`, a public name of manual.nn or manual.optim.

    optimizer is None where one forward and backward is the case; steps, scheduler and clip as in
    `compare`.
    """

    subject: str
    options: dict[str, Any]
    net: nn.Module
    criterion: nn.Criterion
    x: np.ndarray
    y: np.ndarray
    optimizer: Any = None
    scheduler: Any = None
    clip: Callable | None = None
    steps: int = 1

    @property
    def name(self) -> str:
        """As one writes it, with the shape of x: "LeakyReLU(negative_slope=0.3) [4, 2]"."""
        options = ", ".join(f"{name}={_short(value)}" for name, value in self.options.items())
        return f"{self.subject}({options}) {list(self.x.shape)}"

    @property
    def kind(self) -> str:
        """module, loss, optimizer, schedule or clipping."""
        if self.clip is not None:
            return "clipping"
        if self.scheduler is not None:
            return "schedule"
        if self.subject == type(self.criterion).__name__ and self.optimizer is None:
            return "loss"
        return "module" if hasattr(nn, self.subject) else "optimizer"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "…"
    return value.__name__ if isinstance(value, type) else repr(value)


class Draw(NamedTuple):
    """Everything random in a case."""

    dtype: np.dtype
    generator: np.random.Generator

    def width(self, low: int = 1, high: int = 7) -> int:
        return int(self.generator.integers(low, high + 1))

    def shape(self, rank: int, low: int = 1) -> tuple[int, ...]:
        return tuple(self.width(low, 5) for _ in range(rank))

    def normal(self, *shape: int) -> np.ndarray:
        return np.asarray(self.generator.normal(size=shape), self.dtype)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return np.asarray(self.generator.uniform(low, high, shape), self.dtype)

    def kinked(self, *shape: int) -> np.ndarray:
        """Of both signs, some exactly at 0 and -0 where there is room."""
        x = np.asarray(3 * self.normal(*shape))
        if x.size > 3:
            x.flat[:2] = 0, -0.0
        return x

    def linear(self, n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
        return nn.Linear(n_in, n_out, bias, dtype=self.dtype, generator=self.generator)

    def module_case(
        self, subject: str, options: dict[str, Any], net: nn.Module, x: np.ndarray, **more: Any
    ) -> Case:
        """One forward and backward, from a random cotangent: that of ½ Σ (y − random)²."""
        target = self.normal(*copy.deepcopy(net)(x).shape)
        return Case(subject, options, net, nn.HalfSquaredError(), x, target, **more)
