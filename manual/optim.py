"""Optimizers, torch.optim name for name: step() updates every parameter from its gradient.

The state of a group (a momentum, say) is one 1-D buffer over all its parameters, so that an
update is a single pass wherever the parameters lie together in memory.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from numbers import Real
from typing import Any

import numpy as np

from manual.nn.parameter import Parameter, runs


class SGD:
    """Stochastic gradient descent, as torch.optim.SGD: θ ← θ − lr · d with, in this order,

        g ← dL/dθ (−dL/dθ with maximize);   g ← g + weight_decay · θ
        v ← momentum · v + (1 − dampening) · g     (the first time v = g)
        d = g + momentum · v with nesterov, v with momentum, g without

    params: parameters, or dicts {"params": …, "lr": …, …} whose options override the others.
    `param_groups[k]["lr"] = …` changes an option between steps. A parameter whose grad is None
    is left alone. Raises ValueError for negative lr, momentum or weight_decay, for nesterov
    without momentum or with dampening, for no parameter and for one that comes twice.
    """

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
        self.param_groups = _groups(params, defaults)
        for group in self.param_groups:
            _check(group)
        self._velocity: list[np.ndarray | None] = [None] * len(self.param_groups)
        self._started = [[False] * len(group["params"]) for group in self.param_groups]

    def step(self) -> None:
        """Update the parameters from their gradients. The gradients stay as they are."""
        for k, group in enumerate(self.param_groups):
            _check(group)
            params, started = group["params"], self._started[k]
            if group["momentum"] and self._velocity[k] is None:
                self._velocity[k] = np.zeros(sum(p.size for p in params), params[0].dtype)
            if group["momentum"]:  # the network may have been converted since
                self._velocity[k] = self._velocity[k].astype(params[0].dtype, copy=False)
            offset = 0
            for (has_grad, first), members in groupby(
                zip(params, started, strict=True), key=lambda m: (m[0].grad is not None, not m[1])
            ):
                for theta, grad in runs(p for p, _ in members):
                    stop = offset + theta.size
                    if has_grad:
                        v = self._velocity[k][offset:stop] if group["momentum"] else None
                        _update(theta, grad, v, first, group)
                    offset = stop
            if group["momentum"]:
                self._started[k] = [
                    s or p.grad is not None for p, s in zip(params, started, strict=True)
                ]

    def momentum_buffers(self) -> Iterator[tuple[Parameter, np.ndarray]]:
        """(parameter, its v as an array of the same shape) where momentum has started; copies."""
        for k, group in enumerate(self.param_groups):
            offset = 0
            for p, started in zip(group["params"], self._started[k], strict=True):
                if started:
                    yield p, p.shaped(self._velocity[k][offset : offset + p.size]).copy()
                offset += p.size


def _update(
    theta: np.ndarray, grad: np.ndarray, v: np.ndarray | None, first: bool, group: dict[str, Any]
) -> None:
    """One pass of the formulas of `SGD` over a stretch of parameters, in place."""
    lr, momentum = float(group["lr"]), float(group["momentum"])
    g = -grad if group["maximize"] else grad
    if group["weight_decay"]:
        g = g + float(group["weight_decay"]) * theta
    if v is None:
        d = g
    else:
        if first:
            v[...] = g
        else:
            v *= momentum
            v += (1 - float(group["dampening"])) * g
        d = g + momentum * v if group["nesterov"] else v
    theta -= lr * d


def _groups(params: Iterable, defaults: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(params, Parameter):
        raise TypeError("params must be an iterable of parameters or of dicts, got one Parameter")
    given = list(params)
    if not given:
        raise ValueError("the optimizer got no parameters")
    if not isinstance(given[0], dict):
        given = [{"params": given}]
    groups, seen = [], set()
    for group in given:
        if not isinstance(group, dict):
            raise TypeError(f"a parameter group is a dict, got {type(group).__name__}")
        unknown = group.keys() - defaults.keys() - {"params"}
        if unknown or "params" not in group:
            raise ValueError(
                f"a parameter group has 'params' and any of {', '.join(defaults)}; "
                f"got {', '.join(map(repr, group))}"
            )
        own = group["params"]
        own = [own] if isinstance(own, Parameter) else list(own)
        for p in own:
            if not isinstance(p, Parameter):
                raise TypeError(f"an optimizer updates Parameters, got {type(p).__name__}")
            if id(p) in seen:
                raise ValueError(f"a parameter of shape {p.shape} was given twice")
            seen.add(id(p))
        if len({p.dtype for p in own}) != 1:
            raise ValueError("a parameter group needs parameters, all of one dtype")
        groups.append({**defaults, **group, "params": own})
    return groups


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "momentum", "dampening", "weight_decay"):
        if not isinstance(group[name], Real):
            raise TypeError(f"SGD: {name} must be a number, got {group[name]!r}")
    for name in ("lr", "momentum", "weight_decay"):
        if not 0 <= group[name] < float("inf"):
            raise ValueError(f"SGD: {name} must be a finite number >= 0, got {group[name]!r}")
    if not -float("inf") < group["dampening"] < float("inf"):
        raise ValueError(f"SGD: dampening must be a finite number, got {group['dampening']!r}")
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError(
            "SGD: nesterov needs momentum > 0 and dampening 0, "
            f"got momentum={group['momentum']!r}, dampening={group['dampening']!r}"
        )
