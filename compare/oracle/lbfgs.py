"""One step of L-BFGS, from the definition of the BFGS matrix and the textbook's line search.

What is the same as in torch are the rules that make it this algorithm and not
another: the first step's length, which pairs are kept, when it stops, and the safeguards of the
line search.

Nocedal & Wright (2006), "Numerical optimization", equations 6.17 and 7.20, algorithms 3.5 and 3.6.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

State = dict[str, Any]
Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]

LEAST_CURVATURE = 1e-10  # sᵀy of a pair that is kept is larger
DECREASE, FLATNESS = 1e-4, 0.9  # c₁ and c₂ of the Wolfe conditions
NARROW = 1e-9  # a bracket in which no parameter moves by so much is not divided further
FEW, MANY = 0.01, 10  # the next t is that share of the last stride ahead, up to that many times t
EDGE = 0.1  # the outer shares of a bracket, where a second trial in a row would be no progress


class Point(NamedTuple):
    """Of φ(t) = L(θ + t d): t, φ(t), the gradient at θ + t d, and φ'(t)."""

    t: np.floating
    loss: np.floating
    gradient: np.ndarray
    slope: np.floating


class NoAnswerError(Exception):
    """Which way it goes from here is not for the textbook to say."""


def lbfgs_updated(
    group: Mapping[str, Any],
    state: Mapping[str, Any],
    theta: np.ndarray,
    evaluate: Evaluate,
    dtype: np.dtype = np.longdouble,
) -> tuple[np.ndarray, State] | None:
    """(θ, the state) after one step of L-BFGS, computed in dtype.

    group: the options, by torch's names; state: the entry of the first parameter in a state dict of
    manual's or torch's, or {}; neither is changed. theta: all parameters as one 1-D array, in
    C order. evaluate(θ): the loss and its gradient there, called as often and in the same order as
    the closure of `step`.

    None where a loss is NaN, or where two ends of a bracket have one and the same loss.
    """
    kept = _cast(state, dtype)
    with np.errstate(all="ignore"):  # a step that is too long reaches an infinite loss
        try:
            return _minimized(group, kept, np.asarray(theta).astype(dtype), evaluate), kept
        except NoAnswerError:
            return None


def inverse_hessian(
    pairs: list[tuple[np.ndarray, np.ndarray, np.floating]], gamma: np.floating, v: np.ndarray
) -> np.ndarray:
    """H v for the pairs (s, y, ρ), the oldest first:

    H₀ = γ I,  H_k = VᵀH_(k−1)V + ρ s sᵀ  with  V = I − ρ y sᵀ.
    """
    right = [v]  # what each H is applied to: v, V v, V V v, …
    for s, y, rho in reversed(pairs):
        right.append(right[-1] - y * (rho * np.dot(s, right[-1])))
    found = gamma * right.pop()
    for s, y, rho in pairs:
        found = found - s * (rho * np.dot(y, found)) + s * (rho * np.dot(s, right.pop()))
    return found


def cubic_minimum(a: Point, b: Point) -> np.floating:
    """The t of the minimum of the cubic with the values and slopes of both points; NaN where it has
    none, ∞ or −∞ where it falls for ever.

    With τ = (t − a) / h, h = b − a and Δ = φ(b) − φ(a), the cubic is φ(a) + m τ + q τ² + c τ³,
    where m = h φ'(a), c = h (φ'(a) + φ'(b)) − 2Δ and q = Δ − m − c. Its slope m + 2 q τ + 3 c τ²
    is 0 and rising at τ = (√(q² − 3 c m) − q) / 3c = −m / (√(q² − 3 c m) + q).
    """
    h, rise = b.t - a.t, b.loss - a.loss
    m = h * a.slope
    c = h * (a.slope + b.slope) - 2 * rise
    q = rise - m - c
    root = np.sqrt(q**2 - 3 * c * m)
    return a.t + h * (-m / (root + q) if q >= 0 else (root - q) / (3 * c))


def _minimized(group: Mapping, state: State, theta: np.ndarray, evaluate: Evaluate) -> np.ndarray:
    """θ after up to max_iter iterations; state is changed."""
    sign = -1 if group["maximize"] else 1
    number, most_calls = theta.dtype.type, group["max_eval"]
    lr = number(float(group["lr"]))
    flat, still = group["tolerance_grad"], group["tolerance_change"]
    calls = 0

    def at(where: np.ndarray) -> tuple[np.floating, np.ndarray]:
        nonlocal calls
        calls += 1
        loss, g = evaluate(where)
        if np.isnan(loss):
            raise NoAnswerError
        return sign * number(loss), sign * np.asarray(g).astype(theta.dtype)

    loss, g = at(theta)
    if largest(g) <= flat:
        return theta
    for left in reversed(range(group["max_iter"])):
        d, t = _direction(group, state, g), lr
        if state["n_iter"] == 1:
            t = lr / max(number(1), np.sum(np.abs(g)))
        state |= {"d": d, "t": t, "prev_flat_grad": g, "prev_loss": loss}
        start = Point(number(0), loss, g, np.dot(g, d))
        if start.slope > -still:
            break
        if group["line_search_fn"]:

            def phi(t: np.floating, theta: np.ndarray = theta, d: np.ndarray = d) -> Point:
                value, gradient = at(theta + t * d)
                return Point(t, value, gradient, np.dot(gradient, d))

            t, loss, g, _ = wolfe_point(phi, start, t, largest(d), most_calls - calls)
            state["t"], theta = t, theta + t * d
        else:
            theta = theta + t * d
            if left:
                loss, g = at(theta)
        if calls >= most_calls or largest(g) <= flat:
            break
        if largest(t * d) <= still or abs(loss - start.loss) < still:
            break
    return theta


