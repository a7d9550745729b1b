"""Activations, element by element: against torch, mpmath and central differences, and at their
edges. What only those made of straight pieces have is in test_piecewise.py."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual import nn
from torch_ref import twin

ALL = {
    "Identity": nn.Identity,
    "Sigmoid": nn.Sigmoid,
    "LogSigmoid": nn.LogSigmoid,
    "Tanh": nn.Tanh,
    "Arctan": nn.Arctan,
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "LeakyReLU 0": lambda: nn.LeakyReLU(0.0),
    "LeakyReLU -2": lambda: nn.LeakyReLU(negative_slope=-2),
    "PReLU": nn.PReLU,
    "PReLU -1.7": lambda: nn.PReLU(init=-1.7),
    "ELU": nn.ELU,
    "ELU -0.7": lambda: nn.ELU(-0.7),
    "ELU 2.3": lambda: nn.ELU(alpha=2.3),
    "Softplus": nn.Softplus,
    "Softplus 0.7, 2": lambda: nn.Softplus(0.7, 2.0),
    "Softplus -2": lambda: nn.Softplus(beta=-2),
    "Softplus 3, -1": lambda: nn.Softplus(3.0, threshold=-1.0),
    "SiLU": nn.SiLU,
    "GELU": nn.GELU,
    "GELU tanh": lambda: nn.GELU("tanh"),
    "Step": nn.Step,
}
DTYPES = [np.float32, np.float64, np.longdouble]
SHAPES = [(), (7,), (5, 4), (2, 3, 4), (0, 3), (2, 1, 3, 2)]
RNG = np.random.default_rng
names = {"ids": lambda value: getattr(value, "__name__", str(value))}


def made(case, dtype=np.float64):
    return ALL[case]().to(dtype)


def allowed(dtype, size):
    """NumPy's and torch's exp, tanh and the like are each good to 4 ulp, of values up to `size`;
    each formula after that rounds at most three times more: 2 × 7 eps. (With several functions in
    one formula each is multiplied by the slope of the next, and these slopes are below 1.)
    A product below the smallest normal number keeps whole multiples of the smallest subnormal
    only."""
    info = np.finfo(dtype)
    relative = 14 * float(info.eps) * np.abs(size).astype(np.float64)
    return relative + 7 * float(info.smallest_subnormal) * (size != 0)


def assert_matches_torch(module, x, dy, in_torch, dtype):
    """Value and gradient, where torch (in float64) has accuracy `dtype` to offer."""
    y = module(x)
    kept = y.copy()
    dx = module.backward(dy)
    assert np.array_equal(y, kept)
    assert np.array_equal(module.backward(dy), dx)
    assert type(y) is type(dx) is np.ndarray
    assert y.dtype == dx.dtype == x.dtype
    expected_y, expected_dx, _ = in_torch(module, x, dy)
    assert y.shape == dx.shape == expected_y.shape == x.shape
    size = np.maximum(np.maximum(1, np.abs(x)), np.abs(expected_y))
    assert (np.abs(y - expected_y) <= allowed(dtype, size)).all()
    size = np.maximum(np.abs(dy), np.abs(expected_dx))
    assert (np.abs(dx - expected_dx) <= allowed(dtype, size)).all()


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", ALL)
def test_matches_torch(case, shape, dtype, layout, in_torch):
    rng = RNG(7)
    x, dy = (np.asarray(rng.normal(0, 2, shape), np.float32).astype(dtype) for _ in range(2))
    if x.size > 1:
        x.flat[1] = 0  # exactly at the kink
        assert (x > 0).any()
        assert (x < 0).any()
    accuracy = dtype if dtype != np.longdouble else np.float64  # torch has no more
    assert_matches_torch(made(case, dtype), layout(x), layout(dy), in_torch, accuracy)


@pytest.mark.parametrize("x", [-1.5, -0.0, 0.0, 1.5, 30.0, -30.0])
@pytest.mark.parametrize("case", ALL)
def test_a_single_number_as_an_array_of_rank_0(case, x, in_torch):
    dy = np.array(-1.75)
    assert_matches_torch(made(case), np.array(x), dy, in_torch, np.float64)


@settings(max_examples=150, deadline=None)
@given(
    pair=hnp.array_shapes(min_dims=0, max_dims=3, max_side=4).flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(np.float64, shape, elements=st.floats(-1e4, 1e4)) for _ in range(2)]
        )
    ),
    case=st.sampled_from(list(ALL)),
)
def test_any_float64(pair, case, in_torch):
    x, dy = pair
    assert_matches_torch(made(case), x, dy, in_torch, np.float64)


def test_a_subnormal_cotangent_is_rounded_to_whole_subnormals(in_torch):
    """Found by `test_any_float64`: the sides differ by one unit of 5e-324."""
    x, dy = np.array([0.0078125]), np.array([2.22507386e-313])
    net = nn.Sigmoid()
    net(x)
    _, expected, _ = in_torch(net, x, dy)
    assert (np.abs(net.backward(dy) - expected) <= allowed(np.float64, dy)).all()


@pytest.mark.parametrize("case", ALL)
def test_longdouble_against_central_differences(case, slope):
    x, dy = RNG(3).normal(size=(2, 4, 5)).astype(np.longdouble)
    module = made(case, np.longdouble)
    edges = [0]
    if isinstance(module, nn.Softplus):
        edges.append(module.threshold / module.beta)
    assert min(np.abs(x - edge).min() for edge in edges) > 1e-4  # no step crosses a kink
    module(x)
    expected = slope(lambda at: np.sum(dy * made(case, np.longdouble)(at)), x)
    np.testing.assert_allclose(module.backward(dy), expected, rtol=1e-9, atol=1e-8)


# f in mpmath, and how exact: |y − f| ≤ a eps |f|, |dx − dy f'| ≤ b eps |dy| size(x), where size
# is |f'| (None), or the size of what f' is the difference of. exp, tanh, log1p … are good to 4 ulp,
# an operation rounds by half a unit; an argument t off by a relative δ moves e^t by |t| δ.
def gelu_argument(x):
    return 2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


def gelu_tanh_slope_error(t, s):
    """Of s + s (1 − s) x t', in eps: |x t'| ≤ 3 |t|, and each factor of the second part is off by
    up to 4 |t|, for s by that times 1 − s."""
    first = s * (12 + 4 * abs(t) * (1 - s))
    return first + s * (1 - s) * 3 * abs(t) * (12 + 4 * abs(t))


def mp_sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


EXACT = {
    "Identity": (lambda x: x, 0, 0, None),
    "Sigmoid": (mp_sigmoid, 5, 12, mp_sigmoid),  # y (1 − y), from y
    "LogSigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)), 9, 6, None),
    "Tanh": (mpmath.tanh, 4, 10, lambda x: 1),  # 1 − y², from y
    "Arctan": (mpmath.atan, 4, 2, None),
    "ELU": (lambda x: x if x > 0 else mpmath.expm1(x), 5, 5, None),
    "ELU 2.3": (lambda x: x if x > 0 else mpmath.mpf(2.3) * mpmath.expm1(x), 5, 5, None),
    "Softplus": (lambda x: x if x > 20 else mpmath.log1p(mpmath.exp(x)), 9, 6, None),
    "Softplus -2": (
        lambda x: x if x < -10 else mpmath.log1p(mpmath.exp(-2 * x)) / -2,
        9,
        6,
        None,
    ),
    "SiLU": (
        lambda x: x * mp_sigmoid(x),
        6,
        12,
        lambda x: mp_sigmoid(x) * (1 + abs(x) * mp_sigmoid(-x)),
    ),
    "GELU": (
        lambda x: x * mpmath.ncdf(x),
        5,
        6,
        lambda x: mpmath.ncdf(x) + abs(x) * mpmath.npdf(x),
    ),
    "GELU tanh": (  # the argument 2u takes 7 roundings
        lambda x: x * mp_sigmoid(gelu_argument(x)),
        lambda x: 6 + 4 * abs(gelu_argument(x)) * mp_sigmoid(-gelu_argument(x)),
        1,
        lambda x: gelu_tanh_slope_error(gelu_argument(x), mp_sigmoid(gelu_argument(x))),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("case", EXACT)
def test_every_digit_is_right(case, dtype):
    """Against mpmath, also far to the left, where 1 + tanh or 1 + erf would have lost all."""
    low = {np.float32: -12, np.float64: -37, np.longdouble: -100}[dtype]
    low = low / 2 if case == "GELU tanh" else low  # e^(2u) has x³ in the exponent
    x = RNG(4).normal(0, 2, 30)
    x = np.unique(np.array([*x, 1e-6, -1e-6, *np.linspace(low, 40, 40)], dtype))
    x = x[(x != 0) & (np.abs(np.abs(x) - 20) > 1e-3) & (np.abs(np.abs(x) - 10) > 1e-3)]  # kinks
    f, y_units, dx_units, size = EXACT[case]
    module, dy = made(case, dtype), RNG(5).normal(size=x.size).astype(dtype)
    y, dx = module(x), module.backward(dy)
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(60):
        for k in range(x.size):
            point, cotangent = exact(x[k]), exact(dy[k])
            units = y_units(point) if callable(y_units) else y_units
            assert abs(exact(y[k]) - f(point)) <= units * eps * abs(f(point)), x[k]
            slope = mpmath.diff(f, point)
            scale = abs(slope) if size is None else size(point)
            error = abs(exact(dx[k]) - cotangent * slope)
            assert error <= (dx_units * eps + 1e-25) * abs(cotangent) * scale, x[k]


def exact(value):
    """A longdouble as an mpmath number, to its last bit."""
    mantissa, exponent = np.frexp(value)
    high = float(mantissa)
    return mpmath.ldexp(mpmath.mpf(high) + float(mantissa - high), int(exponent))


@pytest.mark.parametrize(
    ("dtype", "low"), [(np.float32, -80), (np.float64, -700), (np.longdouble, -700)], **names
)
def test_sigmoid_keeps_its_relative_accuracy(dtype, low):
    """σ(x) and σ'(x) far to the left, where (1 + tanh(x/2))/2 is 0: e^−x within 4 ulp, three
    roundings after it, and for σ' as many again."""
    x = np.unique(np.array([low, -80, -40, -20, *np.linspace(low, 0, 50)], dtype))
    module = nn.Sigmoid()
    y, dx = module(x), module.backward(np.full_like(x, 3))
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(400):
        for k in range(x.size):
            value = mp_sigmoid(exact(x[k]))
            assert abs(exact(y[k]) / value - 1) <= 7 * eps, x[k]
            assert abs(exact(dx[k]) / (3 * value * (1 - value)) - 1) <= 20 * eps, x[k]


