"""manual through its ordinary calls, and the bare matrix products in NumPy."""

from typing import NamedTuple

import numpy as np

from benchmarks.steps.contestant import Contestant
from benchmarks.steps.problem import Problem, setup
from manual import nn
from manual.arrays import host, module_of


def manual(problem: Problem) -> Contestant:
    """As `manual.training.fit` does it: nobody needs the gradient of the first layer's input."""
    net, criterion, optimizer, x, y = setup(problem).to(problem.device)
    start = net.state_dict()

    def step() -> np.floating:
        loss = criterion(net(x), y)
        net.backward_parameters(criterion.backward())
        optimizer.step()
        return loss

    return Contestant(
        step,
        lambda: net.load_state_dict(start),
        lambda: {f"updated.{name}": host(p.data).copy() for name, p in net.named_parameters()},
        synchronize if problem.device == "cuda" else lambda: None,
    )


def synchronize() -> None:
    """Wait for all that the GPU was asked for, on every stream."""
    module_of("cuda").cuda.runtime.deviceSynchronize()


class Operands(NamedTuple):
    """What a Linear multiplies in a step: its input, its weight (in, out), dL/d(its output)."""

    name: str
    a: np.ndarray
    w: np.ndarray
    dz: np.ndarray


def operands(problem: Problem) -> list[Operands]:
    """Of every Linear in the first step; all in C order."""
    net, criterion, _, x, y = setup(problem)
    inputs = []
    for module in net:
        inputs.append(x.copy())
        x = module(x)
    criterion(x, y)
    dy, found = criterion.backward(), []
    for (name, module), a in reversed(list(zip(net.named_children(), inputs, strict=True))):
        if isinstance(module, nn.Linear):
            w = np.ascontiguousarray(module.weight.data.T)
            found.append(Operands(name, a, w, np.array(dy, order="C")))
        dy = module.backward(dy)
    return found[::-1]


def products(problem: Problem) -> Contestant:
    """x W, xᵀ dz and, but for the first layer, dz Wᵀ into arrays that are there; nothing else."""
    layers = operands(problem)
    jobs, gradients = [], {}
    for i, (name, a, w, dz) in enumerate(layers):
        dw = gradients[f"grad.{name}.weight"] = np.empty_like(w)
        jobs += [(a, w, np.empty_like(dz)), (a.T, dz, dw)]
        if i:
            jobs.append((dz, w.T, np.empty_like(a)))

    def step() -> None:
        for left, right, out in jobs:
            np.dot(left, right, out=out)

    return Contestant(
        step, lambda: None, lambda: {name: dw.T.copy() for name, dw in gradients.items()}
    )