def _direction(group: Mapping, state: State, g: np.ndarray) -> np.ndarray:
    """The direction of the next iteration; the state notes what it learnt of the curvature."""
    state["n_iter"] = state.get("n_iter", 0) + 1
    if state["n_iter"] == 1:
        state |= {"old_stps": [], "old_dirs": [], "ro": [], "H_diag": g.dtype.type(1)}
        return -g
    s, y = state["t"] * state["d"], g - state["prev_flat_grad"]
    curvature = np.dot(s, y)
    names = ("old_stps", "old_dirs", "ro")
    if curvature > LEAST_CURVATURE:
        for name, value in zip(names, (s, y, 1 / curvature), strict=True):
            own = state[name]
            own.append(value)
            del own[: max(0, len(own) - group["history_size"])]
        state["H_diag"] = curvature / np.dot(y, y)
    pairs = list(zip(*(state[name] for name in names), strict=True))
    return -inverse_hessian(pairs, state["H_diag"], g)


def wolfe_point(
    phi: Callable[[np.floating], Point],
    start: Point,
    t: np.floating,
    size: np.floating,
    limit: int,
) -> Point:
    """A point with φ(t) ≤ φ(0) + c₁ t φ'(0) and |φ'(t)| ≤ c₂ |φ'(0)|, or the best there is after
    `limit` trials beyond the first, or in a bracket that has become narrow.

    start: φ at 0; t: the first trial; size: the largest |d_i|.
    """
    search = _Search(phi, start, size, limit)
    return search.bracketed(t)


class _Search:
    """trials: how many were made after the first."""

    def __init__(self, phi: Callable, start: Point, size: np.floating, limit: int) -> None:
        self.phi, self.start, self.size, self.limit = phi, start, size, limit
        self.trials = 0

    def bracketed(self, t: np.floating) -> Point:
        """Algorithm 3.5: strides ahead, each longer than the last, until a point is good or has
        passed a good one."""
        last, here = self.start, self.phi(t)
        while self.trials < self.limit:
            # Torch lets the second point be higher than the first.
            risen = self.trials >= 2 and here.loss >= last.loss
            if risen or not self._low_enough(here):
                return self._zoomed(last, here)
            if self._flat_enough(here):
                return here
            if here.slope >= 0:
                return self._zoomed(last, here)
            nearest, farthest = here.t + FEW * (here.t - last.t), MANY * here.t
            last, here = here, self._trial(_clamped(cubic_minimum(last, here), nearest, farthest))
        return here if here.loss < self.start.loss else self.start

    def _zoomed(self, first: Point, second: Point) -> Point:
        """Algorithm 3.6: between `low`, the lowest point so far, and `high`."""
        low, high = (second, first) if second.loss < first.loss else (first, second)
        hesitated = False  # the last trial was near an edge, and allowed to be
        while self.trials < self.limit and self.size * abs(high.t - low.t) >= NARROW:
            ends = sorted((low.t, high.t))
            t = _clamped(cubic_minimum(low, high), *ends)
            edge = EDGE * (ends[1] - ends[0])
            inside = min(max(t, ends[0] + edge), ends[1] - edge)
            if inside == t:
                hesitated = False
            elif hesitated or t in ends:
                t, hesitated = inside, False
            else:
                hesitated = True
            new = self._trial(t)
            if new.loss == low.loss:
                raise NoAnswerError  # torch's choice depends on how it came here
            if new.loss > low.loss:
                high = new
            elif not self._low_enough(new):
                low, high = new, low
            elif self._flat_enough(new):
                return new
            else:
                # The minimum lies where it falls from `new`: towards `high`, or back to `low`.
                low, high = new, (high if new.slope * (high.t - low.t) < 0 else low)
        return low

    def _trial(self, t: np.floating) -> Point:
        self.trials += 1
        return self.phi(t)

    def _low_enough(self, point: Point) -> bool:
        return point.loss - self.start.loss <= DECREASE * point.t * self.start.slope

    def _flat_enough(self, point: Point) -> bool:
        return abs(point.slope) <= -FLATNESS * self.start.slope


def _clamped(t: np.floating, lowest: np.floating, highest: np.floating) -> np.floating:
    """The middle where t is NaN."""
    return (lowest + highest) / 2 if np.isnan(t) else min(max(t, lowest), highest)


def largest(v: np.ndarray) -> np.floating:
    return np.max(np.abs(v))


def _cast(state: Mapping[str, Any], dtype: np.dtype) -> State:
    """A copy that shares nothing with it, of NumPy's numbers or torch's."""

    def cast(value: Any) -> Any:
        return np.asarray(value).astype(dtype)[()]

    kept = {name: value for name, value in state.items() if name != "al" and value is not None}
    for name, value in kept.items():
        if isinstance(value, list):
            kept[name] = [cast(v) for v in value]
        else:
            kept[name] = copy.copy(value) if isinstance(value, int) else cast(value)
    return kept