# Where torch is not followed: its results are wrong for finite x, or differ from one dtype to the
# other or with the place in the array.
TORCH_OVERFLOWS = {"GELU tanh"}  # x³ · 0 = NaN in its derivative
TORCH_DIFFERS = {("GELU", np.float32, np.inf), ("GELU", np.float32, np.finfo(np.float32).max)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], **names)
@pytest.mark.parametrize("case", ALL)
def test_edges_as_in_torch(case, dtype):
    """±∞, the largest, the smallest and ±0: torch's results in the same dtype, NaN included. Its
    results and manual's both lie within 14 eps of the truth."""
    info = np.finfo(dtype)
    half = [0, info.smallest_subnormal, info.tiny, 1, 2.5, 20, 1e4, 1e30, info.max, np.inf]
    x = np.array([*half, *np.negative(half)], dtype)
    x = x[[(case, dtype, value) not in TORCH_DIFFERS for value in x]]
    if case.startswith("GELU"):  # torch: (1 + erf)/2, without relative accuracy to the left
        x = x[(x >= -1) | (x < -1e3)]
    module, dy = made(case, dtype), np.full_like(x, -1.5)
    y, dx = module(x), module.backward(dy)
    point = torch.tensor(x, requires_grad=True)
    theirs = twin(module)(point)
    theirs.backward(torch.tensor(dy))
    expected_y, expected_dx = theirs.detach().numpy(), point.grad.numpy()
    tiny = 4 * info.smallest_subnormal
    np.testing.assert_allclose(y, expected_y, rtol=14 * info.eps, atol=tiny)
    finite = np.abs(x) < 1e30 if case in TORCH_OVERFLOWS else np.full(x.shape, True)
    np.testing.assert_allclose(dx[finite], expected_dx[finite], rtol=14 * info.eps, atol=tiny)


