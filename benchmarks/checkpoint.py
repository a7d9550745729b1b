"""A state of nested dicts, lists, tuples, arrays, numbers and texts in a file, and back.

The arrays are the tensors of a safetensors file; all else is JSON in its header, with
{"@array": name} where an array belongs, {"@tuple": […]} for a tuple and {"@items": [[key, value],
…]} for a dict whose keys are not all plain text. Nothing is pickled: to read a file runs no code.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tensor_file import TensorFileError, read, write

FORMAT, VERSION = "handgrad checkpoint", "1"


def save(state: Any, path: Path | str) -> None:
    """Write the state, whole or not at all: a checkpoint that was there stays until then.

    Raises OSError naming the path, TypeError for what a checkpoint cannot hold (a longdouble)."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_encoded(state, "", arrays))
    write(path, arrays, {"format": FORMAT, "version": VERSION, "state": text})


def load(path: Path | str) -> Any:
    """The state that `save` was given, with Python's numbers for NumPy's, its arrays read-only.

    Raises OSError where the file cannot be read, TensorFileError for one that is truncated,
    altered, of another version or no checkpoint."""
    arrays, texts = read(path)
    if texts.get("format") != FORMAT:
        raise TensorFileError(
            f"{path}: no checkpoint but {texts.get('format', 'a file of weights')}"
        )
    if texts.get("version") != VERSION:
        raise TensorFileError(
            f"{path}: a checkpoint of version {texts.get('version')}, expected {VERSION}"
        )
    try:
        state = _decoded(json.loads(texts["state"]), arrays)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise TensorFileError(f"{path}: its state cannot be read ({error!r})") from error
    if arrays:
        raise TensorFileError(f"{path}: tensors that belong nowhere: {', '.join(sorted(arrays))}")
    return state


def _encoded(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value as JSON; its arrays are put into `arrays`, named by their path."""

    def inside(key: Any, v: Any) -> Any:
        return _encoded(v, f"{path}/{key}" if path else str(key), arrays)

    if isinstance(value, np.ndarray):
        while path in arrays:  # keys may have slashes of their own
            path += "'"
        arrays[path] = value
        return {"@array": path}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("@") for key in value):
            return {key: inside(key, v) for key, v in value.items()}
        for key in value:
            if not isinstance(key, str | int | float | None):  # no list of JSON could be a key
                raise TypeError(f"a checkpoint cannot hold {path}, with {key!r} as a key")
        return {"@items": [[key, inside(key, v)] for key, v in value.items()]}
    if isinstance(value, list | tuple):
        items = [inside(k, v) for k, v in enumerate(value)]
        return {"@tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {path}, a {type(value).__name__}")


def _decoded(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What was encoded; its arrays are taken out of `arrays`."""
    if isinstance(value, list):
        return [_decoded(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if "@array" in value:
        return arrays.pop(value["@array"])
    if "@tuple" in value:
        return tuple(_decoded(value["@tuple"], arrays))
    if "@items" in value:
        return {key: _decoded(v, arrays) for key, v in value["@items"]}
    return {key: _decoded(v, arrays) for key, v in value.items()}
