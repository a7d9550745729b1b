"""BCELoss and BCEWithLogitsLoss: against torch, against mpmath, and at their edges."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn

REDUCTIONS = ["mean", "sum", "none"]
DTYPES = [np.float32, np.float64, np.longdouble]
SHAPES = [(), (6,), (4, 3), (3, 3), (2, 3, 4)]
RNG = np.random.default_rng


def torch_eps(dtype):
    """Of the result the twin gives, which has no longdouble."""
    return float(np.finfo(np.float32 if dtype == np.float32 else np.float64).eps)


def broadcastable(shape):
    """The shapes a weight may have: trailing ones of `shape`, with any axis 1."""
    for kept in range(len(shape) + 1):
        yield from itertools.product(*[{1, n} for n in shape[len(shape) - kept :]])


def factors(rng, shape, dtype):
    return np.array(rng.uniform(0.2, 3, shape), dtype)


def probabilities(seed, shape, dtype):
    """(p, y), y being 0 and 1 in turn with fractions: all three kinds where there are three."""
    rng = RNG(seed)
    p = np.array(rng.uniform(0.01, 0.99, shape), dtype)
    y = np.resize(np.array([0, 1, 0.3], dtype), shape)
    return rng, p, y


def check_bce(criterion, p, y, check_loss, seed=0):
    """log p, log(1 − p) ± 4 units each, then a product, a sum, a weight: 8 eps of each L_i, one
    eps more for each that is summed; the slope (p − y)/(p (1 − p)) has 6 roundings."""
    weight = 1 if criterion.weight is None else np.broadcast_to(criterion.weight, p.shape)
    losses = -weight * (y * np.log(p) + (1 - y) * np.log1p(-p))
    slopes = weight * (p - y) / (p * (1 - p))
    eps = torch_eps(p.dtype)
    each = losses if criterion.reduction == "none" else np.abs(losses).sum()
    return check_loss(
        criterion, p, y, 2 * (8 + p.size) * eps * each, seed, 2 * 6 * eps * np.abs(slopes)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bce_matches_torch(reduction, shape, dtype, layout, check_loss):
    rng, p, y = probabilities(1, shape, dtype)
    check_bce(nn.BCELoss(None, reduction), layout(p), layout(y), check_loss)
    for own in broadcastable(shape):
        criterion = nn.BCELoss(layout(factors(rng, own, dtype)), reduction)
        check_bce(criterion, layout(p), layout(y), check_loss)


def check_logits(criterion, x, y, check_loss, seed=0):
    """torch's (1 − y) x + … log σ: roundings of numbers up to (1 + |y|)(1 + q)(1 + |x|), about 8
    of them, one more for each that is summed; the slopes likewise of (1 + |y|)(1 + q)."""
    weight = 1 if criterion.weight is None else np.broadcast_to(criterion.weight, x.shape)
    q = 1 if criterion.pos_weight is None else np.broadcast_to(criterion.pos_weight, x.shape)
    slopes = weight * (1 + np.abs(y)) * (1 + q)
    losses = slopes * (1 + np.abs(x))
    eps = torch_eps(x.dtype)
    each = losses if criterion.reduction == "none" else losses.sum()
    return check_loss(criterion, x, y, 2 * (8 + x.size) * eps * each, seed, 2 * 8 * eps * slopes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bce_with_logits_matches_torch(reduction, shape, dtype, layout, check_loss):
    rng, x, y = (
        RNG(2),
        np.array(RNG(3).normal(0, 4, shape), dtype),
        probabilities(1, shape, dtype)[2],
    )
    for own in [None, *broadcastable(shape)]:
        one, two = (None if own is None else layout(factors(rng, own, dtype)) for _ in range(2))
        for weight, pos_weight in {
            (id(a), id(b)): (a, b) for a in (None, one) for b in (None, two)
        }.values():
            criterion = nn.BCEWithLogitsLoss(weight, reduction, pos_weight)
            check_logits(criterion, layout(x), layout(y), check_loss)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    scale=st.sampled_from([1e-6, 1.0, 30.0]),
    weighted=st.booleans(),
    positive=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
    dtype=st.sampled_from(DTYPES),
)
def test_any_logits(seed, shape, scale, weighted, positive, reduction, dtype, check_loss):
    rng = RNG(seed)
    x, y = (np.array(rng.normal(0, s, shape), dtype) for s in (scale, 1))  # y: any numbers
    weight = factors(rng, shape[-1:], dtype) if weighted else None
    pos_weight = factors(rng, (1, *shape[1:])[: len(shape)], dtype) if positive else None
    criterion = nn.BCEWithLogitsLoss(weight, reduction, pos_weight)
    check_logits(criterion, x, y, check_loss, seed)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_longdouble_against_central_differences(weighted, reduction, slope):
    rng, p, y = probabilities(4, (4, 3), np.longdouble)
    p = p * np.longdouble(0.6) + np.longdouble(0.2)  # where f''' is not large
    x = rng.normal(0, 2, (4, 3)).astype(np.longdouble)
    weight, q = (factors(rng, s, np.longdouble) if weighted else None for s in [(4, 1), 3])
    for criterion, at in [
        (nn.BCELoss(weight, reduction), p),
        (nn.BCEWithLogitsLoss(weight, reduction, q), x),
    ]:
        loss = criterion(at, y)
        dloss = np.array(rng.normal(size=loss.shape), np.longdouble)
        got = criterion.backward(dloss)
        expected = slope(lambda moved, f=criterion, d=dloss: np.sum(d * f(moved, y)), at)
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_keep_their_digits(dtype):
    """Against mpmath: e^−|x| ± 4 units, log1p ± 4, and 6 roundings: 12 eps of the loss and of
    the slope, from tiny logits to ±1e4, also where (1 − y) x − log σ(x) would cancel to 0."""
    x = [1e-30, 1e-8, 0.3, 1, 5, 20, 50, 80, 300, 700, 1e4]
    x = np.array([0, *x, *[-v for v in x]], dtype)
    criterion = nn.BCEWithLogitsLoss(reduction="none", pos_weight=np.array(3, dtype))
    smallest = float(np.finfo(dtype).tiny)  # below it digits go, by necessity
    with mpmath.workdps(60):
        for y in (0, 1, 0.25):
            target = np.full_like(x, y)
            loss, dx = criterion(x, target), criterion.backward(np.full_like(x, -2))
            for at, got, d in zip(x, loss, dx, strict=True):
                at = mpmath.mpf(float(at))
                up, down = 1 / (1 + mpmath.exp(-at)), 1 / (1 + mpmath.exp(at))
                right = 3 * y * mpmath.log1p(mpmath.exp(-at))
                right += (1 - y) * mpmath.log1p(mpmath.exp(at))
                slope = -2 * ((1 - y) * up - 3 * y * down)
                eps = 12 * float(np.finfo(dtype).eps)
                parts = 2 * abs(1 - y) * up + 6 * y * down  # which cancel for y = 1/4
                assert abs(float(got) - right) <= eps * right + smallest
                assert abs(float(d) - slope) <= eps * parts + smallest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_losses_of_probabilities_keep_their_digits(dtype):
    """Against mpmath: −log(1 − p) near p = 0 and −log p near 1 ± 4 units, and a rounding."""
    eps = float(np.finfo(dtype).eps)
    p = np.array([1e-30, 1e-12, 1e-5, 0.1, 0.9, 1 - 4 * eps], dtype)
    for y in (0, 1):
        loss = nn.BCELoss(reduction="none")(p, np.full_like(p, y))
        with mpmath.workdps(60):
            for at, got in zip(p, loss, strict=True):
                at = mpmath.mpf(float(at))
                right = -mpmath.log(at) if y else -mpmath.log1p(-at)
                assert abs(float(got) - right) <= 5 * eps * right


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_logits(dtype):
    """Certain and right costs 0, certain and wrong ∞ (and a slope of 1): torch has NaN for all
    but one of these losses, and the same slopes."""
    x = np.array([np.inf, np.inf, -np.inf, -np.inf, np.inf, -np.inf], dtype)
    y = np.array([1, 0, 1, 0, 0.5, 0.5], dtype)
    criterion = nn.BCEWithLogitsLoss(reduction="none")
    assert np.array_equal(criterion(x, y), [0, np.inf, np.inf, 0, np.inf, np.inf])
    slopes = criterion.backward(np.full(6, 2, dtype))
    assert np.array_equal(slopes, [0, 2, -2, 0, 1, -1])
    assert np.isnan(criterion(np.array(np.nan, dtype), np.array(1, dtype)))
    assert np.isnan(criterion.backward(np.array(1, dtype)))
    assert nn.BCEWithLogitsLoss(None, "sum")(x[:1], y[:1]) == 0


def test_huge_logits_overflow_nothing():
    x = np.array([3e38, -3e38, 3e38, 0], np.float32)
    criterion = nn.BCEWithLogitsLoss(reduction="sum")
    assert criterion(x, np.array([0, 1, 0, 0], np.float32)) == np.inf
    assert np.array_equal(criterion.backward(-2), [-2, 2, -2, -1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_certain_probabilities(dtype):
    """At p = 0 and 1 the logarithm counts as −100 and p (1 − p) as 1e-12, as in torch."""
    p = np.array([0, 0, 0, 1, 1, 1, 1e-40, -0.0], dtype)
    y = np.array([0, 0.25, 1, 0, 0.25, 1, 1, 1], dtype)
    criterion = nn.BCELoss(reduction="none")
    loss = criterion(p, y)
    assert loss.tolist()[:6] == [0, 25, 100, 100, 75, 0]
    assert loss[7] == 100
    dp = criterion.backward(np.full(8, -2, dtype))
    there = torch.tensor(p, requires_grad=True)
    theirs = torch.nn.BCELoss(reduction="none")(there, torch.tensor(y))
    theirs.backward(torch.full((8,), -2, dtype=theirs.dtype))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=4 * eps, atol=0)
    np.testing.assert_allclose(dp, there.grad.numpy(), rtol=4 * eps, atol=0)
    assert dp.tolist() == pytest.approx([0, 5e11, 2e12, -2e12, -1.5e12, 0, 2e12, 2e12], rel=1e-6)


@pytest.mark.parametrize("bad", [-1e-7, 1.001, 2.0, -np.inf, np.inf, np.nan], ids=str)
def test_what_is_no_probability(bad):
    good, x = np.full((2, 3), 0.5), np.full((2, 3), 0.5)
    x[1] = 0, 1, bad
    for error in (RuntimeError, ValueError):
        with pytest.raises(error, match=r"BCELoss: prediction.*\[0, 1\], got .* at \(1, 2\)") as e:
            nn.BCELoss()(x, good)
        assert f"got {x[1, 2]} at" in str(e.value)
        with pytest.raises(error, match=r"BCELoss: target.*\[0, 1\], got .* at \(1, 2\)"):
            nn.BCELoss()(good, x)
    with pytest.raises(ValueError, match=r"at \(\)"):
        nn.BCELoss()(np.array(bad), np.array(0.5))
    if np.isfinite(bad):
        assert np.isfinite(nn.BCEWithLogitsLoss()(good, x))  # whose target is any number
        with pytest.raises(RuntimeError):
            torch.nn.BCELoss()(torch.tensor(good), torch.tensor(x))


@pytest.mark.parametrize("shape", [(2,), (2, 2), (1, 2, 3), (3, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_factors_that_do_not_broadcast(name, shape):
    x = np.full((2, 3), 0.5)
    for kind in (nn.BCELoss, nn.BCEWithLogitsLoss):
        if name == "weight" or kind is nn.BCEWithLogitsLoss:
            theirs = getattr(torch.nn, kind.__name__)(**{name: torch.ones(shape)})
            with pytest.raises(RuntimeError):
                theirs(torch.ones(2, 3), torch.ones(2, 3))
            for error in (RuntimeError, ValueError):
                with pytest.raises(error, match=f"{kind.__name__}: {name}: .*broadcasts") as e:
                    kind(**{name: np.ones(shape)})(x, x)
                assert f"(2, 3), got {shape}" in str(e.value)


def test_factors_of_another_kind():
    x = np.full((2, 3), 0.5)
    for kind, name in [
        (nn.BCELoss, "weight"),
        (nn.BCEWithLogitsLoss, "weight"),
        (nn.BCEWithLogitsLoss, "pos_weight"),
    ]:
        for bad in ([1.0, 2.0, 3.0], np.arange(3), 2.0):
            with pytest.raises(TypeError, match=f"{kind.__name__}: {name}"):
                kind(**{name: bad})
        with pytest.raises(TypeError, match=f"{name}: expected dtype float64, got float32"):
            kind(**{name: np.ones(3, np.float32)})(x, x)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_targets_of_logits_are_finite(bad):
    """With an infinite one the loss may be ∞ − ∞."""
    target = np.array([[0.5, 1.0], [bad, 0.0]])
    with pytest.raises(ValueError, match=rf"target: expected finite.*got {bad} at \(1, 0\)"):
        nn.BCEWithLogitsLoss()(np.ones((2, 2)), target)
