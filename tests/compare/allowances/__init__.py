"""What every rule of rounding allows, in numbers: none of them may change unnoticed.

A bound that is too wide fails no test of correct code, and lets mistakes pass. So each rule is
evaluated here at fixed inputs, and two numbers of every array that it gives (a sum with distinct
weights, which sees all elements, and the largest) are compared with those in the .json beside.
Where a change is meant, and has a reason, they are written anew:

    python -m tests.compare.allowances
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compare.rounding import Rounding

Rows = dict[str, np.ndarray]
# Far above what one libm or BLAS differs from another by. The differences of shaken runs have
# fewer digits.
RTOL, RTOL_OF_DRAWS = 1e-8, 1e-3

# Dtypes that are and that are not: in a coarse one, the errors of errors are seen, too. And the
# size of the errors that come in.
COARSE = Rounding(2.0**-12, 2.0**-14)
FORMATS = {
    "float32": (Rounding.of(np.dtype(np.float32)), 2.0**-20),
    "float64": (Rounding.of(np.dtype(np.float64)), 0.0),
    "coarse": (COARSE, 2.0**-8),
    "coarse, certain": (COARSE._replace(certain=True), 2.0**-8),
}


def wave(*shape: int, phase: float = 0.0) -> np.ndarray:
    """Numbers of both signs, at most 1; the first is 0 where the phase is."""
    return np.sin(phase + 1.7 * np.arange(np.prod(shape, dtype=int))).reshape(shape)


def errors(size: float, *shape: int, phase: float = 0.3) -> np.ndarray:
    """Up to 2.5 `size`, every seventh 0."""
    at = np.arange(np.prod(shape, dtype=int))
    return np.where(at % 7 == 3, 0, size * (1.5 + np.sin(phase + 2.3 * at))).reshape(shape)


def summary(e: np.ndarray) -> list[float | str]:
    """The numbers, to ten digits; how many are infinite."""
    e = np.asarray(e, np.float64).ravel()
    assert not np.isnan(e).any()
    finite = np.where(np.isfinite(e), e, 0.0)
    weights = 1 + np.sin(np.arange(e.size)) ** 2
    numbers = [weights @ finite, np.abs(finite).max(initial=0)]
    infinite = np.isinf(e).sum()
    return [float(f"{v:.9e}") for v in numbers] + [f"{infinite} infinite"] * bool(infinite)


def summaries(settings: Iterable[tuple[str, Rows]]) -> dict[str, dict[str, list]]:
    """Setting → "row [shape]" → its numbers."""
    found = {}
    for setting, rows in settings:
        assert setting not in found, setting
        found[setting] = {f"{row} {list(np.shape(e))}": summary(e) for row, e in rows.items()}
    return found


def recorded(part: str) -> dict[str, dict]:
    """Rule → setting → row → numbers, as they were approved."""
    return json.loads(Path(__file__).with_name(f"{part}.json").read_text("utf-8"))


def changes(settings: Iterable[tuple[str, Rows]], before: dict, rtol: float) -> list[str]:
    """What is not as it was, a line each."""
    now, lines = summaries(settings), []
    for setting in before.keys() | now.keys():
        old, new = before.get(setting, {}), now.get(setting, {})
        for row in old.keys() | new.keys():
            if row not in old or row not in new:
                lines.append(f"{setting}: {row} is only {'here now' if row in new else 'there'}")
            elif not _same(old[row], new[row], rtol):
                wider = "wider" if _size(new[row]) > _size(old[row]) else "narrower"
                lines.append(f"{setting}: {row} is {wider}: was {old[row]}, is {new[row]}")
    return sorted(lines)


def unchanged(
    part: str, rule: str, settings: Iterable[tuple[str, Rows]], rtol: float = RTOL
) -> None:
    """Fail where a number is not as it was."""
    lines = changes(settings, recorded(part).get(rule, {}), rtol)
    assert not lines, "\n".join(
        [
            f"{rule} allows another error than it did ([weighted sum, largest]):",
            *lines,
            "A wider allowance lets mistakes pass, and needs a reason. Where it has one:",
            "    python -m tests.compare.allowances",
        ]
    )


def _same(old: list, new: list, rtol: float) -> bool:
    return old[2:] == new[2:] and np.allclose(new[:2], old[:2], rtol=rtol, atol=0)


def _size(numbers: list) -> tuple:
    infinite = int(numbers[2].split()[0]) if numbers[2:] else 0
    return infinite, *numbers[:2]
