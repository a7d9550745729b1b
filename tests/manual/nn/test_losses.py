"""The squared errors, and what every criterion shares; CrossEntropyLoss has a file of its own."""

import numpy as np
import pytest

from manual import nn

REDUCTIONS = ["mean", "sum", "none"]
DTYPES = [np.float32, np.float64, np.longdouble]
RNG = np.random.default_rng
SUMS = [nn.HalfSquaredError, nn.SumSquaredError]
SQUARED = [*[kind() for kind in SUMS], *[nn.MSELoss(reduction) for reduction in REDUCTIONS]]
named = {"ids": lambda value: f"{type(value).__name__}-{getattr(value, 'reduction', value)}"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6,), (4, 3), (3, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("criterion", SQUARED, **named)
def test_squared_errors_match_torch(criterion, shape, dtype, layout, check_loss):
    """Every term (ŷ − y)² is rounded twice and summed: (n + 3) eps Σ (ŷ − y)², either side."""
    rng = RNG(11)
    prediction, target = (layout(rng.normal(size=shape).astype(dtype)) for _ in range(2))
    accuracy = float(np.finfo(np.float32 if dtype == np.float32 else np.float64).eps)  # torch's
    size = float(((prediction - target) ** 2).sum())
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
    else:
        assert isinstance(loss, np.float64)
        assert np.array_equal(criterion.backward(), factor * difference)
        assert np.array_equal(criterion.backward(-3), -3 * factor * difference)


@pytest.mark.parametrize("criterion", SQUARED, **named)
def test_longdouble_against_central_differences(criterion, slope):
    rng = RNG(12)
    prediction, target = rng.normal(size=(2, 4, 3)).astype(np.longdouble)
    loss = criterion(prediction, target)
    dloss = rng.normal(size=loss.shape).astype(np.longdouble)
    got = criterion.backward(dloss)
    expected = slope(lambda at: np.sum(dloss * criterion(at, target)), prediction)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("criterion", SQUARED, **named)
def test_squared_errors_refuse_what_does_not_fit(criterion):
    name, x = type(criterion).__name__, np.ones((2, 3))
    for bad in [np.ones((2, 1)), np.ones((1, 3)), np.ones(3), np.ones(()), np.ones((3, 2))]:
        with pytest.raises(ValueError, match=rf"{name}: target.*\(2, 3\), got \("):
            criterion(x, bad)
    for bad in [x.astype(np.float32), x.astype(int), x.tolist(), 1.0]:
        with pytest.raises(TypeError, match=f"{name}: target"):
            criterion(x, bad)
        with pytest.raises(TypeError, match=f"{name}: "):
            criterion(bad, x)


def each(reduction):
    """(criterion, prediction, target, shape of the loss) of every kind with this reduction."""
    x = np.ones((4, 3))
    scalar = reduction != "none"
    yield nn.MSELoss(reduction), x, x, () if scalar else (4, 3)
    yield nn.CrossEntropyLoss(reduction=reduction), x, np.arange(4) % 3, () if scalar else (4,)
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
        criterion(prediction * np.arange(3), target)
        if reduction == "none":
            with pytest.raises(ValueError, match="backward needs dloss of shape") as error:
                criterion.backward()
            assert str(shape) in str(error.value)
        else:
            assert np.array_equal(criterion.backward(), criterion.backward(np.ones(())))


@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss, *SUMS])
def test_backward_before_forward(kind):
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.backward called before forward"):
        kind().backward()
    assert repr(kind()) == f"{kind.__name__}()"


@pytest.mark.parametrize("bad", ["avg", "Mean", None, 1], ids=repr)
@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss, nn.Criterion])
def test_bad_reduction(kind, bad):
    with pytest.raises(ValueError, match=f"{kind.__name__}: reduction.*got {bad!r}"):
        kind(reduction=bad)


def test_defaults_are_torchs():
    assert nn.MSELoss().reduction == nn.CrossEntropyLoss().reduction == "mean"
    assert nn.CrossEntropyLoss().ignore_index == -100
    assert all(kind().reduction == "sum" for kind in SUMS)


def test_a_criterion_must_define_both_directions():
    class Empty(nn.Criterion):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(np.ones(2), np.ones(2))
    with pytest.raises(NotImplementedError, match="Empty has no backward"):
        Empty().backward()
