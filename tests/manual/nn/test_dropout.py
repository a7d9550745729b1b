"""Dropout: masks and their statistics, values against torch, gradients with the same mask."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from manual import nn
from torch_ref import twin

RNG = np.random.default_rng
SHAPES = [(), (0,), (5,), (4, 3), (2, 3, 4), (2, 0, 3)]


def cotangent(x, seed=9):
    return np.asarray(RNG(seed).normal(size=x.shape)).astype(x.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_twin_mask_for_mask(shape, p, dtype, layout):
    """1/(1 − p) and the product: two roundings a side, at most 4 eps apart."""
    net = nn.Dropout(p, RNG(3))
    theirs = twin(net)
    for k in range(3):
        x = np.asarray(RNG(k).normal(size=shape)).astype(dtype)
        dy = cotangent(x)
        y, dx = net(layout(x)), net.backward(layout(dy))
        tx = torch.tensor(x, requires_grad=True)
        ty = theirs(tx)
        ty.backward(torch.tensor(dy))
        for got, expected in ((y, ty.detach().numpy()), (dx, tx.grad.numpy())):
            assert isinstance(got, np.ndarray)
            assert got.dtype == dtype
            assert got.shape == shape
            np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_values_of_torchs_own_dropout(p):
    """Whatever torch drops itself: what it keeps is x/(1 − p), and so it is here."""
    x = RNG(0).normal(size=1000).astype(np.float32)
    net = nn.Dropout(p, RNG(1))
    y = net(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.nn.Dropout(p)(torch.tensor(x)).numpy()
    both = (y != 0) & (theirs != 0)
    assert both.sum() > 10
    np.testing.assert_allclose(y[both], theirs[both], rtol=4 * 2.0**-23)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.97])
def test_each_element_is_dropped_with_probability_p(p):
    """The number dropped is binomial; with fixed seeds p < 1e-3 comes once in a thousand."""
    y = nn.Dropout(p, RNG(4))(np.ones((200, 100)))
    for part in (y, y[0], y[:, 0]):
        dropped = int((part == 0).sum())
        assert stats.binomtest(dropped, part.size, p).pvalue > 1e-3
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    neighbours = (y[:, 1:] == 0) & (y[:, :-1] == 0)
    assert stats.binomtest(int(neighbours[:, ::2].sum()), 200 * 50, p * p).pvalue > 1e-3


def test_p_0_draws_nothing():
    """As in torch, whose generator is where it was too."""
    generator, x = RNG(2), np.ones(3)
    assert nn.Dropout(0, generator)(x) is x
    assert generator.random() == RNG(2).random()


def test_an_element_that_draws_p_itself_stays():
    """[0, 1) is cut in two halves that are open above: below p is dropped, p is not."""
    p = RNG(2).random()
    assert nn.Dropout(p, RNG(2))(np.ones(1)) == 1 / (1 - p)


def test_the_ends():
    x, dy = RNG(0).normal(size=(4, 3)), RNG(1).normal(size=(4, 3))
    none, all_ = nn.Dropout(0, RNG(2)), nn.Dropout(1, RNG(2))
    assert np.array_equal(none(x), x)
    assert np.array_equal(none.backward(dy), dy)
    assert not all_(x).any()
    assert not all_.backward(dy).any()


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_evaluation_is_the_identity_and_draws_nothing(p):
    x, dy, net = RNG(0).normal(size=(4, 3)), RNG(1).normal(size=(4, 3)), nn.Dropout(p, RNG(2))
    net.eval()
    assert np.array_equal(net(x), x)
    assert np.array_equal(net.backward(dy), dy)
    assert net.generator.bit_generator.state == RNG(2).bit_generator.state


def test_every_dtype_drops_the_same_elements():
    x = RNG(0).normal(size=(50, 40))
    masks = [
        nn.Dropout(0.4, RNG(1))(x.astype(d)) == 0 for d in (np.float32, np.float64, np.longdouble)
    ]
    assert 0.3 < masks[0].mean() < 0.5
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    net = nn.Dropout(0.4, RNG(1))
    assert net(x.astype(np.longdouble)).dtype == np.longdouble
    assert net.backward(x.astype(np.longdouble)).dtype == np.longdouble


def test_backward_has_the_mask_of_the_last_forward():
    """Also where the mode changed, or another forward came in between."""
    net, x, dy = nn.Dropout(0.5, RNG(2)), np.ones((30, 3)), RNG(1).normal(size=(30, 3))
    first = net(x)
    second = net(x)
    assert not np.array_equal(first, second)
    net.eval()
    for _ in range(2):
        assert np.array_equal(net.backward(dy), dy * second)
    net(x)
    net.train()
    assert np.array_equal(net.backward(dy), dy)


def test_copies_draw_alike_and_the_original_is_not_drawn_from():
    net, x = nn.Dropout(0.5, RNG(2)), np.ones((30, 3))
    net(x)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    theirs = twin(net)
    expected = [net(x) for _ in range(2)]
    for other in copies:
        assert all(np.array_equal(other(x), y) for y in expected)
    assert all(np.array_equal(theirs(torch.tensor(x)).numpy(), y) for y in expected)


def test_without_a_generator_every_one_draws_anew():
    x = np.ones(200)
    assert not np.array_equal(nn.Dropout()(x), nn.Dropout()(x))


def test_infinities_as_in_torch():
    """inf · 0 = NaN, and NumPy says so: no NaN comes silently."""
    net, x = nn.Dropout(0.5, RNG(0)), np.full(40, np.inf)
    theirs = twin(net)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        y = net(x)
    assert np.array_equal(y, theirs(torch.tensor(x)).numpy(), equal_nan=True)
    assert 0 < np.isnan(y).sum() < 40
    own = torch.nn.functional.dropout(torch.tensor(x), 0.5)
    assert all(np.isnan(value) or value == np.inf for value in own.tolist())


@pytest.mark.parametrize("p", [-0.1, 1.1, np.inf, np.nan, -1e-9], ids=repr)
def test_bad_probabilities(p):
    with pytest.raises(ValueError, match=f"p has to be between 0 and 1, got {p!r}"):
        nn.Dropout(p)


def test_errors():
    net = nn.Dropout(0.5, RNG(0))
    with pytest.raises(RuntimeError, match=r"Dropout\.backward called before forward"):
        net.backward(np.ones(3))
    for bad in ([1.0], None, np.ones(3, int), np.ones(3, np.float16), np.ones(3, bool)):
        with pytest.raises(TypeError, match="Dropout: x"):
            net(bad)
    assert net.generator.bit_generator.state == RNG(0).bit_generator.state
    for mode in (True, False):
        net.train(mode)(np.ones((4, 3)))
        for shape in ((4, 1), (3,), (), (1, 3), (12,)):
            with pytest.raises(ValueError, match=r"Dropout: dy.*\(4, 3\), got \("):
                net.backward(np.ones(shape))
        with pytest.raises(TypeError, match="Dropout: dy: expected dtype float64, got float32"):
            net.backward(np.ones((4, 3), np.float32))
    with pytest.raises(TypeError):
        nn.Dropout("a")


def test_attributes():
    generator = RNG(0)
    net = nn.Dropout(generator=generator)
    assert net.p == 0.5 == torch.nn.Dropout().p
    assert net.generator is generator
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"
    assert not list(net.parameters())
    assert not net.state_dict()
