"""NumPy's arrays or CuPy's: which of the two follows from the data.

The same code runs on both, for NumPy's functions hand CuPy's arrays over to CuPy. What CuPy does
not do in NumPy's way stands here. It is imported only where somebody asks for the device "cuda".
"""

import sys
from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda")


class DeviceError(RuntimeError):
    """A GPU is asked for where none can be used; the message says what is missing."""


def array_module(x: Any) -> ModuleType:
    """cupy for one of its arrays, numpy for anything else."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) or array_module(x) is not np


def device_of(x: Any) -> str:
    """Where the array is: "cpu" or "cuda"."""
    return "cpu" if array_module(x) is np else "cuda"


def module_of(device: str) -> ModuleType:
    """The module whose arrays are there: numpy for "cpu", cupy for "cuda" (the current GPU).

    Raises ValueError for another device, DeviceError where CuPy or a GPU is missing.
    """
    if device not in DEVICES:
        raise ValueError(f"a device is 'cpu' or 'cuda', got {device!r}")
    if device == "cpu":
        return np
    try:
        import cupy
    except ImportError:
        raise DeviceError(
            "device 'cuda' needs CuPy, which is not installed: pip install 'handgrad[gpu]'"
        ) from None
    if not cupy.cuda.is_available():
        raise DeviceError("device 'cuda': CuPy is installed, but sees no CUDA device here")
    return cupy


def host(x: Any) -> Any:
    """What an array on the GPU holds, as a NumPy array; anything else as it is."""
    return x if array_module(x) is np else x.get()


def number(x: Any) -> Any:
    """The value of a 0-d array, wherever it is, as a NumPy number; a number as it is."""
    x = host(x)
    return x[()] if isinstance(x, np.ndarray) else x


def as_array(x: Any, device: str | None = None) -> Any:
    """The value as an array on that device. Default: where it is, if it is one, or the CPU."""
    if type(x) is np.ndarray and device in (None, "cpu"):
        return x
    device = device_of(x) if device is None else device
    return np.asarray(host(x)) if device == "cpu" else module_of(device).asarray(x)


def as_if(like: Any, x: Any) -> Any:
    """The value as an array of the same module as `like`."""
    module = array_module(like)
    return np.asarray(host(x)) if module is np else module.asarray(x)


def can_be_read(x: Any) -> bool:
    """Whether its values can be looked at: not while a CUDA graph is recorded, for then nothing is
    computed yet."""
    if type(x) is np.ndarray:
        return True
    module = array_module(x)
    return module is np or not module.cuda.get_current_stream().is_capturing()


def take(values: Any, at: Any, out: Any, axis: int | None = None) -> Any:
    """values[at] along `axis` (None: of the flat array) into `out`. All places must be inside, so
    that NumPy's "clip" clips nothing and only saves a copy; CuPy has no such argument."""
    if isinstance(values, np.ndarray):
        return values.take(at, axis, out, "clip")
    return values.take(at, axis, out)


def place(values: Any, mask: Any, given: Any) -> None:
    """values[mask] = given[mask], three arrays of one shape. NumPy's putmask is several times as
    fast as its copyto; CuPy's waits for the GPU."""
    if isinstance(values, np.ndarray):
        np.putmask(values, mask, given)
    else:
        np.copyto(values, given, where=mask)


def maxima(z: Any, out: Any) -> Any:
    """max_k z_k… into `out`. CuPy's maximum does not reduce, and NumPy's is faster than `max`."""
    if isinstance(z, np.ndarray):
        return np.maximum.reduce(z, 0, None, out)
    return z.max(axis=0, out=out)
