"""The state that a run of `training.fit` can be resumed from: what it holds, what is refused.

A state is a dict of dicts, lists, tuples, arrays, numbers and texts:

    about           what the run is of: network, criterion, optimizer and arguments, in words
    history         [epoch, loss, validation loss, seconds] of every epoch that is done
    best            the number of the best of them, or 0
    best_network    the network's state dict after it, or None without early stopping
    stopped         why no epoch comes after these, or "epochs"
    generator       the state of the generator of the batch order, or None
    network, optimizer, scheduler (where there is one): their state dicts
    generators      path → state of every generator that the network's modules draw from
"""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

# What reading a state that makes no sense ends in, here and in torch.
REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
REASONS = ("epochs", "early stopping", "tolerance", "callback")


class ResumeError(ValueError):
    """A state that a run cannot go on from; nothing is changed."""


class Generators:
    """The numpy.random.Generators that the modules of a network (manual's or torch's) hold, as
    Dropout does, with a state dict for all."""

    def __init__(self, net: Any) -> None:
        self.own = {
            f"{path}.{name}" if path else name: value
            for path, module in net.named_modules()
            for name, value in vars(module).items()
            if hasattr(value, "bit_generator")
        }

    def state_dict(self) -> dict[str, Any]:
        return {name: generator.bit_generator.state for name, generator in self.own.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for generators of other names or kinds."""
        if state.keys() != self.own.keys():
            raise ValueError(
                f"the state has generators {sorted(state)}, the network {sorted(self.own)}"
            )
        for name, generator in self.own.items():
            generator.bit_generator.state = state[name]


def resumable(parts: Mapping[str, Any], required: bool) -> dict[str, Any]:
    """The parts that have a state dict. Raises TypeError where all must have one."""
    kept = {name: part for name, part in parts.items() if hasattr(part, "load_state_dict")}
    for name in parts.keys() - kept.keys() if required else ():
        raise TypeError(
            f"fit: to be resumed, a run needs a {name} with state_dict and load_state_dict; "
            f"{type(parts[name]).__name__} has none"
        )
    return kept


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], epochs: int) -> None:
    """Raise ValueError unless a run whose state is `own` can go on from `state`, as far as can be
    told without loading it."""
    if not isinstance(state, Mapping):
        raise TypeError(f"expected a state (a dict), got {type(state).__name__}")
    if state.keys() != own.keys():
        raise ValueError(f"the state has {sorted(state)}, expected {sorted(own)}")
    for name, value in own["about"].items():
        given = state["about"].get(name)
        if given != value or type(given) is not type(value):
            raise ValueError(f"{name} is {value!r}, but the state's is {given!r}")
    _check_network("network", state["network"], own["network"])
    if own["about"]["patience"] is not None and state["best_network"] is not None:
        _check_network("best_network", state["best_network"], own["network"])
    _check_kinds("optimizer", state["optimizer"]["param_groups"], own["optimizer"]["param_groups"])
    if "scheduler" in own:
        _check_kinds("scheduler", state["scheduler"], own["scheduler"])
    _check_history(state, own["about"])
    if len(state["history"]) > epochs:
        raise ValueError(f"the state is of epoch {len(state['history'])}, after epochs={epochs}")


def _check_network(what: str, given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    if given.keys() != own.keys():
        raise ValueError(f"the state's {what} has {sorted(given)}, expected {sorted(own)}")
    for name, value in own.items():
        found = given[name]
        if not isinstance(found, np.ndarray):
            raise TypeError(f"{name} of the state's {what} is no array: {type(found).__name__}")
        if (found.shape, found.dtype) != (value.shape, value.dtype):
            raise ValueError(
                f"{name} of the state's {what} is {found.dtype} of shape {found.shape}, "
                f"expected {value.dtype} of shape {value.shape}"
            )


def _check_kinds(what: str, given: Any, own: Any) -> None:
    """Raise ValueError unless there is a number where own has one, and so on all the way down."""
    if isinstance(own, Mapping):
        alike = isinstance(given, Mapping) and given.keys() == own.keys()
        pairs = {name: (given[name], own[name]) for name in own} if alike else {}
    elif isinstance(own, list | tuple):
        alike = isinstance(given, list | tuple) and len(given) == len(own)
        pairs = dict(enumerate(zip(given, own, strict=True))) if alike else {}
    elif isinstance(own, Real) and not isinstance(own, bool):
        number = isinstance(given, Real) and not isinstance(given, bool)
        alike, pairs = number and math.isfinite(given) == math.isfinite(own), {}
    else:
        alike, pairs = isinstance(given, type(own)), {}
    if not alike:
        raise ValueError(f"the state's {what} is {given!r}, expected something like {own!r}")
    for name, (theirs, mine) in pairs.items():
        _check_kinds(f"{what}, {name}", theirs, mine)


def _check_history(state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    history, best = state["history"], state["best"]
    kinds = (int, float, float if about["validation"] else type(None), float)
    if not isinstance(history, list) or any(
        not isinstance(entry, list) or tuple(map(type, entry)) != kinds for entry in history
    ):
        raise ValueError(
            "the state's history is no list of [epoch, loss, validation loss, seconds]"
        )
    if [entry[0] for entry in history] != list(range(1, len(history) + 1)):
        raise ValueError("the state's history does not count its epochs from 1")
    if (
        type(best) is not int
        or not 0 <= best <= len(history)
        or (bool(best) != (about["validation"] and bool(history)))
    ):
        raise ValueError(f"the state's best epoch is {best!r} of {len(history)}")
    if (state["best_network"] is None) != (about["patience"] is None or best == 0):
        raise ValueError("the state has weights of a best epoch where there is none, or lacks them")
    if state["stopped"] not in REASONS:
        raise ValueError(f"the state's run stopped for {state['stopped']!r}")
