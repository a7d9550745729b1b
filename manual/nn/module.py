"""What every module has: forward and backward, named parameters, a state dict."""

from collections.abc import Iterator, Mapping

import numpy as np

from manual.nn.parameter import FLOATS, Parameter, flatten


class Module:
    """A function with parameters, and its derivative.

    A module of your own assigns its parameters (`Parameter`) and inner modules (`Module`) to
    attributes and defines

        forward(x) -> y         keeps in `self.saved` what backward needs
        backward(dy) -> dx      dLoss/dy in, dLoss/dx out; writes `p.grad` of its own parameters

    `dy` belongs to the last forward. Neither method changes its argument; what was given to
    forward, and what it returned, must not be changed in place before backward has run.
    Gradients are overwritten, not accumulated: there is nothing to zero, and one module stands
    in one place only.
    """

    training = True
    saved: tuple | None = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def backward_parameters(self, dy: np.ndarray) -> None:
        """`backward` where nobody needs dx, as in the first layer of a network in training."""
        self.backward(dy)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """(attribute name, module) of each module directly inside this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """(dotted path, module) of this module ("") and of every one inside, outside first."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator["Module"]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted path, parameter) as in torch: ("0.weight", …). A shared one comes once."""
        seen = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def flatten_parameters(self) -> None:
        """Put all parameters into one flat buffer, in order. A `Sequential` does so when made."""
        flatten(self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter by its dotted path, as copies: later updates do not change them."""
        return {name: p.data.copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy values (arrays, or torch tensors on the CPU) into the parameters.

        Numbers of another dtype are converted. Raises ValueError, and changes nothing, for a
        missing or unexpected name, a wrong shape, or a value that is not an array of numbers.
        """
        own = dict(self.named_parameters())
        problems = [f"missing {name!r}" for name in own.keys() - state.keys()]
        problems += [f"unexpected {name!r}" for name in state.keys() - own.keys()]
        values = {name: np.asarray(state[name]) for name in own.keys() & state.keys()}
        for name, value in values.items():
            if value.shape != own[name].shape:
                problems.append(f"{name!r} has shape {value.shape}, expected {own[name].shape}")
            elif value.dtype.kind not in "fiu":
                problems.append(f"{name!r} holds {value.dtype}, expected real numbers")
        if problems:
            raise ValueError(
                f"state dict does not fit {type(self).__name__}: {'; '.join(sorted(problems))}"
            )
        for name, value in values.items():
            own[name].data[...] = value

    def to(self, dtype: np.dtype) -> "Module":
        """Convert every parameter (and its gradient) to `dtype`; returns the module."""
        if np.dtype(dtype) not in FLOATS:
            raise TypeError(f"dtype {dtype!r} is not float32, float64 or longdouble")
        for p in self.parameters():
            p.to(dtype)
        self.flatten_parameters()
        return self

    def train(self, mode: bool = True) -> "Module":
        """Set `training` on this module and all inside; returns the module."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> "Module":
        return self.train(False)

    def recall(self) -> tuple:
        """What forward saved. Raises RuntimeError where there was no forward."""
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward called before forward")
        return self.saved

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        inner = "\n".join(children).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {inner}\n)"


def check_array(what: str, array: np.ndarray, shape: tuple | None = None, dtype=None) -> None:
    """Refuse what is not a real floating array of the given shape and dtype (where given).

    Nothing broadcasts and nothing is converted. Raises TypeError or ValueError.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype not in FLOATS:
        raise TypeError(f"{what}: expected float32, float64 or longdouble, got {array.dtype}")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"{what}: expected dtype {dtype}, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what}: expected shape {shape}, got {array.shape}")
