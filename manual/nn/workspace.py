"""Arrays that are used again, so that a step of training allocates nothing after the first."""

from collections.abc import Callable, Iterator
from functools import cached_property
from sys import getrefcount
from types import ModuleType

import numpy as np

from manual.arrays import array_module, device_of, is_array, module_of

SHAPES, COPIES = 12, 16  # of how many shapes arrays are kept, and how many of one shape


class Workspace:
    """Hands out arrays, and hands one out again once nobody else holds it, nor a view of it.

    CPython counts who holds an object. So whoever keeps what a module returned need not copy it:
    as long as it is kept nothing is written to it, and others are taken instead.

    device: where they are, "cpu" or "cuda".
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._kept: dict[tuple[tuple[int, ...], np.dtype | type], list[np.ndarray]] = {}
        self._full: dict[tuple[int | tuple[int, ...], float, np.dtype | type], np.ndarray] = {}

    @property
    def _module(self) -> ModuleType:
        return module_of(self.device)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """An array with any values, in C order."""
        arrays = self._kept.get((shape, dtype))
        if arrays is None:
            _forget_oldest(self._kept)
            arrays = self._kept[shape, dtype] = []
        for array in arrays:
            if getrefcount(array) == UNUSED:
                return array
        array = self._module.empty(shape, dtype)
        if len(arrays) < COPIES:
            arrays.append(array)
        return array

    def full(
        self, shape: int | tuple[int, ...], fill_value: float, dtype: np.dtype | type
    ) -> np.ndarray:
        """An array of that value, read-only. Many zeros take no memory on the CPU, as nobody writes
        them."""
        full = self._full.get((shape, fill_value, dtype))
        if full is None:
            _forget_oldest(self._full)
            full = self._module.zeros(shape, dtype)
            if fill_value:
                full.fill(fill_value)
            self._full[shape, fill_value, dtype] = full
            if self.device == "cpu":  # CuPy knows no such flag
                full.flags.writeable = False
        return full

    def arange(self, n: int) -> np.ndarray:
        return self._module.arange(n)

    def asarray(self, value: object, dtype: np.dtype) -> np.ndarray:
        """The value as an array where those of this workspace are."""
        return self._module.asarray(value, dtype)

    # A copy or a pickle of a module takes no scratch memory along.
    def __reduce__(self) -> tuple:
        return Workspace, (self.device,)


def _forget_oldest(kept: dict) -> None:
    if len(kept) == SHAPES:
        del kept[next(iter(kept))]


def _references(arrays: list[np.ndarray]) -> Iterator[int]:
    for array in arrays:
        yield getrefcount(array)


class Reuses:
    """What has a workspace of its own. array_type: of the arrays in it."""

    array_type: type = np.ndarray
    elsewhere = False  # whether they are not on the CPU

    def follow(self, x: np.ndarray) -> None:
        """Take new arrays from where x is, on the CPU or the GPU. What is no array changes
        nothing."""
        array_type = array_module(x).ndarray
        if is_array(x) and array_type is not self.array_type:
            for name in ("new_empty", "full"):
                vars(self).pop(name, None)
            self.array_type, self.elsewhere = array_type, array_type is not np.ndarray
            self._workspace = Workspace(device_of(x))

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace()

    @cached_property
    def new_empty(self) -> Callable[[tuple[int, ...], np.dtype | type], np.ndarray]:
        """new_empty(shape, dtype): an array with any values, in C order; one that was handed out
        before and that nobody holds any more, where there is one."""
        return self._workspace.empty

    @cached_property
    def full(self) -> Callable[[int | tuple[int, ...], float, np.dtype | type], np.ndarray]:
        """full(shape, fill_value, dtype): an array of that value, read-only.

        np.dot(ones, x) sums x over its rows in half the time of np.sum; np.maximum of two arrays
        takes a third of the time of one with a number.
        """
        return self._workspace.full


# That of an array that only the list has, counted as in `empty`.
UNUSED = next(_references([np.empty(0)]))
