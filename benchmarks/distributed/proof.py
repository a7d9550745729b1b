"""Before anything is timed: N processes compute what one does.

In float64, whatever is trained later: there rounding leaves no room for a mistake to hide in. Over
a few global batches, one of which no N > 1 divides evenly and one so small that a process has
nothing to do, four computations go on side by side, each from its own weights: manual and torch,
each in every process alone with the whole batch, and shared.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmarks.data import Dataset
from benchmarks.distributed.group import Alone, Group
from benchmarks.distributed.sides import Side, pair_of
from benchmarks.mnist import Settings, make_pair

ALLOWED = 1e-12  # a step, relative to the largest number in the tensor


class NotEqual(Exception):
    """N processes do not compute what one does; the message says where."""


class Proof(NamedTuple):
    """sizes: of the global batches; tensors: how many were compared, pair by pair; used: the
    largest share of what is allowed."""

    sizes: list[int]
    tensors: int
    used: float


def prove(group: Group, data: Dataset, settings: Settings) -> Proof:
    """Gradients and weights after every step: shared manual against manual alone, shared torch
    against torch alone, shared manual against shared torch. After step k two tensors may be
    k · 1e-12 apart, relative to the largest number in the one they are held against. All processes
    must have the same bits.

    Raises NotEqual, RankError."""
    settings = replace(settings, dtype="float64")
    sizes = batch_sizes(min(settings.batch_size, len(data.train_x)), group.world)
    columns, classes = data.train_x.shape[1], data.classes
    few = slice(0, max(sizes))
    x, y = data.train_x[few], data.train_y[few]

    def sides(of: Group | Alone) -> list[Side]:
        return pair_of(of, make_pair(settings, columns, classes), x, y, group.device)

    shared, alone = sides(group), sides(Alone())
    held = [*zip(shared, alone, strict=True), (shared[0], shared[1])]
    order = np.random.default_rng([settings.seed, 3])
    tensors, used = 0, 0.0
    for number, size in enumerate(sizes, 1):
        index = order.permutation(len(x))[:size]
        for side in (*shared, *alone):
            side.step(index)
        for side in shared:
            group.same(f"{side.name}'s weights after step {number}", side.weights())
        for one, other in held:
            names = {True: "one process", False: f"{other.name}, shared"}[one.name == other.name]
            what = f"step {number}, {size} samples, {one.name}, shared, against {names}"
            for kind, a, b in (
                ("grad", one.read_gradients(), other.read_gradients()),
                ("updated", one.weights(), other.weights()),
            ):
                used = max(used, *compared(f"{what}: {kind}", a, b, number * ALLOWED))
                tensors += len(a)
    return Proof(sizes, tensors, used)


def batch_sizes(most: int, world: int) -> list[int]:
    """A full batch; one that the processes cannot divide evenly; one that leaves one of them
    without a sample."""
    uneven = next((n for n in range(most, 0, -1) if n % world), most)
    return [most, uneven, min(max(world - 1, 1), most)]


def compared(
    what: str, a: dict[str, np.ndarray], b: dict[str, np.ndarray], allowed: float
) -> list[float]:
    """The share of what is allowed that each tensor uses. Raises NotEqual."""
    if a.keys() != b.keys():
        raise NotEqual(f"{what}: {sorted(a.keys() ^ b.keys())} are on one side alone")
    shares = []
    for name, own in a.items():
        other = b[name]
        if own.shape != other.shape or own.dtype != other.dtype:
            raise NotEqual(f"{what}.{name}: {own.dtype}{own.shape}, {other.dtype}{other.shape}")
        most, apart = allowed * np.abs(other).max(), np.abs(own - other).max()
        if not apart <= most:
            at = np.unravel_index(np.nanargmax(np.abs(own - other)), own.shape)
            raise NotEqual(
                f"{what}.{name} is {own[at]:.17g} at {[int(i) for i in at]}, "
                f"expected {other[at]:.17g} to within {most:.1e}"
            )
        shares.append(float(apart / most) if most else 0.0)
    return shares
