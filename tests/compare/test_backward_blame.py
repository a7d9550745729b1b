"""`check_backward`: wrong formulas, kinks, and whose fault it is."""

import numpy as np
import pytest
import torch

from compare import check_backward
from tests.compare.backward_pairs import (
    PAIRS,
    draw,
    first_failure,
    linear_forward,
    norm_backward,
    norm_forward,
    norm_in_torch,
    scale_forward,
    tanh_backward,
    tanh_forward,
)

# What can be wrong with one pair in particular: (forward, backward, row, verdict).


def norm_variant(dx=None, dweight=None, dbias=None):
    def backward(saved, dy):
        right = norm_backward(saved, dy)
        n, inverse, weight = saved
        dn = dy * weight
        found = (
            dx and dx(n, inverse, weight, dy, dn),
            dweight and dweight(n, dy),
            dbias and dbias(dy),
        )
        return tuple(r if f is None else f for f, r in zip(found, right, strict=True))

    return norm_forward, backward


def mean(a, axis=-1):
    return a.mean(axis, keepdims=True)


def norm_without_epsilon(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / np.sqrt(mean(d * d))
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_with_epsilon_outside(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / (np.sqrt(mean(d * d)) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_unbiased(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / np.sqrt((d * d).sum(-1, keepdims=True) / (x.shape[-1] - 1) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


NORM = {
    "no mean of dn": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - n * mean(dn * n))),
        "d_x.0",
    ),
    "no mean of dn n": (norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn))), "d_x.0"),
    "neither": (norm_variant(lambda n, inv, w, dy, dn: inv * dn), "d_x.0"),
    "plus": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn) + n * mean(dn * n))),
        "d_x.0",
    ),
    "no weight": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dy - mean(dy) - n * mean(dy * n))),
        "d_x.0",
    ),
    "weight last": (
        norm_variant(lambda n, inv, w, dy, dn: w * inv * (dy - mean(dy) - n * mean(dy * n))),
        "d_x.0",
    ),
    "no inverse": (
        norm_variant(lambda n, inv, w, dy, dn: dn - mean(dn) - n * mean(dn * n)),
        "d_x.0",
    ),
    "inverse squared": (
        norm_variant(lambda n, inv, w, dy, dn: inv**2 * (dn - mean(dn) - n * mean(dn * n))),
        "d_x.0",
    ),
    "sums for means": (
        norm_variant(
            lambda n, inv, w, dy, dn: inv * (dn - 5 * mean(dn) - n * 5 * mean(dn * n)),
        ),
        "d_x.0",
    ),
    "one degree of freedom less": (
        norm_variant(
            lambda n, inv, w, dy, dn: inv * (dn - mean(dn) - n * 5 / 4 * mean(dn * n)),
        ),
        "d_x.0",
    ),
    "means over the batch": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn, 0) - n * mean(dn * n, 0))),
        "d_x.0",
    ),
    "dweight without n": (norm_variant(dweight=lambda n, dy: dy.sum(0)), "d_x.1"),
    "dweight a mean": (norm_variant(dweight=lambda n, dy: (dy * n).mean(0)), "d_x.1"),
    "dbias a mean": (norm_variant(dbias=lambda dy: dy.mean(0)), "d_x.2"),
    "dbias times n": (norm_variant(dbias=lambda dy: -dy.sum(0)), "d_x.2"),
    "no epsilon": ((norm_without_epsilon, norm_backward), "output"),
    "epsilon outside the root": ((norm_with_epsilon_outside, norm_backward), "output"),
    "unbiased variance": ((norm_unbiased, norm_backward), "output"),
}


@pytest.mark.parametrize("wrong", NORM)
def test_a_wrong_layer_norm(wrong):
    pair, name = NORM[wrong]
    found, _ = first_failure(*pair, norm_in_torch, *draw(*PAIRS["norm"][3]))
    assert found == (name, "mismatch", "manual")


def gather_forward(w, at):
    return w[at], (w.shape, at)


def gather_backward(saved, dy):
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    np.add.at(dw, at, dy)
    return dw, None


def gather_overwriting(saved, dy):
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    dw[at] = dy
    return dw, None


def gather_adding_once(saved, dy):
    """What dw[at] += dy does where an index is there twice."""
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    dw[at] += dy
    return dw, None


def gather_in_torch(w, at):
    return torch.nn.functional.embedding(at, w)


def table(dtype=np.float64):
    (w,) = draw((5, 3), dtype=dtype)
    return w, np.array([[0, 4, 4], [1, 0, 2]])


