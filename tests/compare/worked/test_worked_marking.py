"""The four marks, at their edges, and what is reported instead of them."""

from decimal import Decimal

import numpy as np
import pytest

from compare.worked import DisagreementError, mark, parse, sides
from compare.worked.figures import gives, right
from manual import nn
from tests.compare.worked.problem_1b import PROBLEM_1B

HEAD = (
    PROBLEM_1B
    + """[names]
a1 = "activation.1[0,0]"
a4 = "activation.3[0,0]"
z4 = "activation.2[0,0]"
z1 = "activation.0[0,0]"
w7 = "2.weight[0,0]"
b4 = "2.bias[0]"
"""
)


def marks(claims):
    return {m.claim.label: m for m in mark(parse(HEAD + claims)).claims}


def claim(printed):
    return parse(f"{HEAD}[claims.forward]\na4 = {printed}\n").claims[0]


@pytest.mark.parametrize(
    ("printed", "exact", "change", "expected"),
    [
        ("0.525", "0.5245", None, "exact"),
        ("0.525", "0.5255", None, "exact"),
        ("0.525", "0.52551", None, "rounding"),
        ("0.525", "0.52749", None, "rounding"),
        ("0.525", "0.5277", None, ""),  # 2.7 units, 0.51 %
        ("0.5250", "0.5276", None, "rounding"),  # 26 units, 0.49 %
        ("1.000050", "1.000051", "0.000051", "rounding"),
        ("1.000050", "1.000053", "0.000053", ""),  # 3 units; 0.5 % of its change is nothing
        ("100.50", "100.10", "200", "rounding"),  # 0.4 % of the value, which is the smaller
        ("100.70", "100.10", "200", ""),
        ("2", "2", None, "exact"),
        ("2", "2.0000001", None, ""),
        ("2.0", "2.04", None, "exact"),
        ("1e2", "140", None, "exact"),
        ("-6.552e-5", "-6.664e-5", None, ""),
    ],
)
def test_edges(printed, exact, change, expected):
    change = None if change is None else Decimal(change)
    assert right(claim(printed), Decimal(exact), change) == expected


def test_what_a_value_gives_is_rounded_or_cut_off():
    assert gives(claim("0.525"), Decimal("0.52549"))
    assert gives(claim("0.525"), Decimal("0.5259"))
    assert gives(claim("0.525"), Decimal("0.5246"))
    assert not gives(claim("0.525"), Decimal("0.5244"))
    assert not gives(claim("0.525"), Decimal("0.526"))


def test_a_slip_in_a_local_derivative_is_carried_on():
    found = marks(
        '[claims.derivative]\n"z4 / w7" = 0.746\n"a4 / z4" = 0.349\n'
        "[claims.backward]\nb4 = -0.16578\nw7 = -0.12367\n[claims.updated]\nb4 = 0.116578\n"
    )
    assert [m.mark for m in found.values()].count("wrong") == 2
    assert found["b4 (backward)"].follows == ("a4 / z4",)
    assert set(found["w7"].follows) == {"z4 / w7", "a4 / z4"}
    assert found["b4 (updated)"].follows == ("a4 / z4",)


@pytest.mark.parametrize(
    ("slip", "later"),
    [
        ('"z4 / b4" = 1.2', "b4 = -0.14215"),
        ('"z4 / a1" = 1.2', "a1 = -0.14215"),
        ('"a1 / z1" = 0.3288', "z1 = -0.03895"),
        ('"a4 / a1" = 0.3492', "z1 = -0.03795"),
    ],
)
def test_each_local_derivative_is_used(slip, later):
    """∂L/∂z4 is −0.118459, ∂a1/∂z1 is 0.228784. A derivative over two modules is used by none."""
    found = marks(f"[claims.derivative]\n{slip}\n[claims.backward]\n{later}\n")
    last = list(found.values())[-1]
    local = not slip.startswith('"a4 / a1"')
    assert last.mark == ("follows" if local else "wrong")
    assert last.follows == ((slip.split('"')[1],) if local else ())


@pytest.mark.parametrize(
    ("slip", "slope"),
    [("z4 = 0.100\na4 = 0.600", "0.24000"), ("z4 = 0.300\na4 = 0.600", "0.24446")],
)
def test_a_slope_is_taken_from_output_or_input(slip, slope):
    """0.6 · 0.4 from the output, σ′(0.3) from the input; 0.249376 is exact."""
    found = marks(f'[claims.forward]\n{slip}\n[claims.derivative]\n"a4 / z4" = {slope}\n')
    assert found["a4 / z4"].mark == "follows"
    assert found["a4"].mark == "wrong"


