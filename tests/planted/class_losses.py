"""Bugs in the losses over classes."""

from functools import cache
from typing import Any

from compare.cases.case import Draw
from manual import nn
from tests.planted.bug import Arguments, Bug, Case, edited


@cache
def classes(
    *,
    log: bool = False,
    n: int = 6,
    ignored: bool = False,
    weighted: bool = False,
    size: float = 2.0,
    **options: Any,
) -> Case:
    """CrossEntropyLoss, or NLLLoss after LogSoftmax, of four classes."""

    def case(draw: Draw) -> Arguments:
        x, y = draw.dtype.type(size) * draw.normal(n, 4), draw.generator.integers(0, 4, n)
        if ignored:
            y[:2] = -100
        own = {"weight": draw.uniform(0.5, 2, 4)} if weighted else {}
        if log:
            net, criterion = nn.LogSoftmax(1), nn.NLLLoss(**options, **own)
        else:
            net, criterion = nn.Identity(), nn.CrossEntropyLoss(**options, **own)
        return {"net": net, "criterion": criterion, "x": x, "y": y}

    return case


@cache
def probabilities(**options: Any) -> Case:
    """CrossEntropyLoss whose targets are probabilities."""

    def case(draw: Draw) -> Arguments:
        y = draw.uniform(0, 1, 6, 4)
        y /= y.sum(axis=1, keepdims=True)
        criterion = nn.CrossEntropyLoss(**options)
        return {"net": nn.Identity(), "criterion": criterion, "x": 2 * draw.normal(6, 4), "y": y}

    return case


def pixels(draw: Draw) -> Arguments:
    """CrossEntropyLoss at every place of an (N, C, d) prediction, one loss for each."""
    x, y = draw.normal(3, 4, 3), draw.generator.integers(0, 4, (3, 3))
    criterion = nn.CrossEntropyLoss(reduction="none")
    return {"net": nn.Identity(), "criterion": criterion, "x": x, "y": y}


CE, NLL = nn.CrossEntropyLoss, nn.NLLLoss

BUGS = [
    # CrossEntropyLoss
    Bug(
        "CrossEntropyLoss",
        "the gradient not divided by the batch",
        edited(CE._dlosses, " / divisor", " / divisor.dtype.type(1)"),
        classes(),
        "d_activation",
    ),
    Bug(
        "CrossEntropyLoss",
        "onehot(y) − p for p − onehot(y)",
        edited(CE.backward, "self._dlosses", "-self._dlosses"),
        classes(),
        "d_activation",
    ),
    Bug(
        "CrossEntropyLoss",
        "onehot(y) forgotten in the gradient",
        edited(CE.forward, "e.put(at, minus_s)  #", "e.put(at, total + minus_s)  #"),
        classes(),
        "d_activation",
    ),
    Bug(
        "CrossEntropyLoss",
        "the softmax of the gradient over the batch (square)",
        edited(CE.backward, "np.divide(factor, total", "np.divide(factor, e.sum(axis=1)"),
        classes(n=4),
        "d_activation",
    ),
    Bug(
        "CrossEntropyLoss",
        "ε/(C − 1) in the smoothed target",
        edited(CE._smoothed, "epsilon / len(z)", "epsilon / (len(z) - 1)"),
        classes(label_smoothing=0.1),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "1 for 1 − ε in the smoothed target",
        edited(CE._smoothed, "own *= 1 - epsilon", "pass"),
        classes(label_smoothing=0.1),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "the class weight of the target for the whole smoothed target",
        edited(
            CE._smoothed,
            "t *= self.weight[:, None]",
            "t *= w",
        ),
        classes(label_smoothing=0.1, weighted=True),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "ignored positions counted by the mean",
        edited(CE._weights, "w.sum()", "w.dtype.type(w.size)"),
        classes(ignored=True),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "ignored positions taken for class 0",
        edited(CE._weights, "counts.astype(z.dtype)", "np.ones(at.shape, z.dtype)"),
        classes(ignored=True),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "the weighted mean divided by the number of positions",
        edited(CE._weights, "w.sum()", "w.dtype.type(w.size)"),
        classes(weighted=True),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "the maximum not subtracted: ∞ − ∞",
        edited(
            CE.forward,
            "z -= m",
            "pass",
        ),
        classes(size=1e4),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "smoothing forgotten for probabilities",
        edited(CE._from_probabilities, "self.label_smoothing", "0"),
        probabilities(label_smoothing=0.1),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "for probabilities the mean over positions and classes",
        edited(CE._divisor, "z.shape[1] if", "z.size if"),
        probabilities(),
        "loss",
    ),
    Bug(
        "CrossEntropyLoss",
        "the cotangents of the places at the wrong axis",
        edited(CE._dlosses, "dlosses = dlosses / ", "dlosses = dlosses.T / "),
        pixels,
        "d_activation",
    ),
    # NLLLoss
    Bug(
        "NLLLoss",
        "the loss without its minus",
        edited(NLL._loss, "-np.add.reduce", "np.add.reduce"),
        classes(log=True),
        "loss",
    ),
    Bug(
        "NLLLoss",
        "the gradient without its minus",
        edited(NLL.backward, "np.negative(", "np.positive("),
        classes(log=True),
        "d_activation",
    ),
    Bug(
        "NLLLoss",
        "the gradient not divided by the batch",
        edited(NLL._dlosses, " / divisor", " / divisor.dtype.type(1)"),
        classes(log=True),
        "d_activation",
    ),
    Bug(
        "NLLLoss",
        "the weighted mean divided by the number of positions",
        edited(NLL._weights, "w.sum()", "w.dtype.type(w.size)"),
        classes(log=True, weighted=True),
        "loss",
    ),
    Bug(
        "NLLLoss",
        "the sum in place of the mean",
        edited(NLL._loss, " / divisor", ""),
        classes(log=True),
        "loss",
    ),
]
