"""Rosenblatt's perceptron: a step at the end of an affine map, and the rule that learns it.

Source: Rosenblatt, The Perceptron, Psychological Review 65 (1958); the bound on the corrections
is Novikoff's (1962).
"""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

from numbers import Real
from typing import NamedTuple

import numpy as np

from manual.checks import (
    DtypeError,
    InputError,
    check_array,
    float_dtype,
    random_generator,
    whole_number,
)


class Fit(NamedTuple):
    """What learning came to.

    converged: the last cycle corrected nothing, so every sample is right; False where the limit
    of cycles came first. cycles: how many were run, that last one included.
    corrections: (cycles,), how many samples were wrong in each. weight: (cycles + 1, in_features)
    and bias: (cycles + 1,), what they were at the start and after each cycle.
    """

    converged: bool
    cycles: int
    corrections: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


class Perceptron:
    """ŷ = 1 where w·x + b ≥ 0, and 0 elsewhere.

    The bias is minus the threshold T of the form w·x ≥ T. The lecture notes' gates: AND has
    w = (1, 1), T = 1.5; OR has w = (1, 1), T = 0.5; NOT has w = −1, T = −0.5. (Where w·x = T
    they print ŷ = 1 for the gates but ŷ = 0 in the training procedure; here it is 1 always.)

    weight: (in_features,), bias: a number of the same dtype; both are 0 where none is given.
    lr: the learning rate. Where learning starts from 0 it only scales the weights.
    dtype: float32, float64 or longdouble; that of `weight`, or float32 where none is given.
    Raises ValueError for a bad number, InputError, DtypeError or TypeError for a bad weight.
    """

    def __init__(
        self,
        in_features: int,
        *,
        lr: float = 1.0,
        weight: np.ndarray | None = None,
        bias: float = 0.0,
        dtype: np.dtype | None = None,
    ) -> None:
        self.in_features = whole_number("Perceptron: in_features", in_features, 1)
        if dtype is not None or weight is None:
            dtype = float_dtype("Perceptron", dtype)
        if weight is None:
            weight = np.zeros(in_features, dtype)
        check_array("Perceptron: weight", weight, (in_features,), dtype)
        if not np.isfinite(weight).all():
            raise InputError(f"Perceptron: weight must be finite, got {weight}")
        self.weight = weight.copy()
        self.bias = _number("bias", bias, weight.dtype)
        self.lr = _number("lr", lr, weight.dtype)
        if self.lr <= 0:
            raise ValueError(f"Perceptron: lr must be > 0 in {weight.dtype}, got {lr!r}")

    def predict(self, x: np.ndarray) -> np.ndarray:
        """x: (n, in_features), of the weight's dtype → (n,) integers, 0 or 1.

        Raises TypeError, DtypeError or InputError for another x (a NaN or inf in it too),
        FloatingPointError where w·x + b overflows.
        """
        x = self._checked(x)
        with np.errstate(over="ignore", invalid="ignore"):  # `_finite` looks itself
            values = np.vecdot(x, self.weight) + self.bias
        return (_finite(values, 0) >= 0).astype(np.int64)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        max_cycles: int = 1000,
        generator: np.random.Generator | None = None,
    ) -> Fit:
        """Visit the samples one by one, cycle after cycle, and correct where ŷ ≠ y:

            w ← w + lr (y − ŷ) x        b ← b + lr (y − ŷ)

        until a whole cycle corrects nothing, or max_cycles are done. Starts from the present
        weights, so a second call goes on where the first stopped.

        x: (n, in_features), of the weight's dtype; y: (n,), each 0 or 1, of any real dtype.
        generator: each cycle takes the samples in an order drawn anew; without one, as they are.

        The rule is descent on the perceptron criterion, one wrong sample at a time. With the
        label as a sign, s = 2y − 1, a sample is wrong where s (w·x + b) is negative, and
            E = −Σ_wrong s (w·x + b),        ∂E/∂w = −s x,        ∂E/∂b = −s
        where s = y − ŷ for a wrong sample. It is no descent on Σ (ŷ − y)², whose gradient is 0
        wherever it exists, as the step's is.
        The lecture notes on the perceptron print w ← w − x (C − O), where C is the *computed*
        output and O the *training* output: the same rule. With the letters taken for O = output
        and C = the correct one its sign is wrong, and every correction makes matters worse.

        Novikoff: with the bias as the weight of one more input that is always 1, R the length of
        the longest sample and γ its least distance from some separating plane through the origin,
        there are at most (R/γ)² corrections from weights of 0. Where no plane separates the
        classes (XOR) it never stops by itself.

        Raises what `predict` raises, InputError for a y that does not fit and for no samples,
        FloatingPointError where w·x + b overflows; the weights are then as before.
        """
        whole_number("Perceptron: max_cycles", max_cycles, 1)
        x = self._checked(x)
        target = _labels(y, len(x))
        if generator is not None:
            random_generator("Perceptron: generator", generator)
        weight, bias = self.weight.copy(), self.bias
        corrections, weights, biases = [], [weight.copy()], [bias]
        order = range(len(x))
        for cycle in range(1, max_cycles + 1):
            if generator is not None:
                order = generator.permutation(len(x))
            wrong = 0
            with np.errstate(over="ignore", invalid="ignore"):  # `_finite` looks itself
                for i in order:
                    output = _finite(np.vecdot(x[i], weight) + bias, i) >= 0
                    if output != target[i]:
                        step = self.lr if target[i] else -self.lr
                        weight += step * x[i]
                        bias += step
                        wrong += 1
            if not (np.isfinite(weight).all() and np.isfinite(bias)):
                raise FloatingPointError(f"Perceptron: a weight overflowed in cycle {cycle}")
            corrections.append(wrong)
            weights.append(weight.copy())
            biases.append(bias)
            if wrong == 0:
                break
        self.weight, self.bias = weight, bias
        return Fit(wrong == 0, cycle, np.array(corrections), np.array(weights), np.array(biases))

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """x with its rows in one piece, so that a sample gives one value, alone or among others."""
        check_array("Perceptron: x", x, dtype=self.weight.dtype)
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise InputError(
                f"Perceptron: expected x of shape (n, {self.in_features}), got {x.shape}"
            )
        bad = ~np.isfinite(x).all(axis=1)
        if bad.any():
            raise InputError(
                f"Perceptron: x must be finite, got {x[bad.argmax()]} in row {bad.argmax()}"
            )
        return np.ascontiguousarray(x)

    def __repr__(self) -> str:
        return f"Perceptron(in_features={self.in_features}, lr={self.lr!s})"


