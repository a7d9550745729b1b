"""What every module has: forward and backward, named parameters and buffers, a state dict."""

from collections.abc import Iterator, Mapping

import numpy as np

from manual.arrays import DEVICES, array_module, as_array, as_if, host, is_array, module_of
from manual.checks import FLOATS, InputError
from manual.nn.parameter import Parameter, flatten, zero_grad
from manual.nn.workspace import Reuses

# For a forward or backward whose result may be too large for the dtype: inf, as in torch.
overflowing = np.errstate(over="ignore")


class Module(Reuses):
    """A function with parameters, and its derivative.

    A module of your own assigns its parameters (`Parameter`) and inner modules (`Module`) to
    attributes and defines

        forward(x) -> y         keeps in `self.saved` what backward needs
        backward(dy) -> dx      dLoss/dy in, dLoss/dx out; writes `p.grad` of its own parameters

    and takes the arrays for its results from `self.new_empty(shape, dtype)`, if it is to be
    quick: they are used again once nobody holds them any more, and a step allocates nothing.

    `dy` belongs to the last forward. Neither method changes its argument; what was given to
    forward, and what it returned, must not be changed in place before backward has run.
    Gradients are overwritten, not accumulated: there is nothing to zero, and one module stands
    in one place only.
    """

    training = True
    saved: tuple | None = None
    _buffers: tuple[str, ...] = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def backward_parameters(self, dy: np.ndarray) -> None:
        """`backward` where nobody needs dx, as in the first layer of a network in training."""
        self.backward(dy)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if type(x) is not self.array_type:
            self.follow(x)
        return self.forward(x)

    def follow(self, x: np.ndarray) -> None:
        """As `Reuses.follow`. Raises TypeError where this module's own parameters or buffers are
        not where x is."""
        own = [value.data for value in vars(self).values() if isinstance(value, Parameter)]
        own += [getattr(self, name) for name in self._buffers if getattr(self, name) is not None]
        for a in own if is_array(x) else ():
            if array_module(a) is not array_module(x):
                raise TypeError(
                    f"{type(self).__name__}: x is a {array_module(x).__name__} array, "
                    f"a parameter a {array_module(a).__name__} array; "
                    "to('cuda') or to('cpu') moves a network"
                )
        super().follow(x)

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """(attribute name, module) of each module directly inside this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator["Module"]:
        return (module for _, module in self.named_children())

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

    def _has_parameters(self) -> bool:
        """Whether there is one in this module or inside."""
        for value in vars(self).values():
            if isinstance(value, Parameter):
                return True
        return any(child._has_parameters() for child in self.children())

    def register_buffer(self, name: str, value: np.ndarray | None) -> None:
        """Make the attribute `name` an array that belongs to the state but is not trained, as
        running statistics. None: there is no such array in this module's state.

        Raises KeyError for a name that is empty, dotted or taken, TypeError for another value.
        """
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"register_buffer: a name must be text without a dot, got {name!r}")
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"register_buffer: {type(self).__name__} has an attribute {name!r}")
        if value is not None and not is_array(value):
            raise TypeError(
                f"register_buffer: {name!r} must be a NumPy array or None, "
                f"got {type(value).__name__}"
            )
        setattr(self, name, value)
        if name not in self._buffers:
            self._buffers = (*self._buffers, name)

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """(dotted path, array) of every buffer that is not None."""
        for path, module in self.named_modules():
            for name in module._buffers:
                if getattr(module, name) is not None:
                    yield (f"{path}.{name}" if path else name), getattr(module, name)

    def buffers(self) -> Iterator[np.ndarray]:
        return (b for _, b in self.named_buffers())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros. A backward overwrites gradients: this is
        for a parameter that the next backward does not reach."""
        zero_grad(self.parameters(), set_to_none)

    def flatten_parameters(self) -> None:
        """Put all parameters into one flat buffer, in order. A `Sequential` does so when made."""
        flatten(self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer by its dotted path, in torch's order (module by module), as
        copies on the CPU: later updates do not change them."""
        return {name: host(value).copy() for name, value in self._state().items()}

    def _state(self) -> dict[str, np.ndarray]:
        parameters, buffers = dict(self.named_parameters()), dict(self.named_buffers())
        state = {}
        for path, module in self.named_modules():
            own = [name for name, value in vars(module).items() if isinstance(value, Parameter)]
            for name in (f"{path}.{n}" if path else n for n in (*own, *module._buffers)):
                if name in parameters:
                    state[name] = parameters[name].data
                elif name in buffers:
                    state[name] = buffers[name]
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy values (arrays, or torch tensors on the CPU) into the parameters and buffers.

        Numbers of another dtype are converted. Raises TypeError for what is no mapping, and
        InputError for a missing or unexpected name, a wrong shape, or a value that is not an array
        of numbers (of whole numbers, where a buffer counts); then nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: expected a mapping, got {type(state).__name__}")
        own = self._state()
        problems = [f"missing {name!r}" for name in own.keys() - state.keys()]
        problems += [f"unexpected {name!r}" for name in state.keys() - own.keys()]
        values = {name: np.asarray(host(state[name])) for name in own.keys() & state.keys()}
        for name, value in values.items():
            kinds, expected = ("iu", "whole") if own[name].dtype.kind == "i" else ("fiu", "real")
            if value.shape != own[name].shape:
                problems.append(f"{name!r} has shape {value.shape}, expected {own[name].shape}")
            elif value.dtype.kind not in kinds:
                problems.append(f"{name!r} holds {value.dtype}, expected {expected} numbers")
        if problems:
            raise InputError(
                f"state dict does not fit {type(self).__name__}: {'; '.join(sorted(problems))}"
            )
        # Converted first: what cannot be converted must not leave half of them loaded.
        values = {name: value.astype(own[name].dtype) for name, value in values.items()}
        for name, value in values.items():
            own[name][...] = as_if(own[name], value)

    def to(self, dtype: np.dtype | str | None = None, device: str | None = None) -> "Module":
        """Convert every parameter (and its gradient) and every floating buffer to `dtype`, and move
        all to `device`, "cpu" or "cuda" (CuPy); to("cuda") alone will do. Returns the module.

        An optimizer made before moves its state with its next step. Raises TypeError for another
        dtype and for longdouble on a GPU, DeviceError where CuPy or a GPU is missing.
        """
        if device is None and isinstance(dtype, str) and dtype in DEVICES:
            dtype, device = None, dtype
        if dtype is not None and np.dtype(dtype) not in FLOATS:
            raise TypeError(f"dtype {dtype!r} is not float32, float64 or longdouble")
        if device is not None and module_of(device) is not np:
            own = {np.dtype(dtype or a.dtype) for a in (*self.parameters(), *self.buffers())}
            if np.dtype(np.longdouble) in own:
                raise TypeError("a GPU has no longdouble: to(np.float64) or float32 first")
        for p in self.parameters():
            p.to(dtype, device)
        for module in self.modules():
            for name in module._buffers:
                value = getattr(module, name)
                if value is not None:
                    kept = dtype is None or value.dtype.kind != "f"
                    value = value if kept else value.astype(dtype)
                    setattr(module, name, as_array(value, device))
            if device is not None:
                Reuses.follow(module, module_of(device).empty(0))
        self.flatten_parameters()
        return self

    def train(self, mode: bool = True) -> "Module":
        """Set `training` on this module and all inside; returns the module."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: the mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
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
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        inner = "\n".join([extra, *children] if extra else children).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {inner}\n)"
