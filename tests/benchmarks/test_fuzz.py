"""Checkpoints, weights and IDX files that were tampered with: every one is refused with the
documented error, or is whole."""

import copy
import gzip
import random
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from benchmarks import mnist
from benchmarks.checkpoint import load as load_checkpoint
from benchmarks.checkpoint import save
from benchmarks.data import DataError, Dataset, load
from benchmarks.progress import Progress, begin
from benchmarks.tensor_file import TensorFileError
from benchmarks.weights import load_weights, save_weights
from manual import nn, optim, training
from manual.resuming import ResumeError
from tests.tampered import COUNT, altered, one_line, tried

RNG = np.random.default_rng(0)
DATA = Dataset(
    "tiny",
    *(RNG.integers(0, 256, (24, 6), dtype=np.uint8), RNG.integers(0, 10, 24)),
    *(RNG.integers(0, 256, (8, 6), dtype=np.uint8), RNG.integers(0, 10, 8)),
)
SETTINGS = mnist.Settings(hidden=(4,), epochs=2, batch_size=8, momentum=0.9)


def checkpoint(path, seed):
    settings = replace(SETTINGS, seed=seed)
    progress = begin(path, True, settings, DATA)
    pair = mnist.make_pair(settings, 6, 10)
    for rows in mnist.train(pair, DATA, settings, states=progress.states):
        progress.add(rows)
    return path.read_bytes()


def test_checkpoints(tmp_path):
    path = tmp_path / "run.ckpt"
    other = checkpoint(tmp_path / "other.ckpt", seed=1)
    content = checkpoint(path, seed=0)
    for number in range(COUNT):
        path.write_bytes(altered(content, random.Random(f"checkpoint {number}"), other))
        with pytest.raises(TensorFileError) as caught:
            pytest.fail(f"accepted: {begin(path, True, SETTINGS, DATA)}, {number=}")
        one_line(caught.value, path)
    path.write_bytes(content)
    assert begin(path, True, SETTINGS, DATA).epochs == 2


ODD = [None, True, 0, -1, 10**30, 0.5, float("nan"), "text", "", [], {}, (1,), [[]], np.ones(2)]
ODD += [np.zeros((2, 3), np.int64), np.array(1.0), np.array(True), {"a": 1}, {3: 4}]


def another(state, rng: random.Random):
    """A copy in which one part is something else, missing, or stands in another's place."""
    state = copy.deepcopy(state)
    at = state
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
            at = at[key]
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del at[key]
        elif kind == 1:
            at[key] = copy.deepcopy(at[rng.choice(keys)])
        elif kind == 2 and isinstance(at[key], int | float):
            at[key] = at[key] * rng.choice([-1, 2, 1e300]) + rng.choice([0, 1, 0.5])
        else:
            at[key] = rng.choice(ODD)
        return state


def test_states_with_a_good_checksum(tmp_path):
    """What no accident makes: a file that is whole and holds nonsense. A run of manual goes on
    from it, or refuses it and is as it was."""
    path, states = tmp_path / "state.ckpt", []

    def made():
        rng = np.random.default_rng(0)
        net = nn.Sequential(
            nn.Linear(3, 4, dtype=np.float64, generator=rng), nn.Dropout(0.1, rng), nn.Tanh()
        )
        optimizer = optim.Adam(net.parameters(), lr=0.01)
        return net, optimizer, optim.ExponentialLR(optimizer, 0.9), np.random.default_rng(3)

    x, y = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 4))

    def fit(net, optimizer, scheduler, generator, **options):
        training.fit(
            *(net, nn.MSELoss(), optimizer, x, y),
            batch_size=4,
            generator=generator,
            scheduler=scheduler,
            validation=(x, y),
            patience=9,
            **options,
        )

    fit(*made(), epochs=2, checkpoint=states.append)
    refused = 0
    for number in range(COUNT):
        save(another(states[-1], random.Random(f"state {number}")), path)
        net, optimizer, scheduler, generator = made()
        before = repr([net.state_dict(), optimizer.state_dict(), scheduler.state_dict()])
        made_again = net, optimizer, scheduler, generator
        # weights and rates may lead to what is not finite
        _, error = tried(
            (ResumeError, FloatingPointError),
            lambda: fit(*made_again, epochs=3, resume=load_checkpoint(path)),  # noqa: B023
        )
        if isinstance(error, ResumeError):
            refused += 1
            assert "\n" not in str(error)
            now = repr([net.state_dict(), optimizer.state_dict(), scheduler.state_dict()])
            assert now == before, number
            assert generator.bit_generator.state == made()[3].bit_generator.state
    assert refused > COUNT / 3


