"""ReLU and its kin, Step and Maxout: exact at their kinks; PReLU's slopes; Maxout's pieces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn, optim
from torch_ref import twin

DTYPES = [np.float32, np.float64, np.longdouble]
RNG = np.random.default_rng
names = {"ids": lambda value: getattr(value, "__name__", str(value))}


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize(
    ("module", "y", "dx"),
    [
        (nn.ReLU, [0, 0, 0, 0, "tiny", 3], [0, 0, 0, 0, 11, 13]),
        (lambda: nn.LeakyReLU(0.5), [-1.5, "-tiny/2", 0, 0, "tiny", 3], [1, 1.5, 2.5, 3.5, 11, 13]),
        (lambda: nn.LeakyReLU(-2.0), [6, "2tiny", 0, 0, "tiny", 3], [-4, -6, -10, -14, 11, 13]),
        (
            lambda: nn.PReLU(init=0.5),
            [-1.5, "-tiny/2", 0, 0, "tiny", 3],
            [1, 1.5, 2.5, 3.5, 11, 13],
        ),
        (nn.Step, [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]),
    ],
    ids=["ReLU", "LeakyReLU 0.5", "LeakyReLU -2", "PReLU", "Step"],
)
def test_exact_on_both_sides_and_at_the_kink(module, y, dx, dtype):
    tiny = np.finfo(dtype).tiny
    values = {"tiny": tiny, "-tiny/2": -tiny / 2, "2tiny": 2 * tiny}
    x = np.array([-3, -tiny, -0.0, 0.0, tiny, 3], dtype)
    dy = np.array([2, 3, 5, 7, 11, 13], dtype)
    module = module().to(dtype)
    assert np.array_equal(module(x), np.array([values.get(v, v) for v in y], dtype))
    assert np.array_equal(module.backward(dy), np.array(dx, dtype))


@pytest.mark.parametrize(
    "make",
    [
        nn.ReLU,
        nn.LeakyReLU,
        lambda: nn.LeakyReLU(0.0),
        lambda: nn.LeakyReLU(-3.0),
        lambda: nn.PReLU(dtype=np.float64),
        lambda: nn.PReLU(init=0.0, dtype=np.float64),
        nn.Step,
    ],
    ids=["ReLU", "LeakyReLU", "LeakyReLU 0", "LeakyReLU -3", "PReLU", "PReLU 0", "Step"],
)
def test_torch_is_followed_where_nothing_is_finite(make):
    x = np.array([np.nan, -1, 1, 0, np.inf, -np.inf])
    for dy in ([np.inf, np.inf, -np.inf, np.nan, 3, 2], [1, np.nan, np.nan, np.inf, np.inf, -1]):
        dy = np.array(dy, float)
        net, point = make(), torch.tensor(x, requires_grad=True)
        theirs = twin(net)
        y = theirs(point)
        np.testing.assert_array_equal(net(x), y.detach().numpy())
        y.backward(torch.from_numpy(dy))
        np.testing.assert_array_equal(net.backward(dy), point.grad.numpy())
        for name, p in theirs.named_parameters():
            np.testing.assert_array_equal(dict(net.named_parameters())[name].grad, p.grad.numpy())


def test_an_overflow_is_infinite_and_only_where_it_counts():
    """As in torch, and without a warning: 10 x is not computed where x > 0."""
    x = np.array([1e308, -1e308])
    for module in (nn.LeakyReLU(10.0), nn.PReLU(init=10.0, dtype=np.float64)):
        assert np.array_equal(module(x), [1e308, -np.inf])
        assert np.array_equal(module.backward(np.full(2, 1e308)), [1e308, np.inf])
    assert module.weight.grad == -np.inf
    module(np.array([1e308, -2.0]))  # x dy overflows for the first, which has no part in dw
    module.backward(np.array([1e308, 3.0]))
    assert module.weight.grad == -6


def test_prelu_infinite_cotangents_count_only_where_x_does(in_torch):
    """No 0 · ∞ from x > 0 enters the sum."""
    module, x, dy = nn.PReLU(dtype=np.float64), np.array([1.0, -1.0, 2.0]), [np.inf, 2.0, -np.inf]
    module(x)
    module.backward(np.array(dy))
    assert module.weight.grad == in_torch(module, x, dy)[2]["weight"] == -2


def test_an_infinite_cotangent_at_prelus_kink(in_torch):
    """x = 0 belongs to the side of the slope: 0 · ∞ is NaN, as in torch."""
    module, x, dy = nn.PReLU(dtype=np.float64), np.zeros(1), np.array([np.inf])
    module(x)
    module.backward(dy)
    assert np.isnan(module.weight.grad)
    assert np.isnan(in_torch(module, x, dy)[2]["weight"])


@pytest.mark.parametrize("dy", [[3e38, 3e38], [np.inf, -np.inf]], ids=["overflow", "no number"])
def test_what_is_too_large_for_prelus_sum(dy):
    module = nn.PReLU()
    module(np.full(2, -1, np.float32))
    module.backward(np.array(dy, np.float32))
    expected = -np.inf if np.isfinite(dy).all() else np.nan  # ∞ − ∞
    assert np.array_equal(module.weight.grad, [expected], equal_nan=True)


SLOPES = [((), 1), ((4,), 1), ((5, 3), 1), ((5, 3), 3), ((2, 3, 4), 3), ((2, 3, 4), 1)]
SLOPES += [((2, 3, 4, 2), 3), ((1, 2, 1, 3, 2), 2), ((0, 3), 3), ((4, 4), 4), ((2, 0, 3), 1)]


def prelu(channels, dtype, seed=1):
    module = nn.PReLU(channels, dtype=dtype)
    module.weight.data = RNG(seed).normal(size=channels).astype(dtype)
    return module


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize(("shape", "channels"), SLOPES, ids=str)
def test_prelu_as_in_torch(shape, channels, dtype, layout, in_torch):
    """y and dx take one rounding, the sum for dw as many as it has terms."""
    rng = RNG(2)
    x, dy = (np.asarray(rng.normal(size=shape), np.float32).astype(dtype) for _ in range(2))
    if x.size > 1:
        x.flat[1] = 0
    module = prelu(channels, dtype)
    y, dx = module(layout(x)), module.backward(layout(dy))
    expected_y, expected_dx, grads = in_torch(module, x, dy)
    assert y.shape == dx.shape == expected_y.shape == shape
    assert y.dtype == dx.dtype == module.weight.grad.dtype == dtype
    eps = float(max(np.finfo(dtype).eps, np.finfo(np.float64).eps))
    assert (np.abs(y - expected_y) <= eps * np.abs(expected_y)).all()
    assert (np.abs(dx - expected_dx) <= eps * np.abs(expected_dx)).all()
    terms = np.abs(x * dy).sum() * (x.size + 1)
    assert module.weight.grad.shape == (channels,)
    assert (np.abs(module.weight.grad - grads["weight"]) <= eps * float(terms)).all()
    kept = module.weight.grad.copy()
    module.weight.grad = None
    module.backward_parameters(layout(dy))
    assert np.array_equal(module.weight.grad, kept)


@pytest.mark.parametrize(("shape", "channels"), [((5, 3), 3), ((2, 3, 4), 3), ((2, 3), 1)], ids=str)
def test_prelu_against_central_differences(shape, channels, slope):
    x, dy = RNG(5).normal(size=(2, *shape)).astype(np.longdouble)
    assert np.abs(x).min() > 1e-4  # no step crosses the kink
    module = prelu(channels, np.longdouble)
    module(x)
    dx = module.backward(dy)

    def loss(weight, at):
        copy = nn.PReLU(channels, dtype=np.longdouble)
        copy.weight.data = weight
        return np.sum(dy * copy(at))

    kept = module.weight.data.copy()
    expected = slope(lambda at: loss(kept, at), x)
    np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-9)
    expected = slope(lambda weight: loss(weight, x), kept)
    np.testing.assert_allclose(module.weight.grad, expected, rtol=1e-8, atol=1e-8)


def test_prelu_learns_its_slopes():
    """From 0.25 to the slopes that made the targets, one for each channel."""
    slopes, x = np.array([0.5, -1.0, 2.0]), RNG(6).normal(size=(64, 3))
    target = np.where(x > 0, x, slopes * x)
    module, criterion = nn.PReLU(3, dtype=np.float64), nn.MSELoss()
    optimizer = optim.SGD(module.parameters(), lr=0.5)
    for _ in range(200):
        criterion(module(x), target)
        module.backward(criterion.backward())
        optimizer.step()
    np.testing.assert_allclose(module.weight.data, slopes, rtol=1e-6)


def test_prelu_starts_as_told():
    module = nn.PReLU(3, init=0.125)
    assert np.array_equal(module.weight.data, np.full(3, 0.125, np.float32))
    assert module.weight.dtype == np.float32
    assert nn.PReLU(dtype=np.longdouble).weight.dtype == np.longdouble
    assert list(module.state_dict()) == list(torch.nn.PReLU(3).state_dict()) == ["weight"]
    assert repr(module) == repr(torch.nn.PReLU(3))


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (3, 1), (2, 4, 3), (1,)], ids=str)
def test_prelu_refuses_other_channels(shape):
    for kind in (ValueError, RuntimeError):  # torch raises the second
        with pytest.raises(
            kind, match=rf"PReLU: expected x with 3 channels.*got {channel(shape)} "
        ):
            nn.PReLU(3)(np.ones(shape, np.float32))
    with pytest.raises(RuntimeError):
        torch.nn.PReLU(3)(torch.ones(shape))


def channel(shape):
    return shape[1] if len(shape) > 1 else 1


def test_prelu_refuses_other_dtypes():
    with pytest.raises(TypeError, match="PReLU: x: expected dtype float32, got float64"):
        nn.PReLU()(np.ones((2, 3)))
    for dtype in (np.int64, np.float16):
        with pytest.raises(TypeError, match=f"PReLU: dtype.*got {np.dtype(dtype)}"):
            nn.PReLU(dtype=dtype)


@pytest.mark.parametrize("bad", [0, -1, 1.0, 2.5, "2", None, True, np.nan], ids=repr)
def test_counts_must_be_whole(bad):
    error = ValueError if type(bad) is int else TypeError
    with pytest.raises(error, match=r"PReLU: num_parameters must be a whole number >= 1, got"):
        nn.PReLU(bad)
    with pytest.raises(error, match=r"Maxout: pieces must be a whole number >= 1, got"):
        nn.Maxout(bad)


def test_counts_of_numpy_are_taken():
    assert repr(nn.PReLU(np.int64(3))) == "PReLU(num_parameters=3)"
    assert repr(nn.Maxout(np.int32(3))) == "Maxout(pieces=3)"


POOLS = [((6,), 2), ((4, 6), 2), ((4, 6), 3), ((2, 3, 4), 4), ((3, 5), 1), ((0, 4), 2), ((3, 0), 2)]


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize(("shape", "pieces"), POOLS, ids=str)
def test_maxout_as_in_torch(shape, pieces, dtype, layout, in_torch):
    """Nothing is rounded. Small whole numbers, so that many are equal."""
    rng = RNG(3)
    x = rng.integers(-2, 3, shape).astype(dtype)
    dy = rng.normal(size=(*shape[:-1], shape[-1] // pieces)).astype(np.float32).astype(dtype)
    module = nn.Maxout(pieces)
    y, dx = module(layout(x)), module.backward(layout(dy))
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert y.dtype == dx.dtype == dtype
    assert y.shape == expected_y.shape
    assert dx.shape == shape
    assert np.array_equal(y, expected_y)
    assert np.array_equal(dx, expected_dx)


def test_maxout_by_hand():
    x = np.array([[1.0, 2.0, 5.0, 5.0, -1.0, -3.0]])
    module = nn.Maxout(2)
    assert np.array_equal(module(x), [[2, 5, -1]])
    dx = module.backward(np.array([[7.0, 11.0, 13.0]]))
    assert np.array_equal(dx, [[0, 7, 11, 0, 13, 0]])  # of two equal ones the first
    assert np.array_equal(nn.Maxout(3)(x), [[5, 5]])
    assert nn.Maxout().pieces == 2
    assert repr(module) == "Maxout(pieces=2)"


def test_maxout_after_linear_is_the_largest_of_several_affine_maps():
    """max(w_1 x + b_1, w_2 x + b_2, w_3 x + b_3) for each of 4 units."""
    linear = nn.Linear(5, 12, dtype=np.float64, generator=RNG(0))
    x = RNG(1).normal(size=(7, 5))
    y = nn.Sequential(linear, nn.Maxout(3))(x)
    for unit in range(4):
        rows = [3 * unit + k for k in range(3)]
        maps = [x @ linear.weight.data[row] + linear.bias.data[row] for row in rows]
        np.testing.assert_allclose(y[:, unit], np.maximum.reduce(maps), rtol=1e-13, atol=1e-13)


def test_maxout_of_x_and_0_is_relu_and_of_x_and_minus_x_the_modulus():
    x = np.array([[-2.0, 3.0, 0.0]])
    pairs = np.stack([x, 0 * x], axis=-1).reshape(1, 6)
    assert np.array_equal(nn.Maxout()(pairs), nn.ReLU()(x))
    pairs = np.stack([x, -x], axis=-1).reshape(1, 6)
    assert np.array_equal(nn.Maxout()(pairs), np.abs(x))


def test_maxout_where_not_all_is_finite():
    """A NaN wins, the first of several; of infinities the first."""
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 1, nan], [1, nan, nan], [inf, inf, 0], [-inf, -inf, -inf], [-inf, 2, -inf]])
    module, point = nn.Maxout(3), torch.tensor(x, requires_grad=True)
    y = twin(module)(point)
    dy = np.array([[2.0], [3.0], [5.0], [7.0], [-11.0]])
    y.backward(torch.tensor(dy))
    np.testing.assert_array_equal(module(x), y.detach().numpy())
    np.testing.assert_array_equal(module.backward(dy), point.grad.numpy())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 4), out=st.integers(0, 4), pieces=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_maxout_of_any_size(rows, out, pieces, seed, in_torch):
    rng = RNG(seed)
    x, dy = rng.normal(size=(rows, out * pieces)), rng.normal(size=(rows, out))
    module = nn.Maxout(pieces)
    y, dx = module(x), module.backward(dy)
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert np.array_equal(y, expected_y)
    assert np.array_equal(dx, expected_dx)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 1)], ids=str)
def test_maxout_refuses_a_dimension_that_is_no_multiple(shape):
    with pytest.raises(
        ValueError, match=r"Maxout: expected x of shape \(…, a multiple of 2\), got"
    ):
        nn.Maxout(2)(np.ones(shape))


class TestMaxoutRefusals:
    def test_what_is_no_floating_array(self):
        with pytest.raises(TypeError, match=r"Maxout: x.*list"):
            nn.Maxout()([1.0, 2.0])
        with pytest.raises(TypeError, match=r"Maxout: x.*int64"):
            nn.Maxout()(np.ones(2, np.int64))

    @pytest.mark.parametrize("shape", [(), (3,), (2, 6), (1, 3), (2, 1)], ids=str)
    def test_cotangents_do_not_broadcast(self, shape):
        module = nn.Maxout()
        module(np.ones((2, 6)))
        with pytest.raises(ValueError, match=r"Maxout: dy: expected shape \(2, 3\), got"):
            module.backward(np.ones(shape))

    def test_cotangents_of_another_dtype(self):
        module = nn.Maxout()
        module(np.ones((2, 6)))
        with pytest.raises(TypeError, match=r"Maxout: dy.*float64, got float32"):
            module.backward(np.ones((2, 3), np.float32))

    def test_backward_before_forward(self):
        with pytest.raises(RuntimeError, match=r"Maxout\.backward called before forward"):
            nn.Maxout().backward(np.ones(2))


def test_step_stops_every_gradient():
    """What it says: nothing before a Step learns by gradient descent."""
    net = nn.Sequential(nn.Linear(3, 4, generator=RNG(0)), nn.Step(), nn.Linear(4, 2))
    net(RNG(1).normal(size=(5, 3)).astype(np.float32))
    dx = net.backward(np.ones((5, 2), np.float32))
    assert not dx.any()
    assert not net[0].weight.grad.any()
    assert net[2].weight.grad.any()
    assert "gradient is 0 everywhere" in nn.Step.__doc__
