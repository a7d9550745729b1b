"""Would manual be faster with other settings of NumPy's BLAS? What to try, and what to say."""

from collections.abc import Collection, Sequence
from statistics import median
from typing import NamedTuple

VARIABLE = "OPENBLAS_CORETYPE"
# The kernel sets of OpenBLAS on x86 by the registers they use; the first of a row is the one to
# ask for, where the CPU has all the flags.
WIDTHS = [
    (("SkylakeX", "Cooperlake", "SapphireRapids"), "avx512f avx512cd avx512bw avx512dq avx512vl"),
    (("Haswell", "Zen", "Excavator"), "avx2 fma"),
    (("Sandybridge", "Bulldozer", "Piledriver", "Steamroller"), "avx"),
    (("Prescott", "Core2", "Nehalem", "Barcelona"), "sse3"),
]
WORTH = 1.05  # a gain below this, in any round, is nothing to speak of


class Gain(NamedTuple):
    """How many times as fast: the median of the rounds, and the least."""

    median: float
    least: float

    @property
    def worth(self) -> bool:
        return self.least >= WORTH


def wider_kernels(kernels: str, flags: Collection[str]) -> str | None:
    """The kernel set to ask for on a CPU with these flags, where it is wider than the one that
    runs; None where that is as wide as the CPU's registers, or unknown."""
    for names, needed in WIDTHS:
        if kernels.lower() in map(str.lower, names):
            return None
        if set(needed.split()) <= set(flags) and _known(kernels):
            return names[0]
    return None


def _known(kernels: str) -> bool:
    return any(kernels.lower() in map(str.lower, names) for names, _ in WIDTHS)


def other_threads(now: int, cores: int, all_of_them: bool) -> list[int]:
    """The thread counts to try beside `now`: its half and its double; with all_of_them every power
    of 2, and all cores."""
    if all_of_them:
        found = {1 << k for k in range(cores.bit_length())} | {cores}
    else:
        found = {now // 2, min(2 * now, cores)}
    return sorted(n for n in found if 1 <= n <= cores and n != now)


def gain(before: Sequence[float], after: Sequence[float]) -> Gain:
    """Of times measured in pairs."""
    ratios = [b / a for b, a in zip(before, after, strict=True)]
    return Gain(median(ratios), min(ratios))


def kernels_line(kernels: str, wider: str, measured: Gain) -> str:
    """One line about narrow kernels."""
    text = f"NumPy's OpenBLAS runs its {kernels} kernels, and this CPU could run {wider}'s: with"
    if measured.worth:
        return f"{text} {VARIABLE}={wider} set before Python starts, a step is {_times(measured)}"
    return f"{text} {VARIABLE}={wider} a step is no faster here ({measured.median:.2f} times)"


def threads_line(now: int, gains: dict[int, Gain]) -> str | None:
    """One line about the thread count that is worth most; None where none is."""
    worth = {n: each for n, each in gains.items() if each.worth}
    if not worth:
        return None
    best = max(worth, key=lambda n: worth[n].median)
    return f"with --threads {best} instead of {now} a step is {_times(worth[best])} at this size"


def _times(measured: Gain) -> str:
    return f"{measured.median:.2f} times as fast"
