"""The homework's two single-step updates, against exact values.

A 2-3-1 net, all sigmoid: n1 = σ(w1 x1 + w2 x2 + b1), n2 with w3, w4, b2, n3 with w5, w6, b3,
ŷ = σ(w7 n1 + w8 n2 + w9 n3 + b4). Loss ½ (y − ŷ)², learning rate 0.1, x = (1, 0), y = 1.

The exact values are those by which a worked solution is marked (compare/worked/exact.py): from the
forward formulas alone, in 80-digit decimals.
"""

import json

import numpy as np
import pandas as pd
import torch

from compare.device import true_float32
from compare.sides import moved
from compare.trace import Run, StepError, manual_step, torch_step
from compare.worked import parse
from compare.worked.decimals import floats
from compare.worked.exact import Exact
from manual import nn, optim
from torch_ref import twins

LR = "0.1"
X, Y = ("1", "0"), "1"
# Weights and biases of the two Linear modules ("0" and "2"), digits as given.
PROBLEMS = {
    "a": {
        "0.weight": [["1", "1"], ["1", "1"], ["1", "1"]],
        "0.bias": ["1", "1", "1"],
        "2.weight": [["1", "1", "1"]],
        "2.bias": ["1"],
    },
    "b": {
        "0.weight": [["0.5", "-0.25"], ["0.5", "-0.25"], ["0.5", "-0.25"]],
        "0.bias": ["0.1", "0.1", "0.1"],
        "2.weight": [["1", "-1", "0"]],
        "2.bias": ["0.1"],
    },
}
# The homework's names, in its order.
NAMES = {f"w{i + 1}": ("0.weight", divmod(i, 2)) for i in range(6)}
NAMES |= {f"w{i + 7}": ("2.weight", (0, i)) for i in range(3)}
NAMES |= {f"b{i + 1}": ("0.bias", (i,)) for i in range(3)} | {"b4": ("2.bias", (0,))}

# Both sides must be this near to the exact values in float64, 9 units of roundoff; and as many of
# float32's in float32. No value is larger than 4, where one rounding is up to 4 such units.
ALLOWED = 1e-15


def problem(name: str, dtype: np.dtype) -> tuple:
    """(net, criterion, optimizer, x, y) of problem "a" or "b"."""
    net = nn.Sequential(
        nn.Linear(2, 3, dtype=dtype), nn.Sigmoid(), nn.Linear(3, 1, dtype=dtype), nn.Sigmoid()
    )
    net.load_state_dict({k: np.array(v, dtype=np.float64) for k, v in PROBLEMS[name].items()})
    optimizer = optim.SGD(net.parameters(), lr=float(LR))
    x, y = np.array([X]), np.array([[Y]])
    return net, nn.HalfSquaredError(), optimizer, x.astype(dtype), y.astype(dtype)


def exact(name: str) -> dict[str, np.ndarray]:
    """Row name → exact value of every tensor of the step, rounded once, to float64."""
    given = PROBLEMS[name]
    lines = ['title = "homework"', "[network]", "layers = [2, 3, 1]"]
    lines += ['activations = ["sigmoid", "sigmoid"]', 'loss = "half_squared_error"']
    for k in (0, 2):
        lines.append("[[network.parameters]]")
        lines += [f"{kind} = {_toml(given[f'{k}.{kind}'])}" for kind in ("weight", "bias")]
    lines += ["[data]", f"x = {_toml([list(X)])}", f"y = {_toml([[Y]])}"]
    lines += ["[step]", 'optimizer = "sgd"', f"lr = {LR}", "[claims.forward]", "loss = 0.0"]
    return {row: floats(value) for row, value in Exact(parse("\n".join(lines))).rows.items()}


def _toml(digits: list) -> str:
    """Lists of numbers that are texts, as TOML has them."""
    return json.dumps(digits).replace('"', "")


def check(name: str, dtype: np.dtype, device: str = "cpu") -> pd.DataFrame:
    """Both sides, on the device, against the exact values: a row for each tensor in causal order.

    Columns: name, stage, exact, manual, torch (nested lists), manual_error, torch_error
    (largest, absolute), allowed, verdict ("ok", "mismatch" or "missing").
    """
    net, criterion, optimizer, x, y = problem(name, dtype)
    torch_side = Run(*twins(net, criterion, optimizer, device))
    tensors = (torch.from_numpy(t).to(device) for t in (x, y))
    own = moved(Run(net, criterion, optimizer), device)
    with true_float32(device):
        theirs = torch_step(torch_side, *tensors)
        try:
            mine = manual_step(own, x, y)
        except StepError as error:  # what it did not come to is missing
            mine = error.rows
    expected = exact(name)
    allowed = ALLOWED / np.finfo(np.float64).eps * float(np.finfo(dtype).eps)
    of_manual = {row.name: row.value for row in mine}
    rows = []
    for row in theirs.rows.values():
        value = expected[row.name]
        found = of_manual.pop(row.name, None)
        verdict = "missing" if found is None else "ok"
        found = np.full(value.shape, np.nan) if found is None else found
        errors = _error(found, value), _error(row.value, value)
        if verdict == "ok" and not max(errors) <= allowed:
            verdict = "mismatch"
        rows.append(
            {
                "name": row.name,
                "stage": row.stage,
                "exact": value.tolist(),
                "manual": found.tolist(),
                "torch": row.value.tolist(),
                "manual_error": errors[0],
                "torch_error": errors[1],
                "allowed": allowed,
                "verdict": verdict,
            }
        )
    # What there should not be at all: a changed parameter, a second reading that differs.
    rows += [{"name": name, "verdict": "missing"} for name in of_manual]
    return pd.DataFrame(rows)


def _error(value: np.ndarray, expected: np.ndarray) -> float:
    if value.shape != expected.shape or not np.isfinite(value).all():
        return np.inf
    return float(np.abs(value - expected).max())
