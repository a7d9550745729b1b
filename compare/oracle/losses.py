"""What every loss computes, from the textbook's formula for it.

    terms = loss_terms(criterion)          terms(prediction, target) → (terms, their noise)
    f = loss_definition(criterion)         f(prediction, target) → the loss

The terms have the prediction's shape, and the loss is their sum (over the classes alone with
reduction "none"): for differences they are taken one by one, before the sum.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from compare.oracle.definitions import base, log_softmax
from compare.oracle.noise import row_units, sums
from manual import nn

Terms = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def loss_terms(criterion: Any, whole: tuple[np.ndarray, np.ndarray] | None = None) -> Terms | None:
    """terms(prediction, target) → (terms, how far rounding can carry each, absolute), in the
    dtype of the prediction; None where no definition is known (as `definition`, which see).

    whole: (prediction, target) of the batch, where terms are asked of some of its rows alone.
    """
    if base(type(criterion), _terms.registry) is None:
        return None
    f = _terms(criterion)
    with np.errstate(all="ignore"):  # the terms may be infinite, what they are divided by is not
        of_all = None if whole is None else f(*whole)[2]

    def scaled(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        terms, units, divisor = f(prediction, target)
        if criterion.reduction == "mean":
            divisor = divisor if of_all is None else of_all
            terms, units = terms / divisor, units / divisor
        return terms, np.finfo(prediction.dtype).eps * (np.abs(terms) + units)

    return scaled


def loss_definition(criterion: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """f(prediction, target) → the loss, a 0-d array, or one for each element or position with
    reduction "none"."""
    terms = loss_terms(criterion)
    if terms is None:
        return None
    return lambda prediction, target: reduced(criterion, terms(prediction, target)[0])


def reduced(criterion: Any, terms: np.ndarray) -> np.ndarray:
    """The terms summed as the reduction says."""
    if criterion.reduction != "none":
        return np.asarray(np.sum(terms))
    if isinstance(criterion, nn.NLLLoss | nn.CrossEntropyLoss):
        return np.asarray(np.sum(terms, axis(terms)))
    return terms


def loss_noise(criterion: Any, terms: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How far rounding can carry `reduced` of terms that each have that noise."""
    summed = terms.size // max(reduced(criterion, terms).size, 1)
    eps = np.finfo(terms.dtype).eps
    return reduced(criterion, noise) + sums(summed) * eps * reduced(criterion, np.abs(terms))


def row_by_row(criterion: Any, prediction: np.ndarray) -> bool:
    """Whether the terms of a row (of dimension 0) need no other; "mean" aside."""
    factors = (getattr(criterion, name, None) for name in ("weight", "pos_weight"))
    return prediction.ndim > max([1, *(np.ndim(factor) for factor in factors)])


def axis(prediction: np.ndarray) -> int:
    """That of the classes."""
    return min(1, prediction.ndim - 1)


@singledispatch
def _terms(criterion: Any) -> Callable:
    """f(prediction, target) → (terms before "mean" divides them, their units, the divisor)."""
    raise NotImplementedError  # `base` has seen to it


def _of_difference(function: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def f(prediction: np.ndarray, target: np.ndarray) -> tuple:
        terms = function(prediction - target)
        return terms, 4 * np.abs(terms), prediction.size

    return f


@_terms.register
def _half_squared_error(criterion: nn.HalfSquaredError) -> Callable:
    return _of_difference(lambda d: d**2 / 2)


@_terms.register
def _sum_squared_error(criterion: nn.SumSquaredError) -> Callable:
    return _of_difference(lambda d: d**2)


@_terms.register
def _mse_loss(criterion: nn.MSELoss) -> Callable:
    return _of_difference(lambda d: d**2)


@_terms.register
def _l1_loss(criterion: nn.L1Loss) -> Callable:
    return _of_difference(np.abs)


@_terms.register
def _bce_loss(criterion: nn.BCELoss) -> Callable:
    """−w (y log p + (1 − y) log(1 − p)), where no logarithm counts for less than −100."""

    def f(p: np.ndarray, y: np.ndarray) -> tuple:
        yes = y * np.maximum(np.log(p), -100)
        no = (1 - y) * np.maximum(np.log1p(-p), -100)
        w = _factor(criterion.weight)
        return -w * (yes + no), 8 * np.abs(w) * (np.abs(yes) + np.abs(no)), p.size

    return f


@_terms.register
def _bce_with_logits_loss(criterion: nn.BCEWithLogitsLoss) -> Callable:
    """w (q y log(1 + e^−x) + (1 − y) log(1 + e^x))."""

    def f(x: np.ndarray, y: np.ndarray) -> tuple:
        q, w = _factor(criterion.pos_weight), _factor(criterion.weight)
        yes = _counted(q * y, np.logaddexp(0, -x))
        no = _counted(1 - y, np.logaddexp(0, x))
        return w * (yes + no), 8 * np.abs(w) * (np.abs(yes) + np.abs(no)), x.size

    return f


def _factor(value: np.ndarray | None) -> np.ndarray:
    return np.asarray(1 if value is None else value)


def _counted(factor: np.ndarray, value: np.ndarray) -> np.ndarray:
    """factor · value, 0 where the factor is: what counts for nothing may be infinite."""
    return np.where(factor == 0, 0, factor * value)


@_terms.register
def _nll_loss(criterion: nn.NLLLoss) -> Callable:
    """−w_c [c = y_n] log p_nc."""

    def f(log_p: np.ndarray, y: np.ndarray) -> tuple:
        t, divisor = _wanted(criterion, log_p, y)
        terms = -_counted(t, log_p)
        return terms, 4 * np.abs(terms), divisor

    return f


@_terms.register
def _cross_entropy_loss(criterion: nn.CrossEntropyLoss) -> Callable:
    """−w_c ((1 − ε) q_nc + ε/C) log p_nc, with p = softmax of the prediction."""

    def f(z: np.ndarray, y: np.ndarray) -> tuple:
        t, divisor = _wanted(criterion, z, y)
        terms = -_counted(t, log_softmax(z, axis(z)))
        return terms, 4 * np.abs(terms) + np.abs(t) * row_units(z, axis(z))[1], divisor

    return f


def _wanted(criterion: Any, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.floating]:
    """What −log p_nc counts for, and what "mean" divides by: the weights of the classes wanted,
    or with probabilities as targets the number of positions."""
    one, classes, k = z.dtype.type(1), z.shape[axis(z)], axis(z)
    weight = np.broadcast_to(_factor(criterion.weight), classes).astype(z.dtype)
    weight = weight.reshape(-1, *[1] * (z.ndim - k - 1))
    smoothing = criterion.label_smoothing
    if isinstance(criterion, nn.CrossEntropyLoss) and y.shape == z.shape:
        q, present, divisor = y, one, one * (z.size // classes)
    else:
        numbers = np.arange(classes).reshape(weight.shape)
        wanted = np.expand_dims(y, k)
        present = wanted != criterion.ignore_index
        q = (numbers == wanted) & present
        divisor = np.sum(weight * q)
    return weight * ((one - smoothing) * q + one * smoothing / classes * present), divisor
