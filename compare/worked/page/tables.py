"""Every number of a step in tables: instead of a drawing where the network is too large for one."""

from dataclasses import dataclass

import numpy as np

from compare.worked.page.claims import Claims
from compare.worked.page.figures import moved, number
from compare.worked.page.network import Network, key

MOST = 40  # rows, and columns, of a table


@dataclass(frozen=True)
class Cell:
    text: str
    place: str
    on: int
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """`row`: the observation it is about; None for all. `note` says what is left out."""

    title: str
    heads: list[str]
    names: list[str]
    cells: list[list[Cell | None]]
    note: str = ""
    row: int | None = None


def tables(net: Network, claims: Claims, plan: dict[str, int], rows: range) -> list[Table]:
    """Of each observation's nodes; then of each layer's parameters."""
    marks = {said.place: said.mark for said in claims.all if said.mark in ("wrong", "follows")}

    def cell(row: str, index: tuple[int, ...], before: float | None = None) -> Cell | None:
        if row not in net.exact and row not in net.parameters:
            return None
        value = net.value(row, *index)
        text = number(value) if before is None else moved(value, before)
        place = key(row, index)
        return Cell(text, place, plan[row], marks.get(place, ""))

    made = []
    for row in rows:
        made += [_nodes(net, column, row, cell) for column in net.columns]
    if "loss" in net.exact:
        made.append(Table("The loss", [net.loss], ["of all rows"], [[cell("loss", ())]]))
    for column in net.columns[1:]:
        if column.linear is not None:
            made += _parameters(net, column, cell)
    return made


def _nodes(net: Network, column, row: int, cell) -> Table:
    k, loss = column.last, net.loss
    if column.number == 0:
        kinds = [("x", "x"), (f"∂{loss}/∂x", "d_x")]
        title = "Input"
    else:
        kinds = [("a", f"activation.{k}"), (f"∂{loss}/∂a", f"d_activation.{k}")]
        if column.act is not None and column.linear is not None:
            z = column.linear
            kinds.insert(0, ("z", f"activation.{z}"))
            kinds.append((f"∂{loss}/∂z", f"d_activation.{z}"))
        title = f"Layer {column.number}"
    kinds = [(head, name) for head, name in kinds if name in net.exact]
    shown = range(min(column.size, MOST))
    names = [net.node(-1 if column.number == 0 else k, row, i) for i in shown]
    cells = [[cell(name, (row, i)) for _, name in kinds] for i in shown]
    note = f"the first {MOST} of {column.size} nodes" if column.size > MOST else ""
    return Table(f"{title}: nodes", [head for head, _ in kinds], names, cells, note, row)


def _parameters(net: Network, column, cell) -> list[Table]:
    k = column.linear
    made = []
    size = net.parameters[f"{k}.weight"].shape
    shown = [range(min(n, MOST)) for n in size]
    before = net.columns[column.number - 1]
    module = -1 if before.number == 0 else before.last
    heads = [f"from {net.node(module, 0, j)}" for j in shown[1]]
    names = [f"to {net.node(column.last, 0, i)}" for i in shown[0]]
    note = ""
    if np.prod(size) > np.prod([len(n) for n in shown]):
        note = f"the first {len(shown[0])} × {len(shown[1])} of {size[0]} × {size[1]} weights"
    biased = f"{k}.bias" in net.parameters
    kinds = (("", "w", "b"), ("grad.", f"∂{net.loss}/∂w", f"∂{net.loss}/∂b"))
    for prefix, weight, bias in (*kinds, ("updated.", "w, updated", "b, updated")):
        row, own = f"{prefix}{k}.weight", f"{prefix}{k}.bias"
        if prefix and row not in net.exact and own not in net.exact:
            continue
        cells = []
        for i in shown[0]:
            given = prefix == "updated."
            line = [
                cell(row, (i, j), net.value(f"{k}.weight", i, j) if given else None)
                for j in shown[1]
            ]
            if biased:
                line.append(cell(own, (i,), net.value(f"{k}.bias", i) if given else None))
            cells.append(line)
        title = f"Layer {column.number}: {weight}"
        made.append(Table(title, [*heads, bias] if biased else heads, names, cells, note))
    return made
