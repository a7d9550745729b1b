"""`check_backward`: what it takes, what it gives, and what is right passes."""

import numpy as np
import pytest
import torch

from compare import EquivalenceError, check_backward
from compare.backward.check import REASONS
from tests.compare.backward_pairs import (
    PAIRS,
    draw,
    first_failure,
    raises,
    scale_backward,
    scale_forward,
    tanh_backward,
    tanh_forward,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_pairs_are_right(pair, dtype):
    forward, backward, reference, shapes = PAIRS[pair]
    comparison = check_backward(forward, backward, reference, *draw(*shapes, dtype=dtype))
    assert comparison.passed
    assert comparison.blame is None
    assert (comparison.frame.verdict == "ok").all()
    assert (comparison.frame.dtype == np.dtype(dtype).name).all()
    assert (comparison.frame.allowed <= 1e3 * np.finfo(dtype).eps).all()


# Several outputs, scalars, inputs that do not matter, dtypes.


def moments_backward(x, dfirst, dsecond):
    return (dfirst + 2 * x * dsecond) / len(x)


def moments_forward(x):
    return (x.mean(0), (x * x).mean(0)), x


def moments_in_torch(x):
    return x.mean(0), (x * x).mean(0)


def test_several_outputs():
    comparison = check_backward(moments_forward, moments_backward, moments_in_torch, *draw((4, 3)))
    names = list(comparison.frame["name"])
    assert names[:4] == ["output.0", "output.1", "x (unchanged)", "d_x"]
    assert "d_output.1 (unchanged by backward)" in names
    for wrong in (
        lambda x, du, dv: (dv + 2 * x * du) / len(x),
        lambda x, du, dv: (np.zeros_like(x) + du) / len(x),
        lambda x, du, dv: 2 * x * dv / len(x),
    ):
        found, _ = first_failure(moments_forward, wrong, moments_in_torch, *draw((4, 3)))
        assert found == ("d_x", "mismatch", "manual")


def test_an_output_of_integers_has_no_cotangent():
    seen = []

    def forward(x):
        return (x.max(1), x.argmax(1)), (x.shape, x.argmax(1))

    def backward(saved, dlargest, dat):
        seen.append(dat)
        dx = np.zeros(saved[0], dlargest.dtype)
        np.put_along_axis(dx, saved[1][:, None], dlargest[:, None], 1)
        return dx

    assert check_backward(forward, backward, lambda x: tuple(x.max(1)), *draw((4, 3))).passed
    assert all(d is None for d in seen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scalars(dtype):
    """A sum over all, a 0-d array, and NumPy's own scalars, which sums are."""

    def forward(x, a):
        return a * x.sum(), (x, a)

    def backward(saved, dy):
        x, a = saved
        assert isinstance(dy, np.ndarray)
        return np.full_like(x, dy * a), dy * x.sum()

    def reference(x, a):
        return a * x.sum()

    x, a = draw((4, 3), (), dtype=dtype)
    assert check_backward(forward, backward, reference, x, a).passed
    cube = (lambda x: (x**3, x), lambda x, dy: 3 * dy * x * x, lambda x: x**3)
    comparison = check_backward(*cube, a)
    assert next(iter(comparison.frame["shape"])) == ()
    found, _ = first_failure(forward, lambda s, dy: (backward(s, dy)[0], dy), reference, x, a)
    assert found == ("d_x.1", "mismatch", "manual")


def test_an_input_that_does_not_matter_has_a_gradient_of_zeros_that_is_declared():
    arrays = draw((4, 3), (3,))
    pair = (
        lambda x, w: (2 * x, w),
        lambda w, dy: (2 * dy, np.zeros_like(w)),
        lambda x, w: 2 * x,
    )
    found, comparison = first_failure(*pair, *arrays)
    assert found[:2] == ("d_x.1", "vacuous")
    assert comparison.blame is None
    assert check_backward(*pair, *arrays, allow_vacuous=["d_x.1"]).passed
    assert check_backward(*pair, *arrays, allow_vacuous=["d_*"]).passed
    with pytest.raises(EquivalenceError):
        check_backward(*pair, *arrays, allow_vacuous=["d_x.0"])
    found, _ = first_failure(
        pair[0], lambda w, dy: (2 * dy, None), pair[2], *arrays, allow_vacuous=["d_*"]
    )
    assert found == ("d_x.1", "missing", "manual")


def test_float32_and_float64_may_be_mixed():
    x, w = draw((4, 3), (3,))
    x = x.astype(np.float32)

    def backward(saved, dy):
        x, w = saved
        return (dy * w).astype(x.dtype), (dy * x).sum(0)

    frame = check_backward(scale_forward, backward, torch.mul, x, w).frame.set_index("name")
    assert frame.dtype["output"] == frame.dtype["d_x.1"] == "float64"
    assert frame.dtype["d_x.0"] == "float32"
    found, _ = first_failure(scale_forward, scale_backward, torch.mul, x, w)
    assert found == ("d_x.0", "dtype", "manual")


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_of_thousands_whatever_the_size(dtype, size):
    """Equal terms of one sign, where all roundings have one sign, and terms that cancel."""
    g = np.random.default_rng(0)
    for x in (np.full((5000, 2), 0.1), g.normal(size=(5000, 2))):
        x = (x * size).astype(dtype)
        pair = (lambda x: (np.cumsum(x, 0)[-1], x), lambda x, dy: np.zeros_like(x) + dy)
        assert check_backward(*pair, lambda x: x.sum(0), x).passed
        broadcast = (
            lambda b, n: (b + np.zeros((len(n), 2), b.dtype), n),
            lambda n, dy: (np.cumsum(dy, 0)[-1], None),
            lambda b, n: b + torch.zeros((len(n), 2), dtype=b.dtype),
        )
        b = np.array([size, -size], dtype)
        assert check_backward(*broadcast, b, np.zeros(5000, np.int64)).passed
        if size == 1:
            found, _ = first_failure(
                pair[0], lambda x, dy: np.zeros_like(x) + dy * dtype(1.001), lambda x: x.sum(0), x
            )
            assert found == ("d_x", "mismatch", "manual")


def test_another_way_to_compute_may_lose_digits_where_the_wider_dtype_has_them():
    """y (1 − y) of numbers near 1 keeps few of them; 1 % too much is no rounding."""
    x = np.linspace(5, 12, 50).astype(np.float32)

    def forward(x):
        y = 1 / (1 + np.exp(-x))
        return y, y

    def composed(x):
        return 1 / (1 + torch.exp(-x))

    check_backward(forward, lambda y, dy: dy * y * (1 - y), composed, x)
    factor = np.float32(1.01)
    found, _ = first_failure(
        forward, lambda y, dy: factor * dy * y * (1 - y), composed, x.astype(np.float64)
    )
    assert found[0] == "d_x"
    found, _ = first_failure(forward, lambda y, dy: factor * dy * y * (1 - y), composed, x)
    assert found == ("d_x", "mismatch", "manual")


def test_digits_lost_by_the_way_of_computing_are_not_forgiven_beyond_half():
    """x = (x + c) − c keeps five digits of float32 for c = 100, and two for c = 10⁵."""

    def pair(c):
        return lambda x: ((x + c) - c, None), lambda _, dy: dy, lambda x: 1 * x

    (x,) = draw((4, 3), dtype=np.float32)
    assert check_backward(*pair(100), x).passed
    found, _ = first_failure(*pair(100_000), x)
    assert found == ("output", "mismatch", "manual")


def test_one_that_computes_in_float32_only_is_checked_all_the_same():
    def forward(x):
        x = x.astype(np.float32)
        return np.tanh(x), np.tanh(x)

    (x,) = draw((4, 3), dtype=np.float32)
    assert check_backward(forward, tanh_backward, torch.tanh, x).passed
    found, comparison = first_failure(
        forward, lambda y, dy: 2 * tanh_backward(y, dy), torch.tanh, x
    )
    assert found == ("d_x", "mismatch", "manual")
    assert np.isfinite(comparison.failures.iloc[0].oracle)
    x = np.float32([0.5, 1.25, -3])  # squared without an error: the values alone do not tell
    found, comparison = first_failure(
        lambda x: (np.square(x.astype(np.float32)), x),
        lambda x, dy: dy * x * np.float32(2.00002),
        torch.square,
        x,
    )
    assert found == ("d_x", "mismatch", "manual")
    row = comparison.failures.iloc[0]
    assert abs(row.oracle - row.torch) <= 1e-9


# What is given and what is said.


def test_what_is_given_stays_as_it_is():
    arrays = draw((4, 3), (3,))
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    check_backward(scale_forward, scale_backward, torch.mul, *arrays)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_the_seed_draws_the_cotangents():
    def drawn(seed):
        seen = []

        def backward(saved, dy):
            seen.append(dy.copy())
            return scale_backward(saved, dy)

        check_backward(scale_forward, backward, torch.mul, *draw((4, 3), 3), seed=seed)
        return seen

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])
    u, v = first[1:3]
    assert not np.array_equal(u, v)
    for dy in (u, v):
        assert (np.abs(dy) >= 1 / 8).all()
        assert (dy > 0).any()
        assert (dy < 0).any()
        assert np.array_equal(dy, dy.astype(np.float32))
        assert len(np.unique(dy)) > 6


