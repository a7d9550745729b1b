"""Softmax and LogSoftmax: against torch, mpmath and central differences, and for large logits."""

import warnings

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual import nn
from torch_ref import twin

BOTH = [nn.Softmax, nn.LogSoftmax]
DTYPES = [np.float32, np.float64, np.longdouble]
RANKS = [((), 0), ((), -1), ((5,), 0), ((5,), -1), ((4, 3), 0), ((4, 3), 1), ((4, 3), -2)]
RANKS += [((2, 3, 4), dim) for dim in range(-3, 3)] + [((2, 3, 2, 3), 2), ((3, 3), -1)]
RANKS += [((0, 3), 1), ((0, 3), 0), ((3, 0), 1), ((4, 1), 1)]
RNG = np.random.default_rng
names = {"ids": lambda value: getattr(value, "__name__", str(value))}


def allowed(module, x, y, dy, dtype):
    """(of y, of dx). x − m rounds once, exp and log are good to 4 ulp, a sum of n terms has n
    roundings. LogSoftmax's p = e^y has the error of y; |y| e^y < 1."""
    n = x.shape[module.dim] if x.ndim else 1
    eps = float(np.finfo(dtype).eps)
    logarithm = isinstance(module, nn.LogSoftmax)
    size = np.maximum(1, np.abs(y)) + np.abs(x).max(initial=0) if logarithm else 1
    return (10 + n) * eps * size, (20 + 3 * n) * eps * np.abs(dy).sum() + 1e-320


def assert_matches_torch(module, x, dy, in_torch):
    dtype = x.dtype if x.dtype != np.longdouble else np.float64
    y = module(x)
    kept = y.copy()
    dx = module.backward(dy)
    assert np.array_equal(y, kept)
    assert np.array_equal(module.backward(dy), dx)
    assert type(y) is type(dx) is np.ndarray
    assert y.dtype == dx.dtype == x.dtype
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert y.shape == dx.shape == expected_y.shape == x.shape
    of_y, of_dx = allowed(module, x, expected_y, dy, dtype)
    assert (np.abs(y - expected_y) <= of_y).all()
    assert (np.abs(dx - expected_dx) <= of_dx).all()


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize(("shape", "dim"), RANKS, ids=str)
@pytest.mark.parametrize("kind", BOTH, **names)
def test_matches_torch(kind, shape, dim, dtype, layout, in_torch):
    rng = RNG(1)
    x, dy = (np.asarray(rng.normal(0, 2, shape), np.float32).astype(dtype) for _ in range(2))
    assert_matches_torch(kind(dim), layout(x), layout(dy), in_torch)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(BOTH))
def test_any_float64(data, kind, in_torch):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))
    rank = max(1, len(shape))
    dim = data.draw(st.integers(-rank, rank - 1))
    x, dy = (
        data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-1e4, 1e4))) for _ in range(2)
    )
    assert_matches_torch(kind(dim), x, dy, in_torch)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("kind", BOTH, **names)
def test_longdouble_against_central_differences(kind, dim, slope):
    x, dy = RNG(3).normal(size=(2, 3, 4, 2)).astype(np.longdouble)
    module = kind(dim)
    module(x)
    expected = slope(lambda at: np.sum(dy * kind(dim)(at)), x)
    np.testing.assert_allclose(module.backward(dy), expected, rtol=1e-9, atol=1e-9)


