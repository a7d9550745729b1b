"""Finite numbers whose result is too large for the dtype: ±inf as in torch, without a warning."""

import numpy as np
import pytest
import torch

from manual import nn

DTYPES = [np.float32, np.float64]


def both(module, x, dy):
    """(y, dx) of the module, and of torch's of the same name and repr, with the same weights."""
    theirs = eval(repr(module), vars(torch.nn)).to(torch.from_numpy(x).dtype)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in module.state_dict().items()})
    point = torch.tensor(x, requires_grad=True)
    y = theirs(point)
    y.backward(torch.from_numpy(dy))
    return (module(x), module.backward(dy)), (y.detach().numpy(), point.grad.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("module", "x", "dy"),
    [
        (nn.ELU(-2.0), [[-1e-30, 1], [2, -0.5]], [["max", "-max"], [1, "max"]]),
        (nn.SiLU(), [[2.0, 2], [-1, 3]], [["max", "-max"], [1, "max"]]),
        (nn.GELU(), [[1.0, 1], [-1, 3]], [["max", "-max"], [1, "max"]]),
        (nn.GELU("tanh"), [[1.0, 1], [-1, 3]], [["max", "-max"], [1, "max"]]),
        (nn.Softmax(1), [[5.0, 0], [1, 1]], [["-max", "max"], [1, 3]]),
        (nn.LogSoftmax(1), [[9.0, 0], [1, 1]], [["-max", "-max"], [1, 3]]),
    ],
    ids=repr,
)
def test_of_a_huge_gradient(module, x, dy, dtype):
    largest = np.finfo(dtype).max
    dy = [[{"max": largest, "-max": -largest}.get(v, v) for v in row] for row in dy]
    (y, dx), (expected, expected_dx) = both(module, np.array(x, dtype), np.array(dy, dtype))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)  # torch rounds log p beside a 1
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-6)
    assert np.isinf(dx[0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(dtype):
    module, largest = nn.Linear(1, 2, dtype=dtype), np.finfo(dtype).max
    module.weight.data, module.bias.data = np.ones((2, 1), dtype), np.array([largest, 1], dtype)
    x, dy = np.full((2, 1), largest), np.array([[largest, -1], [largest, 2]], dtype)
    assert np.array_equal(module(x), [[np.inf, largest]] * 2)
    module.backward(dy)
    assert np.array_equal(module.bias.grad, [np.inf, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_and_dropout(dtype):
    x = np.full((4, 5), np.finfo(dtype).max)
    for module in (nn.Residual(nn.Identity()), nn.Dropout(0.5, np.random.default_rng(0))):
        y, dx = module(x), module.backward(-x)
        assert np.isposinf(y).any()
        assert np.isposinf(y).sum() + (y == 0).sum() == y.size
        assert np.array_equal(dx, -y)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_variance_beyond_the_range(dtype, bias):
    """σ² = inf gives x̂ = 0 and no gradient; the other channel is as ever."""
    big = np.sqrt(np.finfo(dtype).max) * 4
    x = np.array([[big, 1], [-big, 2], [big / 2, 4]], dtype)
    dy = np.array([[1, 2], [-3, 0.5], [2, 1]], dtype)
    module = nn.BatchNorm1d(2, dtype=dtype, bias=bias)
    (y, dx), (expected, expected_dx) = both(module, x, dy)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-4, atol=1e-6)
    assert not y[:, 0].any()
    assert not dx[:, 0].any()
    assert np.isposinf(module.running_var[0])
