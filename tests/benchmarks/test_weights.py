"""Weights both ways: state_dict ↔ safetensors ↔ torch.nn."""

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks.tensor_file import TensorFileError
from benchmarks.weights import load_weights, save_weights
from manual import nn
from torch_ref import twin

RNG = np.random.default_rng


def network(seed, dtype=np.float32, width=5):
    rng = RNG(seed)
    net = nn.Sequential(
        nn.Linear(3, width, dtype=dtype, generator=rng),
        nn.BatchNorm1d(width, dtype=dtype),
        nn.PReLU(width, dtype=dtype),
        nn.Residual(nn.Linear(width, width, bias=False, dtype=dtype, generator=rng)),
        nn.Linear(width, 2, dtype=dtype, generator=rng),
    )
    net(rng.normal(size=(8, 3)).astype(dtype))  # the running statistics are no longer 0 and 1
    return net


def in_torch(seed=None, dtype=torch.float32):
    """The same in torch alone, and with torch's names."""

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = torch.nn.Linear(5, 5, bias=False)

        def forward(self, x):
            return x + self.module(x)

    torch.manual_seed(seed or 0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5),
        torch.nn.BatchNorm1d(5),
        torch.nn.PReLU(5),
        Residual(),
        torch.nn.Linear(5, 2),
    ).to(dtype)


def same_state(a, b):
    a, b = ({k: np.asarray(v) for k, v in net.state_dict().items()} for net in (a, b))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert np.array_equal(a[name], b[name]), name


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_manual_to_torch(path, dtype):
    net = network(1, dtype)
    save_weights(net, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = in_torch(dtype=getattr(torch, np.dtype(dtype).name))
    load_weights(other, path)
    same_state(net, other)
    by_itself = in_torch(dtype=getattr(torch, np.dtype(dtype).name))
    by_itself.load_state_dict(safetensors.torch.load_file(path))  # nothing of handgrad is needed
    same_state(net, by_itself)
    x = RNG(2).normal(size=(6, 3)).astype(dtype)
    y = net.eval()(x)
    with torch.no_grad():
        there = by_itself.eval()(torch.from_numpy(x)).numpy()
    # sums of at most 7 terms near 1, four layers of them
    np.testing.assert_allclose(y, there, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", ["handgrad", "safetensors"])
def test_torch_to_manual(path, dtype, by):
    net = in_torch(3, dtype)
    net(torch.ones(4, 3, dtype=dtype) + torch.arange(4)[:, None])
    if by == "handgrad":
        save_weights(net, path)
    else:
        safetensors.torch.save_file(net.state_dict(), path)
    other = network(9, np.dtype(str(dtype).removeprefix("torch.")))
    load_weights(other, str(path))
    same_state(net, other)
    assert other[0].weight.data.base is not None  # still a view into the network's buffer
    back = in_torch(5, dtype)
    save_weights(other, str(path))
    load_weights(back, path)
    same_state(net, back)


def test_a_twin_and_its_original(path):
    net = network(4)
    other = twin(network(5))
    save_weights(net, path)
    load_weights(other, path)
    same_state(net, other)


def test_another_float_is_converted(path):
    net, other = network(1, np.float64), network(2, np.float32)
    save_weights(net, path)
    for taker in (other, twin(other)):
        load_weights(taker, path)
        assert np.array_equal(
            np.asarray(taker.state_dict()["0.weight"]),
            net.state_dict()["0.weight"].astype(np.float32),
        )


@pytest.mark.parametrize("side", ["manual", "torch"])
def test_what_does_not_fit_changes_nothing(path, side):
    def refused(net, text):
        taker = net if side == "manual" else twin(net)
        before = {k: np.asarray(v).copy() for k, v in taker.state_dict().items()}
        with pytest.raises(TensorFileError, match=text) as caught:
            load_weights(taker, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        for name, value in taker.state_dict().items():
            assert np.array_equal(before[name], np.asarray(value))

    save_weights(network(1, width=6), path)
    refused(network(2), r"'0.weight' has shape \(6, 3\), expected \(5, 3\)")
    save_weights(nn.Linear(3, 5, generator=RNG(0)), path)
    refused(network(2), r"missing '0.bias'.*unexpected 'bias'; unexpected 'weight'")
    save_weights(network(1), path)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\1\0")
    refused(network(2), "altered: its content does not match its checksum")
    path.write_bytes(content[:-4])
    refused(network(2), "truncated")
    state = {k: torch.tensor(v) for k, v in network(1).state_dict().items()}
    state["1.num_batches_tracked"] = torch.tensor(0.5)
    safetensors.torch.save_file(state, path)
    refused(network(2), "'1.num_batches_tracked' holds float32, expected int64")
    state["0.weight"] = torch.zeros(5, 3, dtype=torch.bool)
    safetensors.torch.save_file(state, path)
    refused(network(2), "'0.weight' holds bool, expected float32")
    state["0.weight"] = torch.zeros(5, 3, dtype=torch.bfloat16)
    safetensors.torch.save_file(state, path)
    refused(network(2), "its dtype BF16 is none of NumPy's")


def test_a_number_that_is_too_large_is_refused(path):
    net, other = network(1, np.float64), network(2, np.float32)
    net[0].weight.data[0, :2], net[0].bias.data[0] = (np.inf, -1e300), np.inf
    save_weights(net, path)
    for taker in (other, twin(other)):
        before = np.asarray(taker.state_dict()["0.weight"]).copy()
        with pytest.raises(
            TensorFileError, match=r"'0.weight' holds ±1e\+300, too large for float32"
        ):
            load_weights(taker, path)
        assert np.array_equal(before, np.asarray(taker.state_dict()["0.weight"]))
    net[0].weight.data[0, :2] = 1  # an infinity is no larger for being converted
    save_weights(net, path)
    load_weights(other, path)
    assert np.isinf(other[0].bias.data[0])


def test_a_buffer_of_truths(path):
    def masked(values):
        net = torch.nn.Linear(2, 2)
        net.register_buffer("mask", torch.tensor(values))
        return net

    save_weights(masked([True, False]), path)
    taker = masked([False, False])
    load_weights(taker, path)
    assert taker.mask.tolist() == [True, False]
    with pytest.raises(TensorFileError, match="'mask' holds bool, expected int64"):
        load_weights(masked([1, 2]), path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        load_weights(network(1), path)
