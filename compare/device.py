"""The device of a comparison: what must be there, and float32 products that are float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from manual.arrays import DEVICES, DeviceError, module_of


def require(device: str) -> None:
    """Raises ValueError for a device that is none of "cpu" and "cuda"; DeviceError, with what is
    missing, where CuPy (manual's side) or torch cannot use a GPU."""
    if device not in DEVICES:
        raise ValueError(f"compare: device must be 'cpu' or 'cuda', got {device!r}")
    module_of(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device 'cuda': torch sees no CUDA device here")


@contextmanager
def true_float32(device: str) -> Iterator[None]:
    """Products of float32 matrices in true float32 meanwhile, on both sides: a GPU may otherwise
    round their factors to the 10 bits of TF32, which torch.set_float32_matmul_precision("high") or
    the environment variable CUPY_TF32 ask for. Everything is set back afterwards."""
    if device == "cpu":
        yield
        return
    settings = [*_of_torch(), _OfCuPy()]
    before = [setting.get() for setting in settings]
    try:
        for setting in settings:
            setting.pin()
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.set(value)


class _Attribute:
    """An attribute of torch.backends."""

    def __init__(self, owner: Any, name: str, pinned: Any) -> None:
        self.owner, self.name, self.pinned = owner, name, pinned

    def get(self) -> Any:
        return getattr(self.owner, self.name)

    def set(self, value: Any) -> None:
        setattr(self.owner, self.name, value)

    def pin(self) -> None:
        self.set(self.pinned)


def _of_torch() -> list[_Attribute]:
    """By the newer name where there is one: once that is set, torch refuses to tell the older."""
    owners = torch.backends.cuda.matmul, torch.backends.cudnn
    if all(hasattr(owner, "fp32_precision") for owner in owners):
        return [_Attribute(owner, "fp32_precision", "ieee") for owner in owners]
    return [_Attribute(owner, "allow_tf32", False) for owner in owners]


class _OfCuPy:
    """How CuPy asks cuBLAS to compute with float32; CuPy has no public name for it. "Pedantic" is
    float32 in every phase, and forbids faster algorithms that round otherwise."""

    def __init__(self) -> None:
        self.own = import_module("cupy._core._routines_linalg")

    def get(self) -> int:
        return self.own.get_compute_type("f")

    def set(self, value: int) -> None:
        self.own.set_compute_type("f", value)

    def pin(self) -> None:
        self.set(self.own.COMPUTE_TYPE_PEDANTIC)


def described(device: str) -> str:
    """The device as a table names it: on a GPU with its name, CuPy's version and the precision."""
    if device == "cpu":
        return device
    name, cupy = torch.cuda.get_device_name(), module_of(device)
    return f"{device} ({name}), cupy {cupy.__version__}, float32 products in float32 (no TF32)"
