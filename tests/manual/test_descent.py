"""Steepest descent and Newton–Raphson: closed forms, exact elimination, and what they refuse."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import manual
from manual.checks import DtypeError, InputError
from manual.descent import _solve, newton_raphson, steepest_descent

RNG = np.random.default_rng
FLOATS = [np.float32, np.float64, np.longdouble]
QUARTIC = np.array([3.0, 5.0, -20.0, 8.0, 10.0])  # the lecture's f, the highest power first


def d_quartic(x):
    return ((12 * x + 15) * x - 40) * x + 8


def d2_quartic(x):
    return (36 * x + 30) * x - 40


def bowl(seed, d, dtype=np.float64):
    """(A, b) with A symmetric and eigenvalues in 1 … 3: ½ xᵀAx − bᵀx has its minimum at A⁻¹ b."""
    rng = RNG(seed)
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    a = (q * np.linspace(1, 3, d)) @ q.T
    return ((a + a.T) / 2).astype(dtype), rng.normal(size=d).astype(dtype)


def test_public_names():
    assert manual.steepest_descent is steepest_descent is manual.descent.steepest_descent
    assert manual.newton_raphson is newton_raphson is manual.descent.newton_raphson


# Steepest descent


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("start", [3.0, -0.5])
def test_one_variable_in_closed_form(dtype, start):
    """f = ½ x²: x_k = (1 − lr)^k x_0, exact for lr = ¼ as long as the digits last (3^k 2^-2k)."""
    down = steepest_descent(lambda x: x, dtype(start), lr=0.25, tolerance=0, max_iterations=12)
    assert down.trace.dtype == down.x.dtype == dtype
    assert down.trace.tolist() == [start * 0.75**k for k in range(13)]
    assert down.x == down.trace[-1]
    assert np.shape(down.x) == ()
    assert (down.iterations, down.reason, down.converged) == (12, "iteration limit", False)
    assert down.kind is None


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_several_variables(dtype, d, layout):
    a, b = bowl(d, d, dtype)
    start = layout(np.linspace(-2, 3, d).astype(dtype))
    down = steepest_descent(lambda x: a @ x - b, start, lr=0.4, tolerance=1e-6)
    assert down.trace.dtype == down.x.dtype == dtype
    assert down.trace.shape == (down.iterations + 1, d)
    assert np.array_equal(down.trace[0], start)
    assert np.array_equal(down.trace[-1], down.x)
    eps = np.finfo(dtype).eps
    before, after = down.trace[:-1], down.trace[1:]
    # lr times d products of size |A||x| <= 10, and the subtraction
    expected = before - dtype(0.4) * (before @ a.T - b)
    assert np.abs(after - expected).max() <= 10 * (d + 3) * eps
    # the last step 0.4 |A (x − x*)| <= 1e-6 by component; |A| >= 1
    minimum = np.linalg.solve(a.astype(np.float64), b.astype(np.float64))
    assert np.linalg.norm(down.x - minimum) <= 1e-6 * math.sqrt(d) / 0.4 + 100 * eps
    assert down.reason == "converged"
    steps = np.abs(np.diff(down.trace, axis=0)).max(axis=1)
    assert steps[-1] <= 1e-6 < steps[:-1].min()


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 100),
    st.floats(0.05, 3).filter(lambda v: abs(v - 2) > 0.05),
    st.floats(-5, 5).filter(lambda v: abs(v) > 0.01),
)
def test_converges_exactly_where_lr_times_curvature_is_below_two(curvature, product, start):
    """The error is multiplied by 1 − lr λ: after 500 steps by at most 0.95^500 < 1e-11."""
    lr = product / curvature
    down = steepest_descent(lambda x: curvature * x, start, lr=lr, max_iterations=700)
    if product < 2:
        assert down.reason == "converged"
        assert abs(down.x) <= 1.001e-8 / product
    else:
        assert down.reason == "diverged"
        assert abs(down.x) > 1e10 >= np.abs(down.trace[:-1]).max()


def test_stops_where_the_step_is_the_tolerance():
    def run(tolerance):
        return steepest_descent(lambda x: 1.0, 2.0, lr=0.25, tolerance=tolerance, max_iterations=3)

    assert run(0.25)[2:4] == (1, "converged")
    assert run(np.nextafter(0.25, 0))[2:4] == (3, "iteration limit")
    assert run(0.3).trace.tolist() == [2, 1.75]
    with_two = steepest_descent(
        lambda x: np.array([1.0, -8.0]), np.zeros(2), lr=0.25, tolerance=1, max_iterations=3
    )
    assert with_two.reason == "iteration limit"


def test_a_stationary_start():
    down = steepest_descent(lambda x: -x, 0.0, lr=0.1, tolerance=0)
    assert (down.x, down.iterations, down.reason) == (0, 1, "converged")


def test_default_limits():
    """1e-8 on the step, 10,000 iterations, 1e10 on the iterates."""
    slow = steepest_descent(lambda x: -1.0, 0.0, lr=1.0)
    assert slow[2:4] == (10_000, "iteration limit")
    assert steepest_descent(lambda x: 1e-8, 0.0, lr=1.0).reason == "converged"
    assert steepest_descent(lambda x: 1.01e-8, 0.0, lr=1.0).reason == "iteration limit"
    assert steepest_descent(lambda x: -1e10 if x == 0 else 0.0, 0.0, lr=1.0).converged
    assert steepest_descent(lambda x: -1.01e10, 0.0, lr=1.0)[2:4] == (1, "diverged")
    slow = newton_raphson(lambda x: -1.0, lambda x: 1.0, 0.0)
    assert slow[2:4] == (100, "iteration limit")
    assert newton_raphson(lambda x: 1e-8, lambda x: 1.0, 0.0).converged
    assert not newton_raphson(lambda x: 1.01e-8, lambda x: 1.0, 0.0).converged
    assert newton_raphson(lambda x: -1.01e10, lambda x: 1.0, 0.0)[2:4] == (1, "diverged")


def test_divergence_beyond_the_limit():
    """x ← −2x. Neither sign nor a component may hide it, and at the limit is not beyond it."""
    down = steepest_descent(lambda x: 3 * x, 1.0, lr=1.0, limit=64)
    assert down.trace.tolist() == [1, -2, 4, -8, 16, -32, 64, -128]
    assert (down.x, down.iterations, down.reason) == (-128, 7, "diverged")
    down = steepest_descent(lambda x: x * [0.5, 3], np.array([5.0, 1]), lr=1.0, limit=64)
    assert (down.x[1], down.iterations, down.reason) == (-128, 7, "diverged")


@pytest.mark.parametrize("dtype", FLOATS)
def test_divergence_until_nothing_is_finite(dtype):
    """x ← −2x: the trace has all that was finite, up to the largest power of two."""
    top = np.finfo(dtype).maxexp - 1
    down = steepest_descent(lambda x: 3 * x, dtype(1), lr=1.0, limit=np.inf, max_iterations=20_000)
    assert down.reason == "diverged"
    assert np.isfinite(down.trace).all()
    assert abs(down.x) == dtype(2) ** top  # 3x = 1.5 · 2^(top + 1) is not finite
    assert down.iterations == top
    both = steepest_descent(
        lambda x: np.stack([x[0], 3 * x[1]]),
        np.ones(2, dtype),
        lr=1.0,
        limit=np.inf,
        max_iterations=20_000,
    )
    assert (both.reason, both.iterations) == ("diverged", top)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite(value):
    for gradient in (lambda x: value, lambda x: np.float64(value)):
        down = steepest_descent(gradient, 2.0, lr=0.1)
        assert (down.x, down.trace.tolist(), down.reason) == (2, [2], "diverged")
    down = steepest_descent(lambda x: np.array([0, value]), np.ones(2), lr=0.1)
    assert (down.x.tolist(), down.iterations, down.reason) == ([1, 1], 0, "diverged")
    for g, h in ((value, 1.0), (1.0, value)):
        newton = newton_raphson(lambda x, g=g: g, lambda x, h=h: h, 2.0)
        assert (newton.x, newton.iterations, newton.reason) == (2, 0, "diverged")
        newton = newton_raphson(
            lambda x, g=g: np.full(2, g), lambda x, h=h: np.diag([h, 1.0]), np.ones(2)
        )
        assert (newton.x.tolist(), newton.iterations, newton.kind) == ([1, 1], 0, None)


def test_an_overflow_error_counts_as_divergence():
    down = steepest_descent(lambda x: -math.exp(x), 1.0, lr=1.0, limit=np.inf)
    assert down.reason == "diverged"
    assert down.x > 709
    down = steepest_descent(
        lambda x: np.array([-math.exp(x[0]), 0.0]), np.array([1.0, 0]), lr=1.0, limit=np.inf
    )
    assert down.reason == "diverged"
    newton = newton_raphson(lambda x: 1.0, lambda x: math.exp(x), 1000.0)
    assert (newton.reason, newton.iterations) == ("diverged", 0)


def test_the_lectures_quartic_by_steepest_descent():
    """Which minimum depends on the start; the error is at most the last step over lr f''."""
    left, top, right = np.sort(np.roots(np.polyder(QUARTIC)))
    assert d2_quartic(left) > 0 > d2_quartic(top)
    for start, end in ((-3.0, left), (-1.0, left), (0.2, left), (0.25, right), (2.0, right)):
        down = steepest_descent(d_quartic, start, lr=0.01)
        assert down.reason == "converged"
        assert abs(down.x - end) <= 1.1e-8 / (0.01 * d2_quartic(end))


# Newton–Raphson


@pytest.mark.parametrize(
    ("start", "kind"), [(-3.0, "minimum"), (-1.0, "maximum"), (0.0, "maximum"), (2.0, "minimum")]
)
def test_the_lectures_quartic_by_newton(start, kind):
    roots = np.sort(np.roots(np.polyder(QUARTIC)))
    newton = newton_raphson(d_quartic, d2_quartic, start)
    nearest = roots[np.abs(roots - newton.x).argmin()]
    # f' is a sum of four terms of at most 12 |x|³ + … <= 500, each rounded a few times
    assert abs(newton.x - nearest) <= 10 * 500 * 2.2e-16 / abs(d2_quartic(nearest))
    assert (newton.reason, newton.kind) == ("converged", kind)
    x = start
    for k in range(newton.iterations + 1):
        assert newton.trace[k] == x
        x -= d_quartic(x) / d2_quartic(x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_newton_keeps_the_dtype_and_its_digits(dtype):
    """f = x³/3 − 2x has its minimum at √2; the last step's error is squared, so eps is left."""
    eps = np.finfo(dtype).eps
    newton = newton_raphson(lambda x: x * x - 2, lambda x: 2 * x, dtype(3), tolerance=eps**0.5)
    assert newton.trace.dtype == newton.x.dtype == dtype
    assert abs(newton.x - np.sqrt(dtype(2))) <= 2 * eps
    assert newton.kind == "minimum"
    many = newton_raphson(
        lambda x: x * x - [dtype(2), dtype(9)],
        lambda x: np.diag(2 * x),
        np.array([3, -5], dtype),
        tolerance=float(eps**0.5),
    )
    assert many.trace.dtype == many.x.dtype == dtype
    assert many.trace.shape == (many.iterations + 1, 2)
    assert np.abs(many.x - np.array([np.sqrt(dtype(2)), -3])).max() <= 4 * eps
    assert many.kind == "saddle"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", [1, 3, 6])
