"""What a GPU needs, and that float32 is float32 there; with the stand-in for CuPy."""

import sys

import pytest
import torch

from compare.device import described, require, true_float32
from manual.arrays import DeviceError
from tests.stand_in import standing_in

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture
def cupy():
    with standing_in() as module:
        yield module


@pytest.fixture(autouse=True)
def as_before():
    before = MATMUL.fp32_precision, CUDNN.fp32_precision
    yield
    MATMUL.fp32_precision, CUDNN.fp32_precision = before


def own(cupy):
    return sys.modules["cupy._core._routines_linalg"]


def test_the_cpu_needs_nothing_and_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    require("cpu")
    MATMUL.fp32_precision = "tf32"
    with true_float32("cpu"):
        assert MATMUL.fp32_precision == "tf32"
    assert described("cpu") == "cpu"


def test_tf32_is_off_meanwhile_on_both_sides(cupy):
    MATMUL.fp32_precision, CUDNN.fp32_precision = "tf32", "none"
    own(cupy).set_compute_type("f", own(cupy).COMPUTE_TYPE_TF32)

    @true_float32("cuda")
    def failing():
        assert (MATMUL.fp32_precision, CUDNN.fp32_precision) == ("ieee", "ieee")
        assert own(cupy).get_compute_type("f") == own(cupy).COMPUTE_TYPE_PEDANTIC
        raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert (MATMUL.fp32_precision, CUDNN.fp32_precision) == ("tf32", "none")
    assert own(cupy).get_compute_type("f") == own(cupy).COMPUTE_TYPE_TF32


def test_what_was_set_by_its_older_name_is_set_back(cupy):
    MATMUL.allow_tf32 = True
    with true_float32("cuda"):
        pass
    assert MATMUL.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"
    MATMUL.allow_tf32 = False


def test_a_torch_that_has_only_the_older_names(cupy, monkeypatch):
    class Older:
        allow_tf32 = True

    matmul, cudnn = Older(), Older()
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with true_float32("cuda"):
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_what_is_missing_is_said(cupy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="torch sees no CUDA device here"):
        require("cuda")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"pip install 'handgrad\[gpu\]'"):
        require("cuda")
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'mps'"):
        require("mps")


def test_the_device_in_words(cupy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "X")
    assert described("cuda") == "cuda (X), cupy 0 (stand-in), float32 products in float32 (no TF32)"


def test_cupy_s_own_switch():
    """The names that pin it, in CuPy itself; needs no GPU."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    MATMUL.fp32_precision = "tf32"
    from cupy._core import _routines_linalg

    before = _routines_linalg.get_compute_type("f")
    with true_float32("cuda"):
        found = _routines_linalg.get_compute_type("f")
        assert found == _routines_linalg.COMPUTE_TYPE_PEDANTIC
    assert _routines_linalg.get_compute_type("f") == before
