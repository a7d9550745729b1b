"""Whose forward is differentiated where no definition is known: manual's, or the twin's."""

import numpy as np
import pytest
import torch

from compare.oracle.forward_of_own import own_or_twins
from manual import nn

X = np.array([[0.5, -2.0, 1e6]], np.longdouble)
THETA = {"a": np.array([3.0], np.longdouble), "count": np.array(2)}


class Own(nn.Module):
    """a x, and what `off` adds to the last of it; it spoils what it is given."""

    def __init__(self, off=0.0, shape=None, dtype=None):
        self.a, self.off, self.shape, self.dtype = nn.Parameter(np.ones(1)), off, shape, dtype

    def forward(self, x):
        y = (self.a.data * x).reshape(self.shape or x.shape)
        y[..., -1] += y.dtype.type(self.off)
        x[...] = 7
        self.off = 99.0
        return y.astype(self.dtype or y.dtype)


class Stays(Own):
    """Cannot be converted."""

    to = None

    def __getattribute__(self, name):
        if name == "to":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Torchs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.used = []

    def forward(self, x):
        y = self.a * x + 0 * self.count + len(self.used)
        self.used.append(1)
        self.count += 1
        x.data[...] = 7
        return y


@pytest.mark.parametrize(
    ("module", "ours"),
    [
        (Own(), True),
        (Own(off=2.9e-6), True),  # a part in 10¹² of the largest, 3e6
        (Own(off=3.1e-6), False),
        (Own(off=np.nan), False),
        (Own(shape=(3, 1)), False),
        (Own(shape=(3,)), False),
        (Own(dtype=np.float32), False),
        (Stays(), False),
        (None, False),
    ],
)
def test_whose_forward_it_is(module, ours):
    built = Torchs()
    f, theta, x = own_or_twins(module, built, THETA, X)
    dtype = np.longdouble if ours else np.float64
    assert x.dtype == theta["a"].dtype == dtype
    assert theta["count"].dtype == THETA["count"].dtype
    assert np.array_equal(x, X)
    for a in (3.0, -0.5):  # the same again: neither module has changed
        for _ in range(2):
            y = f(theta | {"a": np.array([a], dtype)}, x)
            expected = a * X
            expected[0, -1] += module.off if ours else 0
            assert isinstance(y, np.ndarray)
            assert y.dtype == dtype
            np.testing.assert_allclose(y, expected, rtol=1e-15)
    assert np.array_equal(x, X)
    assert built.count == 0
    assert built.a.grad is None
    if module is not None:
        assert module.a.data.tolist() == [1]


def test_agreement_is_by_the_size_of_the_output():
    x = np.array([[1e-3]], np.longdouble)
    for off, dtype in ((2.9e-15, np.longdouble), (3.1e-15, np.float64)):
        assert own_or_twins(Own(off), Torchs(), THETA, x)[2].dtype == dtype
    assert own_or_twins(Own(), Torchs(), THETA, 0 * x)[2].dtype == np.longdouble


def test_without_an_entry_both_agree():
    f, _, x = own_or_twins(Own(), Torchs(), THETA, np.zeros((0, 3), np.longdouble))
    assert x.dtype == np.longdouble
    assert f(THETA, x).shape == (0, 3)


def test_a_parameter_that_stays_in_its_dtype_is_not_ours():
    x, theta = X.astype(np.float64), {"a": np.array([3.0]), "count": np.array(2)}
    for dtype, off in ((np.float64, 2e-6), (np.longdouble, 0)):
        given = {"a": theta["a"].astype(dtype), "count": theta["count"]}
        f, theta, x = own_or_twins(Stays(off=2e-6), Torchs(), given, X.astype(dtype))
        assert f(theta, x).tolist() == [[1.5, -6, 3e6 + off]]
