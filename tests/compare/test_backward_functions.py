"""The two functions of `check_backward` one by one: what they return, and what is refused."""

import numpy as np
import pytest
import torch

from compare.backward.functions import Manual, RaisedError, Reference

X = np.array([[1.0, -2.0, 0.5]])


def fails(*_):
    raise KeyError("at night")


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (X, [X]),
        ((X, np.float32(3)), [X, np.array(3, np.float32)]),
        ([X, 2 * X], [X, 2 * X]),
    ],
)
def test_what_forward_returns(returned, outputs):
    seen = []

    def forward(*arrays):
        seen.append(arrays)
        return returned, "saved"

    found, saved = Manual(forward, None).forward([1, 2])
    assert (seen, saved) == ([(1, 2)], "saved")
    assert [(type(y), y.dtype) for y in found] == [(np.ndarray, y.dtype) for y in outputs]
    for y, right in zip(found, outputs, strict=True):
        np.testing.assert_array_equal(y, right)


PAIR = "check_backward: forward must return a pair, (output or tuple of outputs, saved), got "
OUTPUT = "check_backward: an output of forward must be an ndarray, got "


@pytest.mark.parametrize(
    ("returned", "error", "text"),
    [
        (X, TypeError, f"{PAIR}an ndarray of shape [1, 3]"),
        ([X, None], TypeError, f"{PAIR}a list of 2"),
        ((X,), TypeError, f"{PAIR}a tuple of 1"),
        ((X, X, None), TypeError, f"{PAIR}a tuple of 3"),
        (None, TypeError, f"{PAIR}a NoneType"),
        (((), None), ValueError, "check_backward: forward returned no output"),
        ((1.0, None), TypeError, f"{OUTPUT}a float"),
        (([X, None], None), TypeError, f"{OUTPUT}a NoneType"),
    ],
)
def test_what_forward_must_not_return(returned, error, text):
    with pytest.raises(error) as caught:
        Manual(lambda *_: returned, None).forward([X])
    assert str(caught.value) == text


def test_what_backward_returns():
    seen = []

    def backward(*given):
        seen.append(given)
        return [X, None, np.float64(2)]

    found = Manual(None, backward).backward("saved", [X, None], 3)
    assert seen == [("saved", X, None)]
    assert found[0] is X
    assert found[1] is None
    assert (type(found[2]), found[2].shape) == (np.ndarray, ())
    assert [g is X for g in Manual(None, lambda saved: X).backward("saved", [], 1)] == [True]
    assert Manual(None, lambda saved: None).backward("saved", [], 1) == [None]


@pytest.mark.parametrize(
    ("returned", "inputs", "error", "text"),
    [
        (
            (X, X),
            3,
            ValueError,
            "check_backward: backward must return a gradient for each of 3 arrays "
            "(None where there is none), got a tuple of 2",
        ),
        (
            X,
            2,
            ValueError,
            "check_backward: backward must return a gradient for each of 2 arrays "
            "(None where there is none), got an ndarray of shape [1, 3]",
        ),
        (
            [X, "no"],
            2,
            TypeError,
            "check_backward: what backward returned for an array must be an ndarray, got a str",
        ),
    ],
)
def test_what_backward_must_not_return(returned, inputs, error, text):
    with pytest.raises(error) as caught:
        Manual(None, lambda *_: returned).backward(None, [X], inputs)
    assert str(caught.value) == text


def test_an_error_of_their_own_says_whose_it_is():
    manual = Manual(fails, fails)
    for name, call in (
        ("forward", lambda: manual.forward([X])),
        ("backward", lambda: manual.backward(None, [X], 1)),
    ):
        with pytest.raises(RaisedError) as caught:
            call()
        assert str(caught.value) == f"{name} raised KeyError: 'at night'"
        assert isinstance(caught.value.__cause__, KeyError)


# The reference


