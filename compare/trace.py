"""One training step of either side, recorded tensor by tensor in causal order."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from manual import nn
from torch_ref import modules


class Tensor(NamedTuple):
    """A copy of one recorded tensor. stage: "forward", "backward" or "updated"."""

    name: str
    stage: str
    value: np.ndarray


class BackwardError(Exception):
    """A backward of manual raised `error` after `rows` had been recorded."""

    def __init__(self, rows: list[Tensor], error: Exception) -> None:
        super().__init__(f"manual's backward raised {type(error).__name__}: {error}")
        self.rows, self.error = rows, error


def units(net: Any) -> Iterator[tuple[str, Any]]:
    """(dotted path, module) of what a step runs through: the modules inside all Sequentials."""
    if isinstance(net, nn.Sequential | modules.Sequential):
        for name, child in net.named_children():
            for path, module in units(child):
                yield dotted(name, path), module
    else:
        yield "", net


def dotted(*parts: str) -> str:
    """dotted("grad", "0", "weight") = "grad.0.weight"; empty parts (a network that is a single
    module has the path "") are left out."""
    return ".".join(part for part in parts if part)


def manual_step(
    net: nn.Module, criterion: nn.Criterion, optimizer: Any, x: np.ndarray, y: np.ndarray
) -> list[Tensor]:
    """Run one step on `net` (which it changes, and x where a module does) and record it.

    A gradient that no backward wrote is not among the rows. Where a backward raises, what was
    recorded until then is handed on in a `BackwardError`.
    """
    parameters = dict(net.named_parameters())
    before = {name: p.data.copy() for name, p in parameters.items()}
    given_y = y.copy()
    _spoil(parameters)
    outputs: dict[str, np.ndarray] = {}
    upstream: list[Tensor] = []
    for path, module in units(net):
        _record(module, path, outputs, upstream)
    prediction = net(x)
    loss = criterion(prediction, y)
    dx, error, trained = None, None, []
    try:
        dx = net.backward(criterion.backward())
        _forget(net)
        trained = _trained(net, parameters, criterion)
    except Exception as raised:  # whatever a hand-written backward may raise
        error = raised
    # Copied only now: what a later module did to an earlier one's output shows.
    rows = [Tensor("x", "forward", x.copy())]
    rows += _changed(
        {**before, "y": given_y}, {**{name: p.data for name, p in parameters.items()}, "y": y}
    )
    rows += [
        Tensor(dotted("activation", path), "forward", np.array(y)) for path, y in outputs.items()
    ]
    rows += [Tensor("loss", "forward", _scalar(loss, prediction)), *upstream]
    if error is not None:
        raise BackwardError(rows, error)
    rows += trained
    rows.append(Tensor("d_x", "backward", np.array(dx)))
    if optimizer is not None:
        optimizer.step()
        rows += [Tensor(f"updated.{n}", "updated", p.data.copy()) for n, p in parameters.items()]
    return rows


def _scalar(loss: float | np.floating, prediction: np.ndarray) -> np.ndarray:
    """The loss as an array; a Python float has no dtype of its own and takes the prediction's."""
    return np.array(loss, prediction.dtype if type(loss) is float else None)


def _spoil(parameters: dict[str, nn.Parameter]) -> None:
    """Forget all gradients, so that one that is not written, or added to, shows."""
    for p in parameters.values():
        p.overwrite_grad()[...] = np.nan
        p.grad = None


def _trained(
    net: nn.Module, parameters: dict[str, nn.Parameter], criterion: nn.Criterion
) -> list[Tensor]:
    """Do what training does, `backward_parameters`, and leave its gradients in place. The rows are
    those that are not bit for bit what `backward` gave: none, unless something is wrong."""
    expected = {name: None if p.grad is None else p.grad.copy() for name, p in parameters.items()}
    _spoil(parameters)
    net.backward_parameters(criterion.backward())
    rows = []
    for name, p in parameters.items():
        if expected[name] is None and p.grad is None:
            continue
        found = np.full_like(p.data, np.nan) if p.grad is None else p.grad.copy()
        if expected[name] is None or not np.array_equal(found, expected[name], equal_nan=True):
            rows.append(Tensor(f"grad.{name} (backward_parameters)", "backward", found))
    return rows


def _record(
    module: nn.Module, path: str, outputs: dict[str, np.ndarray], upstream: list[Tensor]
) -> None:
    """Shadow the instance's forward and backward by ones that note what passes through."""
    forward, backward = module.forward, module.backward

    def recording_forward(x: np.ndarray) -> np.ndarray:
        outputs[path] = y = forward(x)
        return y

    def recording_backward(dy: np.ndarray) -> np.ndarray:
        upstream.append(Tensor(dotted("d_activation", path), "backward", np.array(dy)))
        dx = backward(dy)
        for name, p in module.named_parameters():
            if p.grad is not None:
                upstream.append(Tensor(dotted("grad", path, name), "backward", p.grad.copy()))
        return dx

    module.forward, module.backward = recording_forward, recording_backward


def _forget(net: nn.Module) -> None:
    for _, module in units(net):
        del module.forward, module.backward


def torch_step(
    net: torch.nn.Module,
    criterion: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    x: torch.Tensor,
    y: torch.Tensor,
) -> list[Tensor]:
    """The same on torch's side; the gradients are autograd's."""
    given = x.clone().requires_grad_(x.is_floating_point())
    parameters = dict(net.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    net.zero_grad(set_to_none=True)
    copies: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}

    def hook(path: str):
        def keep(module, inputs, output: torch.Tensor) -> None:
            copies[path] = output.detach().clone()
            if output.requires_grad:
                output.register_hook(lambda g: gradients.__setitem__(path, g.detach().clone()))

        return keep

    handles = [module.register_forward_hook(hook(path)) for path, module in units(net)]
    try:
        loss = criterion(net(given), y)
        if loss.requires_grad:
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    rows = [Tensor("x", "forward", _array(given))]
    rows += _changed(
        {name: _array(v) for name, v in before.items()},
        {name: _array(p) for name, p in parameters.items()},
    )
    rows += [Tensor(dotted("activation", k), "forward", _array(v)) for k, v in copies.items()]
    rows.append(Tensor("loss", "forward", _array(loss)))
    for path, module in reversed(list(units(net))):
        if path in gradients:
            rows.append(Tensor(dotted("d_activation", path), "backward", _array(gradients[path])))
        for name, p in module.named_parameters():
            if p.grad is not None:
                rows.append(Tensor(dotted("grad", path, name), "backward", _array(p.grad)))
    if given.grad is not None:
        rows.append(Tensor("d_x", "backward", _array(given.grad)))
    if optimizer is not None:
        optimizer.step()
        rows += [Tensor(f"updated.{n}", "updated", _array(p)) for n, p in parameters.items()]
    return rows


def _changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[Tensor]:
    """What forward or backward changed and must not: none, unless something is wrong."""
    return [
        Tensor(name, "forward", value.copy())
        for name, value in after.items()
        if not np.array_equal(value, before[name], equal_nan=True)
    ]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