def test_a_slip_does_not_follow_from_itself():
    found = marks('[claims.forward]\na4 = 0.600\n"activation.3[0,0]" = 0.600\n')
    assert [m.mark for m in found.values()] == ["wrong", "wrong"]


def test_a_slip_is_carried_on_by_one_who_keeps_all_digits():
    """∂L/∂w7 = −0.575 · 0.249376 · 0.645656; with the printed 0.6 it would be −0.0860."""
    found = marks("[claims.forward]\na1 = 0.6\n[claims.backward]\na4 = -0.575\nw7 = -0.09258\n")
    assert found["a1"].mark == "exact"
    assert found["a4"].mark == "wrong"
    assert (found["w7"].mark, found["w7"].follows) == ("follows", ("a4",))


def test_a_second_slip_is_a_slip():
    found = marks("[claims.backward]\na4 = -0.575\nw7 = -0.19\n")
    assert [m.mark for m in found.values()] == ["wrong", "wrong"]


@pytest.mark.parametrize(
    ("printed", "hint"),
    [
        ("0.47502", "the sign is wrong"),
        ("-0.95004", "twice the exact value"),
        ("-0.23751", "half the exact value"),
        ("-4.75021", "ten times the exact value"),
        ("-0.47802", "one digit is not that of -0.47502"),
        ("-0.45702", "two digits of -0.47502 have changed places"),
        ("-0.81234", ""),
    ],
)
def test_hints(printed, hint):
    found = marks(f"[claims.backward]\na4 = {printed}\n")["a4"]
    assert (found.mark, found.hint) == ("wrong", hint)


def test_hints_of_an_update():
    """From 1 to 1.00765."""
    assert marks("[claims.updated]\nw7 = 0.99235\n")["w7"].hint == "the sign of the change is wrong"
    assert marks("[claims.updated]\nw7 = 1.00000\n")["w7"].hint == "the value before the update"
    found = marks("[claims.updated]\nw7 = 1.0\n")["w7"]
    assert found.mark == "exact"
    assert found.hint.startswith("too few places to show the update")


def test_formulas_and_statements():
    found = marks(
        '[claims.backward]\na4 = "a4 - 1"\nw7 = "(a4 - 1) * a4 * a1"\n'
        '[claims.statement]\n"one" = "a1 > a4"\n"two" = "a1 > a4 > 1"\n'
    )
    assert [m.mark for m in found.values()] == ["exact", "wrong", "exact", "wrong"]


def test_a_wrong_correction_is_an_error():
    text = '[claims.backward]\na4 = -0.5\n[corrections.backward]\na4 = "1 - a4"\n'
    with pytest.raises(ValueError, match=r"corrections.backward.a4: expected a right formula"):
        marks(text)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_where_manual_differs_nothing_is_marked(monkeypatch, method):
    own = getattr(nn.Sigmoid, method)
    monkeypatch.setattr(nn.Sigmoid, method, lambda self, a: own(self, a) * (1 + 1e-9))
    with pytest.raises(DisagreementError, match=r"activation.*manual has .*autograd .*oracle"):
        marks("[claims.forward]\na4 = 0.525\n")


def test_where_autograd_differs_nothing_is_marked(monkeypatch):
    own = sides.rows

    def wrong(sheet):
        manual, torch = own(sheet)
        return manual, torch | {"loss": torch["loss"] * (1 + 1e-9)}

    monkeypatch.setattr(sides, "rows", wrong)
    with pytest.raises(DisagreementError, match="sheet: loss: manual has"):
        marks("[claims.forward]\na4 = 0.525\n")


def test_where_one_entry_differs_nothing_is_marked(monkeypatch):
    own = nn.Linear.backward

    def wrong(self, dy):
        dx = np.array(own(self, dy))
        dx[0, -1] += 1e-9
        return dx

    monkeypatch.setattr(nn.Linear, "backward", wrong)
    with pytest.raises(DisagreementError, match=r"sheet: d_activation.1\[0, 2\]: manual has"):
        marks("[claims.forward]\na4 = 0.525\n")
    monkeypatch.undo()
    monkeypatch.setattr(nn.Linear, "backward", lambda self, dy: own(self, dy) * np.nan)
    with pytest.raises(DisagreementError):
        marks('[claims.derivative]\n"a4 / a1" = 0.2\n')
