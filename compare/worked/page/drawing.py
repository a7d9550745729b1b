"""The network as a drawing: where each circle, line and text stands. Nothing overlaps: a text's
place is chosen so that it covers no other, and the drawing grows until there is such a place.

Lengths are in CSS pixels. A text that changes from step to step is one `Text` for each state.
"""

from itertools import pairwise

from compare.worked.page.claims import Claims
from compare.worked.page.figures import moved, number, places
from compare.worked.page.network import Column, Network, key
from compare.worked.page.shapes import NARROW, NARROWER, WIDE, Circle, Drawing, Edge, Text

NODES, EDGES = 60, 64  # the most nodes, and weights between two columns, that are drawn
DENSE = 24  # with more weights than that between two columns each has one line, and no name
# Widths in font sizes, of a wide sans serif.
NARROW_SIGNS = dict.fromkeys(". ,·|[]()'₁₂₃₄₅₆₇₈₉₀¹²³⁴⁵⁶⁷⁸⁹⁰⁻", 0.42) | dict.fromkeys(". ", 0.33)
WIDE_SIGNS = dict.fromkeys("−→↳✗wmWM≈", 0.85)
Box = tuple[float, float, float, float]  # left, top, right, bottom


def too_large(net: Network) -> str:
    """Why this network is not drawn; "" where it is."""
    if net.nodes > NODES:
        return f"{net.nodes} nodes are too many to draw (at most {NODES})"
    most = max((a.size * b.size for a, b in pairwise(net.columns)), default=0)
    if most > EDGES:
        return f"{most} weights between two layers are too many to draw (at most {EDGES})"
    return ""


def draw(net: Network, claims: Claims, plan: dict[str, int], rows: range, narrow: bool) -> Drawing:
    """The drawing for the observations `rows`, which share all but the figures in the nodes. The
    narrow one leaves out names that are not the sheet's own where they would make it too wide."""
    tries = ((NARROW, True), (NARROW, False), (NARROWER, False)) if narrow else ((WIDE, True),)
    drawings = (_Draughtsman(net, claims, plan, rows, *how).drawing for how in tries)
    for drawing in drawings:
        if drawing.width <= drawing.size.width:
            break
    return drawing


