"""The witness of L-BFGS: its one formula against the update of a whole matrix, its steps against
torch's in float64."""

import numpy as np
import pytest
import torch

from compare.oracle.lbfgs import lbfgs_step, times_inverse_hessian

OPTIONS = [
    {"max_iter": 4},
    {"max_iter": 1},
    {"max_iter": 6, "history_size": 2, "lr": 0.5},
    {"max_iter": 6, "max_eval": 3, "lr": 0.1, "maximize": True},
    {"max_iter": 6, "tolerance_grad": 0.5, "lr": 0.7},
    {"max_iter": 6, "tolerance_change": 0.05, "lr": 0.7},
    {"max_iter": 6, "tolerance_change": 0.05, "lr": 0.01},  # little is moved, much is won
    {"max_iter": 6, "tolerance_grad": 1e9},
]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_the_formula_is_that_of_the_matrix_updated_pair_by_pair(n):
    g = np.random.default_rng(n)
    a = g.normal(size=(6, 6))
    curvature = a @ a.T + np.eye(6)
    pairs = [(s, curvature @ s) for s in g.normal(size=(n, 6))]
    h = np.eye(6)
    for k, (s, y) in enumerate(pairs):
        if k == 0:
            newest, change = pairs[-1]
            h *= (newest @ change) / (change @ change)
        v = np.eye(6) - np.outer(y, s) / (y @ s)
        h = v.T @ h @ v + np.outer(s, s) / (y @ s)
    at = g.normal(size=6)
    np.testing.assert_allclose(times_inverse_hessian(pairs, at), h @ at, rtol=1e-10)


def bowl(p):
    """Neither quadratic nor symmetric."""
    weights = torch.linspace(0.5, 2, len(p), dtype=p.dtype)
    return (weights * p**2).sum() + 0.1 * (p**4).sum() + p[0] * p[1] + p.sum()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_two_steps_are_those_of_torch(options):
    start = 4 * np.random.default_rng(0).normal(size=5)
    p = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.LBFGS([p], **options)

    def closure():
        optimizer.zero_grad()
        loss = bowl(p)
        loss.backward()
        return loss

    def evaluate(theta):
        at = torch.tensor(theta, requires_grad=True)
        loss = bowl(at)
        (gradient,) = torch.autograd.grad(loss, at)
        return loss.item(), gradient.numpy()

    for _ in range(2):
        state = optimizer.state_dict()["state"].get(0, {})
        state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
        found = lbfgs_step(optimizer.param_groups[0], state, p.detach().numpy().copy(), evaluate)
        optimizer.step(closure)
        after = optimizer.state_dict()["state"][0]
        np.testing.assert_allclose(found["theta"], p.detach().numpy(), rtol=1e-9)
        for name in ("d", "prev_flat_grad"):
            assert (name in found) == (after.get(name) is not None)
            if name in found:
                np.testing.assert_allclose(found[name], after[name].numpy(), rtol=1e-7, atol=1e-12)


def test_a_line_search_has_no_witness():
    options = torch.optim.LBFGS([torch.zeros(2)], line_search_fn="strong_wolfe").param_groups[0]
    assert lbfgs_step(options, {}, np.ones(2), lambda theta: (0.0, theta)) is None
