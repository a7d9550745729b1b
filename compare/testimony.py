"""What the third witness says about the rows of a step, and who is wrong by it."""

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from compare.judge import blame
from compare.oracle import Witness
from compare.oracle.witness import DRAWN
from compare.trace import (
    LBFGS,
    RESIDUALS,
    Draw,
    Passage,
    Run,
    Tensor,
    TorchStep,
    Unit,
    cotangent,
    dotted,
    named_buffers,
    own_parameters,
    prediction_row,
    units,
)
from manual import nn

WORST = 3  # entries of a failing tensor that are asked about for being furthest off; else 1
Index = tuple[int, ...]


class Judged(NamedTuple):
    """A row, the tensors it judges (None: missing), and what they may be apart (None: nothing)."""

    row: dict[str, Any]
    manual: Tensor | None
    torch: Tensor | None
    allowed: np.ndarray | None


class _OfPrediction:
    """A criterion of manual's side with its target, as a module."""

    def __init__(self, criterion: Any, target: np.ndarray) -> None:
        self.criterion, self.target = criterion, target

    def named_parameters(self) -> tuple:
        return ()

    def forward(self, prediction: np.ndarray) -> np.ndarray:
        floats = self.target.dtype.kind == "f"
        target = self.target.astype(prediction.dtype) if floats else self.target
        return self.criterion.forward(prediction, target)


class _TorchOfPrediction(torch.nn.Module):
    """The same of torch's, in float64."""

    def __init__(self, criterion: torch.nn.Module, target: np.ndarray) -> None:
        super().__init__()
        self.criterion, self.target = criterion, torch.from_numpy(target)

    def forward(self, prediction: torch.Tensor) -> torch.Tensor:
        return self.criterion(prediction, self.target)


