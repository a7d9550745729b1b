"""The losses of differences, and what every criterion shares."""

import itertools

import numpy as np
import pytest
import torch

from manual import nn
from torch_ref import twin

REDUCTIONS = ["mean", "sum", "none"]
DTYPES = [np.float32, np.float64, np.longdouble]
RNG = np.random.default_rng
SUMS = [nn.HalfSquaredError, nn.SumSquaredError]
REDUCED = [nn.MSELoss, nn.L1Loss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.NLLLoss]
REDUCED += [nn.CrossEntropyLoss]
SQUARED = [*[kind() for kind in SUMS], *[nn.MSELoss(reduction) for reduction in REDUCTIONS]]
DIFFERENCES = [*SQUARED, *[nn.L1Loss(reduction) for reduction in REDUCTIONS]]
named = {"ids": lambda value: f"{type(value).__name__}-{getattr(value, 'reduction', value)}"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (6,), (4, 3), (3, 3), (2, 3, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("criterion", DIFFERENCES, **named)
def test_matches_torch(criterion, shape, dtype, layout, check_loss):
    """Every term (ŷ − y)² is rounded twice and summed: (n + 3) eps Σ (ŷ − y)², either side;
    |ŷ − y| once."""
    rng = RNG(11)
    prediction, target = (layout(np.array(rng.normal(size=shape), dtype)) for _ in range(2))
    accuracy = float(np.finfo(np.float32 if dtype == np.float32 else np.float64).eps)  # torch's
    difference = np.abs(prediction - target)
    size = float((difference if isinstance(criterion, nn.L1Loss) else difference**2).sum())
    check_loss(criterion, prediction, target, 2 * (target.size + 3) * accuracy * max(1, size))


@pytest.mark.parametrize("criterion", SQUARED, **named)
def test_squared_errors_by_hand(criterion):
    """ŷ − y = (1, −3, 0, 2): exact in any dtype."""
    prediction, target = np.array([[2.0, -1], [5, 4]]), np.array([[1.0, 2], [5, 2]])
    difference = np.array([[1.0, -3], [0, 2]])
    loss, dloss = criterion(prediction, target), np.full((2, 2), -3.0)
    if isinstance(criterion, nn.HalfSquaredError):
        factor, expected = 1, 7
    elif isinstance(criterion, nn.SumSquaredError):
        factor, expected = 2, 14
    else:
        factor = 0.5 if criterion.reduction == "mean" else 2
        expected = {"mean": 3.5, "sum": 14, "none": difference**2}[criterion.reduction]
    assert np.array_equal(loss, expected)
    if criterion.reduction == "none":
        assert np.array_equal(criterion.backward(dloss), -6 * difference)
        with pytest.raises(TypeError, match="dloss: expected dtype float64, got float32"):
            criterion.backward(dloss.astype(np.float32))
    else:
        assert isinstance(loss, np.float64)
        assert np.array_equal(criterion.backward(), factor * difference)
        assert np.array_equal(criterion.backward(-3), -3 * factor * difference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_l1_at_its_kink_and_on_both_sides(reduction, dtype):
    """ŷ − y = (2, −3, 0, −0, ∞): the slope is the sign, and 0 at the kink."""
    prediction = np.array([3, -1, 5, -0.0, np.inf], dtype)
    target = np.array([1, 2, 5, 0, 1], dtype)
    criterion = nn.L1Loss(reduction)
    loss, signs = criterion(prediction, target), np.array([1, -1, 0, 0, 1])
    if reduction == "none":
        assert np.array_equal(loss, [2, 3, 0, 0, np.inf])
        dloss = np.array([-2, 3, 5, -7, 4], dtype)
        assert np.array_equal(criterion.backward(dloss), dloss * signs)
    else:
        assert loss == np.inf
        factor = dtype(-3) / (5 if reduction == "mean" else 1)
        assert np.array_equal(criterion.backward(-3), factor * signs)
    finite = nn.L1Loss(reduction)(prediction[:4], target[:4])
    assert np.array_equal(finite, {"mean": 1.25, "sum": 5, "none": [2, 3, 0, 0]}[reduction])


@pytest.mark.parametrize("criterion", DIFFERENCES, **named)
def test_what_is_too_large_is_inf_and_nan_stays(criterion):
    """1e30 squared is more than a float32 holds: inf as in torch, without a warning."""
    prediction = np.array([3e38, 1e30, 1], np.float32)
    target = np.array([-3e38, -1e30, 1], np.float32)
    loss = criterion(prediction, target)
    dloss = np.full(loss.shape, -2, np.float32)
    dz = criterion.backward(dloss)
    if criterion.reduction == "none":
        assert np.isinf(loss).tolist() == [True, not isinstance(criterion, nn.L1Loss), False]
    else:
        assert loss == np.inf
    assert dz[2] == 0
    assert dz[0] == -np.inf if not isinstance(criterion, nn.L1Loss) else -2 <= dz[0] < 0
    assert np.isfinite(dz[1])
    target[2] = np.nan
    assert np.isnan(criterion(prediction, target)).any()
    assert np.isnan(criterion.backward(dloss)).tolist() == [False, False, True]


@pytest.mark.parametrize("criterion", DIFFERENCES, **named)
def test_longdouble_against_central_differences(criterion, slope):
    rng = RNG(12)
    prediction, target = rng.normal(size=(2, 4, 3)).astype(np.longdouble)
    assert np.abs(prediction - target).min() > 1e-3  # no kink within a step
    loss = criterion(prediction, target)
    dloss = rng.normal(size=loss.shape).astype(np.longdouble)
    got = criterion.backward(dloss)
    expected = slope(lambda at: np.sum(dloss * criterion(at, target)), prediction)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


ELEMENTWISE = [
    *DIFFERENCES,
    *[kind(reduction=r) for kind in (nn.BCELoss, nn.BCEWithLogitsLoss) for r in REDUCTIONS],
]


@pytest.mark.parametrize("criterion", ELEMENTWISE, **named)
def test_elementwise_losses_refuse_what_does_not_fit(criterion):
    name, x = type(criterion).__name__, np.full((2, 3), 0.5)
    for bad in [np.ones((2, 1)), np.ones((1, 3)), np.ones(3), np.ones(()), np.ones((3, 2))]:
        for error in (ValueError, RuntimeError):  # torch raises both
            with pytest.raises(error, match=rf"{name}: target.*\(2, 3\), got \("):
                criterion(x, bad)
    for bad in [x.astype(np.float32), x.astype(int), x.tolist(), 1.0]:
        with pytest.raises(TypeError, match=f"{name}: target"):
            criterion(x, bad)
        with pytest.raises(TypeError, match=f"{name}: "):
            criterion(bad, x)


@pytest.mark.parametrize("criterion", ELEMENTWISE, **named)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)], ids=str)
def test_no_elements(criterion, shape, check_loss):
    """The sum over nothing is 0; the mean is undefined (torch: NaN)."""
    x = np.zeros(shape, np.float32)
    if criterion.reduction == "mean":
        with pytest.raises(ValueError, match="mean over no elements") as error:
            criterion(x, x)
        assert str(shape) in str(error.value)
    else:
        loss, _ = check_loss(criterion, x, x, 0)
        assert loss.shape == (() if criterion.reduction == "sum" else shape)


