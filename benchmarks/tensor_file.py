"""Named arrays and texts in a safetensors file, whole or not at all, with a checksum."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from benchmarks.results import replace

DTYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
)
NO_DIGEST = "0" * 64
# Within a text of the header a quotation mark would have a backslash before it.
DIGEST = re.compile(rb'(?<="sha256":")[0-9a-f]{64}(?=")')


class TensorFileError(ValueError):
    """A checkpoint or a file of weights that cannot be used; the message is one line and names
    the file."""


def write(path: Path | str, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> None:
    """Write a safetensors file with the texts in its header, and there the SHA-256 of the whole
    file as it is with zeros in the place of that.

    Raises TypeError for a dtype that the format lacks, OSError naming the path."""
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"{path}: a safetensors file cannot hold {name!r}, of {array.dtype}")
    # The library takes the memory as it lies, whatever the strides.
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = save(in_order, {**texts, "sha256": NO_DIGEST})
    digest = hashlib.sha256(content).hexdigest()
    replace(Path(path), DIGEST.sub(digest.encode(), content, count=1))


def read(path: Path | str, foreign: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, texts) of the file, the arrays read-only. foreign: it may have no checksum.

    Raises OSError where it cannot be read, TensorFileError for what is no safetensors file, is
    truncated or altered, or has a dtype that NumPy lacks."""
    content = Path(path).read_bytes()
    try:
        arrays = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except KeyError as error:
        raise TensorFileError(f"{path}: its dtype {error.args[0]} is none of NumPy's") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise TensorFileError(f"{path}: truncated, or no safetensors file ({told})") from error
    texts = header.get("__metadata__") or {}  # the format lets it be null
    if "sha256" in texts:
        blank = DIGEST.sub(NO_DIGEST.encode(), content, count=1)
        if hashlib.sha256(blank).hexdigest() != texts["sha256"]:
            raise TensorFileError(f"{path}: altered: its content does not match its checksum")
    elif not foreign:
        raise TensorFileError(f"{path}: a safetensors file without a checksum, not one of handgrad")
    return arrays, texts
