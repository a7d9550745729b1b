"""The error rules of softmax and its logarithm: every term needed, none below the truth."""

import numpy as np
import pytest
import torch

from compare.rounding import Rounding, rule

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)
FLOAT32 = Rounding.of(np.dtype(np.float32))

OVER_CLASSES = [torch.nn.Softmax, torch.nn.LogSoftmax]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("source", ["x", "dy"])
@pytest.mark.parametrize("kind", OVER_CLASSES)
def test_an_error_passes_through_softmax_by_all_its_paths(
    kind, source, axis, away_from_0, errors, passed_on
):
    """z reaches log p by itself and through log Σ e^z, dy reaches dx by itself and through s: what
    partly cancels is added up. To first order E(log p) = E + Σ p E and E(p) = p E(log p)."""
    g = np.random.default_rng(0)
    inputs = {"x": g.uniform(-0.8, 0.8, (4, 5, 3)), "dy": away_from_0(g, 4, 5, 3)}
    e = {name: np.zeros(v.shape) for name, v in inputs.items()}
    e[source] = errors(g, 4, 5, 3)
    module = kind(axis)
    worst = passed_on(module, inputs, source, e[source])
    ey, backward = rule(module, NONE, {}, inputs["x"], e["x"])
    edx, _ = backward(inputs["dy"], e["dy"])
    p = np.exp(inputs["x"]) / np.exp(inputs["x"]).sum(axis, keepdims=True)
    dy, edy = inputs["dy"], e["dy"]

    def total(t):
        return t.sum(axis, keepdims=True)

    elog = e["x"] + total(p * e["x"])
    # float64's own rounding of log Σ p e^E: 10⁻¹⁵
    np.testing.assert_allclose(
        ey, elog * (1 if "Log" in kind.__name__ else p), rtol=1e-4, atol=1e-15
    )
    ep = p * elog
    if kind is torch.nn.Softmax:
        es = total(np.abs(dy) * ep) + total(edy * p)
        expected = p * (edy + es) + ep * np.abs(dy - total(dy * p))
    else:
        expected = edy + p * total(edy) + ep * np.abs(total(dy))
    np.testing.assert_allclose(edx, expected, rtol=1e-4, atol=1e-14)
    for found, exact in ((ey, worst["y"]), (edx, worst["x"])):
        assert (found >= exact * (1 - 1e-6) - 1e-15).all()
        assert np.median(found) <= 8 * np.median(exact) + 1e-14


def test_softmax_rounds_its_sums_and_differences():
    """log p = z − m − log Σ: u of each difference, 4 units in the last place of exp and log, n u
    of the sum; of a distance from the largest, u, also through Σ."""
    z = np.array([[0.0, -1.0, -3.0, -3.0]])
    p = np.exp(z) / np.exp(z).sum()
    log_sum = np.log(np.exp(z).sum())
    elog = U * (-z + log_sum - z + 8 * (1 + log_sum) + 4 + (p * -z).sum())
    ey, backward = rule(torch.nn.LogSoftmax(1), SINGLE, {}, z, 0 * z)
    np.testing.assert_allclose(ey, elog, rtol=1e-5)
    dy = np.array([[1.0, -2.0, 0.5, 3.0]])
    ep = p * (elog + 8 * U)
    edx, _ = backward(dy, 0 * dy)
    es = 4 * U * np.abs(dy).sum()
    expected = ep * (2.5 + es) + p * es + 2 * U * (np.abs(dy) + p * 2.5)
    np.testing.assert_allclose(edx, expected, rtol=1e-5)
    ey, backward = rule(torch.nn.Softmax(1), SINGLE, {}, z, 0 * z)
    np.testing.assert_allclose(ey, ep, rtol=1e-5)
    edx, _ = backward(dy, 0 * dy)
    s, size, inner = (np.abs(dy) * p).sum(), (np.abs(dy) * ep).sum(), np.abs(dy - (dy * p).sum())
    einner = size + 4 * U * s + U * inner + 2 * U * (np.abs(dy) + s)
    np.testing.assert_allclose(edx, p * einner + ep * inner, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1, 10])
@pytest.mark.parametrize("kind", OVER_CLASSES)
def test_softmax_bounds_hold_for_large_errors_of_the_logits(kind, scale):
    g = np.random.default_rng(0)
    z, dy = 3 * g.normal(size=(5, 4)), g.normal(size=(5, 4))
    ez = scale * g.uniform(size=z.shape)
    ey, backward = rule(kind(1), FLOAT32, {}, z, ez)
    edx, _ = backward(dy, np.zeros(z.shape))

    def at(z):
        point = torch.tensor(z).requires_grad_()
        y = kind(1)(point)
        return y.detach().numpy(), torch.autograd.grad(y, point, torch.tensor(dy))[0].numpy()

    y, dx = at(z)
    for _ in range(100):
        other_y, other_dx = at(z + ez * g.choice([-1, 0, 1], z.shape))
        assert (np.abs(other_y - y) <= ey).all()
        assert (np.abs(other_dx - dx) <= edx).all()


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize(("shape", "axis"), [((4,), 0), ((3, 4), 1), ((2, 3, 4), 0)])
def test_without_a_dimension_softmax_has_torchs_own(shape, axis, errors):
    g = np.random.default_rng(0)
    x, ex = g.normal(size=shape), errors(g, *shape)
    for kind in OVER_CLASSES:
        ey, _ = rule(kind(), FLOAT32, {}, x, ex)
        np.testing.assert_array_equal(ey, rule(kind(axis), FLOAT32, {}, x, ex)[0])


def test_log_softmax_meets_the_errors_of_both_its_factors():
    """p s, of which neither is known: the cotangents sum up to 8 where p has become 1."""
    zero, ez = np.zeros((1, 10)), np.where(np.arange(10) == 0, 9.0, 0.0)[None]
    _, backward = rule(torch.nn.LogSoftmax(1), FLOAT32, {}, zero, ez)
    edx, _ = backward(zero, zero + 1)
    point = torch.tensor(ez).requires_grad_()
    dy = torch.where(point.detach() > 0, -1.0, 1.0)
    (dx,) = torch.autograd.grad(torch.nn.LogSoftmax(1)(point), point, dy)
    assert abs(dx[0, 0]) > 8
    assert (dx.abs().numpy() <= edx).all()
