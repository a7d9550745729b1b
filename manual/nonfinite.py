"""Where in a step of training a value was first not finite."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from manual.arrays import host
from manual.nn.criterion import Criterion
from manual.nn.module import Module


class Watch:
    """What was not finite, in the order in which it was looked at. `found`: a line for each."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def look(self, where: str, what: str, array: np.ndarray) -> None:
        array = host(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = array[~np.isfinite(array)]
            self.found.append(f"{where}: {what} holds {'nan' if np.isnan(bad).any() else bad[0]}")


def layer(path: str, module: Any) -> str:
    """A module as a message names it."""
    name = type(module).__name__
    return f"layer {path} ({name})" if path else f"the network ({name})"


def dotted(*names: str) -> str:
    return ".".join(filter(None, names))


def first_nonfinite(net: Module, criterion: Criterion, run: Callable[[], float]) -> str | None:
    """Call run(), which steps or validates and returns a loss. None where the loss and every
    parameter are finite afterwards; else the layer and the tensor that was not finite first, in
    causal order: parameters as they were, x, activations, y, loss, gradients, parameters."""
    watch, modules = Watch(), dict(net.named_modules())

    def look_at_parameters(kind: str) -> None:
        for name, p in net.named_parameters():
            path = name.rpartition(".")[0]
            watch.look(layer(path, modules[path]), f"{kind}{name}", p.data)

    def watched_forward(path: str, module: Module, forward: Callable) -> Callable:
        def wrapper(x: np.ndarray) -> np.ndarray:
            if not path:
                watch.look("the data", "x", x)
            y = forward(x)
            watch.look(layer(path, module), dotted("activation", path), y)
            return y

        return wrapper

    def watched_backward(path: str, module: Module, backward: Callable) -> Callable:
        own = [p for p in net.named_parameters() if p[0].rpartition(".")[0] == path]

        def wrapper(dy: np.ndarray) -> Any:
            watch.look(layer(path, module), dotted("d_activation", path), dy)
            dx = backward(dy)
            for name, p in own:
                if p.grad is not None:
                    watch.look(layer(path, module), f"grad.{name}", p.grad)
            return dx

        return wrapper

    def watched_loss(prediction: np.ndarray, target: np.ndarray) -> Any:
        watch.look("the data", "y", np.asarray(host(target)))
        loss = forward(prediction, target)
        watch.look(f"the loss ({type(criterion).__name__})", "loss", np.asarray(host(loss)))
        return loss

    look_at_parameters("")
    forward = criterion.forward
    with ExitStack() as stack:
        _replaced(stack, criterion, "forward", watched_loss)
        for path, module in modules.items():
            _replaced(stack, module, "forward", watched_forward(path, module, module.forward))
            for name in ("backward", "backward_parameters"):
                _replaced(
                    stack, module, name, watched_backward(path, module, getattr(module, name))
                )
        loss = run()
    look_at_parameters("updated.")
    finite = math.isfinite(loss) and all(np.isfinite(p.data).all() for p in net.parameters())
    return None if finite or not watch.found else watch.found[0]


def _replaced(stack: ExitStack, obj: Any, name: str, function: Callable) -> None:
    """Give `obj` a method of its own until the stack is closed."""
    if name in vars(obj):  # it has one of its own already
        stack.callback(setattr, obj, name, vars(obj)[name])
    else:
        stack.callback(delattr, obj, name)
    setattr(obj, name, function)
