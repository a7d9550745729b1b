"""One training step of either side, recorded tensor by tensor in causal order."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from manual import nn, optim
from torch_ref import modules

Draw = Callable[[tuple], np.ndarray]
RESIDUALS = nn.Residual | modules.Residual
LBFGS = optim.LBFGS | torch.optim.LBFGS


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
    """(dotted path, module) of what a step runs through, in the order in which their outputs come:
    the modules inside Sequentials, and a Residual after what is inside it."""
    if isinstance(net, nn.Sequential | modules.Sequential):
        for name, child in net.named_children():
            for path, module in units(child):
                yield dotted(name, path), module
        return
    if isinstance(net, RESIDUALS):
        for path, module in units(net.module):
            yield dotted("module", path), module
    yield "", net


def own_parameters(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, parameter) of a unit: of all inside it that are not units themselves."""
    return iter(()) if isinstance(module, RESIDUALS) else module.named_parameters()


def dotted(*parts: str) -> str:
    """dotted("grad", "0", "weight") = "grad.0.weight"; empty parts (a network that is a single
    module has the path "") are left out."""
    return ".".join(part for part in parts if part)


class Run(NamedTuple):
    """One side of a comparison, manual or torch. clip(parameters) changes the gradients before the
    optimizer takes them; optimizer, scheduler and clip may be None."""

    net: Any
    criterion: Any
    optimizer: Any = None
    scheduler: Any = None
    clip: Callable | None = None


def manual_step(run: Run, x: np.ndarray, y: np.ndarray, draw: Draw | None = None) -> list[Tensor]:
    """Run one step on manual's side (which it changes, and x where a module does); record it.

    draw(shape): the cotangent of a loss that is no scalar. A gradient that no backward wrote is
    not among the rows. Where a backward raises, what was recorded until then is handed on in a
    `BackwardError`.
    """
    net, criterion = run.net, run.criterion
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
    dloss = cotangent(criterion, loss, draw)
    dloss = None if dloss is None else np.asarray(dloss, prediction.dtype)
    dx, error, trained = None, None, []
    try:
        dx = net.backward(criterion.backward(dloss))
        _forget(net)
        trained = _trained(net, parameters, lambda: criterion.backward(dloss))
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
    rows += [Tensor(f"buffer.{n}", "forward", b.copy()) for n, b in net.named_buffers()]
    rows += [Tensor("loss", "forward", _scalar(loss, prediction)), *upstream]
    if error is not None:
        raise BackwardError(rows, error)
    rows += trained
    rows.append(Tensor("d_x", "backward", np.array(dx)))

    def closure() -> float:
        loss = criterion(net(x), y)
        net.backward_parameters(criterion.backward())
        if run.clip is not None:
            run.clip(parameters.values())
        return loss

    named = {name: (p.data, p.grad) for name, p in parameters.items()}
    return rows + _update(run, closure, parameters.values(), lambda: named, np.array)


def _update(
    run: Run, closure: Callable, parameters: Iterable, named: Callable, array: Callable
) -> list[Tensor]:
    """What comes after the gradients. named(): {name: (value, gradient)} as they are now."""
    rows = []
    if run.clip is not None:
        norm = run.clip(parameters)
        if norm is not None:
            rows.append(Tensor("grad_norm", "backward", array(norm)))
        rows += [
            Tensor(f"clipped.{name}", "backward", array(grad))
            for name, (_, grad) in named().items()
            if grad is not None
        ]
    if run.optimizer is not None:
        if isinstance(run.optimizer, LBFGS):
            run.optimizer.step(closure)
            kept = lbfgs_state(run.optimizer)
            rows += [Tensor(name, "updated", array(value)) for name, value in kept.items()]
        else:
            run.optimizer.step()
        rows += [Tensor(f"updated.{n}", "updated", array(v)) for n, (v, _) in named().items()]
    if run.scheduler is not None:
        run.scheduler.step()
        rows += [
            Tensor(f"lr.{k}", "updated", np.array(float(group["lr"])))
            for k, group in enumerate(run.optimizer.param_groups)
        ]
    return rows


def cotangent(criterion: Any, loss: Any, draw: Draw) -> np.ndarray | None:
    """∂L/∂loss where the loss is not the L that is differentiated: with reduction "none"."""
    return draw(np.shape(loss)) if getattr(criterion, "reduction", "") == "none" else None


