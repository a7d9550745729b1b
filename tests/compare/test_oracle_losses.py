"""The losses' formulas and the witness's gradients of them, against the twins in float64."""

import mpmath
import numpy as np
import pytest
import torch

from compare.oracle import Witness
from compare.oracle.losses import loss_definition, loss_terms, row_by_row
from manual import nn
from tests.compare.pinned import assert_as_pinned
from torch_ref import twin

N, C = 5, 4
PRECISE = np.finfo(np.longdouble).eps < 1e-18


def drawn(kind, reduction, seed):
    """(criterion, prediction, target) with every argument given a value that matters."""
    g = np.random.default_rng(seed)
    w, q = g.uniform(0.3, 3, C), g.uniform(0.3, 3, C)
    shape = (N, C)
    return {
        "MSELoss": lambda: (nn.MSELoss(reduction), g.normal(size=shape), g.normal(size=shape)),
        "L1Loss": lambda: (nn.L1Loss(reduction), g.normal(size=shape), g.normal(size=shape)),
        "BCELoss": lambda: (
            nn.BCELoss(w, reduction),
            g.uniform(0.001, 0.999, shape),
            g.uniform(size=shape),
        ),
        "BCELoss, sure": lambda: (
            nn.BCELoss(reduction=reduction),
            np.concatenate(
                [10.0 ** -g.uniform(1, 9, (2, C)), 1 - 10.0 ** -g.uniform(1, 8, (3, C))]
            ),
            g.integers(0, 2, shape).astype(float),
        ),
        "BCEWithLogitsLoss": lambda: (
            nn.BCEWithLogitsLoss(w, reduction, q),
            g.normal(size=shape) * 5,
            g.uniform(-1, 2, shape),
        ),
        "NLLLoss": lambda: (
            nn.NLLLoss(w, 1, reduction),
            g.normal(size=shape),
            np.array([0, 1, 2, 3, 3]),
        ),
        "NLLLoss, 3-D": lambda: (
            nn.NLLLoss(w, reduction=reduction),
            g.normal(size=(N, C, 3)),
            g.integers(0, C, (N, 3)),
        ),
        "CrossEntropyLoss": lambda: (
            nn.CrossEntropyLoss(w, 1, reduction, 0.2),
            g.normal(size=shape) * 3,
            np.array([0, 1, 2, 3, 3]),
        ),
        "CrossEntropyLoss, 3-D": lambda: (
            nn.CrossEntropyLoss(w, -100, reduction, 0.1),
            g.normal(size=(N, C, 2)),
            np.where(g.random((N, 2)) < 0.3, -100, g.integers(0, C, (N, 2))),
        ),
        "CrossEntropyLoss, probabilities": lambda: (
            nn.CrossEntropyLoss(w, reduction=reduction, label_smoothing=0.1),
            g.normal(size=(N, C, 2)),
            g.dirichlet(np.ones(C), (N, 2)).transpose(0, 2, 1).copy(),
        ),
        "CrossEntropyLoss, one": lambda: (
            nn.CrossEntropyLoss(reduction=reduction),
            g.normal(size=C),
            np.array(2),
        ),
        "CrossEntropyLoss, sure": lambda: (
            nn.CrossEntropyLoss(reduction=reduction),
            g.normal(size=shape) * 30,
            g.integers(0, C, N),
        ),
        "HalfSquaredError": lambda: (
            nn.HalfSquaredError(),
            g.normal(size=shape),
            g.normal(size=shape),
        ),
        "SumSquaredError": lambda: (
            nn.SumSquaredError(),
            g.normal(size=shape),
            g.normal(size=shape),
        ),
    }[kind]()


