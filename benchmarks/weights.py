"""Weights from manual to torch and back: state dict ↔ safetensors file ↔ state dict."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.tensor_file import TensorFileError, read, write
from manual import nn
from torch_ref.resuming import Arrays

KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # what is taken for an array of which


def save_weights(net: nn.Module | torch.nn.Module, path: Path | str) -> None:
    """Write the state dict of a network, manual's or torch's, as safetensors, whole or not at all.

    The two have the same names and layouts, so either loads it; and so does
    `safetensors.torch.load_file`, for any torch network with these names.
    Raises OSError naming the path, TypeError for longdouble, which the format lacks.
    """
    write(path, _part(net).state_dict(), {})


def load_weights(net: nn.Module | torch.nn.Module, path: Path | str) -> None:
    """Take over the weights and buffers from a file of `save_weights`, or from one that
    `safetensors.torch.save_file` made of a state dict; numbers of another dtype are converted.

    Raises OSError where it cannot be read and TensorFileError, having changed nothing, where it is
    truncated or altered, its names or shapes are not the network's, or a
    number is too large for the network's dtype."""
    part = _part(net)
    given, own = read(path, foreign=True)[0], part.state_dict()
    problems = [f"missing {name!r}" for name in own.keys() - given.keys()]
    problems += [f"unexpected {name!r}" for name in given.keys() - own.keys()]
    for name in own.keys() & given.keys():
        value, dtype = given[name], own[name].dtype
        if value.shape != own[name].shape:
            problems.append(f"{name!r} has shape {value.shape}, expected {own[name].shape}")
        elif value.dtype.kind not in KINDS[dtype.kind]:
            problems.append(f"{name!r} holds {value.dtype}, expected {dtype}")
        elif dtype.kind == "f" and _overflows(value, dtype):
            largest = np.abs(value[np.isfinite(value)]).max()
            problems.append(f"{name!r} holds ±{largest:.3g}, too large for {dtype}")
    if problems:
        told = "; ".join(sorted(problems))
        raise TensorFileError(f"{path}: does not fit {type(net).__name__}: {told}")
    part.load_state_dict(given)


def _overflows(value: np.ndarray, dtype: np.dtype) -> bool:
    """Whether a finite number of it is none in dtype."""
    with np.errstate(over="ignore"):  # which is what is looked for
        return bool((np.isfinite(value) & ~np.isfinite(value.astype(dtype))).any())


def _part(net: nn.Module | torch.nn.Module) -> nn.Module | Arrays:
    return Arrays(net) if isinstance(net, torch.nn.Module) else net
