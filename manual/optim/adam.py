"""Adam and AdamW: a step for every parameter in units of its gradient's own size."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from manual.nn.parameter import Parameter
from manual.optim.optimizer import Optimizer, check_number


class Adam(Optimizer):
    """Adaptive moments, as torch.optim.Adam. In the t-th update, in this order,

        g ← dL/dθ (−dL/dθ with maximize)
        g ← g + weight_decay · θ,   or   θ ← θ · (1 − lr · weight_decay) with decoupled_weight_decay
        m ← β₁ m + (1 − β₁) g                        the mean of the gradients so far
        v ← β₂ v + (1 − β₂) g²                       and of their squares
        u = v;   with amsgrad u ← max(u, v)
        θ ← θ − lr / (1 − β₁ᵗ) · m / (√u / √(1 − β₂ᵗ) + eps)

    where m and v begin at 0, which the divisions by 1 − βᵗ make up for.

    betas: (β₁, β₂), each in [0, 1). Raises ValueError for other betas and for a negative lr, eps
    or weight_decay.

    Kingma & Ba (2015), "Adam: a method for stochastic optimization", in the order at the end of
    its section 2; decoupled_weight_decay as in `AdamW`; amsgrad: Reddi, Kale & Kumar (2018), "On
    the convergence of Adam and beyond".
    """

    _buffers = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _limits: ClassVar = {"lr": (0, math.inf), "eps": (0, math.inf), "weight_decay": (0, math.inf)}

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        who, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"{who}: betas must be two numbers, got {betas!r}")
        for i, beta in enumerate(betas):
            check_number(f"{who}: betas[{i}]", beta, 0, 1)

    def _needed(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self._buffers if group["amsgrad"] else self._buffers[:2]

    def _update(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        group: dict[str, Any],
    ) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        if group["decoupled_weight_decay"]:
            g = np.negative(grad, out=self._work(theta)) if group["maximize"] else grad
            theta *= 1 - lr * group["weight_decay"]
        else:
            g = self._gradient(theta, grad, group)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        work = np.multiply(1 - beta1, g, out=self._work(theta))
        m *= beta1
        m += work
        np.multiply(1 - beta2, g, out=work)
        work *= g  # not (1 − β₂) · (g · g), which overflows earlier
        v *= beta2
        v += work
        if group["amsgrad"]:
            v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        np.sqrt(v, out=work)
        work /= (1 - beta2**step) ** 0.5
        work += group["eps"]
        np.divide(m, work, out=work)
        work *= lr / (1 - beta1**step)
        theta -= work


class AdamW(Adam):
    """`Adam` with decoupled_weight_decay, as torch.optim.AdamW: the weights decay by themselves,
    θ ← θ · (1 − lr · weight_decay), and not through a gradient that v would then scale.

    Loshchilov & Hutter (2019), "Decoupled weight decay regularization".
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            *(params, lr, betas, eps, weight_decay, amsgrad),
            maximize=maximize,
            decoupled_weight_decay=True,
        )
