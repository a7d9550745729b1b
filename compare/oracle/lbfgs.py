"""What a step of L-BFGS computes, with the inverse Hessian as one formula instead of two loops."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Pairs = list[tuple[np.ndarray, np.ndarray]]
Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


def lbfgs_step(
    options: Mapping[str, Any], state: Mapping[str, Any], theta: np.ndarray, evaluate: Evaluate
) -> dict[str, np.ndarray] | None:
    """{"theta": …, "d": …, "prev_flat_grad": …} after one call of step(): all parameters afterwards
    and, where it came so far, the last direction and the gradient it was computed from.

    options: of the one group; state: by torch's names, {} at first; theta: all parameters, (n,).
    evaluate(theta) → (loss, gradient). None with a line search, whose result the conditions that
    it has to satisfy leave open.
    """
    if options["line_search_fn"] is not None:
        return None
    lr, limit = float(options["lr"]), options["tolerance_change"]
    sign = -1 if options.get("maximize") else 1
    pairs: Pairs = [
        (np.asarray(s, float), np.asarray(y, float))
        for s, y in zip(state.get("old_stps", ()), state.get("old_dirs", ()), strict=True)
    ]
    iterations, t = int(state.get("n_iter", 0)), float(state.get("t", 0))
    kept = {k: np.asarray(state[k], float) for k in ("d", "prev_flat_grad") if k in state}
    loss, g = evaluate(theta)
    loss, g = sign * loss, sign * g
    evaluations = 1
    if np.max(np.abs(g)) <= options["tolerance_grad"]:
        return {"theta": theta, **kept}
    for left in reversed(range(options["max_iter"])):
        iterations += 1
        if iterations == 1:
            d, t = -g, lr * min(1.0, 1 / np.sum(np.abs(g)))
        else:
            s, y = t * kept["d"], g - kept["prev_flat_grad"]
            if s @ y > 1e-10:
                pairs = [*pairs, (s, y)][-options["history_size"] :]
            d, t = -times_inverse_hessian(pairs, g), lr
        kept, before = {"d": d, "prev_flat_grad": g}, loss
        if g @ d > -limit:
            break
        theta = theta + t * d
        if left:
            loss, g = evaluate(theta)
            loss, g = sign * loss, sign * g
            evaluations += 1
        done = evaluations >= options["max_eval"] or abs(loss - before) < limit
        done = done or np.max(np.abs(g)) <= options["tolerance_grad"]
        if done or np.max(np.abs(t * d)) <= limit:
            break
    return {"theta": theta, **kept}


def times_inverse_hessian(pairs: Pairs, g: np.ndarray) -> np.ndarray:
    """H g, where H is γ I updated by BFGS with every pair (s, y), the oldest first:

        H = γ I + (S  γY) ( R⁻ᵀ (D + γ YᵀY) R⁻¹   −R⁻ᵀ ) ( Sᵀ  )
                          (        −R⁻¹             0  ) ( γYᵀ )

    with the pairs as columns of S and Y, R the upper triangle of SᵀY, D its diagonal, and
    γ = sᵀy / yᵀy of the newest.

    Byrd, Nocedal & Schnabel (1994), "Representations of quasi-Newton matrices and their use in
    limited memory methods", theorem 2.2.
    """
    if not pairs:
        return g.copy()
    s, y = (np.stack(columns, 1) for columns in zip(*pairs, strict=True))
    gamma = (s[:, -1] @ y[:, -1]) / (y[:, -1] @ y[:, -1])
    products = s.T @ y
    r, d = np.triu(products), np.diag(np.diag(products))
    u, v = s.T @ g, gamma * (y.T @ g)
    w = np.linalg.solve(r, u)
    upper = np.linalg.solve(r.T, (d + gamma * (y.T @ y)) @ w - v)
    return gamma * g + s @ upper - gamma * (y @ w)
