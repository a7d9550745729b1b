"""A step on torch's side; the gradients are autograd's."""

from typing import NamedTuple

import numpy as np
import torch

from compare.trace.record import Draw, Run, Tensor, changed, cotangent
from compare.trace.unit import Unit, dotted, own_parameters, units
from compare.trace.update import clip_rows, rate_rows, update_rows


class Passage(NamedTuple):
    """What passed through one unit. dy, dx: None where autograd did not come there."""

    x: np.ndarray
    y: np.ndarray
    dy: np.ndarray | None
    dx: np.ndarray | None


class TorchStep(NamedTuple):
    """A recorded step: its rows by name, in causal order, and what passed through each unit."""

    rows: dict[str, Tensor]
    passages: dict[str, Passage]
    prediction: np.ndarray


class _Hooks:
    """What passes through the units, noted by hooks. Each input and output is a view of its own,
    and has its own gradient."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.units = list(units(net))
        self.values: dict[tuple[str, str], torch.Tensor] = {}
        self.handles = []
        for unit in self.units:
            self.handles.append(unit.module.register_forward_pre_hook(self._input(unit.path)))
            self.handles.append(unit.module.register_forward_hook(self._output(unit.path)))

    def _noted(self, path: str, which: str, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"compare: the forward of the twin's {path!r} must return a tensor, "
                f"got a {type(tensor).__name__}"
            )
        self.values[path, which] = tensor.detach().clone()
        own = tensor.view_as(tensor)
        if own.requires_grad:
            own.register_hook(lambda g: self._passed(path, f"d{which}", g))
        return own

    def _passed(self, path: str, which: str, gradient: torch.Tensor | None) -> None:
        if gradient is not None:  # which a backward of somebody's own may return
            self.values[path, which] = gradient.detach().clone()

    def _input(self, path: str):
        return lambda module, inputs: (self._noted(path, "x", inputs[0]), *inputs[1:])

    def _output(self, path: str):
        return lambda module, inputs, output: self._noted(path, "y", output)

    def passages(self) -> dict[str, Passage]:
        """Of the units that forward came through."""
        arrays = {key: _array(value) for key, value in self.values.items()}
        return {
            unit.path: Passage(*(arrays.get((unit.path, which)) for which in Passage._fields))
            for unit in self.units
            if (unit.path, "y") in arrays
        }


def torch_step(run: Run, x: torch.Tensor, y: torch.Tensor, draw: Draw | None = None) -> TorchStep:
    """Run one step on torch's side, which it changes; record it.

    draw(shape): the cotangent of a loss that is no scalar.
    """
    net, criterion = run.net, run.criterion
    given = x.clone().requires_grad_(x.is_floating_point())
    parameters = dict(net.named_parameters())
    tensors = {"x": given, "y": y} | parameters
    before = {name: _array(tensor) for name, tensor in tensors.items()}
    net.zero_grad()
    hooks = _Hooks(net)
    try:
        prediction = net(given)
        handed = _array(prediction)
        loss = criterion(prediction, y)
        if loss.requires_grad:
            dloss = cotangent(criterion, loss, draw)
            loss.backward(None if dloss is None else torch.tensor(dloss).to(loss))
    finally:
        for handle in hooks.handles:
            handle.remove()
    passages = hooks.passages()
    rows = [Tensor("x", "forward", before["x"])]
    rows += changed(before, {name: _array(tensor) for name, tensor in tensors.items()})
    rows += [Tensor(dotted("activation", k), "forward", p.y) for k, p in passages.items()]
    rows += [Tensor(f"buffer.{name}", "forward", _array(b)) for name, b in net.named_buffers()]
    rows.append(Tensor("loss", "forward", _array(loss)))
    rows += _gradients(hooks.units, passages)
    if given.grad is not None:
        rows.append(Tensor("d_x", "backward", _array(given.grad)))

    def closure() -> torch.Tensor:
        net.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        if run.clip is not None:
            run.clip(parameters.values())
        return loss

    def named() -> dict[str, tuple]:
        return {name: (p, p.grad) for name, p in parameters.items()}

    rows += clip_rows(run, list(parameters.values()), named, _array)
    rows += update_rows(run, closure, named, _array)
    rows += rate_rows(run)
    return TorchStep({row.name: row for row in rows}, passages, handed)


def _gradients(all_units: list[Unit], passages: dict[str, Passage]) -> list[Tensor]:
    """Of outputs, parameters, and (no other tensor's gradient) of what goes into a Residual's
    module, which comes after all inside it."""
    rows: list[Tensor] = []
    entered: list[Unit] = []

    def leave(until: str) -> None:
        while entered and not until.startswith(f"{entered[-1].path}."):
            unit = entered.pop()
            dx = passages[unit.path].dx if unit.path in passages else None
            if dx is not None:
                rows.append(Tensor(unit.dx, "backward", dx))

    for unit in reversed(all_units):
        leave(unit.path)
        if unit.path in passages and passages[unit.path].dy is not None:
            rows.append(Tensor(unit.dy, "backward", passages[unit.path].dy))
        for name, p in own_parameters(unit.module):
            if p.grad is not None:
                rows.append(Tensor(dotted("grad", unit.path, name), "backward", _array(p.grad)))
        if unit.inside:
            entered.append(unit)
    leave("")
    return rows


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A copy, on the CPU."""
    return tensor.numpy(force=True).copy()
