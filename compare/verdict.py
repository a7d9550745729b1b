"""Rows and verdict: judge every tensor of one or several training steps on both sides."""

import copy
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from compare.tolerance import Bounds
from compare.trace import BackwardError, Run, Tensor, manual_step, torch_step
from manual import nn, optim
from torch_ref import twin, twins
from torch_ref.twin import load

COLUMNS = ["step", "name", "stage", "shape", "dtype", "max_abs", "max_rel", "max_ulp", "allowed"]
COLUMNS += ["used", "worst", "manual", "torch", "oracle", "verdict"]


class EquivalenceError(AssertionError):
    """The two sides differ by more than rounding; the text is the table."""


@dataclass(frozen=True)
class Comparison:
    """The verdict on a pair.

    frame: a row for each tensor, in causal order, with the columns
        step, name, stage, shape, dtype  of manual's tensor (where both have one, they are equal)
        max_abs, max_rel, max_ulp        the largest difference: absolute, relative to torch's
                                         value, in units in the last place of the dtype
        allowed, used                    at the worst element: what rounding alone can explain,
                                         and the difference as a share of it
        worst                            index of the element where `used` is largest
        manual, torch, oracle            the values there (oracle: not computed yet, NaN)
        verdict                          ok, mismatch, nonfinite, shape, dtype or missing
    context: the seed and the versions that reproduce it, and what manual's backward raised, if
        it did; the tensors that it did not come to are missing.
    """

    frame: pd.DataFrame
    context: str

    @property
    def passed(self) -> bool:
        return bool(len(self.frame)) and bool((self.frame.verdict == "ok").all())

    @property
    def blame(self) -> str | None:
        """None where all agree, else "undecided": which side is wrong takes a third witness."""
        return None if self.passed else "undecided"

    @property
    def failures(self) -> pd.DataFrame:
        """The rows that are not ok; the first is the cause or next to it."""
        return self.frame[self.frame.verdict != "ok"]

    def __str__(self) -> str:
        text = table(self.frame)
        count = f"{len(self.frame)} tensors"
        if self.passed:
            return f"{text}\n{count}: all ok, at most {self.frame.used.max():.0%} of the allowance"
        first = self.failures.iloc[0]
        return (
            f"{text}\n{count}, {len(self.failures)} not ok; first: step {first.step}, "
            f"{first['name']}: {describe(first)}\n{self.context}"
        )


def describe(row: pd.Series) -> str:
    """One failing row in words."""
    if row.verdict == "mismatch":
        values = f"manual {_value(row.manual)} and torch {_value(row.torch)} at {list(row.worst)}"
        if not np.isfinite(row.allowed):
            return f"{values} differ, and there is no bound on what rounding may do"
        return f"{values} differ by {row.used:.3g} times what rounding allows ({row.allowed:.3g})"
    if row.verdict == "nonfinite":
        values = f"manual {_value(row.manual)}, torch {_value(row.torch)}"
        return f"not finite at {list(row.worst)}: {values}"
    return f"{row.verdict}: manual has {row.manual}, torch {row.torch}"


def table(frame: pd.DataFrame) -> str:
    """The frame as text, one line a row."""
    shown = frame[["step", "name", "shape", "dtype", "max_abs", "max_ulp", "allowed", "used"]]
    shown = shown.assign(
        shape=[str(list(s)) if isinstance(s, tuple) else "" for s in frame["shape"]],
        max_abs=[_number(v) for v in frame.max_abs],
        max_ulp=[_number(v) for v in frame.max_ulp],
        allowed=[_number(v) for v in frame.allowed],
        used=[_number(100 * v, "%") for v in frame.used],
        worst=[str(list(w)) if isinstance(w, tuple) else "" for w in frame.worst],
        manual=[_value(v) for v in frame.manual],
        torch=[_value(v) for v in frame.torch],
        verdict=frame.verdict,
    )
    return shown.to_string(index=False)


