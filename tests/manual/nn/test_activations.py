"""Activations: against torch, mpmath and central differences, and at their edges."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual import nn

ALL = [nn.Identity, nn.ReLU, nn.Sigmoid, nn.Tanh]
SMOOTH = [nn.Identity, nn.Sigmoid, nn.Tanh]
DTYPES = [np.float32, np.float64, np.longdouble]
SHAPES = [(7,), (5, 4), (2, 3, 4), (0, 3)]
RNG = np.random.default_rng
names = {"ids": lambda value: getattr(value, "__name__", str(value))}


def allowed(dtype, dy):
    """NumPy's and torch's exp and tanh are each good to 4 ulp, of values up to 1; each formula
    after that rounds at most three times more: 2 × 7 eps, times the cotangent. A product below the
    smallest normal number keeps whole multiples of the smallest subnormal only."""
    info = np.finfo(dtype)
    relative = 14 * float(info.eps) * np.abs(dy).astype(np.float64)
    return relative + 7 * float(info.smallest_subnormal) * (dy != 0)


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ALL, **names)
def test_matches_torch(activation, shape, dtype, layout, in_torch):
    rng = RNG(7)
    x, dy = (rng.normal(0, 2, shape).astype(np.float32).astype(dtype) for _ in range(2))
    if x.size:
        x.flat[1] = 0  # exactly at the kink
        assert (x > 0).any()
        assert (x < 0).any()
    x, dy = layout(x), layout(dy)
    module = activation()
    y = module(x)
    kept = y.copy()
    dx = module.backward(dy)
    assert np.array_equal(y, kept)
    assert np.array_equal(module.backward(dy), dx)
    assert y.dtype == dx.dtype == dtype
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert y.shape == dx.shape == expected_y.shape
    accuracy = dtype if dtype != np.longdouble else np.float64  # torch has no more
    assert (np.abs(y - expected_y) <= allowed(accuracy, np.maximum(1, np.abs(x)))).all()
    assert (np.abs(dx - expected_dx) <= allowed(accuracy, dy)).all()


@pytest.mark.parametrize("dtype", DTYPES, **names)
def test_relu_and_identity_are_exact(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([-3, -tiny, -0.0, 0.0, tiny, 3], dtype)
    dy = np.array([2, 3, 5, 7, 11, 13], dtype)
    relu, identity = nn.ReLU(), nn.Identity("ignored", also=1)
    assert np.array_equal(relu(x), np.array([0, 0, 0, 0, tiny, 3], dtype))
    assert np.array_equal(relu.backward(dy), np.array([0, 0, 0, 0, 11, 13], dtype))
    assert np.array_equal(identity(x), x)
    assert np.array_equal(identity.backward(dy), dy)


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("activation", ALL, **names)
def test_nan_stays_nan(activation, dtype):
    assert np.array_equal(np.isnan(activation()(np.array([np.nan, 1.0], dtype))), [True, False])


@pytest.mark.parametrize("activation", ALL, **names)
def test_longdouble_against_central_differences(activation, slope):
    x, dy = RNG(3).normal(size=(2, 4, 5)).astype(np.longdouble)
    assert np.abs(x).min() > 1e-4  # no step crosses ReLU's kink
    module = activation()
    module(x)
    expected = slope(lambda at: np.sum(dy * activation()(at)), x)
    np.testing.assert_allclose(module.backward(dy), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", SMOOTH, **names)
def test_longdouble_is_more_than_float64(activation):
    """Against mpmath at 60 digits: value and derivative, to 14 ulp of longdouble."""
    x = RNG(4).normal(0, 2, 30).astype(np.longdouble)
    module, dy = activation(), RNG(5).normal(size=30).astype(np.longdouble)
    y, dx = module(x), module.backward(dy)
    f = {nn.Identity: mpmath.mpf, nn.Tanh: mpmath.tanh, nn.Sigmoid: sigmoid}[activation]
    with mpmath.workdps(60):
        for k in range(x.size):
            point, cotangent = exact(x[k]), exact(dy[k])
            eps = float(np.finfo(np.longdouble).eps)
            assert abs(exact(y[k]) - f(point)) <= 14 * eps * max(1, abs(point))
            error = abs(exact(dx[k]) - cotangent * mpmath.diff(f, point))
            assert error <= 14 * eps * abs(cotangent)


def exact(value):
    """A longdouble as an mpmath number, to its last bit."""
    mantissa, exponent = np.frexp(value)
    high = float(mantissa)
    return mpmath.ldexp(mpmath.mpf(high) + float(mantissa - high), int(exponent))


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


@pytest.mark.parametrize(
    ("dtype", "low"), [(np.float32, -80), (np.float64, -700), (np.longdouble, -700)], **names
)
def test_sigmoid_keeps_its_relative_accuracy(dtype, low):
    """σ(x) and σ'(x) far to the left, where (1 + tanh(x/2))/2 is 0: e^−x within 4 ulp, three
    roundings after it, and for σ' as many again."""
    x = np.unique(np.array([low, -80, -40, -20, *np.linspace(low, 0, 50)], dtype))
    module = nn.Sigmoid()
    y, dx = module(x), module.backward(np.full_like(x, 3))
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(400):
        for k in range(x.size):
            value = sigmoid(exact(x[k]))
            assert abs(exact(y[k]) / value - 1) <= 7 * eps, x[k]
            assert abs(exact(dx[k]) / (3 * value * (1 - value)) - 1) <= 20 * eps, x[k]


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh], **names)
def test_extreme_arguments(activation, dtype):
    tiny, far = np.finfo(dtype).smallest_subnormal, dtype(1e4)
    x = np.array([-far, -np.inf, far, np.inf, tiny, -tiny, 0, -0.0], dtype)
    module = activation()
    y, dx = module(x), module.backward(np.full_like(x, 2))
    if activation is nn.Sigmoid:
        assert np.array_equal(y[2:], np.array([1, 1, 0.5, 0.5, 0.5, 0.5], dtype))
        assert 0 <= float(y[0]) < 1e-300  # e^−10000: longdouble reaches it, the others do not
        assert y[1] == 0
    else:
        assert np.array_equal(y, np.array([-1, -1, 1, 1, tiny, -tiny, 0, -0.0], dtype))
    slopes = np.array([0, 0, 0, 0] + 4 * [0.5 if activation is nn.Sigmoid else 2], dtype)
    np.testing.assert_allclose(dx, slopes, rtol=0, atol=1e-300)


