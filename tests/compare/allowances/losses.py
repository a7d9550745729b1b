"""Every loss's rule: E of the loss and of the prediction's gradient."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from compare.rounding import loss_rule
from tests.compare.allowances import FORMATS, Rows, errors, wave
from torch_ref import modules

nn = torch.nn
REDUCTIONS = ("mean", "sum", "none")
POSITIVE = 1.5 + wave(41)


def weights(n: int) -> torch.Tensor:
    return torch.tensor(POSITIVE[:n])


def of(
    name: str, criterion: nn.Module, z: np.ndarray, y: np.ndarray, by_row: tuple[int, ...] = ()
) -> Iterator[tuple[str, Rows]]:
    """by_row: the loss's shape where it is not reduced."""
    none = criterion.reduction == "none"
    dloss = 0.2 + wave(*by_row, phase=1) if none else np.array(0.7)
    for kind, (r, size) in FORMATS.items():
        eloss, edz = loss_rule(criterion, r, z, errors(size, *z.shape), y, np.asarray(dloss))
        yield f"{name}, {criterion.reduction}; {kind}", {"loss": eloss, "dz": edz}


def distances(kind: type, reductions: tuple[str, ...] = REDUCTIONS) -> Iterator[tuple[str, Rows]]:
    for shape in ((6, 7), (), (0,)):
        z, y = 2 * wave(*shape), wave(*shape, phase=1)
        if z.size > 3:
            z.flat[1:4] = y.flat[1:4] + np.array([0, 0.001, -0.001])
        for reduction in reductions:
            criterion = kind(reduction=reduction) if reduction else kind()
            yield from of(f"{[*shape]}", criterion, z, y, shape)


def probabilities(**options: torch.Tensor) -> Iterator[tuple[str, Rows]]:
    z, y = 0.5 + 0.5 * wave(6, 7), 0.5 + 0.5 * wave(6, 7, phase=1)
    z[0, :4], y[1, :3] = (0.0, 1.0, 0.001, 0.999), (0.0, 1.0, 0.0)
    z[2, 2], y[2, 2], z[2, 3], y[2, 3] = 0.0, 1.0, 1.0, 0.0  # logarithms from −100
    for name, weight in (("plain", None), ("weighted", weights(7))):
        for reduction in REDUCTIONS:
            yield from of(name, nn.BCELoss(weight, reduction=reduction), z, y, z.shape)


def logits() -> Iterator[tuple[str, Rows]]:
    z, y = 20 * wave(6, 7), 0.5 + 0.5 * wave(6, 7, phase=1)
    z[1, :3], y[0, :4] = (0.001, -0.001, 800), (0.0, 1.0, -0.5, 1.5)
    for name, options in (
        ("plain", {}),
        ("weighted", {"weight": weights(7)}),
        ("pos_weight", {"pos_weight": weights(7)}),
        ("both", {"weight": weights(7), "pos_weight": weights(7)}),
    ):
        for reduction in REDUCTIONS:
            criterion = nn.BCEWithLogitsLoss(**options, reduction=reduction)
            yield from of(name, criterion, z, y, z.shape)


SHAPES = ((4,), (6, 4), (2, 4, 3), (41, 2), (2, 41))


def classes(kind: type) -> Iterator[tuple[str, Rows]]:
    """Targets that are indices."""
    for shape in SHAPES:
        c, rows = shape[min(1, len(shape) - 1)], (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
        z, y = 3 * wave(*shape), np.asarray(np.arange(np.prod(rows, dtype=int)) % c).reshape(rows)
        options = {"plain": {}, "weighted": {"weight": weights(c)}}
        if shape in ((6, 4), (2, 4, 3)):
            options["ignored"] = {"weight": weights(c), "ignore_index": 1}
            options["ignored, plain"] = {"ignore_index": 1}
            if kind is nn.CrossEntropyLoss:
                options["smoothed"] = {"label_smoothing": 0.3}
                options["all"] = options["ignored"] | {"label_smoothing": 0.3}
        for name, given in options.items():
            for reduction in REDUCTIONS:
                criterion = kind(**given, reduction=reduction)
                yield from of(f"{name} {[*shape]}", criterion, z, y, rows)
    z = 3 * wave(6, 4)
    z[:, 3] = -np.inf  # of a class that is never the target
    r, ez = FORMATS["coarse"][0], np.zeros((6, 4))
    found = loss_rule(kind(), r, z, ez, np.array([0, 1, 2, 2, 1, 0]), np.array(0.7))
    yield "minus infinity", dict(zip(("loss", "dz"), found, strict=True))


def shares() -> Iterator[tuple[str, Rows]]:
    """Targets that are probabilities."""
    for shape in SHAPES:
        axis = min(1, len(shape) - 1)
        z, y = 3 * wave(*shape), 0.5 + 0.5 * wave(*shape, phase=1)
        y.flat[2] = 0
        rows, c = (*shape[:axis], *shape[axis + 1 :]), shape[axis]
        for name, options in (
            ("plain", {}),
            ("all", {"weight": weights(c), "label_smoothing": 0.3}),
        ):
            for reduction in REDUCTIONS:
                criterion = nn.CrossEntropyLoss(**options, reduction=reduction)
                yield from of(f"{name} {[*shape]}", criterion, z, y, rows)


LOSSES = {
    "MSELoss": partial(distances, nn.MSELoss),
    "L1Loss": partial(distances, nn.L1Loss),
    "HalfSquaredError": partial(distances, modules.HalfSquaredError, ("",)),
    "SumSquaredError": partial(distances, modules.SumSquaredError, ("",)),
    "BCELoss": probabilities,
    "BCEWithLogitsLoss": logits,
    "NLLLoss": partial(classes, nn.NLLLoss),
    "CrossEntropyLoss": partial(classes, nn.CrossEntropyLoss),
    "CrossEntropyLoss of probabilities": shares,
}
