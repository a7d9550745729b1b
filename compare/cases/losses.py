"""Cases for every loss, over ranks and arguments."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.cases.case import Case, Draw
from manual import nn

REDUCTIONS = ("mean", "sum", "none")


def loss_cases(draw: Draw) -> Iterator[Case]:
    yield from _squared(draw)
    yield from _binary(draw)
    yield from _classes(draw)


def _case(
    criterion: nn.Criterion, options: dict[str, Any], net: nn.Module, x: np.ndarray, y: np.ndarray
) -> Case:
    return Case(type(criterion).__name__, options, net, criterion, x, y)


def _squared(draw: Draw) -> Iterator[Case]:
    kinds = [(nn.HalfSquaredError, {}), (nn.SumSquaredError, {})]
    kinds += [(kind, {"reduction": r}) for kind in (nn.MSELoss, nn.L1Loss) for r in REDUCTIONS]
    for kind, options in kinds:
        for rank in range(5):
            x = draw.normal(*draw.shape(rank))
            y = draw.normal(*x.shape)
            if x.size > 3:
                y.flat[0] = x.flat[0]  # at the kink of |ŷ − y|
            yield _case(kind(**options), options, nn.Identity(), x, y)
        n, out = draw.width(), draw.width()
        x, y = draw.normal(5, n), draw.normal(5, out)
        yield _case(kind(**options), options, draw.linear(n, out), x, y)


def _binary(draw: Draw) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        for rank in range(5):
            shape = draw.shape(rank)
            for variant in ({}, {"weight": draw.uniform(0.5, 2, *shape)}):
                options = {"reduction": reduction, **variant}
                x, y = draw.normal(*shape), draw.uniform(0, 1, *shape)
                if y.size > 3:
                    y.flat[:2] = 0, 1
                yield _case(nn.BCELoss(**options), options, nn.Sigmoid(), x, y)
                if shape:
                    options = {**options, "pos_weight": draw.uniform(0.5, 3, shape[-1])}
                yield _case(
                    nn.BCEWithLogitsLoss(**options), options, nn.Identity(), np.asarray(5 * x), y
                )
    x = draw.normal(3, 2) * 1e4
    options = {"reduction": "mean"}
    y = draw.uniform(0, 1, 3, 2)
    yield _case(nn.BCEWithLogitsLoss(**options), options, nn.Identity(), x, y)


def _classes(draw: Draw) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        for rank in range(1, 5):
            c = draw.width(2)
            shape = (c,) if rank == 1 else (draw.width(2, 5), c, *draw.shape(rank - 2))
            x = 2 * draw.normal(*shape)
            index = draw.generator.integers(0, c, (*shape[:1], *shape[2:]) if rank > 1 else ())
            ignored = index.copy()
            if index.ndim:
                ignored.flat[0] = -100
            weight = draw.uniform(0.5, 2, c)
            probabilities = draw.uniform(0, 1, *shape)
            probabilities /= probabilities.sum(axis=1 if rank > 1 else 0, keepdims=True)
            weighted, smooth = {"weight": weight}, {"label_smoothing": 0.1}
            variants = [
                ({}, index),
                (weighted | smooth, ignored),
                (weighted | smooth, probabilities),
            ]
            if rank == 2:  # each on its own
                variants += [(weighted, ignored), (smooth, ignored)]
                variants += [(v, probabilities) for v in ({}, weighted, smooth)]
            for variant, y in variants:
                options = {"reduction": reduction, **variant}
                yield _case(nn.CrossEntropyLoss(**options), options, nn.Identity(), x, y)
            for variant, y in (({}, index), (weighted, ignored)):
                options, net = {"reduction": reduction, **variant}, nn.LogSoftmax(min(rank - 1, 1))
                yield _case(nn.NLLLoss(**options), options, net, x, y)
            options = {"reduction": reduction, "ignore_index": 1}
            index = np.where(index == 1, 0, index)
            if index.ndim:
                index.flat[-1] = 1
            yield _case(nn.CrossEntropyLoss(**options), options, nn.Identity(), x, index)
            yield _case(nn.NLLLoss(**options), options, nn.LogSoftmax(min(rank - 1, 1)), x, index)
    n, c = draw.width(), draw.width(2)
    x, y = draw.normal(6, n), draw.generator.integers(0, c, 6)
    options = {"reduction": "mean"}
    yield _case(nn.CrossEntropyLoss(**options), options, draw.linear(n, c), x, y)
    x = 1e4 * draw.normal(6, c)
    yield _case(nn.CrossEntropyLoss(**options), options, nn.Identity(), x, y)
