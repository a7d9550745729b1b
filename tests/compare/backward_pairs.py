"""Hand-written pairs of functions for the tests of `check_backward`: right, as they stand."""

import numpy as np
import pytest
import torch

from compare import EquivalenceError, check_backward


def draw(*shapes, dtype=np.float64, seed=0):
    g = np.random.default_rng(seed)
    return [np.asarray(g.normal(size=shape), dtype) for shape in shapes]


def first_failure(forward, backward, reference, *arrays, **options):
    """(name, verdict, blame) of the first row that is not ok, and the comparison."""
    with pytest.raises(EquivalenceError) as caught:
        check_backward(forward, backward, reference, *arrays, **options)
    comparison = caught.value.comparison
    assert not comparison.passed
    row = comparison.failures.iloc[0]
    return (row["name"], row.verdict, row.blame), comparison


# Of one to three inputs.


def scale_forward(x, w):
    return x * w, (x, w)


def scale_backward(saved, dy):
    x, w = saved
    return dy * w, (dy * x).sum(0)


def softmax_forward(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, (y,)


def softmax_backward(saved, dy):
    (y,) = saved
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def linear_forward(x, w, b):
    return x @ w.T + b, (x, w)


def linear_backward(saved, dy):
    x, w = saved
    return dy @ w, dy.T @ x, dy.sum(0)


def norm_forward(x, weight, bias):
    d = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_backward(saved, dy):
    n, inverse, weight = saved
    dn = dy * weight
    dx = dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True)
    return inverse * dx, (dy * n).sum(0), dy.sum(0)


def norm_in_torch(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


PAIRS = {
    "scale": (scale_forward, scale_backward, torch.mul, [(4, 3), (3,)]),
    "softmax": (softmax_forward, softmax_backward, lambda x: torch.softmax(x, -1), [(4, 5)]),
    "linear": (
        linear_forward,
        linear_backward,
        torch.nn.functional.linear,
        [(4, 3), (5, 3), (5,)],
    ),
    "norm": (norm_forward, norm_backward, norm_in_torch, [(4, 5), (5,), (5,)]),
}


def tanh_forward(x):
    y = np.tanh(x)
    return y, y


def tanh_backward(y, dy):
    return dy * (1 - y * y)


def raises(forward, backward):
    """No pair, but a wrapper: backward raises."""

    def wrong(saved, dy):
        raise ZeroDivisionError("a mistake")

    return forward, wrong
