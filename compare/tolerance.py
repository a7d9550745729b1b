"""What rounding alone can explain, layer by layer: how far two correct sides may be apart.

Every unit, and the loss, the clipping and the update, start from the same numbers on both sides
(torch's). E(t) bounds the error of one side's t for these inputs; two correct sides differ by at
most 2 E(t). It follows from the dtype's unit roundoff, the sizes and the data; nothing is tuned.
`compare.rounding` has the rules; `compare.propagation` carries errors through a whole step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from compare.rounding import (
    Ball,
    Rounding,
    buffer_rule,
    clip_rule,
    loss_rule,
    rate_rule,
    rule,
    to_use_up,
    update_rule,
)
from compare.trace import (
    LBFGS,
    RESIDUALS,
    Draw,
    Run,
    TorchStep,
    Unit,
    cotangent,
    dotted,
    prediction_row,
    units,
)

Arrays = dict[str, np.ndarray]
UNKNOWN = "four times the largest difference of runs in which every operation is shaken by rounding"
UPDATE = "the roundings of its formula one after the other, from this gradient and what is kept"
RESIDUAL = "y = x + f(x), dx = dy + f's dx: one rounding of the sum"


class Tolerance:
    """2 E for every row of a layer-by-layer step, step after step; and where each comes from.

    run: float64 twins, which `step` looks at and does not change. rounding: of both sides' dtype.
    """

    def __init__(self, run: Run, rounding: Rounding) -> None:
        self.run, self.rounding = run, rounding
        self.kept = optimizer_state(run, self.rounding)

    def step(self, theirs: TorchStep, y: np.ndarray, draw: Draw | None = None) -> Arrays:
        """theirs: torch's step from the values that `run` stands at. Row name → 2 E."""
        self.values = {n: _double(row.value) for n, row in theirs.rows.items()}
        self.bounds: Arrays = {"x": np.zeros(theirs.rows["x"].value.shape)}
        self.reasons = {"x": "the input is given to both sides: nothing was rounded"}
        for unit in units(to_use_up(self.run.net)):
            if unit.path in theirs.passages:
                self._unit(unit, *(_double(t) for t in theirs.passages[unit.path]))
        self._loss(_double(theirs.prediction), y, draw)
        if self.run.clip is not None:
            clip_bounds(self.run, self.values, self.bounds, self._given)
            self._because("clipped.", f"{_name(self.run.clip)}: one factor for all gradients")
            self._because("grad_norm", "the norm: a sum over all gradients, and a square root")
        optimizer = self.run.optimizer
        groups = optimizer.param_groups if optimizer is not None else []
        if optimizer is not None and not isinstance(optimizer, LBFGS):
            before = {
                name: Ball(p.detach().numpy(), 0.0, self.rounding)
                for name, p in self.run.net.named_parameters()
            }
            errors = update_bounds(self.run, before, groups, self.values, self._given, self.kept)
            self.bounds |= {f"updated.{name}": e for name, e in errors.items()}
            self._because("updated.", f"{_name(optimizer)}: {UPDATE}")
        self.bounds |= rate_bounds(self.run, groups, ahead=1)
        self._because("lr.", "a number of Python on both sides: roundings of float64")
        bounds = {n: e for n, e in self.bounds.items() if n in self.values}
        return {n: 2 * at_least(e, self.values[n], self.rounding) for n, e in bounds.items()}

    def _given(self, row: str) -> Ball:
        """Torch's value, which is what both sides start from."""
        return Ball(self.values[row], 0.0, self.rounding)

    def _because(self, prefix: str, reason: str) -> None:
        self.reasons |= {name: reason for name in self.bounds if name.startswith(prefix)}

    def _unit(
        self, unit: Unit, x: np.ndarray, y: np.ndarray, dy: np.ndarray | None, dx: Any
    ) -> None:
        r, module = self.rounding, unit.module
        if isinstance(module, RESIDUALS):
            found = {unit.y: r.u * np.abs(y)}
            if dx is not None:
                found[unit.dx] = r.u * np.abs(dx)
            for last in list(units(module))[:-1][-1:]:  # has dy as it is
                found[dotted("d_activation", unit.path, last.path)] = np.zeros(y.shape)
            reason = f"{_name(module)}: {RESIDUAL}"
        else:
            theta = {
                name: (tensor.detach().numpy(), np.zeros(tensor.shape))
                for name, tensor in (*module.named_parameters(), *module.named_buffers())
            }
            nothing = np.zeros(x.shape)
            buffers = buffer_rule(module, r, theta, x, nothing)
            found = {dotted("buffer", unit.path, name): e for name, e in buffers.items()}
            found[unit.y], backward = rule(module, r, theta, x, nothing)
            if dy is not None:
                found[unit.dx], gradients = backward(dy, np.zeros(dy.shape))
                found |= {dotted("grad", unit.path, name): e for name, e in gradients.items()}
            reason = _reason(rule, module)
        self.bounds |= found
        self.reasons |= dict.fromkeys(found, reason)

    def _loss(self, prediction: np.ndarray, y: np.ndarray, draw: Draw | None) -> None:
        criterion, row = self.run.criterion, prediction_row(self.run.net)
        dloss = cotangent(criterion, self.values["loss"], draw)
        dloss = np.ones(()) if dloss is None else dloss
        nothing = np.zeros(prediction.shape)
        self.bounds["loss"], self.bounds[row] = loss_rule(
            criterion, self.rounding, prediction, nothing, y, dloss
        )
        self.reasons |= dict.fromkeys(("loss", row), _reason(loss_rule, criterion))


