"""One step of every side, judged: layer by layer, then end to end."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from compare import vacuity
from compare.judge import COLUMNS, judge
from compare.propagation import Bounds
from compare.rounding import Rounding
from compare.sides import copy_values, go_on, moved, torch_run
from compare.testimony import Judged, Testimony
from compare.tolerance import Tolerance
from compare.trace import (
    LBFGS,
    Draw,
    Run,
    StepError,
    Tensor,
    TorchStep,
    layerwise_step,
    manual_step,
    torch_step,
    units,
)

Row = dict[str, Any]
Rows = dict[str, Tensor]
Arrays = dict[str, np.ndarray]
LBFGS_REASON = "L-BFGS: four times the spread of its results when all it sees is rounded otherwise"
WHOLE_REASON = "the roundings of every layer, one after the other, through the whole step"


class Sides:
    """Manual as it trains (`own`) and layer by layer, torch, and torch in float64.

    reasons: (step, row name) → where the allowance comes from.
    """

    def __init__(
        self, own: Run, given: Any, dtype: np.dtype, device: str, seed: int, oracle: bool
    ) -> None:
        for name, p in own.net.named_parameters():
            if p.data.dtype != dtype:
                raise TypeError(
                    f"compare: x is {dtype}, but the network's {name!r} is {p.data.dtype}: "
                    f"expected dtype {p.data.dtype}"
                )
        self.device = device
        self.theirs = torch_run(own, given, device, getattr(torch, dtype.name))
        self.exact = torch_run(own, given, "cpu", torch.float64)
        self.rounding = Rounding.of(dtype)
        self.tolerance = Tolerance(self.exact, self.rounding)
        self.bounds = Bounds(self.exact, dtype)
        self.testimony = Testimony(own, dtype, seed, oracle)
        self.own = moved(own, device)
        self.layers = copy.deepcopy(self.own)
        self.steps, self.reasons = 0, {}
        self.units = {unit.y: unit for unit in units(self.layers.net)}
        self.whole = True  # nothing failed yet that would show again end to end

    def go_on(self) -> None:
        """Put every side where manual stands after its step."""
        if isinstance(self.own.optimizer, LBFGS):  # its closures draw random numbers, too
            self.layers = copy.deepcopy(self.own)
        copy_values(self.layers.net, self.own.net)
        go_on(self.theirs, self.own)
        go_on(self.exact, self.own)
        self.bounds.restart()

    def step(self, x: np.ndarray, y: np.ndarray, draw: Draw) -> tuple[list[Row], list[str]]:
        """The rows of the next step, and what manual raised: nobody can go on from there."""
        self.steps += 1
        theirs = self._torch_step(x, y, draw)
        before = moved(copy.deepcopy(self.layers), "cpu")
        mine, raised = layerwise_step(self.layers, x.copy(), y.copy(), theirs, draw)
        exact_y = y.astype(np.float64 if y.dtype.kind == "f" else np.int64)
        allowed = self.tolerance.step(theirs, exact_y, draw)
        self.reasons |= {(self.steps, n): text for n, text in self.tolerance.reasons.items()}
        rows = {n: row for n, row in theirs.rows.items() if not self._of_the_whole(n)}
        judged = [self._layer(a, b, allowed, theirs, mine) for a, b in paired(mine, rows)]

        def certain() -> Arrays:
            """What is allowed without the probability that sums of many terms rest on."""
            surely = Tolerance(self.exact, self.rounding._replace(certain=True))
            return surely.step(theirs, exact_y, draw)

        self.testimony.step(before, self.exact, theirs, exact_y, draw, judged, certain)
        found = [each.row for each in judged] + self._unreached(mine, rows)
        self.whole &= _fine(found)
        try:
            real = manual_step(self.own, x.copy(), y.copy(), draw)
        except StepError as error:
            real, raised = error.rows, raised or [str(error)]
        tx, ty = torch.from_numpy(x).double(), torch.from_numpy(exact_y)
        if self.whole:
            found += self._end_to_end(real, theirs, self.bounds.step(tx, ty, draw))
            self.whole = _fine(found)
        else:
            torch_step(self.exact, tx, ty, draw)
        return found, raised

    def _torch_step(self, x: np.ndarray, y: np.ndarray, draw: Draw) -> TorchStep:
        tensors = (torch.from_numpy(t.copy()).to(self.device) for t in (x, y))
        tx, ty = (t if t.is_floating_point() else t.long() for t in tensors)
        try:
            return torch_step(self.theirs, tx, ty, draw)
        except Exception:
            try:  # bad input: manual's error is the clearer one
                manual_step(copy.deepcopy(self.own), x.copy(), y.copy(), draw)
            except StepError as error:
                raise error.error from None
            raise

    def _of_the_whole(self, name: str) -> bool:
        """L-BFGS runs the whole network as often as it likes: these rows have no layer."""
        return isinstance(self.own.optimizer, LBFGS) and name.startswith(("updated.", "state."))

    def _layer(
        self, a: Tensor | None, b: Tensor | None, allowed: Arrays, theirs: TorchStep, mine: Rows
    ) -> Judged:
        name = (a or b).name
        row = judge(self.steps, a, b, allowed.get(name))
        if row["verdict"] == "ok":
            unit = self.units.get(name)
            one_sided = unit is not None and vacuity.vacuous_output(
                unit, theirs.passages[unit.path]
            )
            if one_sided or vacuity.vacuous_gradient(a, b):
                row["verdict"] = "vacuous"
        elif (a or b).expected is not None:  # what should not be there at all
            row["blame"] = "manual" if name in mine else "torch"
        return Judged(row, a, b, allowed.get(name))

    def _unreached(self, mine: Rows, theirs: Rows) -> list[Row]:
        """A row for each parameter that neither side has a gradient of."""
        rows = []
        for name, p in self.own.net.named_parameters():
            key = f"grad.{name}"
            if key not in mine and key not in theirs:
                row = dict.fromkeys(COLUMNS, np.nan) | {"worst": None, "blame": None}
                row |= {"step": self.steps, "name": key, "stage": "backward"}
                row |= {"shape": tuple(p.data.shape), "dtype": str(p.data.dtype)}
                rows.append(row | {"manual": "nothing", "torch": "nothing", "verdict": "vacuous"})
        return rows

    def _end_to_end(self, real: list[Tensor], theirs: TorchStep, allowed: Arrays) -> list[Row]:
        """Rows of the step as it is in training: those that have no layer; and the first that
        fails, where every layer by itself is right."""
        rows, failed, asked = [], False, []
        unbounded = any(
            self._of_the_whole(name) and not np.isfinite(e).all() for name, e in allowed.items()
        )
        for a, b in paired({row.name: row for row in real}, theirs.rows):
            name = (a or b).name
            bound = allowed.get(name)
            if bound is not None:  # where there is no bound, layer by layer is all there is
                bound = np.where(np.isfinite(bound), bound, np.finfo(np.float64).max)
            row = judge(self.steps, a, b, bound)
            if self._of_the_whole(name):
                self.reasons[self.steps, name] = LBFGS_REASON
                rows.append(row)
                if unbounded and row["verdict"] in ("ok", "mismatch", "missing"):
                    row |= {"verdict": "vacuous", "allowed": np.inf, "used": 0.0}
                else:
                    asked.append(Judged(row, a, b, bound))
            elif row["verdict"] != "ok" and not failed:
                failed = True
                row["name"] = name if name.endswith(")") else f"{name} (end to end)"
                self.reasons[self.steps, row["name"]] = WHOLE_REASON
                rows.append(row | {"blame": "manual"})
        if self.testimony.every or not _fine([each.row for each in asked]):
            self.testimony.about(asked, self.bounds.witness_of_lbfgs() if asked else {})
        return rows


def _fine(rows: list[Row]) -> bool:
    return all(row["verdict"] in ("ok", "vacuous") for row in rows)


def paired(mine: Rows, theirs: Rows) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """Both sides' rows by name, in causal order: torch's, with what only manual has put in place.
    Of a row that says what it must be, that is the other side."""
    order, before = list(theirs), None
    for name in mine:
        if name not in theirs:
            base = name.partition(" ")[0]
            anchor = base if base in order else before
            order.insert(order.index(anchor) + 1 if anchor else 0, name)
        before = name
    for name in order:
        a, b = mine.get(name), theirs.get(name)
        if a is None and b.expected is not None:
            a = b._replace(value=b.expected)
        if b is None and a.expected is not None:
            b = a._replace(value=a.expected)
        yield a, b
