"""compare(…, device="cuda"), with the stand-in for CuPy on manual's side and torch's side on the
CPU, as there is no GPU: every row must be what it is with device "cpu"."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from compare import assert_equivalent, compare, step, verdict
from compare.cases import cases
from manual import nn, optim
from manual.arrays import DeviceError, device_of, module_of
from tests.stand_in import standing_in, there

CASES = [
    pytest.param(case, id=f"{case.subject}-{k}")
    for k, case in enumerate(cases(np.dtype(np.float32), np.random.default_rng(3)))
][::4]


@pytest.fixture
def on_gpu(monkeypatch):
    """compare on the "GPU"; torch's tensors stay where they are."""
    real = step.torch_run

    def torch_run(own, given, device, dtype=None):
        return real(own, given, "cpu", dtype)

    class TorchOnCpu(step.Sides):
        device = property(lambda self: "cpu", lambda self, value: None)

    monkeypatch.setattr(step, "torch_run", torch_run)
    monkeypatch.setattr(verdict, "Sides", TorchOnCpu)
    monkeypatch.setattr(verdict, "require", module_of)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a stand-in")
    with standing_in():
        yield functools.partial(compare, device="cuda")


def options_of(case):
    names = ("optimizer", "scheduler", "clip", "steps")
    return {name: getattr(case, name) for name in names} | {"allow_vacuous": ["*"], "seed": 3}


@pytest.mark.parametrize("case", CASES)
def test_the_same_rows_as_on_the_cpu(case, on_gpu):
    arguments = case.net, case.criterion, case.x, case.y
    expected = compare(*arguments, **options_of(case))
    found = on_gpu(*arguments, **options_of(case))
    assert found.passed == expected.passed
    pd.testing.assert_frame_equal(found.frame, expected.frame)


def network():
    generator = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(4, 5, generator=generator), nn.Tanh(), nn.Linear(5, 3, generator=generator)
    )


def batch():
    generator = np.random.default_rng(1)
    return generator.normal(size=(8, 4)).astype(np.float32), generator.integers(0, 3, 8)


def test_manual_computes_there(on_gpu, monkeypatch):
    """Every forward and backward gets arrays of the GPU, and what was given stays on the CPU."""
    seen = []
    for name in ("forward", "backward"):
        own = getattr(nn.Tanh, name)

        def noting(self, x, own=own):
            seen.append(device_of(x))
            return own(self, x)

        monkeypatch.setattr(nn.Tanh, name, noting)
    net, criterion = network(), nn.CrossEntropyLoss(np.ones(3, np.float32))
    optimizer = optim.Adam(net.parameters())
    comparison = on_gpu(net, criterion, *batch(), optimizer=optimizer, steps=2, oracle=False)
    assert comparison.passed, comparison
    assert len(seen) >= 8
    assert set(seen) == {"cuda"}
    assert net[0].weight.device == "cpu"
    assert type(criterion.weight) is np.ndarray


def test_a_mistake_there_is_found(on_gpu, monkeypatch):
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy * 1.01)
    comparison = on_gpu(network(), nn.CrossEntropyLoss(), *batch())
    assert comparison.blame == "manual"
    assert comparison.failures.iloc[0]["name"] == "d_activation.0"


def test_an_input_that_is_changed_there_is_found(on_gpu, monkeypatch):
    real = nn.Tanh.forward

    def forward(self, x):
        y = real(self, x)
        x *= 2
        return y

    monkeypatch.setattr(nn.Tanh, "forward", forward)
    found = on_gpu(network(), nn.CrossEntropyLoss(), *batch(), oracle=False)
    assert "activation.0 (changed)" in set(found.failures["name"])


def test_a_result_of_another_point_is_found(on_gpu, monkeypatch):
    """A backward that uses what the last forward of any copy left behind."""
    shared = {}
    real = nn.Tanh.forward

    def forward(self, x):
        shared["y"] = real(self, x)
        return shared["y"]

    def backward(self, dy):
        return dy * (1 - shared["y"] * shared["y"])

    monkeypatch.setattr(nn.Tanh, "forward", forward)
    monkeypatch.setattr(nn.Tanh, "backward", backward)
    found = on_gpu(network(), nn.CrossEntropyLoss(), *batch(), oracle=False)
    assert not found.passed


def test_the_table_says_where_and_how(on_gpu):
    text = on_gpu(network(), nn.CrossEntropyLoss(), *batch(), oracle=False).context
    assert "cuda (a stand-in)" in text
    assert "cupy 0 (stand-in)" in text
    assert "no TF32" in text
    text = compare(network(), nn.CrossEntropyLoss(), *batch(), oracle=False).context
    assert "TF32" not in text


def test_a_network_of_ones_own_cannot_be_moved(on_gpu):
    class Own:
        def __init__(self):
            self.inner = nn.Linear(4, 3)

        forward = property(lambda self: self.inner.forward)
        backward = property(lambda self: self.inner.backward)
        named_parameters = property(lambda self: self.inner.named_parameters)

    with pytest.raises(TypeError, match=r"'cuda' needs a network that is a manual\.nn module"):
        on_gpu(Own(), nn.CrossEntropyLoss(), *batch(), twin=torch.nn.Linear(4, 3))


@pytest.mark.parametrize("device", ["cuda:7", "mps", None])
def test_an_unknown_device(device):
    with pytest.raises(ValueError, match="compare: device must be 'cpu' or 'cuda', got"):
        compare(network(), nn.CrossEntropyLoss(), *batch(), device=device)


def test_data_on_the_gpu_is_refused(on_gpu):
    x, y = batch()
    with pytest.raises(TypeError, match="x must be an ndarray, got a CuPy array"):
        on_gpu(network(), nn.CrossEntropyLoss(), there(x), y)


def test_without_a_gpu_one_error_says_what_is_missing(monkeypatch):
    arguments = network(), nn.CrossEntropyLoss(), *batch()
    with standing_in() as cupy:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(DeviceError, match="torch sees no CUDA device here"):
            assert_equivalent(*arguments, device="cuda")
        cupy.cuda.is_available = lambda: False
        with pytest.raises(DeviceError, match="CuPy is installed, but sees no CUDA device here"):
            compare(*arguments, device="cuda")


@pytest.mark.gpu
def test_on_a_gpu_all_cases_pass():
    """With CuPy and torch both on the GPU: what `handgrad verify --device cuda` runs."""
    from compare.verify import verify

    wrong = [r for r in verify(0, device="cuda") if r["verdict"] != "ok"]
    assert not wrong, wrong[0]["detail"]
