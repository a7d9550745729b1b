"""`handgrad verify` over several processes."""

from collections.abc import Callable, Collection, Iterator
from functools import cache, partial

from benchmarks.sharing import shared
from compare import verify as one
from compare.verify import Job


def verify(
    seed: int,
    progress: Callable[[str], object],
    only: Collection[str] | None,
    processes: int,
    device: str = "cpu",
) -> Iterator[dict]:
    """`compare.verify.verify`, whose results these are, in its order, however many processes
    share the cases. Raises `sharing.WorkerDied`, naming the case."""
    if processes == 1:
        yield from one.verify(seed, progress, only, device)
        return
    names = [str(job) for job in one.jobs(seed, only)]
    given = None if only is None else frozenset(only)
    work = partial(_prove, seed, given, device)
    for results in shared(work, range(len(names)), processes, names.__getitem__):
        progress(results[0]["subject"])
        yield from results


def _prove(seed: int, only: frozenset[str] | None, device: str, number: int) -> list[dict]:
    """In a process that is given higher and higher numbers: the cases between are drawn alone."""
    return _numbered(seed, only, device)(number).prove()


@cache
def _numbered(seed: int, only: frozenset[str] | None, device: str) -> Callable[[int], Job]:
    jobs = enumerate(one.jobs(seed, only, device))
    return lambda number: next(job for k, job in jobs if k == number)
