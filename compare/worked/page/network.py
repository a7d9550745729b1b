"""The network of a sheet as the page sees it: its modules, its columns of nodes, and what each
number is called."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compare.worked.page.figures import SUBSCRIPT, SUPERSCRIPT
from compare.worked.places import Place

# A letter and its number, by themselves.
NUMBERED = re.compile(r"(?<![\w¹²³⁴-⁹⁰])([^\W\d_])([0-9]+)(?![\w¹²³⁴-⁹⁰])")
LONGEST = 6  # letters of a sheet's own name, in the drawing and in formulas


def key(row: str, index: tuple[int, ...] = ()) -> str:
    """("0.weight", (0, 1)) → "0.weight[0,1]": a place, as a sheet writes it."""
    return f"{row}[{','.join(map(str, index))}]" if index else row


@dataclass(frozen=True)
class Column:
    """A column of nodes: the input, or what a Linear module and the activation after it make.
    An activation that follows no Linear has a column of its own."""

    number: int  # 0 is the input
    size: int
    linear: int | None  # numbers of modules
    act: int | None
    activation: str | None

    @property
    def last(self) -> int | None:
        return self.linear if self.act is None else self.act


class Network:
    """Of a marking. Arrays are those of `marking.exact`, and parameters those of the sheet."""

    def __init__(self, marking) -> None:
        self.sheet, self.exact = marking.sheet, marking.exact
        self.parameters = self.sheet.parameters
        self.rows = len(self.sheet.x)
        self.modules = len(self.sheet.modules)
        self.names = {
            str(place): name
            for name, place in reversed(self.sheet.names.items())
            if len(name) <= LONGEST
        }

    @cached_property
    def columns(self) -> list[Column]:
        columns = [Column(0, self.sheet.x.shape[1], None, None, None)]
        for k, module in enumerate(self.sheet.modules):
            size, last = self.exact[f"activation.{k}"].shape[1], columns[-1]
            if module == "linear":
                columns.append(Column(len(columns), size, k, None, None))
            elif last.linear is not None and last.act is None:
                columns[-1] = Column(last.number, size, last.linear, k, module)
            else:
                columns.append(Column(len(columns), size, None, k, module))
        return columns

    @cached_property
    def targets(self) -> list[list[float]] | None:
        """What is aimed at, for each row and output; a class as 1 there and 0 elsewhere."""
        y = self.sheet.y
        if y is None:
            return None
        return (np.eye(self.columns[-1].size)[y] if y.ndim == 1 else y).tolist()

    @cached_property
    def predictions(self) -> list[list[float]]:
        return self.exact[f"activation.{self.modules - 1}"].tolist()

    @staticmethod
    def output(module: int) -> str:
        """The row of its output; module −1 is the input."""
        return "x" if module < 0 else f"activation.{module}"

    def source(self, module: int, row: int, i: int) -> float:
        """What goes into a module."""
        return self.value(self.output(module - 1), row, i)

    @property
    def nodes(self) -> int:
        return sum(column.size for column in self.columns)

    def value(self, row: str, *index: int) -> float:
        array = self.exact[row] if row in self.exact else self.parameters[row]
        return float(array[index])

    # What things are called. A sheet's own name comes first.

    def weight(self, k: int, i: int, j: int) -> str:
        return self._named(f"{k}.weight", i, j) or f"w{self._sub(i, j)}{self._layer(k)}"

    def bias(self, k: int, i: int) -> str:
        return self._named(f"{k}.bias", i) or f"b{self._sub(i)}{self._layer(k)}"

    def parameter(self, name: str, *index: int) -> str:
        k, kind = name.split(".")
        return self.weight(int(k), *index) if kind == "weight" else self.bias(int(k), *index)

    def node(self, module: int, row: int, i: int) -> str:
        """Output i of a module; module −1 is the input."""
        if module < 0:
            return self._named("x", row, i) or f"x{self._sub(i)}"
        named = self._named(f"activation.{module}", row, i)
        if named:
            return named
        letter = "z" if self._is_sum(module) else "a"
        return f"{letter}{self._sub(i)}{self._layer(module)}"

    def target(self, row: int, i: int) -> str:
        sub = self._sub(i) if self.columns[-1].size > 1 else ""
        return self._named("y", row, i) or f"y{sub}"

    def symbol(self, place: Place, name: str = "") -> str:
        """What a place is called; `name` is the sheet's own for the number behind it: for w₁ of
        ∂E/∂w₁."""
        head, _, rest = place.row.partition(".")
        if place.row == "derivative":
            return f"∂{self.symbol(place.of)}/∂{self.symbol(place.by)}"
        if place.row == "loss":
            return pretty(name) or self.loss
        if head == "updated":
            return f"{pretty(name) or self.parameter(rest, *place.index)}, updated"
        if head == "grad":
            return f"∂{self.loss}/∂{pretty(name) or self.parameter(rest, *place.index)}"
        if head in ("d_x", "d_activation"):
            plain = Place(place.row.removeprefix("d_"), place.index)
            return f"∂{self.loss}/∂{self.symbol(plain, name)}"
        if name or head in ("x", "y", "activation"):
            symbol = pretty(name) if name else self._of_row(head, rest, *place.index)
            several = self.rows > 1 and head in ("x", "y", "activation")
            return f"{symbol} (row {place.index[0] + 1})" if several and not name else symbol
        return self.parameter(place.row, *place.index)

    def _of_row(self, head: str, rest: str, row: int, i: int = 0) -> str:
        if head == "y":
            return self.target(row, i)
        return self.node(int(rest) if rest else -1, row, i)

    @cached_property
    def loss(self) -> str:
        named = self._named("loss")
        return named if named and len(named) <= 3 else "E"

    def _is_sum(self, module: int) -> bool:
        """Whether an activation still follows in the same column."""
        return any(c.linear == module and c.act is not None for c in self.columns)

    def _named(self, row: str, *index: int) -> str | None:
        name = self.names.get(key(row, index))
        return pretty(name) if name else None

    def _sub(self, *index: int) -> str:
        wide = any(column.size > 9 for column in self.columns)
        return ("," if wide else "").join(str(i + 1).translate(SUBSCRIPT) for i in index)

    def _layer(self, module: int) -> str:
        """A superscript, where there is more than one layer."""
        if len(self.columns) <= 2:
            return ""
        number = next(c.number for c in self.columns if module in (c.linear, c.act))
        return str(number).translate(SUPERSCRIPT)


def pretty(name: str) -> str:
    """w1 → w₁, ∂E/∂w1 → ∂E/∂w₁; w11² and other names as they are."""
    return NUMBERED.sub(lambda found: found[1] + found[2].translate(SUBSCRIPT), name)