def _number(value: float, unit: str = "") -> str:
    return "" if pd.isna(value) else f"{value:.2g}{unit}"


def _value(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def compare(
    net: nn.Module,
    criterion: nn.Criterion,
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    clip: Callable | None = None,
    steps: int = 1,
    device: str = "cpu",
    seed: int | None = None,
) -> Comparison:
    """Run `steps` training steps on (x, y) with `net` and with its twin, and judge every tensor.

    After each step torch's side goes on from manual's weights and buffers, so that a rounding does
    not grow from step to step until nothing can be told; the state of the optimizer (a momentum,
    say) stays each side's own. Only that of L-BFGS, which is of the points it came by, is manual's
    too, and what its next step starts from is judged: state.d and state.prev_flat_grad.

    x, y: as the network and the criterion take them. Without optimizer: one forward and backward.
    scheduler: of that optimizer; takes a step after each of its steps.
    clip: a functools.partial of clip_grad_norm_ or clip_grad_value_, between backward and update.
    device: torch's side. seed: the one that made this case, for the message; it also draws the
    cotangent of a loss with reduction "none" (seed 0 where it is None).
    Everything is done on copies: net, criterion, optimizer, x and y stay exactly as they are.

    Two correct sides pass: what is allowed follows from rounding alone (`compare.tolerance`).
    Names, shapes and dtypes are compared before values, nothing broadcasts, and a value that is
    not finite on either side fails.

    Raises ValueError or TypeError for arguments that do not go together.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"compare: steps must be a whole number >= 1, got {steps!r}")
    if optimizer is None and steps > 1:
        raise ValueError("compare: more than one step needs an optimizer")
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("compare: the scheduler must be one of the given optimizer")
    x, y = np.array(x), np.array(y)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"compare: x must be float32 or float64, got {x.dtype}")
    if x.size == 0:
        raise ValueError(f"compare: x has no elements (shape {x.shape}), so nothing can be judged")
    own = Run(*copy.deepcopy((net, criterion, optimizer, scheduler)), clip)
    theirs, exact = (_twin_run(own, *on) for on in ((device, None), ("cpu", torch.float64)))
    bounds = Bounds(exact, dtype=x.dtype)
    tx, ty = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
    if not ty.is_floating_point():
        ty = ty.long()
    rows, raised = [], ""
    # Without warnings: a value that is not finite is a verdict here.
    with torch.enable_grad(), np.errstate(all="ignore"):
        for step in range(1, steps + 1):
            if step > 1:
                _go_on(theirs, own, getattr(torch, x.dtype.name))
                _go_on(exact, own, torch.float64)
                bounds.restart()

            def draw(shape: tuple, step: int = step) -> np.ndarray:
                values = np.random.default_rng((seed or 0, step)).normal(size=tuple(shape))
                return values.astype(np.float32)  # the same number in either dtype

            try:
                mine = manual_step(own, x.copy(), y.copy(), draw)
            except BackwardError as error:
                mine, raised = error.rows, f"{error}\n"
            torchs = torch_step(theirs, tx.to(device), ty.to(device), draw)
            exact_y = ty.double() if ty.is_floating_point() else ty
            allowed = bounds.step(tx.double(), exact_y, draw)
            rows += [judge(step, a, b, allowed) for a, b in _paired(mine, torchs)]
            if raised:
                break
    return Comparison(pd.DataFrame(rows, columns=COLUMNS), raised + _context(seed, device))


def _twin_run(own: Run, device: str, dtype: torch.dtype | None) -> Run:
    net, criterion, optimizer = twins(own.net, own.criterion, own.optimizer, device, dtype)
    scheduler = None if own.scheduler is None else twin(own.scheduler, optimizer)
    return Run(net, criterion, optimizer, scheduler, own.clip and twin(own.clip))


def _go_on(side: Run, own: Run, dtype: torch.dtype) -> None:
    """Put torch's side where manual's stands."""
    load(side.net, own.net, dtype)
    if isinstance(own.optimizer, optim.LBFGS):
        parameters = [p for group in side.optimizer.param_groups for p in group["params"]]
        side.optimizer.load_state_dict(twin(own.optimizer, parameters).state_dict())


def assert_equivalent(
    net: nn.Module, criterion: nn.Criterion, x: np.ndarray, y: np.ndarray, **options: Any
) -> None:
    """`compare` (which see for the options) that raises EquivalenceError where it does not pass."""
    comparison = compare(net, criterion, x, y, **options)
    if not comparison.passed:
        raise EquivalenceError(f"manual and torch differ\n{comparison}")


def _paired(mine: list[Tensor], theirs: list[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """Both traces by name, in causal order: torch's, with what only manual has put in place.
    "grad.0.weight (…)" is a second reading of manual's, and judged against the same of torch.
    """
    a, b = {t.name: t for t in mine}, {t.name: t for t in theirs}
    order = list(b)
    for before, name in zip([None, *a], a, strict=False):
        if name not in b:
            order.insert(order.index(before) + 1 if before else 0, name)
    return [(a.get(name), b.get(name.partition(" ")[0])) for name in order]


def judge(
    step: int, a: Tensor | None, b: Tensor | None, allowed: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The row for one tensor: manual's `a` against torch's `b`."""
    some = a or b
    row = dict.fromkeys(COLUMNS, np.nan) | {
        "step": step,
        "name": some.name,
        "stage": some.stage,
        "shape": some.value.shape,
        "dtype": str(some.value.dtype),
        "worst": None,
    }
    for verdict, of in (
        ("missing", lambda t: "nothing" if t is None else "it"),
        ("shape", lambda t: f"shape {list(t.value.shape)}"),
        ("dtype", lambda t: str(t.value.dtype)),
    ):
        if a is None or b is None or of(a) != of(b):
            return row | {"verdict": verdict, "manual": of(a), "torch": of(b)}
    return row | judge_values(a.value, b.value, allowed.get(b.name))


def judge_values(a: np.ndarray, b: np.ndarray, allowed: np.ndarray | None) -> dict[str, Any]:
    """Every element of a against b, both of one shape and dtype. allowed: absolute, elementwise."""
    if a.size == 0:
        return {"max_abs": 0.0, "max_rel": 0.0, "max_ulp": 0.0, "used": 0.0, "verdict": "ok"}
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        worst = np.unravel_index(int(np.argmin(finite)), a.shape)
        return _at(worst, a, b) | {"verdict": "nonfinite"}
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    err = np.abs(a64 - b64)
    allowed = np.zeros(a.shape) if allowed is None else np.broadcast_to(allowed, a.shape)
    bounded = (allowed > 0) & np.isfinite(allowed)  # where it is not, only equality passes
    used = np.divide(err, allowed, out=np.where(err == 0, 0.0, np.inf), where=bounded)
    ok = used <= 1
    worst = np.unravel_index(int(np.argmax(used)), a.shape)
    spacing = np.spacing(np.maximum(np.abs(a), np.abs(b))).astype(np.float64)
    return _at(worst, a, b) | {
        "max_abs": err.max(),
        "max_rel": np.divide(
            err, np.abs(b64), out=np.where(err == 0, 0.0, np.inf), where=b64 != 0
        ).max(),
        "max_ulp": (err / spacing).max(),
        "allowed": allowed[worst],
        "used": used[worst],
        "verdict": "ok" if ok.all() else "mismatch",
    }


def _at(worst: tuple, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    return {
        "worst": tuple(int(i) for i in worst),
        "manual": float(a[worst]),
        "torch": float(b[worst]),
    }


def _context(seed: int | None, device: str) -> str:
    return (
        f"seed {seed}, numpy {np.__version__}, torch {torch.__version__} on {device}, "
        f"python {platform.python_version()}, {platform.machine()}"
    )
