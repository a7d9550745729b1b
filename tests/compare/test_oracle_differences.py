import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compare.oracle import derivative

mpmath.mp.dps = 60
DTYPES = [np.float64, np.longdouble]
# name → (f by NumPy, f' by mpmath), of a number without a unit
SMOOTH = {
    "sin": (np.sin, mpmath.cos),
    "tanh": (np.tanh, lambda u: mpmath.sech(u) ** 2),
    "sigmoid": (
        lambda u: 1 / (1 + np.exp(-u)),
        lambda u: 1 / (2 + mpmath.exp(u) + mpmath.exp(-u)),
    ),
    "gauss": (lambda u: np.exp(-u * u), lambda u: -2 * u * mpmath.exp(-u * u)),
    "cubic": (lambda u: u**3 - 2 * u, lambda u: 3 * u * u - 2),
    "rational": (lambda u: 1 / (1 + u * u), lambda u: -2 * u / (1 + u * u) ** 2),
    "softplus": (lambda u: np.logaddexp(0 * u, u), lambda u: 1 / (1 + mpmath.exp(-u))),
    "linear": (lambda u: 3 * u, lambda u: mpmath.mpf(3)),
    "constant": (lambda u: 0 * u + 5, lambda u: mpmath.mpf(0)),
}
scales = st.floats(-6, 6).map(lambda e: 10.0**e)


def exactly(number):
    """A number of NumPy's, all its digits, in mpmath."""
    high = float(number)
    return mpmath.mpf(high) + mpmath.mpf(float(number - type(number)(high)))


def counted(f):
    calls = []

    def g(a):
        calls.append(1)
        return f(a)

    return g, calls


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=15, deadline=None)
@given(u=st.floats(-30, 30), length=scales, height=scales)
@example(u=0.0, length=1e-6, height=1.0)
@example(u=0.0, length=1e6, height=1.0)
@example(u=20.0, length=1e-6, height=1e6)
def test_the_error_is_true_and_small_at_every_scale(name, dtype, u, length, height):
    f, slope = SMOOTH[name]
    length, height = dtype(length), dtype(height)
    x = dtype(u) * length
    value, error = derivative(
        lambda a: height * f(a / length), np.array([x]), (0,), np.ones(1, dtype)
    )
    unit = exactly(height) / exactly(length)
    exact = unit * slope(exactly(x) / exactly(length))
    if np.isnan(value):  # allowed only where it is all but 0
        assert abs(exact) < 1e-9 * unit
        return
    assert abs(mpmath.mpf(value) - exact) <= error
    # 1e-11 of a function of scale 1 (and of u = 30 times it: x ± h is rounded too)
    aim = 1e-11 if np.finfo(dtype).eps > 1e-18 else 1e-14
    # Told nothing of f's noise, the search may go past its best step (sin at 15.5, length 10): it
    # then says that it is of no use, which costs an answer and accuses nobody.
    useless = error > 1e-2 * abs(exact)
    assert useless or error <= aim * unit * max(1, abs(u), abs(slope(mpmath.mpf(u)))) + 1e-300


@pytest.mark.parametrize(("dtype", "aim"), [(np.float64, 1e-11), (np.longdouble, 1e-15)])
def test_at_scale_one_it_is_quick_and_nearly_exact(dtype, aim):
    if np.finfo(dtype).eps > 1e-18 and dtype is np.longdouble:
        pytest.skip("longdouble is float64 here")
    for name in ("sin", "tanh", "sigmoid", "softplus"):
        f, slope = SMOOTH[name]
        g, calls = counted(f)
        x = dtype(0.7)
        value, error = derivative(
            g,
            np.array([x]),
            (0,),
            np.ones(1, dtype),
            noise=lambda a, y: 4 * np.finfo(dtype).eps * np.abs(y),
        )
        assert abs(mpmath.mpf(value) - slope(exactly(x))) <= error <= aim, name
        assert len(calls) <= 13, name  # f(x), two to see what is touched, five steps


@pytest.mark.parametrize("dtype", DTYPES)
def test_x_is_rounded_too(dtype):
    """Where f is level, but bends, x ± h that x is not quite between have a slope of their own."""
    for k in (100, 1001, 10007, 100003, 999983):
        x = np.asarray(k * np.pi, dtype) + dtype(1e-3) / 3
        value, error = derivative(np.cos, np.array([x]), (0,), np.ones(1, dtype))
        assert abs(mpmath.mpf(value) + mpmath.sin(exactly(x))) <= error
        value, error = derivative(
            lambda a, x=x: (a - x) ** 2 / 2,
            np.array([x]),
            (0,),
            np.ones(1, dtype),
            scale=1.0,
            noise=lambda a, y: 2 * np.finfo(dtype).eps * np.abs(y),
        )
        assert abs(value) <= error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
