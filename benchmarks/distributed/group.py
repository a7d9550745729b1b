"""The processes of a run: how they come together, agree on what they are about to do, and add up
what each has computed."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.distributed.watch import TIMEOUT, RankError, Watch, ranks
from manual.arrays import module_of

ARRIVE = 40.0  # seconds that the first process waits for the last one
SETTLED = 2.0  # after which those who are there do not agree, whoever is to come yet
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Alone:
    """One process that has every batch to itself: what the others are compared with."""

    rank, world = 0, 1

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Nothing to add."""

    @contextmanager
    def talking(self) -> Iterator[None]:
        yield


class Group:
    """This process among `world` of them, from `join`. device: where its tensors are."""

    def __init__(self, watch: Watch, device: torch.device) -> None:
        self.watch, self.device = watch, device
        self.rank, self.world = watch.rank, watch.world

    def all_reduce(self, tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        """Put the sum over all processes (or another op) into the tensor of each."""
        with self.talking():
            dist.all_reduce(tensor, op=op)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Around what waits for the other processes. Raises RankError where one does not come."""
        self.watch.place += 1
        try:
            yield
        except RuntimeError as error:
            raise self.watch.blame(error) from error

    def sum(self, *numbers: float) -> list[float]:
        """Of each number over all processes."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def max(self, *numbers: float) -> list[float]:
        return self._reduced(numbers, dist.ReduceOp.MAX)

    def _reduced(self, numbers: tuple[float, ...], op: Any) -> list[float]:
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.all_reduce(tensor, op)
        return tensor.tolist()

    def same(self, what: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises RankError, on every process, unless all have the same bits in these arrays."""
        digest = np.frombuffer(bytes.fromhex(digest_of(arrays)), np.int64)
        found = torch.zeros((self.world, len(digest)), dtype=torch.int64, device=self.device)
        found[self.rank] = torch.from_numpy(digest.copy())
        self.all_reduce(found)
        rows = [tuple(row) for row in found.tolist()]
        if len(set(rows)) > 1:
            raise RankError(f"{what} are not the same: {_parties(rows)}")

    def leave(self) -> None:
        """Wait for all, and part."""
        self.sum(0.0)
        self.watch.stop()
        dist.destroy_process_group()


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes, dtypes and every bit, in hexadecimal."""
    found = hashlib.sha256()
    for name, value in arrays.items():
        found.update(f"{name} {value.shape} {value.dtype} ".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def join() -> Watch:
    """Find the store of the run that the environment names, and be seen there.

    Raises RankError where the environment names none, or nobody answers there."""
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise RankError(
            f"{', '.join(missing)} not set: start this with torchrun, "
            "or with handgrad bench --processes N"
        )
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    limit = timedelta(seconds=TIMEOUT)
    try:
        served = (
            dist.TCPStore(host, port, None, True, limit, wait_for_workers=False) if serves else None
        )
        # One for the watch alone: who waits for an answer keeps others from asking.
        store = dist.TCPStore(host, port, None, False, limit, wait_for_workers=False)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise RankError(
            f"rank {rank}: nobody answers at {host}:{port}, where rank 0 should be ({told})"
        ) from None
    store = dist.PrefixStore(f"handgrad {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    watch = Watch(store, rank, world, f"the store of the run at {host}:{port}", served)
    if store.add(f"came/{rank}", 1) > 1:
        watch.report(f"rank {rank} was started twice")
        raise RankError(f"rank {rank} was started twice")
    return watch


def agree(watch: Watch, about: Mapping[str, Any]) -> None:
    """Wait for all processes, and see that all are about to do the same. about: name → what JSON
    can say. Raises RankError, with who says what, on every process."""
    store, rank = watch.store, watch.rank
    store.set(f"about/{rank}", json.dumps({"processes": watch.world, **about}))
    began, verdict = time.monotonic(), None
    while verdict is None:
        waited = time.monotonic() - began
        if rank == 0:
            verdict = _compared(watch, waited)
            if verdict is not None:
                store.set("agreed", verdict)
        elif store.check(["agreed"]):
            verdict = store.get("agreed").decode()
        elif watch.reported() or waited > ARRIVE + TIMEOUT / 2:
            verdict = watch.reported() or f"rank 0 did not come within {waited:.0f} s"
        time.sleep(0.02)
    if verdict:
        watch.report(verdict)
        raise RankError(verdict)


def _compared(watch: Watch, waited: float) -> str | None:
    """What those who are there do not agree on; "" where all are, and agree; None where some are
    to come yet."""
    here = [r for r in range(watch.world) if watch.store.check([f"about/{r}"])]
    abouts = {r: json.loads(watch.store.get(f"about/{r}")) for r in here}
    differing = []
    for name in dict.fromkeys(name for about in abouts.values() for name in about):
        said = [json.dumps(about.get(name)) for about in abouts.values()]
        if len(set(said)) > 1:
            differing.append(f"{name} is {_parties(said, here)}")
    if differing and (len(here) == watch.world or waited > SETTLED):
        return f"the processes do not agree: {'; '.join(differing)}"
    if len(here) == watch.world:
        return ""
    absent = [r for r in range(watch.world) if r not in here]
    return f"{ranks(absent)} did not come within {ARRIVE:.0f} s" if waited > ARRIVE else None


def _parties(said: list, numbers: list[int] | None = None) -> str:
    """Who says what; the fewest first, for it is they who are wrong, most likely."""
    parties: dict[Any, list[int]] = {}
    for number, what in zip(numbers or range(len(said)), said, strict=True):
        parties.setdefault(what, []).append(number)
    ordered = sorted(parties.items(), key=lambda party: (len(party[1]), -party[1][0]))
    if isinstance(said[0], tuple):  # a digest says nothing to a reader
        return f"{ranks(ordered[0][1])} and {ranks(ordered[-1][1])} differ"
    return ", ".join(f"{what} on {ranks(own)}" for what, own in ordered)


def connect(watch: Watch, device: str) -> Group:
    """Connect the processes: gloo for tensors on the CPU, nccl for those on a GPU, of which each
    process has its own. Raises RankError."""
    backend = "gloo"
    if device == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise RankError(f"rank {watch.rank} needs GPU {local}, and its machine has {gpus}")
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
        module_of("cuda").cuda.Device(local).use()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    limit = timedelta(seconds=TIMEOUT)
    group = Group(watch, torch.device(device))
    with group.talking():
        store = dist.TCPStore(host, port, None, False, limit, wait_for_workers=False)
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(f"group {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store),
            rank=watch.rank,
            world_size=watch.world,
            timeout=limit,
        )
    return group
