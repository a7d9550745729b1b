"""One process of those that measure: all-reduces by size, and steps by batch. Started by
`benchmarks.distributed.scaling`; rank 0 writes JSON to the path given."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import load
from benchmarks.distributed import member, timing
from benchmarks.distributed.group import Group, agree, connect
from benchmarks.distributed.watch import Watch
from benchmarks.mnist import Settings, equal_threads, make_pair

SIZES = [2**k for k in range(6, 25, 2)]  # bytes
BATCHES = [8, 32, 64, 128, 512, 2048]
TURN, ROUNDS = 0.02, 9


def all_reduces(group: Group, sizes: list[int], rounds: int) -> list[list[float]]:
    """[bytes, seconds] of each size: the median over the rounds, of the slowest process."""
    found = []
    for size in sizes:
        tensor, seconds, count = torch.zeros(size // 4, device=group.device), [], 1
        while (taken := _turn(group, tensor, count)) < TURN:
            count = min(10 * count, int(1.1 * TURN / taken * count) + 1)
        for _ in range(rounds):
            seconds.append(_turn(group, tensor, count) / count)
        found.append([size, float(np.median(seconds))])
    return found


def _turn(group: Group, tensor: torch.Tensor, count: int) -> float:
    group.sum(0.0)  # begin together
    start = time.perf_counter()
    for _ in range(count):
        group.all_reduce(tensor)
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return group.max(time.perf_counter() - start)[0]


def measured(watch: Watch, settings: Settings, quick: bool) -> dict:
    """{"all_reduce": …, "steps": {batch: {side: [µs, share]}}, "gradient": bytes}."""
    data = load("sample")
    agree(watch, {"what": "rates", "device": settings.device, "dtype": settings.dtype})
    sizes, batches, rounds = SIZES, BATCHES, ROUNDS
    if quick:
        sizes, batches, rounds = SIZES[::4], BATCHES[:2], 3
    with equal_threads(settings.threads):
        group = connect(watch, settings.device)
        found = {
            "all_reduce": all_reduces(group, sizes, rounds) if group.world > 1 else [],
            "steps": {
                batch: {
                    side: list(step)
                    for side, step in timing.measure(
                        group, data, replace(settings, batch_size=batch), rounds=rounds
                    ).items()
                }
                for batch in batches
            },
        }
        group.leave()
    net, *_ = make_pair(settings, data.train_x.shape[1], data.classes)
    return found | {"gradient": sum(p.size * p.dtype.itemsize for p in net.parameters())}


def main(path: str, device: str, quick: str) -> int:
    def run(watch: Watch) -> int:
        found = measured(watch, Settings(device=device), quick == "quick")
        if watch.rank == 0:
            Path(path).write_text(json.dumps(found))
        return 0

    return member.guarded(run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
