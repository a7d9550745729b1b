"""Arrays that are used again, so that a step of training allocates nothing after the first."""

from collections.abc import Callable, Iterator
from functools import cached_property
from sys import getrefcount

import numpy as np

SHAPES, COPIES = 12, 16  # of how many shapes arrays are kept, and how many of one shape


class Workspace:
    """Hands out arrays, and hands one out again once nobody else holds it, nor a view of it.

    CPython counts who holds an object. So whoever keeps what a module returned need not copy it:
    as long as it is kept nothing is written to it, and others are taken instead.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[int, ...], np.dtype | type], list[np.ndarray]] = {}
        self._ones: dict[tuple[int, np.dtype], np.ndarray] = {}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An array with any values, in C order."""
        arrays = self._kept.get((shape, dtype))
        if arrays is None:
            _forget_oldest(self._kept)
            arrays = self._kept[shape, dtype] = []
        for array in arrays:
            if getrefcount(array) == UNUSED:
                return array
        array = np.empty(shape, dtype)
        if len(arrays) < COPIES:
            arrays.append(array)
        return array

    def ones(self, n: int, dtype: np.dtype) -> np.ndarray:
        """n ones, read-only."""
        ones = self._ones.get((n, dtype))
        if ones is None:
            _forget_oldest(self._ones)
            ones = self._ones[n, dtype] = np.ones(n, dtype)
            ones.flags.writeable = False
        return ones

    # A copy or a pickle of a module takes no scratch memory along.
    def __reduce__(self) -> tuple:
        return Workspace, ()


def _forget_oldest(kept: dict) -> None:
    if len(kept) == SHAPES:
        del kept[next(iter(kept))]


def _references(arrays: list[np.ndarray]) -> Iterator[int]:
    for array in arrays:
        yield getrefcount(array)


class Reuses:
    """What has a workspace of its own."""

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace()

    @cached_property
    def new_empty(self) -> Callable[[tuple[int, ...], np.dtype | type], np.ndarray]:
        """new_empty(shape, dtype): an array with any values, in C order; one that was handed out
        before and that nobody holds any more, where there is one."""
        return self._workspace.empty

    @cached_property
    def ones(self) -> Callable[[int, np.dtype], np.ndarray]:
        """ones(n, dtype): n ones, read-only: np.dot(ones, x) sums x over its rows, in half the
        time of np.sum."""
        return self._workspace.ones


# That of an array that only the list has, counted as in `empty`.
UNUSED = next(_references([np.empty(0)]))