@settings(max_examples=60, deadline=None)
@given(
    pair=hnp.array_shapes(max_dims=3, max_side=4).flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(np.float64, shape, elements=st.floats(-1e4, 1e4)) for _ in range(2)]
        )
    ),
    activation=st.sampled_from(ALL),
)
def test_any_float64(pair, activation, in_torch):
    x, dy = pair
    module = activation()
    y, dx = module(x), module.backward(dy)
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert (np.abs(y - expected_y) <= allowed(np.float64, np.maximum(1, np.abs(x)))).all()
    assert (np.abs(dx - expected_dx) <= allowed(np.float64, dy)).all()


@pytest.mark.parametrize("activation", ALL, **names)
class TestRefusals:
    @pytest.mark.parametrize("bad", [[1.0], 1.0, None], ids=repr)
    def test_only_arrays(self, activation, bad):
        with pytest.raises(TypeError, match=f"{activation.__name__}: x.*{type(bad).__name__}"):
            activation()(bad)

    @pytest.mark.parametrize("dtype", [np.int64, np.float16, bool], **names)
    def test_only_floats(self, activation, dtype):
        with pytest.raises(TypeError, match=f"{activation.__name__}: x.*{np.dtype(dtype)}"):
            activation()(np.ones((2, 3), dtype))

    @pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (3, 2), (1, 2, 3)], ids=str)
    def test_cotangents_do_not_broadcast(self, activation, shape):
        module = activation()
        module(np.ones((2, 3)))
        with pytest.raises(ValueError, match=rf"{activation.__name__}: dy.*\(2, 3\), got \("):
            module.backward(np.ones(shape))

    def test_cotangents_of_another_dtype(self, activation):
        module = activation()
        module(np.ones((2, 3)))
        with pytest.raises(TypeError, match=f"{activation.__name__}: dy.*float64, got float32"):
            module.backward(np.ones((2, 3), np.float32))

    def test_backward_before_forward(self, activation):
        with pytest.raises(RuntimeError, match=f"{activation.__name__}.backward called before"):
            activation().backward(np.ones((2, 3)))


def test_relu_follows_torch_where_nothing_is_finite():
    x = np.array([np.nan, -1, 1, 0, np.inf, -np.inf])
    for dy in ([np.inf, np.inf, -np.inf, np.nan, 3, 2], [1, np.nan, np.nan, np.inf, np.inf, -1]):
        dy = np.array(dy, float)
        net, point = nn.ReLU(), torch.tensor(x, requires_grad=True)
        np.testing.assert_array_equal(net(x), torch.relu(point).detach().numpy())
        torch.relu(point).backward(torch.from_numpy(dy))
        np.testing.assert_array_equal(net.backward(dy), point.grad.numpy())


def test_a_subnormal_cotangent_is_rounded_to_whole_subnormals(in_torch):
    """Found by `test_any_float64`: the sides differ by one unit of 5e-324."""
    x, dy = np.array([0.0078125]), np.array([2.22507386e-313])
    net = nn.Sigmoid()
    net(x)
    _, expected, _ = in_torch(net, x, dy)
    assert (np.abs(net.backward(dy) - expected) <= allowed(np.float64, dy)).all()
