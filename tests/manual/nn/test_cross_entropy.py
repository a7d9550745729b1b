"""CrossEntropyLoss and NLLLoss: every combination of options against torch, and the edges."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn

REDUCTIONS = ["mean", "sum", "none"]
DTYPES = [np.float32, np.float64, np.longdouble]
KINDS = [nn.NLLLoss, nn.CrossEntropyLoss]
IGNORED = [None, -100, -3, 1]  # None: the default, and no row has it
RNG = np.random.default_rng


def case(seed, n, classes, weighted, ignored, dtype=np.float64):
    """(logits, targets, weight, ignore_index): with some rows ignored, if any are."""
    rng = RNG(seed)
    z = rng.normal(0, 3, (n, classes)).astype(dtype)
    y = rng.integers(0, classes, n)
    if ignored is not None and n > 1:
        y[rng.permutation(n)[: max(1, n // 3)]] = ignored
    weight = rng.uniform(0.2, 3, classes).astype(dtype) if weighted else None
    return z, y, weight, -100 if ignored is None else ignored


def class_axis(z):
    return min(1, z.ndim - 1)


def rounding(z, weight):
    """log p = (z − m) − log Σ: a few roundings of numbers up to 2 max|z|, C terms in Σ; N rows
    of t log p summed, each at most the heaviest weight × 2 max|z|; the same on the other side."""
    accuracy = np.finfo(np.float32 if z.dtype == np.float32 else np.float64).eps  # torch's best
    heaviest = 1.0 if weight is None else max(1.0, float(weight.max()))
    classes = z.shape[class_axis(z)]
    rows = z.size // classes
    largest = 1 + 2 * float(np.abs(z[np.isfinite(z)]).max())
    return 2 * rows * (classes + 8) * float(accuracy) * largest * heaviest


def ranked(seed, rank, dtype, ignored=None):
    """(logits of this rank from 1, class indices, class probabilities) for four classes."""
    rng = RNG(seed)
    shape = {1: (4,), 2: (5, 4), 3: (5, 4, 3), 4: (2, 4, 3, 2), 5: (3, 4, 1, 2, 2)}[rank]
    z = rng.normal(0, 3, shape).astype(dtype)
    y = rng.integers(0, 4, z.max(axis=class_axis(z)).shape)
    if ignored is not None and rank > 1:
        y[(0,) * y.ndim] = y[(-1,) * y.ndim] = ignored
    t = rng.uniform(size=shape)
    t /= t.sum(axis=class_axis(z), keepdims=True)
    return z, np.asarray(y), t.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_matches_torch(reduction, weighted, ignored, smoothing, dtype, check_loss):
    for seed, (n, classes) in enumerate([(7, 4), (5, 5), (4, 9)]):
        z, y, weight, index = case(seed, n, classes, weighted, ignored, dtype)
        assert (y == index).any() == (ignored is not None)
        assert (y != index).any()
        criterion = nn.CrossEntropyLoss(weight, index, reduction, smoothing)
        check_loss(criterion, z, y, rounding(z, weight))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 6),
    classes=st.integers(1, 6),
    weighted=st.booleans(),
    ignored=st.sampled_from([None, -100, -1, 0]),
    smoothing=st.floats(0, 1),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_any_case(seed, n, classes, weighted, ignored, smoothing, reduction, check_loss):
    z, y, weight, index = case(seed, n, classes, weighted, ignored)
    criterion = nn.CrossEntropyLoss(weight, index, reduction, smoothing)
    if reduction == "mean" and (y == index).all():
        with pytest.raises(ValueError, match="no target counts"):
            criterion(z, y)
        return
    check_loss(criterion, z, y, rounding(z, weight), seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_rank(weighted, rank, reduction, dtype, layout, check_loss):
    """The classes on axis 1, or all there is: class indices, some ignored, and probabilities."""
    z, y, probabilities = (layout(a) for a in ranked(20, rank, dtype, ignored=-3))
    weight = np.array([0.5, 3, 1, 0.2], dtype) if weighted else None
    allowed = rounding(z, weight)
    for smoothing in (0.0, 0.2):
        for target, index in [(y, -3), (probabilities, -100)]:
            criterion = nn.CrossEntropyLoss(weight, index, reduction, smoothing)
            loss, _ = check_loss(criterion, z, target, allowed)
            assert loss.shape == (y.shape if reduction == "none" else ())
    log_p = layout(-np.abs(z))
    loss, _ = check_loss(nn.NLLLoss(weight, -3, reduction), log_p, y, allowed)
    assert loss.shape == (y.shape if reduction == "none" else ())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ignored", IGNORED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_matches_torch(reduction, weighted, ignored, dtype, check_loss):
    for seed, (n, classes) in enumerate([(7, 4), (5, 5), (4, 9)]):
        x, y, weight, index = case(seed, n, classes, weighted, ignored, dtype)  # not all < 0
        check_loss(nn.NLLLoss(weight, index, reduction), x, y, rounding(x, weight))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_class_probabilities_match_torch(reduction, weighted, smoothing, dtype, check_loss):
    """Also such as do not add up to 1, and negative ones: torch checks neither."""
    for seed, (n, classes) in enumerate([(7, 4), (5, 5), (3, 1), (1, 6)]):
        z, _, weight, _ = case(seed, n, classes, weighted, None, dtype)
        t = RNG(seed).uniform(-0.3, 1, z.shape).astype(dtype)
        allowed = rounding(z, weight) * max(1, float(np.abs(t).sum(axis=1).max()))
        criterion = nn.CrossEntropyLoss(weight, -1, reduction, smoothing)
        check_loss(criterion, z, t, allowed)


def test_the_mean_over_probabilities_divides_by_the_positions():
    """By hand: log p = −log 2 everywhere; over indices the mean divides by the weights."""
    z, weight = np.zeros((3, 2, 2)), np.array([1.0, 3])
    t = np.zeros((3, 2, 2))
    t[:, 1] = 1
    assert nn.CrossEntropyLoss(weight)(z, t) == pytest.approx(3 * np.log(2), rel=1e-15)
    assert nn.CrossEntropyLoss(weight)(z, np.ones((3, 2), int)) == pytest.approx(np.log(2))


def test_cross_entropy_is_log_softmax_and_nll():
    z, y, weight, index = case(21, 7, 4, True, -3)
    fused, log_p = nn.CrossEntropyLoss(weight, index), z - np.log(np.exp(z).sum(1, keepdims=True))
    nll = nn.NLLLoss(weight, index)
    assert fused(z, y) == pytest.approx(nll(log_p, y), rel=1e-14)
    d = nll.backward()
    expected = d - np.exp(log_p) * d.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fused.backward(), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_sample_without_a_batch(reduction, layout, check_loss):
    for weighted, smoothing in itertools.product([False, True], [0.0, 0.2]):
        z, y, weight, _ = case(5, 1, 4, weighted, None)
        criterion = nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing)
        loss, dz = check_loss(criterion, layout(z[0]), np.array(y[0]), rounding(z, weight))
        assert loss.shape == ()
        assert dz.shape == (4,)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_memory_layouts(reduction, layout, check_loss):
    z, y, weight, index = case(6, 7, 4, True, -3)
    criterion = nn.CrossEntropyLoss(layout(weight), index, reduction, 0.1)
    check_loss(criterion, layout(z), layout(y), rounding(z, weight))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1])
def test_targets_of_any_integer_type(kind, weighted, ignored):
    z, y, weight, index = case(7, 5, 4, weighted, ignored)
    criterion = nn.CrossEntropyLoss(weight, index)
    expected = criterion(z, y), criterion.backward()
    assert np.array_equal(criterion(z, y.astype(kind)), expected[0])
    assert np.array_equal(criterion.backward(), expected[1])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_longdouble_against_central_differences(reduction, smoothing, slope):
    z, y, weight, index = case(8, 5, 4, True, 1, np.longdouble)
    criterion = nn.CrossEntropyLoss(weight, index, reduction, smoothing)
    loss = criterion(z, y)
    dloss = RNG(9).normal(size=loss.shape).astype(np.longdouble)
    got = criterion.backward(dloss)
    expected = slope(lambda at: np.sum(dloss * criterion(at, y)), z)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_other_targets_and_ranks_against_central_differences(reduction, rank, slope):
    z, y, t = ranked(22, rank, np.longdouble, ignored=-3)
    weight = np.array([0.5, 3, 1, 0.2], np.longdouble)
    for criterion, target in [
        (nn.CrossEntropyLoss(weight, -100, reduction, 0.3), t),
        (nn.CrossEntropyLoss(weight, -3, reduction, 0.3), y),
        (nn.NLLLoss(weight, -3, reduction), y),
    ]:
        loss = criterion(z, target)
        dloss = np.array(RNG(9).normal(size=loss.shape), np.longdouble)
        got = criterion.backward(dloss)
        expected = slope(lambda at, f=criterion, d=dloss, y=target: np.sum(d * f(at, y)), z)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_logits_are_exact(dtype):
    """p is one-hot, and L = z_max − z_y; the naive log(softmax) gives inf."""
    z = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4]], dtype)
    criterion = nn.CrossEntropyLoss(reduction="none")
    loss = criterion(z, np.array([0, 1, 2, 1]))
    rest = np.exp(dtype(-1e4))  # of the other classes: not 0 in longdouble alone
    assert np.array_equal(loss[:3], [rest, 2e4, 2 * np.exp(dtype(-2e4))])
    assert loss[3] == np.log(dtype(2))
    expected = np.array([[0, 0, 0], [1, -1, 0], [0, 0, 0], [0.5, -0.5, 0]])
    np.testing.assert_allclose(
        criterion.backward(np.full(4, -3, dtype)), -3 * expected, rtol=0, atol=1e-300
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_masked_logits(reduction, check_loss):
    """A logit of −inf has p = 0: nothing lost, no gradient, and no warning."""
    z, y, weight, index = case(10, 6, 4, True, -3)
    z[np.arange(6), (np.maximum(y, 0) + 1) % 4] = -np.inf
    criterion = nn.CrossEntropyLoss(weight, index, reduction)
    loss, dz = check_loss(criterion, z, y, rounding(z, weight))
    assert np.isfinite(loss).all()
    assert not dz[np.isneginf(z)].any()
    y[0] = np.isneginf(z[0]).argmax()  # the target itself is masked: −log 0
    assert np.isposinf(criterion(z, y)).any()
    assert np.isfinite(criterion.backward(np.ones_like(criterion(z, y)))).all()


def test_masked_logits_with_probabilities():
    """0 log 0 = 0, where torch has NaN; the gradient is torch's."""
    z = np.array([[0, -np.inf, 1], [0, -np.inf, 1]])
    t = np.array([[0.5, 0, 0.5], [0.2, 0.3, 0.5]])
    criterion = nn.CrossEntropyLoss(reduction="none")
    log_p = z - np.log(1 + np.e)
    loss = criterion(z, t)
    assert loss[0] == pytest.approx(-(log_p[0, 0] + log_p[0, 2]) / 2, rel=1e-15)
    assert loss[1] == np.inf
    p = np.array([1, 0, np.e]) / (1 + np.e)
    dloss = np.array([-2.0, 3])
    expected = dloss[:, None] * (p - t)
    np.testing.assert_allclose(criterion.backward(dloss), expected, rtol=0, atol=1e-15)


