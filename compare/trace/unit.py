"""The modules that a step runs through, and the rows that belong to them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from manual import nn
from torch_ref import modules

RESIDUALS = nn.Residual | modules.Residual


class Unit(NamedTuple):
    """A module that a step runs through. dx: the row that its backward's result is."""

    path: str
    module: Any
    dx: str

    @property
    def y(self) -> str:
        return dotted("activation", self.path)

    @property
    def dy(self) -> str:
        return dotted("d_activation", self.path)

    @property
    def inside(self) -> bool:
        """Whether it is the first in a Residual: its dx is no other tensor's gradient."""
        return self.dx.startswith("d_x.")


def units(net: Any) -> Iterator[Unit]:
    """What a step runs through, in the order in which their outputs come: the modules inside
    Sequentials, and a Residual after what is inside it. What is not one of these is one unit."""
    yield from _walk(net, "", "d_x")


def _walk(net: Any, path: str, dx: str) -> Iterator[Unit]:
    if isinstance(net, nn.Sequential | modules.Sequential):
        for name, child in net.named_children():
            last = None
            for last in _walk(child, dotted(path, name), dx):
                yield last
            dx = dx if last is None else last.dy
        return
    if isinstance(net, RESIDUALS):
        inside = dotted(path, "module")
        yield from _walk(net.module, inside, dotted("d_x", inside))
    yield Unit(path, net, dx)


def prediction_row(net: Any) -> str:
    """The row of dLoss/dprediction."""
    last = [unit.dy for unit in units(net)][-1:]
    return last[0] if last else "d_x"


def own_parameters(module: Any) -> Iterator[tuple[str, Any]]:
    """(name, parameter) of a unit: of all inside it that are not units themselves."""
    return iter(()) if isinstance(module, RESIDUALS) else module.named_parameters()


def named_buffers(net: Any) -> Iterator[tuple[str, Any]]:
    """(name, buffer); a network of one's own need not have any."""
    return iter(getattr(net, "named_buffers", tuple)())


def dotted(*parts: str) -> str:
    """dotted("grad", "0", "weight") = "grad.0.weight"; empty parts (a network that is a single
    module has the path "") are left out."""
    return ".".join(part for part in parts if part)
