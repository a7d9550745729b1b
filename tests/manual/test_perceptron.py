"""The perceptron: against its rule in exact fractions, Novikoff's bound, and what it refuses."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import manual
from manual.checks import DtypeError, InputError
from manual.perceptron import Perceptron

RNG = np.random.default_rng
PAIRS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND, OR, XOR = (np.array(y) for y in ([0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]))


def exact_rule(x, y, orders, lr=1, w=None, b=0):
    """(the weights and the biases at the start and after each cycle, the corrections of each), in
    exact arithmetic, until a cycle has none."""
    rows = [[Fraction(float(v)) for v in row] for row in x]
    w = [Fraction(float(v)) for v in (np.zeros(x.shape[1]) if w is None else w)]
    b, lr = Fraction(float(b)), Fraction(float(lr))
    weights, biases, corrections = [w], [b], []
    for order in orders:
        wrong = 0
        for i in order:
            error = int(y[i]) - (sum(p * q for p, q in zip(w, rows[i], strict=True)) + b >= 0)
            w = [p + lr * error * q for p, q in zip(w, rows[i], strict=True)]
            b += lr * error
            wrong += error != 0
        weights.append(w)
        biases.append(b)
        corrections.append(wrong)
        if wrong == 0:
            break
    return [[float(v) for v in w] for w in weights], [float(b) for b in biases], corrections


def separable(seed, n, d, gap=0.1):
    """Random samples, split by a random plane that no sample is nearer than `gap`; and (R/γ)²."""
    rng = RNG(seed)
    u = rng.normal(size=d + 1)
    u /= np.linalg.norm(u)
    x = rng.normal(size=(40 * n, d))
    margin = x @ u[:d] + u[d]
    x, margin = x[np.abs(margin) >= gap][:n], margin[np.abs(margin) >= gap][:n]
    bound = (1 + (x * x).sum(axis=1).max()) / (margin * margin).min()
    return x, (margin > 0).astype(np.int64), bound


def test_public_names():
    assert manual.Perceptron is Perceptron is manual.perceptron.Perceptron


@pytest.mark.parametrize(
    ("weight", "threshold", "y"), [((1, 1), 1.5, AND), ((1, 1), 0.5, OR), ((-1,), -0.5, [1, 0])]
)
def test_the_notes_gates(weight, threshold, y):
    x = PAIRS if len(weight) == 2 else np.array([[0.0], [1.0]])
    gate = Perceptron(len(weight), weight=np.array(weight, np.float64), bias=-threshold)
    out = gate.predict(x)
    assert out.dtype == np.int64
    assert out.tolist() == list(y)


def test_a_sample_on_the_plane_is_one():
    """And either zero is on the plane."""
    x = np.array([[1.5], [np.nextafter(1.5, 0)], [np.nextafter(1.5, 2)]])
    assert Perceptron(1, weight=np.array([1.0]), bias=-1.5).predict(x).tolist() == [1, 0, 1]
    assert Perceptron(1, dtype=np.float64).predict(np.array([[-0.0], [0.0]])).tolist() == [1, 1]
    assert Perceptron(1, weight=np.array([-1.0])).predict(np.array([[0.0]])).tolist() == [1]


@pytest.mark.parametrize("y", [AND, OR, XOR, np.array([0, 1, 0, 1]), np.array([1, 0, 0, 0])])
@pytest.mark.parametrize("lr", [1.0, 0.25, 4.0])
def test_gates_follow_the_rule(y, lr):
    """All numbers are small multiples of a power of two: exact."""
    gate = Perceptron(2, lr=lr, dtype=np.float64)
    fit = gate.fit(PAIRS, y, max_cycles=50)
    weights, biases, corrections = exact_rule(PAIRS, y, [range(4)] * 50, lr)
    assert fit.corrections.tolist() == corrections
    assert (fit.weight.tolist(), fit.bias.tolist()) == (weights, biases)
    assert fit.cycles == len(corrections)
    assert fit.converged is (corrections[-1] == 0) is not np.array_equal(y, XOR)
    assert np.array_equal(gate.weight, fit.weight[-1])
    assert gate.bias == fit.bias[-1]
    assert np.array_equal(gate.predict(PAIRS), y) == fit.converged


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_dtype_start_and_order(dtype, layout):
    """Whole numbers: exact in each dtype, so the trace is that of the fractions. The order is the
    generator's, drawn anew for each cycle."""
    rng = RNG(3)
    x = layout(rng.integers(-4, 5, size=(30, 3)).astype(dtype))
    y = layout((x @ np.array([2, -1, 1], dtype) + 1 >= 0).astype(np.float32))
    start = layout(np.array([-3, 2, 5], dtype))
    net = Perceptron(3, lr=0.5, weight=start, bias=7)
    fit = net.fit(x, y, generator=RNG(5))
    drawn = RNG(5)
    orders = (drawn.permutation(30) for _ in itertools.count())
    weights, biases, corrections = exact_rule(x, y, orders, 0.5, start, 7)
    assert len(corrections) > 2
    assert fit.corrections.tolist() == corrections
    assert (fit.weight.tolist(), fit.bias.tolist()) == (weights, biases)
    assert {a.dtype for a in (fit.weight, fit.bias, net.weight, net.bias)} == {np.dtype(dtype)}
    assert fit.corrections.dtype.kind == "i"
    in_order = Perceptron(3, lr=0.5, weight=start, bias=7).fit(x, y)
    assert in_order.corrections.tolist() != corrections


