"""How far rounding alone can move a step of L-BFGS, which evaluates the loss as often as it likes
and goes on as it finds: not by rules, but by trying."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from compare.oracle.lbfgs import lbfgs_updated
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

    def visit(net: torch.nn.Module, k: int) -> Errors:
        visited.append(rounding_at(net))
        return visited[-1]

    exact = _course(start, visit, _as_it_is, r)
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


def lbfgs_witness(start: Start) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(value, error) of every row that the step leaves by the oracle's formula. error: of the
    formula itself, from losses and gradients that are exact: four times the spread of its results
    when every gradient is moved at random by the rounding of the sums that it goes into. {} where
    the oracle has no formula, or rounding decides on the way."""
    generator, r = np.random.default_rng(0), Rounding.of(np.float64)

    def moved(tensor: torch.Tensor, e: np.ndarray) -> torch.Tensor:
        return tensor + torch.tensor(e * generator.choice([-1.0, 1.0], np.shape(e)))

    value, *others = (_by_formula(start, how, r) for how in [_as_it_is, *[moved] * PROBES])
    if any(other.keys() != value.keys() for other in others):
        return {}
    return {
        name: (v, 4 * np.max([np.abs(other[name] - v) for other in others], axis=0))
        for name, v in value.items()
    }


def _by_formula(start: Start, moved: Moved, r: Rounding) -> dict[str, np.ndarray]:
    net, own = _at_the_start(start)
    order = _order(start)
    chosen = [own[name] for name in order]
    relative = r.sum(sum(p.numel() for p in chosen))

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(theta.astype(np.float64))
        torch.nn.utils.vector_to_parameters(theta, chosen)
        loss = _evaluate(start, net, own)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        g = torch.nn.utils.parameters_to_vector(gradients)
        return loss.item(), moved(g, relative * np.abs(g.numpy())).numpy()

    theta = torch.nn.utils.parameters_to_vector(chosen).detach().numpy()
    group = start.run.optimizer.param_groups[0]
    found = lbfgs_updated(group, start.state["state"].get(0, {}), theta, evaluate)
    if found is None:
        return {}
    after, state = found
    ends = np.cumsum([p.numel() for p in chosen])[:-1]
    rows = {
        f"updated.{name}": part.reshape(p.shape)
        for name, p, part in zip(order, chosen, np.split(after, ends), strict=True)
    } | {f"state.{name}": state[name] for name in ("d", "prev_flat_grad") if name in state}
    return {name: value.astype(np.float64) for name, value in rows.items()}


def _as_it_is(tensor: torch.Tensor, e: np.ndarray) -> torch.Tensor:
    return tensor


def _order(start: Start) -> list[str]:
    """The names of the optimizer's parameters."""
    names = {id(p): name for name, p in start.run.net.named_parameters()}
    return [names[id(p)] for p in start.run.optimizer.param_groups[0]["params"]]


def _at_the_start(start: Start) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A copy of the network, after a forward as in the recorded step (buffers and random numbers
    move on), and its parameters."""
    net = copy.deepcopy(start.net)
    net(start.x)
    return net, dict(net.named_parameters())


def _evaluate(
    start: Start,
    net: torch.nn.Module,
    own: dict[str, torch.Tensor],
    before_clip: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, g: g,
) -> torch.Tensor:
    """The loss, and its gradients left with the parameters, as L-BFGS's closure does it."""
    net.zero_grad(set_to_none=True)
    loss = start.run.criterion(net(start.x), start.y)
    loss.backward()
    for name, p in own.items():
        if p.grad is not None:
            p.grad = before_clip(name, p.grad)
    if start.run.clip is not None:
        start.run.clip(own.values())
    return loss.detach()


def _course(
    start: Start, errors: Callable[[torch.nn.Module, int], Errors], moved: Moved, r: Rounding
) -> Course:
    """The step, with the k-th loss and its gradients moved by errors(network, k)."""
    net, own = _at_the_start(start)
    order = _order(start)
    with torch.no_grad():
        for name in order:
            own[name].copy_(moved(own[name], start.errors[name]))
    optimizer = torch.optim.LBFGS([own[name] for name in order])
    optimizer.load_state_dict(copy.deepcopy(start.state))
    relative = r.sum(sum(own[name].numel() for name in order))
    count = 0

    def closure() -> torch.Tensor:
        nonlocal count
        e = errors(net, count)
        count += 1
        loss = _evaluate(start, net, own, lambda name, g: moved(g, e[f"grad.{name}"]))
        for p in own.values():
            if p.grad is not None:
                p.grad = moved(p.grad, relative * np.abs(p.grad.numpy()))
        return moved(loss, e["loss"])

    optimizer.step(closure)
    rows = {f"updated.{name}": own[name] for name in order} | lbfgs_state(optimizer)
    kept = optimizer.state[own[order[0]]]
    way = count, kept.get("n_iter"), len(kept.get("old_dirs") or ()), *rows
    return Course({name: value.numpy(force=True).copy() for name, value in rows.items()}, way)
