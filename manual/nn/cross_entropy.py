"""Losses over classes: the negative log-likelihood, with and without the softmax before it.

Both are L_n = −Σ_c t_nc log p_nc, with t the target as a weight for each class. The classes lie
on axis 1 of the prediction, (N, C) or (N, C, d1, …), or are all it has, (C,); n stands for every
other position: the losses have the shape (N,), (N, d1, …) or ().

In memory the work is done with the classes first and all other positions in one dimension, (C, M).
"""

import numpy as np

from manual.arrays import as_array, can_be_read, maxima, take
from manual.checks import DtypeError, InputError, check_array, whole_number
from manual.nn.criterion import Criterion, times
from manual.nn.module import overflowing
from manual.nn.softmax import (
    as_given,
    classes_first,
    sum_and_log,
    unlimited,
)

UNSIGNED = np.dtype(np.uintp)


class _ClassLoss(Criterion):
    """From the target to t, and from t and log p to the loss.

    weight: (C,) or None, a factor w_c for each class; positions whose target is `ignore_index`
    count for nothing. "mean" divides Σ_n L_n by Σ_n w_{y_n} over the positions that count.
    """

    label_smoothing = 0.0
    _range = np.arange(0)
    _all_count = True  # by the last target that could be looked at

    def __init__(
        self,
        weight: np.ndarray | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if weight is not None:
            check_array(f"{type(self).__name__}: weight", weight)
        self.weight = weight
        self.ignore_index = whole_number(f"{type(self).__name__}: ignore_index", ignore_index)

    def _classes_first(self, prediction: np.ndarray) -> np.ndarray:
        """A copy of the prediction, (C, M)."""
        name = type(self).__name__
        check_array(f"{name}: prediction", prediction)
        shape, axis = prediction.shape, _class_axis(prediction.shape)
        if not shape or shape[axis] == 0:
            raise InputError(
                f"{name}: expected a prediction of shape (N, C), (N, C, d1, …) or (C,) with "
                f"C > 0, got {shape}"
            )
        if self.reduction == "mean" and prediction.size == 0:
            raise InputError(f"{name}: the mean over no elements (shape {shape})")
        if self.weight is not None:
            check_array(f"{name}: weight", self.weight, (shape[axis],), prediction.dtype)
        return classes_first(prediction, axis, self.new_empty)

    def _indices(
        self, shape: tuple[int, ...], y: np.ndarray, classes: int
    ) -> tuple[np.ndarray, bool]:
        """The y_m, (M,), and whether every position counts. shape: of the prediction."""
        expected = _positions(shape)
        if y.shape != expected or y.dtype.kind not in "iu":
            error = InputError if y.dtype.kind in "iu" else DtypeError
            raise error(
                f"{type(self).__name__}: a prediction of shape {shape} needs class indices "
                f"(integers) of shape {expected}, got {y.dtype} of shape {y.shape}"
            )
        indices = self.new_empty((y.size,), np.intp)
        indices.reshape(expected)[...] = y
        if not can_be_read(y):  # a CUDA graph: its targets must be like those before it
            return indices, self._all_count
        unsigned = indices.view(UNSIGNED)  # those below 0 are large
        if not y.size or unsigned[unsigned.argmax()] < classes:
            self._all_count = not 0 <= self.ignore_index < classes
            return indices, self._all_count
        outside = ((y < 0) | (y >= classes)) & (y != self.ignore_index)
        if outside.any():
            n = tuple(int(i) for i in np.argwhere(outside)[0])
            raise IndexError(
                f"{type(self).__name__}: target {y[n]} at {n} is outside the {classes} classes"
            )
        self._all_count = False
        return indices, False

    def _places(
        self, shape: tuple[int, ...], z: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.floating, np.ndarray | None]:
        """Where t_nc = w_c [c = y_n] is not 0: the places of the (y_m, m) in a flat (C, M), and
        the t there, (M,), or None where all are 1; the divisor of the loss; and which positions
        count, 1 or 0, (M,), or None where all do. shape: of the prediction; z: the same as (C, M).
        """
        classes, positions = z.shape
        at, all_count = self._indices(shape, y, classes)
        w = present = None
        divisor = self._divisor(z)
        if not all_count or self.weight is not None:
            w, divisor, present = self._weights(at, z, all_count)
        if positions > 1:  # (y_m, m) has the place M y_m + m
            at *= positions
            at += self._first_numbers(positions)
        return at, w, divisor, present

    def _weights(
        self, at: np.ndarray, z: np.ndarray, all_count: bool
    ) -> tuple[np.ndarray, np.floating, np.ndarray | None]:
        """w, divisor and present of `_places`. at: the y_m, made 0 where they are ignored."""
        present = None
        if not all_count:
            counts = at != self.ignore_index
            at *= counts
            present = counts.astype(z.dtype)
        w = present
        if self.weight is not None:
            w = take(self.weight, at, self.new_empty(at.shape, z.dtype))
            if present is not None:
                w *= present
        if self.reduction != "mean":
            return w, self._divisor(z), present
        divisor = w.sum()
        if can_be_read(z) and divisor == 0:
            raise ValueError(
                f"{type(self).__name__}: no target counts (all are ignore_index or of "
                "weight 0); the mean over nothing is undefined"
            )
        return w, divisor, present

    def _divisor(self, z: np.ndarray) -> np.floating:
        """Of the loss, where every position counts with the weight 1. z: (C, M)."""
        return z.dtype.type(z.shape[1] if self.reduction == "mean" else 1)

    def _first_numbers(self, n: int) -> np.ndarray:
        """0 … n − 1"""
        if self._range.size != n or type(self._range) is not self.array_type:
            self._range = self._workspace.arange(n)
        return self._range

    def _loss(
        self,
        log_p: np.ndarray,
        t: np.ndarray | None,
        divisor: np.floating,
        shape: tuple[int, ...],
    ) -> np.floating | np.ndarray:
        """−Σ_c t_nc log p_nc, where log p = −inf (a masked class) counts only if t_nc ≠ 0. log_p
        and t: (C, M), or those of the y_m alone, (M,); t is None for 1. shape: the prediction's."""
        terms = log_p
        if t is not None:
            terms = self.new_empty(log_p.shape, log_p.dtype)
            terms[...] = log_p
            times(terms, t, self.new_empty(terms.shape, bool))
        if self.reduction != "none":
            return -np.add.reduce(terms, axis=None) / divisor
        losses = self.new_empty(log_p.shape[-1:], log_p.dtype)
        np.negative(terms if terms.ndim == 1 else terms.sum(axis=0), out=losses)
        return losses.reshape(_positions(shape))

    def _dlosses(
        self, dloss: np.ndarray | None, divisor: np.floating, shape: tuple[int, ...]
    ) -> np.ndarray:
        """dL/dL_n over the divisor, (1,) (on a GPU a number) or (M,). shape: the prediction's."""
        dlosses = 1
        if dloss is not None or self.reduction == "none":
            dlosses = self._dloss(dloss, _positions(shape), divisor.dtype)
        dlosses = dlosses / divisor
        # NumPy multiplies by an array faster than by a number; on a GPU it would have to be moved.
        if self.elsewhere and isinstance(dlosses, np.generic):
            return dlosses
        return dlosses.reshape(-1)


def _class_axis(shape: tuple[int, ...]) -> int:
    return min(1, len(shape) - 1)


def _positions(shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of the losses, for a prediction of this shape."""
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


class NLLLoss(_ClassLoss):
    """L_n = −w_{y_n} log p_{n y_n}, as torch.nn.NLLLoss.

    prediction: log-probabilities, as LogSoftmax gives them, (N, C), (N, C, d1, …) or (C,).
    target: whole numbers in [0, C), (N,), (N, d1, …) or ().
    weight: (C,) or None, a factor w_c for each class; positions whose target is `ignore_index`
    count for nothing. "mean": Σ_n L_n / Σ_n w_{y_n} over the positions that count.

    Raises InputError or DtypeError for what does not fit, IndexError for a target outside
    [0, C), ValueError where "mean" would divide by the weight of no position at all, TypeError
    for an ignore_index that is not a whole number.
    """

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        log_p, shape = self._classes_first(prediction), prediction.shape
        at, w, divisor, _ = self._places(shape, log_p, as_array(target))
        self.saved = at, w, divisor, log_p.shape, shape
        log_p_y = take(log_p, at, self.new_empty(at.shape, log_p.dtype))
        return self._loss(log_p_y, w, divisor, shape)

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """With t_nc = w_c [c = y_n], L_n = −Σ_c t_nc log p_nc, so ∂L_n/∂log p_nc = −t_nc;
        for "mean" over the divisor."""
        at, w, divisor, first, shape = self.recall()
        factor = self._dlosses(dloss, divisor, shape)
        dz = self.new_empty(first, divisor.dtype)
        dz[...] = 0
        dlog_p = np.negative(factor, out=self.new_empty(at.shape, dz.dtype))
        if w is not None:
            dlog_p *= w
        dz.put(at, dlog_p)
        return as_given(dz, shape, _class_axis(shape))


class CrossEntropyLoss(_ClassLoss):
    """Softmax and negative log-likelihood in one, as torch.nn.CrossEntropyLoss.

    prediction: logits z, (N, C), (N, C, d1, …) or (C,).
    target: class indices, whole numbers in [0, C), (N,), (N, d1, …) or (); or class
    probabilities, of the prediction's shape and dtype (any numbers: they are not checked).
    weight: (C,) or None, a factor w_c for each class; label_smoothing: ε in [0, 1];
    positions whose class index is `ignore_index` count for nothing.

    With p = softmax(z) over the classes, q_nc = [c = y_n] or the probabilities y_nc, and
    t_nc = w_c ((1 − ε) q_nc + ε/C):
        L_n = −Σ_c t_nc log p_nc;     "mean": Σ_n L_n / Σ_n w_{y_n} over the positions that
    count, and for probabilities (1/number of positions) Σ_n L_n.

    Raises InputError for another label_smoothing, TypeError for an ignore_index that is not a
    whole number; for the arrays see forward.
    """

    def __init__(
        self,
        weight: np.ndarray | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        if not 0 <= label_smoothing <= 1:
            raise InputError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1], got {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    @unlimited
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        """With m = max z and e_c = e^(z_c − m): log p_c = (z_c − m) − log Σ_k e_k. No e_c exceeds
        1 and one of them is 1: no overflow, no log of 0.

        For a class index the sum is e_y + S, with S = Σ_{c≠y} e_c, and the logarithm is taken as
        log1p(S + (e_y − 1)): for p_y → 1 it is about S, whose digits it keeps.

        Raises InputError or DtypeError for what does not fit, IndexError for a target outside
        [0, C), ValueError where "mean" would divide by the weight of no position at all.
        """
        z, shape = self._classes_first(prediction), prediction.shape
        t, at, divisor = self._target(as_array(target), z, shape)
        m = maxima(z, self.new_empty(z.shape[1:], z.dtype))
        z -= m
        if at is not None:
            z_y = take(z, at, self.new_empty(m.shape, m.dtype))
            e = np.exp(z, out=z)
            e_y = take(e, at, self.new_empty(m.shape, m.dtype))
            minus_s = m  # which nobody needs any more
            minus_s[...] = 0
            e.put(at, minus_s)
            np.dot(self.full(len(e), -1, e.dtype), e, out=minus_s)
            total = np.subtract(e_y, minus_s, out=self.new_empty(m.shape, m.dtype))
            # To and fro between two arrays: in place NumPy is slower on a single number.
            log_total = np.subtract(e_y, 1, out=self.new_empty(m.shape, m.dtype))
            np.subtract(log_total, minus_s, out=e_y)
            np.log1p(e_y, out=log_total)
            log_p = np.subtract(z_y, log_total, out=e_y)
            e.put(at, minus_s)  # for backward
        else:
            e = np.exp(z, out=self.new_empty(z.shape, z.dtype))
            ones = self.full(len(e), 1, e.dtype)
            total, log_total = sum_and_log(e, ones, self.new_empty)
            log_p = np.subtract(z, log_total, out=z)
        # log_p, t: (C, M), or of the classes y_m alone, (M,); then e has −S for the e_y.
        self.saved = e, total, log_p, t, divisor, shape
        return self._loss(log_p, t, divisor, shape)

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """dz: the shape of the prediction.

        ∂log p_c/∂z_k = [c = k] − p_k, so ∂L_n/∂z_nk = −Σ_c t_nc ([c = k] − p_nk)
            = p_nk Σ_c t_nc − t_nk          (without weights and smoothing: p − onehot(y))
            = p_nk Σ_{c≠k} t_nc + t_nk (p_nk − 1),
        and for "mean" the same over the divisor. Where only t_ny = w_n is not 0, that is
        w_n/Σ_c e_c times e_k for k ≠ y, and times −S for y: p_y − 1 is −Σ_{c≠y} p_c. So, or as
        e^(log p) − 1, it keeps its digits for p → 1.
        """
        e, total, log_p, t, divisor, shape = self.recall()  # p = e / total
        dz = self.new_empty(e.shape, e.dtype)
        factor = self._dlosses(dloss, divisor, shape)
        if log_p.ndim == 1:
            scale = np.divide(factor, total, out=self.new_empty(total.shape, e.dtype))
            if t is not None:
                scale *= t
            np.multiply(e, scale, out=dz)
        else:
            sums = self.new_empty(total.shape, e.dtype)
            np.dot(self.full(len(e), 1, e.dtype), t, out=sums)
            np.subtract(sums, t, out=dz)
            dz *= np.divide(e, total, out=self.new_empty(e.shape, e.dtype))
            dp = np.expm1(log_p, out=self.new_empty(e.shape, e.dtype))
            dp *= t
            dz += dp
            dz *= factor
        return as_given(dz, shape, _class_axis(shape))

    def _target(
        self, target: np.ndarray, z: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.floating]:
        """t, (C, M), and None; or, where of each position one class alone counts, the t there, (M,)
        or None for 1, and the places of the (y_m, m) in a flat (C, M). Then the divisor of the
        loss. z: the prediction as (C, M); shape: as it was given."""
        if target.shape == shape:
            return self._from_probabilities(target, z), None, self._divisor(z)
        at, w, divisor, present = self._places(shape, z, target)
        if self.label_smoothing:
            return self._smoothed(z, at, w, present), None, divisor
        return w, at, divisor

    def _smoothed(
        self, z: np.ndarray, at: np.ndarray, w: np.ndarray | None, present: np.ndarray | None
    ) -> np.ndarray:
        """t_nc = w_c ((1 − ε) [c = y_n] + ε/C), 0 where y_n is ignored. The rest as `_places`."""
        epsilon = self.label_smoothing
        t, own = self.new_empty(z.shape, z.dtype), self.new_empty(at.shape, z.dtype)
        t[...] = epsilon / len(z)
        if self.weight is not None:
            t *= self.weight[:, None]
        if present is not None:
            t *= present
        own[...] = 1 if w is None else w
        own *= 1 - epsilon
        own += take(t, at, self.new_empty(at.shape, z.dtype))
        t.put(at, own)
        return t

    def _from_probabilities(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """t_nc = w_c ((1 − ε) y_nc + ε/C). z: the prediction as (C, M)."""
        check_array("CrossEntropyLoss: target (class probabilities)", y, dtype=z.dtype)
        if self.ignore_index >= 0:
            raise InputError(
                f"CrossEntropyLoss: ignore_index {self.ignore_index} needs class indices as the "
                "target, got class probabilities"
            )
        t, epsilon = classes_first(y, _class_axis(y.shape), self.new_empty), self.label_smoothing
        t *= 1 - epsilon
        t += epsilon / len(z)
        if self.weight is not None:
            t *= self.weight[:, None]
        return t
