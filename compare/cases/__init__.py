"""Small networks that between them run every module, loss, optimizer and schedule of `manual`."""

from collections.abc import Iterator

import numpy as np

from compare.cases.case import Case, Draw
from compare.cases.losses import losses
from compare.cases.modules import modules
from compare.cases.optimizers import optimizers

__all__ = ["Case", "cases"]


def cases(dtype: np.dtype, generator: np.random.Generator) -> Iterator[Case]:
    """Every case in `dtype`, with widths, weights, biases and data drawn from the generator."""
    draw = Draw(np.dtype(dtype), generator)
    yield from modules(draw)
    yield from losses(draw)
    yield from optimizers(draw)