def test_an_integer_input_has_no_gradient():
    assert check_backward(gather_forward, gather_backward, gather_in_torch, *table()).passed
    assert check_backward(
        gather_forward, gather_backward, gather_in_torch, *table(np.float32)
    ).passed
    for zeros in (np.zeros((2, 3)), np.zeros((2, 3), np.int64)):
        found, comparison = first_failure(
            gather_forward,
            lambda saved, dy, zeros=zeros: (gather_backward(saved, dy)[0], zeros),
            gather_in_torch,
            *table(),
        )
        assert found == ("d_x.1", "missing", "manual")
        assert "manual has it, torch nothing" in str(comparison)


@pytest.mark.parametrize("wrong", [gather_overwriting, gather_adding_once])
def test_a_row_that_is_gathered_twice_has_the_sum(wrong):
    found, _ = first_failure(gather_forward, wrong, gather_in_torch, *table())
    assert found == ("d_x.0", "mismatch", "manual")


def test_what_was_broadcast_has_a_gradient_of_its_own_shape():
    """torch sums without a word; a pair that forgets to has another shape."""
    found, _ = first_failure(
        scale_forward, lambda saved, dy: (dy * saved[1], dy * saved[0]), torch.mul, *draw((4, 3), 3)
    )
    assert found == ("d_x.1", "shape", "manual")
    arrays = draw((4, 3), (4, 1))
    found, _ = first_failure(
        scale_forward,
        lambda saved, dy: (dy * saved[1], (dy * saved[0]).sum(1)),
        torch.mul,
        *arrays,
    )
    assert found == ("d_x.1", "shape", "manual")
    found, _ = first_failure(  # of a square, the sum over the wrong axis has the right shape
        scale_forward,
        lambda saved, dy: (dy * saved[1], (dy * saved[0]).sum(1)),
        torch.mul,
        *draw((3, 3), 3),
    )
    assert found == ("d_x.1", "mismatch", "manual")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda saved, dy: saved[0] * dy,
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).sum(0)),
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).sum()),
        lambda saved, dy: saved[0] * (1 - saved[0]) * dy,
        lambda saved, dy: dy - saved[0] * dy.sum(-1, keepdims=True),
        lambda saved, dy: saved[0] * (dy + (dy * saved[0]).sum(-1, keepdims=True)),
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).mean(-1, keepdims=True)),
        lambda saved, dy: saved[0] * (dy - dy.sum(-1, keepdims=True)),
    ],
)
def test_a_wrong_softmax(wrong):
    forward, _, reference, shapes = PAIRS["softmax"]
    found, _ = first_failure(forward, wrong, reference, *draw(*shapes))
    assert found == ("d_x", "mismatch", "manual")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda s, dy: (dy @ s[1].T, dy.T @ s[0], dy.sum(0)), "d_x.0"),
        (lambda s, dy: (dy @ s[1], s[0].T @ dy, dy.sum(0)), "d_x.1"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0] / len(dy), dy.sum(0)), "d_x.1"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy.mean(0)), "d_x.2"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy.sum(1)), "d_x.2"),
        (lambda s, dy: (dy.T @ s[0], dy @ s[1], dy.sum(0)), "d_x.0"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy[0]), "d_x.2"),
        (lambda s, dy: (dy @ s[1] + dy, dy.T @ s[0], dy.sum(0)), "d_x.0"),
    ],
)
def test_a_wrong_square_linear_layer(wrong, name):
    """Where all shapes are alike, nothing but the values can show it."""
    arrays = draw((4, 4), (4, 4), (4,))
    found, _ = first_failure(linear_forward, wrong, torch.nn.functional.linear, *arrays)
    assert found == (name, "mismatch", "manual")


# Kinks: there the witness has no answer, and torch's convention holds.


def at_kink(forward, slope):
    return lambda x: (forward(x), x), lambda x, dy: dy * slope(x)


