"""Clipping against torch.nn.utils."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn, optim

SHAPES = [(3, 2), (4,), (2, 2), ()]
ORDERS = [2.0, 1, 3, 0.5, 0, -1, np.inf, -np.inf]


def both(grads, dtype=np.float64):
    """(manual, torch) parameters with these gradients, one transposed; None for no gradient."""
    own, theirs = [], []
    for k, g in enumerate(grads):
        shape = SHAPES[k % len(SHAPES)] if g is None else np.shape(g)
        value = np.zeros(shape, dtype)
        own.append(nn.Parameter(np.asfortranarray(value) if k == 0 else value))
        theirs.append(torch.nn.Parameter(torch.tensor(value)))
        if g is not None:
            own[-1].grad = np.asarray(g, dtype)
            theirs[-1].grad = torch.tensor(np.asarray(g, dtype))
    return own, theirs


def random(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return [size * rng.normal(size=shape) for shape in SHAPES]


def agree(own, theirs, roundings=20):
    """A norm of 15 elements: 15 additions, a power and its inverse; one product."""
    for p, q in zip(own, theirs, strict=True):
        if q.grad is None:
            assert p.grad is None
            continue
        eps = np.finfo(p.dtype).eps
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=roundings * eps, atol=0)


@pytest.mark.parametrize("norm_type", ORDERS)
@pytest.mark.parametrize("max_norm", [0, 0.1, 1.0, 5.0, 1e3, np.inf, -1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_as_torch(norm_type, max_norm, dtype):
    own, theirs = both(random(1), dtype)
    norm = optim.clip_grad_norm_(own, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert norm.dtype == dtype
    np.testing.assert_allclose(norm, expected.numpy(), rtol=40 * np.finfo(dtype).eps)
    agree(own, theirs, 60)


def test_what_it_does_in_numbers():
    p, q = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    p.grad, q.grad = np.array([3.0]), np.array([-4.0])
    assert optim.clip_grad_norm_([p, q], 1.0) == 5
    np.testing.assert_allclose([p.grad, q.grad], [[3 / 5.000001], [-4 / 5.000001]], rtol=1e-15)
    p.grad, q.grad = np.array([3.0]), np.array([-4.0])
    assert optim.clip_grad_norm_(iter([p, q]), 6.0) == 5
    assert (p.grad, q.grad) == (3, -4)
    assert optim.clip_grad_norm_(q, 2.0, "inf") == 4
    assert p.grad == 3
    optim.clip_grad_value_([p, q], 1.5)
    assert p.grad == 1.5
    assert abs(q.grad + 1.5) < 1e-15


def test_longdouble():
    g = np.linspace(1, 2, 7).astype(np.longdouble) / 3
    p = nn.Parameter(np.zeros(7, np.longdouble))
    p.grad = g
    norm = optim.clip_grad_norm_(p, 0.5)
    eps = np.finfo(np.longdouble).eps
    assert norm.dtype == p.grad.dtype == np.longdouble
    assert abs(norm - np.sqrt((g**2).sum())) < 10 * eps
    assert np.abs(p.grad - g * (np.longdouble(0.5) / (norm + np.longdouble(1e-6)))).max() < 1e-16
    optim.clip_grad_value_(p, 0.0625)
    assert (p.grad == 0.0625).all()
    assert p.dtype == np.longdouble


@pytest.mark.parametrize("norm_type", ORDERS)
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-20, 1e18, 1e37])
def test_sizes_at_the_ends_of_float32(norm_type, size):
    """Never worse than torch, which squares as it is: where its norm is good, ours is, and ours is
    right also where its is 0 or inf and the true one is a float32."""
    grads = [np.float32(g) for g in random(2, size)]
    exact = [nn.Parameter(g.astype(np.longdouble)) for g in grads]
    for p in exact:
        p.grad = p.data
    expected = optim.clip_grad_norm_(exact, np.inf, norm_type)
    own, theirs = both(grads, np.float32)
    norm = optim.clip_grad_norm_(own, size, norm_type)
    reference = torch.nn.utils.clip_grad_norm_(theirs, size, norm_type).item()
    if expected > np.finfo(np.float32).max:
        assert norm == np.inf
        return
    # Below the normal range the four norms and the norm of them round to whole subnormals.
    smallest = 5 * float(np.finfo(np.float32).smallest_subnormal)
    allowed = 60 * np.finfo(np.float32).eps * expected + smallest
    assert abs(norm - expected) <= allowed
    if abs(reference - expected) <= allowed:
        for p, q in zip(own, theirs, strict=True):
            tiny = 2 * smallest
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5, atol=tiny)


@pytest.mark.parametrize("norm_type", [2.0, 1, np.inf, -np.inf, -1])
@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf], [np.inf, np.nan], [np.inf, np.inf]])
def test_gradients_that_are_not_finite(bad, norm_type):
    grads = random(3)
    for k, value in enumerate(bad):
        grads[k].flat[0] = value
    own, theirs = both(grads)
    before = [p.grad.copy() for p in own]
    expected = torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type).numpy()
    if not np.isfinite(expected):
        with pytest.raises(RuntimeError, match=r"the norm of order .* is (nan|inf)"):
            optim.clip_grad_norm_(own, 1.0, norm_type, error_if_nonfinite=True)
        assert all(
            np.array_equal(p.grad, g, equal_nan=True) for p, g in zip(own, before, strict=True)
        )
    np.testing.assert_allclose(optim.clip_grad_norm_(own, 1.0, norm_type), expected, rtol=1e-14)
    for p, q in zip(own, theirs, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-14)


def test_zeros_and_nothing():
    own, theirs = both([np.zeros((2, 2)), np.zeros(3)])
    for norm_type in ORDERS:
        norm = optim.clip_grad_norm_(own, 1.0, norm_type)
        assert norm == torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type) == 0
        agree(own, theirs)
    own, theirs = both([None, None])
    assert optim.clip_grad_norm_(own, 1.0) == torch.nn.utils.clip_grad_norm_(theirs, 1.0) == 0
    optim.clip_grad_value_(own, 1.0)
    assert [p.grad for p in own] == [None, None]
    assert optim.clip_grad_norm_([], 1.0) == torch.nn.utils.clip_grad_norm_([], 1.0) == 0
    optim.clip_grad_value_([], 1.0)
    empty = nn.Parameter(np.zeros((0, 3)))
    empty.grad = np.zeros((0, 3))
    assert [optim.clip_grad_norm_(empty, 1.0, p) for p in ORDERS] == [0] * len(ORDERS)


def test_a_parameter_without_a_gradient_does_not_count():
    grads = random(4)
    grads[1] = None
    own, theirs = both(grads)
    norm = optim.clip_grad_norm_(own, 0.5)
    np.testing.assert_allclose(
        norm, torch.nn.utils.clip_grad_norm_(theirs, 0.5).numpy(), rtol=1e-15
    )
    agree(own, theirs)
    optim.clip_grad_value_(own, 0.1)
    torch.nn.utils.clip_grad_value_(theirs, 0.1)
    agree(own, theirs)


@pytest.mark.parametrize("clip_value", [0, 0.3, 1, 1e300, np.inf, -0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_as_torch(clip_value, dtype):
    grads = random(5)
    grads[0][0] = np.inf, -np.inf
    grads[1][:2] = np.nan, -0.0
    own, theirs = both(grads, dtype)
    assert optim.clip_grad_value_(own, clip_value) is None
    if dtype == np.float32 and clip_value == 1e300:  # which torch refuses as too large
        clip_value = np.inf
    torch.nn.utils.clip_grad_value_(theirs, clip_value)
    for p, q in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(p.grad, q.grad.numpy())


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    size=st.floats(-6, 6),
    max_norm=st.floats(0, 10),
    norm_type=st.floats(0.3, 6) | st.just(np.inf),
    clip_value=st.floats(0, 3),
)
def test_any_clipping(seed, size, max_norm, norm_type, clip_value):
    """A power p rounds p log|x| and the root again: some ten eps at these sizes."""
    own, theirs = both(random(seed, 10**size))
    norm = optim.clip_grad_norm_(own, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type).numpy()
    np.testing.assert_allclose(norm, expected, rtol=200 * np.finfo(float).eps)
    agree(own, theirs, 220)
    optim.clip_grad_value_(own, clip_value)
    torch.nn.utils.clip_grad_value_(theirs, clip_value)
    agree(own, theirs, 220)


def test_a_used_up_generator_warns_as_in_torch():
    net = nn.Linear(2, 3)
    parameters = net.parameters()
    list(parameters)
    message = "^clip_grad_norm_: the generator of parameters is used up$"
    with pytest.warns(UserWarning, match=message):
        assert optim.clip_grad_norm_(parameters, 1.0) == 0
    with pytest.warns(UserWarning, match="empty generator"):
        assert torch.nn.utils.clip_grad_norm_((p for p in []), 1.0) == 0


def test_the_warning_points_at_the_caller():
    with pytest.warns(UserWarning, match="used up") as caught:
        optim.clip_grad_norm_((p for p in []), 1.0)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("norm_type", [2.0, 1, 0.5, np.inf])
def test_a_gradient_with_a_zero_in_it(norm_type):
    own, theirs = both([np.array([0.0, 3, -4])])
    norm = optim.clip_grad_norm_(own, 1.0, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type).numpy()
    np.testing.assert_allclose(norm, expected, rtol=1e-15)
    agree(own, theirs)


def test_bad_arguments():
    p = nn.Parameter(np.zeros(2))
    p.grad = np.ones(2)
    for name, call in [
        ("max_norm", lambda: optim.clip_grad_norm_(p, np.nan)),
        ("norm_type", lambda: optim.clip_grad_norm_(p, 1.0, np.nan)),
        ("clip_value", lambda: optim.clip_grad_value_(p, np.nan)),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be a number, got nan"):
            call()
    for call in (optim.clip_grad_norm_, optim.clip_grad_value_):
        with pytest.raises(TypeError, match="Parameters, got ndarray"):
            call([p, p.grad], 0.1)
    assert (p.grad == 1).all()


def test_arguments_are_torchs():
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        own = inspect.signature(getattr(optim, name)).parameters
        theirs = inspect.signature(getattr(torch.nn.utils, name)).parameters
        assert [(p.name, p.default) for p in own.values()] == [
            (p.name, p.default) for p in theirs.values() if p.name != "foreach"
        ]
