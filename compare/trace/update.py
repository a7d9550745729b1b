"""What comes after the gradients on either side: clipping, the update, the schedule's step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from compare.trace.record import Run, Tensor
from manual import optim

LBFGS = optim.LBFGS | torch.optim.LBFGS
Named = Callable[[], dict[str, tuple[Any, Any]]]


def clip_rows(run: Run, parameters: list, named: Named, array: Callable) -> list[Tensor]:
    """Clip, where there is a clip. named(): {name: (value, gradient)} as they are now; array: makes
    a copy that is a NumPy array."""
    if run.clip is None:
        return []
    norm = run.clip(parameters)
    rows = [] if norm is None else [Tensor("grad_norm", "backward", array(norm))]
    rows += [
        Tensor(f"clipped.{name}", "backward", array(grad))
        for name, (_, grad) in named().items()
        if grad is not None
    ]
    return rows


def update_rows(run: Run, closure: Callable | None, named: Named, array: Callable) -> list[Tensor]:
    """The optimizer's step, where there is an optimizer. closure: for L-BFGS."""
    if run.optimizer is None:
        return []
    rows = []
    if isinstance(run.optimizer, LBFGS):
        run.optimizer.step(closure)
        kept = lbfgs_state(run.optimizer)
        rows = [Tensor(name, "updated", array(value)) for name, value in kept.items()]
    else:
        run.optimizer.step()
    return rows + [Tensor(f"updated.{n}", "updated", array(v)) for n, (v, _) in named().items()]


def rate_rows(run: Run) -> list[Tensor]:
    """The schedule's step, where there is a schedule."""
    if run.scheduler is None:
        return []
    run.scheduler.step()
    return [
        Tensor(f"lr.{k}", "updated", np.array(float(group["lr"])))
        for k, group in enumerate(run.optimizer.param_groups)
    ]


def lbfgs_state(optimizer: Any) -> dict[str, Any]:
    """Row name → what its next step starts from: the last direction and the last gradient."""
    state = optimizer.state_dict()["state"].get(0, {})
    return {f"state.{k}": state[k] for k in ("d", "prev_flat_grad") if state.get(k) is not None}
