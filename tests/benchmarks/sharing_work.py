"""What the processes of test_sharing.py do; they import this and nothing heavy."""

import os
import signal
import time


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def work(item):
    what, number = item
    if what == "slow":
        time.sleep(0.3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(7)
    if what == "raise":
        raise ArithmeticError(f"no {number}")
    if what == "unsendable":
        raise Unsendable("odd", number)
    if what == "hang":
        time.sleep(600)
    return os.getpid() if what == "pid" else (what, number)


def threads(item):
    import numpy  # noqa: F401  its BLAS
    import threadpoolctl

    return sorted({library["num_threads"] for library in threadpoolctl.threadpool_info()})
