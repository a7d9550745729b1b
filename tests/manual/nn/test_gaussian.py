"""Φ and φ: the table against mpmath, and every digit of the results."""

import mpmath
import numpy as np
import pytest

from manual.nn import gaussian

DTYPES = [np.float32, np.float64, np.longdouble]
LOWEST = {np.float32: -12.5, np.float64: -37, np.longdouble: -37}


def normal(x):
    return gaussian.normal(x, np.empty)


names = {"ids": lambda value: getattr(value, "__name__", str(value))}


def exact(value):
    """A longdouble as an mpmath number, to its last bit."""
    mantissa, exponent = np.frexp(value)
    high = float(mantissa)
    return mpmath.ldexp(mpmath.mpf(high) + float(mantissa - high), int(exponent))


def test_the_table_is_the_chebyshev_interpolation_of_h():
    """Its 25 digits, and that the next terms are too small for 64 bits."""
    with mpmath.workdps(60):
        nodes = 90
        angles = [mpmath.pi * (2 * j + 1) / (2 * nodes) for j in range(nodes)]
        values = []
        for angle in angles:
            t = mpmath.cos(angle)
            a = 4 * (1 - t) / (1 + t)
            values.append((4 + a) * mpmath.exp(a * a / 2) * mpmath.ncdf(-a))
        for k in range(len(gaussian.CHEBYSHEV) + 5):
            c = mpmath.fsum(v * mpmath.cos(k * x) for v, x in zip(values, angles, strict=True))
            c *= mpmath.mpf(2 if k else 1) / nodes
            if k < len(gaussian.CHEBYSHEV):
                last = mpmath.mpf(10) ** (mpmath.floor(mpmath.log10(abs(c))) - 24)
                assert abs(mpmath.mpf(gaussian.CHEBYSHEV[k]) - c) <= 0.501 * last, k
            else:
                assert abs(c) < 1e-21
        root = 1 / mpmath.sqrt(2 * mpmath.pi)
        assert abs(mpmath.mpf(gaussian.SQRT_HALF_PI_INVERSE) / root - 1) <= 1e-24


@pytest.mark.parametrize("dtype", DTYPES, **names)
def test_every_digit_is_right(dtype):
    """Relative to themselves: two exp of 4 ulp at worst, a sum of 31 terms of which the first few
    are of any size, and six more roundings. Measured: 7 units of roundoff, 3.5 eps."""
    rng, eps = np.random.default_rng(1), float(np.finfo(dtype).eps)
    x = np.concatenate([rng.normal(size=150), np.linspace(LOWEST[dtype], 9, 150), [0, 1e-30]])
    x = x.astype(dtype)
    cdf, density = normal(x)
    assert cdf.dtype == density.dtype == dtype
    with mpmath.workdps(60):
        for k in range(x.size):
            at = exact(x[k])
            assert abs(exact(cdf[k]) / mpmath.ncdf(at) - 1) <= 5 * eps, x[k]
            assert abs(exact(density[k]) / mpmath.npdf(at) - 1) <= 4 * eps, x[k]


@pytest.mark.skipif(np.finfo(np.longdouble).minexp > -16000, reason="longdouble is float64 here")
def test_the_tail_of_longdouble_is_longer():
    x = np.array([-150, -100, -60.3], np.longdouble)
    cdf, density = normal(x)
    with mpmath.workdps(60):
        for k in range(x.size):
            for value, f in ((cdf[k], mpmath.ncdf), (density[k], mpmath.npdf)):
                assert abs(exact(value) / f(exact(x[k])) - 1) <= 5 * float(
                    np.finfo(np.longdouble).eps
                )


@pytest.mark.parametrize("dtype", DTYPES, **names)
def test_the_ends(dtype):
    largest = np.finfo(dtype).max
    x = np.array([-np.inf, -largest, -300, 300, largest, np.inf, np.nan], dtype)
    cdf, density = normal(x)
    np.testing.assert_array_equal(cdf, [0, 0, 0, 1, 1, 1, np.nan])
    np.testing.assert_array_equal(density, [0, 0, 0, 0, 0, 0, np.nan])


def test_symmetry_and_slope():
    """Φ(x) + Φ(−x) = 1, φ(x) = φ(−x), and Φ never falls."""
    x = np.linspace(-8, 8, 4001)
    cdf, density = normal(x)
    mirrored, same = normal(-x)
    np.testing.assert_allclose(cdf + mirrored, 1, rtol=0, atol=2.3e-16)
    assert np.array_equal(density, same)
    assert (np.diff(cdf) >= -4e-16).all()
    assert normal(np.zeros(1))[0] == 0.5
