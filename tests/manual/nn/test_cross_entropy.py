"""CrossEntropyLoss: every combination of options against torch, and its edges."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn

REDUCTIONS = ["mean", "sum", "none"]
DTYPES = [np.float32, np.float64, np.longdouble]
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


def rounding(z, weight):
    """log p = (z − m) − log Σ: a few roundings of numbers up to 2 max|z|, C terms in Σ; N rows
    of t log p summed, each at most the heaviest weight × 2 max|z|; the same on the other side."""
    accuracy = np.finfo(np.float32 if z.dtype == np.float32 else np.float64).eps  # torch's best
    heaviest = 1.0 if weight is None else max(1.0, float(weight.max()))
    rows = len(z) if z.ndim == 2 else 1
    largest = 1 + 2 * float(np.abs(z[np.isfinite(z)]).max())
    return 2 * rows * (z.shape[-1] + 8) * float(accuracy) * largest * heaviest


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
def test_targets_of_any_integer_type(kind):
    z, y, *_ = case(7, 5, 4, False, None)
    criterion = nn.CrossEntropyLoss()
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_logits_are_exact(dtype):
    """p is one-hot to the last bit, and L = z_max − z_y; the naive log(softmax) gives inf."""
    z = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4]], dtype)
    criterion = nn.CrossEntropyLoss(reduction="none")
    loss = criterion(z, np.array([0, 1, 2, 1]))
    assert np.array_equal(loss[:3], [0, 2e4, 0])
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


@pytest.mark.parametrize("bad", [4, -1, 100, -100], ids=str)
def test_targets_outside_the_classes(bad):
    z = np.zeros((5, 4))
    with pytest.raises(IndexError, match=rf"target {bad} \(row 3\).*4 classes"):
        nn.CrossEntropyLoss(ignore_index=-7)(z, np.array([0, 1, 3, bad, bad]))
    with pytest.raises(IndexError, match=rf"target {bad} \(row 0\)"):
        nn.CrossEntropyLoss(ignore_index=-7)(z[0], np.array(bad))


def test_nothing_counts():
    z = np.zeros((2, 3))
    ignored = np.array([-100, -100])
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss()(z, ignored)
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss(np.array([0.0, 1, 1]))(z, np.array([0, 0]))
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss()(z[:0], ignored[:0])
    for reduction in ("sum", "none"):
        criterion = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=0.5)
        loss = criterion(z, ignored)
        assert not np.any(loss)
        assert not criterion.backward(np.full(loss.shape, 2.0)).any()


@pytest.mark.parametrize(
    ("logits", "targets", "error", "text"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), ValueError, r"\(2, 3\) need .* \(2,\), got \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 1), int), ValueError, r"got \(2, 1\)"),
        (np.zeros((2, 3)), np.array(1), ValueError, r"\(2,\), got \(\)"),
        (np.zeros(3), np.array([1]), ValueError, r"got \(1,\)"),
        (np.zeros((2, 3, 4)), np.zeros((2, 4), int), ValueError, r"got \(2, 3, 4\)"),
        (np.zeros(()), np.array(0), ValueError, r"got \(\)"),
        (np.zeros((2, 0)), np.zeros(2, int), ValueError, r"got \(2, 0\)"),
        (np.zeros((2, 3)), np.zeros(2), TypeError, "integers.*float64"),
        (np.zeros((2, 3)), np.array([True, False]), TypeError, "integers.*bool"),
        (np.zeros((2, 3)), None, TypeError, "integers.*object"),
        (np.zeros((2, 3), int), np.zeros(2, int), TypeError, "prediction.*int64"),
        ([[0.0, 1.0]], np.zeros(1, int), TypeError, "prediction.*list"),
    ],
)
def test_arguments_that_do_not_fit(logits, targets, error, text):
    with pytest.raises(error, match=f"CrossEntropyLoss: .*{text}"):
        nn.CrossEntropyLoss()(logits, targets)


def test_options_that_do_not_fit():
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"label_smoothing.*got {bad!r}"):
            nn.CrossEntropyLoss(label_smoothing=bad)
    for bad in ([1.0, 2.0, 3.0], np.arange(3)):
        with pytest.raises(TypeError, match="CrossEntropyLoss: weight"):
            nn.CrossEntropyLoss(bad)
    z, y = np.zeros((2, 3)), np.zeros(2, int)
    for shape in [(4,), (1,), (), (1, 3)]:
        with pytest.raises(ValueError, match=r"weight: expected shape \(3,\), got"):
            nn.CrossEntropyLoss(np.ones(shape))(z, y)
    with pytest.raises(TypeError, match="weight: expected dtype float64, got float32"):
        nn.CrossEntropyLoss(np.ones(3, np.float32))(z, y)
