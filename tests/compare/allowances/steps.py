"""Whole steps of small networks: layer by layer, end to end, and of L-BFGS."""

from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import lr_scheduler

from compare import lbfgs
from compare.propagation import Bounds
from compare.tolerance import Tolerance
from compare.trace import Run, torch_step
from tests.compare.allowances import COARSE, Rows, wave
from tests.compare.allowances.black_boxes import Swish
from tests.compare.allowances.draws import Draws, fixed_draws
from torch_ref import modules

nn, STEPS = torch.nn, 2
Case = tuple[Run, np.ndarray, np.ndarray]


def filled(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(torch.tensor(1.5 * wave(*p.shape, phase=k + 0.5)))
    return net.double()


def deep() -> Case:
    net = filled(
        modules.Sequential(
            *(nn.Linear(4, 5), nn.Tanh()),
            modules.Residual(modules.Sequential(nn.Linear(5, 5), nn.Sigmoid())),
            *(nn.BatchNorm1d(5), modules.Sequential(nn.Linear(5, 3))),
        )
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, weight_decay=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)
    clip = partial(clip_grad_norm_, max_norm=1.0)
    return Run(net, nn.MSELoss(), optimizer, schedule, clip), 2 * wave(6, 4), wave(6, 3, phase=1)


def alone() -> Case:
    run = Run(filled(nn.Linear(4, 3)), nn.MSELoss(reduction="none"))
    return run, 2 * wave(6, 4), wave(6, 3, phase=1)


def groups() -> Case:
    """Two groups, a weight that is not trained, and one that is in no group."""
    net = filled(modules.Sequential(nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 3)))
    net[0].weight.requires_grad_(False)
    given = [{"params": [net[2].weight], "lr": 0.5}, {"params": [net[0].weight, net[0].bias]}]
    optimizer = torch.optim.SGD(given, lr=0.2, momentum=0.9)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 1, eta_min=0.05)
    clip = partial(clip_grad_value_, clip_value=0.1)
    run = Run(net, nn.CrossEntropyLoss(), optimizer, schedule, clip)
    return run, 2 * wave(6, 4), np.array([0, 1, 2, 2, 1, 0])


def drawing() -> Case:
    """Random numbers, and a module that nobody has a rule for."""
    net = filled(modules.Sequential(nn.Linear(4, 3), modules.Dropout(0.3, Draws(0)), Swish()))
    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.1)
    run = Run(net, nn.BCEWithLogitsLoss(), optimizer)
    return run, 2 * wave(6, 4), 0.5 + 0.5 * wave(6, 3, phase=1)


def residuals() -> Case:
    drawing = modules.Dropout(0.3, Draws(0))
    inside = modules.Sequential(nn.SiLU(), drawing, modules.Residual(nn.Linear(3, 3)))
    net = filled(modules.Sequential(modules.Residual(nn.Tanh()), modules.Residual(inside)))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.1)
    run = Run(net, modules.HalfSquaredError(), optimizer)
    return run, 2 * wave(6, 3), wave(6, 3, phase=1)


def nothing() -> Case:
    return Run(modules.Sequential(), nn.MSELoss()), 2 * wave(6, 3), wave(6, 3, phase=1)


NETWORKS = {f.__name__: f for f in (deep, alone, groups, drawing, residuals, nothing)}


def draw(shape: tuple) -> np.ndarray:
    return wave(*shape, phase=3)


def tolerated(case: Callable[[], Case]) -> Iterator[tuple[str, Rows]]:
    """Layer by layer."""
    (run, x, y), (other, _, _) = case(), case()
    tolerance = Tolerance(run, COARSE)
    tensors = torch.tensor(x), torch.tensor(y)
    for step in range(STEPS):
        theirs = torch_step(other, *tensors, draw)
        with fixed_draws():
            yield f"step {step + 1}", tolerance.step(theirs, y, draw)
        torch_step(run, *tensors, draw)


def propagated(case: Callable[[], Case]) -> Iterator[tuple[str, Rows]]:
    """End to end. As if both sides computed in float16, which is coarse."""
    run, x, y = case()
    bounds = Bounds(run, np.dtype(np.float16))
    for step in range(STEPS):
        with fixed_draws():
            yield f"step {step + 1}", bounds.step(torch.tensor(x), torch.tensor(y), draw)
    bounds.restart()
    with fixed_draws():
        yield "after a restart", bounds.step(torch.tensor(x), torch.tensor(y), draw)


TOLERATED = {name: partial(tolerated, case) for name, case in NETWORKS.items()}
PROPAGATED = {name: partial(propagated, case) for name, case in NETWORKS.items()}


def regression(**options: object) -> Case:
    net = filled(modules.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    order = list(net.parameters())[::-1]
    optimizer = torch.optim.LBFGS(order, **{"max_iter": 3, "tolerance_change": 0.0} | options)
    return Run(net, nn.MSELoss(), optimizer), 2 * wave(6, 3), wave(6, 2, phase=1)


class Idle(nn.Linear):
    """A parameter has no gradient."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.idle = nn.Parameter(torch.zeros(2))


def idle() -> Case:
    net = filled(modules.Sequential(Idle(3, 2)))
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
    return Run(net, nn.MSELoss(), optimizer), 2 * wave(6, 3), wave(6, 2, phase=1)


def clipped_regression(**options: object) -> Case:
    run, x, y = regression(**options)
    return run._replace(clip=partial(clip_grad_norm_, max_norm=1.0)), x, y


def probed(case: Callable[[], Case]) -> Iterator[tuple[str, Rows]]:
    """Of the bounds, the rows that L-BFGS leaves; and what the witness has for them."""
    run, x, y = case()
    bounds = Bounds(run, np.dtype(np.float32))
    for step in range(STEPS):
        with fixed_draws():
            found = bounds.step(torch.tensor(x), torch.tensor(y))
        own = {n: e for n, e in found.items() if n.startswith(("updated", "state"))}
        yield f"step {step + 1}", own
        with fixed_draws(), patch.object(lbfgs.Rounding, "of", staticmethod(lambda dtype: COARSE)):
            witness = bounds.witness_of_lbfgs()
        rows = {f"{name}, witness": value for name, (value, _) in witness.items()}
        rows |= {f"{name}, its error": error for name, (_, error) in witness.items()}
        yield f"step {step + 1}, witness", rows


PROBED = {
    "plain": partial(probed, partial(regression, lr=0.1)),
    "line search": partial(probed, partial(regression, line_search_fn="strong_wolfe")),
    "idle": partial(probed, idle),
    "clipped": partial(probed, partial(clipped_regression, lr=0.1)),
}
