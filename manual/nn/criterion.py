"""What every loss has: forward(prediction, target) → a number, backward() → dprediction."""

import numpy as np

from manual.arrays import array_module, as_array, is_array, module_of
from manual.checks import InputError, check_array
from manual.nn.workspace import Reuses


class Criterion(Reuses):
    """What every loss has. `reduction`: "mean", "sum" or "none", as in torch.

    forward(prediction, target) returns a NumPy scalar of the prediction's dtype ("none": an array,
    one loss for each element or position); of CuPy arrays an array of rank 0, so that nobody waits
    for the GPU. backward(dloss) returns dLoss/dprediction; dloss, the gradient of what comes after,
    is 1 where the loss is a scalar and must be given for "none".
    What was given to forward must not be changed in place before backward has run.
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
        if type(prediction) is not self.array_type:
            self.follow(prediction)
        if type(target) is not self.array_type:
            self._refuse_elsewhere(target)
        return self.forward(prediction, target)

    def to(self, device: str) -> "Criterion":
        """Move what it holds, such as weights, to "cpu" or "cuda" (CuPy); returns the criterion.
        Raises DeviceError where CuPy or a GPU is missing."""
        for name, value in vars(self).items():
            if is_array(value):
                setattr(self, name, as_array(value, device))
        self.follow(module_of(device).empty(0))
        return self

    def follow(self, x: np.ndarray) -> None:
        """As `Reuses.follow`. Raises TypeError where this criterion has weights elsewhere."""
        for name, value in vars(self).items() if is_array(x) else ():
            own = array_module(value)
            if not name.startswith("_") and is_array(value) and own is not array_module(x):
                raise TypeError(
                    f"{type(self).__name__}: the prediction is a {array_module(x).__name__} array, "
                    f"{name} a {own.__name__} array; to('cuda') or to('cpu') moves a criterion"
                )
        super().follow(x)

    def _refuse_elsewhere(self, target: np.ndarray) -> None:
        if is_array(target) and array_module(target).ndarray is not self.array_type:
            raise TypeError(
                f"{type(self).__name__}: the prediction is a {self.array_type.__module__} array, "
                f"the target a {array_module(target).__name__} array"
            )

    def recall(self) -> tuple:
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward called before forward")
        return self.saved

    def _dloss(self, dloss: np.ndarray | None, shape: tuple, dtype: np.dtype) -> np.ndarray:
        """The given dloss as an array of `shape` (the losses'; () unless "none"), or 1."""
        shape = shape if self.reduction == "none" else ()
        if dloss is None:
            if self.reduction == "none":
                raise InputError(
                    f"{type(self).__name__}: reduction 'none' gives an array; "
                    f"backward needs dloss of shape {shape}"
                )
            return dtype.type(1)
        if np.ndim(dloss) == 0:
            dloss = self._workspace.asarray(dloss, dtype)
        check_array(f"{type(self).__name__}: dloss", dloss, shape, dtype)
        return dloss

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ElementwiseLoss(Criterion):
    """A loss L_i for each element of a prediction and a target of one shape, of any rank."""

    def _check(self, prediction: np.ndarray, target: np.ndarray) -> None:
        name = type(self).__name__
        check_array(f"{name}: prediction", prediction)
        check_array(f"{name}: target", target, prediction.shape, prediction.dtype)
        if prediction.size == 0 and self.reduction == "mean":
            raise InputError(f"{name}: the mean over no elements (shape {prediction.shape})")

    def _reduced(self, losses: np.ndarray) -> np.floating | np.ndarray:
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def _chained(self, dloss: np.ndarray | None, slopes: np.ndarray) -> np.ndarray:
        """dL/dŷ_i = dL/dL_i · ∂L_i/∂ŷ_i from the slopes ∂L_i/∂ŷ_i. dL/dL_i is the given dloss
        (a scalar loss: 1), for "mean" over the number of elements."""
        dlosses = self._dloss(dloss, slopes.shape, slopes.dtype)
        if self.reduction == "mean":
            dlosses = dlosses / slopes.size
        return np.multiply(dlosses, slopes, out=self._new(slopes))

    def _new(self, like: np.ndarray) -> np.ndarray:
        return self.new_empty(like.shape, like.dtype)


def times(value: np.ndarray, factor: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """value ← factor · value with 0 · ∞ = 0, as a cross-entropy understands 0 log 0. zero: a bool
    array of that shape, to work with."""
    np.putmask(value, np.equal(factor, 0, out=zero), 0)
    value *= factor
    return value
