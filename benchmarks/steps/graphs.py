"""manual with its whole step recorded once as a CUDA graph, and then launched."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.steps.contestant import Contestant, LeftOut
from benchmarks.steps.cublas import Cublas, CublasError, products_by
from benchmarks.steps.numpy_side import manual
from benchmarks.steps.problem import Problem
from manual.arrays import module_of

WARM_UP = 3  # steps before the recorded one: they compile the kernels and allocate all arrays


def captured(problem: Problem) -> Contestant:
    """The very step of `numpy_side.manual`: its kernels, without Python between them.

    A graph writes where the recorded step wrote. So the step works in memory that nobody else gets:
    the arrays of the modules' workspaces are there after the warm-up and are used again, and what
    CuPy allocates for the moment comes from a pool of this contestant's own. No value can be read
    meanwhile; the warm-up has checked the targets. What changes with the number of the step, as
    Adam's correction does, would stay as it was recorded: this one's SGD has nothing of the kind.
    """
    cupy = module_of("cuda")
    eager = manual(problem)
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    eager.wait()  # the weights and the batch are copied there on another stream
    try:
        cublas = Cublas(cupy, stream)
        with cupy.cuda.using_allocator(pool.malloc), stream, products_by(cublas, cupy):
            for _ in range(WARM_UP):
                eager.step()
            stream.synchronize()
            graph = record(eager.step, stream)
    except (OSError, CublasError, NotImplementedError) as error:
        raise LeftOut(f"its step cannot be recorded here: {error}") from None
    kept = eager, pool, cublas  # as long as the graph

    def step() -> None:
        graph.launch(stream)

    def restart() -> None:
        kept[0].wait()
        eager.restart()
        eager.wait()

    return eager._replace(step=step, restart=restart)


def record(step: Callable[[], object], stream: Any) -> Any:
    """The graph of what step() launches on the stream; nothing of it is done yet."""
    stream.begin_capture()
    try:
        step()
    except BaseException:
        with suppress(Exception):
            stream.end_capture()  # or nothing could be done on it any more
        raise
    return stream.end_capture()
