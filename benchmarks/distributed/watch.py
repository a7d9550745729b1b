"""Who is alive, and how a run ends when somebody is not: soon, and with the rank that is to blame.

Every process has a thread that says "alive" in the run's store a few times a second and looks
whether somebody has reported a failure. Rank 0 also looks whether all others are alive, and they
whether rank 0 is. The thread can end the process while the main thread is inside an all-reduce
that will never finish.
"""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import NamedTuple

import torch.distributed as dist

BEAT = 0.25  # seconds between signs of life
SILENT = 15.0  # without one a process is taken for dead: 60 times as long
STUCK = 20.0  # one that is so long behind the others in all-reduces will not come
TIMEOUT = 30.0  # of a single question to the store, and of an all-reduce
FAILED = "failed"
ENDING = threading.Lock()  # held by the thread that ends this process, and never given back


class RankError(Exception):
    """The run cannot go on; the message is one line and names the ranks that are to blame."""


class Seen(NamedTuple):
    """A rank's last sign of life: its number and the rank's place, and since when each is so."""

    tick: bytes
    place: int
    alive: float
    moved: float


class Watch:
    """Of one process. place: how many all-reduces it has begun, so that others see where it is
    stuck. everyone: look at all ranks, and not at rank 0 alone (which looks at all anyway).
    host: the store, in words; served: the store itself, where it is in this process."""

    def __init__(
        self, store: dist.Store, rank: int, world: int, host: str, served: dist.Store | None = None
    ) -> None:
        self.store, self.rank, self.world, self.host = store, rank, world, host
        self.served = served  # which ends when nobody holds it
        self.place, self.everyone = 0, rank == 0
        self._seen: dict[int, Seen] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beat(0)
        self._thread.start()

    def _run(self) -> None:
        tick = 0
        while not self._stopped.wait(BEAT):
            tick += 1
            try:
                self._beat(tick)
                found = self._lost()
            except RuntimeError:  # every error of the store is one
                found = f"{self.host} is gone: what started the processes, or rank 0, has ended"
            if found and not self._stopped.is_set():
                end(found)

    def _beat(self, tick: int) -> None:
        self.store.set(f"beat/{self.rank}", f"{tick} {self.place}")

    def stop(self) -> None:
        """This process is done: nobody need wait for a sign of life."""
        self._stopped.set()
        self._thread.join()
        with suppress(RuntimeError):  # rank 0, with the store, may have been quicker
            self.store.set(f"beat/{self.rank}", "done")

    def announce(self, what: str) -> None:
        self.store.set(what, "")

    def wait_for(self, what: str) -> None:
        """Until rank 0 has announced it, however long that takes: as long as it lives."""
        while not self.store.check([what]):
            time.sleep(BEAT)

    def report(self, message: str) -> None:
        """Tell everybody why the run ends; the first to do so is heard."""
        self.store.compare_set(FAILED, "", message)
        time.sleep(2 * BEAT)  # while this process and its store still answer

    def reported(self) -> str | None:
        return self.store.get(FAILED).decode() if self.store.check([FAILED]) else None

    def _lost(self) -> str | None:
        """What somebody has reported, or now this process: who of those it looks at gives no sign
        of life, or is where the others have long gone on from."""
        looked = range(self.world) if self.everyone else {0, self.rank}
        now = time.monotonic()
        for rank in looked:
            key = f"beat/{rank}"
            beat = self.store.get(key) if self.store.check([key]) else b"done"
            if beat == b"done":  # or it is to come yet, and waited for elsewhere
                self._seen.pop(rank, None)
                continue
            tick, place = beat.split()
            old = self._seen.get(rank, Seen(b"", -1, now, now))
            alive = now if tick != old.tick else old.alive
            self._seen[rank] = Seen(
                tick, int(place), alive, now if int(place) != old.place else old.moved
            )
        silent = [r for r, seen in self._seen.items() if now - seen.alive > SILENT]
        stuck = [r for r, seen in self._seen.items() if now - self._awaited(seen, now) > STUCK]
        if silent:
            self.report(f"{ranks(silent)} gave no sign of life for {SILENT:.0f} s")
        elif stuck:
            place = 1 + min(self._seen[r].place for r in stuck)
            self.report(f"{ranks(stuck)} did not come to all-reduce {place} in {STUCK:.0f} s")
        return self.reported()

    def _awaited(self, seen: Seen, now: float) -> float:
        """Since when others are further than this one and it does not move: however long all of
        them compute between two all-reduces, the first to be done has to wait."""
        ahead = [other.moved for other in self._seen.values() if other.place > seen.place]
        return max(seen.moved, min(ahead, default=now))

    def blame(self, error: Exception) -> RankError:
        """An all-reduce has failed, which says no more than that some process does not take part.
        Which? Who ends this one meanwhile knows better than it does."""
        self.everyone = True
        deadline = time.monotonic() + max(SILENT, STUCK) + 5
        while time.monotonic() < deadline:
            found = self.reported()
            if found:
                return RankError(found)
            time.sleep(BEAT)
        return RankError(f"rank {self.rank}: {' '.join(str(error).split())}")


def ranks(numbers: list[int]) -> str:
    """As "rank 3" and "ranks 0, 2"."""
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def end(message: str, status: int = 1) -> None:
    """End this process at once, whatever its other threads do, and leave the message where torch's
    launcher looks for it; on stderr where there is none. The first thread that wants to does so."""
    ENDING.acquire()
    try:
        tell(message)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # also on a full disk
        os._exit(status)


def tell(message: str) -> None:
    """As torch.distributed.elastic's `record` would, but one line and no traceback."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        content = {"message": message, "timestamp": int(time.time())}
        part = f"{path}.part"  # a launcher that finds half of it fails itself
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": message, "extraInfo": content}}, file)
        os.replace(part, path)
    else:
        print(message, file=sys.stderr)
