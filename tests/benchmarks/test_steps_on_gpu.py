"""Steps on a GPU. Without one: manual's step recorded as a CUDA graph of the stand-in for CuPy,
which computes nothing until it is launched, with a cuBLAS made of NumPy that sees addresses."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.steps import command, cublas, graphs, sweep, table, timing
from benchmarks.steps.contestant import MANUAL, ON_GPU, Contestant, LeftOut, make, makers
from benchmarks.steps.problem import HALF_SQUARED, Problem
from benchmarks.steps.proof import NotEqual, Proof
from compare.device import require
from manual import nn
from tests import stand_in
from tests.stand_in import standing_in, there

GPU = Problem((6, 5, 4), batch=7, device="cuda")
PROBLEMS = [
    GPU,
    Problem((6, 5, 4), "tanh", dtype="float64", batch=1, device="cuda"),
    Problem((3, 4, 2), "sigmoid", HALF_SQUARED, "float64", batch=1, device="cuda"),
    Problem((6, 5, 5, 3), "identity", batch=2, device="cuda"),
]


class Library:
    """cuBLAS, as far as it is called here: by address, column by column; recorded if a graph is."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, arguments))
            return 0

        return call

    def gemm(self, real, handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        def at(pointer, rows, columns, ld):
            own = (real * (ld * columns)).from_address(pointer.value)
            return np.ctypeslib.as_array(own).reshape(columns, ld).T[:rows]

        left = at(a, m, k, lda) if ta == 0 else at(a, k, m, lda).T
        right = at(b, k, n, ldb) if tb == 0 else at(b, n, k, ldb).T
        into = at(c, m, n, ldc)
        scale, keep = alpha._obj.value, beta._obj.value
        assert (scale, keep) == (1, 0)

        def compute(out):
            out[...] = left @ right

        stand_in.recorded(compute, into)
        return 0

    def cublasSgemm_v2(self, *arguments):
        return self.gemm(ctypes.c_float, *arguments)

    def cublasDgemm_v2(self, *arguments):
        return self.gemm(ctypes.c_double, *arguments)


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    with standing_in() as module:
        module.library = Library()
        monkeypatch.setattr(cublas, "load", lambda: module.library)
        yield module


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("name", [MANUAL, "manual, CUDA graph"])
def test_manuals_step_there_is_its_step_on_the_cpu(name, problem, cupy):
    proof = Proof(problem)
    contestant = make(name, problem)
    assert proof.check(contestant) <= 1
    first = contestant.results()
    contestant.step()
    moved = contestant.results()
    assert all(not np.array_equal(moved[name], first[name]) for name in first)
    contestant.restart()
    assert all(np.array_equal(v, first[k]) for k, v in contestant.results().items())


def test_the_proof_waits_for_what_it_reads():
    """A graph is launched on a stream of its own: before `wait` nothing may have been done."""
    problem, asked = replace(GPU, device="cpu"), []
    eager = make(MANUAL, problem)

    def wait():
        while asked:
            asked.pop()()

    late = eager._replace(step=lambda: asked.append(eager.step), wait=wait)
    assert Proof(problem).check(late) <= 1


def test_steps_of_a_graph_go_on_from_one_another(cupy):
    eager, graph = make(MANUAL, GPU), make("manual, CUDA graph", GPU)
    for contestant in (eager, graph):
        contestant.restart()
        for _ in range(5):
            contestant.step()
        contestant.wait()
    ours = graph.results()
    for name, value in eager.results().items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-7)


def test_a_launch_reads_nothing_and_copies_nothing(cupy):
    graph = make("manual, CUDA graph", GPU)
    before = vars(cupy.cuda.counts).copy()
    for _ in range(3):
        graph.step()
    assert vars(cupy.cuda.counts) == before


def test_a_graph_that_is_not_manual_is_refused(cupy, monkeypatch):
    proof = Proof(GPU)
    monkeypatch.setattr(nn.ReLU, "backward", lambda self, dy: dy * 1.0)
    with pytest.raises(NotEqual, match="where rounding explains"):
        proof.check(make("manual, CUDA graph", GPU))


def test_cublas_is_told_stream_workspace_and_precision_in_this_order(cupy):
    make("manual, CUDA graph", GPU)
    told = [name for name, _ in cupy.library.calls]
    assert told == [
        "cublasCreate_v2",
        "cublasSetStream_v2",
        "cublasSetWorkspace_v2",
        "cublasSetMathMode",
    ]
    assert cupy.library.calls[-1][1][1] == cublas.PEDANTIC
    assert cupy.library.calls[2][1][2].value == cublas.WORKSPACE
    assert cupy.dot is stand_in.dot  # set back


