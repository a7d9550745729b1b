"""Flatten: shapes, order and errors against torch."""

import numpy as np
import pytest
import torch

from manual import nn
from torch_ref import twin

SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 1, 2), (0, 3, 4), (2, 3, 0)]
DIMS = [(s, e) for s in range(-4, 5) for e in range(-4, 5)]
RNG = np.random.default_rng


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_pair_of_dimensions_as_in_torch(shape, layout):
    """The same shapes and order of elements; or the same type of error."""
    x = np.asarray(RNG(0).normal(size=shape))
    refused = 0
    for start, end in DIMS:
        net = nn.Flatten(start, end)
        tx = torch.tensor(x, requires_grad=True)
        try:
            expected = twin(net)(tx)
        except (IndexError, RuntimeError) as error:
            refused += 1
            with pytest.raises(type(error), match=r"Flatten: .*shape \("):
                net(layout(x))
            continue
        y = net(layout(x))
        assert np.array_equal(y, expected.detach().numpy())
        assert y.shape == tuple(expected.shape)
        dy = np.asarray(RNG(1).normal(size=y.shape))
        expected.backward(torch.tensor(dy))
        dx = net.backward(layout(dy))
        assert dx.shape == shape
        assert np.array_equal(dx, tx.grad.numpy())
    assert 0 < refused < len(DIMS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_first_dimension_stays_by_default(dtype):
    net = nn.Flatten()
    x = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    y = net(x)
    assert y.dtype == net.backward(y).dtype == dtype
    assert np.array_equal(y, np.arange(24).reshape(2, 12))
    assert repr(net) == repr(torch.nn.Flatten())
    assert repr(nn.Flatten(0, 1)) == repr(torch.nn.Flatten(0, 1))
    assert (nn.Flatten(end_dim=2).end_dim, nn.Flatten(np.int64(2)).start_dim) == (2, 2)


def test_backward_belongs_to_the_last_forward():
    net = nn.Flatten()
    net(np.ones((2, 3, 4)))
    net(np.ones((5, 6, 1)))
    assert net.backward(np.ones((5, 6))).shape == (5, 6, 1)


def test_a_failed_forward_changes_nothing():
    net = nn.Flatten()
    net(np.ones((2, 3, 4)))
    with pytest.raises(IndexError, match=r"start_dim must be in \[-1, 0\] .*\(3,\), got 1"):
        net(np.ones(3))
    assert net.backward(np.ones((2, 12))).shape == (2, 3, 4)


def test_errors():
    net = nn.Flatten()
    with pytest.raises(RuntimeError, match=r"Flatten\.backward called before forward"):
        net.backward(np.ones(3))
    for bad in ([1.0], None, np.ones((2, 3), int), np.ones((2, 3), np.float16)):
        with pytest.raises(TypeError, match="Flatten: x"):
            net(bad)
    net(np.ones((2, 3, 4)))
    for shape in ((2, 3, 4), (24,), (2, 1), (12,), (3, 8)):
        with pytest.raises(ValueError, match=r"Flatten: dy.*\(2, 12\), got \("):
            net.backward(np.ones(shape))
    with pytest.raises(TypeError, match="Flatten: dy: expected dtype float64, got float32"):
        net.backward(np.ones((2, 12), np.float32))
    for bad in (1.5, True, "1", None):
        with pytest.raises(TypeError, match=f"start_dim must be a whole number, got {bad!r}"):
            nn.Flatten(bad)
        with pytest.raises(TypeError, match=f"end_dim must be a whole number, got {bad!r}"):
            nn.Flatten(1, bad)
    with pytest.raises(ValueError, match=r"start_dim 2 comes after end_dim 1 .*\(2, 3, 4\)"):
        nn.Flatten(2, 1)(np.ones((2, 3, 4)))
