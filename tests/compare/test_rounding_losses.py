"""The error rules of the losses: every term needed, no bound below the worst case."""

import numpy as np
import pytest
import torch

from compare import assert_equivalent
from compare.rounding import Rounding, loss_rule
from manual import nn
from torch_ref import twin
from torch_ref.modules import HalfSquaredError, SumSquaredError

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)
FLOAT32 = Rounding.of(np.dtype(np.float32))
ONE = np.ones(())  # the cotangent of a scalar loss
REDUCTIONS = ["mean", "sum", "none"]
SHAPE = (5, 4)
W, POS = np.array([0.5, 2.0, 1.0, 3.0]), np.array([0.5, 3.0, 1.0, 2.0])

ELEMENTWISE = [
    (torch.nn.MSELoss, {}),
    (torch.nn.L1Loss, {}),
    (torch.nn.BCELoss, {}),
    (torch.nn.BCELoss, {"weight": torch.tensor(W)}),
    (torch.nn.BCEWithLogitsLoss, {}),
    (torch.nn.BCEWithLogitsLoss, {"weight": torch.tensor(W), "pos_weight": torch.tensor(POS)}),
]
EVERY = [kind(reduction=r, **options) for kind, options in ELEMENTWISE for r in REDUCTIONS]
EVERY += [HalfSquaredError(), SumSquaredError()]


def named(criterion):
    weighted = getattr(criterion, "weight", None) is not None
    return f"{type(criterion).__name__}-{criterion.reduction}{'-weighted' * weighted}"


def data(criterion, g):
    """(prediction, target, cotangent), away from every kink."""
    dloss = g.normal(size=SHAPE) if criterion.reduction == "none" else ONE
    if isinstance(criterion, torch.nn.BCELoss):
        return g.uniform(0.1, 0.9, SHAPE), g.choice([0.0, 0.05, 0.95, 1.0], SHAPE), dloss
    if isinstance(criterion, torch.nn.BCEWithLogitsLoss):
        return 2 * g.normal(size=SHAPE), g.choice([0.0, 0.05, 0.95, 1.0], SHAPE), dloss
    y = g.normal(size=SHAPE)
    return y + g.uniform(0.3, 2, SHAPE) * g.choice([-1, 1], SHAPE), y, dloss


def loss_and_slope(criterion, y, dloss=None):
    def f(z):
        z = z.requires_grad_()
        loss = criterion(z, torch.from_numpy(y))
        cotangent = None if dloss is None else torch.tensor(dloss)
        return loss, *torch.autograd.grad(loss, z, cotangent, create_graph=True)

    return f


# E passed on, nothing rounded, against autograd's second derivatives.


