"""What a hand-written pair of functions does, called in all the ways that must not matter."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compare.backward.functions import Arrays, Gradients, Manual, RaisedError


class Observed:
    """The calls of one check, in order, and what came of them.

    arrays: the inputs. doutputs: the two cotangents, and a combination of them; each an array for
    every output, or None for one of integers.

    outputs, first: of the first forward, and of its backward for doutputs[0], as they were
        returned. second, third: of the same saved values for the other cotangents.
    after_forward, after_backward: the inputs as the calls left them; doutputs_after: the first
        cotangent as backward left it. outputs_kept, first_kept: what had been returned, after
        the functions were called with other values.
    outputs_again, again; outputs_strided, strided: another forward and backward of the same values,
        from contiguous arrays and from others.

    A gradient is None where backward gave none, or raised an error; raised says which. Everything
    from first on is there only where the outputs have the shapes of the cotangents (`went_back`).
    """

    def __init__(self, manual: Manual, arrays: Arrays, doutputs: list[Gradients]) -> None:
        self.manual, self.arrays = manual, arrays
        self.raised: list[str] = []
        self._elsewhere(doutputs[0])
        given = copies(arrays)
        try:
            returned, saved = manual.forward(given)
        except RaisedError as error:
            raise error.__cause__ from None
        if len(returned) != len(doutputs[0]):
            raise ValueError(
                f"check_backward: forward returned {len(returned)} outputs, reference "
                f"{len(doutputs[0])}"
            )
        self.outputs, self.after_forward = copies(returned), copies(given)
        self.went_back = all(
            dy is None or dy.shape == y.shape
            for y, dy in zip(self.outputs, doutputs[0], strict=True)
        )
        if not self.went_back:
            return
        doutputs = [like(dys, self.outputs) for dys in doutputs]
        self.doutputs = doutputs[0]
        self.doutputs_after = copies(doutputs[0])
        slopes = self._tried(lambda: self._backward(saved, self.doutputs_after))
        self.first, self.after_backward = copies(slopes), copies(given)
        self.second, self.third = (
            copies(self._tried(lambda dys=dys: self._backward(saved, copies(dys))))
            for dys in doutputs[1:]
        )
        self._elsewhere(self.doutputs)
        self.outputs_kept, self.first_kept = copies(returned), copies(slopes)
        self.outputs_again, self.again = self._once_more(copies)
        self.outputs_strided, self.strided = self._once_more(strided)

    def _backward(self, saved: Any, doutputs: Gradients) -> Gradients:
        return self.manual.backward(saved, doutputs, len(self.arrays))

    def _tried(self, call: Callable[[], Gradients]) -> Gradients:
        try:
            return call()
        except RaisedError as error:
            self.raised.append(str(error))
            return [None] * len(self.arrays)

    def _once_more(self, laid_out: Callable) -> tuple[Gradients, Gradients]:
        """Forward and backward, the functions being called at another point before either."""
        self._elsewhere(self.doutputs)
        try:
            returned, saved = self.manual.forward(laid_out(self.arrays))
        except RaisedError as error:
            self.raised.append(str(error))
            return [None] * len(self.outputs), [None] * len(self.arrays)
        outputs = copies(returned)
        self._elsewhere(self.doutputs)
        slopes = self._tried(lambda: self._backward(saved, laid_out(self.doutputs)))
        return outputs, copies(slopes)

    def _elsewhere(self, doutputs: Gradients) -> None:
        """Forward and backward of the inputs turned round and shrunk a little, where both may
        well be defined; if they are not, no matter."""
        others = [
            np.flip(a) * a.dtype.type(0.875) if is_float(a) else np.flip(a) for a in self.arrays
        ]
        try:
            outputs, saved = self.manual.forward(copies(others))
            self._backward(saved, like([dy if dy is None else -dy for dy in doutputs], outputs))
        except (RaisedError, TypeError, ValueError):
            pass


def is_float(a: np.ndarray) -> bool:
    return a.dtype.kind == "f"


def copies(arrays: Sequence[np.ndarray | None]) -> Gradients:
    """C-contiguous ones."""
    return [None if a is None else np.array(a, order="C") for a in arrays]


def strided(arrays: Sequence[np.ndarray | None]) -> Gradients:
    """Every second element, in every direction, of a transposed array of other numbers."""
    found = []
    for a in arrays:
        if a is not None and a.ndim:
            gaps = np.nan if is_float(a) else False if a.dtype == bool else a.max()
            wide = np.full([2 * n for n in reversed(a.shape)], gaps, a.dtype)
            view = wide[(slice(None, None, 2),) * a.ndim].T
            view[...] = a
            a = view
        found.append(a if a is None or a.ndim else a.copy())
    return found


def like(doutputs: Gradients, outputs: Arrays) -> Gradients:
    """In the dtypes of the outputs."""
    return [
        None if dy is None else np.asarray(dy, y.dtype)
        for dy, y in zip(doutputs, outputs, strict=True)
    ]
