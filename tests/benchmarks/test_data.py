"""benchmarks.data: what it loads, what it rejects, and what it leaves in the cache folder."""

import errno
import gzip
import hashlib
import http.client
import os
import shutil
import struct
import subprocess
import sys
import threading
import urllib.error
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision import datasets

from benchmarks import data
from benchmarks.data import DataError, load

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "benchmarks" / "mnist_sample"
NAMES = [
    f"{split}-{part}"
    for split in ("train", "t10k")
    for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
]
KINDS = [("mnist", "MNIST"), ("fashion", "FashionMNIST")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "handgrad"
    assert Path(platformdirs.user_cache_dir("handgrad")) == folder
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(url, *args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)


def images(count=4, side=28, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, count * side * side, dtype=np.uint8)
    return struct.pack(">4I", 0x803, count, side, side) + pixels.tobytes()


def labels(values=(3, 1, 4, 1)):
    return struct.pack(">2I", 0x801, len(values)) + bytes(values)


def write_set(root, kind="MNIST", packed=True, **replaced):
    """Write four small good files; `replaced` ("train_images", ...) gives other contents."""
    contents = {
        "train_images": images(),
        "train_labels": labels(),
        "t10k_images": images(2, seed=1),
        "t10k_labels": labels((5, 9)),
    } | replaced
    raw = root / kind / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in zip(NAMES, contents.values(), strict=True):
        if packed:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (raw / name).write_bytes(content)
    return raw


def snapshot(folder):
    """Every path below a folder; for the files their bytes, change time and inode."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes(),
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def entry(cache):
    """The only folder in the cache folder."""
    (only,) = cache.iterdir()
    return only


def rejected(cache, name="mnist", root=None):
    """The message of the DataError that load raises, having left nothing in the cache folder."""
    with pytest.raises(DataError) as caught:
        load(name, root)
    message = str(caught.value)
    assert "\n" not in message
    assert not cache.exists() or list(cache.iterdir()) == []
    return message


# The sample


def test_sample_counts_shapes_and_types():
    sample = load()
    assert (sample.name, sample.classes) == ("sample", 10)
    assert (sample.train_x.shape, sample.test_x.shape) == ((4000, 784), (1000, 784))
    assert (sample.train_y.shape, sample.test_y.shape) == ((4000,), (1000,))
    assert sample.train_x.dtype == sample.test_x.dtype == np.uint8
    assert sample.train_y.dtype == sample.test_y.dtype == np.int64
    assert np.bincount(sample.train_y).tolist() == [400] * 10
    assert np.bincount(sample.test_y).tolist() == [100] * 10


def test_sample_images_are_all_different():
    sample = load()
    rows = {row.tobytes() for row in np.concatenate([sample.train_x, sample.test_x])}
    assert len(rows) == 5000


def test_sample_is_shuffled_and_fixed():
    sample = load()
    assert set(sample.train_y[:100].tolist()) == set(range(10))
    parts = (sample.train_x, sample.train_y, sample.test_x, sample.test_y)
    digest = hashlib.sha256(b"".join(part.astype(np.uint8).tobytes() for part in parts))
    assert digest.hexdigest() == "8a7adbe9b5c3bf456972a9db198d6c8526b57b03b4d3d1190db7a3eb54556f54"


def test_sample_has_mean_intensity_of_digits():
    # MNIST's own mean is 0.1307 of 255.
    assert load().train_x.mean() / 255 == pytest.approx(0.1307, abs=0.005)


def test_torchvision_reads_the_sample(tmp_path):
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        packed = (SAMPLE / "MNIST" / "raw" / f"{name}.gz").read_bytes()
        (raw / name).write_bytes(gzip.decompress(packed))
    sample = load()
    for train, x, y in (
        (True, sample.train_x, sample.train_y),
        (False, sample.test_x, sample.test_y),
    ):
        theirs = datasets.MNIST(tmp_path / "root", train=train)
        assert np.array_equal(theirs.data.numpy().reshape(-1, 784), x)
        assert np.array_equal(theirs.targets.numpy(), y)


def test_sample_files_are_small_and_hold_no_time_or_name():
    files = sorted((SAMPLE / "MNIST" / "raw").iterdir())
    assert [file.name for file in files] == sorted(f"{name}.gz" for name in NAMES)
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        # flags (no name) and time
        assert file.read_bytes()[3:8] == bytes(5)


def test_sample_takes_no_data_root(cache, tmp_path):
    message = rejected(cache, "sample", tmp_path)
    assert str(tmp_path) in message
    assert "data_root goes with mnist or fashion" in message


@pytest.mark.parametrize("name", ["", "MNIST", "cifar10"])
def test_unknown_name(cache, name):
    message = rejected(cache, name)
    assert repr(name) in message
    assert "sample, mnist, fashion" in message


# A folder that is given


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize("packed", [True, False])
def test_given_folder(tmp_path, name, kind, packed):
    write_set(tmp_path / "root", kind, packed)
    loaded = load(name, tmp_path / "root")
    assert loaded.name == name
    assert loaded.train_x.tobytes() == images()[16:]
    assert loaded.test_x.tobytes() == images(2, seed=1)[16:]
    assert loaded.train_x.shape == (4, 784)
    assert loaded.train_x.dtype == np.uint8
    assert loaded.train_y.tolist() == [3, 1, 4, 1]
    assert loaded.test_y.tolist() == [5, 9]
    assert loaded.test_y.dtype == np.int64


def test_packed_and_unpacked_files_mixed(tmp_path):
    raw = write_set(tmp_path / "root")
    packed = raw / f"{NAMES[0]}.gz"
    (raw / NAMES[0]).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert load("mnist", tmp_path / "root").train_y.tolist() == [3, 1, 4, 1]


@pytest.mark.parametrize("packed", [True, False])
def test_given_folder_is_never_written_to(tmp_path, packed):
    root = tmp_path / "root"
    raw = write_set(root, packed=packed)
    before = snapshot(root)
    for folder in (raw, raw.parent, root):
        folder.chmod(0o555)
    try:
        load("mnist", root)
        assert snapshot(root) == before
    finally:
        for folder in (root, raw.parent, raw):
            folder.chmod(0o755)


def test_sample_folder_is_never_written_to():
    before = snapshot(SAMPLE)
    load()
    assert snapshot(SAMPLE) == before


def test_same_files_as_mnist_and_as_fashion(tmp_path):
    root = tmp_path / "root"
    write_set(root, "MNIST")
    write_set(root, "FashionMNIST")
    for _ in range(2):
        assert load("mnist", root).train_y.tolist() == load("fashion", root).train_y.tolist()


def test_the_full_set():
    root = PROJECT.parent / "shared" / "data"
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"no full MNIST in {root}")
    full = load("mnist", root)
    assert (full.train_x.shape, full.test_x.shape) == ((60_000, 784), (10_000, 784))
    assert full.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(full.test_y).tolist()[:3] == [980, 1135, 1032]
    # What the sample's README says of it.
    sample = load()
    label_of = {row.tobytes(): label for row, label in zip(full.train_x, full.train_y, strict=True)}
    for x, y in ((sample.train_x, sample.train_y), (sample.test_x, sample.test_y)):
        assert [label_of.get(row.tobytes()) for row in x] == y.tolist()


# Files that are rejected


def test_missing_folder(cache, tmp_path):
    root = tmp_path / "nowhere"
    assert str(root / "MNIST" / "raw") in rejected(cache, root=root)


def test_folder_is_a_file(cache, tmp_path):
    root = tmp_path / "file"
    root.write_text("")
    assert str(root / "MNIST" / "raw") in rejected(cache, root=root)


def test_the_raw_folder_itself_is_given(cache, tmp_path):
    raw = write_set(tmp_path / "root")
    assert f"expected {raw} to hold MNIST/raw" in rejected(cache, root=raw)


def test_other_set_in_the_folder(cache, tmp_path):
    write_set(tmp_path / "root", "MNIST")
    assert "FashionMNIST/raw" in rejected(cache, "fashion", tmp_path / "root")


def test_unreadable_path(cache, tmp_path):
    message = rejected(cache, root=tmp_path / ("x" * 300))
    assert "cannot read" in message
    assert os.strerror(errno.ENAMETOOLONG) in message


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(cache, tmp_path, name):
    raw = write_set(tmp_path / "root")
    (raw / f"{name}.gz").unlink()
    message = rejected(cache, root=tmp_path / "root")
    assert f"{name}.gz" in message
    assert str(raw) in message


def test_unreadable_file(cache, tmp_path, monkeypatch):
    raw = write_set(tmp_path / "root")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    message = rejected(cache, root=tmp_path / "root")
    assert f"cannot read {raw / NAMES[0]}.gz: Permission denied" in message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-20],
        lambda packed: packed[:-4],
        lambda packed: packed[:5],
        lambda packed: packed[:1],
        lambda packed: b"not gzip at all",
        lambda packed: packed + b"trailing",
        lambda packed: packed[:10] + b"\xff" * 8 + packed[18:],
        lambda packed: packed[:-8] + bytes(4) + packed[-4:],
    ],
    ids=["truncated", "no-length", "header", "byte", "text", "trailing", "deflate", "crc"],
)
def test_corrupt_gzip(cache, tmp_path, name, damage):
    raw = write_set(tmp_path / "root")
    path = raw / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    message = rejected(cache, root=tmp_path / "root")
    assert str(path) in message
    assert "truncated or corrupt gzip file" in message


BAD = {
    "empty": ("train_images", b"", "0 bytes, expected an IDX header of 16 bytes"),
    "short header": ("t10k_labels", labels()[:7], "7 bytes, expected an IDX header of 8 bytes"),
    "labels as images": ("train_images", labels([1] * 9), "0x00000801, expected 0x00000803"),
    "images as labels": ("t10k_labels", images(2), "0x00000803, expected 0x00000801"),
    "int32 labels": (
        "train_labels",
        struct.pack(">2I", 0xC01, 4) + bytes(16),
        "0x00000c01, expected 0x00000801",
    ),
    "image cut": ("train_images", images()[:-1], "3135 bytes of data, expected 3136 (4x28x28"),
    "image excess": ("t10k_images", images(2) + b"0", "1569 bytes of data, expected 1568"),
    "label cut": ("train_labels", labels()[:-1], "3 bytes of data, expected 4 (4 in the header)"),
    "label excess": ("t10k_labels", labels((5, 9)) + b"0", "3 bytes of data, expected 2"),
    "huge header": (
        "train_images",
        struct.pack(">4I", 0x803, *[2**32 - 1] * 3),
        "0 bytes of data, expected 79228162458924105385300197375",
    ),
    "size": ("train_images", images(4, side=32), "images are 32x32, expected 28x28"),
    "size 14x56": (
        "t10k_images",
        struct.pack(">4I", 0x803, 2, 14, 56) + bytes(2 * 784),
        "images are 14x56, expected 28x28",
    ),
    "fewer labels": ("train_labels", labels((1, 2, 3)), "3 labels, expected 4"),
    "more labels": ("t10k_labels", labels((1, 2, 3)), "3 labels, expected 2"),
    "no images": ("train_images", images(0), "0 items, expected at least 1"),
    "no labels": ("t10k_labels", labels(()), "0 items, expected at least 1"),
    "label 10": ("train_labels", labels((3, 1, 10, 99)), "label 10 at position 2 (from 0)"),
    "label 255": ("t10k_labels", labels((255, 0)), "label 255 at position 0 (from 0)"),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("which", "content", "expected"), BAD.values(), ids=BAD)
def test_bad_contents(cache, tmp_path, which, content, expected, packed):
    raw = write_set(tmp_path / "root", packed=packed, **{which: content})
    message = rejected(cache, root=tmp_path / "root")
    split, part = which.split("_")
    name = next(name for name in NAMES if name.startswith(f"{split}-{part}"))
    assert str(raw / name) in message
    assert expected in message


def test_gzipped_bytes_under_the_unpacked_name(cache, tmp_path):
    raw = write_set(tmp_path / "root")
    load("mnist", tmp_path / "root")  # under the .gz name they are good
    (raw / f"{NAMES[0]}.gz").rename(raw / NAMES[0])
    with pytest.raises(DataError, match="IDX magic number"):
        load("mnist", tmp_path / "root")
    assert entry(cache)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=st.sampled_from(["train_images", "train_labels", "t10k_images", "t10k_labels"]),
    content=st.binary(max_size=40)
    | st.builds(lambda dims: struct.pack(f">{len(dims)}I", *dims), st.lists(st.integers(0, 4000))),
)
def test_any_bytes_are_rejected_or_valid(tmp_path, which, content):
    write_set(tmp_path / "root", packed=False, **{which: content})
    loaded, message = None, ""
    try:
        loaded = load("mnist", tmp_path / "root")
    except DataError as error:
        message = str(error)
    assert "\n" not in message
    if loaded is not None:
        assert len(loaded.train_x) == len(loaded.train_y)
        assert loaded.train_y.max() <= 9


# The cache folder


def test_cache_holds_the_unpacked_files_alone(cache, tmp_path):
    write_set(tmp_path / "root")
    load("mnist", tmp_path / "root")
    assert len(entry(cache).name) == 64
    files = sorted(str(p.relative_to(entry(cache))) for p in cache.rglob("*") if p.is_file())
    assert files == sorted(f"MNIST/raw/{name}" for name in NAMES)


def test_cache_is_reused(cache, tmp_path, monkeypatch):
    write_set(tmp_path / "root")
    load("mnist", tmp_path / "root")
    before = snapshot(cache)
    monkeypatch.setattr("gzip.decompress", None)  # not unpacked again
    load("mnist", tmp_path / "root")
    assert snapshot(cache) == before


def test_changed_source_gets_its_own_entry(cache, tmp_path):
    write_set(tmp_path / "root")
    load("mnist", tmp_path / "root")
    write_set(tmp_path / "root", train_labels=labels((0, 0, 0, 0)))
    assert load("mnist", tmp_path / "root").train_y.tolist() == [0, 0, 0, 0]
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\7"),
        lambda path: path.unlink(),
        lambda path: shutil.rmtree(path.parent),
        lambda path: shutil.rmtree(path.parents[1]),
    ],
    ids=["truncated", "empty", "zeros", "last byte", "removed", "no raw", "empty entry"],
)
def test_cache_is_repaired(cache, tmp_path, name, packed, damage):
    write_set(tmp_path / "root", packed=packed)
    load("mnist", tmp_path / "root")
    good = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    damage(entry(cache) / "MNIST" / "raw" / name)
    assert load("mnist", tmp_path / "root").train_x.tobytes() == images()[16:]
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == good
    assert entry(cache)  # no temporary folder beside it


def test_losing_the_race_uses_the_winners_files(cache, tmp_path, monkeypatch):
    write_set(tmp_path / "root")
    rename = Path.rename
    winner = {}

    def lose(new, target):
        shutil.copytree(new, target)
        winner.update(snapshot(target))
        return rename(new, target)

    monkeypatch.setattr(Path, "rename", lose)
    assert load("mnist", tmp_path / "root").train_y.tolist() == [3, 1, 4, 1]
    assert winner
    assert snapshot(entry(cache)) == winner


def test_many_at_once(cache, tmp_path):
    write_set(tmp_path / "root")
    results = []
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        results.append(load("mnist", tmp_path / "root").train_y.tolist())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[3, 1, 4, 1]] * 8
    assert entry(cache)


@pytest.mark.parametrize("name", ["sample", "mnist", "fashion"])
@pytest.mark.parametrize("given_folder", [True, False])
def test_cache_folder_that_cannot_be_made(cache, tmp_path, name, given_folder):
    cache.parent.write_text("a file where a folder is wanted")
    root = None
    if given_folder and name != "sample":
        root = tmp_path / "root"
        write_set(root, dict(KINDS)[name])
    with pytest.raises(DataError) as caught:
        load(name, root)
    assert str(caught.value) == f"cannot write to the cache folder {cache}: Not a directory"


def test_read_only_cache_folder(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o555)
    try:
        if os.access(cache, os.W_OK):
            pytest.skip("this user (root?) may write to a read-only folder")
        assert f"cache folder {cache}: Permission denied" in rejected(cache, "sample")
    finally:
        cache.chmod(0o755)


def test_full_disk_leaves_nothing(cache, monkeypatch):
    def refuse(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert f"cache folder {cache}: No space left on device" in rejected(cache, "sample")


# The download


def serve(monkeypatch, kind, source):
    """Let torchvision "download" from the folder source; the list of files it asked for."""
    served = []

    def fetch(url, download_root, filename, md5):
        served.append(filename)
        content = (source / filename).read_bytes()
        (Path(download_root) / filename).write_bytes(content)
        if hashlib.md5(content).hexdigest() != md5:
            raise RuntimeError("File not found or corrupted.")
        unpacked = Path(download_root) / filename.removesuffix(".gz")
        unpacked.write_bytes(gzip.decompress(content))

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    sums = [(f"{n}.gz", hashlib.md5((source / f"{n}.gz").read_bytes()).hexdigest()) for n in NAMES]
    monkeypatch.setattr(getattr(datasets, kind), "resources", sums)
    return served


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_download_once(cache, tmp_path, monkeypatch, name, kind):
    served = serve(monkeypatch, kind, write_set(tmp_path / "server", kind))
    for _ in range(2):
        assert load(name).train_y.tolist() == [3, 1, 4, 1]
    assert served == [f"{file}.gz" for file in NAMES]
    assert {path.name for path in (cache / "download" / kind / "raw").iterdir()} == set(served)
    assert len(list(cache.iterdir())) == 2  # the download and its unpacked files


def test_damaged_download_is_made_anew(cache, tmp_path, monkeypatch):
    served = serve(monkeypatch, "MNIST", write_set(tmp_path / "server"))
    load("mnist")
    raw = cache / "download" / "MNIST" / "raw"
    (raw / f"{NAMES[0]}.gz").write_bytes(b"cut short")
    # What torchvision alone would have trusted.
    for name in NAMES:
        (raw / name).write_bytes(b"cut short")
    assert load("mnist").train_x.tobytes() == images()[16:]
    assert len(served) == 8


def test_failed_download_can_be_tried_again(cache, tmp_path, monkeypatch):
    source = write_set(tmp_path / "server")
    serve(monkeypatch, "MNIST", source)
    good = (source / f"{NAMES[2]}.gz").read_bytes()
    (source / f"{NAMES[2]}.gz").write_bytes(good[:100])
    assert "corrupted" in rejected(cache)
    (source / f"{NAMES[2]}.gz").write_bytes(good)
    assert load("mnist").test_y.tolist() == [5, 9]


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("first line\nsecond line"),
        urllib.error.URLError("no route"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        gzip.BadGzipFile("CRC check failed"),
        EOFError("Compressed file ended"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failed_download(cache, monkeypatch, name, kind, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    message = rejected(cache, name)
    assert message.startswith(f"cannot download {name} (tried http")
    for mirror in getattr(datasets, kind).mirrors:
        assert mirror in message
    assert " ".join(str(error).split()) in message
    assert message.endswith(f"give a folder that holds {kind}/raw with --data-root")


def test_download_of_bad_data_is_rejected(cache, tmp_path, monkeypatch):
    # Right MD5 sums, wrong contents: never seen, yet the same checks hold.
    serve(monkeypatch, "MNIST", write_set(tmp_path / "server", train_labels=labels((1, 2, 3, 77))))
    with pytest.raises(DataError, match="label 77 at position 3"):
        load("mnist")
    assert [path.name for path in cache.iterdir()] == ["download"]


def test_import_is_free_of_torch():
    code = "import sys, benchmarks.data; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert out.stdout == "False\n", out.stderr


def test_dataset_is_frozen():
    sample = load()
    with pytest.raises(AttributeError):
        sample.name = "other"
    assert data.Dataset("sample", *[np.zeros(1)] * 4).classes == 10
