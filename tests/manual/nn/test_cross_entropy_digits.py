"""The cross-entropy of a net that is nearly sure keeps every digit, and so does its gradient."""

import mpmath
import numpy as np
import pytest

from manual import nn

# Differences that every dtype holds exactly: only the formula's own roundings are left.
LOGITS = [
    [20, 0, -3],
    [0, 40, 2],
    [-70, 0, -75],
    [5, 5, -20],
    [1e4, 9980, -1e4],
    [-1e4, -9990.5, -9991],
    [0.5, -1.25, 2],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", ["indices", "one-hot probabilities"])
@pytest.mark.parametrize("logits", LOGITS, ids=str)
def test_every_digit_is_right(logits, target, dtype):
    """L = log(1 + Σ_{c≠y} e^(z_c − z_y)) and ∂L/∂z_y = −Σ_{c≠y} p_c: relative to each value, not
    to the 1 that rounding swallows them in. Roundings: an exponential, a sum of 3, a quotient or
    a logarithm, a subtraction, the exponential of that, and products: at most 12."""
    eps, smallest = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    z = np.array([logits] * 3, dtype)
    y = np.arange(3) if target == "indices" else np.eye(3, dtype=dtype)
    criterion = nn.CrossEntropyLoss(np.array([2, 0.5, 4], dtype), reduction="none")
    loss, dz = criterion(z, y), criterion.backward(np.full(3, -3, dtype))
    with mpmath.workdps(60):
        e = [mpmath.exp(mpmath.mpf(float(v)) - max(logits)) for v in z[0]]
        for n, weight in enumerate([2, 0.5, 4]):
            others = mpmath.fsum(e[:n] + e[n + 1 :])
            expected = weight * mpmath.log1p(others / e[n])
            assert abs(float(loss[n]) - expected) <= 12 * eps * expected + smallest
            for c in range(3):
                slope = -3 * weight * (-others if c == n else e[c]) / mpmath.fsum(e)
                assert abs(float(dz[n, c]) - slope) <= 12 * eps * abs(slope) + 12 * smallest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_as_its_two_halves(dtype):
    """The loss of NLLLoss behind a LogSoftmax, in which as few roundings can enter: twice 12."""
    z = np.random.default_rng(0).normal(0, 40, (50, 4)).astype(dtype)
    y = np.random.default_rng(1).integers(0, 4, 50)
    halves = nn.NLLLoss(reduction="none")(nn.LogSoftmax(dim=1)(z), y)
    whole = nn.CrossEntropyLoss(reduction="none")(z, y)
    assert (np.abs(whole - halves) <= 24 * np.finfo(dtype).eps * halves).all()
    assert (halves[halves < np.finfo(dtype).eps] > 0).any()  # some of them beyond eps
