"""Bugs in the losses that compare element by element."""

from functools import cache
from typing import Any

import numpy as np

from compare.cases.case import Draw
from manual import nn
from manual.nn import criterion as base
from tests.planted.bug import Arguments, Bug, Case, edited
from tests.planted.cases import onto


@cache
def of(kind: type, **options: Any) -> Case:
    """The loss of Linear(5, 4): loss, and d_activation."""

    def case(draw: Draw) -> Arguments:
        return onto(draw, draw.linear(5, 4), draw.normal(6, 5), kind(**options))

    return case


@cache
def direct(kind: type, low: float, high: float, **options: Any) -> Case:
    """The loss of x itself, which lies in [low, high], for targets in [0, 1]. Arrays among the
    options are drawn: give their shape."""

    def case(draw: Draw) -> Arguments:
        own = {
            name: draw.uniform(0.5, 2, *value) if isinstance(value, tuple) else value
            for name, value in options.items()
        }
        x, y = draw.uniform(low, high, 6, 4), draw.uniform(0, 1, 6, 4)
        return {"net": nn.Identity(), "criterion": kind(**own), "x": x, "y": y}

    return case


def some_equal(draw: Draw) -> Arguments:
    """L1Loss where some predictions are exactly right."""
    given = direct(nn.L1Loss, 0, 1)(draw)
    given["x"][::2, 1] = given["y"][::2, 1]
    return given


def certain(draw: Draw) -> Arguments:
    """BCELoss of probabilities of which some are 0 and 1."""
    given = direct(nn.BCELoss, 0.1, 0.9)(draw)
    given["x"][:2, 0] = 0, 1
    return given


def right_logits(draw: Draw) -> Arguments:
    """BCEWithLogitsLoss, one loss for each, of logits that are large and right."""
    size, y = draw.uniform(7, 12, 6, 4), draw.generator.integers(0, 2, (6, 4)).astype(draw.dtype)
    x = np.where(y == 1, size, -size)
    criterion = nn.BCEWithLogitsLoss(reduction="none")
    return {"net": nn.Identity(), "criterion": criterion, "x": x, "y": y}


BCE, LOGITS = nn.BCELoss, nn.BCEWithLogitsLoss