@pytest.mark.parametrize("case", [case for case in ALL if case != "ReLU"])
def test_the_sign_of_zero_as_in_torch(case):
    """But for ReLU: NumPy's max(−0, 0) is either."""
    x, module = np.array([-0.0, 0.0]), made(case)
    expected = twin(module)(torch.tensor(x)).detach().numpy()
    y = module(x)
    assert np.array_equal(np.signbit(y), np.signbit(expected))


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize(
    ("case", "left", "right"),  # (f, f') for x → −∞ and +∞, with −x and x for themselves
    [
        ("Sigmoid", (0, 0), (1, 0)),
        ("LogSigmoid", ("x", 1), (0, 0)),
        ("Tanh", (-1, 0), (1, 0)),
        ("Arctan", (-np.pi / 2, 0), (np.pi / 2, 0)),
        ("ReLU", (0, 0), ("x", 1)),
        ("ELU", (-1, 0), ("x", 1)),
        ("Softplus", (0, 0), ("x", 1)),
        ("Softplus -2", ("x", 1), (0, 0)),
        ("SiLU", (0, 0), ("x", 1)),
        ("GELU", (0, 0), ("x", 1)),
        ("GELU tanh", (0, 0), ("x", 1)),
        ("Step", (0, 0), (1, 0)),
    ],
)
def test_limits(case, left, right, dtype):
    """At arguments so large that every intermediate overflows: finite, and without a warning."""
    largest = np.finfo(dtype).max
    for sign, (value, slope) in ((-1, left), (1, right)):
        for size in (dtype(2e4), np.sqrt(largest) / 2, np.sqrt(largest) * 2, largest):
            x = np.array([sign * size, sign * size / 2], dtype)
            module = made(case, dtype)
            y, dx = module(x), module.backward(np.full_like(x, 2))
            rtol = 4 * np.finfo(np.float64 if dtype == np.longdouble else dtype).eps
            # the slowest: arctan(x) ≈ π/2 − 1/x, with the derivative 1/(1 + x²)
            near = 1 / float(size / 2) if case == "Arctan" and size < 1e30 else 1e-60
            expected = x if value == "x" else [value] * 2
            np.testing.assert_allclose(y, expected, rtol=rtol, atol=1.01 * near)
            np.testing.assert_allclose(dx, [2 * slope] * 2, rtol=1e-15, atol=2.1 * near**2)


