"""torch: eager, with the fused SGD, as a CUDA graph, with the whole step compiled, and the bare
products."""

import logging
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.steps.contestant import Contestant, LeftOut
from benchmarks.steps.numpy_side import operands
from benchmarks.steps.problem import LR, Problem, setup
from torch_ref import twins

WARM_UP = 3  # steps before the one that is recorded as a CUDA graph


class Side:
    """The network and the batch in torch, with manual's weights."""

    def __init__(self, problem: Problem) -> None:
        made = setup(problem)
        self.device = problem.device
        self.net, self.criterion, _ = twins(made.net, made.criterion, None, self.device)
        self.x, self.y = (torch.from_numpy(t).to(self.device) for t in (made.x, made.y))
        state = made.net.state_dict()
        self.start = {k: torch.from_numpy(v).to(self.device) for k, v in state.items()}
        self.restart()

    def restart(self) -> None:
        self.net.load_state_dict(self.start)

    def results(self) -> dict[str, np.ndarray]:
        state = self.net.state_dict()
        return {f"updated.{k}": v.numpy(force=True).copy() for k, v in state.items()}

    def contestant(self, step: Callable[[], object]) -> Contestant:
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        return Contestant(step, self.restart, self.results, wait)


def eager(problem: Problem, **kernels: bool) -> Contestant:
    """The usual loop of torch.nn and torch.optim.SGD."""
    side = Side(problem)
    net, criterion, x, y = side.net, side.criterion, side.x, side.y
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, **kernels)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return side.contestant(step)


def fused(problem: Problem) -> Contestant:
    """The same with torch's one kernel for the update."""
    try:
        return eager(problem, fused=True)
    except RuntimeError as error:
        raise LeftOut(f"torch {torch.__version__} has no fused SGD here: {error}") from None


def captured(problem: Problem) -> Contestant:
    """The eager step recorded once as a CUDA graph, and then launched."""
    side = Side(problem)
    net, criterion, x, y = side.net, side.criterion, side.x, side.y
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad()  # to None: the recorded backward makes its own
        criterion(net(x), y).backward()
        optimizer.step()

    stream = torch.cuda.Stream()  # as torch's documentation of graphs has it
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return side.contestant(graph.replay)


def compiled(problem: Problem) -> Contestant:
    """Forward, backward and update as one graph: faster than compiling the eager step, which
    backward() breaks into several."""
    side = Side(problem)
    net, criterion, x, y = side.net, side.criterion, side.x, side.y
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss_of(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return criterion(torch.func.functional_call(net, parameters, (x,)), y)

    def step() -> torch.Tensor:
        gradients, loss = torch.func.grad_and_value(loss_of)(parameters)
        for name, gradient in gradients.items():
            parameters[name].sub_(gradient, alpha=LR)
        return loss

    # It warns where CUDA is half there, which does not matter to the CPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch._dynamo.reset()  # it compiles the same code only so often
    step = torch.compile(step, dynamic=False, fullgraph=True)
    try:
        step()
    except torch._dynamo.exc.TorchDynamoException as error:  # as without a C++ compiler
        raise LeftOut(f"torch.compile does not work here: {error}") from None
    return side.contestant(step)


def products(problem: Problem) -> Contestant:
    """As NumPy's, for weights that lie in memory as torch's do, (out, in)."""
    layers = operands(problem)
    jobs, gradients = [], {}
    for i, (name, *arrays) in enumerate(layers):
        a, w, dz = map(torch.from_numpy, arrays)
        w = w.T.contiguous()
        dw = gradients[f"grad.{name}.weight"] = torch.empty_like(w)
        jobs += [(a, w.T, torch.empty_like(dz)), (dz.T, a, dw)]
        if i:
            jobs.append((dz, w, torch.empty_like(a)))

    def step() -> None:
        for left, right, out in jobs:
            torch.mm(left, right, out=out)

    return Contestant(
        step, lambda: None, lambda: {name: dw.numpy().copy() for name, dw in gradients.items()}
    )
