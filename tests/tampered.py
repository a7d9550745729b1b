"""Files that were tampered with, and what may come of them.

    HANDGRAD_FUZZ=10000 python -m pytest tests/benchmarks/test_fuzz.py      (or: make fuzz)

makes that many of each kind; without it, a few hundred. The message of a failure has the number
of the file, from which alone it is made.
"""

import os
import random
from pathlib import Path

COUNT = int(os.environ.get("HANDGRAD_FUZZ", "300"))
SIZES = [0, 1, 7, 8, 255, 2**31 - 1, 2**32, 2**63, 2**64 - 1]


def altered(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """The content with one to three changes. other: a good file to take pieces from."""
    out = content
    while out == content:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            out = one_change(out, rng, other)
    return out


def one_change(content: bytes, rng: random.Random, other: bytes) -> bytes:
    # half of the changes are in the first bytes, where the structure is
    end = len(content) if rng.random() < 0.5 else min(len(content), 64)
    at = rng.randint(0, max(end - 1, 0))
    until = min(len(content), at + rng.choice([1, 1, 2, 4, 8, 64, 1000]))
    piece = content[at:until]
    kind = rng.randrange(11)
    if kind == 0:
        new = bytes(b ^ 1 << rng.randrange(8) for b in piece[:1]) + piece[1:]
    elif kind == 1:
        new = rng.randbytes(len(piece))
    elif kind == 2:
        new = b""
    elif kind == 3:
        new = piece + rng.randbytes(rng.choice([1, 8, 100]))
    elif kind == 4:
        new = piece * 2
    elif kind == 5:
        new = bytes(len(piece))
    elif kind == 6:  # a digit in a number, a letter in a name
        new = bytes(b if chr(b) not in "0123456789" else rng.choice(b"0123456789") for b in piece)
    elif kind == 7:
        return content[:at]
    elif kind == 8:
        start = rng.randrange(len(other))
        new = other[start : start + len(piece)]
    elif kind == 9:
        size, order = rng.choice(SIZES), rng.choice(["little", "big"])
        new = (size % 2**64).to_bytes(8, order)
    else:
        where = rng.randint(0, len(content))
        return content[:where] + piece + content[where:]
    return content[:at] + new + content[until:]


def tried(documented, call):
    """(what it returns, None), or (None, the documented error that it raises)."""
    try:
        return call(), None
    except documented as error:
        return None, error


def one_line(error: Exception, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)
