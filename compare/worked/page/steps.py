"""The computation in steps: forward module by module, the loss, backward module by module, the
update; in each the formulas with their numbers put in, and what the sheet says there."""

import math
from dataclasses import dataclass, field

from compare.worked.page.claims import Claims, Said
from compare.worked.page.figures import factor, moved, number, product, total
from compare.worked.page.network import Column, Network, key
from compare.worked.page.rules import ACTIVATIONS, LOSSES, SOFTMAX, softmax

FEW = 12  # lines of a step, and those the sheet speaks of, where the rest is in tables
PATHS = 2  # a derivative is written out from the loss on where no more paths lead there


@dataclass(frozen=True)
class Line:
    """left = parts[0] = parts[1] … = text; `place` names the number, `value` is it."""

    place: str
    left: str
    parts: tuple[str, ...]
    text: str
    value: float
    said: list[Said]


@dataclass
class Step:
    phase: str  # given, forward, loss, backward, update
    title: str
    rule: str
    lines: list[Line] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)  # claims about no line of these
    left_out: int = 0  # lines


def plan(net: Network) -> dict[str, int]:
    """Row name → the number of the step that makes it. Step 0 is what is given."""
    order: list[tuple[str, ...]] = [("x", "y", *net.parameters)]
    order += [(f"activation.{k}",) for k in range(net.modules)]
    if "loss" in net.exact:
        order.append(("loss",))
    if f"d_activation.{net.modules - 1}" in net.exact:
        order.append((f"d_activation.{net.modules - 1}",))
        for k in reversed(range(net.modules)):
            before = f"d_activation.{k - 1}" if k else "d_x"
            order.append((f"grad.{k}.weight", f"grad.{k}.bias", before))
    updated = [name for name in net.exact if name.startswith("updated.")]
    if updated:
        order.append(tuple(updated))
    return {row: step for step, rows in enumerate(order) for row in rows}


def steps(net: Network, claims: Claims, row: int, writes: bool) -> list[Step]:
    """All steps for one observation. Where not `writes`, the formulas are left out: the network is
    so large that they would be pages of sums."""
    made = [_given(net, row)]
    for column in net.columns[1:]:
        if column.linear is not None:
            made.append(_sums(net, column, row))
        if column.act is not None:
            made.append(_activations(net, column, row))
    if "loss" in net.exact:
        made.append(_loss(net, row))
    if f"d_activation.{net.modules - 1}" in net.exact:
        made.append(_loss_back(net, row))
        for column in reversed(net.columns[1:]):
            if column.act is not None:
                made.append(_activations_back(net, column, row))
            if column.linear is not None:
                made.append(_linear_back(net, column, row))
    if any(name.startswith("updated.") for name in net.exact):
        made.append(_update(net))
    for position, step in enumerate(made):
        step.lines = [_heard(line, claims, writes) for line in step.lines]
        step.said = claims.at_step(position, row, {line.place for line in step.lines})
        if not writes:
            kept = [line for n, line in enumerate(step.lines) if n < FEW or line.said]
            step.left_out, step.lines = len(step.lines) - len(kept), kept
    return made


def _heard(line: Line, claims: Claims, writes: bool) -> Line:
    parts = line.parts if writes else ()
    return Line(line.place, line.left, parts, line.text, line.value, claims.of(line.place))


def _line(place: str, left: str, parts: list[str], value: float, text: str = "") -> Line:
    text = text or number(value)
    shown = [part for k, part in enumerate(parts) if part != text and part not in parts[:k]]
    return Line(place, left, tuple(shown), text, value, [])


def _where(net: Network, column: Column) -> str:
    if column is net.columns[-1]:
        return "the output"
    return "the hidden layer" if len(net.columns) == 3 else f"layer {column.number}"


