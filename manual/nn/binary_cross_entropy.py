"""Cross-entropy of yes-or-no questions: a prediction and a target y for each, L_i for each.

L_i = −[q y_i log p_i + (1 − y_i) log(1 − p_i)], p_i the probability predicted for "yes".
"""

import numpy as np

from manual.arrays import can_be_read, place
from manual.checks import InputError, check_array
from manual.nn.criterion import ElementwiseLoss, times
from manual.nn.module import overflowing

SMALLEST = float(np.float32(1e-12))  # torch's constant, which it keeps as a float32


def _refuse_improbable(what: str, p: np.ndarray) -> None:
    if p.size and can_be_read(p) and not (p.min() >= 0 and p.max() <= 1):  # NaN is not
        inside = (p >= 0) & (p <= 1)
        at = tuple(int(i) for i in np.argwhere(~inside)[0])
        raise InputError(f"{what}: expected probabilities in [0, 1], got {p[at]} at {at}")


class _BinaryLoss(ElementwiseLoss):
    """With a factor for each element: `weight`, of any shape that broadcasts to the prediction's
    (without making it larger)."""

    def __init__(self, weight: np.ndarray | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if weight is not None:
            check_array(f"{type(self).__name__}: weight", weight)
        self.weight = weight

    def _check_factor(self, name: str, prediction: np.ndarray) -> None:
        """Refuse the attribute `name` where it does not broadcast to the prediction's shape."""
        factor, shape = getattr(self, name), prediction.shape
        if factor is None:
            return
        what = f"{type(self).__name__}: {name}"
        check_array(what, factor, dtype=prediction.dtype)
        pairs = zip(factor.shape[::-1], shape[::-1], strict=False)
        if factor.ndim > len(shape) or any(own not in (1, n) for own, n in pairs):
            raise InputError(
                f"{what}: expected a shape that broadcasts to {shape}, got {factor.shape}"
            )

    def _weighted(self, values: np.ndarray) -> np.ndarray:
        """The values, multiplied in place."""
        if self.weight is not None:
            values *= self.weight
        return values


class BCELoss(_BinaryLoss):
    """L_i = −w_i [y_i log p_i + (1 − y_i) log(1 − p_i)], as torch.nn.BCELoss.

    prediction p and target y: of one shape, any rank, in [0, 1]. weight w: None, or of any shape
    that broadcasts to the prediction's without making it larger; "mean" divides by the number
    of elements. As in torch no logarithm counts for less than −100, so that the loss stays
    finite at p = 0 and p = 1.

    Raises InputError for a prediction or target outside [0, 1] and for shapes that do not fit.
    """

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        self._check(prediction, target)
        self._check_factor("weight", prediction)
        _refuse_improbable("BCELoss: prediction", prediction)
        _refuse_improbable("BCELoss: target", target)
        self.saved = prediction, target
        log_p, log_q, no = (self._new(prediction) for _ in range(3))
        np.negative(prediction, out=log_q)
        with np.errstate(divide="ignore"):  # log 0 = −∞, which counts as −100
            np.maximum(np.log(prediction, out=log_p), -100, out=log_p)
            np.maximum(np.log1p(log_q, out=log_q), -100, out=log_q)
        log_p *= target
        log_q *= np.subtract(1, target, out=no)
        log_p += log_q
        return self._reduced(self._weighted(np.negative(log_p, out=log_p)))

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L_i/∂p_i = −w_i [y_i/p_i − (1 − y_i)/(1 − p_i)] = w_i (p_i − y_i) / (p_i (1 − p_i)).

        As in torch the denominator is at least 1e-12: finite at p = 0 and p = 1.
        """
        p, y = self.recall()
        slopes, below = self._new(p), self._new(p)
        np.subtract(1, p, out=below)
        below *= p
        np.maximum(below, SMALLEST, out=below)
        np.subtract(p, y, out=slopes)
        slopes /= below
        return self._chained(dloss, self._weighted(slopes))


class BCEWithLogitsLoss(_BinaryLoss):
    """Sigmoid and BCELoss in one, as torch.nn.BCEWithLogitsLoss:

    L_i = −w_i [q_i y_i log σ(x_i) + (1 − y_i) log σ(−x_i)],     σ(−x) = 1 − σ(x)

    prediction: logits x of any rank; target y: any finite numbers of the same shape. weight w
    and pos_weight q (what a "yes" counts for): None, or of any shape that broadcasts to the
    prediction's without making it larger; "mean" divides by the number of elements.
    A logit of ±∞ costs 0 where it is right, and ∞ where it is wrong.
    """

    def __init__(
        self,
        weight: np.ndarray | None = None,
        reduction: str = "mean",
        pos_weight: np.ndarray | None = None,
    ) -> None:
        super().__init__(weight, reduction)
        if pos_weight is not None:
            check_array("BCEWithLogitsLoss: pos_weight", pos_weight)
        self.pos_weight = pos_weight

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        """−log σ(±x) = log(1 + e^∓x) = max(∓x, 0) + log(1 + e^−|x|): nothing overflows, and for
        either target small losses keep their digits."""
        self._check(prediction, target)
        zero = self.new_empty(target.shape, bool)
        np.isfinite(target, out=zero)
        if can_be_read(zero) and not zero.all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(target))[0])
            raise InputError(
                f"BCEWithLogitsLoss: target: expected finite numbers, got {target[at]} at {at}"
            )
        self._check_factor("weight", prediction)
        self._check_factor("pos_weight", prediction)
        x, e, no, tail, losses, other = prediction, *(self._new(prediction) for _ in range(5))
        yes = self._yes(target)
        np.subtract(1, target, out=no)
        np.exp(np.negative(np.abs(x, out=e), out=e), out=e)
        self.saved = x, e, yes, no
        np.log1p(e, out=tail)
        np.maximum(np.negative(x, out=losses), 0, out=losses)
        losses += tail
        np.maximum(x, 0, out=other)
        other += tail
        times(losses, yes, zero)
        losses += times(other, no, zero)
        return self._reduced(self._weighted(losses))

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """d log σ(x)/dx = σ(−x) and d log σ(−x)/dx = −σ(x), so
        ∂L_i/∂x_i = w_i [(1 − y_i) σ(x_i) − q_i y_i σ(−x_i)]     (q = 1: w_i (σ(x_i) − y_i)).

        With e = e^−|x|, the larger of σ(x), σ(−x) is 1 / (1 + e) and the smaller e / (1 + e).
        """
        x, e, yes, no = self.recall()
        larger, smaller, slopes, other = (self._new(x) for _ in range(4))
        np.divide(1, np.add(1, e, out=larger), out=larger)
        np.multiply(e, larger, out=smaller)
        positive = np.greater(x, 0, out=self.new_empty(x.shape, bool))
        for sigma, right, wrong in ((slopes, larger, smaller), (other, smaller, larger)):
            sigma[...] = wrong  # σ(x), σ(−x)
            place(sigma, positive, right)
        slopes *= no
        other *= yes
        slopes -= other
        return self._chained(dloss, self._weighted(slopes))

    def _yes(self, target: np.ndarray) -> np.ndarray:
        if self.pos_weight is None:
            return target
        return np.multiply(self.pos_weight, target, out=self._new(target))
