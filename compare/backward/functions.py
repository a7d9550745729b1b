"""A hand-written pair of functions, and its reference in torch: both called on NumPy arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Arrays = list[np.ndarray]
Gradients = list[np.ndarray | None]


class RaisedError(Exception):
    """What the function raised, in words."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name} raised {type(error).__name__}: {error}")


class Manual:
    """forward and backward, and what they must return: anything else is a TypeError or ValueError.
    An error of their own comes as a `RaisedError`."""

    def __init__(self, forward: Callable, backward: Callable) -> None:
        self._forward, self._backward = forward, backward

    def forward(self, arrays: Sequence[np.ndarray]) -> tuple[Arrays, Any]:
        """The outputs, and what forward saved."""
        pair = _call("forward", self._forward, arrays)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(
                "check_backward: forward must return a pair, (output or tuple of outputs, saved), "
                f"got {_what(pair)}"
            )
        outputs = pair[0] if isinstance(pair[0], tuple | list) else (pair[0],)
        if not outputs:
            raise ValueError("check_backward: forward returned no output")
        return [_array("an output of forward", y) for y in outputs], pair[1]

    def backward(self, saved: Any, doutputs: Sequence[np.ndarray | None], inputs: int) -> Gradients:
        """A gradient for each of so many inputs, or None."""
        found = _call("backward", self._backward, (saved, *doutputs))
        gradients = list(found) if isinstance(found, tuple | list) else [found]
        if len(gradients) != inputs:
            raise ValueError(
                f"check_backward: backward must return a gradient for each of {inputs} arrays "
                f"(None where there is none), got {_what(found)}"
            )
        return [
            None if g is None else _array("what backward returned for an array", g)
            for g in gradients
        ]


def _call(name: str, function: Callable, arguments: Sequence) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # whatever a hand-written function may raise
        raise RaisedError(name, error) from error


def _array(what: str, value: Any) -> np.ndarray:
    """NumPy's own scalars are what its sums over everything return: arrays of shape ()."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"check_backward: {what} must be an ndarray, got {_what(value)}")
    return np.asarray(value)


def _what(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an ndarray of shape {list(value.shape)}"
    return f"a {type(value).__name__}"


class Reference:
    """A function of tensors, and its gradients by autograd."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def outputs(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """Its outputs alone."""
        with torch.no_grad():
            return [_numpy(y) for y in self._call([torch.tensor(a) for a in arrays])]

    def gradients(
        self, arrays: Sequence[np.ndarray], *cotangents: Sequence[np.ndarray | None]
    ) -> tuple[Arrays, list[Gradients]]:
        """The outputs; and for each of the cotangents (an array for every output, None for one of
        integers) a gradient for each array, None for one of integers, 0 where no output needs it.
        """
        tensors = [_tensor(a) for a in arrays]
        with torch.enable_grad():
            outputs = self._call(tensors)
            found = [self._gradients(tensors, outputs, dy) for dy in cotangents]
        return [_numpy(y) for y in outputs], found

    def _gradients(self, tensors: list, outputs: list, doutputs: Sequence) -> Gradients:
        sources = [t for t in tensors if t.requires_grad]
        ends = [
            (y, torch.tensor(dy))
            for y, dy in zip(outputs, doutputs, strict=True)
            if y.requires_grad
        ]
        if not ends:
            return [
                np.zeros(t.shape, _numpy(t).dtype) if t.requires_grad else None for t in tensors
            ]
        found = torch.autograd.grad(
            [y for y, _ in ends],
            sources,
            [dy for _, dy in ends],
            allow_unused=True,
            retain_graph=True,
        )
        pairs = zip(sources, found, strict=True)
        slopes = iter(torch.zeros_like(t) if g is None else g for t, g in pairs)
        return [_numpy(next(slopes)) if t.requires_grad else None for t in tensors]

    def handwritten(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether a gradient comes through a torch.autograd.Function that somebody wrote."""
        with torch.enable_grad():
            outputs = self._call([_tensor(a) for a in arrays])
        nodes, seen = [y.grad_fn for y in outputs], set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                return True
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
        return False

    def _call(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        found = self.function(*tensors)
        outputs = list(found) if isinstance(found, tuple | list) else [found]
        for y in outputs:
            if not isinstance(y, torch.Tensor):
                raise TypeError(
                    "check_backward: reference must return a tensor or a tuple of tensors, "
                    f"got {_what(y)}"
                )
        return outputs


def _tensor(a: np.ndarray) -> torch.Tensor:
    t = torch.tensor(a)
    return t.requires_grad_(t.is_floating_point())


def _numpy(t: torch.Tensor) -> np.ndarray:
    return t.numpy(force=True).copy()
