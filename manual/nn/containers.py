"""Modules made of modules."""

from collections.abc import Iterator, Mapping

import numpy as np

from manual.checks import check_array, whole_number
from manual.nn.module import Module, overflowing
from manual.nn.parameter import Parameter


class Sequential(Module):
    """Modules one after the other, as torch.nn.Sequential: y = f_L(… f_2(f_1(x))).

    Takes the modules, or one mapping name → module. Raises TypeError for anything else, and
    ValueError where one module or one parameter stands in two places (each keeps what its own
    backward needs, and gradients overwrite).
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._children = self._checked(dict(modules[0]))
        else:
            self._children = self._checked({str(k): module for k, module in enumerate(modules)})
        self.flatten_parameters()

    def append(self, module: Module) -> "Sequential":
        """Add a module at the end, named by its number; returns this one. Errors as when made.

        An optimizer made before does not know the new parameters. Where this stands in another
        Sequential, call that one's `flatten_parameters` to have one buffer for all again.
        """
        name = str(len(self))
        if name in self._children:
            raise ValueError(f"Sequential: append would name the module {name!r}, which is taken")
        self._children = self._checked({**self._children, name: module})
        self.flatten_parameters()
        return self

    def _checked(self, children: dict[str, Module]) -> dict[str, Module]:
        """The children, if each is a module with a proper name and nothing stands there twice."""
        for name, module in children.items():
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: {name!r} must be a manual.nn.Module, got {module!r}")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"Sequential: a name must be text without a dot, got {name!r}")
        first = {id(self): "the Sequential itself"}
        inside = (pair for name, child in children.items() for pair in child.named_modules(name))
        for path, module in inside:
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
        return children

    def forward(self, x: np.ndarray) -> np.ndarray:
        """a^0 = x, a^l = f_l(a^(l−1)), y = a^L. Without modules y = x."""
        if not self._children:
            check_array("Sequential: x", x)
            self.saved = x.shape, x.dtype
        for module in self._children.values():
            x = module(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """The chain rule, last module first: da^(l−1) = f_l.backward(da^l), from da^L = dy.
        Without modules dx = dy."""
        if not self._children:
            check_array("Sequential: dy", dy, *self.recall())
        for module in reversed(self._children.values()):
            dy = module.backward(dy)
        return dy

    def backward_parameters(self, dy: np.ndarray) -> None:
        """`backward` down to the first module that has parameters; its dx is not computed."""
        modules = list(self._children.values())
        while modules and not modules[0]._has_parameters():
            del modules[0]
        for module in reversed(modules[1:]):
            dy = module.backward(dy)
        if modules:
            modules[0].backward_parameters(dy)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from self._children.items()

    def __getitem__(self, index: int | slice) -> Module:
        """One module, or (for a slice) a Sequential of some, sharing their parameters.

        Raises IndexError for a module that is not there.
        """
        if isinstance(index, slice):
            part = Sequential()  # filled afterwards, so that no parameter is moved
            part._children = dict(list(self._children.items())[index])
            return part
        index = whole_number("Sequential: index", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Sequential: index {index} is out of range for {len(self)} modules")
        return list(self._children.values())[index]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())


class Residual(Module):
    """y = x + f(x) with f = `module`: the gradient has a way around f.

    Source: He et al. 2016, Deep residual learning for image recognition. torch.nn lacks it.
    """

    def __init__(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"Residual: expected a manual.nn.Module, got {module!r}")
        self.module = module

    @overflowing
    def forward(self, x: np.ndarray) -> np.ndarray:
        """Any shape. Raises InputError (DtypeError) where f(x) has another shape (dtype) than x."""
        check_array("Residual: x", x)
        y = self.module(x)
        check_array("Residual: module(x), to be added to x", y, x.shape, x.dtype)
        self.saved = x.shape, x.dtype
        return np.add(x, y, out=self.new_empty(x.shape, x.dtype))

    @overflowing
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """∂y_i/∂x_j = [i = j] + ∂f_i/∂x_j, so dx_j = dy_j + Σ_i dy_i ∂f_i/∂x_j:
        dx = dy + f.backward(dy)."""
        check_array("Residual: dy", dy, *self.recall())
        return np.add(dy, self.module.backward(dy), out=self.new_empty(dy.shape, dy.dtype))

    def backward_parameters(self, dy: np.ndarray) -> None:
        """∂y/∂θ = ∂f/∂θ: x itself has no parameters."""
        check_array("Residual: dy", dy, *self.recall())
        self.module.backward_parameters(dy)