def _scalar(loss: float | np.floating, prediction: np.ndarray) -> np.ndarray:
    """The loss as an array; a Python float has no dtype of its own and takes the prediction's."""
    return np.array(loss, prediction.dtype if type(loss) is float else None)


def _spoil(parameters: dict[str, nn.Parameter]) -> None:
    """Forget all gradients, so that one that is not written, or added to, shows."""
    for p in parameters.values():
        p.overwrite_grad()[...] = np.nan
        p.grad = None


def _trained(
    net: nn.Module, parameters: dict[str, nn.Parameter], dprediction: Callable[[], np.ndarray]
) -> list[Tensor]:
    """Do what training does, `backward_parameters`, and leave its gradients in place. The rows are
    those that are not bit for bit what `backward` gave: none, unless something is wrong."""
    expected = {name: None if p.grad is None else p.grad.copy() for name, p in parameters.items()}
    _spoil(parameters)
    net.backward_parameters(dprediction())
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
        for name, p in own_parameters(module):
            if p.grad is not None:
                upstream.append(Tensor(dotted("grad", path, name), "backward", p.grad.copy()))
        return dx

    module.forward, module.backward = recording_forward, recording_backward


def _forget(net: nn.Module) -> None:
    for _, module in units(net):
        del module.forward, module.backward


def torch_step(
    run: Run, x: torch.Tensor, y: torch.Tensor, draw: Draw | None = None
) -> list[Tensor]:
    """The same on torch's side; the gradients are autograd's."""
    net, criterion = run.net, run.criterion
    given = x.clone().requires_grad_(x.is_floating_point())
    parameters = dict(net.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    net.zero_grad(set_to_none=True)
    copies: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}

    def hook(path: str):
        def keep(module, inputs, output: torch.Tensor) -> torch.Tensor:
            copies[path] = output.detach().clone()
            own = output.view_as(output)  # Identity returns its input: each output has a gradient
            if own.requires_grad:
                own.register_hook(lambda g: gradients.__setitem__(path, g.detach().clone()))
            return own

        return keep

    handles = [module.register_forward_hook(hook(path)) for path, module in units(net)]
    try:
        loss = criterion(net(given), y)
        if loss.requires_grad:
            dloss = cotangent(criterion, loss, draw)
            loss.backward(None if dloss is None else torch.tensor(dloss).to(loss))
    finally:
        for handle in handles:
            handle.remove()
    rows = [Tensor("x", "forward", _array(given))]
    rows += _changed(
        {name: _array(v) for name, v in before.items()},
        {name: _array(p) for name, p in parameters.items()},
    )
    rows += [Tensor(dotted("activation", k), "forward", _array(v)) for k, v in copies.items()]
    rows += [Tensor(f"buffer.{name}", "forward", _array(b)) for name, b in net.named_buffers()]
    rows.append(Tensor("loss", "forward", _array(loss)))
    for path, module in reversed(list(units(net))):
        if path in gradients:
            rows.append(Tensor(dotted("d_activation", path), "backward", _array(gradients[path])))
        for name, p in own_parameters(module):
            if p.grad is not None:
                rows.append(Tensor(dotted("grad", path, name), "backward", _array(p.grad)))
    if given.grad is not None:
        rows.append(Tensor("d_x", "backward", _array(given.grad)))

    def closure() -> torch.Tensor:
        net.zero_grad(set_to_none=True)
        loss = criterion(net(x), y)
        loss.backward()
        if run.clip is not None:
            run.clip(parameters.values())
        return loss

    return rows + _update(
        run,
        closure,
        parameters.values(),
        lambda: {name: (p, p.grad) for name, p in parameters.items()},
        _array,
    )


def lbfgs_state(optimizer: Any) -> dict[str, Any]:
    """Row name → what its next step starts from: the last direction and the last gradient."""
    state = optimizer.state_dict()["state"].get(0, {})
    return {f"state.{k}": state[k] for k in ("d", "prev_flat_grad") if state.get(k) is not None}


def _changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[Tensor]:
    """What forward or backward changed and must not: none, unless something is wrong."""
    return [
        Tensor(name, "forward", value.copy())
        for name, value in after.items()
        if not np.array_equal(value, before[name], equal_nan=True)
    ]


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A copy, on the CPU."""
    return tensor.numpy(force=True).copy()