def test_weights(tmp_path):
    """Accepted is, besides the file itself, only one whose checksum is no longer there."""
    path, net = tmp_path / "net.safetensors", nn.Linear(3, 4, generator=np.random.default_rng(0))
    save_weights(nn.Linear(3, 4, generator=np.random.default_rng(1)), path)
    other = path.read_bytes()
    save_weights(net, path)
    content, before = path.read_bytes(), net.state_dict()
    for number in range(COUNT):
        path.write_bytes(altered(content, random.Random(f"weights {number}"), other))
        _, error = tried(TensorFileError, lambda: load_weights(net, path))
        if error:
            one_line(error, path)
            expected = before
        else:
            assert b'"sha256"' not in path.read_bytes(), number
            expected = safetensors.numpy.load_file(path)
        for name, value in net.state_dict().items():
            assert np.array_equal(value, expected[name], equal_nan=True), number
        net.load_state_dict(before)


# IDX files

NAMES = [
    f"{split}-{part}"
    for split in ("train", "t10k")
    for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


def idx(*shape, values):
    return struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + bytes(values)


def expected(folder):
    """The four arrays by the definition of the format, or None where the files are not good."""
    arrays = []
    for name in NAMES:
        packed = folder / f"{name}.gz"
        try:
            content = gzip.decompress(packed.read_bytes()) if packed.exists() else None
        except (EOFError, OSError, zlib.error):
            return None
        content = (folder / name).read_bytes() if content is None else content
        ndim = 3 if "images" in name else 1
        if len(content) < 4 * (ndim + 1) or content[:4] != bytes([0, 0, 8, ndim]):
            return None
        shape = [int.from_bytes(content[4 * k : 4 * k + 4], "big") for k in range(1, ndim + 1)]
        values = np.frombuffer(content[4 * (ndim + 1) :], np.uint8)
        if ndim == 3 and shape[1:] != [28, 28]:
            return None
        if shape[0] == 0 or values.size != shape[0] * 784 ** (ndim == 3):
            return None
        arrays.append(values.reshape(shape[0], -1))
    (xs, ys, xt, yt) = arrays
    good = len(xs) == len(ys) and len(xt) == len(yt) and max(ys.max(), yt.max()) < 10
    return [xs, ys.ravel(), xt, yt.ravel()] if good else None


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files(tmp_path, monkeypatch, packed):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = random.Random(0)
    # few colours, so that a packed file is short and its structure is hit
    contents = [
        idx(3, 28, 28, values=rng.choices([0, 255], k=3 * 784)),
        idx(3, values=[3, 1, 4]),
        idx(2, 28, 28, values=rng.choices([0, 255], k=2 * 784)),
        idx(2, values=[9, 0]),
    ]
    files = [gzip.compress(c, mtime=0) if packed else c for c in contents]
    names = [f"{name}.gz" if packed else name for name in NAMES]
    for name, file in zip(names, files, strict=True):
        (raw / name).write_bytes(file)
    accepted = 0
    for number in range(COUNT // 2):
        rng = random.Random(f"idx {packed} {number}")
        which = rng.randrange(4)
        (raw / names[which]).write_bytes(altered(files[which], rng, rng.choice(files)))
        wanted = expected(raw)
        found, error = tried(DataError, lambda: load("mnist", tmp_path / "data"))
        if error:
            one_line(error, raw)
            assert wanted is None, f"{number=}: refused, {error}"
        else:
            accepted += 1
            assert wanted is not None, f"{number=}: accepted"
            arrays = (found.train_x, found.train_y, found.test_x, found.test_y)
            for array, there in zip(arrays, wanted, strict=True):
                assert np.array_equal(array, there), number
        (raw / names[which]).write_bytes(files[which])
        if number % 100 == 99:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert 0 < accepted < COUNT / 4  # pixels may be anything; a comment in a gzip file, too


def test_a_progress_is_what_begin_gives(tmp_path):
    assert begin(None, False, SETTINGS, DATA).path is None
    assert isinstance(begin(tmp_path / "x", True, SETTINGS, DATA), Progress)
