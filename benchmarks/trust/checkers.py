"""Four checkers, each with its own defaults: does it call this pair wrong?"""

import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.trust.networks import Network, cotangent
from benchmarks.trust.planted import Place
from compare import Comparison, compare
from compare.trace import Run, StepError, Tensor, manual_step, torch_step, units
from manual import nn
from torch_ref import twin, twins

# gradcheck makes a Jacobian of so many entries at most; larger layers are not given to it.
JACOBIAN = 100_000


class Verdict(NamedTuple):
    """says: "pass", "wrong" or "vacuous". where: the first row that fails, or what was raised."""

    says: str
    where: str
    seconds: float


class Pair(NamedTuple):
    """One tensor of both sides; None where there is none. Both None: a side could not be run, and
    `name` is what it raised."""

    step: int
    name: str
    manual: np.ndarray | None
    torch: np.ndarray | None


def compared(
    given: Network, steps: int, vacuous: tuple[str, ...] = ("*",), oracle: bool = True
) -> Comparison:
    """`compare` with its defaults. vacuous: its allow_vacuous."""
    return compare(
        given.net,
        given.criterion,
        given.x,
        given.y,
        optimizer=given.optimizer,
        scheduler=given.scheduler,
        clip=given.clip,
        steps=steps,
        seed=0,
        allow_vacuous=vacuous,
        oracle=oracle,
    )


def handgrad(
    given: Network, steps: int, vacuous: tuple[str, ...] = ("*",), oracle: bool = True
) -> Verdict:
    """What `compare` says. Of a pass `where` has the vacuous rows."""
    began = time.perf_counter()
    try:
        comparison = compared(given, steps, vacuous, oracle)
    except Exception as error:
        return Verdict("wrong", _raised(error), time.perf_counter() - began)
    seconds = time.perf_counter() - began
    if comparison.passed:
        frame = comparison.frame
        return Verdict("pass", ", ".join(frame["name"][frame.verdict == "vacuous"]), seconds)
    first = comparison.failures.iloc[0]
    says = "vacuous" if (comparison.failures.verdict == "vacuous").all() else "wrong"
    return Verdict(says, f"step {first.step}, {first['name']}: {first.verdict}", seconds)


def trace(given: Network, steps: int) -> tuple[list[Pair], float]:
    """Every tensor of both sides, and the seconds that it took. As `compare` does, torch's side
    goes on from manual's weights and state after each step."""
    began = time.perf_counter()
    own, pairs = given.copied(), []
    run = own.run()
    y = torch.from_numpy(own.y) if own.y.dtype.kind == "f" else torch.from_numpy(own.y).long()
    with np.errstate(all="ignore"):
        for step in range(1, steps + 1):
            theirs = _twin_of(run)
            try:
                torchs = torch_step(theirs, torch.from_numpy(own.x), y, cotangent(step)).rows
                mine = manual_step(run, own.x.copy(), own.y.copy(), cotangent(step))
            except StepError as error:
                pairs += _pairs(step, error.rows, torchs)
                break
            except Exception as error:
                pairs.append(Pair(step, _raised(error), None, None))
                break
            pairs += _pairs(step, mine, torchs)
    return pairs, time.perf_counter() - began


def _twin_of(run: Run) -> Run:
    net, criterion, optimizer = twins(run.net, run.criterion, run.optimizer)
    scheduler = run.scheduler and twin(run.scheduler, optimizer)
    return Run(net, criterion, optimizer, scheduler, run.clip and twin(run.clip))


def _pairs(step: int, mine: list[Tensor], torchs: dict[str, Tensor]) -> Iterator[Pair]:
    of_manual = {row.name: row.value for row in mine}
    for name, row in torchs.items():
        yield Pair(step, name, of_manual.get(name), row.value)


def assert_close(pairs: list[Pair], seconds: float) -> Verdict:
    """torch.testing.assert_close, tensor by tensor. seconds: what the tensors have taken."""

    def check(a, b) -> None:
        torch.testing.assert_close(None if a is None else torch.from_numpy(a), torch.from_numpy(b))

    return _first(pairs, check, seconds)


def allclose(pairs: list[Pair], seconds: float) -> Verdict:
    """assert numpy.allclose, array by array."""

    def check(a, b) -> None:
        assert np.allclose(a, b)

    return _first(pairs, check, seconds)


def _first(pairs: list[Pair], check, seconds: float) -> Verdict:
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        for pair in pairs:
            where = f"step {pair.step}, {pair.name}"
            if pair.torch is None:
                break
            try:
                check(pair.manual, pair.torch)
            except Exception as error:
                where += "" if isinstance(error, AssertionError) else f": {_raised(error)}"
                break
        else:
            where = ""
    seconds += time.perf_counter() - began
    return Verdict("wrong" if where else "pass", where, seconds)


def gradcheck(given: Network, where: Place) -> Verdict | None:
    """torch.autograd.gradcheck of the one module in which the error is or could be, with manual's
    backward in an autograd.Function, in the network's own dtype and at its own input. None where
    its Jacobian would be too large."""
    own = given.copied()
    module, seen = next(u.module for u in units(own.net) if u.path == where.path), []
    module.forward = lambda x: seen.append(x) or type(module).forward(module, x)
    with np.errstate(all="ignore"):
        own.net(own.x)
        del module.forward
        parameters = dict(module.named_parameters())
        inputs = [torch.from_numpy(a) for a in (seen[0], *(p.data for p in parameters.values()))]
        if sum(t.numel() for t in inputs) * _outputs(module, seen[0]) > JACOBIAN:
            return None
        began, raised = time.perf_counter(), ""
        try:
            with warnings.catch_warnings():  # that float32 is not precise enough
                warnings.simplefilter("ignore")
                leaves = [t.clone().requires_grad_() for t in inputs]
                torch.autograd.gradcheck(lambda *t: ByHand.apply(module, *t), leaves)
        except Exception as error:
            raised = _raised(error)
    return Verdict("wrong" if raised else "pass", raised, time.perf_counter() - began)


def _outputs(module: nn.Module, x: np.ndarray) -> int:
    return x.size // x.shape[-1] * getattr(module, "out_features", x.shape[-1])


class ByHand(torch.autograd.Function):
    """manual's module for autograd: forward and backward are manual's."""

    @staticmethod
    def forward(ctx, module, x, *parameters):
        ctx.module = module
        ctx.save_for_backward(x, *parameters)
        return torch.from_numpy(_output(module, x, parameters))

    @staticmethod
    def backward(ctx, dy):
        x, *parameters = ctx.saved_tensors
        _output(ctx.module, x, parameters)
        dx = ctx.module.backward(dy.numpy())
        gradients = [p.grad for p in ctx.module.parameters()]
        return None, *(None if g is None else torch.from_numpy(g.copy()) for g in (dx, *gradients))


def _output(module: nn.Module, x: torch.Tensor, parameters) -> np.ndarray:
    for p, value in zip(module.parameters(), parameters, strict=True):
        p.data = value.detach().numpy()
    return module(x.detach().numpy())


def _raised(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