@pytest.mark.parametrize("criterion", EVERY, ids=named)
def test_an_error_passes_through_a_loss_as_the_derivatives_say(criterion, errors, worst_cases):
    g = np.random.default_rng(0)
    (z, y, dloss), ez = data(criterion, g), errors(g, *SHAPE)
    worst = worst_cases(loss_and_slope(criterion, y, dloss), [z], 0, ez)
    for found, exact in zip(loss_rule(criterion, NONE, z, ez, y, dloss), worst, strict=True):
        assert found.shape == exact.shape
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-20)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 4, 3)])
def test_an_error_passes_through_nll_as_the_derivatives_say(
    shape, ignore_index, reduction, errors, worst_cases
):
    g = np.random.default_rng(0)
    z, ez = g.normal(size=shape), errors(g, *shape)
    y = g.integers(0, 4, (*shape[:1], *shape[2:]) if len(shape) > 1 else ())
    y = np.array(1) if y.ndim == 0 else y
    criterion = torch.nn.NLLLoss(torch.tensor(W), ignore_index=ignore_index, reduction=reduction)
    dloss = g.normal(size=y.shape) if reduction == "none" else ONE
    worst = worst_cases(loss_and_slope(criterion, y, dloss), [z], 0, ez)
    found = loss_rule(criterion, NONE, z, ez, y, dloss)
    np.testing.assert_allclose(found[0], worst[0], rtol=1e-9)
    np.testing.assert_array_equal(found[1], 0)  # dz does not depend on z
    assert found[1].shape == shape
    # −w/D dloss: of w and dloss a product and a quotient, and where D is a sum, its terms
    _, edz = loss_rule(criterion, SINGLE, z, 0 * z, y, dloss)
    dz = loss_and_slope(criterion, y, dloss)(torch.tensor(z))[1].detach().numpy()
    terms = y.size if reduction == "mean" else 0
    np.testing.assert_allclose(edz, (3 + terms) * U * np.abs(dz))
    size = (
        W[y]
        * (y != ignore_index)
        * np.abs(
            np.take_along_axis(
                z if z.ndim > 1 else z[None], y[:, None] if y.ndim else np.array([[1]]), 1
            ).reshape(y.shape)
        )
    )
    eloss, _ = loss_rule(criterion, SINGLE, z, 0 * z, y, dloss)
    if reduction == "none":
        np.testing.assert_allclose(eloss, (4 + 4) * U * size)
    else:
        divisor = (W[y] * (y != ignore_index)).sum() if reduction == "mean" else 1
        roundings = 4 + 4 + 2 * SINGLE.sum(4 * y.size) / U + 3
        np.testing.assert_allclose(eloss, roundings * U * size.sum() / divisor)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_error_of_the_logits_is_at_most_four_times_overstated(
    weighted, smoothing, ignore_index, reduction, errors, worst_cases
):
    """z reaches log p by itself and through log Σ e^z; the rule adds up what partly cancels. With
    q = t / Σ t and ρ = max E / min E < 13/7 it is too large by at most
    loss: Σ (q + p) E / Σ |q − p| E ≤ ρ / (q_y − p_y);
    dz:   ((1 + p) E + S) / ((1 − p) E + S), where S = Σ p E over the others ≥ (1 − p) min E.
    No factor holds for all p (at p = q the loss is flat): here p < 0.65, and y is least likely.
    """
    g = np.random.default_rng(0)
    z, ez = g.uniform(-0.8, 0.8, (12, 4)), errors(g, 12, 4)
    y = z.argmin(1)
    w = np.array([0.8, 1.0, 1.2, 1.5]) if weighted else np.ones(4)
    criterion = torch.nn.CrossEntropyLoss(
        torch.tensor(w) if weighted else None,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    t = (smoothing / 4 + (1 - smoothing) * np.eye(4)[y]) * w * (y != ignore_index)[:, None]
    total = t.sum(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    rows = np.arange(12)[y != ignore_index]
    rho, distance = 13 / 7, (t[rows] / total[rows] - p[rows])[range(len(rows)), y[rows]].min()
    assert max(rho / distance, (rho * 1.65 + 0.35) / (0.35 * (rho + 1))) < 4
    assert p.max() < 0.65
    found = loss_rule(criterion, NONE, z, ez, y, ONE)
    divisor = w[y[rows]].sum() if reduction == "mean" else 1
    through = (p * ez).sum(1, keepdims=True)
    paths = (t * (ez + through)).sum() / divisor, total * p * (ez + through) / divisor
    worst = worst_cases(loss_and_slope(criterion, y), [z], 0, ez)
    for bound, sum_of_paths, exact in zip(found, paths, worst, strict=True):
        np.testing.assert_allclose(bound, sum_of_paths, rtol=1e-4, atol=0)
        assert (bound >= exact * (1 - 1e-6)).all()
        assert (bound <= exact * 4).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 4, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_error_passes_through_cross_entropy_with_probabilities(
    smoothing, shape, reduction, errors
):
    g = np.random.default_rng(0)
    axis = min(len(shape) - 1, 1)
    z, ez, y = g.normal(size=shape), errors(g, *shape), g.uniform(0.1, 1, shape)
    criterion = torch.nn.CrossEntropyLoss(
        torch.tensor(W), label_smoothing=smoothing, reduction=reduction
    )
    dloss = np.asarray(g.normal(size=z.sum(axis).shape)) if reduction == "none" else ONE
    column = W.reshape(-1, *[1] * (len(shape) - 1 - axis))
    t = ((1 - smoothing) * y + smoothing / 4) * column
    p = np.exp(z) / np.exp(z).sum(axis, keepdims=True)
    elog = ez + (p * ez).sum(axis, keepdims=True)
    rows = z.size // 4
    divisor = rows if reduction == "mean" else 1
    each = (t * elog).sum(axis)
    eloss, edz = loss_rule(criterion, NONE, z, ez, y, dloss)
    of_loss = each if reduction == "none" else each.sum() / divisor
    np.testing.assert_allclose(eloss, of_loss, rtol=1e-4)
    size = np.abs(np.expand_dims(dloss, axis)) if reduction == "none" else 1
    expected = t.sum(axis, keepdims=True) * p * elog * size / divisor
    np.testing.assert_allclose(edz, expected, rtol=1e-4)


# What is rounded.


def counts(criterion, z, y):
    """(roundings of each loss, of each slope) in u, before reduction and cotangent."""
    weight = 1.0 if getattr(criterion, "weight", None) is None else W
    if isinstance(criterion, torch.nn.L1Loss):
        return 2 * np.abs(z - y), 0 * z
    if isinstance(criterion, torch.nn.BCELoss):
        parts = np.abs(y * np.log(z)) + np.abs((1 - y) * np.log(1 - z))
        return 12 * weight * parts, 8 * weight * np.abs(z - y) / (z * (1 - z))
    if isinstance(criterion, torch.nn.BCEWithLogitsLoss):
        pos_weight = 1.0 if criterion.pos_weight is None else POS
        t, factor = y * pos_weight, 1 + np.abs(pos_weight - 1) * y
        sigma, inner = 1 / (1 + np.exp(-z)), np.log1p(np.exp(-z))
        of_loss = 4 * (1 - y) * np.abs(z) + (16 * (t + 1 - y) + 3 * factor) * inner
        of_slope = 13 * (t + 1 - y) * sigma + 3 * t
        if criterion.pos_weight is not None:
            of_slope = of_slope + 2 * (t + 1 + y) * sigma
        return weight * of_loss, weight * of_slope
    factor = 0.5 if isinstance(criterion, HalfSquaredError) else 1
    # of z − y, of its square, twice as large through it; in the slope one more than the others have
    return 4 * factor * (z - y) ** 2, 2 * factor * np.abs(z - y)


@pytest.mark.parametrize("criterion", EVERY, ids=named)
def test_a_loss_rounds_itself_its_sum_and_its_slope(criterion):
    z, y, dloss = data(criterion, np.random.default_rng(0))
    total, dz = (v.detach().numpy() for v in loss_and_slope(criterion, y, dloss)(torch.tensor(z)))
    of_loss, of_slope = counts(criterion, z, y)
    squared = isinstance(criterion, torch.nn.MSELoss | HalfSquaredError | SumSquaredError)
    n = z.size if criterion.reduction == "mean" else 1
    eloss, edz = loss_rule(criterion, SINGLE, z, 0 * z, y, dloss)
    own = 2 if criterion.reduction == "none" and not squared else 3  # 1/n, dloss, their product
    expected = U * (of_slope * np.abs(dloss) / n + own * np.abs(dz))
    np.testing.assert_allclose(edz, expected, rtol=1e-5)
    if criterion.reduction == "none":
        np.testing.assert_allclose(eloss, U * of_loss, rtol=1e-5)
    else:
        sums = z.size + (0 if squared else 2)
        np.testing.assert_allclose(eloss, U * (of_loss.sum() / n + sums * total), rtol=1e-5)


def test_cross_entropy_rounds_its_sums_and_its_difference():
    """p of the first class is 1 to within 10⁻⁷; Σ e^z and, smoothed, Σ t have 31 terms each."""
    c, z = 31, np.zeros((1, 31))
    z[0, 0] = 20
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.3)
    eloss, _ = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, np.array([0]), ONE)
    assert (c - 1) * U <= eloss <= 3 * c * U
    _, edz = loss_rule(criterion, SINGLE, z, 0 * z, np.array([0]), ONE)
    assert 2 * (c - 1) * U <= edz[0, 0] <= 4 * c * U
    z, y = np.tile([0.0, -20.0], (31, 1)), np.ones(31, int)  # p < 10⁻⁸, t = 1: |dz| = 1/31
    _, edz = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, y, ONE)
    assert (edz[:, 1] >= U / 31).all()
    weighted = torch.nn.CrossEntropyLoss(torch.ones(2))  # the divisor is a sum of 31 weights
    assert (loss_rule(weighted, SINGLE, z, 0 * z, y, ONE)[1][:, 1] >= 30 * U / 31).all()
    z = np.array([[0.0, -0.1, -0.1]])  # Σ e^z is off by 8 u of itself, its logarithm by 8 u more
    eloss, _ = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, np.array([0]), ONE)
    assert eloss >= SINGLE.libm * (1 + np.log(np.exp(z).sum()))


