"""Ball arithmetic: no bound below what moved operands and float32 can do, none far above."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.rounding import Ball, Rounding

SINGLE = Rounding.of(np.dtype(np.float32))
NONE = Rounding(0.0, 0.0)
U = 2.0**-24
DRAWS = 200
# A float64 bound has its own rounding, of the 10⁻¹⁵ of what it was computed from.
OWN = 1 + 1e-14


def test_an_error_has_the_shape_of_its_value():
    for e in (0.5, np.full(3, 0.5), np.full((2, 3), 0.5)):
        found = Ball(np.ones((2, 3)), e, SINGLE).e
        assert np.array_equal(found, np.full((2, 3), 0.5))


def operand(g, shape=(30,)):
    """A Ball of float32 values over many sizes, some 0, with errors from none to larger than it."""
    size = 10 ** g.uniform(-4, 4, shape) * (g.random(shape) < 0.95)
    value = (size * g.choice([-1, 1], shape)).astype(np.float32).astype(np.float64)
    share = g.choice([0, 1e-7, 1e-4, 0.1, 3], shape)
    return Ball(
        value, share * np.where(value == 0, g.choice([0, 1e-3], shape), np.abs(value)), SINGLE
    )


def moved(g, ball):
    """A float32 value of one side: anywhere in the Ball, often at its ends."""
    by = ball.e * np.clip(g.uniform(-2, 2, ball.value.shape), -1, 1)
    side = (ball.value + by).astype(np.float32)
    inside = np.abs(side.astype(np.float64) - ball.value) <= ball.e
    return np.where(inside, side, ball.value.astype(np.float32))


def clean(f):
    """f with what overflows or is not defined as NaN, without a word."""

    def quietly(*args):
        with np.errstate(all="ignore"):
            return f(*args)

    return quietly


BINARY = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "/": (clean(lambda a, b: a / b), clean(lambda a, b: a / b)),
    "maximum": (Ball.maximum, np.maximum),
}
UNARY = {
    "-": (lambda a: -a, lambda a: -a),
    "0.3 *": (lambda a: 0.3 * a, lambda a: np.float32(0.3) * a),
    "1 *": (lambda a: 1 * a, lambda a: a),
    "array *": (
        lambda a: np.linspace(-2, 2, 30) * a,
        lambda a: np.linspace(-2, 2, 30).astype(np.float32) * a,
    ),
    "plus": (lambda a: a.plus(0.3), lambda a: a + np.float32(0.3)),
    "sum": (lambda a: a.sum(0), lambda a: a.sum(0, keepdims=True)),
    "running sum": (lambda a: a.sum(0), lambda a: np.cumsum(a, 0, np.float32)[-1:]),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", BINARY)
def test_no_operation_on_two_balls_leaves_its_ball(name, seed):
    of_balls, of_numbers = BINARY[name]
    g = np.random.default_rng(seed)
    a, b = operand(g), operand(g)
    defined = (b.value != 0) | (name != "/")
    found = of_balls(a, b)
    np.testing.assert_array_equal(found.value[defined], of_numbers(a.value, b.value)[defined])
    for _ in range(DRAWS):
        side = of_numbers(moved(g, a), moved(g, b)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            inside = np.abs(side - found.value) <= found.e * OWN
        assert (inside | (found.e == np.inf) | ~defined).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", UNARY)
def test_no_operation_on_one_ball_leaves_its_ball(name, seed):
    of_balls, of_numbers = UNARY[name]
    g = np.random.default_rng(seed)
    a = operand(g)
    found = of_balls(a)
    for _ in range(DRAWS):
        side = of_numbers(moved(g, a)).astype(np.float64)
        assert (np.abs(side - found.value) <= found.e * OWN).all()


def test_a_square_root_of_a_ball_that_contains_0_stays_in_it():
    g = np.random.default_rng(0)
    value = np.array([0.0, 1e-12, 1e-6, 1.0, 4.0, 1e8])
    for e in (0 * value, 1e-6 * value, value, 0 * value + 1e-7, 5 * value):
        found = Ball(value, e, SINGLE).sqrt()
        for _ in range(DRAWS):
            side = np.sqrt(np.maximum(value + e * g.choice([-1, 0, 1, g.uniform()], 6), 0))
            rounded = side.astype(np.float32).astype(np.float64)
            assert (np.abs(rounded - np.sqrt(value)) <= found.e * OWN).all()
    # e near 0 counts fully: from 0 ± 10⁻⁸ to 10⁻⁴, and far from 0 as its derivative says
    np.testing.assert_allclose(Ball(np.array([0.0]), np.array([1e-8]), NONE).sqrt().e, 1e-4)
    np.testing.assert_allclose(
        Ball(np.array([4.0]), np.array([1e-6]), NONE).sqrt().e, 0.25e-6, rtol=1e-6
    )


def test_a_quotient_by_what_may_be_0_is_unbounded_unless_it_is_0_for_certain():
    def e(a, ea, b, eb):
        balls = (Ball(np.array([v]), np.array([d]), SINGLE) for v, d in ((a, ea), (b, eb)))
        return (next(balls) / next(balls)).e[0]

    assert e(1.0, 0.0, 1.0, 1.0) == np.inf
    assert e(1.0, 0.0, 1.0, 2.0) == np.inf
    assert e(0.0, 1e-9, 1.0, 1.0) == np.inf
    assert e(0.0, 0.0, 1.0, 2.0) == 0
    assert e(0.0, 0.0, 0.0, 0.0) == 0
    np.testing.assert_allclose(e(1.0, 0.0, 1.0, 0.5), 1.0, rtol=1e-6)  # 1 / 0.5 − 1
    np.testing.assert_allclose(e(1.0, 0.0, -1.0, 0.5), 1.0, rtol=1e-6)
    np.testing.assert_allclose(e(3.0, 0.5, 2.0, 0.0), 0.25, rtol=1e-6)


def test_the_errors_are_those_of_the_worst_operands():
    """With nothing rounded, the bound is reached by an end of each operand."""
    a, b = (Ball(np.array([v]), np.array([e]), NONE) for v, e in ((3.0, 0.25), (-2.0, 0.5)))
    ends = [(x, y) for x in (2.75, 3.25) for y in (-2.5, -1.5)]
    for name, (of_balls, of_numbers) in BINARY.items():
        if name == "maximum":
            continue
        worst = max(abs(of_numbers(*at) - of_numbers(3.0, -2.0)) for at in ends)
        np.testing.assert_allclose(of_balls(a, b).e, worst, err_msg=name)
    assert a.maximum(b).e == 0.5
    assert (-a).e == (1 * a).e == a.plus(7.0).e == 0.25
    assert (-0.5 * a).e == 0.125


def test_every_operation_counts_its_roundings():
    exact = Rounding(u=U, tiny=0.0)
    a, b = Ball(np.array([3.0]), np.zeros(1), exact), Ball(np.array([-2.0]), np.zeros(1), exact)
    for found, size in (
        (a + b, 1),
        (a - b, 5),
        (a * b, 6),
        (a / b, 1.5),
        (a.sqrt(), 3**0.5),
        (0.3 * a, 2 * 0.9),  # of 0.3, and of the product
        (a.plus(-2.5), 2.5 + 0.5),  # of 2.5, and of the sum
        (1 * a, 0),
        (-a, 0),
        (a.maximum(b), 0),
        (a.sum(0), 3),
    ):
        np.testing.assert_allclose(found.e, size * U, rtol=1e-6)
    # … relative to what the side itself has, which may be far larger
    wide = Ball(np.array([3.0]), np.array([1e9]), exact)
    np.testing.assert_allclose((wide + b).e - 1e9, (1 + 1e9) * U, rtol=1e-6)


@given(st.integers(1, 2000), st.sampled_from([1e-6, 1.0]), st.integers(0, 99))
def test_a_sum_has_the_errors_of_its_terms_and_its_own(n, share, seed):
    g = np.random.default_rng(seed)
    value = g.normal(size=(2, n, 3))
    found = Ball(value, share * np.abs(value), SINGLE).sum((0, 1))
    assert found.value.shape == (1, 1, 3)
    size = np.abs(value).sum((0, 1))
    roundings = min(2 * n, 6 * np.sqrt(2 * n))
    np.testing.assert_allclose(found.e[0, 0], (share + roundings * U) * size)


def test_a_limit_holds_for_either_side():
    value, e = np.array([0.5, -0.5, 0.0, 0.9]), np.array([np.inf, 1.0, 0.1, np.inf])
    within = Ball(value, e, NONE).within(np.array([2.0, 2.0, 2.0, 1.0]))
    np.testing.assert_array_equal(within.e, [2.5, 1.0, 0.1, 1.9])
    np.testing.assert_array_equal(within.value, value)


def test_one_error_may_be_that_of_all_elements():
    ball = Ball(np.ones((2, 3)), 0.5, SINGLE)
    np.testing.assert_array_equal(ball.e, np.full((2, 3), 0.5))
    np.testing.assert_array_equal(Ball(np.array(2.0), 0.5, SINGLE).e, 0.5)


def test_what_underflows_may_be_lost():
    """10⁻³⁰ · 10⁻³⁰ is 0 in float32, and so are the products by numbers and the quotients."""
    a, b = (Ball(np.array([v]), np.zeros(1), SINGLE) for v in (1e-30, 1e30))
    for found in (a * a, 1e-30 * a, a / b):
        assert found.value[0] <= found.e[0] <= 2e-38
    zero = Ball(np.zeros(1), np.zeros(1), SINGLE)
    for found in (zero * a, 2.5 * zero, zero / b, zero * zero):
        assert found.e == 0
    assert SINGLE.flushed(np.array([0.0, 1e-50])).tolist() == [0.0, 1e-50 + SINGLE.tiny]


def test_a_sum_is_allowed_no_more_than_one_roundoff_for_each_term():
    assert SINGLE.u == U
    assert SINGLE.libm == 8 * U
    assert SINGLE.sum(3) == 3 * U
    assert SINGLE.sum(10_000) == 600 * U
    double = Rounding.of(np.dtype(np.float64))
    assert (double.u, double.tiny) == (2.0**-53, np.finfo(np.float64).tiny)