def test_a_quadratic_takes_one_step(dtype, d):
    """And one more to see that nothing changes. Condition 3: a few eps times d."""
    a, b = bowl(10 + d, d, dtype)
    allowed = 20 * d * np.finfo(dtype).eps
    newton = newton_raphson(
        lambda x: a @ x - b, lambda x: a, np.full(d, 2, dtype), tolerance=float(allowed)
    )
    assert (newton.iterations, newton.kind) == (2, "minimum")
    assert np.abs(a @ newton.trace[1] - b).max() <= 3 * allowed
    newton = newton_raphson(
        lambda x: b - a @ x, lambda x: -a, np.full(d, 2, dtype), tolerance=float(allowed)
    )
    assert newton.kind == "maximum"


def saddle_gradient(x):
    """f = x1² x2 − x1 x2 + x2² / 2: stationary at (0, 0), (1, 0) and (½, ¼)."""
    return np.array([2 * x[0] * x[1] - x[1], x[0] ** 2 - x[0] + x[1]])


def saddle_hessian(x):
    return np.array([[2 * x[1], 2 * x[0] - 1], [2 * x[0] - 1, 1.0]])


@pytest.mark.parametrize(
    ("start", "end", "kind"),
    [
        ((0.1, 0.1), (0, 0), "saddle"),
        ((0.9, -0.1), (1, 0), "saddle"),
        ((0.45, 0.3), (0.5, 0.25), "minimum"),
    ],
)
def test_stationary_points_of_two_variables(start, end, kind):
    newton = newton_raphson(saddle_gradient, saddle_hessian, np.array(start))
    assert (newton.reason, newton.kind) == ("converged", kind)
    assert np.abs(newton.x - end).max() <= 1e-15
    for before, after in zip(newton.trace, newton.trace[1:], strict=False):
        step = np.linalg.solve(saddle_hessian(before), saddle_gradient(before))
        assert np.abs(after - (before - step)).max() <= 1e-14  # condition < 10, numbers < 1


