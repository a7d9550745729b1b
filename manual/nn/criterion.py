"""What every loss has: forward(prediction, target) → a number, backward() → dprediction."""

import numpy as np

from manual.nn.module import check_array


class Criterion:
    """What every loss has. `reduction`: "mean", "sum" or "none", as in torch.

    forward(prediction, target) returns a NumPy scalar of the prediction's dtype ("none": an
    array, one loss for each element or row). backward(dloss) returns dLoss/dprediction; dloss,
    the gradient of what comes after, is 1 where the loss is a scalar and must be given for "none".
    """

    saved: tuple | None = None

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(
                f"{type(self).__name__}: reduction must be 'mean', 'sum' or 'none', "
                f"got {reduction!r}"
            )
        self.reduction = reduction

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dloss: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> np.floating | np.ndarray:
        return self.forward(prediction, target)

    def recall(self) -> tuple:
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward called before forward")
        return self.saved

    def _dloss(self, dloss: np.ndarray | None, shape: tuple, dtype: np.dtype) -> np.ndarray:
        """The given dloss as an array of `shape`, or 1 for a scalar loss."""
        if dloss is None:
            if self.reduction == "none":
                raise ValueError(
                    f"{type(self).__name__}: reduction 'none' gives an array; "
                    f"backward needs dloss of shape {shape}"
                )
            return np.ones((), dtype)
        if np.ndim(dloss) == 0:
            dloss = np.asarray(dloss, dtype)
        check_array(f"{type(self).__name__}: dloss", dloss, shape, dtype)
        return dloss

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