LOGITS = [
    [0.3, -1.2, 2.0],
    [1e4, 1e4 - 1, -1e4],
    [-1e4, -1e4 + 3, -1e4 - 2],
    [20, 40, 50],
    [30, 0, -1],
    [5, 5, 5],
    [0, 0, -60],
]


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("logits", LOGITS, ids=str)
def test_every_digit_is_right(logits, dtype):
    """Relative to each value: of e^(x − m) where x − m is exact (as here), a sum of 3 and a
    quotient; of the logarithm too, where one logit is far above the others: y = −log1p(rest)."""
    x = np.array(logits, dtype)
    dy = np.array([2, -3, 5], dtype)
    eps, smallest = float(np.finfo(dtype).eps), mpmath.mpf(2) ** int(np.finfo(dtype).minexp)
    softmax, logarithm = nn.Softmax(0), nn.LogSoftmax(0)
    y, log_y = softmax(x), logarithm(x)
    dx, log_dx = softmax.backward(dy), logarithm.backward(dy)
    assert np.isfinite(log_y).all()
    with mpmath.workdps(50):
        points = [mpmath.mpf(float(v)) for v in x]
        top = max(points)
        first = points.index(top)
        e = [mpmath.exp(v - top) for v in points]
        rest = mpmath.fsum(e[:first] + e[first + 1 :])
        p = [v / mpmath.fsum(e) for v in e]
        moment = mpmath.fsum(int(d) * v for d, v in zip(dy, p, strict=True))
        for k in range(3):
            assert abs(float(y[k]) - p[k]) <= 8 * max(eps, 2.3e-16) * p[k] + smallest
            expected = points[k] - top - mpmath.log1p(rest)
            error = abs(mpmath.mpf(float(log_y[k])) - expected)
            assert error <= 10 * max(eps, 2.3e-16) * abs(expected)
            slope = p[k] * (int(dy[k]) - moment)
            size = p[k] * (abs(int(dy[k])) + 5)
            assert abs(float(dx[k]) - slope) <= 16 * max(eps, 2.3e-16) * size + smallest
            expected = int(dy[k]) - 4 * p[k]
            assert abs(float(log_dx[k]) - expected) <= 16 * max(eps, 2.3e-16) * 10


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-17, reason="longdouble is float64 here")
@pytest.mark.parametrize("kind", BOTH, **names)
def test_longdouble_is_more_than_float64(kind):
    y = kind(0)(np.array([0.5, -1.25, 2.0], np.longdouble))
    with mpmath.workdps(40):
        e = [mpmath.exp(v) for v in (mpmath.mpf(0.5), mpmath.mpf(-1.25), mpmath.mpf(2))]
        for k in range(3):
            p = e[k] / mpmath.fsum(e)
            value = p if kind is nn.Softmax else mpmath.log(p)
            high = float(y[k])
            error = mpmath.mpf(high) + float(y[k] - np.longdouble(high)) - value
            assert abs(error) <= 8 * np.finfo(np.longdouble).eps * abs(value)


@pytest.mark.parametrize(
    ("logits", "printed"),
    [
        ((5, 4, 2), (0.71, 0.26, 0.04)),
        ((4, 2, 8), (0.02, 0.00, 0.98)),
        ((4, 4, 1), (0.49, 0.49, 0.02)),
        ((2.33, -1.46, 0.56), (0.83827314, 0.01894129, 0.14278557)),
    ],
    ids=str,
)
def test_the_figures_of_the_lecture_notes(logits, printed):
    y = nn.Softmax(dim=0)(np.array(logits, float))
    digits = 8 if logits[0] == 2.33 else 2
    assert np.array_equal(np.round(y, digits), printed)
    assert np.array_equal(
        np.round(np.exp(nn.LogSoftmax(dim=0)(np.array(logits, float))), digits), printed
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64], **names)
@pytest.mark.parametrize(
    "logits",
    [
        [-np.inf, 0, 1],
        [1, -np.inf, -np.inf],
        [-np.inf, -np.inf, -np.inf],
        [np.inf, 0, 1],
        [np.inf, np.inf, -np.inf],
        [np.nan, 0, 1],
        [0, 1, np.nan],
        [3e38, -3e38, 0],
        [-0.0, 0.0, 0.0],
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", BOTH, **names)
def test_edges_as_in_torch(kind, logits, dtype):
    """Masked (−inf) and other infinite logits: torch's results, NaN included, without a warning."""
    if dtype == np.float64:
        logits = [v * 5e269 if abs(v) == 3e38 else v for v in logits]
    x, dy = np.array([logits, [0, 1, 2]], dtype), np.array([[2, -3, 5], [1, 7, -4]], dtype)
    module, point = kind(1), torch.tensor(x, requires_grad=True)
    y = module(x)
    theirs = twin(module)(point)
    theirs.backward(torch.tensor(dy))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=8 * eps, atol=0)
    np.testing.assert_allclose(module.backward(dy), point.grad.numpy(), rtol=0, atol=100 * eps)


@pytest.mark.parametrize(("rank", "dim"), [(0, 0), (1, 0), (2, 1), (3, 0), (4, 1), (5, 1)])
@pytest.mark.parametrize("kind", BOTH, **names)
def test_the_implicit_dimension(kind, rank, dim):
    """Torch's choice and torch's warning."""
    x = RNG(4).normal(size=(2, 3, 2, 2, 3)[:rank])
    x = np.asarray(x)
    module, theirs = kind(), getattr(torch.nn, kind.__name__)()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = module(x)
        expected = theirs(torch.tensor(x)).numpy()
    ours, torchs = caught
    assert str(ours.message) == str(torchs.message)
    assert ours.category is torchs.category is UserWarning
    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)
    assert np.array_equal(y, kind(dim)(x))


