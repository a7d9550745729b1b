"""Image data for the benchmark: a packaged MNIST sample, full MNIST or Fashion-MNIST.

Every set is checked, unpacked into the user's cache folder and read there by torchvision. The
folder that the files come from is never written to.
"""

import gzip
import hashlib
import http.client
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

_SAMPLE = Path(__file__).parent / "mnist_sample"
# torchvision's class, which is also the name of its folder.
_KINDS = {"sample": "MNIST", "mnist": "MNIST", "fashion": "FashionMNIST"}
_SPLITS = ("train", "t10k")
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_FILES = tuple(f"{split}-{part}" for split in _SPLITS for part in (_IMAGES, _LABELS))
_SIDE, _CLASSES = 28, 10


class DataError(ValueError):
    """A data set that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Dataset:
    """Images and their labels.

    name: "sample", "mnist" or "fashion".
    train_x, test_x: (N, 784) uint8, one 28x28 image a row, 0 (background) to 255.
    train_y, test_y: (N,) int64, 0 to classes - 1.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int = _CLASSES


def load(name: str = "sample", data_root: Path | None = None) -> Dataset:
    """Load a data set.

    name: "sample" (packaged: 4,000 to train, 1,000 to test), "mnist" or "fashion" (60,000 and
        10,000 as published).
    data_root: for mnist and fashion, the folder that holds MNIST/raw or FashionMNIST/raw with the
        four IDX files, gzipped or not. Without it, torchvision downloads them, once.

    Raises DataError for an unknown name, missing or bad files, a failed download, or a cache
    folder that cannot be written to.
    """
    if name not in _KINDS:
        raise DataError(f"unknown data set {name!r}: expected one of {', '.join(_KINDS)}")
    cache = Path(platformdirs.user_cache_dir("handgrad"))
    if name == "sample":
        if data_root is not None:
            raise DataError(
                f"data_root {str(data_root)!r} was given with the packaged data set 'sample': "
                "data_root goes with mnist or fashion"
            )
        data_root = _SAMPLE
    elif data_root is None:
        data_root = _downloaded(name, cache)
    root = _unpacked(data_root, _KINDS[name], cache)

    from torchvision import datasets  # slow to import

    kind = getattr(datasets, _KINDS[name])
    arrays = []
    for train in (True, False):
        part = kind(root, train=train, download=False)
        arrays += [part.data.numpy().reshape(-1, _SIDE * _SIDE), part.targets.numpy()]
    return Dataset(name, *arrays)