def test_what_cannot_be_recorded_is_left_out_with_the_reason(cupy, monkeypatch):
    def fails():
        raise OSError("no libcublas")

    monkeypatch.setattr(cublas, "load", fails)
    with pytest.raises(LeftOut, match="cannot be recorded here: no libcublas"):
        make("manual, CUDA graph", GPU)
    library = Library()
    library.cublasSetMathMode = lambda *_: 3
    monkeypatch.setattr(cublas, "load", lambda: library)
    with pytest.raises(LeftOut, match="cublasSetMathMode failed with status 3"):
        make("manual, CUDA graph", GPU)


def test_a_step_that_reads_a_value_cannot_be_recorded(cupy):
    stream, x = cupy.cuda.Stream(non_blocking=True), there(np.ones(3))
    with stream:
        with pytest.raises(RuntimeError, match="capturing"):
            graphs.record(lambda: float(x.sum()), stream)
        assert not stream.is_capturing()  # and the stream is of use again
        graph = graphs.record(lambda: x.fill(2.0), stream)
    graph.launch()
    assert x.get().tolist() == [2, 2, 2]


@pytest.mark.parametrize("target", ["indices", "ignored", "weighted", "smoothed", "binary", "nll"])
def test_losses_can_be_recorded(target, cupy):
    """After a warm-up, which has looked at the targets."""
    generator = np.random.default_rng(0)
    z, y = generator.normal(size=(6, 3)), generator.integers(0, 3, 6)
    if target == "ignored":
        y[2] = -100
    criterion = {
        "indices": nn.CrossEntropyLoss(),
        "ignored": nn.CrossEntropyLoss(),
        "weighted": nn.CrossEntropyLoss(weight=np.array([1.0, 2, 3])),
        "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
        "binary": nn.BCEWithLogitsLoss(),
        "nll": nn.NLLLoss(),
    }[target]
    if target == "binary":
        y = (z > 0).astype(float)
    expected = criterion(z, y), criterion.backward()
    criterion.to("cuda")
    tz, ty, dz = there(z), there(y), there(np.zeros_like(z))
    losses = there(np.zeros(()))

    def step():
        losses[...] = criterion(tz, ty)
        dz[...] = criterion.backward()

    stream = cupy.cuda.Stream(non_blocking=True)
    with stream, cublas.products_by(cublas.Cublas(cupy, stream), cupy):
        step()
        graph = graphs.record(step, stream)
    losses.fill(0)
    dz.fill(0)
    graph.launch()
    np.testing.assert_allclose(float(losses), expected[0], rtol=1e-14)
    np.testing.assert_allclose(dz.get(), expected[1], rtol=1e-14, atol=1e-17)


def test_dropout_cannot_be_recorded(cupy):
    dropout, x = nn.Dropout(0.5).to("cuda"), there(np.ones((2, 3)))
    dropout(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream, pytest.raises(RuntimeError, match="a CUDA graph would repeat one mask for ever"):
        graphs.record(lambda: dropout(x), stream)
    dropout.eval()
    with stream:
        graphs.record(lambda: dropout(x), stream)


LAYOUTS = {
    "C": lambda x: x,
    "Fortran": lambda x: np.asfortranarray(x),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("a_in", LAYOUTS)
@pytest.mark.parametrize("b_in", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(2, 3, 4), (1, 3, 4), (5, 1, 2), (4, 4, 4), (3, 2, 1), (1, 1, 1)]
)
def test_products(shape, a_in, b_in, dtype, cupy):
    n, k, m = shape
    generator = np.random.default_rng(0)
    a = LAYOUTS[a_in](generator.normal(size=(n, k)).astype(dtype))
    b = LAYOUTS[b_in](generator.normal(size=(k, m)).astype(dtype))
    own = cublas.Cublas(cupy, cupy.cuda.Stream())
    out = there(np.full((n, m), np.nan, dtype))
    placed = stand_in.wrapped(a), stand_in.wrapped(b)
    assert own.dot(*placed, out=out) is out
    np.testing.assert_allclose(out.get(), a @ b, rtol=1e-5)
    if n == 1:
        flat = there(np.full(m, np.nan, dtype))
        own.dot(stand_in.wrapped(a[0]), placed[1], out=flat)
        np.testing.assert_allclose(flat.get(), (a @ b)[0], rtol=1e-5)


def test_products_over_nothing_and_of_nothing(cupy):
    own = cublas.Cublas(cupy, cupy.cuda.Stream())
    out = there(np.ones((2, 3)))
    own.dot(there(np.ones((2, 0))), there(np.ones((0, 3))), out=out)
    assert not out.get().any()
    own.dot(there(np.ones((0, 2))), there(np.ones((2, 3))), out=there(np.ones((0, 3))))


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), np.ones((2, 2))),
        (np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 3))),
        (np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 2)).astype("f")),
        (np.ones((2, 6))[:, ::2], np.ones((3, 2)), np.ones((2, 2))),
        (np.ones((2, 3)), np.ones((3, 4)), np.ones((4, 2)).T),
        (np.ones((2, 3), int), np.ones((3, 2), int), np.ones((2, 2), int)),
    ],
)
def test_what_is_no_product_is_refused(a, b, out, cupy):
    own = cublas.Cublas(cupy, cupy.cuda.Stream())
    with pytest.raises(ValueError, match="product"):
        own.dot(*(stand_in.wrapped(x) for x in (a, b)), out=stand_in.wrapped(out))