def optimizer_state(run: Run, r: Rounding) -> dict[str, dict]:
    """What the optimizer keeps for each parameter, as Balls without an error. Empty for L-BFGS."""
    if run.optimizer is None or isinstance(run.optimizer, LBFGS):
        return {}
    return {
        name: {
            key: float(v) if key == "step" else Ball(v.numpy().copy(), 0.0, r)
            for key, v in run.optimizer.state.get(p, {}).items()
            if v is not None
        }
        for name, p in run.net.named_parameters()
    }


BallOf = Callable[[str], Ball]  # of the row of that name


def clip_bounds(run: Run, values: Arrays, bounds: Arrays, ball: BallOf) -> None:
    """Add the rows of clipping to `bounds`, from the gradients in `values`."""
    names = [n for n, _ in run.net.named_parameters() if f"grad.{n}" in values]
    norm, clipped = clip_rule(run.clip, [ball(f"grad.{name}") for name in names])
    if norm is not None:
        bounds["grad_norm"] = norm.e
    for name, clipped_ball in zip(names, clipped, strict=True):
        bounds[f"clipped.{name}"] = clipped_ball.e


def update_bounds(
    run: Run,
    parameters: dict[str, Ball],
    groups: list[dict],
    values: Arrays,
    ball: BallOf,
    kept: dict[str, dict],
) -> Arrays:
    """E of the parameters after the optimizer's step, by name. parameters, groups: those before it;
    kept: the optimizer's state, changed to what it is afterwards."""
    names = {id(p): name for name, p in run.net.named_parameters()}
    errors = {name: theta.e for name, theta in parameters.items()}
    stage = "grad" if run.clip is None else "clipped"
    for group in groups:
        for name in (names[id(p)] for p in group["params"]):
            row = f"{stage}.{name}"
            if row in values:
                theta = parameters[name]
                new = update_rule(run.optimizer, group, theta, ball(row), kept[name])
                errors[name] = new.e + theta.r.tiny
    return errors


def rate_bounds(run: Run, groups: list[dict], ahead: int) -> Arrays:
    """Of the learning rates after the steps that the schedule has taken, and `ahead` more."""
    if run.scheduler is None:
        return {}
    epochs = run.scheduler.last_epoch + ahead
    return {
        f"lr.{k}": np.array(rate_rule(run.scheduler, group, epochs))
        for k, group in enumerate(groups)
    }


def at_least(e: np.ndarray, value: np.ndarray, r: Rounding) -> np.ndarray:
    """e, or the smallest normal number for values that are hardly larger: there E itself, or what
    it was computed from, may have come out as 0."""
    size = np.abs(value)
    return np.where((size > 0) & (size < r.tiny / r.u), np.maximum(e, r.tiny), e)


def _double(t: np.ndarray | None) -> np.ndarray | None:
    return None if t is None else t.astype(np.float64)


def _reason(rules: Callable, obj: Any) -> str:
    """What the rule for it says of itself."""
    own = rules.dispatch(type(obj))
    text = UNKNOWN if own is rules.dispatch(object) else own.__doc__ or ""
    return f"{_name(obj)}: {' '.join(text.split())}"


def _name(obj: Any) -> str:
    obj = getattr(obj, "func", obj)  # of a functools.partial
    return getattr(obj, "__name__", type(obj).__name__)
