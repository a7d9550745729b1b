"""Stochastic gradient descent with momentum."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from manual.nn.parameter import Parameter
from manual.optim.optimizer import Optimizer, gradient


class SGD(Optimizer):
    """Stochastic gradient descent, as torch.optim.SGD: θ ← θ − lr · d with, in this order,

        g ← dL/dθ (−dL/dθ with maximize);   g ← g + weight_decay · θ
        v ← momentum · v + (1 − dampening) · g     (the first time v = g)
        d = g + momentum · v with nesterov, v with momentum, g without

    Raises ValueError for negative lr, momentum or weight_decay, for nesterov without momentum or
    with dampening (a group may have them, as in torch: momentum 0 there is none), for no parameter
    and for one that comes twice.

    Nesterov's momentum in the form of Sutskever, Martens, Dahl & Hinton (2013), "On the
    importance of initialization and momentum in deep learning".
    """

    _buffers = ("momentum_buffer",)
    _counts = False
    _limits: ClassVar = {
        "lr": (0, math.inf),
        "momentum": (0, math.inf),
        "dampening": (-math.inf, math.inf),
        "weight_decay": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "SGD: nesterov needs momentum > 0 and dampening 0, "
                f"got momentum={momentum!r}, dampening={dampening!r}"
            )

    def _needed(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self._buffers if group["momentum"] else ()

    def _update(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        group: dict[str, Any],
    ) -> None:
        d = g = gradient(theta, grad, group)
        momentum = group["momentum"]
        if momentum:
            v = state["momentum_buffer"]
            if step == 1:
                v[...] = g
            else:
                v *= momentum
                v += (1 - group["dampening"]) * g
            d = g + momentum * v if group["nesterov"] else v
        theta -= np.multiply(group["lr"], d, out=self.new_empty(d.shape, d.dtype))
