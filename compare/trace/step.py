"""What both sides of a recorded step have in common: names, units, clipping and update."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from manual import nn, optim
from torch_ref import modules

Draw = Callable[[tuple], np.ndarray]
RESIDUALS = nn.Residual | modules.Residual
LBFGS = optim.LBFGS | torch.optim.LBFGS


class Tensor(NamedTuple):
    """A copy of one recorded tensor. stage: "forward", "backward" or "updated". expected: what it
    must be, for a tensor that only one side can have."""

    name: str
    stage: str
    value: np.ndarray
    expected: np.ndarray | None = None


class Run(NamedTuple):
    """One side of a comparison, manual or torch. clip(parameters) changes the gradients before the
    optimizer takes them; optimizer, scheduler and clip may be None."""

    net: Any
    criterion: Any
    optimizer: Any = None
    scheduler: Any = None
    clip: Callable | None = None


class Unit(NamedTuple):
    """A module that a step runs through. dx: the row that its backward's result is."""

    path: str
    module: Any
    dx: str

    @property
    def y(self) -> str:
        return dotted("activation", self.path)

    @property
    def dy(self) -> str:
        return dotted("d_activation", self.path)

    @property
    def inside(self) -> bool:
        """Whether it is the first in a Residual: its dx is no other tensor's gradient."""
        return self.dx.startswith("d_x.")


def units(net: Any) -> Iterator[Unit]:
    """What a step runs through, in the order in which their outputs come: the modules inside
    Sequentials, and a Residual after what is inside it. What is not one of these is one unit."""
    yield from _walk(net, "", "d_x")


def _walk(net: Any, path: str, dx: str) -> Iterator[Unit]:
    if isinstance(net, nn.Sequential | modules.Sequential):
        for name, child in net.named_children():
            last = None
            for last in _walk(child, dotted(path, name), dx):
                yield last
            dx = dx if last is None else last.dy
        return
    if isinstance(net, RESIDUALS):
        inside = dotted(path, "module")
        yield from _walk(net.module, inside, dotted("d_x", inside))
    yield Unit(path, net, dx)


def prediction_row(net: Any) -> str:
    """The row of dLoss/dprediction."""
    last = [unit.dy for unit in units(net)][-1:]
    return last[0] if last else "d_x"


def own_parameters(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, parameter) of a unit: of all inside it that are not units themselves."""
    return iter(()) if isinstance(module, RESIDUALS) else module.named_parameters()


def dotted(*parts: str) -> str:
    """dotted("grad", "0", "weight") = "grad.0.weight"; empty parts (a network that is a single
    module has the path "") are left out."""
    return ".".join(part for part in parts if part)


def cotangent(criterion: Any, loss: Any, draw: Draw) -> np.ndarray | None:
    """∂L/∂loss where the loss is not the L that is differentiated: with reduction "none"."""
    return draw(np.shape(loss)) if getattr(criterion, "reduction", "") == "none" else None


Named = Callable[[], dict[str, tuple[Any, Any]]]


def clip_rows(run: Run, parameters: list, named: Named, array: Callable) -> list[Tensor]:
    """Clip, where there is a clip. named(): {name: (value, gradient)} as they are now; array: makes
    a copy that is a NumPy array."""
    if run.clip is None:
        return []
    norm = run.clip(parameters)
    rows = [] if norm is None else [Tensor("grad_norm", "backward", array(norm))]
    rows += [
        Tensor(f"clipped.{name}", "backward", array(grad))
        for name, (_, grad) in named().items()
        if grad is not None
    ]
    return rows


def update_rows(run: Run, closure: Callable, named: Named, array: Callable) -> list[Tensor]:
    """The optimizer's step, where there is an optimizer."""
    if run.optimizer is None:
        return []
    rows = []
    if isinstance(run.optimizer, LBFGS):
        run.optimizer.step(closure)
        kept = lbfgs_state(run.optimizer)
        rows += [Tensor(name, "updated", array(value)) for name, value in kept.items()]
    else:
        run.optimizer.step()
    return rows + [Tensor(f"updated.{n}", "updated", array(v)) for n, (v, _) in named().items()]


def rate_rows(run: Run) -> list[Tensor]:
    """The schedule's step, where there is a schedule."""
    if run.scheduler is None:
        return []
    run.scheduler.step()
    return [
        Tensor(f"lr.{k}", "updated", np.array(float(group["lr"])))
        for k, group in enumerate(run.optimizer.param_groups)
    ]


def lbfgs_state(optimizer: Any) -> dict[str, Any]:
    """Row name → what its next step starts from: the last direction and the last gradient."""
    state = optimizer.state_dict()["state"].get(0, {})
    return {f"state.{k}": state[k] for k in ("d", "prev_flat_grad") if state.get(k) is not None}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[Tensor]:
    """What a step changed and must not: none, unless something is wrong."""
    return [
        Tensor(f"{name} (changed)", "forward", value.copy(), before[name])
        for name, value in after.items()
        if not same(value, before[name])
    ]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """To the bit, but for signs of 0; NaNs are equal."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