KINDS = ["MSELoss", "L1Loss", "BCELoss", "BCELoss, sure", "BCEWithLogitsLoss", "NLLLoss"]
KINDS += ["NLLLoss, 3-D", "CrossEntropyLoss", "CrossEntropyLoss, 3-D", "CrossEntropyLoss, one"]
KINDS += ["CrossEntropyLoss, probabilities", "CrossEntropyLoss, sure"]
CASES = [(kind, reduction) for kind in KINDS for reduction in ("mean", "sum", "none")]
CASES += [("HalfSquaredError", "sum"), ("SumSquaredError", "sum")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "reduction"), CASES)
def test_loss_and_gradient_are_torchs(kind, reduction, dtype):
    criterion, prediction, target = drawn(kind, reduction, 7)
    z = torch.tensor(prediction, requires_grad=True)
    loss = twin(criterion, dtype=torch.float64)(z, torch.tensor(target))
    dloss = None
    if reduction == "none":
        dloss = np.random.default_rng(8).normal(size=tuple(loss.shape))
    loss.backward(None if dloss is None else torch.tensor(dloss))
    witness = Witness(dtype, 0)
    value, error = witness.loss(criterion, prediction, target)
    expected = loss.detach().numpy()
    assert value.shape == error.shape == expected.shape
    assert (np.abs(value - expected) <= error + 1e-14 * np.maximum(1, np.abs(expected))).all()
    assert (error <= 1e-12 * np.maximum(1, np.abs(expected))).all()
    every = list(np.ndindex(prediction.shape))[::2]
    found = witness.dprediction(criterion, prediction, target, dloss, every)
    assert set(every) <= set(found)
    assert (witness.asked, witness.of) == (len(found), prediction.size)
    for index, (slope, error) in found.items():
        own = z.grad.numpy()[index]
        # torch cancels in p (1 − p) and in p − y: a few of its units of a slope of 1
        assert abs(slope - own) <= error + 1e-14 * max(1, abs(own)) / (
            1e-8 if kind == "BCELoss, sure" else 1
        ), (index, slope, own)
        assert error <= (1e-9 if dtype == np.float32 else 1e-11) * max(1, abs(own))


def test_the_entropy_of_a_sure_class_keeps_its_digits():
    """−log p of a p within 1e-9 of 1, and its slope p − 1, by mpmath."""
    z = np.array([[20.0, -1.0, 0.5]])
    mpmath.mp.dps = 50
    p = [mpmath.exp(v) / sum(mpmath.exp(u) for u in z[0]) for v in z[0]]
    for dtype in (np.float32, np.float64):
        witness = Witness(dtype)
        value, error = witness.loss(nn.CrossEntropyLoss(), z, np.array([0]))
        assert abs(mpmath.mpf(float(value)) + mpmath.log(p[0])) <= float(error) + 1e-24
        assert error <= 1e-13 * float(value)
        found = witness.dprediction(nn.CrossEntropyLoss(), z, np.array([0]), None, [])
        for k, (slope, error) in ((index[1], entry) for index, entry in found.items()):
            assert abs(mpmath.mpf(slope) - (p[k] - (k == 0))) <= error
            assert error <= 1e-9 * abs(slope)


def test_where_torchs_convention_is_no_derivative_there_is_no_answer():
    """BCELoss: p (1 − p) counts for at least 1e-12, and no logarithm for less than −100."""
    criterion = nn.BCELoss(reduction="sum")
    p, y = np.array([0.0, 1.0, 1e-13, 0.5]), np.array([1.0, 1.0, 1.0, 1.0])
    found = Witness(np.float64).dprediction(criterion, p, y, None, [])
    assert [bool(np.isnan(found[(k,)][0])) for k in range(4)] == [True, True, True, False]
    value, error = Witness(np.float64).loss(criterion, p, y)
    assert abs(value - (100 + 13 * np.log(10) + np.log(2))) <= error + 1e-13
    value, error = Witness(np.float64).loss(criterion, p[:2], np.zeros(2))
    assert abs(value - 100) <= error < 1e-13


