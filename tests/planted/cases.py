"""The networks that bugs are planted in: small, with biases, more than one sample, and in ≠ out ≠
batch unless it says square. Equal arguments give the same case, so that it is proven once."""

import copy
import inspect
from functools import cache
from typing import Any

import numpy as np

from compare.cases.case import Draw
from manual import nn, optim
from tests.planted.bug import Arguments, Case

BATCH, IN, HIDDEN, OUT = 6, 5, 7, 4


def made(kind: type, draw: Draw, options: dict[str, Any]) -> Any:
    """The module, with the draw's dtype and generator where it takes them."""
    taken = inspect.signature(kind).parameters
    own = {"dtype": draw.dtype, "generator": draw.generator}
    return kind(**options, **{name: own[name] for name in own.keys() & taken})


def regression(draw: Draw, net: nn.Module, *shape: int) -> Arguments:
    """The network, x of this shape, and targets for MSELoss."""
    x = draw.normal(*(shape or (BATCH, IN)))
    return onto(draw, net, x, nn.MSELoss())


def onto(draw: Draw, net: nn.Module, x: np.ndarray, criterion: nn.Criterion) -> Arguments:
    """The network, x, the criterion, and random targets."""
    y = draw.normal(*np.shape(copy.deepcopy(net).forward(x)))
    return {"net": net, "criterion": criterion, "x": x, "y": y}


@cache
def between(kind: type, **options: Any) -> Case:
    """Linear(5, 7), the module, Linear(7, 4): its output is activation.1, its dx d_activation.0."""

    def case(draw: Draw) -> Arguments:
        module = made(kind, draw, options)
        return regression(
            draw, nn.Sequential(draw.linear(IN, HIDDEN), module, draw.linear(HIDDEN, OUT))
        )

    return case


@cache
def alone(kind: type, *shape: int, **options: Any) -> Case:
    """The module is the network: activation and d_x. x of both signs, two of them exactly 0."""

    def case(draw: Draw) -> Arguments:
        x = draw.kinked(*(shape or (BATCH, IN)))
        return onto(draw, made(kind, draw, options), x, nn.HalfSquaredError())

    return case


@cache
def evaluated(case: Case) -> Case:
    """The same in evaluation."""

    def changed(draw: Draw) -> Arguments:
        given = case(draw)
        given["net"].eval()
        return given

    return changed


@cache
def trained(case: Case, steps: int = 2, lr: float = 0.1) -> Case:
    """The same for some steps of SGD."""

    def changed(draw: Draw) -> Arguments:
        given = case(draw)
        return given | {"optimizer": optim.SGD(given["net"].parameters(), lr), "steps": steps}

    return changed


@cache
def declared(case: Case, *vacuous: str) -> Case:
    """The same with rows that may be vacuous."""
    return lambda draw: case(draw) | {"allow_vacuous": list(vacuous)}


@cache
def layers(square: bool = False) -> Case:
    """Linear(5, 7), Tanh, Linear(7, 4) for a batch of 6; or with 5 everywhere."""

    def case(draw: Draw) -> Arguments:
        hidden, out, n = (IN, IN, IN) if square else (HIDDEN, OUT, BATCH)
        net = nn.Sequential(draw.linear(IN, hidden), nn.Tanh(), draw.linear(hidden, out))
        return regression(draw, net, n, IN)

    return case