@pytest.mark.parametrize("threshold", [800.0, 1e5])
def test_softplus_with_a_high_threshold_does_not_overflow(threshold):
    """log(1 + e^1000) = 1000, where torch's e^1000 is inf."""
    module = nn.Softplus(threshold=threshold)
    x = np.array([720.0, 1000.0, -1000.0])
    assert np.array_equal(module(x), [720, 1000, 0])
    assert np.array_equal(module.backward(np.full(3, 2.0)), [2, 2, 0])


def test_softplus_at_its_threshold(in_torch):
    """βx = threshold exactly is still on the curve; the next number is on the line."""
    module = nn.Softplus(beta=2.0, threshold=5.0)
    x = np.array([2.5, np.nextafter(2.5, 3), 2.6, -2.5])
    y = module(x)
    assert y[0] == pytest.approx(np.log1p(np.exp(5)) / 2, rel=1e-15)
    assert y[0] > 2.503
    assert np.array_equal(y[1:3], x[1:3])
    assert_matches_torch(module, x, np.array([1.5, -2.5, 3.0, 2.0]), in_torch, np.float64)


@pytest.mark.parametrize("dtype", DTYPES, **names)
@pytest.mark.parametrize("case", ALL)
def test_nan_stays_nan(case, dtype):
    x = np.array([np.nan, 1.0, -1.0], dtype)
    assert np.array_equal(np.isnan(made(case, dtype)(x)), [True, False, False])
    assert np.isnan(made(case, dtype)(np.array(np.nan, dtype)))


