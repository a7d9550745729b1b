"""The figures of the descent example, worked out again in exact or plain Python numbers."""

import re

import mpmath
import numpy as np
import pytest

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
STATIONARY = sorted(float(r) for r in mpmath.polyroots([12, 15, -40, 8]))
KINDS = dict(zip(STATIONARY, ("minimum", "maximum", "minimum"), strict=True))


def f(x):
    return 3 * x**4 + 5 * x**3 - 20 * x**2 + 8 * x + 10


def d1(x):
    return 12 * x**3 + 15 * x**2 - 40 * x + 8


def d2(x):
    return 36 * x**2 + 30 * x - 40


def descend(x, rate, iterations=10_000):
    """(last iterates, iterations, reason) of x ← x − rate(x) f'(x) until the step is <= 1e-8."""
    trace = [x]
    for k in range(1, iterations + 1):
        x = trace[-1] - rate(trace[-1]) * d1(trace[-1])
        trace.append(x)
        if abs(x) > 1e10:
            return trace, k, "diverged"
        if abs(x - trace[-2]) <= 1e-8:
            return trace, k, "converged"
    return trace, iterations, "iteration limit"


def nearest(x):
    return min(STATIONARY, key=lambda s: abs(s - x))


def numbers(text):
    return [float(n) for n in NUMBER.findall(text)]


@pytest.fixture(scope="module")
def lines(run_example):
    return run_example("steepest_descent")[0].splitlines()


def block(lines, title, header):
    """The rows of the table below a title."""
    at = next(k for k, line in enumerate(lines) if title in line) + header
    return lines[at : lines.index("", at)]


def test_the_printed_derivative(lines):
    (line,) = (line for line in lines if "as the lecture prints it" in line)
    assert line.endswith("is right;")
    gap = numbers(next(line for line in lines if "central differences" in line))[-1]
    # h² f'''/6 = 1e-10 (72 x + 30) / 6 and eps |f| / h = 2.2e-16 · 100 / 1e-5
    assert 0 < gap <= 1e-10 * (72 * 3.5 + 30) / 6 + 2 * 2.2e-16 * 100 / 1e-5
    # and independently: the same derivative in more digits
    for x in (-3.1, 0.4, 2.2):
        assert abs(mpmath.diff(f, x) - d1(x)) <= 1e-10


def test_stationary_points(lines):
    rows = block(lines, "numpy.roots", 1)
    assert len(rows) == 3
    for row, x in zip(rows, STATIONARY, strict=True):
        found = numbers(row.replace("f''", "").replace("2/", ""))
        expected = [x, f(x), d2(x)] + ([2 / d2(x)] if d2(x) > 0 else [])
        for value, exact, digits in zip(found, expected, (5, 5, 4, 4), strict=False):
            assert abs(value - exact) <= 0.51 * 10**-digits
        assert len(found) == len(expected)
        assert KINDS[x] in row


def test_starts(lines):
    rows = block(lines, "Newton-Raphson", 2)
    assert len(rows) == 8
    ends = []
    for row in rows:
        start, x, iterations, newton_x, newton_iterations = numbers(row)
        trace, expected, reason = descend(start, lambda x: 0.01)
        assert reason == "converged"
        # Polynomials rounded in another order end a step earlier or later at most.
        assert abs(iterations - expected) <= 1
        assert abs(x - trace[-1]) <= 0.6e-5
        trace, expected, _ = descend(start, lambda x: 1 / d2(x))
        assert abs(newton_iterations - expected) <= 1
        assert abs(newton_x - trace[-1]) <= 0.6e-5
        assert row.split()[-1] == KINDS[nearest(newton_x)]
        ends.append((KINDS[nearest(x)], nearest(x), nearest(newton_x)))
    assert {end[0] for end in ends} == {"minimum"}
    assert {end[1] for end in ends} == {STATIONARY[0], STATIONARY[2]}
    assert {end[2] for end in ends} == set(STATIONARY)


def test_steps(lines):
    rows = block(lines, "A fixed step", 2)
    seen = set()
    for row in rows:
        lr, start = numbers(row)[:2]
        reason = re.search("converged|diverged|iteration limit", row)[0]
        trace, iterations, expected = descend(start, lambda x, lr=lr: lr)
        assert reason == expected
        assert abs(numbers(row)[2] - iterations) <= 1
        if reason == "converged":
            assert lr < 2 / d2(nearest(trace[-1]))
            assert np.allclose(numbers(row)[3:], trace[-1], rtol=1e-4, atol=0)
        else:
            # five digits; rounding grows with the iterates, or repeats with them
            assert np.allclose(sorted(numbers(row)[3:]), sorted(trace[-3:]), rtol=1e-4, atol=0)
        seen.add((lr, start, reason))
    assert len(seen) == 12
    assert (0.015, 0.0, "converged") in seen
    assert (0.02, 0.0, "iteration limit") in seen  # 2/f'' = 0.0156 at the left minimum
    assert (0.02, 2.0, "converged") in seen
    assert (0.05, 2.0, "diverged") in seen


def test_the_plane(lines):
    """Stationary points of f(x1, x2), and where the paths end."""
    *rows, note = block(lines, "x1^4", 3)
    assert note == "* stopped at the limit of iterations, still moving"
    assert len(rows) == 5
    for row in rows:
        *start, iterations, x1, x2, height, newton_iterations, n1, n2 = numbers(row)
        exact = mpmath.mpf(x1) ** 4 * x2**2 + (x1 - 1) ** 2 * (x2 - 1) ** 4
        x, count = plain_descent(start)
        assert abs(iterations - count) <= 1
        assert np.abs(x - [x1, x2]).max() <= 0.6e-3
        bowl = np.hypot(x1 - 1, x2) < 1e-3
        flat = np.hypot(x1, x2 - 1) < 0.05
        assert bowl != flat
        assert (iterations == 10_000) == ("*" in row) == flat
        value = x[0] ** 4 * x[1] ** 2 + (x[0] - 1) ** 2 * (x[1] - 1) ** 4
        assert abs(height - value) <= 0.06 * value  # two digits printed
        assert float(exact) < 1e-5
        kind = {(1, 0): "minimum", (0.667, 0.333): "saddle", (0, 1): "undecided"}[n1, n2]
        assert row.endswith(kind)
        assert newton_iterations < iterations


def gradient(x):
    a, b = x - 1
    return np.array(
        [4 * x[0] ** 3 * x[1] ** 2 + 2 * a * b**4, 2 * x[0] ** 4 * x[1] + 4 * a**2 * b**3]
    )


def plain_descent(start):
    """(last point, iterations)."""
    x, iterations = np.array(start), 0
    step = np.inf
    while iterations < 10_000 and np.abs(step).max() > 1e-8:
        step = 0.02 * gradient(x)
        x, iterations = x - step, iterations + 1
    return x, iterations


def test_the_gradient_of_the_plane(slope):
    """By central differences (see `slope`), and the saddle where the example's Newton ends."""
    for point in ((1.2, 0.3), (-0.5, 1.5)):
        x = np.array(point)
        found = slope(lambda v: v[0] ** 4 * v[1] ** 2 + (v[0] - 1) ** 2 * (v[1] - 1) ** 4, x)
        assert np.abs(found - gradient(x)).max() <= 1e-8
    assert np.abs(gradient(np.array([2 / 3, 1 / 3]))).max() <= 1e-15
