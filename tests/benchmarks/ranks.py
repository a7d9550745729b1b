"""Runs of several processes, many of them in one go: for test_distributed.py.

A process of its own imports once and then forks the ranks of one run after another, so that each
takes a fraction of a second. Their store is in a process of its own, as with torchrun. Prints what
it saw as JSON: for each run the status, message and seconds of every rank, and what rank 0 found.

    python -m tests.benchmarks.ranks RUN N [RUN N …]
"""

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from benchmarks import mnist
from benchmarks.data import Dataset
from benchmarks.distributed import group as groups
from benchmarks.distributed import member, proof, rates, sides, timing, training, watch
from benchmarks.mnist import Settings
from tests.benchmarks import wrong_shares

JOINED: list[watch.Watch] = []  # this rank's
RNG = np.random.default_rng(0)
COLUMNS = 6


def dataset(n):
    return Dataset(
        "tiny",
        *(RNG.integers(0, 256, (n, COLUMNS), dtype=np.uint8), RNG.integers(0, 10, n)),
        *(RNG.integers(0, 256, (20, COLUMNS), dtype=np.uint8), RNG.integers(0, 10, 20)),
    )


DATA = dataset(50)
SETTINGS = Settings(
    hidden=(5,), momentum=0.9, weight_decay=0.01, batch_size=16, epochs=2, dtype="float64"
)
SILENT, STUCK, ARRIVE = 2.0, 2.0, 2.0


def impatient():
    """A run in which a process is silent takes a second or two; what is shipped is tested as
    numbers."""
    watch.BEAT, watch.SILENT, watch.STUCK = 0.02, SILENT, STUCK
    groups.ARRIVE = ARRIVE
    timing.TURN = rates.TURN = 1e-4


def joined(rank, settings=SETTINGS, data=DATA):
    """As a member does, without a launcher, files and the proof of the pair."""
    seen = JOINED[0]
    groups.agree(seen, {**vars(settings), "data": groups.digest_of({"x": data.train_x})})
    return groups.connect(seen, settings.device)


def prove(rank, settings=SETTINGS, data=DATA):
    group = joined(rank, settings, data)
    found = proof.prove(group, data, settings)
    group.leave()
    return found._asdict()


def on_gpus(rank):
    return prove(rank, replace(SETTINGS, device="cuda"))


def prove_float32(rank):
    return prove(rank, replace(SETTINGS, dtype="float32", hidden=(7, 5), activation="tanh"))


def train(rank, settings=SETTINGS):
    """50 samples in batches of 16: the last one has 2, which 4 processes share."""
    group = joined(rank, settings)
    rows = [row for two in training.train(group, DATA, settings) for row in two]
    steps = timing.measure(group, DATA, settings, rounds=3) if group.world == 2 else {}
    group.leave()
    keys = "side", "epoch", "train_loss", "test_loss", "max_weight_difference", "processes"
    return {
        "rows": [{key: row[key] for key in keys} for row in rows],
        "steps": {name: list(step) for name, step in steps.items()},
    }


def measure(rank):
    rates.load = lambda name: DATA
    return rates.measured(JOINED[0], SETTINGS, True)


def one_process():
    """The same training, as `handgrad bench` does it."""
    pair = mnist.make_pair(SETTINGS, COLUMNS, 10)
    return [
        {key: row[key] for key in ("side", "epoch", "train_loss", "test_loss")}
        for two in mnist.train(pair, DATA, SETTINGS)
        for row in two
    ]


def flat(rank):
    """The gradient is summed where manual keeps it: nothing is copied."""
    group = joined(rank)
    pair = mnist.make_pair(SETTINGS, COLUMNS, 10)
    side = sides.Manual(group, pair, DATA.train_x, DATA.train_y, group.device)
    (tensor,) = side.flat
    summed, real = [], group.all_reduce
    group.all_reduce = lambda t, *op: summed.append(t.data_ptr()) or real(t, *op)
    side.step(np.arange(16))
    own = pair.net[0].weight._flat.grad
    found = {
        "one buffer": tensor.numel() == own.size,
        "shared": tensor.data_ptr() == own.ctypes.data,
        "summed": summed == [own.ctypes.data],
    }
    group.leave()
    return found


def in_step(what, at=3, last=40, who=1):
    """A run of steps in which rank `who` does `what` before step `at`."""

    def run(rank):
        group = joined(rank)
        pair = mnist.make_pair(SETTINGS, COLUMNS, 10)
        manual, torchs = sides.pair_of(group, pair, DATA.train_x, DATA.train_y, group.device)
        for k in range(last):
            if rank == who and k == at:
                what(manual, torchs)
            for side in (manual, torchs):
                side.step(np.arange(16))
            group.same("manual's weights", manual.weights())
            group.same("torch's weights", torchs.weights())
        group.leave()

    return run


def raising(*_):
    raise ValueError("odd\nsheep")


def drifting(manual, torchs):
    weight = manual.net[0].weight.data
    weight[0, 0] = np.nextafter(weight[0, 0], 9)


def drifting_torch(manual, torchs):
    with torch.no_grad():
        torchs.net[0].weight[0, 0] += 1