def test_default_dtype_is_that_of_linear():
    assert Perceptron(2).weight.dtype == manual.nn.Linear(2, 1).weight.dtype == np.float32
    assert Perceptron(2).bias.dtype == np.float32
    assert Perceptron(2).lr == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([0.1, 1.0, 3.0]), st.booleans())
def test_separable_data_is_learnt_within_novikoffs_bound(seed, d, lr, shuffled):
    """The bound needs a margin well above rounding: 0.1 against corrections of size 10 eps."""
    x, y, bound = separable(seed, 25, d)
    net = Perceptron(d, lr=lr, dtype=np.float64)
    generator = RNG(seed) if shuffled else None
    fit = net.fit(x, y, max_cycles=int(bound) + 2, generator=generator)
    assert fit.converged is True
    assert fit.corrections.sum() <= bound
    assert fit.corrections[-1] == 0
    assert 0 not in fit.corrections[:-1]
    assert np.array_equal(net.predict(x), y)
    assert np.array_equal(fit.weight[-1], fit.weight[-2])


def test_novikoffs_bound_is_reached():
    """Samples at right angles, of alternating labels: each is wrong once, and with u = ±1/√d in
    each direction (R/γ)² = (10⁶ + 1) / (10⁶ / d), hardly more than d."""
    d = 12
    fit = Perceptron(d, dtype=np.float64).fit(1e3 * np.eye(d), np.arange(d) % 2)
    assert fit.corrections.tolist() == [d, 0]
    assert d <= (1e6 + 1) / (1e6 / d) < d + 1


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, 2, elements=st.floats(-10, 10)),
    st.floats(-10, 10),
    st.floats(0.01, 10),
    st.integers(0, 2**32),
)
def test_xor_never(weight, bias, lr, seed):
    net = Perceptron(2, lr=lr, weight=weight, bias=bias)
    fit = net.fit(PAIRS, XOR, max_cycles=60, generator=RNG(seed))
    assert (fit.converged, fit.cycles) == (False, 60)
    assert fit.corrections.min() >= 1
    assert not np.array_equal(net.predict(PAIRS), XOR)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, (6, 3), elements=st.floats(-1e3, 1e3)), st.integers(0, 63))
def test_converged_means_all_right_to_the_last_bit(x, labels):
    """A sample gives one value, alone (as in fit) or among others (as in predict)."""
    y = np.array([labels >> k & 1 for k in range(6)])
    net = Perceptron(3, lr=0.1, dtype=np.float64)
    for data in (x, np.asfortranarray(x)):
        if net.fit(data, y, max_cycles=30).converged:
            assert np.array_equal(net.predict(data), y)
            assert np.array_equal(net.predict(data[3:]), y[3:])


def test_a_sample_gives_one_value_in_any_layout(layout):
    """With the bias minus the first sample's own product, any other rounding of that product
    shows as a wrong side."""
    rng = RNG(8)
    for _ in range(50):
        x, weight = rng.normal(size=(3, 67)), rng.normal(size=67)
        net = Perceptron(67, weight=weight, bias=-np.vecdot(x[0], weight))
        assert net.predict(layout(x))[0] == 1
        assert net.predict(layout(x[:1]))[0] == 1
        assert net.fit(layout(x[:1]), np.array([1]), max_cycles=1).converged