def two(x, k, unused):
    """Outputs of floats, of integers, and one that needs no gradient."""
    return x * x * k, k + 1, torch.ones(2)


K = np.array([[3, 1, -1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_references_outputs_and_gradients(dtype):
    x, unused, dy = X.astype(dtype), np.ones((2, 1), dtype), np.array([[2.0, 1.0, -0.5]], dtype)
    reference = Reference(two)
    doutputs = [dy, None, np.ones(2, np.float32)]
    outputs, (first, second) = reference.gradients(
        [x, K, unused], doutputs, [-dy, None, np.ones(2, np.float32)]
    )
    for found in (outputs, reference.outputs([x, K, unused])):
        assert [y.dtype for y in found] == [dtype, np.int64, np.float32]
        for y, right in zip(found, (x * x * K, K + 1, np.ones(2)), strict=True):
            np.testing.assert_array_equal(y, right)
    for slopes, sign in ((first, 1), (second, -1)):
        assert slopes[1] is None
        np.testing.assert_array_equal(slopes[0], sign * 2 * x * K * dy)
        np.testing.assert_array_equal(slopes[2], np.zeros((2, 1)))
        assert {slopes[0].dtype, slopes[2].dtype} == {np.dtype(dtype)}


def test_a_cotangent_of_fewer_digits_is_taken_as_it_is():
    dy = np.array([[0.5, 3.0, -1.0]], np.float32)
    _, [[found]] = Reference(lambda x: x**3).gradients([X], [dy])
    np.testing.assert_array_equal(found, 3 * X**2 * dy)
    assert found.dtype == np.float64


def test_gradients_where_nothing_needs_one_are_zeros():
    x = X.astype(np.float32)
    _, [found] = Reference(lambda x, k, z: k + 1).gradients([x, K, X[0]], [None])
    assert found[1] is None
    for g, right in ((found[0], x), (found[2], X[0])):
        assert (g.dtype, g.shape) == (right.dtype, right.shape)
        assert not g.any()


def test_gradients_are_there_also_within_no_grad():
    with torch.no_grad():
        _, [[found]] = Reference(torch.square).gradients([X], [np.ones_like(X)])
        assert Reference(Mine.apply).handwritten([X])
    np.testing.assert_array_equal(found, 2 * X)


def test_the_outputs_alone_make_no_graph():
    seen = []

    def function(x):
        seen.append((torch.is_grad_enabled(), x.requires_grad))
        return [x]

    Reference(function).outputs([X])
    assert seen == [(False, False)]


@pytest.mark.parametrize(
    ("returned", "what"), [(1.0, "a float"), ((torch.ones(1), X), "an ndarray of shape [1, 3]")]
)
def test_what_the_reference_must_not_return(returned, what):
    with pytest.raises(TypeError) as caught:
        Reference(lambda x: returned).outputs([X])
    assert str(caught.value) == (
        f"check_backward: reference must return a tensor or a tuple of tensors, got {what}"
    )


class Mine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return dy


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 2 * x, False),
        (lambda x: Mine.apply(x), True),
        (lambda x: (2 * x, 3 * Mine.apply(x)), True),
        (lambda x: (3 * Mine.apply(x), 2 * x), True),
        (lambda x: x.exp() + (Mine.apply(2 * x) + 1).exp(), True),
        (lambda x: (Mine.apply(2 * x) + 1).exp() + x.exp(), True),
        (lambda x: x.exp() + x.exp().detach() + Mine.apply(x).detach(), False),
        (lambda x: (torch.ones(2), x.long()), False),
        (lambda x: x, False),
    ],
)
def test_a_gradient_is_handwritten_where_somebodys_function_takes_part(function, expected):
    assert Reference(function).handwritten([X]) is expected


def test_a_graph_in_which_many_ways_lead_to_the_same_node_is_walked_once():
    def doubled(x):
        for _ in range(64):
            x = x + x
        return x

    assert not Reference(doubled).handwritten([X])