def _given(net: Network, row: int) -> Step:
    lines = [
        _line(key("x", (row, i)), net.node(-1, row, i), [], net.value("x", row, i))
        for i in range(net.columns[0].size)
    ]
    if net.targets is not None:
        for i, t in enumerate(net.targets[row]):
            lines.append(_line(key("y", (row, i)), net.target(row, i), [], float(t)))
    rate = net.sheet.step is not None
    if rate:
        lines.append(_line("lr", "η", [], float(net.sheet.step.lr)))
    what = "The input" if not net.parameters else "The network, the input"
    what += ", the target" if net.targets is not None else ""
    return Step("given", "Given", f"{what}{' and the learning rate' if rate else ''}.", lines)


def _sums(net: Network, column: Column, row: int) -> Step:
    k = column.linear
    rule = "z = Σ w · input + b" if column.act is not None else "a = Σ w · input + b"
    step = Step("forward", f"Forward to {_where(net, column)}: weighted sums", rule)
    before = net.columns[column.number - 1]
    for i in range(column.size):
        letters, figures = [], []
        for j in range(before.size):
            w, v = net.weight(k, i, j), net.node(k - 1, row, j)
            letters.append(f"{w} {v}")
            values = net.value(f"{k}.weight", i, j), net.source(k, row, j)
            figures.append(f"{number(values[0])} × {factor(number(values[1]))}")
        if f"{k}.bias" in net.parameters:
            letters.append(net.bias(k, i))
            figures.append(number(net.value(f"{k}.bias", i)))
        place = f"activation.{k}"
        parts = [total(letters), total([_term(f, n) for n, f in enumerate(figures)])]
        value = net.value(place, row, i)
        step.lines.append(_line(key(place, (row, i)), net.node(k, row, i), parts, value))
    return step


def _term(text: str, position: int) -> str:
    """A product as a later term of a sum: (−0.25) × 0."""
    if not position or not text.startswith("−"):
        return text
    first, times, rest = text.partition(" × ")
    return f"({first}){times}{rest}" if times else text


def _activations(net: Network, column: Column, row: int) -> Step:
    k, name = column.act, column.activation
    rule = SOFTMAX if name == "softmax" else ACTIVATIONS[name].rule
    step = Step("forward", f"Forward to {_where(net, column)}: {name.replace('_', ' ')}", rule)
    z = [net.source(k, row, i) for i in range(column.size)]
    for i in range(column.size):
        figures = softmax(z, i) if name == "softmax" else ACTIVATIONS[name].forward(z[i])
        z_name = net.node(k - 1, row, i)
        symbol = {"sigmoid": f"σ({z_name})", "identity": z_name}.get(name, "")
        place = f"activation.{k}"
        parts = [part for part in (symbol, figures) if part]
        value = net.value(place, row, i)
        step.lines.append(_line(key(place, (row, i)), net.node(k, row, i), parts, value))
    return step


def _loss(net: Network, row: int) -> Step:
    loss = LOSSES[net.sheet.loss]
    step = Step("loss", "The loss", loss.rule)
    n = loss.divisor(net.rows, net.columns[-1].size)
    written = [
        (loss.write(p, t, n), loss.share(p, t, n))
        for p, t in zip(net.predictions, net.targets, strict=True)
    ]
    value = net.value("loss")
    if net.rows == 1:
        step.lines.append(_line("loss", net.loss, [written[0][0]], value))
        return step
    text, share = written[row]
    step.lines.append(_line(f"share[{row}]", f"{net.loss}, row {row + 1}", [text], share))
    shares = [number(share) for _, share in written]
    step.lines.append(_line("loss", net.loss, [total(shares)], value))
    return step


def _loss_back(net: Network, row: int) -> Step:
    loss, k = LOSSES[net.sheet.loss], net.modules - 1
    step = Step("backward", "Backward from the loss", loss.rule_of_slope)
    n = loss.divisor(net.rows, net.columns[-1].size)
    p, t = net.predictions[row], net.targets[row]
    for i in range(net.columns[-1].size):
        left = f"∂{net.loss}/∂{net.node(k, row, i)}"
        parts = [loss.slope(p, t, n, i)]
        value = net.value(f"d_activation.{k}", row, i)
        step.lines.append(_line(key(f"d_activation.{k}", (row, i)), left, parts, value))
    return step