def test_a_zero_second_derivative_says_where():
    with pytest.raises(ZeroDivisionError, match=r"second derivative is 0 at x = 0\.5"):
        newton_raphson(lambda x: x * x - x, lambda x: 2 * x - 1, 0.5)
    with pytest.raises(ZeroDivisionError, match=r"second derivative is 0 at x = -0\.0"):
        newton_raphson(lambda x: x**3, lambda x: 3 * x * x, -0.0)
    with pytest.raises(ZeroDivisionError, match=r"second derivative is 0 at x = 1\.0"):
        newton_raphson(lambda x: -1.0, lambda x: 1 - x, 0.0)  # reached, not started from


@pytest.mark.parametrize(
    "hessian",
    [
        np.zeros((2, 2)),
        np.diag([1.0, 0]),
        np.diag([0.0, 1]),
        np.array([[1.0, 2], [2, 4]]),
        np.array([[0.1, 0.3], [0.3, 0.9]]),  # the second pivot is 5.6e-17 after rounding
        np.array([[0.1, -0.3], [-0.3, 0.9]]),
        np.array([[0.3, 0.7], [0.3, 0.7]]),
    ],
)
def test_a_singular_hessian_says_where(hessian):
    with pytest.raises(ZeroDivisionError, match=r"Hessian is singular at x = \[3\. 4\.\]"):
        newton_raphson(lambda x: x, lambda x: hessian, np.array([3.0, 4.0]))