def test_masked_log_probabilities():
    """−log 0 = ∞ where the target asks for it, and 0 where its weight is 0 or it is ignored."""
    log_p = np.array([[-np.inf, -1]] * 4)
    y = np.array([0, 1, 0, -3])
    assert nn.NLLLoss(None, -3, "none")(log_p, y).tolist() == [np.inf, 1, np.inf, 0]
    criterion = nn.NLLLoss(np.array([0.0, 2]), -3, "none")
    assert criterion(log_p, y).tolist() == [0, 2, 0, 0]
    dlog_p = criterion.backward(np.array([5.0, -3, 5, 5]))
    assert np.array_equal(dlog_p, [[0, 0], [0, 6], [0, 0], [0, 0]])


def test_logits_whose_difference_is_too_large():
    """z − m = −6e38 is −∞ in float32, without a warning; a NaN stays one, in its row only."""
    z = np.array([[3e38, -3e38], [3e38, -3e38], [np.nan, 0]], np.float32)
    criterion = nn.CrossEntropyLoss(reduction="none")
    loss = criterion(z, np.array([0, 1, 1]))
    assert np.array_equal(loss, [0, np.inf, np.nan], equal_nan=True)
    dz = criterion.backward(np.array([2, 2, 2], np.float32))
    assert np.array_equal(dz, [[0, 0], [2, -2], [np.nan, np.nan]], equal_nan=True)


