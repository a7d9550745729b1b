"""Adagrad: each parameter's step shrinks with all the gradients it has seen."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from manual.nn.parameter import Parameter
from manual.optim.optimizer import GroupState, Optimizer


class Adagrad(Optimizer):
    """Adaptive gradients, as torch.optim.Adagrad. In the t-th update, in this order,

        g ← dL/dθ (−dL/dθ with maximize);   g ← g + weight_decay · θ
        s ← s + g²                                   the sum of the squares so far
        θ ← θ − lr / (1 + (t − 1) · lr_decay) · g / (√s + eps)

    where s begins at initial_accumulator_value (that of the constructor, as in torch: a group
    has none of its own).

    Raises ValueError for a negative lr, lr_decay, weight_decay, initial_accumulator_value or eps.

    Duchi, Hazan & Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization".
    """

    _buffers = ("sum",)
    _limits: ClassVar = dict.fromkeys(
        ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"), (0, math.inf)
    )

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _fresh(self, group: dict[str, Any]) -> GroupState:
        state = super()._fresh(group)
        [s] = state.prepare(self._buffers, group["params"][0].dtype).values()
        s[...] = float(self.defaults["initial_accumulator_value"])
        state.steps = [0] * len(state.steps)
        return state

    def _update(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        group: dict[str, Any],
    ) -> None:
        g, s = self._gradient(theta, grad, group), state["sum"]
        work = np.multiply(g, g, out=self._work(theta))
        s += work
        np.sqrt(s, out=work)
        work += group["eps"]
        np.divide(g, work, out=work)
        work *= group["lr"] / (1 + (step - 1) * group["lr_decay"])
        theta -= work
