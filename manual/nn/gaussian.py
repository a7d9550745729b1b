"""The standard normal distribution, which GELU needs and NumPy lacks: Φ and its derivative φ."""

from collections.abc import Callable
from functools import cache

import numpy as np

from manual.arrays import place

# c_k of h(a) = (4 + a) e^(a²/2) Φ(−a) = Σ_k c_k T_k(t), with t = (4 − a)/(4 + a) in [−1, 1] for
# a in [0, ∞]. h is bounded (2 at a = 0, 1/√(2π) at ∞) and smooth in t, so that the c_k fall fast.
# So Numerical Recipes, 3rd ed., § 6.2.2, gets erfc. The c_k are of a Chebyshev interpolation at
# 90 nodes in 60 digits, rounded to 25; the ones left out are below 1e-21.
CHEBYSHEV = (
    "9.704512045660765448460124e-1",
    "7.517088168395705313945225e-1",
    "2.221935556752510340198988e-1",
    "4.851775326044608611863312e-2",
    "6.925920496242480392403425e-3",
    "3.205984743981499535090183e-4",
    "-1.005473916321067839341113e-4",
    "-1.890336901970696361196841e-5",
    "1.010356885474631055075636e-6",
    "6.145334749397823906366929e-7",
    "-3.381020120069175640811848e-9",
    "-2.068650806174283407774128e-8",
    "-1.128260363246950639491207e-10",
    "7.77401522838869426051951e-10",
    "-9.941424191404707483947475e-12",
    "-3.174482949858302784081863e-11",
    "1.842480684470494022150887e-12",
    "1.312861646671096540620417e-12",
    "-1.741536265265481357428056e-13",
    "-4.907274031704424103819059e-14",
    "1.293138432616557620831024e-14",
    "1.218066352172634133173827e-15",
    "-8.052147372620933008417596e-16",
    "2.860494144261621139596146e-17",
    "4.057064424335354146447252e-17",
    "-7.006400772814595874961691e-18",
    "-1.339675403016035803539888e-18",
    "6.09575490965912148902016e-19",
    "-1.492153634177294722686704e-20",
    "-3.472614868346809753958558e-20",
    "6.821856803090608875380476e-21",
)
SQRT_HALF_PI_INVERSE = "0.3989422804014326779399461"  # 1/√(2π)


def normal(x: np.ndarray, new_empty: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Φ(x) = ∫_−∞^x φ = (1 + erf(x/√2))/2 and φ(x) = e^(−x²/2)/√(2π), in the dtype of x.

    new_empty: gives arrays for results and what lies between, as a module's does.

    Both within a few units in the last place, for x → −∞ too, where (1 + erf)/2 would lose
    every digit (longdouble: as far as 64 bits of precision go). NaN stays NaN.
    """
    a, t, tail, beside, density = (new_empty(x.shape, x.dtype) for _ in range(5))
    np.minimum(np.abs(x, out=a), 200, out=a)  # e^(−200²/2) is 0 in every dtype
    _exp_half_square(a, density, t, beside)
    np.subtract(4, a, out=t)
    t /= np.add(4, a, out=beside)
    _horner(_powers(x.dtype), t, tail)  # Φ(−a) = e^(−a²/2) h(a) / (4 + a)
    tail /= beside
    tail *= density
    density *= x.dtype.type(SQRT_HALF_PI_INVERSE)
    positive = np.greater(x, 0, out=new_empty(x.shape, bool))
    place(tail, positive, np.subtract(1, tail, out=t))
    return tail, density


def _exp_half_square(a: np.ndarray, out: np.ndarray, b: np.ndarray, beside: np.ndarray) -> None:
    """e^(−a²/2). A rounding error δ of a²/2 would become a relative one of δ here; with b, a to
    4 binary places, b² is exact and a² − b² = (a − b)(a + b) small."""
    np.rint(np.multiply(16, a, out=b), out=b)
    b /= 16
    np.subtract(a, b, out=beside)
    beside *= np.add(a, b, out=out)
    beside /= -2
    b *= b
    b /= -2
    np.multiply(np.exp(b, out=out), np.exp(beside, out=beside), out=out)


def _horner(powers: np.ndarray, t: np.ndarray, y: np.ndarray) -> None:
    """y = powers[0] tⁿ + … + powers[n]."""
    y[...] = powers[0]
    for power in powers[1:]:
        y *= t
        y += power


@cache
def _powers(dtype: np.dtype) -> np.ndarray:
    """As many terms of the series as the dtype can see, as a polynomial in t, highest power
    first. All its coefficients together are no larger than h(0) = 2: Horner's rule is safe."""
    c = np.array(CHEBYSHEV, np.longdouble)
    c = c[: 1 + np.flatnonzero(np.abs(c) > np.finfo(dtype).eps / 64)[-1]]
    powers = np.zeros(len(c), np.longdouble)
    before, now = np.zeros_like(powers), np.zeros_like(powers)
    now[0], before[1] = 1, 1  # T_0 = 1 and T_−1 = t
    for c_k in c:
        powers += c_k * now
        before, now = now, 2 * np.roll(now, 1) - before  # T_k+1 = 2 t T_k − T_k−1
    return powers[::-1].astype(dtype)
