"""A step on manual's side, layer by layer: each fed torch's own input and upstream gradient.

One wrong layer is then one wrong row. The network runs as in training, but every unit hands on
what torch has in its place; criterion, clipping and optimizer likewise start from torch's values.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from compare.trace.manual_side import (
    Shadow,
    buffer_rows,
    data,
    forget,
    gradient_of_loss,
    gradient_rows,
    scalar,
    shadow,
    spoil,
)
from compare.trace.record import Draw, Run, Tensor, changed, cotangent, kept, same
from compare.trace.torch_side import TorchStep
from compare.trace.unit import Unit, prediction_row, units
from compare.trace.update import LBFGS, clip_rows, rate_rows, update_rows
from manual.arrays import as_array, as_if, is_array


def layerwise_step(
    run: Run, x: np.ndarray, y: np.ndarray, theirs: TorchStep, draw: Draw | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Run one step on manual's side (which it changes), feeding each part with `theirs`.

    Returns the rows by name, and what raised: those rows are not there. L-BFGS asks for the loss
    of the whole network as often as it likes, and is not judged here.
    """
    notes = _Notes(theirs, run.device)
    parameters = dict(run.net.named_parameters())
    y = as_array(y, run.device)
    before = {"y": kept(y)} | data(parameters)
    spoil(parameters)
    shadows = [notes.shadow(unit) for unit in units(run.net)]
    prediction = notes.attempt("forward", run.net.forward, notes.hand_on("x", x))
    if prediction is not None and not same(prediction, theirs.prediction):
        notes.add(Tensor("prediction", "forward", kept(prediction), theirs.prediction))
    prediction = notes.hand_on("prediction", theirs.prediction)
    _loss(run, notes, prediction, y, draw)
    forget(shadows)
    notes.add(Tensor("x", "forward", x))
    for row in (
        *changed(before, {"y": y} | data(parameters)),
        *buffer_rows(run.net),
        *notes.changed(),
    ):
        notes.add(row)
    _update(run, notes, parameters)
    return notes.rows, notes.errors


class _Notes:
    """The rows, and what was handed on."""

    def __init__(self, theirs: TorchStep, device: str) -> None:
        self.theirs, self.device = theirs, device
        self.rows: dict[str, Tensor] = {}
        self.errors: list[str] = []
        self.handed: list[tuple[str, np.ndarray, np.ndarray]] = []
        self.silent: set[str] = set()  # rows that a backward did not come to

    def add(self, row: Tensor) -> None:
        self.rows[row.name] = row

    def attempt(self, what: str, function: Callable, *arguments: Any) -> Any:
        """function(*arguments), or None where it raises."""
        try:
            return function(*arguments)
        except Exception as error:  # whatever a hand-written module may raise
            self.errors.append(f"manual's {what} raised {type(error).__name__}: {error}")
            return None

    def array(self, what: str, function: Callable, argument: np.ndarray) -> Any:
        """The array that it returns, which a list would not be to the next layer."""
        value = self.attempt(what, function, argument)
        if value is None or isinstance(value, np.generic) or is_array(value):
            return value
        kind = type(value).__name__
        self.errors.append(f"manual's {what} returned a {kind}, expected an ndarray")
        return None

    def hand_on(self, name: str, value: np.ndarray) -> np.ndarray:
        """A copy of torch's value, where manual's side is; whether somebody changes it is seen
        later."""
        self.handed.append((name, as_array(value.copy(), self.device), value))
        return self.handed[-1][1]

    def changed(self) -> list[Tensor]:
        return [
            Tensor(f"{name} (changed)", "forward", kept(given), value)
            for name, given, value in self.handed
            if not same(given, value)
        ]

    def shadow(self, unit: Unit) -> Shadow:
        """Shadow forward and backward by ones that note what comes out and hand on torch's."""
        forward, backward = unit.module.forward, unit.module.backward
        passage = self.theirs.passages.get(unit.path)
        what = f"of {type(unit.module).__name__} {unit.path!r}"

        def noting_forward(x: np.ndarray) -> np.ndarray:
            y = self.array(f"forward {what}", forward, x)
            if y is not None:
                self.add(Tensor(unit.y, "forward", kept(y)))
            return y if passage is None else self.hand_on(unit.y, passage.y)

        def noting_backward(dy: np.ndarray) -> np.ndarray:
            self.passed(unit.dy, dy)
            raised = len(self.errors)
            dx = self.array(f"backward {what}", backward, dy)
            if dx is None:
                self.silent.add(unit.dx)
            else:
                self.add(Tensor(unit.dx, "backward", kept(dx)))
            for row in gradient_rows(unit) if len(self.errors) == raised else ():
                self.add(row)
            if passage is None or passage.dx is None:
                return dx
            return self.hand_on(unit.dx, passage.dx)

        return shadow(unit.module, forward=noting_forward, backward=noting_backward)

    def passed(self, name: str, gradient: np.ndarray) -> None:
        """Note a gradient on its way, unless it is what was handed on in that row's place."""
        theirs = self.theirs.rows.get(name)
        handed = theirs is not None and (name in self.rows or name in self.silent)
        if not (handed and same(gradient, theirs.value)):
            self.add(Tensor(name, "backward", kept(gradient)))


def _loss(
    run: Run, notes: _Notes, prediction: np.ndarray, y: np.ndarray, draw: Draw | None
) -> None:
    """The loss, its gradient, and the way back."""
    criterion, row = run.criterion, prediction_row(run.net)
    loss = notes.attempt("loss", criterion.forward, prediction, y)
    if loss is None:
        return
    notes.add(Tensor("loss", "forward", scalar(loss, prediction)))
    theirs = notes.theirs.rows.get(row)
    dloss = cotangent(criterion, notes.theirs.rows["loss"].value, draw)
    dloss = None if dloss is None else as_if(prediction, dloss.astype(prediction.dtype))
    dprediction = notes.attempt("loss backward", gradient_of_loss, criterion, dloss)
    if dprediction is None:
        notes.silent.add(row)
    else:
        notes.add(Tensor(row, "backward", kept(dprediction)))
        dprediction = as_array(dprediction)
    if theirs is not None:
        dprediction = notes.hand_on(row, theirs.value)
    if dprediction is None:
        return
    dx = notes.attempt("backward", run.net.backward, dprediction)
    if dx is not None:
        notes.passed("d_x", dx)


def _update(run: Run, notes: _Notes, parameters: dict[str, Any]) -> None:
    """Clipping from torch's gradients, the update from torch's clipped ones."""

    def named() -> dict[str, tuple]:
        return {name: (p.data, p.grad) for name, p in parameters.items()}

    def take_gradients(stage: str) -> None:
        for name, p in parameters.items():
            row = notes.theirs.rows.get(f"{stage}.{name}")
            p.grad = None if row is None else row.value.copy()

    def update() -> list[Tensor]:
        take_gradients("grad")
        rows = clip_rows(run, list(parameters.values()), named, kept)
        if rows:
            take_gradients("clipped")
        if not isinstance(run.optimizer, LBFGS):
            rows += update_rows(run, None, named, kept)
        return rows + rate_rows(run)

    for row in notes.attempt("update", update) or ():
        notes.add(row)