def test_a_second_call_goes_on():
    once, twice = Perceptron(2, dtype=np.float64), Perceptron(2, dtype=np.float64)
    whole = once.fit(PAIRS, AND)
    first, second = (twice.fit(PAIRS, AND, max_cycles=k) for k in (3, 100))
    assert not first.converged
    assert second.converged
    assert np.array_equal(second.weight[0], first.weight[-1])
    assert second.bias[0] == first.bias[-1]
    together = [*first.corrections, *second.corrections]
    assert together == whole.corrections.tolist()
    assert np.array_equal(np.concatenate([first.weight, second.weight[1:]]), whole.weight)
    assert twice.fit(PAIRS, AND, max_cycles=1).converged


def test_converged_needs_a_clean_cycle():
    """The sixth cycle of AND is the first without a correction: five are not enough."""
    gate = Perceptron(2, dtype=np.float64)
    fit = gate.fit(PAIRS, AND, max_cycles=5)
    assert np.array_equal(gate.predict(PAIRS), AND)
    assert fit.converged is False
    assert Perceptron(2, dtype=np.float64).fit(PAIRS, AND, max_cycles=6).converged is True


def test_corrections_lost_to_rounding_are_not_convergence():
    fit = Perceptron(1, weight=np.array([1e20])).fit(
        np.array([[1.0]]), np.array([0]), max_cycles=20
    )
    assert (fit.converged, fit.cycles) == (False, 20)
    assert fit.corrections.tolist() == [1] * 20


def test_default_limit_of_cycles():
    assert Perceptron(2, dtype=np.float64).fit(PAIRS, XOR).cycles == 1000


def test_labels_of_any_real_dtype():
    for dtype in (bool, np.uint8, np.int64, np.float32, np.longdouble):
        fit = Perceptron(2, dtype=np.float64).fit(PAIRS, AND.astype(dtype))
        assert fit.cycles == 6


def test_nothing_given_is_changed_or_shared():
    x, y, weight = PAIRS.copy(), AND.copy(), np.ones(2)
    net = Perceptron(2, weight=weight, bias=1)
    fit = net.fit(x, y)
    assert np.array_equal(x, PAIRS)
    assert np.array_equal(y, AND)
    assert weight.tolist() == [1, 1]
    net.weight[...] = 99
    assert 99 not in fit.weight
    assert weight.tolist() == [1, 1]
    again = Perceptron(2, weight=weight)
    weight[...] = 99
    assert again.weight.tolist() == [1, 1]
    assert repr(Perceptron(3, lr=0.1)) == "Perceptron(in_features=3, lr=0.1)"


def test_no_samples_to_predict():
    assert Perceptron(2).predict(np.empty((0, 2), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"in_features": 0}, ValueError, "in_features must be a whole number >= 1, got 0"),
        ({"in_features": 2.0}, TypeError, "in_features .* got 2.0"),
        ({"in_features": True}, TypeError, "in_features .* got True"),
        ({"lr": 0}, ValueError, "lr must be > 0 in float32, got 0"),
        ({"lr": -1}, ValueError, "lr must be > 0 in float32, got -1"),
        ({"lr": 1e-60}, ValueError, "lr must be > 0 in float32, got 1e-60"),
        ({"lr": 1e60}, ValueError, "lr must be finite in float32, got 1e\\+60"),
        ({"lr": float("nan")}, ValueError, "lr must be finite in float32, got nan"),
        ({"lr": "1"}, TypeError, "lr must be a number, got '1'"),
        ({"lr": True}, TypeError, "lr must be a number, got True"),
        ({"bias": float("inf")}, ValueError, "bias must be finite in float32, got inf"),
        ({"bias": None}, TypeError, "bias must be a number, got None"),
        ({"bias": 1e60, "dtype": np.float32}, ValueError, "bias must be finite in float32"),
        ({"dtype": np.float16}, TypeError, "dtype must be float32, .* float16"),
        ({"dtype": int}, TypeError, "dtype must be float32"),
        ({"weight": [1.0, 1.0]}, TypeError, "weight: expected a NumPy array, got list"),
        ({"weight": np.ones(2, int)}, DtypeError, "weight: .* got int64"),
        ({"weight": np.ones(3)}, InputError, r"weight: expected shape \(2,\), got \(3,\)"),
        ({"weight": np.ones((1, 2))}, InputError, r"weight: expected shape \(2,\), got \(1, 2\)"),
        ({"weight": np.ones(2), "dtype": np.float32}, DtypeError, "weight: expected dtype float32"),
        ({"weight": np.array([1, np.nan])}, InputError, "weight must be finite"),
        ({"weight": np.array([1, -np.inf])}, InputError, "weight must be finite"),
    ],
)
def test_refused_in_the_constructor(arguments, error, text):
    with pytest.raises(error, match=f"Perceptron: {text}"):
        Perceptron(**{"in_features": 2, **arguments})


