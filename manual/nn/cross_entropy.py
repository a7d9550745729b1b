"""Losses over classes: the negative log-likelihood, with and without the softmax before it.

Both are L_n = −Σ_c t_nc log p_nc, with t the target as a weight for each class. The classes lie
on axis 1 of the prediction, (N, C) or (N, C, d1, …), or are all it has, (C,); n stands for every
other position: the losses have the shape (N,), (N, d1, …) or ().

In memory the work is done with the classes first and all other positions in one dimension, (C, M).
"""

from typing import NamedTuple

import numpy as np

from manual.arrays import as_array, can_be_read, take
from manual.checks import DtypeError, InputError, check_array, whole_number
from manual.nn.criterion import Criterion, times
from manual.nn.module import overflowing
from manual.nn.softmax import (
    as_given,
    classes_first,
    subtract_maximum,
    sum_and_log,
    unlimited,
)

UNSIGNED = np.dtype(np.uintp)


class _Target(NamedTuple):
    """t, either as `dense`, (C, M); or, where of each position one class alone counts, as `at`,
    the places of the (y_m, m) in a flat (C, M), and `w`, the t there, (M,), or None for 1.
    divisor: of the loss; losses: the shape of the L_n."""

    divisor: np.floating
    losses: tuple[int, ...]
    dense: np.ndarray | None = None
    at: np.ndarray | None = None
    w: np.ndarray | None = None


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
        name, expected = type(self).__name__, _positions(shape)
        if y.shape != expected or y.dtype.kind not in "iu":
            error = InputError if y.dtype.kind in "iu" else DtypeError
            raise error(
                f"{name}: a prediction of shape {shape} needs class indices (integers) "
                f"of shape {expected}, got {y.dtype} of shape {y.shape}"
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
            raise IndexError(f"{name}: target {y[n]} at {n} is outside the {classes} classes")
        self._all_count = False
        return indices, False

    def _from_indices(self, shape: tuple[int, ...], z: np.ndarray, y: np.ndarray) -> _Target:
        """t_nc = w_c ((1 − ε) [c = y_n] + ε/C), 0 where y_n is ignored. shape: of the
        prediction; z: the same as (C, M)."""
        classes, positions = z.shape
        epsilon = self.label_smoothing
        at, all_count = self._indices(shape, y, classes)
        present = w = None
        if not all_count:
            counts = at != self.ignore_index
            at *= counts
            present = w = counts.astype(z.dtype)
        if self.weight is not None:
            w = take(self.weight, at, self.new_empty(at.shape, z.dtype))
            if present is not None:
                w *= present
        divisor = 1
        if self.reduction == "mean":
            divisor = positions if all_count else np.count_nonzero(counts)
            divisor = divisor if self.weight is None else w.sum()
            if can_be_read(z) and divisor == 0:
                raise ValueError(
                    f"{type(self).__name__}: no target counts (all are ignore_index or of "
                    "weight 0); the mean over nothing is undefined"
                )
        if positions > 1:  # (y_m, m) has the place M y_m + m
            at *= positions
            at += self._first_numbers(positions)
        if not epsilon:
            return _Target(_number(divisor, z.dtype), y.shape, at=at, w=w)
        t, own = self.new_empty(z.shape, z.dtype), self.new_empty(at.shape, z.dtype)
        t[...] = epsilon / classes
        if self.weight is not None:
            t *= self.weight[:, None]
        if present is not None:
            t *= present
        own[...] = 1 if w is None else w
        own *= 1 - epsilon
        own += self._entries(t, at)
        t.put(at, own)
        return _Target(_number(divisor, z.dtype), y.shape, t)

    def _entries(self, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The entries of a (C, M) at these places: (M,)."""
        out = self.new_empty(at.shape, values.dtype)
        return take(values, at, out)

    def _first_numbers(self, n: int) -> np.ndarray:
        """0 … n − 1"""
        if self._range.size != n or type(self._range) is not self.array_type:
            self._range = self._workspace.arange(n)
        return self._range

    def _loss(self, t: _Target, log_p: np.ndarray) -> np.floating | np.ndarray:
        """−Σ_c t_nc log p_nc, where log p = −inf (a masked class) counts only if t_nc ≠ 0. log_p:
        (C, M), or for a sparse t that of the y_m alone, (M,)."""
        factor = t.w if t.dense is None else t.dense
        terms = log_p
        if factor is not None:
            terms = self.new_empty(log_p.shape, log_p.dtype)
            terms[...] = log_p
            times(terms, factor, self.new_empty(terms.shape, bool))
        if self.reduction != "none":
            return -np.add.reduce(terms, axis=None) / t.divisor
        losses = self.new_empty(log_p.shape[-1:], log_p.dtype)
        np.negative(terms if t.dense is None else terms.sum(axis=0), out=losses)
        return losses.reshape(t.losses)

    def _dlosses(self, dloss: np.ndarray | None, t: _Target) -> np.ndarray:
        """dL/dL_n over the divisor, (1,) (on a GPU a number) or (M,)."""
        dlosses = self._dloss(dloss, t.losses, t.divisor.dtype) / t.divisor
        # NumPy multiplies by an array faster than by a number; on a GPU it would have to be moved.
        if self.elsewhere and isinstance(dlosses, np.generic):
            return dlosses
        return dlosses.reshape(-1)


def _number(divisor: int | np.floating | np.ndarray, dtype: np.dtype) -> np.floating | np.ndarray:
    """In that dtype; one that was computed on a GPU stays there."""
    return divisor.astype(dtype) if hasattr(divisor, "astype") else dtype.type(divisor)


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
        t = self._from_indices(shape, log_p, as_array(target))
        self.saved = t, log_p.shape, shape
        return self._loss(t, self._entries(log_p, t.at))

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """With t_nc = w_c [c = y_n], L_n = −Σ_c t_nc log p_nc, so ∂L_n/∂log p_nc = −t_nc;
        for "mean" over the divisor."""
        t, first, shape = self.recall()
        factor = self._dlosses(dloss, t)
        dz = self.new_empty(first, t.divisor.dtype)
        dz[...] = 0
        dlog_p = np.negative(factor, out=self.new_empty(t.at.shape, dz.dtype))
        if t.w is not None:
            dlog_p *= t.w
        dz.put(t.at, dlog_p)
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
        target = as_array(target)
        if target.shape == shape:
            t = self._from_probabilities(target, z)
        else:
            t = self._from_indices(shape, z, target)
        subtract_maximum(z, self.new_empty)
        e = np.exp(z, out=self.new_empty(z.shape, z.dtype))
        ones = self.ones(len(z), z.dtype)
        if t.dense is None:
            e_y, log_p = self._entries(e, t.at), self._entries(z, t.at)
            others = self.new_empty(e_y.shape, z.dtype)
            others[...] = 0
            e.put(t.at, others)
            np.dot(ones, e, out=others)  # S
            total = np.add(e_y, others, out=self.new_empty(e_y.shape, z.dtype))
            e_y -= 1
            e_y += others
            log_p -= np.log1p(e_y, out=e_y)
            e.put(t.at, np.negative(others, out=others))  # for backward
        else:
            total, log_total = sum_and_log(e, ones, self.new_empty)
            log_p = np.subtract(z, log_total, out=z)
        self.saved = e, total, log_p, t, shape
        return self._loss(t, log_p)

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """dz: the shape of the prediction.

        ∂log p_c/∂z_k = [c = k] − p_k, so ∂L_n/∂z_nk = −Σ_c t_nc ([c = k] − p_nk)
            = p_nk Σ_c t_nc − t_nk          (without weights and smoothing: p − onehot(y))
            = p_nk Σ_{c≠k} t_nc + t_nk (p_nk − 1),
        and for "mean" the same over the divisor. Where only t_ny = w_n is not 0, that is
        w_n/Σ_c e_c times e_k for k ≠ y, and times −S for y: p_y − 1 is −Σ_{c≠y} p_c. So, or as
        e^(log p) − 1, it keeps its digits for p → 1.
        """
        e, total, log_p, t, shape = self.recall()  # p = e / total
        dz, factor = self.new_empty(e.shape, e.dtype), self._dlosses(dloss, t)
        if t.dense is None:  # and e_y is −S
            scale = np.divide(factor, total, out=self.new_empty(total.shape, e.dtype))
            if t.w is not None:
                scale *= t.w
            np.multiply(e, scale, out=dz)
        else:
            sums = self.new_empty(total.shape, e.dtype)
            np.dot(self.ones(len(e), e.dtype), t.dense, out=sums)
            np.subtract(sums, t.dense, out=dz)
            dz *= np.divide(e, total, out=self.new_empty(e.shape, e.dtype))
            dp = np.expm1(log_p, out=self.new_empty(e.shape, e.dtype))
            dp *= t.dense
            dz += dp
            dz *= factor
        return as_given(dz, shape, _class_axis(shape))

    def _from_probabilities(self, y: np.ndarray, z: np.ndarray) -> _Target:
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
        divisor = z.shape[1] if self.reduction == "mean" else 1
        return _Target(z.dtype.type(divisor), _positions(y.shape), t)