def test_at_a_kink_of_the_loss_it_is_torchs_choice():
    found = Witness(np.float64).dprediction(nn.L1Loss(), np.array([1.0, 2.0]), np.ones(2), None, [])
    value, error = found[(0,)]
    assert abs(value) <= error < 1e-9
    assert found[(1,)][0] == pytest.approx(0.5, abs=1e-15)


def test_masked_and_infinite_classes():
    """A logit of −∞ has the probability 0; its own slope is not asked of f at ∞."""
    z = np.array([[1.0, -np.inf, 0.0]])
    value, error = Witness(np.float64).loss(nn.CrossEntropyLoss(), z, np.array([0]))
    assert abs(value - np.log1p(np.exp(-1.0))) <= error + 1e-15
    value, error = Witness(np.float64).loss(nn.CrossEntropyLoss(), z, np.array([1]))
    assert np.isnan(value)
    assert np.isnan(error)
    found = Witness(np.float64).dprediction(nn.CrossEntropyLoss(), z, np.array([0]), None, [])
    assert np.isnan(found[(0, 1)]).all()
    assert abs(found[(0, 2)][0] - np.exp(-1) / (1 + np.exp(-1))) <= found[(0, 2)][1] + 1e-15


@pytest.mark.skipif(not PRECISE, reason="longdouble is float64 here")
def test_weights_are_summed_in_the_dtype_of_the_prediction():
    """Of a log p of −1 everywhere the mean is Σ w / Σ w."""
    log_p, y = np.full((3, 3), np.longdouble(-1)), np.array([0, 1, 2])
    for dtype in (np.float32, np.float64):
        loss = loss_definition(nn.NLLLoss((1 / np.array([3, 7, 11])).astype(dtype)))(log_p, y)
        assert abs(loss - 1) < 1e-18


class Own(nn.MSELoss):
    pass


class Foreign(nn.Criterion):
    pass


def test_whose_loss_is_known():
    x = np.array([1.0, 2.0])
    assert loss_definition(Own())(x, 0 * x) == 2.5
    assert loss_terms(Foreign()) is None
    assert Witness(np.float64).loss(Foreign(), x, x) is None
    assert Witness(np.float64).dprediction(Foreign(), x, x, None, []) is None


def test_a_wrong_reduction_would_show():
    """The definition is not the twin in another dress: mean and sum differ by the divisor."""
    criterion, prediction, target = drawn("CrossEntropyLoss", "mean", 3)
    f = loss_definition(criterion)
    mean = f(prediction, target)
    criterion.reduction = "sum"
    present = criterion.weight[target[target != 1]].sum()
    assert abs(f(prediction, target) / mean - present) <= 1e-12


ANY = np.arange(24.0).reshape(4, 3, 2) % 7 - 2.5
LOGITS = ANY[:, :, 0]
SHARES = np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.0, 0.75, 0.25], [0.5, 0.5, 0.0]])
BETWEEN = np.array([[0.25, 0.5, 1e-9], [0.75, 1e-60, 0.125], [0.5, 0.5, 0.5], [0.9, 0.1, 0.3]])
WEIGHT = np.array([0.5, 2.0, 3.0])
PINS = {
    "MSELoss": (nn.MSELoss, {}, LOGITS, SHARES),
    "L1Loss": (nn.L1Loss, {}, LOGITS, SHARES),
    "BCELoss": (nn.BCELoss, {}, BETWEEN, SHARES),
    "BCELoss(weight)": (nn.BCELoss, {"weight": WEIGHT - 1}, BETWEEN, SHARES),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, {}, LOGITS, SHARES),
    "BCEWithLogitsLoss(weights)": (
        nn.BCEWithLogitsLoss,
        {"weight": WEIGHT - 1, "pos_weight": WEIGHT[::-1].copy()},
        LOGITS,
        1.5 * SHARES,
    ),
    "NLLLoss": (nn.NLLLoss, {"ignore_index": 1}, LOGITS, np.array([0, 1, 2, 2])),
    "NLLLoss(weight), 3-D": (
        nn.NLLLoss,
        {"weight": WEIGHT},
        ANY,
        np.array([[0, 1], [2, -100], [1, 1], [0, 0]]),
    ),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, {}, LOGITS, np.array([0, 1, 2, 2])),
    "CrossEntropyLoss, one": (nn.CrossEntropyLoss, {}, LOGITS[1], np.array(2)),
    "CrossEntropyLoss(weight), 3-D": (
        nn.CrossEntropyLoss,
        {"weight": WEIGHT, "label_smoothing": 0.25},
        ANY,
        np.array([[0, 1], [2, -100], [1, 1], [0, 0]]),
    ),
    "CrossEntropyLoss, probabilities": (
        nn.CrossEntropyLoss,
        {"weight": WEIGHT, "label_smoothing": 0.25},
        LOGITS,
        SHARES,
    ),
}


