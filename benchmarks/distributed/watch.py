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

import torch.distributed as dist

BEAT = 0.25  # seconds between signs of life
SILENT = 15.0  # without one a process is taken for dead: 60 times as long
TIMEOUT = 30.0  # of a single question to the store, and of an all-reduce
FAILED = "failed"


class RankError(Exception):
    """The run cannot go on; the message is one line and names the ranks that are to blame."""


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
        self._seen: dict[int, tuple[bytes, float]] = {}
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
                found = self.reported() or self._silent()
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

    def _silent(self) -> str | None:
        """Who of those it looks at has given no sign of life for too long."""
        now, silent = time.monotonic(), []
        for rank in range(self.world) if self.everyone else (0,):
            beat = self._last(rank)
            if beat is None or rank == self.rank or beat == b"done":
                continue  # who is to come yet is waited for elsewhere
            if self._seen.get(rank, (b"", 0.0))[0] != beat:
                self._seen[rank] = beat, now
            elif now - self._seen[rank][1] > SILENT:
                silent.append(rank)
        if not silent:
            return None
        found = f"{ranks(silent)} gave no sign of life for {SILENT:.0f} s"
        self.report(found)
        return self.reported()

    def _last(self, rank: int) -> bytes | None:
        key = f"beat/{rank}"
        return self.store.get(key) if self.store.check([key]) else None

    def blame(self, error: Exception) -> RankError:
        """An all-reduce has failed, which says no more than that some process does not take part.
        Which? Who ends this one meanwhile knows better than it does."""
        self.everyone = True
        deadline = time.monotonic() + SILENT + 5
        while time.monotonic() < deadline:
            found = self.reported() or (self._behind() if "imed out" in str(error) else None)
            if found:
                return RankError(found)
            time.sleep(BEAT)
        return RankError(f"rank {self.rank}: {' '.join(str(error).split())}")

    def _behind(self) -> str | None:
        """Alive, but not come to where this process waits."""
        places = {}
        for rank in range(self.world):
            beat = self._last(rank)
            if beat is not None and beat != b"done":
                places[rank] = int(beat.split()[1])
        behind = [rank for rank, place in places.items() if place < self.place]
        if not behind:
            return None
        slowest = min(places[rank] for rank in behind)
        stuck = [rank for rank in behind if places[rank] == slowest]
        self.report(f"{ranks(stuck)} did not come to all-reduce {slowest + 1} in {TIMEOUT:.0f} s")
        return self.reported()


def ranks(numbers: list[int]) -> str:
    """As "rank 3" and "ranks 0, 2"."""
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def end(message: str, status: int = 1) -> None:
    """End this process at once, whatever its other threads do, and leave the message where torch's
    launcher looks for it; on stderr where there is none."""
    tell(message)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def tell(message: str) -> None:
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        content = {"message": message, "timestamp": int(time.time())}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": message, "extraInfo": content}}, file)
    else:
        print(message, file=sys.stderr)
