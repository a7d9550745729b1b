"""Sheets that were tampered with: refused with the documented error, or marked by what they say."""

import copy
import random
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from compare import worked
from tests.tampered import COUNT, altered, one_line, tried

PROJECT = Path(__file__).parents[3]

SHEET = """title = "One neuron"
[network]
layers = [2, 1]
activations = ["identity"]
loss = "half_squared_error"
[[network.parameters]]
weight = [[0.5, -0.25]]
bias = [0.1]
[data]
x = [[1, 2]]
y = [[1]]
[step]
optimizer = "sgd"
lr = 0.1
[names]
z = "activation.0[0,0]"
w1 = "0.weight[0,0]"
w2 = "0.weight[0,1]"
b = "0.bias[0]"
[claims.forward]
z = 0.1
loss = 0.405
[claims.backward]
w1 = -0.9
w2 = -1.80
b = -9e-1
[claims.updated]
w1 = 0.590
w2 = -0.07
b = 0.19
"""
NEURON = tomllib.loads(SHEET)


def other_digit(rng: random.Random) -> bytes:
    """The sheet with one digit changed, which mostly makes another good sheet."""
    at = rng.choice([k for k, letter in enumerate(SHEET) if letter.isdigit()])
    return (SHEET[:at] + rng.choice("0123456789") + SHEET[at + 1 :]).encode()


def one_neuron(tables):
    """{table: {name: exact value}} for the sheet above with any numbers in it, by hand; None where
    more than numbers differ."""
    same = copy.deepcopy(tables)
    try:
        ((w,), (b,)) = (same["network"]["parameters"][0].pop(k) for k in ("weight", "bias"))
        ((x,), ((y,),)) = same.pop("data").values()
        lr = same["step"].pop("lr")
        (w, x), (b, y, lr) = ([*map(Fraction, pair)] for pair in (w, x)), map(Fraction, (b, y, lr))
        del same["title"], same["claims"]
    except (KeyError, TypeError, ValueError):
        return None
    own = copy.deepcopy(NEURON)
    del own["title"], own["claims"], own["data"], own["step"]["lr"]
    del own["network"]["parameters"][0]["weight"], own["network"]["parameters"][0]["bias"]
    if same != own or len(w) != 2 or len(x) != 2:
        return None
    z = w[0] * x[0] + w[1] * x[1] + b
    dz = z - y
    gradients = {"w1": dz * x[0], "w2": dz * x[1], "b": dz}
    before = {"w1": w[0], "w2": w[1], "b": b}
    return {
        "forward": {"z": z, "loss": dz**2 / 2},
        "backward": gradients,
        "updated": {name: before[name] - lr * gradients[name] for name in before},
    }


def test_sheets(tmp_path):
    """What is read is what the text says, and a figure is exact where it rounds to it."""
    path, marked = tmp_path / "sheet.toml", 0
    other = (PROJECT / "examples" / "sheets" / "homework-b.toml").read_bytes()
    for number in range(COUNT):
        rng = random.Random(f"sheet {number}")
        content = altered(SHEET.encode(), rng, other) if number % 2 else other_digit(rng)
        path.write_bytes(content)
        sheet, error = tried(worked.SheetError, lambda: worked.read(path))
        if error:
            one_line(error, path)
            continue
        marking, error = tried(
            (worked.SheetError, worked.DisagreementError),
            lambda: worked.mark(sheet),  # noqa: B023
        )
        if error:
            one_line(error, path)
            continue
        tables = tomllib.loads(content.decode(), parse_float=Decimal)
        right = one_neuron(tables)
        marks = {(m.claim.stage, m.claim.name): m for m in marking.claims}
        for stage, claims in tables["claims"].items():
            assert {name for at, name in marks if at == stage} == claims.keys(), number
            for name, value in claims.items():
                if right is None or name not in right.get(stage, ()) or isinstance(value, str):
                    continue
                marked += 1
                half = 0  # a whole number claims to be just that
                if isinstance(value, Decimal):
                    half = Fraction(10) ** value.as_tuple().exponent / 2
                exact = abs(Fraction(value) - right[stage][name]) <= half
                assert (marks[stage, name].mark == "exact") == exact, f"{number=}: {stage} {name}"
    assert marked > COUNT