@pytest.mark.parametrize("case", ["Sigmoid", "LogSigmoid", "Tanh", "Arctan", "ELU", "Softplus"])
def test_the_derivative_at_nan_is_nan(case):
    module = made(case)
    module(np.array([np.nan, 1.0]))
    assert np.array_equal(np.isnan(module.backward(np.ones(2))), [True, False])


def test_identity_is_exact_and_takes_any_arguments():
    x, dy = np.array([-3, -0.0, 5e-324]), np.array([2.0, 3.0, 5.0])
    identity = nn.Identity("ignored", also=1)
    assert np.array_equal(identity(x), x)
    assert np.array_equal(identity.backward(dy), dy)


@pytest.mark.parametrize("case", ALL)
class TestRefusals:
    @pytest.mark.parametrize("bad", [[1.0], 1.0, np.float64(1.0), None], ids=repr)
    def test_only_arrays(self, case, bad):
        with pytest.raises(TypeError, match=f"{case.split()[0]}: x.*{type(bad).__name__}"):
            made(case)(bad)

    @pytest.mark.parametrize("dtype", [np.int64, np.float16, bool], **names)
    def test_only_floats(self, case, dtype):
        with pytest.raises(TypeError, match=f"{case.split()[0]}: x.*{np.dtype(dtype)}"):
            made(case)(np.ones((2, 3), dtype))

    @pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (3, 2), (1, 2, 3)], ids=str)
    def test_cotangents_do_not_broadcast(self, case, shape):
        module = made(case)
        module(np.ones((2, 3)))
        with pytest.raises(ValueError, match=rf"{case.split()[0]}: dy.*\(2, 3\), got \("):
            module.backward(np.ones(shape))

    def test_cotangents_of_another_dtype(self, case):
        module = made(case)
        module(np.ones((2, 3)))
        with pytest.raises(TypeError, match=f"{case.split()[0]}: dy.*float64, got float32"):
            module.backward(np.ones((2, 3), np.float32))

    def test_backward_before_forward(self, case):
        with pytest.raises(RuntimeError, match=f"{case.split()[0]}.backward called before"):
            made(case).backward(np.ones((2, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "0.1", None, True, 1j, [1.0]], ids=repr)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (nn.LeakyReLU, "LeakyReLU: negative_slope"),
        (nn.ELU, "ELU: alpha"),
        (nn.Softplus, "Softplus: beta"),
        (lambda value: nn.Softplus(1, value), "Softplus: threshold"),
        (lambda value: nn.PReLU(2, value), "PReLU: init"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_must_be_finite(make, name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a finite number, got ") as error:
        make(bad)
    assert repr(bad) in str(error.value)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.longdouble(0.5)], ids=repr)
def test_numbers_of_numpy_are_taken(number, in_torch):
    x, dy = np.array([-1.0, 2.0]), np.array([3.0, 5.0])
    for module in (nn.LeakyReLU(number), nn.ELU(number), nn.Softplus(number), nn.PReLU(1, number)):
        assert "=0.5" in repr(module) or isinstance(module, nn.PReLU)
        assert_matches_torch(module.to(np.float64), x, dy, in_torch, np.float64)


def test_softplus_refuses_to_divide_by_zero():
    with pytest.raises(ValueError, match="Softplus: beta must not be 0"):
        nn.Softplus(beta=0)


@pytest.mark.parametrize("bad", ["erf", "", None, True], ids=repr)
def test_gelu_knows_two_forms(bad):
    """RuntimeError is torch's type."""
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match=f"GELU: approximate .*'none' or 'tanh', got {bad!r}"):
            nn.GELU(bad)


@pytest.mark.parametrize("case", [case for case in ALL if case not in ("Arctan", "Step")])
def test_printed_as_in_torch(case):
    assert repr(made(case)) == repr(twin(made(case)))


def test_defaults_are_torchs():
    for kind in (nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Softplus, nn.GELU):
        ours, theirs = kind(), getattr(torch.nn, kind.__name__)()
        for name in ("negative_slope", "num_parameters", "init", "alpha", "beta", "threshold"):
            assert getattr(ours, name, None) == getattr(theirs, name, None)
    assert nn.PReLU().weight.data == np.float32(0.25)
    assert nn.GELU().approximate == torch.nn.GELU().approximate
