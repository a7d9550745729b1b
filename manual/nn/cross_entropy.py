"""Losses over classes: softmax and negative log-likelihood."""

import numpy as np

from manual.nn.criterion import Criterion
from manual.nn.module import check_array


class CrossEntropyLoss(Criterion):
    """Softmax and negative log-likelihood in one, as torch.nn.CrossEntropyLoss, for class indices.

    prediction: logits z, (N, C) or (C,). target: whole numbers in [0, C), (N,) or ().
    weight: (C,) or None, a factor w_c for each class; label_smoothing: ε in [0, 1];
    rows whose target is `ignore_index` count for nothing.

    With p = softmax(z), the smoothed target q_c = (1 − ε) [c = y] + ε/C and t_c = w_c q_c:
        L_n = −Σ_c t_nc log p_nc;     "mean": Σ_n L_n / Σ_n w_{y_n} over the rows that count.
    """

    def __init__(
        self,
        weight: np.ndarray | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1], got {label_smoothing!r}"
            )
        if weight is not None:
            check_array("CrossEntropyLoss: weight", weight)
        self.weight, self.ignore_index = weight, ignore_index
        self.label_smoothing = float(label_smoothing)

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        """log p = (z − m) − log Σ e^(z − m) with m = max z: no overflow, no log of 0.

        Raises TypeError or ValueError for wrong dtypes or shapes, IndexError for a target
        outside [0, C), ValueError where "mean" would divide by the weight of no row at all.
        """
        z, y = self._checked(prediction, target)
        z = z - z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        t = self._targets(z, y)
        log_p = z - np.log(total)
        # log p = −inf (a masked logit) counts only where t asks for it
        losses = -np.multiply(t, log_p, where=t != 0, out=np.zeros_like(t)).sum(axis=1)
        divisor = None
        if self.reduction == "mean":
            counts = y != self.ignore_index
            divisor = counts.sum() if self.weight is None else self.weight[y[counts]].sum()
            if divisor == 0:
                raise ValueError(
                    "CrossEntropyLoss: no target counts (all are ignore_index or of weight 0); "
                    "the mean over nothing is undefined"
                )
            divisor = z.dtype.type(divisor)
        self.saved = p, t, divisor, prediction.shape
        if self.reduction == "none":
            return losses.reshape(prediction.shape[:-1])
        return losses.sum() if divisor is None else losses.sum() / divisor

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """dz: the shape of the prediction.

        ∂log p_c/∂z_k = [c = k] − p_k, so ∂L_n/∂z_nk = −Σ_c t_nc ([c = k] − p_nk)
            = p_nk Σ_c t_nc − t_nk          (without weights and smoothing: p − onehot(y)),
        and for "mean" the same over the divisor.
        """
        p, t, divisor, shape = self.recall()
        dloss = self._dloss(dloss, shape[:-1] if self.reduction == "none" else (), p.dtype)
        dz = p * t.sum(axis=1, keepdims=True) - t
        if divisor is not None:
            dz /= divisor
        return (dz * dloss.reshape(-1, 1)).reshape(shape)

    def _checked(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        check_array("CrossEntropyLoss: prediction", z)
        if z.ndim not in (1, 2) or z.shape[-1] == 0:
            raise ValueError(
                f"CrossEntropyLoss: expected logits of shape (N, C) or (C,), got {z.shape}"
            )
        y = np.asarray(y)
        if y.dtype.kind not in "iu":
            raise TypeError(f"CrossEntropyLoss: expected class indices (integers), got {y.dtype}")
        if y.shape != z.shape[:-1]:
            raise ValueError(
                f"CrossEntropyLoss: logits of shape {z.shape} need targets of shape "
                f"{z.shape[:-1]}, got {y.shape}"
            )
        classes = z.shape[-1]
        if self.weight is not None:
            check_array("CrossEntropyLoss: weight", self.weight, (classes,), z.dtype)
        y = y.reshape(-1)
        outside = ((y < 0) | (y >= classes)) & (y != self.ignore_index)
        if outside.any():
            at = int(outside.argmax())
            raise IndexError(
                f"CrossEntropyLoss: target {y[at]} (row {at}) is outside the {classes} classes"
            )
        return z.reshape(-1, classes), y

    def _targets(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """t_nc = w_c q_nc, (N, C); a row of zeros where the target is ignored."""
        counts = y != self.ignore_index
        t = np.full_like(z, self.label_smoothing / z.shape[1])
        t[counts, y[counts]] += 1 - self.label_smoothing
        t[~counts] = 0
        if self.weight is not None:
            t *= self.weight
        return t
