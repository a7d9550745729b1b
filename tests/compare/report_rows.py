"""Rows of a verdict, made up so that every kind occurs, and each has one number of a kind."""

import numpy as np

from compare.comparison import Comparison
from compare.judge import frame

INF, NAN = np.inf, np.nan
NOTHING = dict.fromkeys(("max_abs", "max_rel", "max_ulp", "allowed", "used"), NAN)


def row(name, **more):
    """A row of two equal numbers, but for what is given."""
    given = {"step": 1, "name": name, "stage": "backward", "shape": (2, 3), "dtype": "float32"}
    given |= dict.fromkeys(NOTHING, 0.0) | {"worst": (0, 0), "manual": 0.5, "torch": 0.5}
    return given | {"oracle": NAN, "verdict": "ok", "blame": None} | more


SAME = row("x", stage="forward")
ROUNDING = row(
    "activation.1",
    stage="forward",
    **{"max_abs": 2.5e-8, "max_rel": 2e-7, "max_ulp": 0.4321, "allowed": 1e-7, "used": 0.254},
    **{"worst": (1, 2), "manual": 0.123456789012, "torch": 0.123456764},
)
IDLE = row("d_x", verdict="vacuous")
BUG = row(
    "d_activation.0",
    verdict="mismatch",
    **{"max_abs": 0.5, "max_rel": 0.25, "max_ulp": 1.25e6, "allowed": 1.234e-7, "used": 4.1234e6},
    **{"worst": (0, 1), "manual": 1.5, "torch": 2.0, "oracle": 2.0, "blame": "manual"},
)
LOST = row(
    "grad.w",
    verdict="missing",
    **NOTHING,
    **{"worst": None, "manual": "nothing", "torch": "it", "blame": "manual"},
)


def verdict_on(*rows, **more):
    return Comparison(frame(list(rows)), "seed 3, of a day\nreproduce: it", **more)


def steps(rows, count):
    return [given | {"step": k} for k in range(1, count + 1) for given in rows]
