"""The stand-in for CuPy: that it behaves as CuPy in what the other tests rest on."""

import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from tests import stand_in
from tests.stand_in import asarray, standing_in, there

MANUAL = Path(__file__).parents[1] / "manual"
HOST_ONLY = {"descent.py", "perceptron.py"}  # NumPy alone: sample by sample, or d by d


def test_it_does_not_mix_with_numpy():
    a, b = there(np.ones(3)), np.ones(3)
    for mixed in (lambda: a + b, lambda: b + a, lambda: np.add(a, b), lambda: np.add(b, b, out=a)):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(a)
    with pytest.raises(TypeError):
        a[...] = b
    with pytest.raises(TypeError):
        np.dot(a, b)


def test_it_lacks_what_cupy_lacks():
    a = there(np.ones((2, 3)))
    with pytest.raises(TypeError):
        a.take([0], mode="clip")
    with pytest.raises(NotImplementedError):
        np.maximum.reduce(a, 0)
    with pytest.raises(TypeError):
        np.add(a, a, where=there(np.ones((2, 3), bool)))
    with pytest.raises(TypeError):
        a.max(initial=0)
    with pytest.raises(TypeError):
        np.linalg.norm(a)
    assert not hasattr(a.flags, "writeable")
    with pytest.raises(TypeError, match="no longdouble"):
        there(np.ones(2, np.longdouble))


def test_sums_and_elements_stay_arrays():
    a = there(np.arange(6.0).reshape(2, 3))
    for found in (a.sum(), a[0, 1], np.dot(a[0], a[1]), a.max(), np.add.reduce(a, axis=None)):
        assert type(found) is stand_in.ndarray
        assert found.shape == ()


def test_a_graph_computes_when_it_is_launched():
    with standing_in() as cupy:
        stream = cupy.cuda.Stream(non_blocking=True)
        x, total = there(np.arange(3.0)), there(np.zeros(()))
        matrix = there(np.ones((3, 2)))
        with stream:
            stream.begin_capture()
            y = x * 2
            total += y.sum()
            for forbidden in (lambda: float(total), lambda: bool(x[0]), lambda: x.get()):
                with pytest.raises(RuntimeError, match="capturing"):
                    forbidden()
            with pytest.raises(RuntimeError, match="H2D"):
                asarray(np.ones(2))
            with pytest.raises(NotImplementedError, match="cuBLAS"):
                np.dot(x, matrix)
            graph = stream.end_capture()
        assert float(total) == 0
        graph.launch()
        x[...] = 1.0
        graph.launch()
        assert float(total) == 6 + 6
        assert y.get().tolist() == [2, 2, 2]


def test_manual_calls_no_other_function_of_numpy_on_data():
    """Every np.… in manual is a ufunc, a function that the stand-in has, or is for the CPU."""
    host = {"array", "asarray", "full", "full_like", "finfo", "errstate", "isscalar", "flatnonzero"}
    host |= {"roll", "dtype", "prod", "where"}  # where: for longdouble alone
    host |= {"sum"}  # named in a docstring
    host |= {"ndarray", "generic", "floating", "integer", "longdouble", "float32", "float64"}
    host |= {"int32", "int64", "intp", "uintp", "inf", "nan", "random"}
    for path in MANUAL.rglob("*.py"):
        if path.name in HOST_ONLY:
            continue
        for name in set(re.findall(r"\bnp\.([a-z_0-9]+)", path.read_text())):
            known = isinstance(getattr(np, name), np.ufunc) or name in stand_in.FUNCTIONS
            assert known or name in host, f"np.{name} in {path}"


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_cupy_has_all_that_it_has():
    """With the same names of arguments; and every ufunc that manual uses. Needs no GPU."""
    import cupy

    for name, function in stand_in.FUNCTIONS.items():
        theirs = inspect.signature(getattr(cupy, name)).parameters
        for argument in inspect.signature(function).parameters:
            assert argument in theirs, f"cupy.{name}({argument})"
    for name in stand_in.METHODS:
        assert hasattr(cupy.ndarray, name), name
    for path in MANUAL.rglob("*.py"):
        for name in set(re.findall(r"\bnp\.([a-z_0-9]+)", path.read_text())):
            if path.name not in HOST_ONLY and isinstance(getattr(np, name), np.ufunc):
                assert isinstance(getattr(cupy, name), cupy.ufunc), name
    for name in ("Stream", "MemoryPool", "using_allocator", "is_available", "get_current_stream"):
        assert hasattr(cupy.cuda, name)
    for name in ("begin_capture", "end_capture", "is_capturing", "synchronize"):
        assert hasattr(cupy.cuda.Stream, name)
    assert "mode" not in (cupy.ndarray.take.__doc__ or "").split("\n")[0]