def test_a_sum_that_is_too_large():
    """Is ∞, as in torch, without a warning."""
    log_p = np.full((2, 1), -3e38, np.float32)
    assert nn.NLLLoss(reduction="sum")(log_p, np.zeros(2, int)) == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_a_single_class(smoothing, dtype):
    z, y = np.array([[5], [-3e4]], dtype), np.zeros(2, int)
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    assert criterion(z, y) == 0
    assert not criterion.backward().any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_place_of_a_target_outside_the_classes(kind):
    y = np.zeros((2, 4), int)
    y[1, 2] = 3
    with pytest.raises(IndexError, match=rf"{kind.__name__}: target 3 at \(1, 2\) .*3 classes"):
        kind()(np.zeros((2, 3, 4)), y)


@pytest.mark.parametrize("bad", [4, -1, 100, -100], ids=str)
def test_targets_outside_the_classes(bad):
    z = np.zeros((5, 4))
    with pytest.raises(IndexError, match=rf"target {bad} at \(3,\) .*4 classes"):
        nn.CrossEntropyLoss(ignore_index=-7)(z, np.array([0, 1, 3, bad, bad]))
    with pytest.raises(IndexError, match=rf"target {bad} at \(\) "):
        nn.CrossEntropyLoss(ignore_index=-7)(z[0], np.array(bad))


