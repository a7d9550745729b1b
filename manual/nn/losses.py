"""Losses that compare prediction and target element by element."""

import numpy as np

from manual.nn.criterion import ElementwiseLoss
from manual.nn.module import overflowing


def _sum_of_squares(difference: np.ndarray) -> np.floating:
    return np.dot(difference.ravel(), difference.ravel())


class HalfSquaredError(ElementwiseLoss):
    """L = ½ Σ (ŷ − y)², over every element: the loss of the lecture notes and the homework."""

    def __init__(self) -> None:
        super().__init__("sum")

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating:
        self._check(prediction, target)
        difference = self._new(prediction)
        np.subtract(prediction, target, out=difference)
        self.saved = (difference,)
        return _sum_of_squares(difference) / 2

    @overflowing
    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L/∂ŷ_i = ½ · 2 (ŷ_i − y_i) = ŷ_i − y_i."""
        (difference,) = self.recall()
        return self._chained(dloss, difference)


class SumSquaredError(ElementwiseLoss):
    """L = Σ (ŷ − y)², over every element, neither halved nor averaged: the lecture notes' R."""

    def __init__(self) -> None:
        super().__init__("sum")

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating:
        self._check(prediction, target)
        difference = self._new(prediction)
        np.subtract(prediction, target, out=difference)
        self.saved = (difference,)
        return _sum_of_squares(difference)

    @overflowing
    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L/∂ŷ_i = 2 (ŷ_i − y_i)."""
        (difference,) = self.recall()
        return self._chained(dloss, np.multiply(2, difference, out=self._new(difference)))


class MSELoss(ElementwiseLoss):
    """L_i = (ŷ_i − y_i)²; "mean" divides the sum by the number of elements, not of rows."""

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        self._check(prediction, target)
        difference = self._new(prediction)
        np.subtract(prediction, target, out=difference)
        self.saved = (difference,)
        if self.reduction == "none":
            return np.multiply(difference, difference, out=self._new(difference))
        total = _sum_of_squares(difference)
        return total / difference.size if self.reduction == "mean" else total

    @overflowing
    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L_i/∂ŷ_i = 2 (ŷ_i − y_i); "mean": the same over the number of elements."""
        (difference,) = self.recall()
        return self._chained(dloss, np.multiply(2, difference, out=self._new(difference)))


class L1Loss(ElementwiseLoss):
    """L_i = |ŷ_i − y_i|; "mean" divides the sum by the number of elements, not of rows."""

    @overflowing
    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        self._check(prediction, target)
        difference = self._new(prediction)
        np.subtract(prediction, target, out=difference)
        self.saved = (difference,)
        return self._reduced(np.abs(difference, out=self._new(difference)))

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L_i/∂ŷ_i = sign(ŷ_i − y_i), and 0 at the kink ŷ_i = y_i, as in torch."""
        (difference,) = self.recall()
        return self._chained(dloss, np.sign(difference, out=self._new(difference)))
