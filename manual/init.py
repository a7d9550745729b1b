"""Initial values, torch.nn.init name for name: each fills a Parameter (or array) in place.

All draw from the numpy.random.Generator given, none from a global one; on the CPU, so that a GPU
gets the same values.
fan_in and fan_out of a (out, in) weight are in and out.
Sources: Glorot & Bengio 2010 (Xavier), He et al. 2015 (Kaiming).
"""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import math
from typing import Any

import numpy as np

from manual.arrays import as_if, is_array


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, *, generator: np.random.Generator):
    """N(mean, std²). Raises ValueError for a negative std. Returns the tensor, as all here do."""
    if not std >= 0:
        raise ValueError(f"normal_: std must be >= 0, got {std!r}")
    values = _values(tensor)
    values[...] = as_if(values, generator.normal(mean, std, values.shape))
    return tensor


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, *, generator: np.random.Generator):
    """U[a, b). Raises ValueError for a > b."""
    if not a <= b:
        raise ValueError(f"uniform_: expected a <= b, got a={a!r}, b={b!r}")
    values = _values(tensor)
    values[...] = as_if(values, generator.uniform(a, b, values.shape))
    return tensor


def xavier_normal_(tensor: Any, gain: float = 1.0, *, generator: np.random.Generator):
    """Glorot: N(0, std²) with std = gain √(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))), generator=generator)


def xavier_uniform_(tensor: Any, gain: float = 1.0, *, generator: np.random.Generator):
    """Glorot: U(−b, b) with b = gain √(6 / (fan_in + fan_out))."""
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator=generator)


def kaiming_normal_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: np.random.Generator,
):
    """He: N(0, std²) with std = gain / √fan; `a` is the slope of a leaky ReLU below 0."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator=generator)


def kaiming_uniform_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: np.random.Generator,
):
    """He: U(−b, b) with b = √3 gain / √fan, the same spread as `kaiming_normal_`."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator=generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """torch's factor for an activation: linear, sigmoid 1; tanh 5/3; relu √2; leaky_relu
    √(2/(1+slope²)), slope = param (0.01 if None); selu 3/4. Raises ValueError for another name."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        raise ValueError(
            f"nonlinearity must be one of {', '.join([*gains, 'leaky_relu'])}, got {nonlinearity!r}"
        )
    return gains[nonlinearity]


def _values(tensor: Any) -> np.ndarray:
    return tensor if is_array(tensor) else tensor.data


def _fans(tensor: Any) -> tuple[int, int]:
    """(fan_in, fan_out)."""
    if tensor.ndim != 2:
        raise ValueError(f"fan in and fan out need a (out, in) weight, got shape {tensor.shape}")
    return tensor.shape[1], tensor.shape[0]


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)
