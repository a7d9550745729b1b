"""The formulas of activations and losses, in letters and with numbers put in.

The numbers that stand at the end of a line are the exact ones of the marking; what is computed here
is what no row of it holds: the slope of an activation, and each observation's share of the loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compare.worked.page.figures import factor, number, places, product

LEAK = 0.01  # of leaky_relu, as in torch


@dataclass(frozen=True)
class Activation:
    """`forward` and `slope` write a formula from (a, z), which are letters or figures;
    `derivative` is da/dz."""

    rule: str
    forward: Callable[[float], str]
    rule_of_slope: str
    slope: Callable[[float, float], str]
    derivative: Callable[[float], float]


def _logistic_slope(z: float) -> float:
    small = math.exp(-abs(z))
    return small / (1 + small) ** 2


def _logistic(z: float) -> float:
    small = math.exp(-abs(z))
    return (1 if z >= 0 else small) / (1 + small)


def _minus(value: float) -> str:
    return number(-value)


def _square(value: float) -> str:
    return f"{factor(number(value))}²"


def _side(z: float, above: str, below: str) -> str:
    """Of a function with a kink at 0, whose derivative there is that from below."""
    return f"{above}, since {number(z)} > 0" if z > 0 else f"{below}, since {number(z)} ≤ 0"


ACTIVATIONS = {
    "identity": Activation("a = z", number, "1", lambda a, z: "1", lambda z: 1.0),
    "sigmoid": Activation(
        "a = σ(z) = 1 / (1 + exp(−z))",
        lambda z: f"1 / (1 + exp({_minus(z)}))",
        "a (1 − a)",
        lambda a, z: f"{number(a)} × (1 − {number(a)})",
        _logistic_slope,
    ),
    "tanh": Activation(
        "a = tanh z",
        lambda z: f"tanh {factor(number(z))}",
        "1 − a²",
        lambda a, z: f"1 − {_square(a)}",
        lambda z: 1 / math.cosh(z) ** 2 if abs(z) < 300 else 0.0,
    ),
    "relu": Activation(
        "a = max(0, z)",
        lambda z: f"max(0, {number(z)})",
        "1 where z > 0, else 0",
        lambda a, z: _side(z, "1", "0"),
        lambda z: float(z > 0),
    ),
    "leaky_relu": Activation(
        f"a = z where z > 0, else {LEAK} z",
        lambda z: _side(z, number(z), f"{LEAK} × {factor(number(z))}"),
        f"1 where z > 0, else {LEAK}",
        lambda a, z: _side(z, "1", str(LEAK)),
        lambda z: 1.0 if z > 0 else LEAK,
    ),
    "elu": Activation(
        "a = z where z > 0, else exp(z) − 1",
        lambda z: _side(z, number(z), f"exp({number(z)}) − 1"),
        "1 where z > 0, else exp(z)",
        lambda a, z: _side(z, "1", f"exp({number(z)})"),
        lambda z: 1.0 if z > 0 else math.exp(z),
    ),
    "softplus": Activation(
        "a = ln(1 + exp(z))",
        lambda z: f"ln(1 + exp({number(z)}))",
        "1 / (1 + exp(−z))",
        lambda a, z: f"1 / (1 + exp({_minus(z)}))",
        _logistic,
    ),
    "arctan": Activation(
        "a = arctan z",
        lambda z: f"arctan {factor(number(z))}",
        "1 / (1 + z²)",
        lambda a, z: f"1 / (1 + {_square(z)})",
        lambda z: 1 / (1 + z * z),
    ),
}
SOFTMAX = "aᵢ = exp(zᵢ) / Σⱼ exp(zⱼ)"


def softmax(z: Sequence[float], i: int) -> str:
    """Of an output i among a few; the largest z is subtracted, which changes nothing but keeps the
    exponentials small, where they are not."""
    shift = max(z) if max(map(abs, z)) > 20 else 0.0
    terms = [f"exp({number(value - shift)})" for value in z]
    if len(terms) > 4:
        terms = [*terms[:2], "…", terms[-1]]
    return f"exp({number(z[i] - shift)}) / ({' + '.join(terms)})"


@dataclass(frozen=True)
class Loss:
    """Of predictions p and targets t, both of one observation, and n: what the sum over all of
    them is divided by. `write` gives the share of an observation as a formula with figures, and
    `slope` that of its derivative in prediction i; `share` is the number itself."""

    rule: str
    rule_of_slope: str
    divisor: Callable[[int, int], int]  # from rows and outputs
    write: Callable[[Sequence[float], Sequence[float], int], str]
    share: Callable[[Sequence[float], Sequence[float], int], float]
    slope: Callable[[Sequence[float], Sequence[float], int, int], str]


def _difference(p: float, t: float) -> str:
    """With as many digits as give the difference three."""
    near = abs(t - p) and 2 - math.floor(math.log10(abs(t - p)))
    short = number(p)
    count = min(max(near, len(short.partition(".")[2])), 15)
    digits = short if float(f"{p:.4g}") == p or near <= 3 else places(p, count)
    return f"({number(t)} − {factor(digits)})"


def _squares(scale: float, before: str):
    def write(p, t, n) -> str:
        terms = [f"{_difference(a, b)}²" for a, b in zip(p, t, strict=True)]
        inner = " + ".join(terms)
        inner = f"({inner})" if len(terms) > 1 and (before or n > 1) else inner
        return f"{before}{inner}{f' / {n}' if n > 1 else ''}"

    def share(p, t, n) -> float:
        return scale * math.fsum((b - a) ** 2 for a, b in zip(p, t, strict=True)) / n

    def slope(p, t, n, i) -> str:
        two = "" if scale == 0.5 else "2 × "
        return f"−{two}{_difference(p[i], t[i])}{f' / {n}' if n > 1 else ''}"

    return write, share, slope


def _binary_write(p, t, n) -> str:
    terms = []
    for a, b in zip(p, t, strict=True):
        if b in (0, 1):
            terms.append(f"−ln {number(a)}" if b else f"−ln(1 − {number(a)})")
        else:
            rest = f"(1 − {number(b)}) × ln(1 − {number(a)})"
            terms.append(f"−({number(b)} × ln {number(a)} + {rest})")
    inner = " ".join([terms[0], *(f"− {term[1:]}" for term in terms[1:])])
    return f"({inner}) / {n}" if n > 1 else inner


def _binary_share(p, t, n) -> float:
    def term(a: float, b: float) -> float:
        log = -math.log(a) * b if b else 0.0
        return log - (math.log1p(-a) * (1 - b) if b != 1 else 0.0)

    return math.fsum(term(a, b) for a, b in zip(p, t, strict=True)) / n


def _binary_slope(p, t, n, i) -> str:
    a, b = number(p[i]), factor(number(t[i]))
    under = product([*([str(n)] if n > 1 else []), a, f"(1 − {a})"])
    return f"({a} − {b}) / ({under})"


def _cross_write(p, t, n) -> str:
    terms = [
        f"{'' if b == 1 else f'{number(b)} × '}ln softmax({number(a)})"
        for a, b in zip(p, t, strict=True)
        if b
    ]
    inner = "−" + " − ".join(terms) if terms else "0"
    return f"({inner}) / {n}" if n > 1 else inner


def _cross_share(p, t, n) -> float:
    top = max(p)
    log = top + math.log(math.fsum(math.exp(a - top) for a in p))
    return math.fsum(b * (log - a) for a, b in zip(p, t, strict=True)) / n


def _cross_slope(p, t, n, i) -> str:
    whole = math.fsum(t)
    scaled = "" if whole == 1 else f"{number(whole)} × "
    inner = f"{scaled}softmax({number(p[i])}) − {factor(number(t[i]))}"
    return f"({inner}) / {n}" if n > 1 else inner


LOSSES = {
    "half_squared_error": Loss(
        "E = ½ Σ (y − a)²", "∂E/∂a = −(y − a)", lambda rows, outputs: 1, *_squares(0.5, "½ × ")
    ),
    "sum_squared_error": Loss(
        "E = Σ (y − a)²", "∂E/∂a = −2 (y − a)", lambda rows, outputs: 1, *_squares(1, "")
    ),
    "mean_squared_error": Loss(
        "E = (1/n) Σ (y − a)², n figures",
        "∂E/∂a = −2 (y − a) / n",
        lambda rows, outputs: rows * outputs,
        *_squares(1, ""),
    ),
    "binary_cross_entropy": Loss(
        "E = −(1/n) Σ (y ln a + (1 − y) ln(1 − a)), n figures",
        "∂E/∂a = (a − y) / (n a (1 − a))",
        lambda rows, outputs: rows * outputs,
        _binary_write,
        _binary_share,
        _binary_slope,
    ),
    "cross_entropy": Loss(
        "E = −(1/n) Σ y ln softmax(a), n observations",
        "∂E/∂a = (softmax(a) − y) / n",
        lambda rows, outputs: rows,
        _cross_write,
        _cross_share,
        _cross_slope,
    ),
}
