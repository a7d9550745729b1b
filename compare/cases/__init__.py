"""Small networks that between them run every module, loss, optimizer and schedule of `manual`."""

from collections.abc import Iterator

import numpy as np

from compare.cases.case import Case, Draw
from compare.cases.losses import loss_cases
from compare.cases.modules import module_cases
from compare.cases.optimizers import optimizer_cases

__all__ = ["Case", "cases"]


def cases(dtype: np.dtype, generator: np.random.Generator) -> Iterator[Case]:
    """Every case in `dtype`, with widths, weights, biases and data drawn from the generator."""
    draw = Draw(np.dtype(dtype), generator)
    yield from module_cases(draw)
    yield from loss_cases(draw)
    yield from optimizer_cases(draw)
