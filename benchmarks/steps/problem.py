"""What is timed: a network, its weights and one batch, the same for every contestant. NumPy only,
so that a process that measures manual alone loads nothing else."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from manual import nn, optim
from manual.arrays import as_array

LR = 0.01  # so small that hundreds of steps on one batch saturate nothing
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}
CROSS_ENTROPY, HALF_SQUARED = "softmax cross-entropy", "half squared error"


@dataclass(frozen=True)
class Problem:
    """widths: of the input, the hidden layers and the output. loss: after the half squared error's
    last layer stands the activation, too, after the cross-entropy's it does not. device: where all
    contestants compute, "cpu" or "cuda"."""

    widths: tuple[int, ...] = (784, 128, 10)
    activation: str = "relu"
    loss: str = CROSS_ENTROPY
    dtype: str = "float32"
    batch: int = 32
    seed: int = 0
    device: str = "cpu"

    @property
    def network(self) -> str:
        return f"{'-'.join(map(str, self.widths))} {self.activation}"

    @property
    def activations(self) -> list[str]:
        """One for each layer; the last is "identity" where none follows."""
        layers = len(self.widths) - 1
        last = self.activation if self.loss == HALF_SQUARED else "identity"
        return [self.activation] * (layers - 1) + [last]


HOMEWORK = Problem((2, 3, 1), "sigmoid", HALF_SQUARED, "float64", batch=1)


class Setup(NamedTuple):
    """What a problem comes to for manual; every contestant copies its weights from here."""

    net: nn.Sequential
    criterion: nn.CrossEntropyLoss | nn.HalfSquaredError
    optimizer: optim.SGD
    x: np.ndarray
    y: np.ndarray

    def to(self, device: str) -> "Setup":
        """The network and the criterion moved, and the batch there."""
        self.net.to(device=device)
        self.criterion.to(device)
        x, y = (as_array(t, device) for t in (self.x, self.y))
        return self._replace(x=x, y=y)

    @property
    def layers(self) -> list[nn.Linear]:
        return [module for module in self.net if isinstance(module, nn.Linear)]


def setup(problem: Problem) -> Setup:
    """The network with torch's default initial weights, and a batch: x in [0, 1), as images are."""
    generator = np.random.default_rng([problem.seed, 0])
    modules: list[nn.Module] = []
    for sizes, activation in zip(pairwise(problem.widths), problem.activations, strict=True):
        modules.append(nn.Linear(*sizes, dtype=problem.dtype, generator=generator))
        if activation != "identity":
            modules.append(ACTIVATIONS[activation]())
    net = nn.Sequential(*modules)
    generator = np.random.default_rng([problem.seed, 1])
    x = generator.random((problem.batch, problem.widths[0])).astype(problem.dtype)
    classes = problem.widths[-1]
    if problem.loss == CROSS_ENTROPY:
        criterion, y = nn.CrossEntropyLoss(), generator.integers(0, classes, problem.batch)
    else:
        criterion = nn.HalfSquaredError()
        y = generator.random((problem.batch, classes)).astype(problem.dtype)
    return Setup(net, criterion, optim.SGD(net.parameters(), lr=LR), x, y)