def _downloaded(name: str, cache: Path) -> Path:
    """The folder with torchvision's download of `name`, made or made whole if need be."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    kind = getattr(datasets, _KINDS[name])
    root = cache / "download"
    raw = root / kind.__name__ / "raw"
    try:
        if all(check_integrity(raw / file, md5) for file, md5 in kind.resources):
            return root
    except OSError:
        pass  # unreadable: download anew
    # In a folder of its own: where torchvision finds unpacked files, it trusts them, whole or not.
    with _scratch(cache) as scratch:
        try:
            kind(scratch, download=True)
        except (RuntimeError, OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"cannot download {name} (tried {', '.join(kind.mirrors)}): {reason}; "
                f"give a folder that holds {kind.__name__}/raw with --data-root"
            ) from error
        raw.mkdir(parents=True, exist_ok=True)
        for file, _ in kind.resources:
            os.replace(scratch / kind.__name__ / "raw" / file, raw / file)
    return root


def _unpacked(data_root: Path, kind: str, cache: Path) -> Path:
    """The cache folder that holds the four files under data_root / kind / "raw", unpacked."""
    sources = _read_sources(data_root, kind)
    digest = hashlib.sha256()
    for _, content in sources.values():
        digest.update(content)
    root = cache / digest.hexdigest()
    raw = root / kind / "raw"
    if _is_intact(raw, sources):
        return root

    files = {name: (path, _gunzip(path, content)) for name, (path, content) in sources.items()}
    _check(files)
    with _scratch(cache) as scratch:
        new = scratch / root.name
        new_raw = new / kind / "raw"
        new_raw.mkdir(parents=True)
        for name, (_, content) in files.items():
            (new_raw / name).write_bytes(content)
        try:
            new.rename(root)
        except OSError:
            # Either another process was first, or what is there is damaged.
            if not _is_intact(raw, sources):
                raw.mkdir(parents=True, exist_ok=True)
                for name in files:
                    os.replace(new_raw / name, raw / name)
    return root


def _read_sources(data_root: Path, kind: str) -> dict[str, tuple[Path, bytes]]:
    """Path and bytes, as they lie there, of the four files."""
    raw = data_root / kind / "raw"
    sources = {}
    try:
        if not raw.is_dir():
            raise DataError(f"no folder {raw}: expected {data_root} to hold {kind}/raw")
        for name in _FILES:
            path = raw / f"{name}.gz"
            if not path.is_file():
                path = raw / name
            if not path.is_file():
                raise DataError(f"no file {name}.gz or {name} in {raw}")
            sources[name] = path, path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or raw}: {error.strerror or error}"
        ) from error
    return sources


def _gunzip(path: Path, content: bytes) -> bytes:
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: truncated or corrupt gzip file ({error})") from error


def _is_intact(raw: Path, sources: dict[str, tuple[Path, bytes]]) -> bool:
    """Whether the folder raw holds the sources, unpacked and undamaged."""
    try:
        files = {name: (raw / name, (raw / name).read_bytes()) for name in sources}
        _check(files)
    except (OSError, DataError):
        return False
    for name, (path, content) in sources.items():
        # A gzip file ends in the CRC-32 and the length of what it holds.
        gzipped = path.suffix == ".gz"
        crc = int.from_bytes(content[-8:-4], "little") if gzipped else zlib.crc32(content)
        if zlib.crc32(files[name][1]) != crc:
            return False
    return True


def _check(files: dict[str, tuple[Path, bytes]]) -> None:
    """Raise DataError, naming the path, unless the unpacked files are what load promises."""
    for split in _SPLITS:
        path, content = files[f"{split}-{_IMAGES}"]
        count, *size = _shape(path, content, ndim=3)
        if size != [_SIDE, _SIDE]:
            raise DataError(f"{path}: images are {size[0]}x{size[1]}, expected {_SIDE}x{_SIDE}")
        label_path, content = files[f"{split}-{_LABELS}"]
        label_count, *_ = _shape(label_path, content, ndim=1)
        if label_count != count:
            raise DataError(
                f"{label_path}: {label_count} labels, expected {count}, one for each image "
                f"in {path.name}"
            )
        labels = np.frombuffer(content, np.uint8, offset=8)
        wrong = np.flatnonzero(labels >= _CLASSES)
        if wrong.size:
            raise DataError(
                f"{label_path}: label {labels[wrong[0]]} at position {wrong[0]} (from 0), "
                f"expected 0..{_CLASSES - 1}"
            )


def _shape(path: Path, content: bytes, ndim: int) -> list[int]:
    """The shape in the header of an IDX file of uint8, once it fits the file."""
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path}: {len(content)} bytes, expected an IDX header of {start} bytes")
    magic, *shape = struct.unpack_from(f">{ndim + 1}I", content)
    expected = 0x800 + ndim  # 8 stands for uint8
    if magic != expected:
        raise DataError(f"{path}: IDX magic number 0x{magic:08x}, expected 0x{expected:08x}")
    if shape[0] == 0:
        raise DataError(f"{path}: header says 0 items, expected at least 1")
    size = math.prod(shape)
    if len(content) - start != size:
        dims = "x".join(map(str, shape))
        raise DataError(
            f"{path}: {len(content) - start} bytes of data, expected {size} ({dims} in the header)"
        )
    return shape


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A temporary folder in the cache folder; an OSError while it is in use is a DataError."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=cache) as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache folder {cache}: {error.strerror or error}"
        ) from error