def test_a_sum_of_many_terms_with_large_ones(dtype, seed):
    """Roundings of the others' size, which f itself does not show."""
    generator = np.random.default_rng(seed)
    n = 300
    w = generator.normal(size=n).astype(dtype) * 10 ** generator.uniform(-3, 3)
    at = generator.normal(size=n).astype(dtype) * dtype(10) ** generator.uniform(-6, 6, n)
    k = int(generator.integers(n))
    value, error = derivative(lambda a: np.atleast_1d(w @ a), at, (k,), np.ones(1, dtype))
    assert abs(mpmath.mpf(value) - exactly(w[k])) <= error
    assert error <= 1e-4 * abs(w).max() * max(1, 1e-3 * abs(at).max() / abs(at[k]))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(
    u=st.floats(-1, 1),
    offset=st.floats(0, 8).map(lambda e: 10.0**e),
    length=st.integers(-20, 20),
)
@example(u=-0.0039, offset=10**5.38, length=16)
@example(u=0.0056, offset=10**7.28, length=18)
@example(u=0.0008, offset=10**4.66, length=17)
def test_where_the_value_has_few_digits_left_no_more_are_claimed(dtype, u, offset, length):
    """(sin u + n) − n is a lattice: differences over halved steps may agree by chance."""
    n, length = dtype(offset), np.ldexp(dtype(1), length)
    x = dtype(u) * length
    value, error = derivative(
        lambda a: (np.sin(a / length) + n) - n, np.array([x]), (0,), np.ones(1, dtype)
    )
    if not np.isnan(value):
        exact = mpmath.cos(exactly(x) / exactly(length)) / exactly(length)
        assert abs(mpmath.mpf(value) - exact) <= error


def relu(a):
    return np.where(a > 0, a, 0 * a)


PIECEWISE = {
    "relu": (relu, 0.0, 1.0),
    "abs": (np.abs, -1.0, 1.0),
    "leaky": (lambda a: np.where(a > 0, a, a / 100), 0.01, 1.0),
    "elu": (lambda a: np.where(a > 0, a, 2 * np.expm1(np.minimum(a, 0))), 2.0, 1.0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_at_a_kink_there_is_no_answer(name, dtype, unit):
    f, *_ = PIECEWISE[name]
    unit = dtype(unit)
    at = np.array([0, 3], dtype)
    value, error = derivative(lambda a: f(a / unit), at, (0,), np.ones(2, dtype))
    assert np.isnan(value)
    assert np.isnan(error)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("where", [0.0, -1000.0])
@pytest.mark.parametrize("distance", [1e-9, 1e-6, 1e-3, 0.4])
def test_near_a_kink_it_is_the_slope_of_the_right_side_or_no_answer(
    name, dtype, side, where, distance
):
    f, left, right = PIECEWISE[name]
    kink = dtype(where)
    x = kink + dtype(side * distance)
    value, error = derivative(lambda a: f(a - kink), np.array([x]), (0,), np.ones(1, dtype))
    expected = right if side > 0 else left
    if name == "elu" and side < 0:
        expected = float(2 * mpmath.exp(exactly(x - kink)))
    if np.isnan(value):
        assert distance <= 1e-6  # too near for what digits float64 has
        assert dtype is np.float64 or np.finfo(dtype).eps > 1e-18
        return
    assert abs(value - expected) <= error
    assert error <= 1e-2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", [1e-7, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_beside_a_jump(dtype, distance, side):
    x = np.array([dtype(side * distance)])
    value, error = derivative(
        lambda a: np.where(a < 0, 0 * a, 0 * a + 1) + a * a, x, (0,), np.ones(1, dtype)
    )
    assert np.isnan(value) or abs(value - 2 * float(x[0])) <= error
    assert not np.isnan(value) or distance < 1e-3


def test_a_kink_between_elements_does_not_cancel():
    """relu(x) − relu(−x) = x has no kink, but each of its terms has: summed they would hide it."""
    f = lambda a: np.concatenate([relu(a), relu(-a)])  # noqa: E731
    assert np.isnan(derivative(f, np.zeros(1), (0,), np.array([1.0, -1.0]))).all()


def test_what_the_entry_does_not_touch_cancels_exactly():
    """Elements of 1e12 beside one of 1: a difference of sums would keep 4 digits."""
    at = np.array([0.7] + [1e12 / 3] * 50)
    g = np.random.default_rng(0).normal(size=51)
    value, error = derivative(
        lambda a: np.tanh(a[:1] * np.eye(1, 51)[0]) + (a * (a > 1)), at, (0,), g
    )
    assert abs(value - g[0] / np.cosh(0.7) ** 2) <= error + 1e-15
    assert error < 1e-11


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1e-17, 1e-24, 1e-100])
def test_what_vanishes_beside_a_large_term_is_not_said_to_be_0(factor, dtype):
    """A weight times a softmax's tiny share, beside the other terms of the row: a step as long as
    others need is not seen in the value."""
    at = np.array([0.3, 0.7], dtype)
    value, error = derivative(lambda w: w[:1] * dtype(factor) + w[1:], at, (0,), np.ones(1))
    assert not abs(value - factor) > error


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cotangent_and_every_index_of_an_array(dtype):
    generator = np.random.default_rng(3)
    x, g = generator.normal(size=(2, 3)).astype(dtype), generator.normal(size=(2, 2)).astype(dtype)
    w = generator.normal(size=(2, 3)).astype(dtype)
    for index in np.ndindex(x.shape):
        value, error = derivative(lambda a: np.sin(a) @ w.T, x, index, g)
        exact = np.cos(x[index]) * (g[index[0]] @ w[:, index[1]])
        assert abs(value - exact) <= error + 4 * np.finfo(dtype).eps
        assert error < 1e-11