def _finite(value: np.ndarray, sample: int) -> np.ndarray:
    """The value itself (or the values, from that sample on): after overflow the sign is noise."""
    finite = np.isfinite(value)
    if not finite.all():
        sample += int(np.argmin(finite))
        raise FloatingPointError(f"Perceptron: w·x + b of sample {sample} is not a finite number")
    return value


def _labels(y: np.ndarray, n: int) -> np.ndarray:
    """y as booleans."""
    if not isinstance(y, np.ndarray):
        raise TypeError(f"Perceptron: y: expected a NumPy array, got {type(y).__name__}")
    if y.dtype.kind not in "biuf":
        raise DtypeError(f"Perceptron: y: expected real numbers, got {y.dtype}")
    if n == 0 or y.shape != (n,):
        raise InputError(f"Perceptron: expected y of shape ({n},), n >= 1, got {y.shape}")
    bad = (y != 0) & (y != 1)
    if bad.any():
        raise InputError(
            f"Perceptron: y must be 0 or 1, got {y[bad.argmax()]} in place {bad.argmax()}"
        )
    return y == 1


def _number(name: str, value: float, dtype: np.dtype) -> np.floating:
    """The value in that dtype, where it must be finite too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Perceptron: {name} must be a number, got {value!r}")
    with np.errstate(over="ignore"):  # 1e300 in float32: looked for below
        number = dtype.type(value)
    if not np.isfinite(number):
        raise ValueError(f"Perceptron: {name} must be finite in {dtype}, got {value!r}")
    return number
