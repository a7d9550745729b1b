"""manual, autograd and the oracle must agree on every number before a figure is marked.

The two that compute in float64 may be off by rounding, and by how much is carried through the step
beside the numbers: every operation adds its own error, and passes on what it is given. All of it
is first order, and doubled for the orders above.
"""

import numpy as np

from compare.worked import decimals, sides
from compare.worked.errors import shown
from compare.worked.exact import Exact
from compare.worked.places import Place
from compare.worked.sheet import Sheet

U = np.finfo(np.float64).eps / 2
TINY = 1e-38  # what the differences of the oracle leave out, and what underflow takes
OWN = 8  # roundings in the value of an activation, a loss or their slope: e^x, 1 + e, 1 / (1 + e) …


class DisagreementError(ArithmeticError):
    """The three do not agree, or one has no finite value: there is nothing to mark by."""


def check(sheet: Sheet, exact: Exact, derivatives: list[Place]) -> None:
    """Raise `DisagreementError` where manual, autograd and the oracle differ by more than what
    rounding can do: in any row of the step, or in one of these derivatives."""
    with np.errstate(all="ignore"):  # what is not finite is reported
        try:
            manual, torch = sides.rows(sheet)
        except Exception as error:  # whatever either may raise: a prediction not from 0 to 1, say
            raise DisagreementError(f"{sheet.path}: {shown(error)}") from error
        bounds = _Bounds(sheet, exact)
        expected = {name: decimals.floats(value) for name, value in exact.rows.items()}
        for name, value in expected.items():
            _agree(sheet, name, value, manual.get(name), torch.get(name), bounds.rows[name])
        for place in derivatives:
            of, by = place.of, place.by
            if of.row == "loss":
                row = f"grad.{by.row}" if f"grad.{by.row}" in expected else f"d_{by.row}"
                found = [side[row][by.index] for side in (manual, torch)]
                bound = bounds.rows[row][by.index]
            else:
                found, bound = sides.derivative(sheet, of, by), bounds.derivative(of, by)
            _agree(sheet, str(place), np.array(float(exact.value(place))), *found, bound)


def _agree(sheet: Sheet, name: str, exact, manual, torch, bound) -> None:
    for side, value in (("manual", manual), ("autograd", torch)):
        if np.shape(value) != np.shape(exact):  # None, too
            raise DisagreementError(f"{sheet.path}: {side} has no {name} like the oracle's")
    bound = 2 * bound + TINY
    off = np.maximum(np.abs(manual - exact), np.abs(torch - exact))
    good = off <= bound
    if not np.all(good):
        at = tuple(int(i) for i in np.argwhere(~np.atleast_1d(good))[0])
        values = [f"{np.atleast_1d(v)[at]:.17g}" for v in (manual, torch, exact)]
        where = f"{name}{list(at)}" if np.ndim(exact) else name
        raise DisagreementError(
            f"{sheet.path}: {where}: manual has {values[0]}, autograd {values[1]}, the oracle "
            f"{values[2]}; rounding allows {np.broadcast_to(bound, np.shape(good) or (1,))[at]:.1e}"
        )


