"""One row of the verdict: a tensor of manual's against the same of torch's, and who is wrong."""

from typing import Any

import numpy as np
import pandas as pd

from compare.trace import Tensor

COLUMNS = ["step", "name", "stage", "shape", "dtype", "max_abs", "max_rel", "max_ulp", "allowed"]
COLUMNS += ["used", "worst", "manual", "torch", "oracle", "verdict", "blame"]


def judge(
    step: int, a: Tensor | None, b: Tensor | None, allowed: np.ndarray | None
) -> dict[str, Any]:
    """The row for one tensor: manual's `a` against torch's `b`, by at most `allowed` apart."""
    some = a or b
    row = dict.fromkeys(COLUMNS, np.nan) | {
        "step": step,
        "name": some.name,
        "stage": some.stage,
        "shape": some.value.shape,
        "dtype": str(some.value.dtype),
        "worst": None,
        "blame": None,
    }
    for verdict, of in (
        ("missing", lambda t: "nothing" if t is None else "it"),
        ("shape", lambda t: f"shape {list(t.value.shape)}"),
        ("dtype", lambda t: str(t.value.dtype)),
    ):
        if of(a) != of(b):
            return row | {"verdict": verdict, "manual": of(a), "torch": of(b)}
    return row | judge_values(a.value, b.value, allowed)


def judge_values(a: np.ndarray, b: np.ndarray, allowed: np.ndarray | None) -> dict[str, Any]:
    """Every element of a against b, both of one shape and dtype. allowed: absolute, elementwise."""
    if a.size == 0:
        return {"max_abs": 0.0, "max_rel": 0.0, "max_ulp": 0.0, "used": 0.0, "verdict": "ok"}
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        worst = np.unravel_index(int(np.argmin(finite)), a.shape)
        return at(worst, a, b) | {"verdict": "nonfinite"}
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    err = np.abs(a64 - b64)
    allowed = np.zeros(a.shape) if allowed is None else np.broadcast_to(allowed, a.shape)
    bounded = (allowed > 0) & np.isfinite(allowed)  # where it is not, only equality passes
    used = np.divide(err, allowed, out=np.where(err == 0, 0.0, np.inf), where=bounded)
    ok = used <= 1
    worst = np.unravel_index(int(np.argmax(used)), a.shape)
    spacing = np.spacing(np.maximum(np.abs(a), np.abs(b))).astype(np.float64)
    return at(worst, a, b) | {
        "max_abs": err.max(),
        "max_rel": np.divide(
            err, np.abs(b64), out=np.where(err == 0, 0.0, np.inf), where=b64 != 0
        ).max(),
        "max_ulp": (err / spacing).max(),
        "allowed": allowed[worst],
        "used": used[worst],
        "verdict": "ok" if ok.all() else "mismatch",
    }


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of these rows; who is not to blame is None there, too."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    blamed = table.blame.astype(object)
    return table.assign(blame=blamed.where(blamed.notna(), None))


def at(worst: tuple, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """The index, and both values there."""
    return {
        "worst": tuple(int(i) for i in worst),
        "manual": float(a[worst]),
        "torch": float(b[worst]),
    }


def blame(manual: float, torch: float, witness: float, e: float, witness_e: float) -> str | None:
    """Who is wrong at one element: None, "manual", "torch", "both" or "undecided".

    e: how far rounding alone can carry one side from the exact value; witness: that value, right
    to within witness_e (NaN: the witness has no answer). A side is wrong where it is certainly
    further away than e, or not finite where the witness is; where neither certainly is, they are
    undecided if they are more than 2 e apart, and nobody is wrong otherwise. e is NaN where it
    follows from a value that is: then it shows nothing about a finite one.
    """
    e = np.inf if np.isnan(e) else e
    apart = not abs(manual - torch) <= 2 * e
    if not np.isfinite(witness) or not np.isfinite(witness_e):
        return "undecided" if apart else None
    wrong = [
        not np.isfinite(side) or not abs(side - witness) <= e + witness_e
        for side in (manual, torch)
    ]
    if all(wrong):
        return "both"
    if any(wrong):
        return "manual" if wrong[0] else "torch"
    return "undecided" if apart else None
