"""Work shared over processes, whose results do not depend on how many there are."""

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import threadpoolctl

WAITING = "OMP_WAIT_POLICY"
# What libraries are told their number of threads by, before they load.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")


class WorkerDied(Exception):
    """A process that worked has ended; the message, in one line, names what it worked on."""


class Worker(NamedTuple):
    process: BaseProcess
    line: Connection


def shared(
    work: Callable[[Any], Any], items: Sequence[Any], processes: int, name: Callable[[Any], str]
) -> Iterator[Any]:
    """work(item) of every item, in the order of the items. processes: 1 is this one alone.

    work: a function of a module, or a functools.partial of one, which must give the same in every
    process. Each process has one thread, where `work` does not say otherwise, and gets its items
    in their order. name: an item in words.

    Raises what work raises, with the item's name in a note; WorkerDied where a process ends, as
    after a SIGKILL. The other processes are ended then, and wherever the caller stops."""
    if processes == 1:
        for item in items:
            yield work(item)
        return
    workers = [_start(work) for _ in range(min(processes, len(items)))]
    try:
        yield from _in_order(workers, items, name)
    finally:
        for worker in workers:
            worker.line.close()
            worker.process.kill()
        for worker in workers:
            worker.process.join()


def _in_order(
    workers: list[Worker], items: Sequence[Any], name: Callable[[Any], str]
) -> Iterator[Any]:
    waiting, results, told = iter(range(len(items))), {}, 0
    at: dict[Connection, int] = {}  # whose turn is which item
    processes = {worker.line: worker.process for worker in workers}

    def give(line: Connection) -> None:
        number = next(waiting, None)
        if number is not None:
            at[line] = number
            with suppress(OSError):  # it has died: what waits for it will see
                line.send(items[number])

    for line in processes:
        give(line)
    while at:
        for line in wait(list(at)):
            number = at.pop(line)
            try:
                result, error = line.recv()
            except (EOFError, OSError):
                raise WorkerDied(_obituary(processes[line], name(items[number]))) from None
            if error is not None:
                error.add_note(f"in another process, which worked on {name(items[number])}")
                raise error
            results[number] = result
            give(line)
        while told in results:
            yield results.pop(told)
            told += 1


def _obituary(process: BaseProcess, what: str) -> str:
    process.join(10)  # its line is closed, so that it ends, or has ended
    code = process.exitcode
    how = "closed its line" if code is None else f"ended with status {code}"
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    return f"the process that worked on {what} {how}"


def _start(work: Callable[[Any], Any]) -> Worker:
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs), daemon=True)
    with _patient():
        process.start()
    theirs.close()  # so that ours ends when the process does
    return Worker(process, ours)


def _serve(work: Callable[[Any], Any], line: Connection) -> None:
    """A process's life: until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who started this one ends it
    os.environ |= dict.fromkeys(THREADS, "1")  # for libraries that `work` will bring
    with threadpoolctl.threadpool_limits(1):  # of those that it has brought
        while True:
            try:
                item = line.recv()
            except EOFError:
                return
            try:
                answer = work(item), None
            except Exception as error:
                answer = None, _portable(error)
            try:
                line.send(answer)
            except OSError:  # nobody waits for it any more
                return


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same and can be sent."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        text = f"{type(error).__name__}: {error}"
        error = RuntimeError(text)
    return error


@contextmanager
def _patient() -> Iterator[None]:
    """Processes started here have threads that sleep while they wait. Others are at it all the
    time, and keep the threads of another process, which they wait for, from running."""
    before = os.environ.get(WAITING)
    os.environ[WAITING] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[WAITING]
        if before is not None:
            os.environ[WAITING] = before