def differing(**changes):
    """Rank 1 is about to do something else."""

    def run(rank):
        joined(rank, replace(SETTINGS, **changes) if rank == 1 else SETTINGS).leave()

    return run


def other_data(rank):
    data = DATA
    if rank == 1:
        data = replace(DATA, train_x=DATA.train_x.copy())
        data.train_x[3, 3] ^= 1
    joined(rank, data=data).leave()


def alike(rank):
    joined(rank).leave()


def other_size():
    os.environ["WORLD_SIZE"] = str(int(os.environ["WORLD_SIZE"]) + 1)


def same_rank():
    os.environ["RANK"] = "0"


def absent():
    time.sleep(3600)


BEFORE = {"processes": other_size, "twice": same_rank, "absent": absent}  # rank 1 joins


def nan(rank):
    data, settings = DATA, replace(SETTINGS, lr=1e200, dtype="float64", activation="identity")
    group = joined(rank, settings, data)
    for _ in training.train(group, data, settings):
        pass


def planted(change):
    """The proof of a pair that shares its batches wrongly."""

    def run(rank):
        change()
        return prove(rank)

    return run


def hurt(number):
    return lambda *_: os.kill(os.getpid(), number)


RUNS = {
    "prove": prove,
    "prove float32": prove_float32,
    "on GPUs": on_gpus,
    "train": train,
    "flat": flat,
    "rates": measure,
    "killed": in_step(hurt(signal.SIGKILL)),
    "exit": in_step(lambda *_: os._exit(3)),
    "stopped": in_step(hurt(signal.SIGSTOP)),
    "stuck": in_step(lambda *_: time.sleep(3600)),
    "stuck 0": in_step(lambda *_: time.sleep(3600), who=0),
    "stopped 0": in_step(hurt(signal.SIGSTOP), who=0),
    "raises": in_step(raising),
    "drifts": in_step(drifting),
    "drifts torch": in_step(drifting_torch),
    "no error": in_step(lambda *_: None, last=5),
    "seed": differing(seed=7),
    "dtype": differing(dtype="float32"),
    "sizes": differing(hidden=(6,), batch_size=8),
    "data": other_data,
    **dict.fromkeys(BEFORE, alike),
    "nan": nan,
    "store": in_step(lambda *_: os.kill(int(os.environ["STORE"]), signal.SIGKILL)),
    **{f"planted {name}": planted(change) for name, change in wrong_shares.WRONG.items()},
}


def forked(do):
    pid = os.fork()
    if pid:
        return pid
    try:
        do()
    finally:
        os._exit(99)


def serve(pipe):
    store = dist.TCPStore("localhost", 0, None, True, wait_for_workers=False)
    os.write(pipe, str(store.port).encode())
    os.close(pipe)
    time.sleep(3600)


def take_part(name, rank, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(folder / f"error-{rank}")
    if rank == 1:
        BEFORE.get(name, lambda: None)()
    quiet = os.open(folder / f"log-{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)

    def run(seen):
        JOINED.append(seen)
        found = RUNS[name](rank)
        if found is not None:
            (folder / f"found-{rank}").write_text(json.dumps(found))
        return 0

    os._exit(member.guarded(run))


def run(name, world, folder):
    out, pipe = os.pipe()
    store = forked(lambda: serve(pipe))
    os.close(pipe)
    port = os.read(out, 20).decode()
    os.close(out)
    os.environ |= {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(world),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "STORE": str(store),
    }
    began = time.monotonic()
    pids = {forked(lambda r=r: take_part(name, r, folder)): r for r in range(world)}
    statuses, seconds = {}, {}
    while len(statuses) < world and time.monotonic() < began + 30:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in pids:
            statuses[pids[pid]] = os.waitstatus_to_exitcode(status)
            seconds[pids[pid]] = time.monotonic() - began
        elif not pid:
            time.sleep(0.005)
            # What a launcher would end: a rank that can only be killed, once the others are gone.
            if len(statuses) == world - 1 and name in ("stopped", "stopped 0", "absent"):
                time.sleep(0.05)
                (last,) = (p for p, r in pids.items() if r not in statuses)
                os.kill(last, signal.SIGKILL)
    left = [pid for pid, rank in pids.items() if rank not in statuses]
    for pid in (*left, store):
        ended(pid)
    messages = []
    for rank in range(world):
        path = folder / f"error-{rank}"
        messages.append(json.loads(path.read_text())["message"]["message"] if path.exists() else "")
    found = folder / "found-0"
    return {
        "status": [statuses.get(r) for r in range(world)],
        "message": messages,
        "seconds": max(seconds.values(), default=None),
        "left": len(left),
        "found": json.loads(found.read_text()) if found.exists() else None,
        "log": "".join(p.read_text() for p in sorted(folder.glob("log-*"))),
    }


def ended(pid):
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main(*words):
    torch.set_num_threads(1)
    impatient()
    # What torch would import in every rank anew.
    mnist.twins(*mnist.make_pair(SETTINGS, COLUMNS, 10))
    import_module("torch._dynamo")
    results = {}
    for name, world in zip(words[::2], words[1::2], strict=True):
        with tempfile.TemporaryDirectory() as folder:
            results[f"{name} {world}"] = run(name, int(world), Path(folder))
    if "train" in words:
        results["one process"] = one_process()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