def test_singular_through_large_products():
    """The last pivot is 0 − P²/1.1 + Q²/0.7 = 0, of which rounding leaves some eps: small beside
    the products it is made of, not beside the entry."""
    p, q = 0.7, 0.7 * math.sqrt(0.7 / 1.1)
    h = np.array([[1.1, 0, p], [0, -0.7, q], [p, q, 0]])
    assert 0 < abs(0 - p / 1.1 * p + q / 0.7 * q) < 1e-15
    with pytest.raises(ZeroDivisionError, match="singular"):
        newton_raphson(lambda x: x, lambda x: h, np.ones(3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_bad_scaling_is_not_singular(dtype):
    h = np.diag(np.array([1e20, 1e-3, 1e-20], dtype))
    newton = newton_raphson(lambda x: h @ x, lambda x: h, np.ones(3, dtype))
    assert newton.trace[1].tolist() == [0, 0, 0]
    tall = np.array([[0, 1], [1, 1e20]], dtype)  # its rows change places, and so must their sizes
    assert _solve(tall, np.ones(2, dtype))[1] == 1


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int64, (4, 4), elements=st.integers(-4, 4)), st.sampled_from(FLOATS))
def test_elimination_against_exact_fractions(whole, dtype):
    """Singular exactly where the determinant is 0. Otherwise: the entries are at most 4, so the
    inverse is at most 3! 4³ / 1, and elimination rounds some 4³ products of size <= 4 · 2³."""
    right = np.array([1, -2, 3, 5])
    solved = _solve(whole.astype(dtype), right.astype(dtype))
    exact = exact_solution(whole, right)
    assert (solved is None) == (exact is None)
    if exact is not None:
        assert solved.dtype == dtype
        size = max(1.0, *map(abs, exact))
        inverse = max(1.0, float(np.abs(np.linalg.inv(whole)).sum(axis=1).max()))
        allowed = 4**3 * 32 * inverse * size * np.finfo(dtype).eps
        assert np.abs(solved - np.array(exact, dtype)).max() <= allowed


