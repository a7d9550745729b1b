"""The time of a step on paper: computing a share of the batch, then an all-reduce.

A ring of N processes sums n bytes in 2 (N − 1) messages, one after the other, of n / N bytes each
(Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"):

    all-reduce(N, n) = 2 (N − 1) (α + n / (N β))

with α the latency of a message and β the bandwidth of a link. Halving and doubling sends as many
bytes in 2 log2 N messages (Thakur, Rabenseifner & Gropp 2005, "Optimization of collective
communication operations in MPICH"). A step with a global batch of B samples on N processes, of
which `crowd` have to take turns on each core:

    step(N, B) = crowd · (c0 + c1 ⌈B / N⌉ + all-reduce(N, n))

c0 is what a step costs whatever its batch (the update, the calls), c1 what a sample costs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Compute(NamedTuple):
    """Seconds: c0 of a step, c1 of a sample."""

    step: float
    sample: float

    def seconds(self, samples: int) -> float:
        return self.step + self.sample * samples


class Link(NamedTuple):
    """latency: α, seconds a message; bandwidth: β, bytes a second; ring, or halving and
    doubling."""

    latency: float
    bandwidth: float
    ring: bool = True

    def all_reduce(self, processes: int, size: float) -> float:
        """Seconds to sum so many bytes over so many processes."""
        messages = 2 * (processes - 1 if self.ring else math.ceil(math.log2(processes)))
        return messages * self.latency + 2 * (processes - 1) / processes * size / self.bandwidth


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """a ≥ 0 and b of y ≈ a + b x, by least squares of what each is off by, relative to y."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    columns = np.stack([1 / y, x / y], axis=1)
    a, b = np.linalg.lstsq(columns, np.ones(len(x)), rcond=None)[0]
    if a < 0:
        a, b = 0.0, float((x / y).sum() / ((x / y) ** 2).sum())
    return float(a), float(b)


def fit_compute(samples: Sequence[int], seconds: Sequence[float]) -> Compute:
    return Compute(*line(samples, seconds))


def fit_link(processes: int, sizes: Sequence[int], seconds: Sequence[float]) -> Link:
    """From the seconds of all-reduces of so many bytes."""
    a, b = line(sizes, seconds)
    messages = 2 * (processes - 1)
    return Link(a / messages, messages / (processes * b))


def step(
    compute: Compute, link: Link, processes: int, batch: int, size: float, crowd: float = 1.0
) -> float:
    """Seconds of a step. size: bytes of the gradient."""
    own = compute.seconds(math.ceil(batch / processes))
    return crowd * (own + link.all_reduce(processes, size))


def pays_from(compute: Compute, link: Link, processes: int, size: float) -> float:
    """The global batch from which on N processes are faster than one: where what they save,
    c1 (B − B/N), is what the all-reduce costs. Without rounding B/N up."""
    return link.all_reduce(processes, size) / (compute.sample * (1 - 1 / processes))


def best(compute: Compute, link: Link, batch: int, size: float, most: int) -> int:
    """How many processes, up to `most`, make a step with this batch quickest."""
    return min(range(1, most + 1), key=lambda n: step(compute, link, n, batch, size))
