"""Losses that compare prediction and target element by element."""

import numpy as np

from manual.nn.criterion import Criterion
from manual.nn.module import InputError, check_array


def _difference(name: str, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    check_array(f"{name}: prediction", prediction)
    check_array(f"{name}: target", target, prediction.shape, prediction.dtype)
    if prediction.size == 0:
        raise InputError(f"{name}: the prediction has no elements (shape {prediction.shape})")
    return prediction - target


class HalfSquaredError(Criterion):
    """L = ½ Σ (ŷ − y)², over every element: the loss of the lecture notes and the homework."""

    def __init__(self) -> None:
        super().__init__("sum")

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating:
        difference = _difference("HalfSquaredError", prediction, target)
        self.saved = (difference,)
        return np.dot(difference.ravel(), difference.ravel()) / 2

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L/∂ŷ_i = ½ · 2 (ŷ_i − y_i) = ŷ_i − y_i."""
        (difference,) = self.recall()
        return self._dloss(dloss, (), difference.dtype) * difference


class SumSquaredError(Criterion):
    """L = Σ (ŷ − y)², over every element, neither halved nor averaged: the lecture notes' R."""

    def __init__(self) -> None:
        super().__init__("sum")

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating:
        difference = _difference("SumSquaredError", prediction, target)
        self.saved = (difference,)
        return np.dot(difference.ravel(), difference.ravel())

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L/∂ŷ_i = 2 (ŷ_i − y_i)."""
        (difference,) = self.recall()
        return self._dloss(dloss, (), difference.dtype) * (2 * difference)


class MSELoss(Criterion):
    """L_i = (ŷ_i − y_i)²; "mean" divides the sum by the number of elements, not of rows."""

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        difference = _difference("MSELoss", prediction, target)
        self.saved = (difference,)
        if self.reduction == "none":
            return difference * difference
        total = np.dot(difference.ravel(), difference.ravel())
        return total / difference.size if self.reduction == "mean" else total

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        """∂L_i/∂ŷ_i = 2 (ŷ_i − y_i); "mean": the same over the number of elements."""
        (difference,) = self.recall()
        shape = difference.shape if self.reduction == "none" else ()
        factor = 2 / difference.size if self.reduction == "mean" else 2
        return self._dloss(dloss, shape, difference.dtype) * (factor * difference)
