"""Small networks that between them run every module, loss and optimizer of `manual`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from manual import nn, optim

BATCH, IN, HIDDEN, OUT = 6, 5, 7, 4


class Case(NamedTuple):
    """A pair to prove. optimizer is None where one forward and backward is the case."""

    name: str
    net: nn.Module
    criterion: nn.Criterion
    optimizer: Any
    x: np.ndarray
    y: np.ndarray
    steps: int


def cases(dtype: np.dtype, generator: np.random.Generator) -> Iterator[Case]:
    """Every case in `dtype`, with weights, biases and data drawn from the generator."""

    def linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
        return nn.Linear(n_in, n_out, bias, dtype=dtype, generator=generator)

    def values(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(dtype)

    for activation in (nn.Identity, nn.Sigmoid, nn.Tanh, nn.ReLU):
        x = 3 * values(BATCH, IN)
        x[0, :2] = 0, -0.0  # the kink of ReLU, from both sides
        name = activation.__name__
        yield Case(name, activation(), nn.HalfSquaredError(), None, x, values(BATCH, IN), 1)

    target = values(BATCH, OUT)
    for name, net in (
        ("Linear", linear(IN, OUT)),
        ("Linear, bias=False", linear(IN, OUT, bias=False)),
        ("Linear, square", nn.Sequential(linear(IN, IN), linear(IN, OUT))),
        (
            "Sequential, nested",
            nn.Sequential(
                nn.Sequential(linear(IN, HIDDEN), nn.Tanh()),
                nn.Sequential(nn.Sequential(linear(HIDDEN, OUT), nn.Sigmoid())),
            ),
        ),
    ):
        yield Case(name, net, nn.HalfSquaredError(), None, values(BATCH, IN), target, 1)
    rows = nn.Sequential(linear(IN, HIDDEN), nn.ReLU(), linear(HIDDEN, OUT))
    x3, y3 = values(2, BATCH, IN), values(2, BATCH, OUT)
    yield Case("Linear, (…, in)", rows, nn.MSELoss(), None, x3, y3, 1)

    classes = generator.integers(0, OUT, BATCH)
    ignored = np.where(np.arange(BATCH) == 2, -100, classes)
    weight = generator.uniform(0.5, 2, OUT).astype(dtype)
    for name, criterion, y in (
        ("HalfSquaredError", nn.HalfSquaredError(), target),
        ("MSELoss", nn.MSELoss(), target),
        ("MSELoss, sum", nn.MSELoss("sum"), target),
        ("CrossEntropyLoss", nn.CrossEntropyLoss(), classes),
        ("CrossEntropyLoss, sum", nn.CrossEntropyLoss(reduction="sum"), classes),
        ("CrossEntropyLoss, ignore_index", nn.CrossEntropyLoss(), ignored),
        (
            "CrossEntropyLoss, weight, label_smoothing",
            nn.CrossEntropyLoss(weight, label_smoothing=0.1),
            classes,
        ),
    ):
        yield Case(name, linear(IN, OUT), criterion, None, values(BATCH, IN), y, 1)

    for name, options in (
        ("SGD", {}),
        ("SGD, momentum, dampening", {"momentum": 0.9, "dampening": 0.3}),
        ("SGD, nesterov, weight_decay", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("SGD, maximize", {"maximize": True, "momentum": 0.5}),
    ):
        net = nn.Sequential(linear(IN, HIDDEN), nn.Tanh(), linear(HIDDEN, OUT))
        optimizer = optim.SGD(net.parameters(), lr=0.1, **options)
        yield Case(name, net, nn.CrossEntropyLoss(), optimizer, values(BATCH, IN), classes, 5)
    net = nn.Sequential(linear(IN, HIDDEN), nn.Sigmoid(), linear(HIDDEN, OUT))
    parameters = list(net.parameters())
    groups = [{"params": parameters[::2], "weight_decay": 0.1}, {"params": parameters[1::2]}]
    optimizer = optim.SGD(groups, lr=0.1, momentum=0.9)
    yield Case("SGD, groups", net, nn.MSELoss(), optimizer, values(BATCH, IN), target, 5)


def exercised(some: list[Case]) -> set[type]:
    """The classes of modules, criteria and optimizers that the cases run."""
    found: set[type] = set()
    for case in some:
        found |= {type(module) for module in case.net.modules()}
        found |= {type(case.criterion), type(case.optimizer)}
    return found