class Testimony:
    """Asks the witness, step after step.

    every: about every tensor, not only about those that fail.
    """

    def __init__(self, own: Run, dtype: np.dtype, seed: int, every: bool) -> None:
        self.witness, self.every = Witness(dtype, seed), every
        self.dtype, self.steps = dtype, 0
        self.scheduler = copy.deepcopy(own.scheduler)
        if own.optimizer is not None and not isinstance(own.optimizer, LBFGS):
            names = {id(p): name for name, p in own.net.named_parameters()}
            kept = own.optimizer.state_dict()["state"]
            groups = own.optimizer.param_groups
            self.options = [{k: v for k, v in g.items() if k != "params"} for g in groups]
            parameters = [p for group in groups for p in group["params"]]
            self.states = {names[id(p)]: kept.get(k, {}) for k, p in enumerate(parameters)}

    def step(
        self,
        before: Run,
        exact: Run,
        theirs: TorchStep,
        y: np.ndarray,
        draw: Draw,
        rows: Iterable[Judged],
        certain: Callable[[], dict[str, np.ndarray]],
    ) -> None:
        """Fill in `oracle` and `blame`, and the verdict where both sides are wrong together.

        before: copies of manual's side as it was; exact: the float64 twins as they were;
        certain(): row name → what is allowed for certain, as no side is accused on a probability.
        """
        self.steps += 1
        self.theirs, self.certain = theirs, cache(certain)
        self.judged = {judged.row["name"]: judged for judged in rows}
        self.shapes = {f"grad.{n}": np.shape(p.data) for n, p in before.net.named_parameters()}
        twins = {unit.path: unit.module for unit in units(exact.net)}
        for unit in units(before.net):
            if unit.path in theirs.passages:
                self._unit(unit, twins[unit.path])
                _draw(unit.module, theirs.passages[unit.path].x.shape)
        self._loss(before.criterion, exact.criterion, prediction_row(before.net), y, draw)
        self._update(before)
        for judged in self.judged.values():
            self._structure(judged)

    @property
    def _drawn(self) -> int:
        """How many entries of a gradient are asked about beside the worst: after the first step
        none, as the backwards are the same and each takes time."""
        return DRAWN if self.steps == 1 else 0

    @property
    def asked(self) -> str:
        """How much was asked, in words."""
        asked, of = self.witness.asked, self.witness.of
        if not of:
            return "; the oracle was not asked about gradients"
        return f"; the oracle was asked about {asked:,} of {of:,} entries of gradients"

    def about(
        self, rows: Iterable[Judged], answers: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """Rows more, and what the witness has there: from data as exact as either side's, and with
        an error of its own."""
        for judged in rows:
            name = judged.row["name"]
            self.judged[name] = judged
            if name in answers and judged.allowed is not None:
                value, error = answers[name]
                self._whole(name, (value, error + judged.allowed / 2))
            self._structure(judged)

    def _wanted(self, name: str) -> bool:
        """Whether the witness is asked about that row."""
        judged = self.judged.get(name)
        if judged is None or judged.row["verdict"] in ("missing", "shape", "dtype"):
            return False
        return self.every or judged.row["verdict"] in ("mismatch", "nonfinite")

    def _misshapen(self, name: str) -> bool:
        judged = self.judged.get(name)
        return judged is not None and judged.row["verdict"] == "shape"

    def _unit(self, unit: Unit, exact: torch.nn.Module) -> None:
        passage, module = self.theirs.passages[unit.path], unit.module
        around = isinstance(module, RESIDUALS)
        if around:
            inner_y, inner_dx = self._inside(unit, passage)
            if inner_y is None:
                return
            theta = {"module": inner_y}
        else:
            theta = {name: np.asarray(p.data) for name, p in module.named_parameters()}
            theta |= dict(named_buffers(module))
        if self._wanted(unit.y) or self._misshapen(unit.y):
            self._whole(unit.y, self.witness.output(module, theta, passage.x))
        buffers = [name for name in theta if self._wanted(dotted("buffer", unit.path, name))]
        if buffers:
            after = self.witness.buffers(module, theta, passage.x)
            for name in buffers:
                self._whole(dotted("buffer", unit.path, name), after.get(name))
        if passage.dy is None:
            return
        rows = {"": unit.dx}
        rows |= {n: dotted("grad", unit.path, n) for n, _ in own_parameters(module)}
        rows = {name: row for name, row in rows.items() if self._wanted(row)}
        found = self.witness.gradients(
            *(module, exact, theta, passage.x, passage.dy),
            {name: self._worst(row) for name, row in rows.items()},
            self._drawn,
        )
        for name, row in rows.items():
            answers = found[name]
            if around and inner_dx is None:
                answers = {}
            elif around:
                answers = {i: (float(v) + float(inner_dx[i]), e) for i, (v, e) in answers.items()}
            self._entries(row, answers)

    def _inside(self, unit: Unit, passage: Passage) -> tuple[Any, Any]:
        """Of a Residual's module: its output and its dx on torch's side (None: not there)."""
        inside = list(units(unit.module))[:-1]
        if not inside:  # y = x + x
            return passage.x, passage.dy
        first = next(u for u in inside if u.dx == dotted("d_x", "module"))
        ends = [self.theirs.passages.get(dotted(unit.path, u.path)) for u in (first, inside[-1])]
        return (None, None) if any(end is None for end in ends) else (ends[1].y, ends[0].dx)

    def _loss(
        self, criterion: Any, exact: torch.nn.Module, row: str, y: np.ndarray, draw: Draw
    ) -> None:
        prediction, value = self.theirs.prediction, self.theirs.rows["loss"].value
        if self._wanted("loss") or self._misshapen("loss"):
            self._whole("loss", self.witness.loss(criterion, prediction, y))
        if self._wanted(row):
            dloss = cotangent(criterion, value, draw)
            worst, drawn = self._worst(row), self._drawn
            found = self.witness.dprediction(criterion, prediction, y, dloss, worst, drawn)
            if found is None:  # a criterion of somebody's own: a module of the prediction
                own, built = _OfPrediction(criterion, y), _TorchOfPrediction(exact, y)
                dloss = np.ones(()) if dloss is None else dloss
                found = self.witness.gradients(
                    *(own, built, {}, prediction, dloss, {"": worst}), drawn
                )[""]
            self._entries(row, found)

    def _update(self, before: Run) -> None:
        values = {name: row.value for name, row in self.theirs.rows.items()}
        parameters = dict(before.net.named_parameters())
        stage = "grad" if before.clip is None else "clipped"
        named = [name for name in parameters if f"grad.{name}" in values]
        rows = [f"clipped.{name}" for name in named]
        if before.clip is not None and any(self._wanted(row) for row in ("grad_norm", *rows)):
            found = self.witness.clipped(before.clip, [values[f"grad.{name}"] for name in named])
            if found is not None:
                for row, answer in zip(("grad_norm", *rows), (found[0], *found[1]), strict=True):
                    self._whole(row, answer)
        if before.optimizer is not None and not isinstance(before.optimizer, LBFGS):
            names = {id(p): name for name, p in parameters.items()}
            groups = before.optimizer.param_groups
            for group, options in zip(groups, self._options(groups), strict=True):
                for p in group["params"]:
                    name = names[id(p)]
                    g = values.get(f"{stage}.{name}")
                    answer = None
                    if g is not None:
                        answer = self.witness.updated(
                            before.optimizer, options, p.data, g, self.states[name]
                        )
                    self._whole(f"updated.{name}", answer)
        if self.scheduler is not None:
            rates = self.witness.rates(self.scheduler, self.scheduler.last_epoch + self.steps)
            for k, rate in enumerate(rates or ()):
                self._whole(f"lr.{k}", tuple(np.array(v) for v in rate))

    def _options(self, groups: list[dict]) -> list[dict]:
        """Of each group, what it was handed over with and the schedule's lr: an optimizer that
        changes its own is wrong. The lr is that of the group where it is the schedule's but for
        rounding, which the row of the lr is for."""
        now, scheduled = [group["lr"] for group in groups], [own["lr"] for own in self.options]
        if self.scheduler is not None:
            epochs = self.scheduler.last_epoch + self.steps - 1
            rates = self.witness.rates(self.scheduler, epochs)
            scheduled = now if rates is None else [rate for rate, _ in rates]  # nobody knows it
        found = []
        for own, lr, right in zip(self.options, now, scheduled, strict=True):
            near = abs(lr - right) <= 8 * self.steps * 2.0**-53 * max(right, own["lr"])
            found.append(own | {"lr": lr if near else right})
        return found

    def _worst(self, name: str) -> list[Index]:
        """The entries where the two sides are furthest apart."""
        judged = self.judged[name]
        own = judged.row["worst"]
        if judged.row["verdict"] in ("ok", "vacuous"):
            return [] if own is None else [own]
        a, b = judged.manual.value, judged.torch.value
        with np.errstate(all="ignore"):
            share = np.abs(a.astype(np.float64) - b) / (self._e(judged) + np.finfo(float).tiny)
        share = np.where(np.isfinite(share), share, np.inf).ravel()
        largest = np.argsort(-share, kind="stable")[: min(WORST, share.size)]
        found = [tuple(int(i) for i in np.unravel_index(k, a.shape)) for k in largest]
        return list(dict.fromkeys([own, *found]))

    def _e(self, judged: Judged) -> np.ndarray:
        """What rounding can do on one side."""
        shape = judged.torch.value.shape
        return np.broadcast_to(0.0 if judged.allowed is None else judged.allowed / 2, shape)

    def _whole(self, name: str, answer: tuple[np.ndarray, np.ndarray] | None) -> None:
        """An answer for every element."""
        if answer is not None and self._misshapen(name):
            self.shapes[name] = np.shape(answer[0])
        if answer is None or not self._wanted(name):
            return
        judged = self.judged[name]
        value, error = answer
        if value.shape != judged.torch.value.shape:
            return
        with np.errstate(all="ignore"):
            m, t = (side.value.astype(np.float64) for side in (judged.manual, judged.torch))
            e = self._e(judged)
            off = np.minimum(np.abs(m - value), np.abs(t - value)) / (2 * e + error)
        indices = self._worst(name)
        if not np.isnan(off).all():
            k = np.unravel_index(int(np.nanargmax(off)), off.shape)
            indices.insert(1, tuple(int(i) for i in k))
        self._entries(name, {i: (value[i], error[i]) for i in dict.fromkeys(indices)})

    def _entries(self, name: str, answers: dict[Index, tuple[float, float]]) -> None:
        """Answers for some elements."""
        row, a, b, _ = judged = self.judged[name]
        if row["worst"] in answers:
            row["oracle"] = float(answers[row["worst"]][0])
        e = self._e(judged)
        failed = row["verdict"] in ("mismatch", "nonfinite")
        u = np.finfo(self.dtype).eps / 2
        for index, (value, error) in answers.items():
            m, t = float(a.value[index]), float(b.value[index])
            if abs(value) > np.finfo(self.dtype).max:  # nobody could have it
                continue
            if failed:  # e is that of torch's value: where it is another, so is its rounding
                error = error + 16 * u * abs(float(value) - (t if np.isfinite(t) else 0.0))
            found = blame(m, t, float(value), float(e[index]), float(error))
            if found in (None, "undecided"):
                continue
            surely = np.maximum(e, np.broadcast_to(self.certain().get(name, 0.0), e.shape) / 2)
            sure = blame(m, t, float(value), float(surely[index]), float(error))
            if failed:
                row["blame"] = found if sure in (None, "undecided") else sure
                return
            # Two sides that agree are wrong together only where both are certainly so.
            if blame(m, t, float(value), float(2 * surely[index]), float(error)) == "both":
                share = abs(m - float(value)) / float(2 * e[index]) if e[index] else np.inf
                row |= {"worst": index, "manual": m, "torch": t, "oracle": float(value)}
                row |= {"allowed": float(2 * e[index]), "used": share}
                row |= {"verdict": "mismatch", "blame": "both"}
                return

    def _structure(self, judged: Judged) -> None:
        """Who is wrong where it takes no value to see; and "undecided" where nobody knows."""
        row, a, b, _ = judged
        verdict = row["verdict"]
        if verdict in ("ok", "vacuous") or row["blame"] is not None:
            return
        row["blame"] = "undecided"
        if verdict == "missing":
            row["blame"] = "manual" if a is None else "torch"
        elif verdict in ("shape", "dtype"):
            right = self._shape(row["name"]) if verdict == "shape" else self.dtype
            if right is not None:
                found = [getattr(side.value, verdict) != right for side in (a, b)]
                row["blame"] = {(True, True): "both", (True, False): "manual"}.get(
                    tuple(found), "torch"
                )
        elif verdict == "nonfinite":
            nan = [np.isnan(side) for side in (row["manual"], row["torch"])]
            if any(nan) and not all(nan):
                row["blame"] = "manual" if nan[0] else "torch"

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """That of a gradient or an updated value is that of what it belongs to."""
        if name in self.shapes:
            return self.shapes[name]
        kind, _, rest = name.partition(".")
        if kind in ("clipped", "updated"):
            return self.shapes.get(f"grad.{rest}")
        if kind == "d_activation":
            return self.theirs.rows[dotted("activation", rest)].value.shape
        if kind == "d_x" and not rest:
            return self.theirs.rows["x"].value.shape
        return None


def _draw(module: Any, shape: tuple) -> None:
    """What a forward takes from a generator, which a later module may share."""
    if isinstance(module, nn.Dropout) and module.training and module.p > 0:
        module.generator.random(shape)
