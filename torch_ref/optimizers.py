"""Optimizers, schedules and clipping: torch's of the same name, with the same options and state."""

import functools
from typing import Any

import numpy as np
import torch

from manual import optim

FUNCTIONS = {
    optim.clip_grad_norm_: torch.nn.utils.clip_grad_norm_,
    optim.clip_grad_value_: torch.nn.utils.clip_grad_value_,
}


def known(obj: Any) -> bool:
    """Whether `counterpart` is for this."""
    if isinstance(obj, functools.partial):
        obj = obj.func
    kinds = optim.Optimizer, optim.lr_scheduler.LRScheduler
    return isinstance(obj, kinds) or (callable(obj) and obj in FUNCTIONS)


def counterpart(obj: Any, acts_on: Any) -> Any:
    """acts_on: for an optimizer the twins of its parameters, in order; for a schedule the torch
    optimizer. A function, or a functools.partial of one, needs nothing."""
    if isinstance(obj, optim.Optimizer):
        if acts_on is None:
            raise TypeError("twin of an optimizer needs the parameters of the twin network")
        return _optimizer(obj, list(acts_on))
    if isinstance(obj, optim.lr_scheduler.LRScheduler):
        if not isinstance(acts_on, torch.optim.Optimizer):
            raise TypeError("twin of a schedule needs the torch optimizer that it acts on")
        return _scheduler(obj, acts_on)
    if isinstance(obj, functools.partial):
        return functools.partial(FUNCTIONS[obj.func], *obj.args, **obj.keywords)
    return FUNCTIONS[obj]


def _class(obj: Any, home: Any, base: type) -> type:
    """torch's class of the same name; for a class of one's own that of its base."""
    for kind in type(obj).__mro__[: type(obj).__mro__.index(base)]:
        if kind.__module__.startswith(base.__module__.rpartition(".")[0]):
            return getattr(home, kind.__name__)
    raise TypeError(f"no twin is known for {type(obj).__module__}.{type(obj).__name__}")


def _optimizer(optimizer: optim.Optimizer, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    own = [p for group in optimizer.param_groups for p in group["params"]]
    if [p.shape for p in own] != [tuple(q.shape) for q in parameters]:
        raise ValueError(
            f"twin: the optimizer's parameters have shapes {[p.shape for p in own]}, "
            f"the given ones {[tuple(q.shape) for q in parameters]}"
        )
    given = optimizer.state_dict()
    groups = [
        {name: _plain(value) for name, value in group.items()}
        | {"params": [parameters[i] for i in group["params"]]}
        for group in given["param_groups"]
    ]
    built = _class(optimizer, torch.optim, optim.Optimizer)(groups)
    state = built.state_dict()
    state["state"] = {i: _tensors(entry) for i, entry in given["state"].items()}
    built.load_state_dict(state)
    return built


def _scheduler(
    scheduler: optim.lr_scheduler.LRScheduler, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    groups = scheduler.optimizer.param_groups
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(
            f"twin: the schedule is for {len(groups)} groups, "
            f"the optimizer has {len(optimizer.param_groups)}"
        )
    kind = _class(scheduler, torch.optim.lr_scheduler, optim.lr_scheduler.LRScheduler)
    state = scheduler.state_dict()
    built = kind(optimizer, **{name: state[name] for name in scheduler._numbers})
    # torch counts its own steps, to warn at the first one that no optimizer.step() came before.
    built.load_state_dict({**state, "_step_count": state["last_epoch"] + 2})
    for theirs, own in zip(optimizer.param_groups, groups, strict=True):
        theirs["lr"], theirs["initial_lr"] = _plain(own["lr"]), _plain(own["initial_lr"])
    return built


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    if isinstance(value, tuple | list):
        return tuple(_plain(v) for v in value)
    if isinstance(value, np.floating):
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


def _tensors(entry: dict[str, Any]) -> dict[str, Any]:
    """The state of a parameter with tensors for arrays, which torch casts as it loads them."""

    def tensor(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [tensor(name, v) for v in value]
        if name == "step":
            return torch.tensor(float(value))
        if isinstance(value, np.ndarray | np.generic):
            value = value.astype(np.float64) if value.dtype == np.longdouble else value
            return torch.tensor(value)
        return value

    return {name: tensor(name, value) for name, value in entry.items()}
