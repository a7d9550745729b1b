"""What a sheet's own figures give, by the formulas a person uses: errors carried forward."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from compare.worked import decimals
from compare.worked.agreement import SLOPES
from compare.worked.errors import Problem
from compare.worked.places import Place
from compare.worked.sheet import Sheet


class Carried:
    """A step in which a figure of the sheet stands wherever there is one, and the rest is computed
    from these.

    figures: place → the sheet's figure. from_output: the slope of an activation from its output,
        a (1 − a), or from its input. bias: whether ∂L/∂z is taken from ∂L/∂b, which for one row of
        data is the same.
    """

    def __init__(
        self, sheet: Sheet, figures: Mapping[Place, float], from_output: bool, bias: bool
    ) -> None:
        self.sheet, self.theta = sheet, sheet.parameters
        self.from_output, self.bias = from_output, bias and len(sheet.x) == 1
        self.figures: dict[str, list[tuple[tuple, float]]] = {}
        self.slopes: list[tuple[Place, float]] = []
        for place, value in figures.items():
            if place.row == "derivative":
                self.slopes.append((place, value))
            elif place.formula is None:
                self.figures.setdefault(place.row, []).append((place.index, value))
        with np.errstate(all="ignore"):  # what is not finite matches no figure
            self.rows = {"x": sheet.x, **self.theta}
            if sheet.y is not None:
                self.rows["y"] = sheet.y
            self._forward()
            if sheet.loss:
                self._backward()
            if sheet.step:
                self.rows["lr"] = np.array(float(sheet.step.lr))
                self._update()

    def value(self, place: Place) -> float:
        """Raises `Problem` for a formula that has no value."""
        if place.row == "derivative":
            with np.errstate(all="ignore"):
                return self._derivative(place.of, place.by)
        if place.formula is not None:
            with decimals.many_digits():
                return float(place.formula.value(self._decimal))
        return float(self.rows[place.row][place.index])

    def _decimal(self, place: Place) -> Decimal:
        value = self.value(place)
        if not np.isfinite(value):
            raise Problem(f"{place} is not finite")
        return Decimal(repr(value))

    def _own(self, row: str, computed: np.ndarray) -> np.ndarray:
        """Computed, with the sheet's figures where it has some."""
        found = np.array(computed, dtype=np.float64)
        for index, value in self.figures.get(row, ()):
            found[index] = value
        return found

    def _input(self, k: int) -> str:
        return f"activation.{k - 1}" if k else "x"

    def _forward(self) -> None:
        for k, module in enumerate(self.sheet.modules):
            z = self.rows[self._input(k)]
            if module == "linear":
                a = z @ self.theta[f"{k}.weight"].T + self.theta.get(f"{k}.bias", 0)
            else:
                a = ACTIVATIONS[module](z)
            self.rows[f"activation.{k}"] = self._own(f"activation.{k}", a)
        if self.sheet.loss:
            loss = LOSSES[self.sheet.loss](a := self.rows[f"activation.{k}"], self._targets(a))[0]
            self.rows["loss"] = self._own("loss", loss)

    def _targets(self, a: np.ndarray) -> np.ndarray:
        y = self.rows["y"]
        return np.eye(a.shape[1])[y] if y.ndim == 1 else y

    def _backward(self) -> None:
        last = len(self.sheet.modules) - 1
        a = self.rows[f"activation.{last}"]
        d = LOSSES[self.sheet.loss](a, self._targets(a))[1]
        self._back(last, d, self.rows, "")

    def _derivative(self, of: Place, by: Place) -> float:
        if of.row == "loss":
            row = f"grad.{by.row}" if by.row in self.theta else f"d_{by.row}"
            return float(self.rows[row][by.index])
        rows: dict[str, np.ndarray] = {}
        k = int(of.row.split(".")[1])
        d = np.zeros_like(self.rows[of.row])
        d[of.index] = 1
        self._back(k, d, rows, of)
        return float(rows[f"grad.{by.row}" if by.row in self.theta else f"d_{by.row}"][by.index])

    def _back(self, last: int, d: np.ndarray, rows: dict, of: Place | str) -> None:
        """From d, the gradient of module last's output, back to x. The figures that stand in its
        place are those of gradients or, where `of` is a place, of its derivatives."""
        for k in range(last, -1, -1):
            d = rows[f"d_activation.{k}"] = self._figured(d, f"activation.{k}", of)
            a = self.rows[self._input(k)]
            if self.sheet.modules[k] == "linear":
                d = self._through_linear(k, a, d, rows, of)
            else:
                d = np.einsum("ni,nij->nj", d, self._slopes(k, a))
        rows["d_x"] = self._figured(d, "x", of)

    def _figured(self, d: np.ndarray, row: str, of: Place | str) -> np.ndarray:
        if not of:
            return self._own(f"d_{row}", d)
        d = np.array(d)
        for place, value in self.slopes:
            if place.of == of and place.by.row == row:
                d[place.by.index] = value
        return d

    def _through_linear(self, k: int, a: np.ndarray, d: np.ndarray, rows: dict, of: Place | str):
        bias, weight = f"{k}.bias", f"{k}.weight"
        n = len(self.theta[weight])
        by_bias = np.ones_like(d)
        by_weight = np.repeat(a[:, None, :], n, 1)
        by_input = np.repeat(self.theta[weight][None], len(a), 0)
        for place, value in self.slopes:
            if place.of.row == f"activation.{k}":
                at, by = place.of.index, place.by
                if by.row == bias and by.index == at[1:]:
                    by_bias[at] = value
                elif by.row == weight and by.index[0] == at[1]:
                    by_weight[(*at, by.index[1])] = value
                elif by.row == self._input(k) and by.index[0] == at[0]:
                    by_input[(*at, by.index[1])] = value
        rows[f"grad.{bias}"] = self._of_parameter((d * by_bias).sum(0), bias, of)
        if self.bias and bias in self.theta:
            d = rows[f"grad.{bias}"][None]
        gradient = np.einsum("ni,nij->ij", d, by_weight)
        rows[f"grad.{weight}"] = self._of_parameter(gradient, weight, of)
        return np.einsum("ni,nij->nj", d, by_input)

    def _of_parameter(self, computed: np.ndarray, name: str, of: Place | str) -> np.ndarray:
        return self._figured(computed, name, of) if of else self._own(f"grad.{name}", computed)

    def _slopes(self, k: int, z: np.ndarray) -> np.ndarray:
        """∂a_i/∂z_j of each row of data."""
        module, a = self.sheet.modules[k], self.rows[f"activation.{k}"]
        if not self.from_output:
            a = ACTIVATIONS[module](z)
        if module == "softmax":
            found = a[:, :, None] * (np.eye(a.shape[1]) - a[:, None, :])
        else:
            found = SLOPES[module](z, a)[:, :, None] * np.eye(a.shape[1])
        for place, value in self.slopes:
            same_row = place.of.index[:1] == place.by.index[:1]
            if place.of.row == f"activation.{k}" and place.by.row == self._input(k) and same_row:
                found[(*place.of.index, place.by.index[1])] = value
        return found

    def _update(self) -> None:
        step = self.sheet.step
        for name, theta in self.theta.items():
            g = self.rows[f"grad.{name}"]
            if name.endswith("weight"):
                g = g + float(step.weight_decay) * theta
            if step.optimizer == "adam":
                g = g / (np.abs(g) + 1e-8)
            moved = theta if name in step.frozen else theta - float(step.lr) * g
            self.rows[f"updated.{name}"] = self._own(f"updated.{name}", moved)


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _binary_cross_entropy(p: np.ndarray, y: np.ndarray) -> tuple:
    value = -np.where(y == 0, 0, y * np.log(p)) - np.where(y == 1, 0, (1 - y) * np.log(1 - p))
    return value.mean(), (p - y) / (p * (1 - p)) / p.size


def _cross_entropy(z: np.ndarray, y: np.ndarray) -> tuple:
    p = _softmax(z)
    return -(y * np.log(p)).sum() / len(z), (p * y.sum(1, keepdims=True) - y) / len(z)


ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(0, z),
    "arctan": np.arctan,
    "softmax": _softmax,
}
# (loss, its gradient)
LOSSES = {
    "half_squared_error": lambda a, y: (((a - y) ** 2).sum() / 2, a - y),
    "sum_squared_error": lambda a, y: (((a - y) ** 2).sum(), 2 * (a - y)),
    "mean_squared_error": lambda a, y: (((a - y) ** 2).mean(), 2 * (a - y) / a.size),
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}