def _slope(net: Network, column: Column, row: int, i: int) -> tuple[str, str, float]:
    """∂a/∂z of a node, whose activation works on each element by itself: letters, figures and
    value."""
    rule, k = ACTIVATIONS[column.activation], column.act
    z, a = net.source(k, row, i), net.value(f"activation.{k}", row, i)
    letters = f"∂{net.node(k, row, i)}/∂{net.node(k - 1, row, i)}"
    return letters, rule.slope(a, z), rule.derivative(z)


def _activations_back(net: Network, column: Column, row: int) -> Step:
    k, name = column.act, column.activation
    title = f"Backward through {_where(net, column)}: {name.replace('_', ' ')}"
    below = f"d_activation.{k - 1}" if k else "d_x"
    E = f"∂{net.loss}/∂"
    if name == "softmax":
        step = Step("backward", title, "∂E/∂zᵢ = aᵢ (∂E/∂aᵢ − Σⱼ aⱼ ∂E/∂aⱼ)")
        a = [net.value(f"activation.{k}", row, j) for j in range(column.size)]
        d = [net.value(f"d_activation.{k}", row, j) for j in range(column.size)]
        mean = math.fsum(p * q for p, q in zip(a, d, strict=True))
        for i in range(column.size):
            figures = f"{number(a[i])} × ({number(d[i])} − {factor(number(mean))})"
            left = f"{E}{net.node(k - 1, row, i)}"
            value = net.value(below, row, i)
            step.lines.append(_line(key(below, (row, i)), left, [figures], value))
        return step
    step = Step("backward", title, f"∂a/∂z = {ACTIVATIONS[name].rule_of_slope}")
    for i in range(column.size):
        letters, figures, slope = _slope(net, column, row, i)
        of, by = key(f"activation.{k}", (row, i)), key(net.output(k - 1), (row, i))
        step.lines.append(_line(f"{of} / {by}", letters, [figures], slope))
        a, z = net.node(k, row, i), net.node(k - 1, row, i)
        parts = [
            f"{E}{a} · {letters}",
            product([number(net.value(f"d_activation.{k}", row, i)), number(slope)]),
        ]
        place = key(below, (row, i))
        step.lines.append(_line(place, f"{E}{z}", parts, net.value(below, row, i)))
    return step


def _chain(net: Network, c: int, row: int, i: int) -> list[list[tuple[str, str]]]:
    """∂E/∂(what node i of column c sums up), as a sum of products, one for each path from the loss:
    lists of factors, each in letters and figures."""
    column = net.columns[c]
    through = []
    if column.act is not None and column.activation != "identity":
        letters, _, slope = _slope(net, column, row, i)
        through = [(letters, number(slope))]
    if column is net.columns[-1]:
        value = net.value(f"d_activation.{column.last}", row, i)
        start = (f"∂{net.loss}/∂{net.node(column.last, row, i)}", number(value))
        return [[start, *through]]
    after = net.columns[c + 1]
    return [
        [
            *path,
            (net.weight(after.linear, p, i), number(net.value(f"{after.linear}.weight", p, i))),
            *through,
        ]
        for p in range(after.size)
        for path in _chain(net, c + 1, row, p)
    ]


def _written_out(net: Network, column: Column) -> bool:
    """Whether few enough paths lead from the loss to a node of this column."""
    after = net.columns[column.number + 1 :]
    simple = all(c.activation in (None, *ACTIVATIONS) for c in net.columns[column.number :])
    linear = all(c.linear is not None for c in after)
    return simple and linear and math.prod(c.size for c in after) <= PATHS and net.rows == 1


