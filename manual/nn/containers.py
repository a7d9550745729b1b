"""Modules made of modules."""

from collections.abc import Iterator, Mapping

import numpy as np

from manual.nn.module import Module
from manual.nn.parameter import Parameter


class Sequential(Module):
    """Modules one after the other, as torch.nn.Sequential: y = f_L(… f_2(f_1(x))).

    Takes the modules, or one mapping name → module. Raises TypeError for anything else, and
    ValueError where one module or one parameter stands in two places (each keeps what its own
    backward needs, and gradients overwrite).
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._children = dict(modules[0])
        else:
            self._children = {str(k): module for k, module in enumerate(modules)}
        for name, module in self._children.items():
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: {name!r} must be a manual.nn.Module, got {module!r}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"Sequential: a name must be text without a dot, got {name!r}")
        self._refuse_shared()
        self.flatten_parameters()

    def _refuse_shared(self) -> None:
        first: dict[int, str] = {}
        for path, module in self.named_modules():
            parts = [(path, module)]
            parts += [
                (f"{path}.{k}", v) for k, v in vars(module).items() if isinstance(v, Parameter)
            ]
            for name, part in parts:
                if id(part) in first:
                    raise ValueError(
                        f"Sequential: {first[id(part)]!r} and {name!r} are the same object; "
                        "give each place its own"
                    )
                first[id(part)] = name

    def forward(self, x: np.ndarray) -> np.ndarray:
        """a^0 = x, a^l = f_l(a^(l−1)), y = a^L."""
        for module in self._children.values():
            x = module(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """The chain rule, last module first: da^(l−1) = f_l.backward(da^l), from da^L = dy."""
        for module in reversed(self._children.values()):
            dy = module.backward(dy)
        return dy

    def backward_parameters(self, dy: np.ndarray) -> None:
        """`backward` down to the first module that has parameters; its dx is not computed."""
        modules = list(self._children.values())
        while modules and next(modules[0].parameters(), None) is None:
            del modules[0]
        for module in reversed(modules[1:]):
            dy = module.backward(dy)
        if modules:
            modules[0].backward_parameters(dy)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from self._children.items()

    def __getitem__(self, index: int | slice) -> Module:
        """One module, or (for a slice) a Sequential of some, sharing their parameters."""
        if isinstance(index, slice):
            part = Sequential()  # filled afterwards, so that no parameter is moved
            part._children = dict(list(self._children.items())[index])
            return part
        return list(self._children.values())[index]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())