def test_saturated_softmax_allows_an_absolute_error_of_the_subtraction():
    """p − 1 in float32 is off by up to one roundoff of 1, however small 1 − p is."""
    z, y = np.array([[40.0, 0.0, 0.0]]), np.array([0])
    _, edz = loss_rule(torch.nn.CrossEntropyLoss(), FLOAT32, z, np.zeros_like(z), y, ONE)
    assert U < edz[0, 0] < 100 * U
    assert edz[0, 1] < 1e-15


# Errors that are not small.


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1, 10])
@pytest.mark.parametrize("probabilities", [False, True])
def test_cross_entropy_bounds_hold_for_large_errors_of_the_logits(probabilities, scale):
    r = Rounding.of(np.dtype(np.float64))
    g = np.random.default_rng(0)
    z, y = 3 * g.normal(size=(5, 4)), g.integers(0, 4, 5)
    y = g.dirichlet(np.ones(4), 5) if probabilities else y
    ez = scale * g.uniform(size=z.shape)
    criterion = torch.nn.CrossEntropyLoss()
    eloss, edz = loss_rule(criterion, r, z, ez, y, ONE)
    f = loss_and_slope(criterion, y)
    loss, dz = (v.detach().numpy() for v in f(torch.tensor(z)))
    for _ in range(150):
        other_loss, other_dz = f(torch.tensor(z + ez * g.choice([-1, 1], z.shape)))
        assert abs(other_loss.item() - loss) <= eloss
        assert (np.abs(other_dz.detach().numpy() - dz) <= edz).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1, 10])