class _Bounds:
    """How far rounding can carry each number of a step in float64. rows: name → array."""

    def __init__(self, sheet: Sheet, exact: Exact) -> None:
        self.sheet, self.a = sheet, {k: decimals.floats(v) for k, v in exact.rows.items()}
        self.theta = sheet.parameters
        self.rows = {"x": U * np.abs(self.a["x"])}
        self._forward()
        if sheet.loss:
            self._loss()
            prediction = f"d_activation.{len(sheet.modules) - 1}"
            self._backward(self.a[prediction], self.rows[prediction], self.rows)
        if sheet.step:
            self._update()

    def derivative(self, of: Place, by: Place) -> np.ndarray:
        """Of ∂of/∂by."""
        k = int(of.row.split(".")[1])
        d = np.zeros_like(self.a[of.row])
        d[of.index] = 1
        rows: dict[str, np.ndarray] = {}
        self._backward(d, 0 * d, rows, k)
        in_rows = f"grad.{by.row}" if f"grad.{by.row}" in rows else f"d_{by.row}"
        return rows[in_rows][by.index]

    def _input(self, k: int) -> str:
        return f"activation.{k - 1}" if k else "x"

    def _forward(self) -> None:
        for k, module in enumerate(self.sheet.modules):
            before, name = self._input(k), f"activation.{k}"
            a, error = np.abs(self.a[before]), self.rows[before]
            if module == "linear":
                w, b = np.abs(self.theta[f"{k}.weight"]), np.abs(self.theta.get(f"{k}.bias", 0))
                # n products, n sums, and w and b rounded
                own = (w.shape[1] + 3) * U * (a @ w.T + b)
                self.rows[name] = error @ w.T + own
            else:
                # No slope is above 1. A softmax first takes the largest away.
                reach = 2 * a.max(1, keepdims=True) if module == "softmax" else np.minimum(a, 50)
                own = OWN * U * (np.abs(self.a[name]) * (1 + reach))
                passed = error.sum(1, keepdims=True) if module == "softmax" else error
                self.rows[name] = passed + own

    def _loss(self) -> None:
        prediction = f"activation.{len(self.sheet.modules) - 1}"
        p, e, y = self.a[prediction], self.rows[prediction], self.sheet.y
        loss, n = self.sheet.loss, len(p)
        d = self.a[f"d_{prediction}"]
        if loss.endswith("squared_error"):
            factor = {"half_squared_error": 1, "sum_squared_error": 2}.get(loss, 2 / p.size)
            size = np.abs(p) + np.abs(y)
            slope = factor * (e + OWN * U * size)
            terms = factor / 2 * ((p - y) ** 2 + 2 * OWN * U * size * np.abs(p - y))
        elif loss == "binary_cross_entropy":
            least = np.minimum(p, 1 - p)
            slope = (e + U) / least**2 / p.size + OWN * U * np.abs(d)
            terms = np.abs(np.log(least)) / p.size
        else:
            reach = np.abs(p).max(1, keepdims=True)
            slope = (e.sum(1, keepdims=True) + OWN * U * (1 + 2 * reach)) / n + 0 * p
            terms = (2 * reach + np.log(p.shape[1])) / n + 0 * p
        self.rows[f"d_{prediction}"] = slope
        own = (p.size + OWN) * U * terms.sum()
        if loss.endswith("squared_error"):
            own += factor * (OWN * U * size * np.abs(p - y) + e**2 + (U * size) ** 2).sum()
        self.rows["loss"] = np.array((np.abs(d) * e).sum() + own)

    def _backward(self, d: np.ndarray, error: np.ndarray, rows: dict, until: int | None = None):
        """The bounds of every gradient before d, the gradient of module until's output."""
        last = len(self.sheet.modules) - 1 if until is None else until
        for k in range(last, -1, -1):
            before, module = self._input(k), self.sheet.modules[k]
            a, e = np.abs(self.a[before]), self.rows[before]
            size = np.abs(d)
            if module == "linear":
                w = self.theta[f"{k}.weight"]
                n, m = len(d), len(w)
                rows[f"grad.{k}.weight"] = error.T @ a + size.T @ e + (n + 3) * U * size.T @ a
                rows[f"grad.{k}.bias"] = (error + (n + 3) * U * size).sum(0)
                error = error @ np.abs(w) + (m + 3) * U * size @ np.abs(w)
                d = d @ w
            else:
                y = self.a[f"activation.{k}"]
                d, error = self._through(module, self.a[before], y, d, error, e)
            rows[f"d_{before}"] = error

    def _through(self, module, z, y, d, error, e) -> tuple[np.ndarray, np.ndarray]:
        """(the gradient before an activation, how far off it may be)."""
        if module == "softmax":
            inner = d - (d * y).sum(1, keepdims=True)
            size = np.abs(d).max(1, keepdims=True)
            own = OWN * U * size * (1 + 2 * np.abs(z).max(1, keepdims=True)) * z.shape[1]
            bent = 4 * size * e.sum(1, keepdims=True)
            return y * inner, error + error.max(1, keepdims=True) + bent + own
        slope = SLOPES[module](z, y)
        # Neither slope nor bend of any is above 1; at a kink the slope may be that of either side.
        bent = np.abs(d) * e
        if module in ("relu", "leaky_relu"):
            bent = np.abs(d) * (np.abs(z) <= e) * (z != 0)
        own = OWN * U * np.abs(d) * (1 + np.minimum(np.abs(z), 50))
        return d * slope, np.abs(slope) * error + bent + own

    def _update(self) -> None:
        step = self.sheet.step
        lr = float(step.lr)
        for name, theta in self.theta.items():
            decay = float(step.weight_decay) if name.endswith("weight") else 0.0
            g = self.a[f"grad.{name}"] + decay * theta
            error = self.rows[f"grad.{name}"] + 4 * U * decay * np.abs(theta)
            if step.optimizer == "adam":
                # g / (|g| + ε) lies in (−1, 1) and has the slope ε / (|g| + ε)²
                slope = 1e-8 / (np.maximum(np.abs(g) - error, 0) + 1e-8) ** 2
                g, error = g / (np.abs(g) + 1e-8), np.minimum(slope * error + OWN * U, 2)
            own = OWN * U * (np.abs(theta) + lr * np.abs(g))
            self.rows[f"updated.{name}"] = lr * error + own


SLOPES = {
    "identity": lambda z, a: 1 + 0 * z,
    "sigmoid": lambda z, a: a * (1 - a),
    "tanh": lambda z, a: 1 - a * a,
    "relu": lambda z, a: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z, a: np.where(z > 0, 1.0, 0.01),
    "elu": lambda z, a: np.where(z > 0, 1.0, a + 1),
    "softplus": lambda z, a: 1 - np.exp(-a),
    "arctan": lambda z, a: 1 / (1 + z * z),
}