def test_a_turn_is_over_when_the_gpu_is_done(monkeypatch):
    """What was only asked for is waited for: before the clock starts, and before it stops."""
    done = []
    contestant = Contestant(
        lambda: done.append("step"),
        lambda: done.append("restart"),
        dict,
        lambda: done.append("wait"),
    )
    monkeypatch.setattr(timing.time, "perf_counter", lambda: done.append("clock") or 0.0)
    timing._turn(contestant, 2)
    assert done == ["restart", "step", "wait", "clock", "step", "step", "wait", "clock"]


def test_a_sweep_there(cupy, monkeypatch):
    """Everybody who needs no real GPU; the others are left out with a reason."""
    monkeypatch.setattr(sweep, "TURN_ON_GPU", 1e-4)

    def no_gpu(problem):
        raise LeftOut("torch has no GPU here")

    for function in ("eager", "captured", "compiled"):
        monkeypatch.setattr(f"benchmarks.steps.torch_side.{function}", no_gpu)
    points = sweep.points_of(GPU, (2, 3), (1,), quick=True)
    outcomes = list(sweep.measure(points, list(ON_GPU), 2))
    assert all(set(outcome.left_out) == {n for n in ON_GPU if "torch" in n} for outcome in outcomes)
    rows = [row for outcome in outcomes for row in outcome.rows]
    assert [row["contestant"] for row in rows] == [MANUAL, "manual, CUDA graph"] * 2
    assert {(row["device"], row["gpu"]) for row in rows} == {("cuda", "a stand-in")}
    assert {row["us"] > 0 for row in rows} == {True}
    [(title, printed)] = table.tables(rows)
    assert "a stand-in" in title
    assert "thread" not in title
    assert printed.row_count == 2
    note = command.footnote({**rows[0], "machine": "m", "python": "3", "cupy": "14", "torch": "2"})
    assert "no TF32" in note
    assert "CuPy 14" in note
    assert note.splitlines()[-1].startswith("a stand-in, m, ")


def test_the_points_of_a_gpu():
    points = sweep.default_points([1], 0, quick=False, device="cuda")
    assert {point.problem.device for point in points} == {"cuda"}
    assert [p.problem.batch for p in points if p.problem.widths == (784, 128, 10)] == [
        1,
        64,
        512,
        4096,
    ]
    quick = sweep.default_points([1], 0, quick=True, device="cuda")
    assert [p.problem.batch for p in quick] == [64, 1]
    assert set(makers("cuda")) == set(ON_GPU)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_GPU)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_every_contestant_on_a_gpu_is_manual(name, problem):
    require("cuda")
    assert Proof(problem).check(make(name, problem)) <= 1


@pytest.mark.gpu
def test_a_graph_trains_as_the_eager_step_does_on_a_gpu():
    eager, graph = make(MANUAL, GPU), make("manual, CUDA graph", GPU)
    for contestant in (eager, graph):
        contestant.restart()
        for _ in range(20):
            contestant.step()
        contestant.wait()
    ours = graph.results()
    for name, value in eager.results().items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6)
