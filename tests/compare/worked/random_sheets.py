"""Random networks as sheets, with right figures, or with one slip that is carried on."""

import itertools

import numpy as np
import torch
from hypothesis import strategies as st

from compare.worked import parse, sides
from torch_ref import twins

ELEMENTWISE = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "arctan")


def numbers(low, high):
    """Short decimals, both signs."""
    return st.integers(int(low * 100), int(high * 100)).map(lambda n: n / 100)


@st.composite
def networks(draw):
    """The text of a sheet up to its claims."""
    layers = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    activations = [draw(st.sampled_from(ELEMENTWISE)) for _ in layers[2:]]
    loss = draw(
        st.sampled_from(
            [
                *("half_squared_error", "sum_squared_error", "mean_squared_error"),
                *("binary_cross_entropy", "cross_entropy"),
            ]
        )
    )
    last = {"binary_cross_entropy": "sigmoid", "cross_entropy": "identity"}.get(loss)
    activations.append(last or draw(st.sampled_from((*ELEMENTWISE, "softmax"))))
    rows = draw(st.integers(1, 2))

    def matrix(n, m, low=-1.5, high=1.5):
        return [[draw(numbers(low, high)) for _ in range(m)] for _ in range(n)]

    bounds = (0.05, 0.95) if "entropy" in loss else (-1.5, 1.5)
    text = [
        'title = "random"',
        f"[network]\nlayers = {layers}\nactivations = {activations}\nloss = '{loss}'",
    ]
    for m, n in itertools.pairwise(layers):
        text.append(f"[[network.parameters]]\nweight = {matrix(n, m)}")
        if draw(st.booleans()):
            text.append(f"bias = {matrix(1, n)[0]}")
    text.append(f"[data]\nx = {matrix(rows, layers[0])}\ny = {matrix(rows, layers[-1], *bounds)}")
    optimizer = draw(st.sampled_from(["sgd", "sgd", "adam"]))
    text.append(f"[step]\noptimizer = '{optimizer}'\nlr = {draw(numbers(0.01, 1))}")
    if draw(st.booleans()):
        text.append(f"weight_decay = {draw(numbers(0, 0.3))}")
    return "\n".join(text) + "\n"


def stage(row):
    if row.startswith(("d_", "grad.")):
        return "backward"
    return "updated" if row.startswith("updated.") else "forward"


def values(text, slip=None):
    """{(row, index): value} of a step, by torch, in causal order. slip: ((row, index), value) of
    a figure that stands in the place of the computed one, and is computed on with."""
    sheet = parse(text + "[claims.forward]\nloss = 1.0\n")
    net = sides.network(sheet)
    net, criterion, optimizer = twins(net, sides.LOSSES[sheet.loss](), sides.optimizer(sheet, net))
    where, wrong = slip or ((None, None), None)
    found, before = {}, []

    def own(row, tensor):
        if row != where[0]:
            return tensor
        change = torch.zeros_like(tensor)
        change[where[1]] = wrong - tensor[where[1]].item()
        return tensor + change

    def on_the_way_back(row):
        return lambda gradient: own(row, gradient)

    x = torch.from_numpy(sheet.x)
    for k, module in enumerate(net):
        x = own(f"activation.{k}", module(x).clone())  # an Identity returns what it was given
        x.register_hook(on_the_way_back(f"d_activation.{k}"))
        x.retain_grad()
        before.append((f"activation.{k}", x))
    loss = criterion(x, torch.from_numpy(sheet.y))
    parameters = dict(net.named_parameters())
    loss.backward()
    rows = [*before, ("loss", loss)]
    rows += [(f"d_{name}", tensor.grad) for name, tensor in reversed(before)]
    for name, p in parameters.items():
        p.grad = own(f"grad.{name}", p.grad)
        rows.append((f"grad.{name}", p.grad))
    rows = [(name, tensor.detach().numpy().copy()) for name, tensor in rows]
    optimizer.step()
    rows += [(f"updated.{k}", p.detach().numpy()) for k, p in parameters.items()]
    for name, array in rows:
        found |= {(name, index): float(array[index]) for index in np.ndindex(array.shape)}
    return found


def claims(figures):
    """[claims] of {(row, index): the figure as printed}."""
    tables = {}
    for (row, index), printed in figures.items():
        name = row.removeprefix("updated.") if row.startswith("updated.") else row
        key = f"{name}[{','.join(map(str, index))}]" if index else name
        tables.setdefault(stage(row), []).append(f'"{key}" = {printed}')
    lines = [f"[claims.{name}]\n" + "\n".join(rows) for name, rows in tables.items()]
    return "\n".join(lines) + "\n"


def shown(value, places=9, exponent=True):
    """As a right sheet prints it; of a small number, which may be all rounding, no more places."""
    return f"{value:.{places}{'e' if exponent and abs(value) > 1e-3 else 'f'}}"


@st.composite
def formats(draw, least=1):
    """(places, whether with an exponent)."""
    return draw(st.integers(least, 9)), draw(st.booleans())