def test_nothing_counts():
    z = np.zeros((2, 3))
    ignored = np.array([-100, -100])
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss()(z, ignored)
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss(np.array([0.0, 1, 1]))(z, np.array([0, 0]))
    for reduction in ("sum", "none"):
        criterion = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=0.5)
        loss = criterion(z, ignored)
        assert not np.any(loss)
        assert not criterion.backward(np.full(loss.shape, 2.0)).any()


@pytest.mark.parametrize(
    ("logits", "targets", "error", "text"),
    [
        (
            np.zeros((2, 3)),
            np.zeros(3, int),
            ValueError,
            r"\(2, 3\) needs .* \(2,\), got .* \(3,\)",
        ),
        (np.zeros((2, 3)), np.zeros((2, 1), int), ValueError, r"got int64 of shape \(2, 1\)"),
        (np.zeros((2, 3)), np.zeros((1, 3), int), ValueError, r"got int64 of shape \(1, 3\)"),
        (np.zeros((2, 3)), np.array(1), ValueError, r"\(2,\), got int64 of shape \(\)"),
        (np.zeros(3), np.array([1]), ValueError, r"got int64 of shape \(1,\)"),
        (np.zeros((2, 3, 4)), np.zeros((2, 3), int), ValueError, r"\(2, 4\), got .* \(2, 3\)"),
        (np.zeros((2, 3, 4)), np.zeros(2, int), ValueError, r"\(2, 4\), got .* \(2,\)"),
        (np.zeros(()), np.array(0), ValueError, r"got \(\)"),
        (np.zeros((2, 0)), np.zeros(2, int), ValueError, r"got \(2, 0\)"),
        (np.zeros(0), np.array(0), ValueError, r"got \(0,\)"),
        (np.zeros((2, 3)), np.zeros(2), TypeError, r"integers.*\(2,\), got float64"),
        (np.zeros((2, 3)), np.array([True, False]), TypeError, "integers.*bool"),
        (np.zeros((2, 3)), None, TypeError, "integers.*object"),
        (np.zeros((2, 3), int), np.zeros(2, int), TypeError, "prediction.*int64"),
        ([[0.0, 1.0]], np.zeros(1, int), TypeError, "prediction.*list"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_do_not_fit(kind, logits, targets, error, text):
    with pytest.raises(error, match=f"{kind.__name__}: .*{text}"):
        kind()(logits, targets)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit(kind):
    for bad in ([1.0, 2.0, 3.0], np.arange(3)):
        with pytest.raises(TypeError, match=f"{kind.__name__}: weight"):
            kind(bad)
    for z, y in [
        (np.zeros((2, 3)), np.zeros(2, int)),
        (np.zeros((4, 3, 2)), np.zeros((4, 2), int)),
    ]:
        for shape in [(4,), (2,), (1,), (), (1, 3)]:
            with pytest.raises(RuntimeError, match=r"weight: expected shape \(3,\), got"):
                kind(np.ones(shape))(z, y)
        with pytest.raises(TypeError, match="weight: expected dtype float64, got float32"):
            kind(np.ones(3, np.float32))(z, y)


def test_label_smoothing_outside_its_range():
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"label_smoothing.*got {bad!r}"):
            nn.CrossEntropyLoss(label_smoothing=bad)


def test_probabilities_that_do_not_fit():
    z = np.zeros((2, 3))
    for bad in (np.zeros((2, 3), np.float32), np.zeros((2, 3), int)):
        with pytest.raises(TypeError, match=r"target \(class probabilities\).*got (float32|int64)"):
            nn.CrossEntropyLoss()(z, bad)
    with pytest.raises(RuntimeError, match="ignore_index 1 needs class indices"):
        nn.CrossEntropyLoss(ignore_index=1)(z, z)
    with pytest.raises(RuntimeError, match="ignore_index 0 needs class indices"):
        nn.CrossEntropyLoss(ignore_index=0)(z, z)
    with pytest.raises(RuntimeError, match=r"integers\) of shape \(2,\), got float64 of shape"):
        nn.NLLLoss()(z, z)
    with pytest.raises(ValueError, match=r"expected.*got \(2, 0\)"):
        nn.CrossEntropyLoss()(z[:, :0], z[:, :0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)], ids=str)
def test_no_positions(kind, shape, check_loss):
    """The sum over nothing is 0; the mean is undefined (torch: NaN)."""
    z, y = np.zeros(shape), np.zeros((shape[0], *shape[2:]), int)
    for target in [y, z] if kind is nn.CrossEntropyLoss else [y]:
        with pytest.raises(ValueError, match="mean over no elements") as error:
            kind()(z, target)
        assert str(shape) in str(error.value)
        check_loss(kind(reduction="sum"), z, target, 0)
        loss, _ = check_loss(kind(reduction="none"), z, target, 0)
        assert loss.shape == y.shape
