"""One error planted in one module's gradient of one parameter, in a copy of a network."""

from typing import NamedTuple

import numpy as np

from benchmarks.trust.networks import Network
from compare.trace import own_parameters, units
from manual import nn

SHARE = {np.dtype(np.float32): 1e-2, np.dtype(np.float64): 1e-6}
ERRORS = ("entry", "zero", "shape", "dtype", "nan", "nan on both", "missing")


class Place(NamedTuple):
    """Where an error goes: the entry `index` of the gradient of parameter `name` of the unit at
    `path`, and why nobody could find it there ("" where one could)."""

    path: str
    name: str
    index: tuple[int, ...]
    hopeless: str

    @property
    def row(self) -> str:
        return ".".join(part for part in ("grad", self.path, self.name) if part)


def place(
    given: Network,
    torchs: dict[str, np.ndarray],
    exact: dict[str, np.ndarray],
    error: str,
    generator: np.random.Generator,
) -> Place:
    """A parameter at random, and of its gradient the entry that is nearest to the median size of
    those that are not 0; for the error "zero" the largest. torchs: torch's tensors of the first
    step; exact: the same in a wider dtype.

    Hopeless is an error in a gradient that is all zero, in an entry that is itself off by more
    than the planted share (as in a bias before a BatchNorm, whose gradient is 0 but for rounding),
    or one that is below the smallest normal number.
    """
    places = [(unit.path, n) for unit in units(given.net) for n, _ in own_parameters(unit.module)]
    found = Place(*places[int(generator.integers(len(places)))], (), "")
    gradient = torchs[found.row]
    index = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    share = 1.0
    if error != "zero":
        index, share = median_entry(gradient), SHARE[given.dtype]
    found = found._replace(index=tuple(int(i) for i in index))
    if error not in ("entry", "zero"):
        return found
    entry = exact[found.row][found.index]
    if not gradient.any():
        return found._replace(hopeless="all zero")
    if not abs(gradient[found.index] - entry) <= share * abs(entry):
        return found._replace(hopeless="rounding")
    if share * abs(entry) < np.finfo(given.dtype).tiny:
        return found._replace(hopeless="underflow")
    return found


def median_entry(gradient: np.ndarray) -> tuple[int, ...]:
    """The index of the entry that has the (lower) median size of all that are not 0."""
    sizes = np.abs(gradient).ravel()
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0] if sizes.any() else order
    flat = order[(len(order) - 1) // 2]
    return tuple(int(i) for i in np.unravel_index(flat, gradient.shape))


def plant(given: Network, error: str, where: Place) -> Network:
    """A copy of the network with the error in it. "nan on both" is a NaN among the weights, which
    either side computes with."""
    wrong = given.copied()
    module = next(unit.module for unit in units(wrong.net) if unit.path == where.path)
    parameter = dict(module.named_parameters())[where.name]
    if error == "nan on both":
        parameter.data[where.index] = np.nan
    elif error in ("shape", "dtype"):
        parameter.__class__ = WrongShape if error == "shape" else WrongDtype
    else:
        kind = type(module)
        module.__class__ = type(kind.__name__, (Wrong, kind), {})
        module.error = error, where.name, where.index
    return wrong


def dead(given: Network) -> Network:
    """A copy, to be run one step without an optimizer, behind a ReLU that nothing passes: all
    gradients before it are exactly 0."""
    own, width = given.copied(), given.x.shape[-1]
    first = nn.Linear(width, width, dtype=given.dtype, generator=np.random.default_rng(0))
    size = np.abs(given.x) @ np.abs(first.weight.data).T
    first.bias.data = np.full(width, -2 * size.max() - 1, given.dtype)
    net = nn.Sequential(first, nn.ReLU(), *own.net)
    return own._replace(net=net, optimizer=None, scheduler=None, clip=None, steps=1)


class Wrong:
    """Of a module, before its own class: a backward that leaves a wrong gradient behind."""

    error: tuple[str, str, tuple[int, ...]]
    done = False

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.done = False
        dx = super().backward(dy)
        self._spoil()
        return dx

    def backward_parameters(self, dy: np.ndarray) -> None:
        self.done = False
        super().backward_parameters(dy)
        self._spoil()

    def _spoil(self) -> None:
        if self.done:  # backward may itself call backward_parameters
            return
        self.done = True
        error, name, index = self.error
        parameter = dict(self.named_parameters())[name]
        if error == "entry":
            parameter.grad[index] *= parameter.dtype.type(1 + SHARE[parameter.dtype])
        elif error == "zero":
            parameter.grad[...] = 0
        elif error == "nan":
            parameter.grad[index] = np.nan
        else:
            parameter.grad = None


class WrongShape(nn.Parameter):
    """Its gradient has one dimension too many."""

    @property
    def grad(self) -> np.ndarray | None:
        grad = super().grad
        return None if grad is None else grad[None]

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        nn.Parameter.grad.fset(self, value)


class WrongDtype(nn.Parameter):
    """Its gradient is float64 where the parameter is float32, and the other way round."""

    @property
    def grad(self) -> np.ndarray | None:
        grad = super().grad
        other = np.float64 if self.dtype == np.float32 else np.float32
        return None if grad is None else grad.astype(other)

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        nn.Parameter.grad.fset(self, value)
