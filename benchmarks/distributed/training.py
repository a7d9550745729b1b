"""MNIST with both sides, every batch shared by all processes."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

import manual.training
import torch_ref.training
from benchmarks.data import Dataset
from benchmarks.distributed.group import Group
from benchmarks.distributed.sides import Side, pair_of
from benchmarks.mnist import SCALE, Settings, difference, epoch_row, gpu_name, make_pair
from benchmarks.mnist import Side as Row
from benchmarks.results import provenance
from manual.training import Epoch

PREDICT = {"manual": manual.training.predict, "torch": torch_ref.training.predict}


def train(
    group: Group,
    data: Dataset,
    settings: Settings,
    progress: Callable[[str], object] = lambda what: None,
) -> Iterator[list[dict[str, Any]]]:
    """Both sides, epoch by epoch in turn; after each the two rows of results, which all processes
    have. As `benchmarks.mnist.train` in one, whose batches these are.

    Raises FloatingPointError where a loss or weight is not finite; RankError where a process is
    gone or does not have the weights that the others have."""
    pair = make_pair(settings, data.train_x.shape[1], data.classes)
    sides = pair_of(group, pair, data.train_x, data.train_y, group.device)
    orders = {side.name: np.random.default_rng([settings.seed, 1]) for side in sides}
    origin = {"dataset": data.name, **asdict(settings)} | provenance()
    origin |= {"hidden": "-".join(map(str, settings.hidden)), "processes": group.world}
    origin["gpu"] = gpu_name(settings.device)
    for epoch in range(1, settings.epochs + 1):
        rows = {}
        for side in sides if epoch % 2 else sides[::-1]:
            progress(f"epoch {epoch}, {side.name}")
            row = _row(side, orders[side.name], data, settings)
            try:
                rows[side.name] = epoch_row(row, data, epoch)
            except FloatingPointError as error:
                raise FloatingPointError(f"{side.name}: {error}") from None
        apart = difference(*(side.weights() for side in sides))
        for side in sides:
            rows[side.name] |= {"max_weight_difference": apart, **origin, "device": side.device}
        yield [rows[side.name] for side in sides]


def _row(side: Side, order: np.random.Generator, data: Dataset, settings: Settings) -> Row:
    return Row(
        side.name,
        lambda epoch: _epoch(side, order, len(data.train_x), settings.batch_size, epoch),
        lambda x: PREDICT[side.name](side.net, x, SCALE),
        side.weights,
    )


def _epoch(side: Side, order: np.random.Generator, n: int, batch_size: int, epoch: int) -> Epoch:
    """One epoch; seconds: of the slowest process."""
    side.loss = 0.0
    side.group.sum(0.0)  # begin together
    start = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # looked at here
        for k, index in enumerate(manual.training.batches(n, batch_size, order), 1):
            loss = side.step(index)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss} in epoch {epoch}, step {k}")
    side.wait()
    (seconds,) = side.group.max(time.perf_counter() - start)
    weights = side.weights()
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise FloatingPointError(f"a weight became non-finite in epoch {epoch}")
    side.group.same(f"{side.name}'s weights after epoch {epoch}", weights)
    (loss,) = side.group.sum(side.loss)
    return Epoch(epoch, loss / n, None, seconds)
