"""Matrix products straight from cuBLAS, for a stream that records a CUDA graph.

CuPy (14) refuses to call cuBLAS while a stream records. cuBLAS itself can be recorded, if it has a
workspace of its own: so here its gemm is called through ctypes, as CuPy calls it otherwise.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

NO, YES = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
PEDANTIC = 2  # CUBLAS_PEDANTIC_MATH: float32 in every phase, no TF32
WORKSPACE = 32 << 20  # bytes: the most that cuBLAS's documentation recommends
REAL = {"f": ctypes.c_float, "d": ctypes.c_double}


class CublasError(RuntimeError):
    """A call that cuBLAS refused."""


class Gemm(NamedTuple):
    """C = op(B) op(A) in cuBLAS's terms, which reads memory column by column."""

    transb: int
    transa: int
    m: int
    n: int
    k: int
    ldb: int
    lda: int
    ldc: int


def gemm_of(a: Any, b: Any, out: Any) -> Gemm:
    """The call that makes out = a b, (n, k)(k, m); a may be (k,), one row.

    An array in C order is its own transpose, read column by column: with out in C order,
    outᵀ = bᵀ aᵀ, where a factor in C order needs no transposition and one in Fortran order does.

    Raises ValueError where the shapes do not fit or the memory is neither.
    """
    n, m = (1, *out.shape)[-2:]
    k = a.shape[-1]
    if (1, *a.shape)[-2:] != (n, k) or b.shape != (k, m) or not out.flags.c_contiguous:
        raise ValueError(f"no product {a.shape} {b.shape} into {out.shape}")
    (transb, ldb), (transa, lda) = _lies(b), _lies(a)
    return Gemm(transb, transa, m, n, k, ldb, lda, m)


def _lies(x: Any) -> tuple[int, int]:
    """(whether cuBLAS must transpose, the distance of its columns)."""
    if x.flags.c_contiguous:
        return NO, x.shape[-1]
    if x.flags.f_contiguous:
        return YES, x.shape[0]
    raise ValueError("a factor of a product must lie in C or Fortran order")


class Cublas:
    """A handle of cuBLAS for one stream. Everything must stay alive as long as a graph is used."""

    def __init__(self, cupy: ModuleType, stream: Any) -> None:
        self.library = load()
        self.handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream.ptr))
        # After the stream, which would take it away again.
        self.workspace = cupy.empty(WORKSPACE, np.uint8)
        pointer, size = ctypes.c_void_p(self.workspace.data.ptr), ctypes.c_size_t(WORKSPACE)
        self._call("cublasSetWorkspace_v2", self.handle, pointer, size)
        self._call("cublasSetMathMode", self.handle, PEDANTIC)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise CublasError(f"{name} failed with status {status}")

    def dot(self, a: Any, b: Any, out: Any) -> Any:
        """As np.dot(a, b, out=out), for what `gemm_of` takes, float32 or float64."""
        if not a.dtype == b.dtype == out.dtype or a.dtype.char not in REAL:
            raise ValueError(f"no product of {a.dtype} and {b.dtype} into {out.dtype}")
        g, real = gemm_of(a, b, out), REAL[a.dtype.char]
        if g.k == 0:
            out.fill(0)
        elif g.m and g.n:
            one, zero = (ctypes.byref(real(value)) for value in (1, 0))
            b_at, a_at, out_at = (ctypes.c_void_p(x.data.ptr) for x in (b, a, out))
            self._call(
                {"f": "cublasSgemm_v2", "d": "cublasDgemm_v2"}[a.dtype.char],
                *(self.handle, g.transb, g.transa, g.m, g.n, g.k),
                *(one, b_at, g.ldb, a_at, g.lda, zero, out_at, g.ldc),
            )
        return out


def load() -> ctypes.CDLL:
    """The cuBLAS that CuPy loads. Raises OSError where there is none."""
    from cuda import pathfinder  # comes with CuPy

    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)


@contextmanager
def products_by(cublas: Cublas, cupy: ModuleType) -> Iterator[None]:
    """np.dot of CuPy's arrays, which looks for cupy.dot, is `cublas.dot` meanwhile."""
    before = cupy.dot

    def dot(a: Any, b: Any, out: Any = None) -> Any:
        # Of two vectors: CuPy multiplies and sums by itself.
        return before(a, b, out) if a.ndim == b.ndim == 1 else cublas.dot(a, b, out)

    cupy.dot = dot
    try:
        yield
    finally:
        cupy.dot = before