@pytest.mark.parametrize("method", ["predict", "fit"])
@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (PAIRS.tolist(), TypeError, "x: expected a NumPy array, got list"),
        (PAIRS.astype(int), DtypeError, "x: .* got int64"),
        (PAIRS.astype(np.float32), DtypeError, "x: expected dtype float64, got float32"),
        (PAIRS[0], InputError, r"expected x of shape \(n, 2\), got \(2,\)"),
        (PAIRS[None], InputError, r"expected x of shape \(n, 2\), got \(1, 4, 2\)"),
        (PAIRS.T.copy(), InputError, r"expected x of shape \(n, 2\), got \(2, 4\)"),
        (np.where(PAIRS > 1, 0, np.nan), InputError, r"x must be finite, .* in row 0"),
        (
            np.where(PAIRS[:, :1] > PAIRS[:, 1:], np.inf, PAIRS),
            InputError,
            r".* \[inf inf\] in row 2",
        ),
    ],
)
def test_refused_samples(method, x, error, text):
    net = Perceptron(2, dtype=np.float64)
    with pytest.raises(error, match=f"Perceptron: {text}"):
        net.predict(x) if method == "predict" else net.fit(x, AND)
    assert not net.weight.any()


@pytest.mark.parametrize(
    ("y", "error", "text"),
    [
        (AND.tolist(), TypeError, "y: expected a NumPy array, got list"),
        (AND.astype(str), DtypeError, "y: expected real numbers, got <U"),
        (AND.astype(complex), DtypeError, "y: expected real numbers, got complex128"),
        (AND[:3], InputError, r"expected y of shape \(4,\), n >= 1, got \(3,\)"),
        (AND[:, None], InputError, r"expected y of shape \(4,\), n >= 1, got \(4, 1\)"),
        (2 * AND - 1, InputError, "y must be 0 or 1, got -1 in place 0"),
        (np.array([0, 1, 1, 2]), InputError, "y must be 0 or 1, got 2 in place 3"),
        (np.array([0, np.nan, 1, 0]), InputError, "y must be 0 or 1, got nan in place 1"),
        (np.array([0, 0.5, 1, 0]), InputError, "y must be 0 or 1, got 0.5 in place 1"),
    ],
)
def test_refused_labels(y, error, text):
    with pytest.raises(error, match=f"Perceptron: {text}"):
        Perceptron(2, dtype=np.float64).fit(PAIRS, y)


def test_refused_numbers_of_fit():
    net = Perceptron(2, dtype=np.float64)
    for bad in (0, -1, 2.0, True, None):
        error = ValueError if type(bad) is int else TypeError
        with pytest.raises(error, match=f"max_cycles must be a whole number >= 1, got {bad}"):
            net.fit(PAIRS, AND, max_cycles=bad)
    with pytest.raises(TypeError, match=r"generator must be a numpy\.random\.Generator, got int"):
        net.fit(PAIRS, AND, generator=3)
    with pytest.raises(InputError, match=r"expected y of shape \(0,\), n >= 1, got \(0,\)"):
        net.fit(PAIRS[:0], AND[:0])


def test_an_overflow_is_no_answer():
    """inf − inf has no sign. Learning that overflows leaves the weights as they were."""
    huge = np.array([[1.0, 1.0], [1e308, -1e308]])
    net = Perceptron(2, weight=np.array([10.0, 10.0]))
    with pytest.raises(FloatingPointError, match=r"w·x \+ b of sample 1 is not a finite number"):
        net.predict(huge)
    with pytest.raises(FloatingPointError, match=r"w·x \+ b of sample 1 is not a finite number"):
        net.fit(huge, np.array([0, 1]))
    assert net.weight.tolist() == [10, 10]
    assert net.bias == 0
    net = Perceptron(1, lr=10.0, dtype=np.float64)
    with pytest.raises(FloatingPointError, match="a weight overflowed in cycle 1"):
        net.fit(np.array([[1e308]]), np.array([0]), max_cycles=1)
    assert net.weight.tolist() == [0]
    net = Perceptron(1, lr=1e308, weight=np.array([1.5e308]), bias=-1e308)
    with pytest.raises(FloatingPointError, match="a weight overflowed in cycle 1"):
        net.fit(np.array([[1.0]]), np.array([0]), max_cycles=1)
    assert (net.weight[0], net.bias) == (1.5e308, -1e308)
