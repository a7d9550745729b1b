"""The standard normal distribution from its series and its continued fraction."""

import numpy as np

PI = np.longdouble("3.14159265358979323846264338327950288420")
MIDDLE = 1.5  # below the series, above the continued fraction
TERMS = 40  # of the series: 1.5⁸¹ / 81!! < 1e-46
DEPTH = 280  # of the fraction: at a = 1.5 its error is about e^(−2a √280) < 1e-21


def normal_distribution(x: np.ndarray) -> np.ndarray:
    """Φ(x) in the dtype of x, within 20 + x² units of roundoff for x < 0, 10 for x ≥ 0.

    With φ(x) = e^(−x²/2)/√(2π), for small |x| the power series
        Φ(x) = ½ + φ(x) (x + x³/3 + x⁵/(3·5) + x⁷/(3·5·7) + …),
    and for larger a = |x| Laplace's continued fraction
        Φ(−a) = φ(a) / (a + 1/(a + 2/(a + 3/(a + …)))).
    Source: Abramowitz & Stegun 1964, 26.2.11 and 26.2.14.
    """
    a = np.abs(x)
    density = np.exp(-x * x / 2) / np.sqrt(2 * PI.astype(x.dtype))
    near = np.minimum(a, MIDDLE)
    term = total = near
    for k in range(1, TERMS):
        term = term * near * near / (2 * k + 1)
        total = total + term
    middle = x.dtype.type(0.5) + np.sign(x) * density * total
    far = np.maximum(a, MIDDLE)
    fraction = far
    for k in range(DEPTH, 0, -1):
        fraction = far + k / fraction
    tail = density / fraction
    return np.where(a < MIDDLE, middle, np.where(x < 0, tail, 1 - tail))