BUGS = [
    # HalfSquaredError
    Bug(
        "HalfSquaredError",
        "½ forgotten in the loss",
        edited(nn.HalfSquaredError.forward, "(difference) / 2", "(difference)"),
        of(nn.HalfSquaredError),
        "loss",
    ),
    Bug(
        "HalfSquaredError",
        "½ forgotten in the gradient",
        edited(nn.HalfSquaredError.backward, "dloss, difference", "dloss, 2 * difference"),
        of(nn.HalfSquaredError),
        "d_activation",
    ),
    Bug(
        "HalfSquaredError",
        "y − ŷ for ŷ − y",
        edited(nn.HalfSquaredError.forward, "prediction, target, out", "target, prediction, out"),
        of(nn.HalfSquaredError),
        "d_activation",
    ),
    # SumSquaredError
    Bug(
        "SumSquaredError",
        "mean for sum",
        edited(
            nn.SumSquaredError.forward,
            "return _sum_of_squares(difference)",
            "return _sum_of_squares(difference) / difference.size",
        ),
        of(nn.SumSquaredError),
        "loss",
    ),
    Bug(
        "SumSquaredError",
        "the 2 forgotten in the gradient",
        edited(nn.SumSquaredError.backward, "np.multiply(2,", "np.multiply(1,"),
        of(nn.SumSquaredError),
        "d_activation",
    ),
    Bug(
        "SumSquaredError",
        "not squared",
        edited(
            nn.SumSquaredError.forward,
            "return _sum_of_squares(difference)",
            "return np.abs(difference).sum()",
        ),
        of(nn.SumSquaredError),
        "loss",
    ),
    # MSELoss
    Bug(
        "MSELoss",
        "the mean over the samples instead of all elements, in the loss",
        edited(nn.MSELoss.forward, "total / difference.size", "total / len(difference)"),
        of(nn.MSELoss),
        "loss",
    ),
    Bug(
        "MSELoss",
        "the mean over the samples instead of all elements, in the gradient",
        edited(base.ElementwiseLoss._chained, "dlosses / slopes.size", "dlosses / len(slopes)"),
        of(nn.MSELoss),
        "d_activation",
    ),
    Bug(
        "MSELoss",
        "the gradient not divided at all",
        edited(base.ElementwiseLoss._chained, "dlosses / slopes.size", "dlosses"),
        of(nn.MSELoss),
        "d_activation",
    ),
    Bug(
        "MSELoss",
        "the 2 forgotten in the gradient",
        edited(nn.MSELoss.backward, "np.multiply(2,", "np.multiply(1,"),
        of(nn.MSELoss, reduction="sum"),
        "d_activation",
    ),
    Bug(
        "MSELoss",
        "the cotangent of the single losses forgotten",
        edited(base.ElementwiseLoss._chained, "np.multiply(dlosses,", "np.multiply(1,"),
        of(nn.MSELoss, reduction="none"),
        "d_activation",
    ),
    # L1Loss
    Bug(
        "L1Loss",
        "sign of the gradient",
        edited(nn.L1Loss.backward, "np.sign(difference,", "np.sign(-difference,"),
        of(nn.L1Loss),
        "d_activation",
    ),
    Bug(
        "L1Loss",
        "slope 1 where prediction and target are equal",
        edited(
            nn.L1Loss.backward,
            "np.sign(difference,",
            "np.copysign(1, difference,",
        ),
        some_equal,
        "d_activation",
    ),
    Bug(
        "L1Loss",
        "the absolute value forgotten",
        edited(nn.L1Loss.forward, "np.abs(difference,", "np.positive(difference,"),
        of(nn.L1Loss),
        "loss",
    ),
    # BCELoss
    Bug(
        "BCELoss",
        "p and 1 − p exchanged",
        edited(
            BCE.forward,
            "log_p *= target",
            "log_q *= target",
            "log_q *= np",
            "log_p *= np",
        ),
        direct(BCE, 0.1, 0.9),
        "loss",
    ),
    Bug(
        "BCELoss",
        "the term of the nos forgotten",
        edited(BCE.forward, "log_p += log_q", "pass"),
        direct(BCE, 0.1, 0.9),
        "loss",
    ),
    Bug(
        "BCELoss",
        "log 0 not bounded",
        edited(
            BCE.forward,
            "np.maximum(np.log(prediction, out=log_p), -100, out=log_p)",
            "np.log(prediction, out=log_p)",
        ),
        certain,
        "loss",
    ),
    Bug(
        "BCELoss",
        "1 − p forgotten in the denominator",
        edited(BCE.backward, "np.subtract(1, p, out=below)", "below[...] = 1"),
        direct(BCE, 0.1, 0.9),
        "d_activation",
    ),
    Bug(
        "BCELoss",
        "the weight forgotten in the gradient",
        edited(BCE.backward, "self._weighted(slopes)", "slopes"),
        direct(BCE, 0.1, 0.9, weight=(6, 4)),
        "d_activation",
    ),
    # BCEWithLogitsLoss
    Bug(
        "BCEWithLogitsLoss",
        "pos_weight forgotten in the gradient",
        edited(LOGITS.forward, "x, e, yes, no", "x, e, target, no"),
        direct(LOGITS, -3, 3, pos_weight=(4,)),
        "d_activation",
    ),
    Bug(
        "BCEWithLogitsLoss",
        "pos_weight for the nos too",
        edited(
            LOGITS.forward,
            "np.subtract(1, target, out=no)",
            "no = self._yes(1 - target)",
        ),
        direct(LOGITS, -3, 3, pos_weight=(4,)),
        "loss",
    ),
    Bug(
        "BCEWithLogitsLoss",
        "σ(x) and σ(−x) exchanged for positive x",
        edited(LOGITS.backward, "(slopes, larger, smaller)", "(slopes, smaller, smaller)"),
        direct(LOGITS, -3, 3),
        "d_activation",
    ),
    Bug(
        "BCEWithLogitsLoss",
        "log(1 + e) for log1p(e): small losses lose their digits",
        edited(LOGITS.forward, "np.log1p(e,", "np.log(1 + e,"),
        right_logits,
        "loss",
    ),
    Bug(
        "BCEWithLogitsLoss",
        "the weight forgotten in the loss",
        edited(LOGITS.forward, "self._weighted(losses)", "losses"),
        direct(LOGITS, -3, 3, weight=(4,)),
        "loss",
    ),
    # Criterion
    Bug(
        "Criterion",
        "dL/dL = 0 where none is given",
        edited(base.Criterion._dloss, "dtype.type(1)", "dtype.type(0)"),
        of(nn.MSELoss),
        "d_activation",
    ),
]
