"""Losses over classes: the negative log-likelihood, with and without the softmax before it.

Both are L_n = −Σ_c t_nc log p_nc, with t the target as a weight for each class. The classes lie
on axis 1 of the prediction, (N, C) or (N, C, d1, …), or are all it has, (C,); n stands for every
other position: the losses have the shape (N,), (N, d1, …) or ().
"""

import numpy as np

from manual.checks import DtypeError, InputError, check_array, whole_number
from manual.nn.criterion import Criterion, product
from manual.nn.module import overflowing
from manual.nn.softmax import log_sum


class _ClassLoss(Criterion):
    """From the target to t, and from t and log p to the loss.

    weight: (C,) or None, a factor w_c for each class; positions whose target is `ignore_index`
    count for nothing. "mean" divides Σ_n L_n by Σ_n w_{y_n} over the positions that count.
    """

    label_smoothing = 0.0

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

    def _class_axis(self, x: np.ndarray) -> int:
        name = type(self).__name__
        check_array(f"{name}: prediction", x)
        axis = min(1, x.ndim - 1)
        if x.ndim == 0 or x.shape[axis] == 0:
            raise InputError(
                f"{name}: expected a prediction of shape (N, C), (N, C, d1, …) or (C,) with "
                f"C > 0, got {x.shape}"
            )
        if self.reduction == "mean" and x.size == 0:
            raise InputError(f"{name}: the mean over no elements (shape {x.shape})")
        if self.weight is not None:
            check_array(f"{name}: weight", self.weight, (x.shape[axis],), x.dtype)
        return axis

    def _check_indices(self, x: np.ndarray, y: np.ndarray, axis: int) -> None:
        name, classes = type(self).__name__, x.shape[axis]
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        if y.shape != shape or y.dtype.kind not in "iu":
            error = InputError if y.dtype.kind in "iu" else DtypeError
            raise error(
                f"{name}: a prediction of shape {x.shape} needs class indices (integers) of "
                f"shape {shape}, got {y.dtype} of shape {y.shape}"
            )
        outside = ((y < 0) | (y >= classes)) & (y != self.ignore_index)
        if outside.any():
            n = tuple(int(i) for i in np.argwhere(outside)[0])
            raise IndexError(f"{name}: target {y[n]} at {n} is outside the {classes} classes")

    def _from_indices(self, x: np.ndarray, y: np.ndarray, axis: int) -> tuple:
        """t_nc = w_c ((1 − ε) [c = y_n] + ε/C), 0 where y_n is ignored; the index of the entries
        (n, y_n), or None where others are ≠ 0 too; and the divisor."""
        self._check_indices(x, y, axis)
        counts = y != self.ignore_index
        present = counts.astype(x.dtype)
        y = np.where(counts, y, 0)
        w = present if self.weight is None else present * self.weight[y]
        positions = np.indices(y.shape, sparse=True)
        at = (*positions[:axis], y, *positions[axis:])
        epsilon = self.label_smoothing
        t = np.zeros(x.shape, x.dtype)
        t[at] = (1 - epsilon) * w
        if epsilon:
            t += epsilon / x.shape[axis] * self._weighted(np.expand_dims(present, axis), axis)
            at = None
        divisor = 1
        if self.reduction == "mean":
            divisor = np.count_nonzero(counts) if self.weight is None else w.sum()
            if divisor == 0:
                raise ValueError(
                    f"{type(self).__name__}: no target counts (all are ignore_index or of "
                    "weight 0); the mean over nothing is undefined"
                )
        return t, at, x.dtype.type(divisor)

    def _weighted(self, q: np.ndarray, axis: int) -> np.ndarray:
        """w_c q_nc."""
        if self.weight is None:
            return q
        return q * self.weight.reshape(-1, *[1] * (q.ndim - axis - 1))

    def _loss(self, t, at, log_p, divisor, axis: int) -> np.floating | np.ndarray:
        """−Σ_c t_nc log p_nc, where log p = −inf (a masked class) counts only if t_nc ≠ 0."""
        terms = product(t, log_p).sum(axis=axis) if at is None else product(t[at], log_p[at])
        losses = -terms
        return losses if self.reduction == "none" else losses.sum() / divisor

    def _dlosses(self, dloss, t, divisor, axis: int) -> np.ndarray:
        """dL/dL_n over the divisor, as it broadcasts over t."""
        shape = t.shape[:axis] + t.shape[axis + 1 :]
        dloss = self._dloss(dloss, shape, t.dtype) / divisor
        return np.expand_dims(dloss, axis) if self.reduction == "none" else dloss


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
        axis = self._class_axis(prediction)
        t, at, divisor = self._from_indices(prediction, np.asarray(target), axis)
        self.saved = t, divisor, axis
        return self._loss(t, at, prediction, divisor, axis)

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """With t_nc = w_c [c = y_n], L_n = −Σ_c t_nc log p_nc, so ∂L_n/∂log p_nc = −t_nc;
        for "mean" over the divisor."""
        t, divisor, axis = self.recall()
        return -t * self._dlosses(dloss, t, divisor, axis)


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

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        """log p = (z − m) − log Σ e^(z − m) with m = max z: no overflow, no log of 0.

        Raises InputError or DtypeError for what does not fit, IndexError for a target outside
        [0, C), ValueError where "mean" would divide by the weight of no position at all.
        """
        axis = self._class_axis(prediction)
        target = np.asarray(target)
        if target.shape == prediction.shape:
            t, at, divisor = self._from_probabilities(prediction, target, axis)
        else:
            t, at, divisor = self._from_indices(prediction, target, axis)
        z = prediction - prediction.max(axis=axis, keepdims=True)
        p = np.exp(z)
        log_p = z - log_sum(p, axis)
        p /= p.sum(axis=axis, keepdims=True)
        self.saved = p, log_p, t, divisor, axis
        return self._loss(t, at, log_p, divisor, axis)

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """dz: the shape of the prediction.

        ∂log p_c/∂z_k = [c = k] − p_k, so ∂L_n/∂z_nk = −Σ_c t_nc ([c = k] − p_nk)
            = p_nk Σ_c t_nc − t_nk          (without weights and smoothing: p − onehot(y))
            = p_nk Σ_{c≠k} t_nc + t_nk (p_nk − 1),
        and for "mean" the same over the divisor. p − 1 from log p keeps its digits for p → 1.
        """
        p, log_p, t, divisor, axis = self.recall()
        dz = p * (t.sum(axis=axis, keepdims=True) - t)
        dz += t * np.expm1(log_p)
        dz *= self._dlosses(dloss, t, divisor, axis)
        return dz

    def _from_probabilities(self, z: np.ndarray, y: np.ndarray, axis: int) -> tuple:
        """t = w_c ((1 − ε) y_nc + ε/C); None (which see above); and the divisor."""
        check_array("CrossEntropyLoss: target (class probabilities)", y, dtype=z.dtype)
        if self.ignore_index >= 0:
            raise InputError(
                f"CrossEntropyLoss: ignore_index {self.ignore_index} needs class indices as the "
                "target, got class probabilities"
            )
        epsilon, classes = self.label_smoothing, z.shape[axis]
        q = (1 - epsilon) * y + epsilon / classes if epsilon else y
        positions = z.size // classes if self.reduction == "mean" else 1
        return self._weighted(q, axis), None, z.dtype.type(positions)