def _linear_back(net: Network, column: Column, row: int) -> Step:
    k = column.linear
    before = net.columns[column.number - 1]
    title = f"Backward to the weights of {_where(net, column)}"
    step = Step("backward", title, "∂E/∂w = ∂E/∂z · input,  ∂E/∂b = ∂E/∂z")
    E, dz = f"∂{net.loss}/∂", f"d_activation.{k}"
    out = _written_out(net, column)
    for i in range(column.size):
        paths = _chain(net, column.number, row, i) if out else []
        z = f"{E}{net.node(k, row, i)}"
        for j in range(before.size):
            place = key(f"grad.{k}.weight", (i, j))
            if out:
                source = (net.node(k - 1, row, j), number(net.source(k, row, j)))
                parts = _sum_of_paths([[*path, source] for path in paths])
            elif net.rows == 1:
                parts = [
                    f"{z} · {net.node(k - 1, row, j)}",
                    product([number(net.value(dz, row, i)), number(net.source(k, row, j))]),
                ]
            else:
                shares = [
                    product([number(net.value(dz, r, i)), number(net.source(k, r, j))])
                    for r in range(net.rows)
                ]
                terms = [_term(share, n) for n, share in enumerate(shares)]
                parts = ["Σ over the rows, ∂E/∂z · input", total(terms, 5)]
            value = net.value(f"grad.{k}.weight", i, j)
            step.lines.append(_line(place, f"{E}{net.weight(k, i, j)}", parts, value))
        if f"{k}.bias" in net.parameters:
            parts = _sum_of_paths(paths) if out else [z]
            if net.rows > 1:
                shares = [number(net.value(dz, r, i)) for r in range(net.rows)]
                parts = ["Σ over the rows, ∂E/∂z", total(shares, 5)]
            value = net.value(f"grad.{k}.bias", i)
            place = key(f"grad.{k}.bias", (i,))
            step.lines.append(_line(place, f"{E}{net.bias(k, i)}", parts, value))
    below = f"d_activation.{k - 1}" if k else "d_x"
    for j in range(before.size):
        letters, figures = [], []
        for i in range(column.size):
            letters.append(f"{E}{net.node(k, row, i)} · {net.weight(k, i, j)}")
            pair = [number(net.value(dz, row, i)), number(net.value(f"{k}.weight", i, j))]
            figures.append(_term(product(pair), i))
        left = f"{E}{net.node(k - 1, row, j)}"
        value = net.value(below, row, j)
        parts = [total(letters), total(figures)]
        step.lines.append(_line(key(below, (row, j)), left, parts, value))
    return step


def _sum_of_paths(paths: list[list[tuple[str, str]]]) -> list[str]:
    letters = " + ".join(" · ".join(letter for letter, _ in path) for path in paths)
    terms = [_term(product([figure for _, figure in path]), n) for n, path in enumerate(paths)]
    return [letters, total(terms)]


def _update(net: Network) -> Step:
    how = net.sheet.step
    decay = float(how.weight_decay)
    g = "(∂E/∂w + λ w)" if decay else "∂E/∂w"
    rule = f"w ← w − η {g}"
    if how.optimizer == "adam":
        rule = f"w ← w − η {g} / (|{g.strip('()')}| + ε), Adam's first step"
    if decay:
        rule += f", λ = {number(decay)} for weights and 0 for biases"
    step = Step("update", "The update", rule)
    for name in net.parameters:
        row = f"updated.{name}"
        for index in _indices(net.exact[row].shape):
            before, after = net.value(name, *index), net.value(row, *index)
            if name in how.frozen:
                parts = [number(before), "left as it is"]
            else:
                parts = [_moved(net, name, before, net.value(f"grad.{name}", *index))]
            left = f"{net.parameter(name, *index)} ←"
            text = moved(after, before)
            step.lines.append(_line(key(row, index), left, parts, after, text))
    return step


def _moved(net: Network, name: str, before: float, slope: float) -> str:
    """The right side of the update with figures, for one parameter."""
    how = net.sheet.step
    decay = float(how.weight_decay) if name.endswith("weight") else 0.0
    g = number(slope)
    if decay:
        g = f"{g} + {product([number(decay), number(before)])}"
    by = f"({g})" if decay else factor(g)
    if how.optimizer == "adam":
        by += f" / (|{g}| + ε)"
    return f"{number(before)} − {number(float(how.lr))} × {by}"


def _indices(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    if len(shape) == 2:
        return [(i, j) for i in range(shape[0]) for j in range(shape[1])]
    return [(i,) for i in range(shape[0])]