def bounds():
    """In units of roundoff."""
    found = {}
    for name, (kind, options, prediction, target) in PINS.items():
        for reduction in ("none", "sum", "mean"):
            criterion = kind(reduction=reduction, **options)
            _, error = Witness(np.float32).loss(criterion, prediction, target)
            found[f"{name}, {reduction}"] = error / np.finfo(float).eps
            with np.errstate(all="ignore"):
                _, noise = loss_terms(criterion)(prediction, target)
            found[f"{name}, {reduction}, terms"] = noise / np.finfo(float).eps
    for criterion in (nn.HalfSquaredError(), nn.SumSquaredError()):
        _, error = Witness(np.float32).loss(criterion, LOGITS, SHARES)
        found[type(criterion).__name__] = error / np.finfo(float).eps
    return found


def test_no_bound_has_become_wider():
    found = bounds()
    assert_as_pinned("test_oracle_losses", found)
    # One by hand: 1 unit and 4 of each term; the sum of 12 terms, 2 + 2 √12 of their sizes.
    size = ((LOGITS - SHARES) ** 2).sum()
    assert found["MSELoss, sum"] == pytest.approx((5 + 2 + 2 * np.sqrt(12)) * size)


def test_whose_rows_need_no_other():
    assert row_by_row(nn.MSELoss(), LOGITS)
    assert not row_by_row(nn.MSELoss(), LOGITS[0])
    assert not row_by_row(nn.MSELoss(), LOGITS[0, 0])
    assert row_by_row(nn.BCELoss(weight=WEIGHT), LOGITS)
    assert not row_by_row(nn.BCELoss(weight=SHARES), LOGITS)
    assert not row_by_row(nn.BCEWithLogitsLoss(pos_weight=SHARES), LOGITS)
    assert row_by_row(nn.BCEWithLogitsLoss(pos_weight=SHARES), ANY)


@pytest.mark.parametrize("name", PINS)
def test_the_terms_of_some_rows_are_those_of_the_batch(name):
    kind, options, prediction, target = PINS[name]
    criterion = kind(**options)
    with np.errstate(all="ignore"):
        terms, noise = loss_terms(criterion)(prediction, target)
        if row_by_row(criterion, prediction):
            some = loss_terms(criterion, (prediction, target))(prediction[1:3], target[1:3])
            assert np.array_equal(some, (terms[1:3], noise[1:3]))


def test_what_counts_for_nothing_may_be_infinite():
    log_p = np.array([[-np.inf, -0.5], [-0.25, -np.inf]])
    f = loss_definition(nn.BCEWithLogitsLoss(reduction="none"))
    with np.errstate(invalid="ignore"):
        assert loss_definition(nn.NLLLoss())(log_p, np.array([1, 0])) == 0.375
        assert f(np.array([np.inf, -np.inf]), np.array([1.0, 0.0])).tolist() == [0, 0]
    f = loss_definition(nn.BCELoss(reduction="none"))
    with np.errstate(divide="ignore"):
        assert f(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.5, 0.25])).tolist() == [100, 50, 75]
