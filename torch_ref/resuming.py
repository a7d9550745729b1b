"""A torch object's state as NumPy arrays, so that one kind of state serves both sides."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


class Arrays:
    """A module, optimizer or schedule with arrays for tensors in its state dict; copies."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def state_dict(self) -> dict[str, Any]:
        return _mapped(self.part.state_dict(), _array)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        tensors = _mapped(state, _tensor)
        self.part.load_state_dict(tensors)
        if isinstance(self.part, torch.optim.Optimizer):
            _as_they_were(self.part, tensors)


def _as_they_were(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loading converts every number to its weight's dtype: NAdam's float32 product of a network in
    float64 would go on with other roundings."""
    numbers = [k for group in state["param_groups"] for k in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for k, p in zip(numbers, parameters, strict=True):
        for name, given in state["state"].get(k, {}).items():
            own = optimizer.state[p][name]
            if isinstance(given, torch.Tensor) and given.ndim == 0 and given.dtype != own.dtype:
                optimizer.state[p][name] = given.to(own.device)


def arrays(part: Any) -> Any:
    """`Arrays` of a part that has a state; a schedule of one's own may have none."""
    return Arrays(part) if hasattr(part, "load_state_dict") else part


class Drawn:
    """The state of torch's own generators: the CPU's, and the device's where it is another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        state = {"cpu": _array(torch.get_rng_state())}
        if self.device.type == "cuda":
            state["cuda"] = _array(torch.cuda.get_rng_state(self.device))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(_tensor(state["cpu"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(_tensor(state["cuda"]), self.device)


def _mapped(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same dicts, lists and tuples with leaf(value) for what is none of these."""
    if isinstance(value, Mapping):
        return {key: _mapped(v, leaf) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(v, leaf) for v in value)
    return leaf(value)


def _array(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().copy()
    return copy.deepcopy(value)


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
