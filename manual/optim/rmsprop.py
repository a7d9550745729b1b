"""RMSprop: gradients in units of their root mean square."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from manual.nn.parameter import Parameter
from manual.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop, as torch.optim.RMSprop. In this order,

        g ← dL/dθ (−dL/dθ with maximize);   g ← g + weight_decay · θ
        s ← α s + (1 − α) g²                         the mean of the squares so far
        r = √s;   with centered  a ← α a + (1 − α) g,  r = √(s − a²)
        θ ← θ − lr · g / (r + eps)
        or, with momentum,   b ← momentum · b + g / (r + eps),   θ ← θ − lr · b

    where s, a and b begin at 0. s − a² is a variance; where rounding makes it negative it counts
    as 0 (torch's update is NaN there).

    Raises ValueError for a negative lr, alpha, eps, weight_decay or momentum.

    Hinton, lecture 6e of "Neural networks for machine learning" (2012); centered: Graves (2013),
    "Generating sequences with recurrent neural networks".
    """

    _buffers = ("square_avg", "momentum_buffer", "grad_avg")
    _limits: ClassVar = dict.fromkeys(
        ("lr", "alpha", "eps", "weight_decay", "momentum"), (0, math.inf)
    )

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _needed(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        wanted = {
            "square_avg": True,
            "momentum_buffer": group["momentum"] > 0,
            "grad_avg": group["centered"],
        }
        return tuple(name for name in self._buffers if wanted[name])

    def _update(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        group: dict[str, Any],
    ) -> None:
        alpha, momentum = group["alpha"], group["momentum"]
        g = self._gradient(theta, grad, group)
        s = state["square_avg"]
        work = np.multiply(1 - alpha, g, out=self._work(theta))
        if group["centered"]:
            a = state["grad_avg"]
            a *= alpha
            a += work
        work *= g
        s *= alpha
        s += work
        if group["centered"]:
            np.multiply(a, a, out=work)
            np.subtract(s, work, out=work)
            np.sqrt(np.maximum(work, 0, out=work), out=work)
        else:
            np.sqrt(s, out=work)
        work += group["eps"]
        d = np.divide(g, work, out=work)
        if momentum > 0:
            b = state["momentum_buffer"]
            b *= momentum
            b += d
            np.copyto(d, b)
        d *= group["lr"]
        theta -= d
