"""The parts of the search for a derivative by exact numbers, and the whole by its errors and the
number of evaluations it takes."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from compare.oracle import differences
from compare.oracle.differences import (
    _between,
    _extrapolated,
    _Found,
    _Ladders,
    _Level,
    _weights,
    derivative,
)
from tests.compare.pinned import assert_as_pinned

EPS = np.finfo(float).eps


def counted(f):
    calls = []

    def g(a):
        calls.append(a.copy())
        return f(a)

    return g, calls


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
@pytest.mark.parametrize("n", range(1, 7))
def test_the_weights_leave_the_first_term_of_a_series_alone(n, dtype):
    even, odd = _weights(n, np.dtype(dtype))
    assert even.dtype == odd.dtype == dtype
    steps = [Fraction(2) ** (n - 1 - k) for k in range(n)]
    exact = [[Fraction(float(w)) for w in weights] for weights in (even, odd)]
    for weights, powers in zip(exact, (range(2, 2 * n, 2), range(1, 2 * n - 1, 2)), strict=True):
        assert len(weights) == n
        assert abs(sum(weights) - 1) < 1e-14
        for power in powers:
            terms = [w * h**power for w, h in zip(weights, steps, strict=True)]
            assert abs(sum(terms)) <= 1e-14 * max(map(abs, terms))


@pytest.mark.parametrize("ratio", [2**-0.5, 2**-0.25, 3.0])
@pytest.mark.parametrize("n", range(1, 7))
def test_between_the_steps_an_even_polynomial_is_met(n, ratio):
    weights = _between(n, ratio)
    assert weights.dtype == np.longdouble
    for power in range(0, 2 * n, 2):
        values = np.array([2.0 ** (power * (n - 1 - k)) for k in range(n)])
        assert float(weights @ values) == pytest.approx(ratio**power, rel=1e-12)


def test_an_extrapolation_and_its_error():
    """Of three steps. Slopes: (64 s₂ − 20 s₁ + s₀) / 45, of two (4 s₁ − s₀) / 3; gaps: (16 g₂ −
    10 g₁ + g₀) / 7."""
    rows = [[3, -1], [2, 5], [7, 4]], [[2, 1], [-1, 3], [5, 1]], [[1, 2], [3, 1], [2, 2]]
    rows = [[Fraction(a, 8) for a in row] for row in rows[0]], *rows[1:]
    ladder = [
        _Level(*(np.array(row, float) for row in step), h)
        for *step, h in zip(*rows, (0.5, 0.25, 0.125), strict=True)
    ]
    slopes, gaps, noises = (list(zip(*row, strict=True)) for row in rows)
    value = [(64 * c - 20 * b + a) / 45 for a, b, c in slopes]
    later = [(4 * c - b) / 3 for _, b, c in slopes]
    sooner = [(4 * b - a) / 3 for a, b, _ in slopes]
    differ = max(
        sum(abs(v - w) for v, w in zip(value, shorter, strict=True)) for shorter in (later, sooner)
    )
    gap = sum(abs(16 * c - 10 * b + a) for a, b, c in gaps) / Fraction(7)
    rounding = sum(64 * c + 20 * b + a for a, b, c in noises) / Fraction(45)
    size = sum(map(abs, value))
    found = _extrapolated([ladder[0]._replace(h=9.0), *ladder], 3, 1e-3)
    assert found.value == pytest.approx(float(sum(value)))
    assert found.size == pytest.approx(float(size))
    rounding = float(rounding) + 1e-3 * (4 + 2**0.5) * float(size)
    assert found.error == pytest.approx(float(differ + gap) + rounding)
    odd = sum(16 * c + 10 * b + a for a, b, c in noises) / Fraction(7)
    assert found.explained == pytest.approx(rounding + 2 * float(odd))
    assert found.h == 0.125
    assert np.array_equal(found.slopes, [level.slope for level in ladder])


def test_one_step_and_what_it_touches():
    """Of [x² y, y, max(0, x − 9), max(0, −9 − x), x⁻²] by x, at x = 2, y = 4, with a step of ½."""
    at, cotangent = np.array([2.0, 4.0]), np.array([3.0, -1.0, 2.0, 5.0, 0.0])

    def f(a):
        x, y = a
        return np.array(
            [
                np.clip(x, -99, 99) ** 2 * y,
                y,
                max(0, x - 9) + 1,
                max(0, -9 - x) + 1,
                0 if x else np.inf,
            ]
        )

    def noise(a, y):
        return a[0] * np.array([0.5, 0.25, 0.125, 1.0, 8.0])

    for of_noise, expected in ((noise, [3 * 0.5 * 2.5, 0, 0.125 * 2.5 * 2, 2.5 * 5]), (None, None)):
        ladders = _Ladders(f, at, (0,), cotangent, of_noise)
        assert ladders.finite
        assert ladders.touched.tolist() == [True, False, True, True]
        level = ladders._level(0.5)
        assert level.slope.tolist() == [3 * 16, 0, 0, 0]  # 2 x y
        assert level.gap.tolist() == [3 * 4, 0, 0, 0]  # (6.25 − 2 · 4 + 2.25) y / h
        assert level.h == 0.5
        # The largest of the three points', over the step, of what is touched.
        expected = [4 * EPS * v for v in (25 * 3, 0, 2, 5)] if expected is None else expected
        assert level.noise.tolist() == [2 * v for v in expected]
    ladders = _Ladders(f, -at, (0,), cotangent, noise)  # there the other side is farther out
    assert ladders._level(0.5).noise.tolist() == [-6 * 0.5 * 1.5, 0, -4 * 0.125 * 1.5, -10 * 1.5]
    assert at.tolist() == [2, 4]


def test_a_point_where_f_is_not_finite_is_no_step():
    with np.errstate(divide="ignore"):
        ladders = _Ladders(lambda a: 1 / np.maximum(a, 0), np.ones(1), (0,), np.ones(1), None)
        assert ladders._level(1.0) is None
        assert ladders._level(0.5).slope == [(1 / 1.5 - 2) / 1]
        ladders = _Ladders(lambda a: 1 / np.maximum(-a, 0), -np.ones(1), (0,), np.ones(1), None)
        assert ladders._level(1.0) is None


def test_what_only_a_step_touches_is_touched():
    for side in (0.5, -0.5):
        f = lambda a, side=side: 1 + (a == side)  # noqa: E731
        ladders = _Ladders(f, np.zeros(1), (0,), np.ones(1), None)
        assert ladders.touched.tolist() == [False]
        assert ladders._level(0.25).noise == [0]
        assert ladders._level(0.5).noise == [4 * EPS * 2 / 0.5]
        assert ladders._level(0.25).noise == [4 * EPS / 0.25]  # from then on


@pytest.mark.parametrize("explained", [1.0, 0.0])
def test_what_counts_as_converged(monkeypatch, explained):
    """An error of four times what rounding may be, or of the 1e-5th part of the terms."""
    limit, size = (4.0, 1.0) if explained else (1e-5 * 3, 3.0)
    for error in (limit, np.nextafter(limit, 9)):
        found = _Found(value=2.0, error=error, explained=explained, size=size, steps=99)
        monkeypatch.setattr(_Ladders, "_descend", lambda self, h, levels, found=found: found)
        ladders = _Ladders(np.sin, np.ones(1), (0,), np.ones(1), lambda a, y: 0 * y)
        value, own = ladders.best(0.5, 6)
        assert np.isnan(value) == np.isnan(own) == (error > limit)
        if error == limit:
            assert (value, own) == (2, pytest.approx(error + EPS * 2, rel=1e-15))


def test_longer_steps_are_taken_for_less_than_half_the_error(monkeypatch):
    for error, value in ((2.0, 1), (1.999, 2)):
        on_each = iter([(1.0, 4.0), (2.0, error), (3.0, 9.0)])

        def descend(self, h, levels, on_each=on_each):
            value, error = next(on_each)
            return _Found(value=value, error=error, explained=1.0, size=1.0, steps=3)

        monkeypatch.setattr(_Ladders, "_descend", descend)
        ladders = _Ladders(np.sin, np.ones(1), (0,), np.ones(1), lambda a, y: 0 * y)
        assert ladders.best(0.5, 6)[0] == value


def levels_until_the_end(monkeypatch, errors, noise):
    """How many steps are taken where the extrapolations have these errors, of a sum of size 1."""
    found = [_Found(value=1.0, error=error, size=1.0) for error in errors]
    taken = []

    def level(self, h):
        taken.append(h)
        return _Level(np.ones(1), np.zeros(1), np.full(1, noise or 0), h)

    monkeypatch.setattr(_Ladders, "_level", level)
    monkeypatch.setattr(differences, "ORDERS", (1,))
    monkeypatch.setattr(differences, "_extrapolated", lambda *_: found[len(taken) - 1])
    of_noise = None if noise is None else lambda a, y: 0 * y
    _Ladders(np.sin, np.ones(1), (0,), np.ones(1), of_noise)._descend(0.5, len(errors))
    return len(taken)


def test_when_no_more_steps_are_taken(monkeypatch):
    assert levels_until_the_end(monkeypatch, [0.5] * 4, noise=0.5) == 1  # noise outweighs it
    assert levels_until_the_end(monkeypatch, [0.5] * 4, noise=0.4) == 4
    # It has grown twice since it was less than a fiftieth of the sum.
    assert levels_until_the_end(monkeypatch, [0.0199, 1, 1, 1], noise=None) == 3
    assert levels_until_the_end(monkeypatch, [0.02, 1, 1, 1], noise=None) == 4


def test_the_shortest_step_is_eight_spacings():
    f, calls = counted(lambda a: np.abs(a - 1))
    found = derivative(f, np.ones(1), (0,), np.ones(1), scale=1.0, noise=lambda a, y: 0 * y)
    assert np.isnan(found).all()
    assert min(abs(x - 1) for (x,) in calls if x != 1) == 8 * EPS


@pytest.mark.skipif(np.finfo(np.longdouble).eps == EPS, reason="longdouble is float64 here")
def test_of_a_longdouble_only_the_last_rounding_is_left():
    value, error = derivative(lambda a: a / 3, np.ones(1, np.longdouble), (0,), np.ones(1))
    assert abs(value - 1 / 3) <= error <= 1.02 * EPS * value


# Values in steps of a grain, far coarser than roundoff: every machine finds the same differences.
SMOOTH = {
    "sin": (np.sin, np.cos),
    "cubic": (lambda u: u**3 - 2 * u, lambda u: 3 * u * u - 2),
    "bump": (lambda u: 1 / (1 + u * u), lambda u: -2 * u / (1 + u * u) ** 2),
    "exp": (np.exp, np.exp),
    "line": (lambda u: 3 * u + 1, lambda u: 3.0),
}
POINTS = {
    "at 0.3": (0.3, 1.0),
    "at 15.5": (15.5, 1.0),
    "narrow": (0.4, 2.0**-9),
    "wide": (1.7, 2.0**9),
    "wide, at −40": (-40.0, 2.0**5),
}


def grainy(f, grain):
    return lambda a: np.round(f(a) / grain) * grain


def searches():
    """{name: (f, at, index, cotangent, options, exact)}."""
    found = {}
    for name, (f, slope) in SMOOTH.items():
        for point, (u, length) in POINTS.items():
            if name == "exp" and abs(u) > 10:
                continue
            at = np.array([u * length])
            for grain in (2.0**-16, 2.0**-34):
                g = grainy(lambda a, f=f, length=length: f(a / length), grain)
                for scale in (None, 3 * length):
                    for noise in (None, lambda a, y, grain=grain: 0 * y + grain / 2):
                        key = f"{name} {point}, {grain}, {scale}, {noise is not None}"
                        options = {"scale": scale, "noise": noise}
                        found[key] = g, at, (0,), np.ones(1), options, slope(u) / length
    # Several elements and entries, one that does not count and one that is not touched.
    at, cotangent = np.array([0.5, -0.75, 2.0]), np.array([[3.0, -1.5], [0.0, 7.0]])

    def table(a):
        return np.array([[np.sin(a[0] * a[1]), a[2] ** 3], [1 / a[2], 9.0]])

    for k, exact in enumerate([-2.25 * np.cos(-0.375), 1.5 * np.cos(-0.375), -1.5 * 12]):
        for noise in (None, lambda a, y: 2.0**-31 * (1 + np.abs(a).sum() + 0 * y)):
            options = {"scale": None, "noise": noise}
            found[f"table {k}, {noise is not None}"] = (
                grainy(table, 2.0**-30),
                at,
                (k,),
                cotangent,
                options,
                exact,
            )
    # A kink or a jump, near and at the point; the edge of a domain.
    for distance in (0.0, 2.0**-14, 2.0**-6, 0.3):
        for name, f, slope in (
            ("kink", lambda a: np.abs(a) + a * a, 1 + 2 * distance),
            ("jump", lambda a: np.where(a < 0, a, a + 1), 1.0),
            ("edge", lambda a: np.sqrt(a + 2.0**-20), 0.5 / np.sqrt(distance + 2.0**-20)),
        ):
            for noise in (None, lambda a, y: 2.0**-31 * (1 + 0 * y)):
                key = f"{name} {distance}, {noise is not None}"
                exact = np.nan if distance == 0 and name != "edge" else slope
                options = {"scale": None, "noise": noise}
                f_grainy = grainy(f, 2.0**-30)
                found[key] = f_grainy, np.array([distance]), (0,), np.ones(1), options, exact
    return found


@cache
def answers():
    """{name: (value, error, how many times f was called)}."""
    found = {}
    for name, (f, at, index, cotangent, options, _) in searches().items():
        g, calls = counted(f)
        found[name] = *derivative(g, at, index, cotangent, **options), len(calls)
    return found


def bounds():
    """The error (from 1e-8 of a unit of slope on, what is less may be roundoff), and the count."""
    size = {name: np.abs(at).max(initial=1) for name, (_, at, *_) in searches().items()}
    return {name: (max(e, 1e-8 / size[name]), n) for name, (_, e, n) in answers().items()}


def test_every_search_is_as_long_and_as_good_as_it_was():
    assert_as_pinned("test_differences", bounds())


def test_every_error_is_true():
    """Where nobody says how coarse f is, what is flat within the grain is flat."""
    for name, (*_, options, exact) in searches().items():
        value, error, _ = answers()[name]
        assert np.isnan(value) == np.isnan(error), name
        if options["noise"] or f"{2.0**-34}" in name:
            assert np.isnan(value) or abs(value - exact) <= error, name
    assert np.count_nonzero(np.isfinite([value for value, *_ in answers().values()])) > 90


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_there_is_nothing_to_search_for_f_is_called_once(bad):
    for f, x, cotangent in (
        (lambda a: a + bad, 1.0, 1.0),
        (np.tanh, bad, 1.0),
        (np.tanh, 1.0, bad),
    ):
        g, calls = counted(f)
        found = derivative(g, np.array([x]), (0,), np.array([cotangent]))
        assert np.isnan(found).all()
        assert len(calls) == 1


def test_two_steps_beside_the_halved_ones(monkeypatch):
    ladders = _Ladders(np.sin, np.ones(1), (0,), np.ones(1), None)
    found = ladders._descend(0.5, differences.LEVELS)
    level, steps = _Ladders._level, []
    monkeypatch.setattr(_Ladders, "_level", lambda self, h: steps.append(h) or level(self, h))
    assert ladders._beside(found) < 1e-12
    assert steps == pytest.approx([found.h / 2**0.5, found.h / 2**0.25], rel=1e-15)


def test_where_steps_part_the_error_is_twice_as_large(monkeypatch):
    found = iter([_Found(value=1.0, error=0.1, size=1.0), _Found(value=2.0, error=0.2, size=1.0)])
    monkeypatch.setattr(differences, "ORDERS", (1,))
    monkeypatch.setattr(differences, "_extrapolated", lambda *_: next(found))
    kept = _Ladders(np.sin, np.ones(1), (0,), np.ones(1), None)._descend(0.5, 2)
    assert (kept.value, kept.error) == (1.0, 2.0)
