"""How far rounding alone can move a step of L-BFGS, which evaluates the loss as often as it likes
and goes on as it finds: not by rules, but by trying."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from compare.rounding import Rounding
from compare.trace import Run, lbfgs_state

PROBES, LINEAR = 8, 0.1
Errors = dict[str, np.ndarray]
Moved = Callable[[torch.Tensor, np.ndarray], torch.Tensor]


class Start(NamedTuple):
    """What the step starts from. run: the float64 twins, afterwards; net and state: the network and
    the optimizer's state dict as they were; errors: E of its parameters."""

    run: Run
    net: torch.nn.Module
    state: dict[str, Any]
    x: torch.Tensor
    y: torch.Tensor
    errors: Errors


class Course(NamedTuple):
    """A step. rows: the tensors it leaves, by row name; way: how often the loss was evaluated, how
    many iterations there were, how many points are remembered, and what is left of them."""

    rows: dict[str, np.ndarray]
    way: tuple


def lbfgs_bounds(
    start: Start, r: Rounding, rounding_at: Callable[[torch.nn.Module], Errors]
) -> Errors:
    """E of every row that the step leaves: four times the spread of its results when the starting
    point, and every loss and gradient, is moved at random, up or down, by its error at the point
    where it is evaluated, and every gradient by the rounding of the sums that it goes into.

    rounding_at(network): E of the loss and the gradients there, by row name.

    ∞ where nothing can be told: these steps do not go the same way, so that rounding decides on a
    branch (whether the gradient is small enough to stop, say); or a direction or gradient moves by
    more than a tenth, so that errors no longer grow in proportion.
    """
    generator = np.random.default_rng(0)
    visited: list[Errors] = []

    def moved(tensor: torch.Tensor, e: np.ndarray) -> torch.Tensor:
        return tensor + torch.tensor(e * generator.choice([-1.0, 1.0], np.shape(e)))

    def visit(net: torch.nn.Module, k: int) -> None:
        visited.append(rounding_at(net))

    exact = _course(start, visit, lambda tensor, e: tensor, r)
    probes = [
        _course(start, lambda net, k: visited[min(k, len(visited) - 1)], moved, r)
        for _ in range(PROBES)
    ]
    if any(probe.way != exact.way for probe in probes):
        return dict.fromkeys(exact.rows, np.array(np.inf))
    spread = {
        name: np.max([np.abs(probe.rows[name] - value) for probe in probes], axis=0)
        for name, value in exact.rows.items()
    }
    kept = [name for name in spread if name.startswith("state.")]
    if any(spread[name].max() > LINEAR * np.abs(exact.rows[name]).max() for name in kept):
        return dict.fromkeys(exact.rows, np.array(np.inf))
    return {
        name: 4 * spread[name] + 2 * r.u * np.abs(value) + r.tiny
        for name, value in exact.rows.items()
    }


def _course(
    start: Start, errors: Callable[[torch.nn.Module, int], Errors | None], moved: Moved, r: Rounding
) -> Course:
    """The step, with the k-th loss and its gradients moved by errors(network, k)."""
    names = {id(p): name for name, p in start.run.net.named_parameters()}
    order = [names[id(p)] for p in start.run.optimizer.param_groups[0]["params"]]
    net = copy.deepcopy(start.net)
    net(start.x)  # as in the recorded forward: buffers and random numbers move on
    own = dict(net.named_parameters())
    with torch.no_grad():
        for name in order:
            own[name].copy_(moved(own[name], start.errors[name]))
    optimizer = torch.optim.LBFGS([own[name] for name in order])
    optimizer.load_state_dict(copy.deepcopy(start.state))
    relative = r.sum(sum(own[name].numel() for name in order))
    count = 0

    def closure() -> torch.Tensor:
        nonlocal count
        e = errors(net, count) or {}
        count += 1
        net.zero_grad(set_to_none=True)
        loss = start.run.criterion(net(start.x), start.y)
        loss.backward()
        trained = {name: p for name, p in own.items() if p.grad is not None}
        for name, p in trained.items():
            p.grad = moved(p.grad, e.get(f"grad.{name}", np.zeros(p.shape)))
        if start.run.clip is not None:
            start.run.clip(own.values())
        for p in trained.values():
            p.grad = moved(p.grad, relative * np.abs(p.grad.numpy()))
        return moved(loss.detach(), e.get("loss", np.zeros(())))

    optimizer.step(closure)
    rows = {f"updated.{name}": own[name] for name in order} | lbfgs_state(optimizer)
    kept = optimizer.state[own[order[0]]]
    way = count, kept.get("n_iter"), len(kept.get("old_dirs") or ()), *rows
    return Course({name: value.numpy(force=True).copy() for name, value in rows.items()}, way)
