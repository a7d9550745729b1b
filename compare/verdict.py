"""Rows and verdict: judge every tensor of one or several training steps on both sides."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from compare.comparison import Comparison, EquivalenceError, context
from compare.judge import COLUMNS, judge
from compare.tolerance import Bounds
from compare.trace import BackwardError, Run, Tensor, manual_step, torch_step
from manual import nn, optim
from torch_ref import twin, twins
from torch_ref.twin import load


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
            rows += [
                judge(step, a, b, None if b is None else allowed.get(b.name))
                for a, b in _paired(mine, torchs)
            ]
            if raised:
                break
    return Comparison(pd.DataFrame(rows, columns=COLUMNS), raised + context(seed, device))


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
        raise EquivalenceError(comparison)


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