@pytest.mark.parametrize("criterion", EVERY, ids=named)
def test_the_bounds_hold_for_large_errors_of_the_prediction(criterion, scale):
    """Kinks within reach, and for BCELoss both ends of [0, 1]."""
    g = np.random.default_rng(0)
    z, y, dloss = data(criterion, g)
    z.flat[:3] = y.flat[:3]
    ez = scale * g.uniform(size=z.shape)
    eloss, edz = loss_rule(criterion, FLOAT32, z, ez, y, dloss)
    f = loss_and_slope(criterion, y, dloss)
    loss, dz = (v.detach().numpy() for v in f(torch.tensor(z)))
    for _ in range(60):
        at = z + ez * np.clip(g.uniform(-2, 2, z.shape), -1, 1)
        at = np.clip(at, 0, 1) if isinstance(criterion, torch.nn.BCELoss) else at
        other_loss, other_dz = (v.detach().numpy() for v in f(torch.tensor(at)))
        assert (np.abs(other_loss - loss) <= eloss).all()
        assert (np.abs(other_dz - dz) <= edz).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "kind", [nn.MSELoss, nn.L1Loss, nn.BCELoss, nn.BCEWithLogitsLoss], ids=lambda k: k.__name__
)
def test_float32_stays_within_the_roundings_that_are_counted(kind, reduction):
    """Predictions that are exact, close to their targets and far off, near 0 and 1 and large."""
    for seed in range(10):
        g = np.random.default_rng(seed)
        z, y = 10.0 ** g.uniform(-6, 3, 300) * g.choice([-1, 1], 300), g.uniform(0, 1, 300)
        z[:100] = y[:100] * (1 + 10.0 ** g.uniform(-7, 0, 100) * g.choice([-1, 1], 100))
        if kind is nn.BCELoss:
            z = np.clip(np.where(g.random(300) < 0.3, 1 - np.abs(z), np.abs(z)), 0, 1)
        z, y = z.astype(np.float32), y.astype(np.float32)
        criterion = kind(reduction=reduction)
        dloss = g.normal(size=300).astype(np.float32) if reduction == "none" else np.float32(1)
        dloss = np.asarray(dloss)
        f = loss_and_slope(twin(criterion), y.astype(np.float64), dloss.astype(np.float64))
        exact = [v.detach().numpy() for v in f(torch.tensor(z).double())]
        bounds = loss_rule(
            twin(criterion),
            FLOAT32,
            z.astype(np.float64),
            np.zeros(300),
            y.astype(np.float64),
            dloss,
        )
        theirs = loss_and_slope(twin(criterion), y, dloss)(torch.tensor(z))
        mine = criterion(z, y), criterion.backward(dloss)
        for k in range(2):
            for side in (mine[k], theirs[k].detach().numpy()):
                assert (np.abs(np.asarray(side, np.float64) - exact[k]) <= bounds[k]).all()