class _Draughtsman:
    def __init__(self, net, claims, plan, rows, size, names) -> None:
        self.names = names  # of weights, though they are not the sheet's own
        self.net, self.plan, self.rows, self.size = net, plan, rows, size
        self.bad = {s.place: s.mark for s in claims.all if s.mark in ("wrong", "follows")}
        self.line = round(size.font * 1.3)
        self.drawing = Drawing(size)
        self.updates = min((s for r, s in plan.items() if r.startswith("updated.")), default=None)
        labels = [self._labels(a, b) for a, b in pairwise(net.columns)]
        self.above, self.below = self._room()
        self._halves = [self._half(column) for column in net.columns]
        self._arrange(labels)
        self._nodes()
        self._edges(labels)
        self._loss()
        self.drawing.width = round(self.drawing.width)
        self.drawing.height = round(self.drawing.height)

    def _width(self, text: str, font: float | None = None) -> float:
        signs = (NARROW_SIGNS.get(c) or WIDE_SIGNS.get(c) or 0.64 for c in text)
        return sum(signs) * (font or self.size.font)

    def _full(self, label: str, text: str, place: str) -> float:
        return self._width(f"{label} {text}{' ✗' if self._marked(place) else ''}".strip())

    def _marked(self, place: str) -> str:
        return self.bad.get(place, "")

    # What is written.

    def _states(self, name: str, label: str, *index: int) -> list[tuple]:
        """(line, label, figure, place, on, off) of a parameter: itself, then its derivative, which
        gives way to the updated value."""
        value, grad, updated = name, f"grad.{name}", f"updated.{name}"
        off = self.plan.get(updated)
        states = [(0, label, number(self.net.value(value, *index)), key(value, index), 0, None)]
        if grad in self.plan and grad in self.net.exact:
            text = number(self.net.value(grad, *index))
            states.append((1, "∂", text, key(grad, index), self.plan[grad], off))
        if updated in self.plan:
            text = moved(self.net.value(updated, *index), self.net.value(value, *index))
            states.append((1, "→", text, key(updated, index), off, None))
        return states

    def _labels(self, before: Column, column: Column) -> list[dict]:
        if column.linear is None:
            return []
        k, labels = column.linear, []
        for i in range(column.size):
            for j in range(before.size):
                states = self._states(f"{k}.weight", self._weight_name(k, i, j), i, j)
                if column.size * before.size > DENSE:
                    states = _in_turn(states)
                labels.append({"i": i, "j": j, "states": states, **self._extent(states)})
        return labels

    def _weight_name(self, k: int, i: int, j: int) -> str:
        if not self.names and key(f"{k}.weight", (i, j)) not in self.net.names:
            return ""
        return self.net.weight(k, i, j)

    def _extent(self, states: list[tuple]) -> dict:
        widths = [self._full(label, text, place) for _, label, text, place, *_ in states]
        lines = 1 + max(line for line, *_ in states)
        return {"w": max(widths) + 4, "h": lines * self.line, "lines": lines}

    def _node_lines(self, column: Column, row: int, i: int) -> tuple[list, list]:
        """Texts above and below a circle: (label, figure, place, on), from the circle outwards."""
        net, above, below = self.net, [], []
        if column.linear is not None and column.act is not None:
            place = f"activation.{column.linear}"
            above.append(("z", number(net.value(place, row, i)), place, (row, i)))
        last, first = f"d_activation.{column.last}", f"d_activation.{column.linear}"
        if column.number == 0:
            last, first = "d_x", ""
        if column is net.columns[-1] and net.targets is not None:
            below.append((net.target(row, i), number(net.targets[row][i]), "y", (row, i)))
        if last in self.plan and last in net.exact:
            letter = "x" if column.number == 0 else "a"
            below.append((f"∂{letter}", number(net.value(last, row, i)), last, (row, i)))
        if column.act is not None and column.linear is not None and first in self.plan:
            below.append(("∂z", number(net.value(first, row, i)), first, (row, i)))
        return above, below

    def _bias_states(self, column: Column, i: int) -> list[tuple]:
        if column.linear is None or f"{column.linear}.bias" not in self.net.parameters:
            return []
        name = self.net.bias(column.linear, i)
        states = self._states(f"{column.linear}.bias", name, i)
        second = {"∂": "∂b", "→": "b →"}
        return [(line, second.get(label, label), *rest) for line, label, *rest in states]

    # Where it stands.

    def _room(self) -> tuple[list[float], list[float]]:
        """Above and below the centre of a node, for each column."""
        above, below = [], []
        for column in self.net.columns:
            up, down = self._node_lines(column, 0, 0)
            states = self._bias_states(column, 0)
            lines = len(up) + (1 + max(line for line, *_ in states) if states else 0)
            above.append(self.size.radius + lines * self.line + 5)
            below.append(self.size.radius + len(down) * self.line + 5)
        return above, below

    def _arrange(self, labels: list[list[dict]]) -> None:
        """Make room until every label has its place: first in height, then in width."""
        for wider in range(20):
            self._columns(labels, 16 * wider)
            for _ in range(5):
                if self._place_labels(labels):
                    return
                self.height *= 1.2
        raise AssertionError("no place for the labels of the edges")

    def _columns(self, labels: list[list[dict]], extra: float) -> None:
        """Where the columns' centres are, and how high the drawing is at least."""
        size, net, diameter = self.size, self.net, 2 * self.size.radius
        side = self._side()
        loss = 90 if "loss" in net.exact and size is WIDE else 0
        count = len(net.columns) - 1
        needed = [max((entry["w"] for entry in gap), default=24) + 10 for gap in labels]
        free = size.width - 2 * side - count * diameter - loss
        share = [max(need, min(size.gap, free / count)) for need in needed]
        if sum(needed) <= free < sum(share):  # some need more than their share: others give it
            rest = (free - sum(needed)) / count
            share = [need + rest for need in needed]
        share = [width + extra for width in share]
        self.x = [side]
        for gap in share:
            self.x.append(self.x[-1] + gap + diameter)
        self.drawing.width = max(self.x[-1] + side + loss, 0)
        if self.drawing.width < size.width:
            shift = (size.width - self.drawing.width) / 2
            self.x = [x + shift for x in self.x]
            self.drawing.width = size.width
        self.height = max(
            column.size * (self.above[c] + self.below[c] + 10)
            for c, column in enumerate(net.columns)
        )
        for entries, width in zip(labels, share, strict=True):
            beside = max(1, int(width / (max((e["w"] for e in entries), default=0) + 12)))
            self.height = max(self.height, 1.1 * sum(e["h"] for e in entries) / beside)

    def _side(self) -> float:
        """Half of the widest thing in a column."""
        return max(self.size.radius, *(max(both) for both in self._halves)) + 2

    def _half(self, column: Column) -> tuple[float, float]:
        """Half the width of what stands above and below the nodes of a column."""
        up = down = 0.0
        for i in range(column.size):
            for row in self.rows:
                above, below = self._node_lines(column, row, i)
                up = max([up, *(self._full(a, b, key(p, at)) for a, b, p, at in above)])
                down = max([down, *(self._full(a, b, key(p, at)) for a, b, p, at in below)])
            states = self._bias_states(column, i)
            up = max([up, *(self._full(a, b, place) for _, a, b, place, *_ in states)])
        return up / 2 + 2, down / 2 + 2

    def _y(self, column: Column, i: int) -> float:
        pitch = self.height / column.size
        c = column.number
        return pitch * (i + 0.5) + (self.above[c] - self.below[c]) / 2

    def _node_boxes(self, column: Column) -> list[Box]:
        x, (up, down) = self.x[column.number], self._halves[column.number]
        r = self.size.radius + 3
        boxes = []
        for i in range(column.size):
            y = self._y(column, i)
            boxes.append((x - r, y - r, x + r, y + r))
            boxes.append((x - up, y - self.above[column.number], x + up, y - r))
            boxes.append((x - down, y + r, x + down, y + self.below[column.number]))
        return boxes

    def _place_labels(self, labels: list[list[dict]]) -> bool:
        """Give every label of an edge its place; False where one finds none."""
        last: list[Box] = []  # the labels of the gap before, which may reach over the column
        for gap, (before, column) in zip(labels, pairwise(self.net.columns), strict=True):
            taken = self._node_boxes(before) + self._node_boxes(column) + last
            x1, x2 = self.x[before.number], self.x[column.number]
            # All in one column of labels where that is possible.
            for share in (0.5, 0.45, 0.55, 0.4, 0.6, 0.35, 0.65, 0.3, 0.7):
                boxes = [self._box(entry, before, column, x1, x2, share) for entry in gap]
                if _free(boxes, taken):
                    for entry, box in zip(gap, boxes, strict=True):
                        entry["box"] = box
                    break
            else:
                # Each by itself, those first that have the least choice.
                for entry in sorted(gap, key=lambda e: self._rise(e, before, column)):
                    for step in range(101):
                        share = 0.5 + (step + 1) // 2 * 0.008 * (1 if step % 2 else -1)
                        box = self._box(entry, before, column, x1, x2, share)
                        if not any(_touch(box, other) for other in taken):
                            break
                    else:
                        return False
                    entry["box"] = box
                    taken.append(box)
            last = [entry["box"] for entry in gap]
        return True

    def _rise(self, entry: dict, before: Column, column: Column) -> float:
        return abs(self._y(before, entry["j"]) - self._y(column, entry["i"]))

    def _box(self, entry: dict, before, column, x1: float, x2: float, share: float) -> Box:
        y1, y2 = self._y(before, entry["j"]), self._y(column, entry["i"])
        x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
        w, h = entry["w"] / 2, entry["h"] / 2
        return x - w, y - h, x + w, y + h

    # What is drawn.

    def _text(self, x, y, label, text, place, on, off=None, **more) -> None:
        mark, width = self._marked(place), round(self._full(label, text, place), 1)
        self.drawing.texts.append(
            Text(round(x, 1), round(y, 1), label, text, place, on, off, mark, width=width, **more)
        )

    def _nodes(self) -> None:
        net, size, baseline = self.net, self.size, 0.34 * self.size.font
        for column in net.columns:
            x = self.x[column.number]
            for i in range(column.size):
                y = self._y(column, i)
                row_name = "x" if column.number == 0 else f"activation.{column.last}"
                lit = [self.plan[row_name]] if column.number else [0]
                if column.act is not None and column.linear is not None:
                    lit.append(self.plan[f"activation.{column.linear}"])
                for back in (f"d_activation.{column.last}", f"d_activation.{column.linear}"):
                    lit += [self.plan[back]] if back in self.plan else []
                first = net.node(-1 if column.number == 0 else column.last, self.rows[0], i)
                circle = Circle(round(x, 1), round(y, 1), first, tuple(sorted(set(lit))))
                self.drawing.circles.append(circle)
                states = self._bias_states(column, i)
                for row in self.rows:
                    module = -1 if column.number == 0 else column.last
                    name = net.node(module, row, i)
                    value = _brief(net.value(row_name, row, i))
                    self._text(
                        x, y + 0.36 * size.value + 4, name, value, key(row_name, (row, i)),
                        self.plan[row_name], row=row, kind="value",
                    )  # fmt: skip
                    above, below = self._node_lines(column, row, i)
                    at = y - size.radius - 6
                    for label, text, place, index in above:
                        self._text(x, at, label, text, key(place, index), self.plan[place], row=row)
                        at -= self.line
                    at = y + size.radius + self.line
                    for label, text, place, index in below:
                        on = 0 if place == "y" else self.plan[place]
                        self._text(x, at, label, text, key(place, index), on, row=row)
                        at += self.line
                up = len(self._node_lines(column, self.rows[0], i)[0])
                top = y - size.radius - 6 - up * self.line
                for line, label, text, place, on, off in states:
                    self._text(x, top - line * self.line, label, text, place, on, off)
        self.drawing.height = self.height + baseline

    def _edges(self, labels: list[list[dict]]) -> None:
        for gap, (before, column) in zip(labels, pairwise(self.net.columns), strict=True):
            k = column.linear
            lit = []
            if k is not None:
                rows = (f"activation.{k}", f"grad.{k}.weight", f"updated.{k}.weight")
                lit = [self.plan[row] for row in rows if row in self.plan]
            else:
                rows = (f"activation.{column.act}", f"d_activation.{column.act - 1}")
                lit = [self.plan[row] for row in rows if row in self.plan]
            for i in range(column.size):
                for j in range(before.size):
                    self._edge(
                        self.x[before.number], self._y(before, j),
                        self.x[column.number], self._y(column, i), tuple(lit),
                    )  # fmt: skip
            for entry in gap:
                left, top, right, _ = entry["box"]
                for line, label, text, place, on, off in entry["states"]:
                    y = top + (line + 0.78) * self.line
                    self._text((left + right) / 2, y, label, text, place, on, off)

    def _edge(self, x1, y1, x2, y2, lit) -> None:
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        r = self.size.radius / length
        dx, dy = (x2 - x1) * r, (y2 - y1) * r
        ends = (round(v, 1) for v in (x1 + dx, y1 + dy, x2 - dx, y2 - dy))
        self.drawing.edges.append(Edge(*ends, lit))

    def _loss(self) -> None:
        """A box: to the right of the outputs in the wide drawing, below in the narrow one."""
        net, size = self.net, self.size
        if "loss" not in net.exact:
            return
        text, on = number(net.value("loss")), self.plan["loss"]
        r, last = size.radius, net.columns[-1]
        badge = " ✗" if self._marked("loss") else ""
        w = max(2 * r, self._width(text + badge, size.value) + 16)
        back = self.plan.get(f"d_activation.{last.last}")
        self.drawing.loss_lit = (on,) if back is None else (on, back)
        if size is WIDE:
            x = min(self.x[-1] + self._side() + 24 + w / 2, self.drawing.width - w / 2 - 2)
            y = self.height / 2 + (self.above[-1] - self.below[-1]) / 2
            for i in range(last.size):
                x1, y1 = self.x[-1], self._y(last, i)
                dx, dy = x - w / 2 - x1, y - y1
                share = r / (dx**2 + dy**2) ** 0.5
                ends = (x1 + dx * share, y1 + dy * share, x - w / 2, y)
                edge = Edge(*(round(v, 1) for v in ends), self.drawing.loss_lit)
                self.drawing.edges.append(edge)
        else:
            x = min(self.x[-1], self.drawing.width - w / 2 - 2)
            y = self.drawing.height + r + 6
            self.drawing.height = y + r + 4
        self.drawing.loss = tuple(round(v, 1) for v in (x - w / 2, y - r, w, 2 * r))
        self._text(x, y + 0.36 * size.value + 4, net.loss, text, "loss", on, kind="value")


def _in_turn(states: list[tuple]) -> list[tuple]:
    """On one line, each until the next."""
    ends = [on for *_, on, _ in states[1:]] + [None]
    return [
        (0, "" if line == 0 else label, text, place, on, end)
        for (line, label, text, place, on, _), end in zip(states, ends, strict=True)
    ]


def _brief(value: float) -> str:
    """In a node: −0.999980 is −1.00 there."""
    text = number(value)
    return places(value, 2) if len(text) > 7 and abs(value) > 0.99 and "·" not in text else text


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _free(boxes: list[Box], taken: list[Box]) -> bool:
    for n, box in enumerate(boxes):
        if any(_touch(box, other) for other in taken):
            return False
        if any(_touch(box, other) for other in boxes[:n]):
            return False
    return True
