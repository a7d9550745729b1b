"""A step on manual's side, as it is in training."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from compare.trace.record import Draw, Run, Tensor, changed, cotangent, kept, same
from compare.trace.unit import Unit, dotted, named_buffers, own_parameters, units
from compare.trace.update import clip_rows, rate_rows, update_rows
from manual.arrays import as_array, as_if, host


class StepError(Exception):
    """A forward, backward or update of manual raised `error` after `rows` had been recorded."""

    def __init__(self, rows: list[Tensor], error: Exception) -> None:
        super().__init__(f"manual raised {type(error).__name__}: {error}")
        self.rows, self.error = rows, error


def manual_step(run: Run, x: np.ndarray, y: np.ndarray, draw: Draw | None = None) -> list[Tensor]:
    """Run one step on manual's side (which it changes, and x where a module does); record it.

    draw(shape): the cotangent of a loss that is no scalar. A gradient that no backward wrote is
    not among the rows. Where something raises, what was recorded until then is handed on in a
    `StepError`.
    """
    rows: list[Tensor] = []
    try:
        _record(run, x, y, draw, rows)
    except Exception as error:  # whatever a hand-written module may raise
        raise StepError(rows, error) from error
    return rows


def _record(run: Run, x: np.ndarray, y: np.ndarray, draw: Draw | None, rows: list[Tensor]) -> None:
    net, criterion = run.net, run.criterion
    parameters = dict(net.named_parameters())
    x, y = as_array(x, run.device), as_array(y, run.device)
    given = {"x": x, "y": y}
    before = {name: kept(value) for name, value in given.items()} | data(parameters)
    spoil(parameters)
    others = copy.deepcopy((net, criterion))
    outputs: dict[str, np.ndarray] = {}
    upstream: list[Tensor] = []
    shadows = [_note(unit, outputs, upstream) for unit in units(net)]
    try:
        prediction = net.forward(x)
        loss = criterion.forward(prediction, y)
        _elsewhere(*others, x, y)
        dloss = cotangent(criterion, loss, draw)
        dloss = None if dloss is None else as_if(prediction, dloss.astype(prediction.dtype))
        dx = net.backward(gradient_of_loss(criterion, dloss))
    finally:
        forget(shadows)
        # Copied only now: what a later module did to an earlier one's output shows.
        rows.append(Tensor("x", "forward", before["x"]))
        rows += changed(before, given | data(parameters))
        rows += [Tensor(name, "forward", kept(y)) for name, y in outputs.items()]
        rows += buffer_rows(net)
    rows += [Tensor("loss", "forward", scalar(loss, prediction)), *upstream]
    rows += _trained(net, parameters, lambda: gradient_of_loss(criterion, dloss))
    rows.append(Tensor("d_x", "backward", kept(dx)))

    def closure() -> float:
        loss = criterion(net(x), y)
        net.backward_parameters(criterion.backward())
        if run.clip is not None:
            run.clip(parameters.values())
        return loss

    def named() -> dict[str, tuple]:
        return {name: (p.data, p.grad) for name, p in parameters.items()}

    rows += clip_rows(run, list(parameters.values()), named, kept)
    rows += update_rows(run, closure, named, kept)
    rows += rate_rows(run)


def _elsewhere(net: Any, criterion: Any, x: np.ndarray, y: np.ndarray) -> None:
    """A forward of copies, at another point: nothing of it may come back in this backward. Where
    it is not defined there, no matter."""
    try:
        criterion.forward(net.forward(np.flip(x) * x.dtype.type(0.875)), y.copy())
    except Exception:
        return


def gradient_of_loss(criterion: Any, dloss: np.ndarray | None) -> np.ndarray:
    """A criterion of one's own need not take the cotangent of a scalar."""
    return criterion.backward() if dloss is None else criterion.backward(dloss)


def scalar(loss: float | np.floating, prediction: np.ndarray) -> np.ndarray:
    """The loss as an array; a Python float has no dtype of its own and takes the prediction's."""
    return np.array(host(loss), prediction.dtype if type(loss) is float else None)


def buffer_rows(net: Any) -> list[Tensor]:
    return [Tensor(f"buffer.{name}", "forward", kept(b)) for name, b in named_buffers(net)]


def data(parameters: dict[str, Any]) -> dict[str, np.ndarray]:
    """Copies of their values."""
    return {name: kept(p.data) for name, p in parameters.items()}


def spoil(parameters: dict[str, Any]) -> None:
    """Forget all gradients, so that one that is not written, or added to, shows."""
    for p in parameters.values():
        if hasattr(p, "overwrite_grad"):
            p.overwrite_grad()[...] = np.nan
        p.grad = None


def _trained(
    net: Any, parameters: dict[str, Any], dprediction: Callable[[], np.ndarray]
) -> list[Tensor]:
    """Do what training does, `backward_parameters`, and leave its gradients in place. The rows are
    those that are not bit for bit what `backward` gave: none, unless something is wrong."""
    if not hasattr(net, "backward_parameters"):
        return []
    expected = {name: None if p.grad is None else kept(p.grad) for name, p in parameters.items()}
    for name, p in parameters.items():  # gradients of the last step stay in place in training
        p.grad = None if expected[name] is None else _nothing(p)
    net.backward_parameters(dprediction())
    rows = []
    for name, p in parameters.items():
        if expected[name] is None and p.grad is None:
            continue
        found, wanted = (_nothing(p) if g is None else kept(g) for g in (p.grad, expected[name]))
        if not same(found, wanted):
            name = f"grad.{name} (backward_parameters)"
            rows.append(Tensor(name, "backward", found, wanted))
    return rows


def _nothing(p: Any) -> np.ndarray:
    """NaNs in place of its gradient."""
    return np.full(p.data.shape, np.nan, p.data.dtype)


class Shadow(NamedTuple):
    """An instance, and what attributes of its own it had by the names that are shadowed."""

    module: Any
    names: tuple[str, ...]
    own: dict[str, Any]


def shadow(module: Any, **methods: Callable) -> Shadow:
    """Put methods before those of the instance."""
    own = {name: value for name, value in vars(module).items() if name in methods}
    vars(module).update(methods)
    return Shadow(module, tuple(methods), own)


def _note(unit: Unit, outputs: dict[str, np.ndarray], upstream: list[Tensor]) -> Shadow:
    """Shadow the instance's forward and backward by ones that note what passes through."""
    forward, backward = unit.module.forward, unit.module.backward

    def noting_forward(x: np.ndarray) -> np.ndarray:
        outputs[unit.y] = y = forward(x)
        return y

    def noting_backward(dy: np.ndarray) -> np.ndarray:
        upstream.append(Tensor(unit.dy, "backward", kept(dy)))
        dx = backward(dy)
        upstream.extend(gradient_rows(unit))
        if unit.inside:
            upstream.append(Tensor(unit.dx, "backward", kept(dx)))
        return dx

    return shadow(unit.module, forward=noting_forward, backward=noting_backward)


def gradient_rows(unit: Unit) -> list[Tensor]:
    """Of the unit's own parameters, where there are gradients."""
    return [
        Tensor(dotted("grad", unit.path, name), "backward", kept(p.grad))
        for name, p in own_parameters(unit.module)
        if p.grad is not None
    ]


def forget(shadows: Iterable[Shadow]) -> None:
    """Take them away again."""
    for module, names, own in shadows:
        for name in names:
            del vars(module)[name]
        vars(module).update(own)