def exact_solution(matrix, right):
    rows = [[Fraction(int(v)) for v in (*row, b)] for row, b in zip(matrix, right, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(n):
            if i != k:
                rows[i] = [v - rows[i][k] * p for v, p in zip(rows[i], rows[k], strict=True)]
    return [float(row[n]) for row in rows]


@pytest.mark.parametrize(
    ("gradient", "hessian", "start"),
    [
        (lambda x: x**2, lambda x: 2 * x, 1.0),  # x³/3: an inflection
        (lambda x: x**3, lambda x: 3 * x**2, 1.0),  # x⁴/4: a minimum, but its curvature is 0
        (lambda x: -(x**3), lambda x: -3 * x**2, -1.0),
        (lambda x: x**5, lambda x: 5 * x**4, 1.0),
        (  # x1² + x2⁴: certain along x1 only
            lambda x: np.array([2 * x[0], 4 * x[1] ** 3]),
            lambda x: np.diag([2, 12 * x[1] ** 2]),
            np.array([1.0, 1.0]),
        ),
        (
            lambda x: np.array([-2 * x[0], 4 * x[1] ** 3]),
            lambda x: np.diag([-2, 12 * x[1] ** 2]),
            np.array([1.0, 1.0]),
        ),
    ],
)
def test_no_kind_where_the_curvature_is_zero(gradient, hessian, start):
    newton = newton_raphson(gradient, hessian, start, max_iterations=500)
    assert (newton.reason, newton.kind) == ("converged", "undecided")
    assert np.abs(newton.x).max() <= 1e-7


def test_a_saddle_is_certain_from_two_signs():
    """x1² − x2² + x3⁴."""
    newton = newton_raphson(
        lambda x: np.array([2 * x[0], -2 * x[1], 4 * x[2] ** 3]),
        lambda x: np.diag([2, -2, 12 * x[2] ** 2]),
        np.ones(3),
    )
    assert newton.kind == "saddle"


def test_kind_at_the_end_of_the_scale():
    """Curvatures too large or too small for float64, a Hessian that is not symmetric, one that
    is not finite at the end."""
    for scale in (np.longdouble(1e-300) ** 16, 1 / np.longdouble(1e-300) ** 16):
        if np.isfinite(scale) and scale > 0:  # longdouble may be float64
            h = np.diag(np.array([2, 3], np.longdouble)) * scale
            newton = newton_raphson(
                lambda x, h=h: h @ x, lambda x, h=h: h, np.ones(2, np.longdouble)
            )
            assert newton.kind == "minimum"
    newton = newton_raphson(lambda x: 1e-200 * x, lambda x: 1e-200, 1.0)
    assert newton.kind == "minimum"
    skew = np.array([[1.0, 4], [0, 1]])  # (1, −1) H (1, −1)ᵀ = −2
    assert newton_raphson(lambda x: skew @ x, lambda x: skew, np.ones(2)).kind == "saddle"
    # 0.6 may be 0 after a change by twice 0.4 more; 0.7 changed by 0.3
    for at_end, kind in (
        (np.inf, None),
        (np.nan, None),
        (0.0, None),
        (0.6, None),
        (0.7, "minimum"),
    ):
        newton = newton_raphson(
            lambda x: x, lambda x, v=at_end: v if x == 0 else 1.0, 1.0, tolerance=2
        )
        assert (newton.x, newton.iterations, newton.kind) == (0, 1, kind or "undecided")
        newton = newton_raphson(
            lambda x: x,
            lambda x, v=at_end: np.diag([1.0, 1.0 if x.any() else v]),
            np.ones(2),
            tolerance=2,
        )
        assert newton.kind == (kind or "undecided")


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_kind_from_rounding(dtype):
    """λ = ½ beside 10²⁰ is less than the rounding of either: elimination can use this Hessian,
    but no sign of ½ can be read from its eigenvalues."""
    h = np.array([[1e20, 1e10], [1e10, 1.5]], dtype)
    newton = newton_raphson(
        lambda x: h @ x, lambda x: h, np.array([1e-3, 1], dtype), tolerance=1e-3
    )
    assert (newton.reason, newton.kind) == ("converged", "undecided")


def test_no_kind_without_convergence():
    assert newton_raphson(d_quartic, d2_quartic, -1.5, max_iterations=2).kind is None
    runaway = newton_raphson(
        lambda x: x / (1 + x * x), lambda x: (1 - x * x) / (1 + x * x) ** 2, 2.0
    )
    assert (runaway.reason, runaway.kind) == ("diverged", None)


def test_newton_overflow_is_divergence():
    newton = newton_raphson(lambda x: 1.0, lambda x: 5e-324, 1.0, limit=np.inf)
    assert (newton.x, newton.iterations, newton.reason) == (1, 0, "diverged")
    newton = newton_raphson(
        lambda x: np.ones(2), lambda x: np.diag([1, 5e-324]), np.ones(2), limit=np.inf
    )
    assert (newton.iterations, newton.reason) == (0, "diverged")


# What goes in and comes out


@pytest.mark.parametrize("start", [2, 2.0, np.float64(2), np.array(2.0)])
def test_starts_of_one_variable(start):
    seen = []
    down = steepest_descent(lambda x: seen.append(x) or 2.0 * x, start, lr=0.1, max_iterations=2)
    assert all(type(x) is np.float64 for x in (*seen, down.x))
    assert down.trace.shape == (3,)
    assert steepest_descent(lambda x: np.array(2 * x), start, lr=0.1).converged
    assert steepest_descent(lambda x: 0, start, lr=0.1).x == 2
    newton = newton_raphson(lambda x: np.array(2 * x), lambda x: 2, start)
    assert type(newton.x) is np.float64
    assert newton.x == 0


def test_nothing_given_is_changed_or_shared():
    start = np.array([1.0, 2.0])
    for run in (
        lambda g: steepest_descent(g, start, lr=0.1),
        lambda g: newton_raphson(g, lambda x: 2 * np.eye(2), start),
    ):
        found = run(lambda x: 2 * x)
        assert start.tolist() == [1, 2]
        last = found.trace[-1].copy()
        found.x[...] = 99
        assert np.array_equal(found.trace[-1], last)
        assert start.flags.writeable

        for first in (True, False):  # the start, or a later point

            def spoils(x, first=first):
                if np.array_equal(x, start) is first:
                    x *= 2
                return x / 3

            with pytest.raises(ValueError, match="read-only"):
                run(spoils)
    assert steepest_descent(lambda x: x, start, lr=0.5, max_iterations=1).x.tolist() == [0.5, 1]


NUMBERS = [
    ({"tolerance": -1e-9}, ValueError, "tolerance must be a finite number >= 0, got -1e-09"),
    ({"tolerance": np.nan}, ValueError, "tolerance must be .* got nan"),
    ({"tolerance": np.inf}, ValueError, "tolerance must be .* got inf"),
    ({"max_iterations": 0}, ValueError, "max_iterations must be a whole number >= 1, got 0"),
    ({"max_iterations": 3.0}, TypeError, "max_iterations must be .* got 3.0"),
    ({"max_iterations": True}, TypeError, "max_iterations must be .* got True"),
    ({"limit": 0}, ValueError, "limit must be > 0, got 0"),
    ({"limit": np.nan}, ValueError, "limit must be > 0, got nan"),
    ({"start": "2"}, TypeError, "start: expected a number or an array, got str"),
    ({"start": [1.0, 2.0]}, TypeError, "start: expected a number or an array, got list"),
    ({"start": True}, TypeError, "start: expected a number or an array, got bool"),
    ({"start": np.int64(2)}, DtypeError, "start: expected float32, .* got int64"),
    ({"start": np.array([1, 2])}, DtypeError, "start: expected float32, .* got int64"),
    ({"start": np.float16(1)}, DtypeError, "start: expected float32, .* got float16"),
    ({"start": np.bool_(True)}, DtypeError, "start: expected float32, .* got bool"),
    ({"start": np.ones((2, 1))}, InputError, r"start: .* shape \(d,\), d >= 1, got \(2, 1\)"),
    ({"start": np.ones(0)}, InputError, r"start: .* got \(0,\)"),
    ({"start": np.nan}, InputError, r"start must be finite and within ±1e\+10, got nan"),
    ({"start": np.array([1, np.inf])}, InputError, r"start must be finite .* got \[ 1. inf\]"),
    ({"start": -np.inf, "limit": np.inf}, InputError, "start must be finite"),
    ({"start": -11.0, "limit": 10}, InputError, "start must be finite and within ±10, got -11.0"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), NUMBERS)
def test_refused_numbers(arguments, error, text):
    arguments = {"start": 1.0, **arguments}
    with pytest.raises(error, match=f"^steepest_descent: {text}"):
        steepest_descent(lambda x: 2 * x, lr=0.1, **arguments)
    with pytest.raises(error, match=f"^newton_raphson: {text}"):
        newton_raphson(lambda x: 2 * x, lambda x: 2.0, **arguments)


@pytest.mark.parametrize("start", [np.float32(1), np.ones(2, np.float32)])
def test_learning_rates_that_float32_has_not(start):
    for lr in (0, -0.1, np.nan, np.inf, 1e-60, 1e60):
        text = re.escape(f"lr must be finite and > 0 in float32, got {lr!r}")
        with pytest.raises(ValueError, match=text):
            steepest_descent(lambda x: x, start, lr=lr)
    with pytest.raises(TypeError, match=r"lr must be a number, got '0\.1'"):
        steepest_descent(lambda x: x, start, lr="0.1")


@pytest.mark.parametrize("start", [np.float32(1), np.ones(2, np.float32)])
def test_limits_that_float32_has_not(start):
    assert steepest_descent(lambda x: x, start, lr=0.5, tolerance=1e60)[2:4] == (1, "converged")
    assert steepest_descent(lambda x: x, start, lr=0.5, tolerance=1e-60).converged  # x_new = x
    down = steepest_descent(lambda x: 3 * x, start, lr=1.0, limit=1e60)
    assert down[2:4] == (127, "diverged")


def test_a_start_at_the_limit():
    assert steepest_descent(lambda x: x, 10.0, lr=0.5, limit=10).converged


RESULTS = [
    (1.0, np.ones(1), InputError, r"expected shape \(\), got \(1,\)"),
    (1.0, "1", TypeError, "expected a number, got str"),
    (1.0, None, TypeError, "expected a number, got NoneType"),
    (1.0, True, TypeError, "expected a number, got bool"),
    (1.0, 1j, TypeError, "expected a number, got complex"),
    (1.0, np.int64(1), DtypeError, "expected float32, .* got int64"),
    (1.0, np.float32(1), DtypeError, "expected dtype float64, got float32"),
    (1.0, np.longdouble(1), DtypeError, "expected dtype float64, got"),
    (np.float32(1), np.array(1.0), DtypeError, "expected dtype float32, got float64"),
    (np.ones(2), 1.0, TypeError, "expected a NumPy array, got float"),
    (np.ones(2), [1.0, 1.0], TypeError, "expected a NumPy array, got list"),
    (np.ones(2), np.ones(3), InputError, r"expected shape \(2,.*\), got \(3,\)"),
    (np.ones(2), np.ones((2, 1)), InputError, r"expected shape \(2,.*\), got \(2, 1\)"),
    (np.ones(2), np.float64(1), InputError, r"expected shape \(2,.*\), got \(\)"),
    (np.ones(2), np.ones(2, int), DtypeError, "expected float32, .* got int64"),
    (np.ones(2), np.ones(2, np.float32), DtypeError, "expected dtype float64, got float32"),
]


@pytest.mark.parametrize(("start", "value", "error", "text"), RESULTS)
def test_refused_derivatives(start, value, error, text):
    with pytest.raises(error, match=f"^steepest_descent: gradient: {text}"):
        steepest_descent(lambda x: value, start, lr=0.1)
    with pytest.raises(error, match=f"^newton_raphson: gradient: {text}"):
        newton_raphson(lambda x: value, lambda x: np.eye(2), start)
    with pytest.raises(error, match=f"^newton_raphson: hessian: {text}"):
        newton_raphson(lambda x: x, lambda x: value, start)


def test_a_hessian_of_a_vectors_shape():
    with pytest.raises(InputError, match=r"hessian: expected shape \(2, 2\), got \(2,\)"):
        newton_raphson(lambda x: x, lambda x: np.ones(2), np.ones(2))


def test_a_gradient_that_divides_by_0_has_diverged():
    with np.errstate(divide="raise"):
        result = steepest_descent(np.log, 0.0, lr=0.1)
    assert result.reason == "diverged"


@pytest.mark.parametrize("name", ["lr", "tolerance", "limit"])
@pytest.mark.parametrize("bad", [True, None, "1"])
def test_numbers_that_are_none_are_named(name, bad):
    with pytest.raises(TypeError, match=f"steepest_descent: {name} must be a number, got {bad!r}"):
        steepest_descent(lambda x: x, 1.0, **{"lr": 0.1, name: bad})