def each(reduction):
    """(criterion, prediction, target, shape of the loss) of every kind with this reduction."""
    x = np.full((4, 3), 0.25)
    scalar = reduction != "none"
    for kind in (nn.MSELoss, nn.L1Loss, nn.BCELoss, nn.BCEWithLogitsLoss):
        yield kind(reduction=reduction), x, 1 - x, () if scalar else (4, 3)
    for kind in (nn.NLLLoss, nn.CrossEntropyLoss):
        yield kind(reduction=reduction), x, np.arange(4) % 3, () if scalar else (4,)
        z, y = np.zeros((4, 3, 2)), np.ones((4, 2), int)
        yield kind(reduction=reduction), z, y, () if scalar else (4, 2)
    yield nn.CrossEntropyLoss(reduction=reduction), x, x, () if scalar else (4,)
    if reduction == "sum":
        for kind in SUMS:
            yield kind(), x, x, ()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cotangents_do_not_broadcast(reduction):
    for criterion, prediction, target, shape in each(reduction):
        criterion(prediction, target)
        for bad in [np.ones(()), np.ones(1), np.ones(3), np.ones((1, 3)), np.ones((4, 1))]:
            if bad.shape != shape:
                with pytest.raises(ValueError, match=r"dloss: expected shape .*, got") as error:
                    criterion.backward(bad)
                assert str(shape) in str(error.value)
                assert str(bad.shape) in str(error.value)
        if shape:
            with pytest.raises(TypeError, match=r"dloss: expected dtype float64, got float32"):
                criterion.backward(np.ones(shape, np.float32))
            with pytest.raises(TypeError, match=r"dloss: .*list"):
                criterion.backward(np.ones(shape).tolist())


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_dloss_is_one_for_a_scalar_and_required_for_an_array(reduction):
    for criterion, prediction, target, shape in each(reduction):
        criterion(prediction * np.linspace(0, 1, prediction.shape[-1]), target)
        if reduction == "none":
            with pytest.raises(ValueError, match="needs dloss") as error:
                criterion.backward()
            assert str(error.value) == (
                f"{type(criterion).__name__}: reduction 'none' gives an array; "
                f"backward needs dloss of shape {shape}"
            )
        else:
            one = criterion.backward()
            assert one.any() or isinstance(criterion, nn.HalfSquaredError | nn.SumSquaredError)
            assert np.array_equal(one, criterion.backward(np.ones(())))
            assert np.array_equal(-2 * one, criterion.backward(-2))
            assert np.array_equal(-2 * one, criterion.backward(np.float64(-2)))