class OwnLoss(torch.nn.Module):
    def forward(self, prediction, target):
        return (prediction - target).abs().mean()


def test_a_custom_criterion_is_a_black_box_too():
    z, y = np.linspace(-2, 2, 12).reshape(3, 4), np.linspace(0, 1, 12).reshape(3, 4)
    eloss, edz = loss_rule(OwnLoss(), FLOAT32, z, 1e-7 * np.abs(z), y, ONE)
    exact = np.abs(z - y).mean()
    assert abs(np.abs(np.float32(z) - np.float32(y)).mean() - exact) <= eloss < 1e-4
    assert edz.shape == z.shape
    assert (edz < 1e-4).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_small_pos_weight_is_added_to_1_by_torch(seed):
    """torch's factor 1 + (q − 1) y and its slope (q y + 1 − y) σ − q y are rounded beside 1."""
    g = np.random.default_rng(seed)
    q = (10 ** g.uniform(-7, 2, 4)).astype(np.float32)
    z = (g.normal(size=(5, 4)) * 10 ** g.uniform(-1, 2)).astype(np.float32)
    y = np.asarray(g.choice([0, 1, g.uniform(0, 1)], (5, 4)), np.float32)
    for reduction in ("none", "mean"):
        criterion = nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=q)
        assert_equivalent(nn.Identity(), criterion, z, y, seed=seed)


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_logistic_loss_of_a_certain_and_right_prediction_may_come_out_as_0(y, weighted):
    """log1p(e^−745.2) and σ(−745.2): the smallest number of float64 on one side, 0 on the other."""
    z = (1 if y else -1) * np.linspace(700, 800, 3000)
    y = np.full(z.shape, y)
    options = {"pos_weight": np.array([3.0])} if weighted else {}
    criterion = nn.BCEWithLogitsLoss(reduction="none", **options)
    r, ones = Rounding.of(np.dtype(np.float64)), np.ones(z.shape)
    eloss, edz = loss_rule(twin(criterion), r, z, np.zeros(z.shape), y, ones)
    loss, dz = loss_and_slope(twin(criterion), y, ones)(torch.tensor(z))
    loss, dz = loss.detach().numpy(), dz.detach().numpy()
    assert (loss == 0).any()
    assert (dz == 0).any()
    assert (eloss[loss == 0] >= r.tiny).all()
    assert (edz[dz == 0] >= r.tiny).all()
    assert (np.abs(criterion(z, y) - loss) <= 2 * eloss).all()
    assert (np.abs(criterion.backward(ones) - dz) <= 2 * edz).all()
