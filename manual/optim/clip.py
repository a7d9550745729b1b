"""Gradients cut down to size before a step, torch.nn.utils name for name."""

import math
import warnings
from collections.abc import Iterable
from types import GeneratorType

import numpy as np

from manual.arrays import number
from manual.nn.parameter import Parameter


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> np.floating:
    """Scale all gradients, in place, by one factor, so that their norm is at most max_norm:

        g ← g · min(1, max_norm / (‖g‖ + 1e-6))        ‖g‖: the norm of all gradients as one vector

    norm_type: p of (Σ|gᵢ|ᵖ)^(1/p); inf for the largest |gᵢ|. Returns ‖g‖ from before, in the
    gradients' dtype (on the CPU), right wherever that dtype can hold it (torch's squares overflow
    before). A parameter whose grad is None does not count.

    Raises RuntimeError, before anything is scaled, where the norm is not finite, if asked to
    (otherwise gradients become 0 or NaN, as in torch); ValueError for a max_norm or norm_type
    that is NaN. Warns, as torch, where `parameters` is a generator with nothing left in it.

    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    max_norm, norm_type = _number("max_norm", max_norm), _number("norm_type", norm_type)
    given = parameters if isinstance(parameters, Parameter) else list(parameters)
    if isinstance(parameters, GeneratorType) and not given:
        warnings.warn("clip_grad_norm_: the generator of parameters is used up", stacklevel=2)
    grads = _grads(given)
    if not grads:
        return np.float32(0)
    # A norm beyond the largest number is inf; inf · 0 is the NaN that torch gives.
    with np.errstate(over="ignore", invalid="ignore"):
        norm = _norm(np.array([_norm(g, norm_type) for g in grads]), norm_type)
        if error_if_nonfinite and not np.isfinite(norm):
            raise RuntimeError(
                f"clip_grad_norm_: the norm of order {norm_type:g} of the gradients is {norm}"
            )
        factor = np.minimum(max_norm / (norm + 1e-6), 1)
        if factor != 1:
            for g in grads:
                g *= factor
    return norm


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Bring every element of the gradients into [−clip_value, clip_value], in place. NaN stays.

    Raises ValueError for a clip_value that is NaN.
    """
    clip_value = _number("clip_value", clip_value)
    with np.errstate(over="ignore"):  # a clip_value beyond the dtype is inf
        for g in _grads(parameters):
            np.clip(g, -clip_value, clip_value, out=g)


def _norm(x: np.ndarray, p: float) -> np.floating:
    """(Σ|xᵢ|ᵖ)^(1/p), as |x| / u with a unit u that keeps every power ≤ 1 and one of them 1."""
    x = np.abs(x)
    if p == 0 or x.size == 0:
        return x.dtype.type(number(np.count_nonzero(x)))
    unit = number(x.max() if p > 0 else x.min())
    if math.isinf(p) or unit == 0 or not np.isfinite(unit):
        return unit
    x /= unit
    return unit * number((x**p).sum()) ** (1 / p)


def _grads(parameters: Parameter | Iterable[Parameter]) -> list[np.ndarray]:
    given = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for p in given:
        if not isinstance(p, Parameter):
            raise TypeError(f"gradients to clip are those of Parameters, got {type(p).__name__}")
    return [p.grad for p in given if p.grad is not None]


def _number(name: str, value: float) -> float:
    value = float(value)
    if math.isnan(value):
        raise ValueError(f"{name} must be a number, got nan")
    return value