@pytest.mark.parametrize("kind", BOTH, **names)
def test_the_warning_points_at_the_caller(kind):
    with pytest.warns(UserWarning, match="Implicit dimension choice") as caught:
        kind()(np.ones((2, 3)))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", BOTH, **names)
class TestRefusals:
    @pytest.mark.parametrize(("shape", "dim"), [((), 1), ((), -2), ((3,), 1), ((2, 3), 2)], ids=str)
    def test_a_dimension_that_is_not_there(self, kind, shape, dim):
        with pytest.raises(IndexError, match=rf"{kind.__name__}: dim must be in .*got {dim}"):
            kind(dim)(np.ones(shape))
        with pytest.raises(IndexError):
            getattr(torch.nn, kind.__name__)(dim)(torch.ones(shape))

    def test_a_dimension_too_far_from_the_end(self, kind):
        with pytest.raises(IndexError, match=r"in \[-2, 1\] for x of rank 2, got -3"):
            kind(-3)(np.ones((2, 3)))

    @pytest.mark.parametrize("dim", ["1", 1.0, True, (0, 1)], ids=repr)
    def test_a_dimension_is_a_whole_number(self, kind, dim):
        with pytest.raises(TypeError, match=f"{kind.__name__}: dim must be a whole number or None"):
            kind(dim)
        with pytest.raises(TypeError):
            getattr(torch.nn, kind.__name__)(dim)

    def test_a_whole_number_of_numpy_is_taken(self, kind, in_torch):
        x = RNG(7).normal(size=(2, 3))
        assert_matches_torch(kind(np.int64(1)), x, x, in_torch)

    def test_what_is_no_floating_array(self, kind):
        with pytest.raises(TypeError, match=f"{kind.__name__}: x.*list"):
            kind(0)([1.0, 2.0])
        with pytest.raises(TypeError, match=f"{kind.__name__}: x.*int64"):
            kind(0)(np.ones(2, np.int64))

    @pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (3, 2), (1, 2, 3)], ids=str)
    def test_cotangents_do_not_broadcast(self, kind, shape):
        module = kind(1)
        module(np.ones((2, 3)))
        with pytest.raises(ValueError, match=rf"{kind.__name__}: dy.*\(2, 3\), got \("):
            module.backward(np.ones(shape))

    def test_cotangents_of_another_dtype(self, kind):
        module = kind(1)
        module(np.ones((2, 3)))
        with pytest.raises(TypeError, match=f"{kind.__name__}: dy.*float64, got float32"):
            module.backward(np.ones((2, 3), np.float32))

    def test_backward_before_forward(self, kind):
        with pytest.raises(RuntimeError, match=rf"{kind.__name__}\.backward called before forward"):
            kind(0).backward(np.ones(2))

    def test_printed_as_in_torch(self, kind):
        for arguments in ((), (1,), (-1,)):
            assert repr(kind(*arguments)) == repr(getattr(torch.nn, kind.__name__)(*arguments))


def test_log_softmax_is_the_loss_of_its_class():
    """−log softmax, row by row, is CrossEntropyLoss; their gradients agree too."""
    z, y = RNG(5).normal(0, 3, (6, 4)), RNG(6).integers(0, 4, 6)
    criterion, module = nn.CrossEntropyLoss(reduction="sum"), nn.LogSoftmax(1)
    loss = criterion(z, y)
    log_p = module(z)
    np.testing.assert_allclose(loss, -log_p[np.arange(6), y].sum(), rtol=1e-13)
    dy = np.zeros_like(z)
    dy[np.arange(6), y] = -1
    np.testing.assert_allclose(module.backward(dy), criterion.backward(), rtol=0, atol=1e-14)