@pytest.mark.parametrize("kind", [*REDUCED, *SUMS])
def test_backward_before_forward(kind):
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.backward called before forward"):
        kind().backward()
    assert repr(kind()) == f"{kind.__name__}()"


@pytest.mark.parametrize("bad", ["avg", "Mean", None, 1], ids=repr)
@pytest.mark.parametrize("kind", [*REDUCED, nn.Criterion])
def test_bad_reduction(kind, bad):
    with pytest.raises(ValueError, match=f"{kind.__name__}: reduction.*got {bad!r}"):
        kind(reduction=bad)


def test_defaults_and_the_order_of_arguments_are_torchs():
    for kind in REDUCED:
        built, theirs = kind(), getattr(torch.nn, kind.__name__)()
        assert {**vars(built)}.items() <= {**vars(theirs), **theirs._buffers}.items()
        assert built.reduction == "mean"
    w, q = np.ones(3), np.full(3, 2.0)
    assert nn.BCELoss(w, "sum").weight is nn.BCEWithLogitsLoss(w, "sum", q).weight is w
    assert nn.BCEWithLogitsLoss(w, "sum", q).pos_weight is q
    for kind in (nn.NLLLoss, nn.CrossEntropyLoss):
        built = kind(w, -3, "sum")
        assert (built.weight is w, built.ignore_index, built.reduction) == (True, -3, "sum")
    assert nn.CrossEntropyLoss(w, -3, "sum", 0.25).label_smoothing == 0.25
    assert all(kind().reduction == "sum" for kind in SUMS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_twins_copy_every_option(dtype):
    w, q = np.array([1, 2, 3], dtype), np.array([4, 5, 6], dtype)
    for reduction, index in itertools.product(REDUCTIONS, [-3, 1]):
        built = [
            (nn.BCELoss(w, reduction), {}),
            (nn.BCEWithLogitsLoss(w, reduction, q), {"pos_weight": q}),
            (nn.NLLLoss(w, index, reduction), {"ignore_index": index}),
            (
                nn.CrossEntropyLoss(w, index, reduction, 0.25),
                {"ignore_index": index, "label_smoothing": 0.25},
            ),
        ]
        for criterion, options in built:
            theirs = twin(criterion)
            assert theirs.reduction == reduction
            for name, value in {"weight": w, **options}.items():
                got = getattr(theirs, name)
                assert np.array_equal(got, value)
                if isinstance(value, np.ndarray):
                    assert got.numpy().dtype == dtype
                    assert not np.shares_memory(got.numpy(), value)
    assert twin(nn.L1Loss("sum")).reduction == "sum"


def test_a_criterion_must_define_both_directions():
    class Empty(nn.Criterion):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(np.ones(2), np.ones(2))
    with pytest.raises(NotImplementedError, match="Empty has no backward"):
        Empty().backward()
