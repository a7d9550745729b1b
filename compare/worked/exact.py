"""Every number of a worked step in 80 digits, from the textbook's forward formulas alone.

A derivative is a central difference with step 10⁻²⁵, right to 45 digits and more where the numbers
are those of an exercise. No formula of a backward is involved, that a mistake could be shared with.
"""

from collections.abc import Callable
from decimal import Decimal

import numpy as np

from compare.worked import decimals
from compare.worked.places import Place
from compare.worked.sheet import Sheet

H = Decimal("1e-25")
LEAKY = Decimal("0.01")  # torch's default slope
SMOOTH: dict[str, Callable[[Decimal], Decimal]] = {
    "identity": lambda z: z,
    "sigmoid": decimals.sigmoid,
    "tanh": decimals.tanh,
    "softplus": decimals.softplus,
    "arctan": decimals.arctan,
}
# One formula for z > 0, where it is z, and this one for z ≤ 0.
BELOW: dict[str, Callable[[Decimal], Decimal]] = {
    "relu": lambda z: Decimal(0) * z,
    "leaky_relu": lambda z: LEAKY * z,
    "elu": lambda z: decimals.exp(z) - 1,
}


class Exact:
    """The step of a sheet: `rows`, name → array of decimals, in causal order, and `value` of any
    place. Raises ArithmeticError where a number is not finite (a logarithm of 0, say).

    At a kink the derivative is torch's: that of the formula for z ≤ 0.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.given = sheet.given
        with decimals.many_digits():
            self.rows = {"x": self.given["x"]}
            self._forward()
            if sheet.loss:
                self._backward()
            if sheet.step:
                self._update()

    def value(self, place: Place) -> Decimal:
        """The exact value. Raises `Problem` for a formula without one."""
        with decimals.many_digits():
            if place.row == "derivative":
                return self._derivative(place.of, place.by)
            if place.formula is not None:
                return place.formula.value(self.value)
            if place.row == "lr":
                return self.sheet.step.lr
            row = self.rows.get(place.row)
            return Decimal((self.given[place.row] if row is None else row)[place.index])

    def _forward(self) -> None:
        self.positive: dict[int, np.ndarray] = {}  # which formula a kinked activation takes
        a = self.rows["x"]
        for k, module in enumerate(self.sheet.modules):
            if module in BELOW:
                self.positive[k] = a > 0
            rows = [self._module(k, row, n) for n, row in enumerate(a)]
            a = self.rows[f"activation.{k}"] = np.array(rows, dtype=object).reshape(len(a), -1)
        if self.sheet.loss == "binary_cross_entropy" and not all(0 <= p <= 1 for p in a.flat):
            raise ArithmeticError("a prediction is not from 0 to 1")
        if self.sheet.loss:
            losses = [self._loss(row, n) for n, row in enumerate(a)]
            self.rows["loss"] = decimals.array(sum(losses[1:], losses[0]))

    def _module(self, k: int, a: np.ndarray, n: int) -> np.ndarray:
        """The output of module k for its input a in row n."""
        module = self.sheet.modules[k]
        if module == "linear":
            bias = self.given.get(f"{k}.bias")
            z = self.given[f"{k}.weight"].dot(a)
            return z if bias is None else z + bias
        if module == "softmax":
            e = [decimals.exp(z - max(a)) for z in a]
            return decimals.array([v / sum(e) for v in e])
        if module in SMOOTH:
            return decimals.array([SMOOTH[module](z) for z in a])
        sides = zip(a, self.positive[k][n], strict=True)
        return decimals.array([z if above else BELOW[module](z) for z, above in sides])

    def _loss(self, a: np.ndarray, n: int) -> Decimal:
        """What row n, with the prediction a, adds to the loss."""
        loss, y = self.sheet.loss, self.given["y"][n]
        rows, width = self.rows["x"].shape[0], len(a)
        if loss == "cross_entropy":
            t = [Decimal(int(c == y)) for c in range(width)] if np.ndim(y) == 0 else y
            log_sum = sum(decimals.exp(z - max(a)) for z in a).ln() + max(a)
            return sum(p * (log_sum - z) for p, z in zip(t, a, strict=True)) / rows
        if loss == "binary_cross_entropy":
            terms = [q * p.ln() for q, p in zip(y, a, strict=True) if q]
            terms += [(1 - q) * (1 - p).ln() for q, p in zip(y, a, strict=True) if q != 1]
            return -sum(terms) / (rows * width)
        divisor = {"half_squared_error": 2, "sum_squared_error": 1}.get(loss, rows * width)
        return sum((a - y) ** 2) / divisor

    def _tail(
        self, k: int, a: np.ndarray, n: int, until: int | None = None
    ) -> np.ndarray | Decimal:
        """From the input a of module k in row n on: the output of module `until`, or the loss."""
        stop = len(self.sheet.modules) if until is None else until + 1
        for j in range(k, stop):
            a = self._module(j, a, n)
        return self._loss(a, n) if until is None else a

    def _difference(self, k: int, a: np.ndarray, n: int, shift: np.ndarray, **to: int) -> Decimal:
        """The derivative of `_tail` as a moves by `shift`."""
        above, below = (self._tail(k, a + step * shift, n, **to) for step in (H, -H))
        return (above - below) / (2 * H)

    def _backward(self) -> None:
        rows = self.rows
        for k in range(len(self.sheet.modules) - 1, -2, -1):
            name = f"activation.{k}" if k >= 0 else "x"
            at, gradient = rows[name], np.empty(rows[name].shape, dtype=object)
            for n, i in np.ndindex(at.shape):
                gradient[n, i] = self._difference(k + 1, at[n], n, _unit(at.shape[1], i))
            rows[f"d_{name}"] = gradient
            for kind in ("weight", "bias"):
                if f"{k}.{kind}" in self.given:
                    rows[f"grad.{k}.{kind}"] = self._of_parameter(k, kind)

    def _of_parameter(self, k: int, kind: str) -> np.ndarray:
        shape = self.given[f"{k}.{kind}"].shape
        gradient, z = np.empty(shape, dtype=object), self.rows[f"activation.{k}"]
        for index in np.ndindex(shape):
            parts = [
                self._difference(k + 1, z[n], n, self._shift(k, index, n)) for n in range(len(z))
            ]
            gradient[index] = sum(parts[1:], parts[0])
        return gradient

    def _shift(self, k: int, index: tuple[int, ...], n: int) -> np.ndarray:
        """By how much z = W a + b moves in row n as that entry of W (or of b) moves by 1."""
        unit = _unit(self.rows[f"activation.{k}"].shape[1], index[0])
        before = self.rows[f"activation.{k - 1}" if k else "x"]
        return unit if len(index) == 1 else unit * before[n, index[1]]

    def _derivative(self, of: Place, by: Place) -> Decimal:
        """∂of/∂by."""
        until = None if of.row == "loss" else int(of.row.split(".")[1])
        head, _, rest = by.row.partition(".")
        if head in ("x", "activation"):
            n, i = by.index
            if until is not None and of.index[0] != n:
                return Decimal(0)  # of another row of data
            k, at = (-1 if head == "x" else int(rest)), self.rows[by.row]
            found = self._difference(k + 1, at[n], n, _unit(at.shape[1], i), until=until)
            return found if until is None else found[of.index[1]]
        k = int(head)
        z = self.rows[f"activation.{k}"]
        found = [
            self._difference(k + 1, z[n], n, self._shift(k, by.index, n), until=until)
            for n in (range(len(z)) if until is None else [of.index[0]])
        ]
        return sum(found[1:], found[0]) if until is None else found[0][of.index[1]]

    def _update(self) -> None:
        """θ − lr g, with g = ∂L/∂θ and for a weight the penalty's weight_decay · θ; for Adam
        θ − lr g / (|g| + 10⁻⁸), which its first step is. A first step has no momentum yet."""
        step = self.sheet.step
        for name in self.sheet.parameters:
            theta = self.given[name]
            g = self.rows[f"grad.{name}"]
            if name.endswith("weight"):
                g = g + step.weight_decay * theta
            if step.optimizer == "adam":
                g = decimals.array(g / (abs(g) + Decimal("1e-8")))
            moved = theta if name in step.frozen else theta - step.lr * g
            self.rows[f"updated.{name}"] = decimals.array(moved)


def _unit(n: int, i: int) -> np.ndarray:
    return decimals.array([Decimal(int(j == i)) for j in range(n)])