KINKED = np.array([-2.0, -0.5, 0.0, 0.0, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("forward", "right", "wrong", "reference"),
    [
        (lambda x: np.maximum(x, 0), lambda x: x > 0, lambda x: x >= 0, torch.relu),
        (
            lambda x: np.maximum(x, 0),
            lambda x: x > 0,
            lambda x: ((x > 0) + 0.5 * (x == 0)).astype(x.dtype),
            torch.relu,
        ),
        (np.abs, np.sign, lambda x: np.where(x < 0, -1, 1).astype(x.dtype), torch.abs),
        (
            lambda x: np.maximum(1 - x, 0),
            lambda x: -(x < 1).astype(x.dtype),
            lambda x: -(x <= 1).astype(x.dtype),
            lambda x: torch.relu(1 - x),
        ),
        (
            lambda x: np.where(x > 0, x, x * x.dtype.type(0.25)),
            lambda x: np.where(x > 0, 1, 0.25).astype(x.dtype),
            lambda x: np.where(x >= 0, 1, 0.25).astype(x.dtype),
            lambda x: torch.nn.functional.leaky_relu(x, 0.25),
        ),
    ],
)
def test_at_a_kink_torchs_convention_holds(forward, right, wrong, reference, dtype):
    x = KINKED.astype(dtype)
    assert check_backward(*at_kink(forward, right), reference, x).passed
    found, comparison = first_failure(*at_kink(forward, wrong), reference, x)
    assert found == ("d_x", "mismatch", "manual")
    assert np.isnan(comparison.failures.iloc[0].oracle)


@pytest.mark.parametrize("share", [1, 0, 0.25])
def test_torch_halves_the_gradient_at_a_tie(share):
    def pair(share):
        def backward(saved, dy):
            a, b = saved
            more = (a > b) + share * (a == b)
            return dy * more, dy * (1 - more)

        return lambda a, b: (np.maximum(a, b), (a, b)), backward

    a, b = np.array([1.0, 2, 2, 5]), np.array([0.0, 2, 3, 5])
    assert check_backward(*pair(0.5), torch.maximum, a, b).passed
    found, _ = first_failure(*pair(share), torch.maximum, a, b)
    assert found == ("d_x.0", "mismatch", "manual")


# Whose fault it is.


class HalfTanh(torch.autograd.Function):
    """The gradient is half of what it should be."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.tanh(x))
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return 0.5 * dy * (1 - y * y)


class ClippedTanh(HalfTanh):
    @staticmethod
    def backward(ctx, dy):
        return 2 * HalfTanh.backward(ctx, dy.clamp(-1, 1))


class NanTanh(HalfTanh):
    @staticmethod
    def backward(ctx, dy):
        return HalfTanh.backward(ctx, dy) * torch.nan


class WrongTanh(HalfTanh):
    @staticmethod
    def forward(ctx, x):
        return 3 * HalfTanh.forward(ctx, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [HalfTanh, ClippedTanh])
def test_a_wrong_reference_is_blamed(wrong, dtype):
    (x,) = draw((4, 3), dtype=dtype)
    found, comparison = first_failure(tanh_forward, tanh_backward, wrong.apply, x)
    assert found == ("d_x", "mismatch", "torch")
    row = comparison.failures.iloc[0]
    assert abs(row.manual - row.oracle) <= row.allowed


def test_a_reference_with_a_nan_is_blamed():
    found, _ = first_failure(tanh_forward, tanh_backward, NanTanh.apply, *draw((4, 3)))
    assert found == ("d_x", "nonfinite", "torch")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [0.5, -1, 1.001, 0.0])
def test_a_mistake_of_both_is_found(factor, dtype):
    class Wrong(HalfTanh):
        @staticmethod
        def backward(ctx, dy):
            return 2 * factor * HalfTanh.backward(ctx, dy)

    def wrong(y, dy):
        return (factor * dy * (1 - y * y)).astype(y.dtype)

    (x,) = draw((4, 3), dtype=dtype)
    found, _ = first_failure(tanh_forward, wrong, Wrong.apply, x)
    if factor:
        assert found == ("d_x", "mismatch", "both")
    else:
        assert found[:2] == ("d_x", "vacuous")


def test_both_may_be_wrong_each_in_its_way():
    found, _ = first_failure(
        tanh_forward, lambda y, dy: 2 * tanh_backward(y, dy), HalfTanh.apply, *draw((4, 3))
    )
    assert found == ("d_x", "mismatch", "both")


def test_where_the_reference_is_hand_written_too_nobody_says_what_the_output_is():
    found, _ = first_failure(tanh_forward, tanh_backward, WrongTanh.apply, *draw((4, 3)))
    assert found == ("output", "mismatch", "undecided")


def test_a_wrong_forward_is_one_wrong_row():
    """The gradients are those of the reference, and are not blamed for it."""
    found, comparison = first_failure(
        lambda x: (1.01 * np.tanh(x), np.tanh(x)), tanh_backward, torch.tanh, *draw((4, 3))
    )
    assert found == ("output", "mismatch", "manual")
    assert list(comparison.failures["name"]) == ["output"]