def test_the_message_has_the_row_the_seed_and_what_was_raised():
    _, comparison = first_failure(
        *raises(scale_forward, scale_backward), torch.mul, *draw((4, 3), 3), seed=7
    )
    text = str(comparison)
    assert "backward raised ZeroDivisionError: a mistake" in text
    assert "seed 7" in text
    assert "first: step 1, d_x.0" in text


def test_every_row_has_a_reason():
    comparison = check_backward(*PAIRS["norm"][:3], *draw(*PAIRS["norm"][3]))
    frame = comparison.frame
    assert set(comparison.reasons) == {(1, name) for name in frame["name"]}
    assert frame["name"].is_unique
    assert set(comparison.reasons.values()) == set(REASONS.values())


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "no array of float32 or float64", {"arrays": []}),
        (ValueError, "no array of float32", {"arrays": [np.arange(3)]}),
        (TypeError, "array 1 must be an ndarray, got list", {"arrays": [np.ones(3), [1.0]]}),
        (TypeError, "array 0 must be an ndarray, got Tensor", {"arrays": [torch.ones(3)]}),
        (TypeError, "got float16", {"arrays": [np.ones(3, np.float16)]}),
        (TypeError, "got complex128", {"arrays": [np.ones(3, complex)]}),
        (ValueError, r"array 0 has no elements \(shape \[0, 3\]\)", {"arrays": [np.ones((0, 3))]}),
        (ValueError, "array 0 has an element that is not finite", {"arrays": [np.array([np.nan])]}),
        (TypeError, "must return a pair.*got an ndarray of shape", {"forward": np.tanh}),
        (TypeError, "must return a pair.*got a tuple of 3", {"forward": lambda x: (x, x, x)}),
        (TypeError, "an output of forward must be an ndarray", {"forward": lambda x: (1.0, x)}),
        (ValueError, "forward returned no output", {"forward": lambda x: ((), x)}),
        (ValueError, "forward returned 2 outputs, reference 1", {"forward": lambda x: ((x, x), x)}),
        (ValueError, "each of 1 arrays.*got a tuple of 2", {"backward": lambda s, dy: (dy, dy)}),
        (TypeError, "backward returned.*got a float", {"backward": lambda s, dy: 1.0}),
        (TypeError, "must return a tensor", {"reference": lambda x: 1.0}),
        (
            ValueError,
            "must run in float64",
            {
                "arrays": [np.ones((2, 2), np.float32)],
                "reference": lambda x: torch.tanh(x) @ torch.eye(2),
            },
        ),
        (TypeError, "allow_vacuous must be a list", {"allow_vacuous": "d_x"}),
    ],
)
def test_bad_usage_is_one_clear_error(error, message, change):
    given = {
        "forward": tanh_forward,
        "backward": tanh_backward,
        "reference": torch.tanh,
        "arrays": draw((4, 3)),
    } | change
    arrays = given.pop("arrays")
    functions = (given.pop(name) for name in ("forward", "backward", "reference"))
    with pytest.raises(error, match=message):
        check_backward(*functions, *arrays, **given)


def test_a_gradient_for_each_of_several_arrays():
    with pytest.raises(ValueError, match=r"each of 2 arrays.*got an ndarray"):
        check_backward(scale_forward, lambda s, dy: dy, torch.mul, *draw((4, 3), 3))


def test_an_error_of_forward_comes_out_as_it_is():
    def forward(x):
        raise ZeroDivisionError("of my own")

    with pytest.raises(ZeroDivisionError, match="of my own"):
        check_backward(forward, tanh_backward, torch.tanh, *draw((4, 3)))
