"""L-BFGS: Newton's direction from the last few steps and gradients, without a matrix."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from manual.arrays import as_if, host, number
from manual.nn.parameter import Parameter
from manual.optim.line_search import Point, strong_wolfe
from manual.optim.optimizer import Optimizer, array_of, check_number

VECTORS = ("d", "prev_flat_grad")
LISTS = ("old_dirs", "old_stps", "ro")
COUNTS = ("func_evals", "n_iter")
NUMBERS = ("t", "H_diag", "prev_loss")


class LBFGS(Optimizer):
    """Limited-memory BFGS, as torch.optim.LBFGS. Each of up to max_iter iterations is

        g = dL/dθ (L and g with their signs changed by maximize)
        keep s = the last step t d and y = the change of g it made, where yᵀs > 1e-10
            (old_stps, old_dirs, ρ = 1 / yᵀs; the last history_size of them)
        d = −H g     by the two-loop recursion, with H₀ = yᵀs / yᵀy of the newest pair
        θ ← θ + t d  with t = lr, the first time lr · min(1, 1 / Σ|gᵢ|);
                     or the t that `strong_wolfe` finds from there

    It stops early after max_eval evaluations of the closure (default: max_iter · 5 // 4), where no
    |gᵢ| exceeds tolerance_grad, and where d is no descent, no parameter moved or the loss did not
    change by tolerance_change.

    line_search_fn: None or "strong_wolfe". All parameters are one group. A parameter whose grad is
    None counts as one with gradient 0.
    Raises ValueError for a negative lr, a bad number and for more than one group, RuntimeError for
    another line search.

    Liu & Nocedal (1989), "On the limited memory BFGS method for large scale optimization";
    Nocedal & Wright (2006), "Numerical optimization", algorithms 7.4 and 7.5.
    """

    _limits: ClassVar = {
        "lr": (0, math.inf),
        "max_iter": (0, math.inf),
        "max_eval": (0, math.inf),
        "tolerance_grad": (-math.inf, math.inf),
        "tolerance_change": (-math.inf, math.inf),
        "history_size": (1, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        maximize: bool = False,
    ) -> None:
        check_number("LBFGS: max_iter", max_iter)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises ValueError: all parameters are one group, the constructor's."""
        if self.param_groups:
            raise ValueError("LBFGS: all parameters are one group, with one set of options")
        super().add_param_group(param_group)

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        for name in ("max_iter", "max_eval", "history_size"):
            if group[name] != int(group[name]):
                raise ValueError(f"LBFGS: {name} must be a whole number, got {group[name]!r}")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError(
                f"LBFGS: line_search_fn is None or 'strong_wolfe', got {group['line_search_fn']!r}"
            )

    def step(self, closure: Callable[[], Any]) -> Any:
        """Up to max_iter iterations; returns the loss before the first.

        closure: computes loss and gradients at the parameters as they are, and returns the loss.
        It is called up to max_eval times, or a few more within the last line search.
        """
        [group], [state] = self.param_groups, self._states
        self._check(group)
        self._convert(state, group["params"][0].data)
        # A step that is too long may reach an infinite loss, which the search then rejects.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._minimize(closure, group, state)

    def _minimize(
        self, closure: Callable[[], Any], group: dict[str, Any], state: dict[str, Any]
    ) -> Any:
        lr, sign = float(group["lr"]), -1 if group["maximize"] else 1
        max_iter, max_eval = int(group["max_iter"]), group["max_eval"]
        least_gradient, least_change = group["tolerance_grad"], group["tolerance_change"]

        def evaluate() -> tuple[Any, float, np.ndarray]:
            found = closure()
            loss = found if isinstance(found, np.longdouble) else float(found)
            return found, sign * loss, sign * self._gradient()

        def at(t: float) -> Point:
            kept = [p.data.copy() for p in group["params"]]
            self._move(t, d)
            _, loss, g = evaluate()
            for p, data in zip(group["params"], kept, strict=True):
                p.data = data
            return Point(t, loss, g, number(np.dot(g, d)))

        first_loss, loss, g = evaluate()
        evaluations = 1
        state["func_evals"] = state.get("func_evals", 0) + 1
        state.setdefault("n_iter", 0)
        if number(np.abs(g).max()) <= least_gradient:
            return first_loss

        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                state |= {"old_dirs": [], "old_stps": [], "ro": [], "H_diag": 1.0}
                d = -g
                t = min(1.0, 1.0 / number(np.abs(g).sum())) * lr
            else:
                _remember(state, g, int(group["history_size"]))
                d = _direction(state, g)
                t = lr
            state |= {"d": d, "t": t, "prev_flat_grad": g, "prev_loss": loss}
            slope = number(np.dot(g, d))
            if slope > -least_change:
                break
            if group["line_search_fn"]:
                found, evaluated = strong_wolfe(
                    at,
                    Point(0, loss, g, slope),
                    t,
                    size=number(np.abs(d).max()),
                    max_ls=max_eval - evaluations,
                )
                t, loss, g = found.t, found.loss, found.gradient
                state["t"] = t
                self._move(t, d)
            else:
                self._move(t, d)
                evaluated = 0
                if iteration < max_iter:  # nobody would use what the last one gives
                    _, loss, g = evaluate()
                    evaluated = 1
            evaluations += evaluated
            state["func_evals"] += evaluated
            if (
                evaluations >= max_eval
                or number(np.abs(g).max()) <= least_gradient
                or number(np.abs(d * t).max()) <= least_change
                or abs(loss - state["prev_loss"]) < least_change
            ):
                break
        return first_loss

    def _gradient(self) -> np.ndarray:
        """All gradients in one 1-D array, each in C order, as torch has it."""
        params = self.param_groups[0]["params"]
        return np.concatenate(
            [np.zeros_like(p.data).ravel() if p.grad is None else p.grad.ravel() for p in params]
        )

    def _move(self, t: float, d: np.ndarray) -> None:
        """θ ← θ + t d."""
        offset = 0
        for p in self.param_groups[0]["params"]:
            p.data += t * d[offset : offset + p.size].reshape(p.shape)
            offset += p.size

    # The state is that of the whole group; in the state dict it stands under its first parameter.

    def _fresh(self, group: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _convert(self, state: dict[str, Any], data: np.ndarray) -> None:
        """All that was computed, to the dtype and the place of data, a parameter's: the network may
        have been converted or moved since. Numbers stay on the CPU."""

        def vector(value: np.ndarray) -> np.ndarray:
            return as_if(data, value).astype(data.dtype, copy=False)

        for name in state.keys() & {*VECTORS}:
            state[name] = vector(state[name])
        for name in state.keys() & {*LISTS}:
            state[name] = [vector(v) if np.ndim(v) else data.dtype.type(v) for v in state[name]]
        for name in state.keys() & {*NUMBERS}:
            state[name] = data.dtype.type(state[name])

    def _entries(
        self, group: dict[str, Any], state: dict[str, Any]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        if state:
            self._convert(state, group["params"][0].data)
            yield (
                0,
                {
                    name: [copy.deepcopy(host(v)) for v in value]
                    if name in LISTS
                    else copy.deepcopy(host(value))
                    for name, value in state.items()
                },
            )

    def _loaded(
        self, group: dict[str, Any], entries: list[dict[str, Any]], who: str
    ) -> dict[str, Any]:
        given = {k: v for k, v in entries[0].items() if k != "al" and v is not None}
        known = {*VECTORS, *LISTS, *COUNTS, *NUMBERS}
        if (given and given.keys() != known and given.keys() != {*COUNTS}) or any(entries[1:]):
            raise ValueError(f"{who} has {sorted(given)}, expected {sorted(known)}")
        size = (sum(p.size for p in group["params"]),)
        state: dict[str, Any] = {}
        for name, value in given.items():
            what = f"{who}: {name}"
            if name in VECTORS:
                state[name] = np.array(array_of(what, value, size))
            elif name in LISTS:
                shape = () if name == "ro" else size
                state[name] = [np.array(array_of(what, v, shape))[()] for v in value]
            else:
                given_number = array_of(what, value, ())[()]
                state[name] = int(given_number) if name in COUNTS else given_number
        if len({len(state.get(name, ())) for name in LISTS}) != 1:
            raise ValueError(f"{who} has {', '.join(LISTS)} of different lengths")
        self._convert(state, group["params"][0].data)
        return state


def _remember(state: dict[str, Any], g: np.ndarray, history_size: int) -> None:
    """Keep the last step s and the change y of the gradient, where the curvature yᵀs is positive
    (or H would not be)."""
    y, s = g - state["prev_flat_grad"], state["d"] * state["t"]
    ys = number(np.dot(y, s))
    if ys > 1e-10:
        for name, value in (("old_dirs", y), ("old_stps", s), ("ro", 1 / ys)):
            state[name] = [*state[name], value][-history_size:]
        state["H_diag"] = ys / number(np.dot(y, y))


def _direction(state: dict[str, Any], g: np.ndarray) -> np.ndarray:
    """−H g by Nocedal & Wright's algorithm 7.4: from the newest pair to the oldest and back."""
    pairs = list(zip(state["old_stps"], state["old_dirs"], state["ro"], strict=True))
    q, alphas = -g, []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * number(np.dot(s, q)))
        q -= alphas[-1] * y
    r = state["H_diag"] * q
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = rho * number(np.dot(y, r))
        r += (alpha - beta) * s
    return r