NOT_FINITE = {
    "nan": lambda a: np.nan * a,
    "inf": lambda a: np.inf + a,
    "overflow": lambda a: np.exp(1e6 + a),
    "beyond the domain": lambda a: np.log(-1 - a * a),
    "at the end of the domain": np.sqrt,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NOT_FINITE)
def test_without_a_finite_value_there_is_no_answer_and_no_warning(name, dtype):
    value = derivative(NOT_FINITE[name], np.zeros(1, dtype), (0,), np.ones(1, dtype))
    assert np.isnan(value).all()


def test_an_element_that_is_not_finite_does_not_count_where_its_cotangent_is_0():
    f = lambda a: np.array([a[0] ** 2, np.inf])  # noqa: E731
    value, error = derivative(f, np.array([3.0]), (0,), np.array([1.0, 0.0]))
    assert abs(value - 6) <= error < 1e-10
    assert np.isnan(derivative(f, np.array([3.0]), (0,), np.array([1.0, 1.0]))).all()


def test_a_point_or_a_cotangent_that_is_not_finite_has_no_answer():
    for bad in (np.nan, np.inf, -np.inf):
        assert np.isnan(derivative(np.tanh, np.array([bad]), (0,), np.ones(1))).all()
        assert np.isnan(derivative(np.tanh, np.zeros(1), (0,), np.array([bad]))).all()


def test_at_the_edge_of_a_domain_steps_shrink_into_it():
    for p in (1e-9, 1e-3, 1 - 1e-6):
        value, error = derivative(
            lambda a: np.log(a) - np.log(1 - a), np.array([p]), (0,), np.ones(1)
        )
        assert abs(value - 1 / (p * (1 - p))) <= error + 1e-15 * value / min(p, 1 - p)
        assert error < 1e-6 * value


def test_a_saturated_function_is_not_said_to_be_flat():
    """1 − σ(40) is below the roundoff of 1: not 0, but anything below the error."""
    value, error = derivative(lambda a: 1 / (1 + np.exp(-a)), np.array([40.0]), (0,), np.ones(1))
    assert np.isnan(value) or abs(value - 4.248354255291589e-18) <= error < 1e-12
    assert np.isnan(value) or error > 0


@pytest.mark.parametrize("offset", [1.0, 10.0, 1e3, 1e5])
def test_an_element_that_only_near_steps_change_has_its_noise(offset):
    """n + x e^(−x²) is n here and far away on either side: not touched, but for what is near."""
    g, calls = counted(lambda a: offset + a * np.exp(-a * a))
    value, error = derivative(
        g, np.zeros(1), (0,), np.ones(1), noise=lambda a, y: 4 * np.finfo(float).eps * np.abs(y)
    )
    assert abs(value - 1) <= error
    assert error >= 8 * np.finfo(float).eps * offset  # a noise of 4 units over a step of ½
    assert len(calls) <= 13


def test_a_narrow_peak_between_the_first_steps_is_seen():
    peak = lambda a: np.exp(-((a / 1e-4) ** 2))  # noqa: E731
    value, error = derivative(peak, np.array([5e-5]), (0,), np.ones(1))
    assert abs(value + 1e4 * np.exp(-0.25)) <= error + 1e-10
    assert error < 1


def test_nothing_given_is_changed():
    at, g = np.array([1.0, 2.0]), np.array([1.0, -1.0])
    at.flags.writeable = g.flags.writeable = False
    derivative(np.sin, at, (1,), g)
    assert at.tolist() == [1, 2]
    assert g.tolist() == [1, -1]
