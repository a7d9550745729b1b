"""What a hand-written pair of functions should give: torch's values, E, and the third witness."""

import numpy as np

from compare.backward.functions import Arrays, Gradients, RaisedError, Reference
from compare.backward.observed import Observed, copies, is_float, like
from compare.oracle import derivative
from compare.rounding import Rounding
from compare.rounding.black_box import spread

SHORT = 1e-3  # the witness takes nothing to bend over less, but near 0


class Expected:
    """outputs, slopes: torch's, the gradients for each of the first two cotangents (None of an
    integer input). e_outputs, e_slopes: E of them, how far rounding may carry what manual gave;
    loose_outputs, loose_slopes: how far it may carry what manual gives in another run.

    handwritten: whether a gradient of the reference comes from an autograd.Function of somebody's.
    """

    def __init__(self, observed: Observed, reference: Reference, doutputs: list[Gradients]) -> None:
        self.manual, arrays = observed.manual, observed.arrays
        self.reference, self.doutputs = reference, doutputs
        self.kinds = [is_float(a) for a in arrays]
        self.dtype = min(a.dtype for a in arrays if is_float(a))
        self.outputs, self.slopes = reference.gradients(arrays, *self.doutputs)
        exact = _as(arrays, np.float64)
        try:
            self.exact = self._everything(exact)
        except RuntimeError as error:
            raise ValueError(
                f"check_backward: the reference must run in float64, too, where it raised {error}"
            ) from error
        self.handwritten = reference.handwritten(exact)
        e = spread(self._everything, exact, self.dtype)
        wide = np.dtype(np.float64 if self.dtype == np.float32 else np.longdouble)
        self.at, self.function = _as(arrays, wide), self._forward
        found = self._wider()
        if not self._is_reference(found[: len(self.outputs)], e):
            self.at, self.function = exact, reference.outputs
        self.noise = self._rounding_of_outputs(e)
        loose = [
            self._loose(bound, value, right, wide)
            for bound, value, right in zip(e, found, self.exact, strict=True)
        ]
        slopes = (observed.first, observed.second) if observed.went_back else ()
        mine = [*observed.outputs, *(g for of in slopes for g in self._floats(of))]
        for k, value in enumerate(mine):
            if value is not None and value.shape == e[k].shape:
                off = ~(np.abs(value - self.exact[k]) <= e[k])
                e[k] = np.where(off, loose[k], e[k])
        self.e_outputs, self.e_slopes = self._split(e)
        self.loose_outputs, self.loose_slopes = self._split(loose)

    def _floats(self, of_inputs: Gradients) -> Gradients:
        return [g for g, real in zip(of_inputs, self.kinds, strict=True) if real]

    def _everything(self, arrays: Arrays) -> Arrays:
        """The reference's outputs and gradients, one after the other; all numbers in float64."""
        outputs, slopes = self.reference.gradients(arrays, *self.doutputs)
        return _as([*outputs, *(g for of in slopes for g in self._floats(of))], np.float64)

    def _split(self, arrays: Arrays) -> tuple[Arrays, list[Gradients]]:
        """`_everything` apart again."""
        rest = iter(arrays)
        outputs = [next(rest) for _ in self.outputs]
        return outputs, [[next(rest) if k else None for k in self.kinds] for _ in self.doutputs]

    def _wider(self) -> Gradients:
        """What manual gives in the wider dtype, in the order of `_everything`."""
        try:
            outputs, saved = self.manual.forward(copies(self.at))
            found = list(outputs)
            for dys in self.doutputs:
                slopes = self.manual.backward(saved, like(dys, outputs), len(self.at))
                found += self._floats(slopes)
        except (RaisedError, TypeError, ValueError):
            return [None] * len(self.exact)
        return found

    def _is_reference(self, outputs: Gradients, e: Arrays) -> bool:
        """Whether forward is the reference's function in the wider dtype: to the rounding of
        float64, which is 2⁻⁵³/u times that of its own dtype."""
        digits = 32 * 2.0**-53 / Rounding.of(self.dtype).u
        return all(
            y is not None
            and y.shape == right.shape
            and bool((np.abs(y - right) <= digits * bound).all())
            for y, right, bound in zip(outputs, self.exact, e, strict=False)
        )

    def _loose(
        self, e: np.ndarray, value: np.ndarray | None, right: np.ndarray, wide: np.dtype
    ) -> np.ndarray:
        """E; but where manual in the wider dtype is right to E, all that it is off in its own is
        rounding, of another way to compute than the reference's (y (1 − y) loses digits near 1,
        say). There it may be off by half the digits of the tensor's largest element."""
        if value is None or value.shape != right.shape or value.dtype != wide:
            return e
        half = np.sqrt(Rounding.of(self.dtype).u) * np.abs(right).max()
        return np.where(np.abs(value - right) <= e, np.maximum(e, half), e)

    def _rounding_of_outputs(self, e: Arrays) -> np.ndarray:
        """What it may do to `function`, in the dtype in which that is asked; flat."""
        dtype = next(a.dtype for a in self.at if is_float(a))
        share = Rounding.of(dtype).u / Rounding.of(self.dtype).u
        return np.concatenate(
            [share * e_y.ravel() for y, e_y in zip(self.outputs, e, strict=False) if is_float(y)]
        )

    def _forward(self, arrays: Arrays) -> Arrays:
        return self.manual.forward(copies(arrays))[0]

    def witness(self, k: int, index: tuple, which: int) -> tuple[float, float]:
        """(value, error) of the gradient of array k at an index, for cotangent number `which`, by
        differences of forward in a wider dtype or of the reference in float64."""
        cotangents = [dy for dy in self.doutputs[which] if dy is not None]
        dtype = self.at[k].dtype

        def f(at: np.ndarray) -> np.ndarray:
            try:
                outputs = self.function([*self.at[:k], at, *self.at[k + 1 :]])
            except Exception:  # beyond the domain of the function
                return np.full(sum(dy.size for dy in cotangents), np.nan, dtype)
            return np.concatenate([y.ravel() for y in outputs if is_float(y)]).astype(dtype)

        cotangent = np.concatenate([dy.ravel() for dy in cotangents]).astype(dtype)
        value, error = derivative(f, self.at[k], index, cotangent)
        # Where f saturates, rounding hides what is left of its slope from all differences.
        hidden = np.abs(cotangent) @ self.noise / max(np.abs(self.at[k][index]), SHORT)
        return value, error + float(hidden)


def _as(arrays: Arrays, dtype: np.dtype) -> Arrays:
    return [a.astype(dtype) if is_float(a) else a for a in arrays]
