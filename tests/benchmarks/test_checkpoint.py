"""benchmarks.checkpoint and tensor_file: what comes back, what is refused, what a disk may do."""

import errno
import hashlib
import json
import os
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import results, tensor_file
from benchmarks.checkpoint import load, save
from benchmarks.tensor_file import TensorFileError, read, write

DTYPES = sorted(tensor_file.DTYPES)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["@array", "@tuple", "@items", "@", "a/b", "a", "b", "'", "0.weight", ""]
)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    )
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**100, 2**130)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
STATES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (a != a and b != b)
    return a == b


STATE = {
    "network": {"0.weight": np.arange(6.0).reshape(2, 3), "0.bias": np.ones(2, np.float32)},
    "optimizer": {"state": {0: {"step": 3}}, "betas": (0.9, 0.999)},
    "generator": np.random.default_rng(0).bit_generator.state,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


@given(state=STATES)
@settings(max_examples=80)
def test_any_state_comes_back(state, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save(state, path)
    assert same(load(path), state)


def test_arrays_whose_paths_read_alike(path):
    state = {"a/b": np.zeros(1), "a": {"b": np.ones(2)}, "a'": {}, "a/b'": np.full(3, 3.0)}
    save(state, path)
    assert same(load(path), state)


def test_it_is_safetensors_with_a_header_to_read(path):
    save(STATE, path)
    arrays = safetensors.numpy.load_file(path)
    assert sorted(arrays) == ["network/0.bias", "network/0.weight"]
    assert np.array_equal(arrays["network/0.weight"], STATE["network"]["0.weight"])
    with safetensors.safe_open(path, "np") as file:
        texts = file.metadata()
    assert (texts["format"], texts["version"]) == ("handgrad checkpoint", "1")
    assert json.loads(texts["state"])["generator"] == STATE["generator"]
    blank = path.read_bytes().replace(texts["sha256"].encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == texts["sha256"]


def test_a_torch_generators_array_state_and_any_memory_layout(path, layout):
    state = {
        "twister": np.random.Generator(np.random.MT19937(3)).bit_generator.state,
        "weight": layout(np.arange(24.0).reshape(2, 3, 4)),
        "matrix": layout(np.arange(12, dtype=np.float32).reshape(3, 4)),
        "swapped": np.arange(3.0).astype(">f8"),
        "numbers": [np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True)],
    }
    save(state, path)
    found = load(path)
    assert np.array_equal(found["weight"], state["weight"])
    assert np.array_equal(found["matrix"], state["matrix"])
    assert np.array_equal(found["swapped"], [0, 1, 2])
    assert same(found["twister"], state["twister"])
    assert same(found["numbers"], [float(np.float32(0.1)), 0.1, 3, True])


def test_a_key_that_could_not_be_read_again_is_refused(path):
    with pytest.raises(TypeError, match=r"cannot hold a, with \(1, 2\) as a key"):
        save({"a": {(1, 2): 3}}, path)
    assert not path.exists()


def test_a_longdouble_is_refused(path):
    if np.dtype(np.longdouble) == np.dtype(np.float64):
        pytest.skip("longdouble is float64 here")
    with pytest.raises(
        TypeError, match=r"run.safetensors.* cannot hold 'w', of (float128|float96)"
    ):
        save({"w": np.zeros(3, np.longdouble)}, path)
    with pytest.raises(TypeError, match="cannot hold w/0, a longdouble"):
        save({"w": [np.longdouble(1)]}, path)
    with pytest.raises(TypeError, match="cannot hold f, a builtin_function_or_method"):
        save({"f": print}, path)
    assert not path.exists()


def refused(path):
    """The one line that `load` refuses the file with."""
    with pytest.raises(TensorFileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_cut_anywhere(path):
    save(STATE, path)
    content = path.read_bytes()
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        assert "truncated" in refused(path)
    path.write_bytes(content + b"\0")
    assert "truncated" in refused(path)


def test_every_byte_counts(path):
    save({"w": np.arange(3.0), "n": 7}, path)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        refused(path)
    path.write_bytes(content)
    assert load(path)["n"] == 7


def test_what_is_no_checkpoint(path):
    path.write_bytes(b"")
    assert "truncated, or no safetensors file" in refused(path)
    path.write_bytes(b"PK\3\4" + bytes(200))
    assert "truncated, or no safetensors file" in refused(path)
    safetensors.numpy.save_file({"w": np.ones(3)}, path)
    assert "without a checksum" in refused(path)
    write(path, {"w": np.ones(3)}, {})
    assert "no checkpoint but a file of weights" in refused(path)
    write(path, {}, {"format": "handgrad checkpoint", "version": "2", "state": "{}"})
    assert "a checkpoint of version 2, expected 1" in refused(path)
    content = safetensors.numpy.save({"w": np.zeros(3, np.uint16)}).replace(b'"U16"', b'"BF16"')
    header, data = content[8:].rstrip(b"\0").rsplit(b"}", 1)[0] + b"}", content[-6:]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    assert "its dtype BF16 is none of NumPy's" in refused(path)
    header = b'{"__metadata__":null}   '
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "without a checksum" in refused(path)


@pytest.mark.parametrize(
    ("state", "arrays"),
    [
        ("{", {}),
        ('{"a": {"@array": "w"}}', {}),
        ('{"a": {"@array": ["w"]}}', {"w": np.ones(2)}),
        ('[{"@array": "w"}, {"@array": "w"}]', {"w": np.ones(2)}),
        ('{"@items": [[1, 2, 3]]}', {}),
        ('{"@items": 5}', {}),
        ('{"@items": [[[], 1]]}', {}),
        ('{"@tuple": 5}', {}),
        ('{"a": 1}', {"w": np.ones(2)}),
        (None, {}),
        ("[" * 100_000 + "]" * 100_000, {}),
    ],
)
def test_a_state_that_makes_no_sense(path, state, arrays):
    texts = {"format": "handgrad checkpoint", "version": "1", "state": state}
    write(path, arrays, {name: text for name, text in texts.items() if text is not None})
    refused(path)


def test_a_checksum_in_a_text_is_not_mistaken_for_the_files(path):
    texts = {"a": '"sha256":"' + "0" * 64 + '"', "b": "0" * 64}
    write(path, {"sha256": np.ones(1)}, texts)
    found = read(path)[1]
    del found["sha256"]
    assert found == texts


def test_a_file_that_is_not_there(path, tmp_path):
    for name in (path, tmp_path):
        with pytest.raises(OSError, match=re.escape(str(name))):
            load(name)


# The disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fdopen", "fsync", "replace"])
def test_a_disk_that_fails_leaves_the_last_checkpoint(path, monkeypatch, call):
    save(STATE, path)
    monkeypatch.setattr(results.os, call, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save({"new": np.ones(9)}, path)
    assert caught.value.filename == str(path)
    assert str(path) in str(caught.value)
    assert sorted(path.parent.iterdir()) == [path]
    assert same(load(path), STATE)


def test_a_disk_that_is_really_full(path, monkeypatch):
    """/dev/full takes no byte."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    def fdopen(handle, mode):
        os.close(handle)
        return open("/dev/full", mode)

    monkeypatch.setattr(results.os, "fdopen", fdopen)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        save(STATE, path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_gone(path):
    save(STATE, path)
    shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{path}'")):
        save(STATE, path)


def test_a_folder_that_may_not_be_written_to(path, monkeypatch):
    save(STATE, path)
    path.parent.chmod(0o500)
    if os.access(path.parent, os.W_OK):  # root may write anywhere

        def denied(**kwargs):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")

        monkeypatch.setattr(results.tempfile, "mkstemp", denied)
    try:
        with pytest.raises(PermissionError, match=re.escape(f"'{path}'")):
            save({}, path)
    finally:
        path.parent.chmod(0o700)
    assert same(load(path), STATE)


def test_it_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            results.os, name, lambda *a, name=name, real=real: done.append(name) or real(*a)
        )
    save(STATE, path)
    assert done == ["fsync", "replace"]


def test_sweep_takes_what_a_killed_write_left_alone(path):
    others = [
        ".run.safetensors",
        ".run.safetensors.old",
        "run.safetensors.abcdefgh",
        "x.safetensors",
    ]
    for name in [*others, ".run.safetensors.abcdefgh", ".run.safetensors.a_345678"]:
        (path.parent / name).touch()
    path.touch()
    results.sweep(path)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([*others, path.name])
