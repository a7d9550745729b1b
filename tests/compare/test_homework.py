"""The homework's two updates: exact values, both sides, and what the check must reject."""

import mpmath
import numpy as np
import pytest
import torch

from compare import homework
from manual import nn
from torch_ref import twins

# Worked out elsewhere, to 16 digits.
A = {f"w{i}": 1.0000066640624292 for i in (1, 3, 5)}
A |= {f"w{i}": 1.0 for i in (2, 4, 6)} | {f"w{i}": 1.0000559051935658 for i in (7, 8, 9)}
A |= {f"b{i}": 1.0000066640624292 for i in (1, 2, 3)}
A |= {"b4": 1.0000634711387713, "loss": 0.000325667126330637}
B = {"w1": 0.5027101508696392, "w3": 0.49728984913036073, "w5": 0.5}
B |= {f"w{i}": -0.25 for i in (2, 4, 6)}
B |= {"w7": 1.0076483677211037, "w8": -0.9923516322788964, "w9": 0.007648367721103598}
B |= {"b1": 0.10271015086963925, "b2": 0.09728984913036076, "b3": 0.1}
B |= {"b4": 0.11184588092357121, "loss": 0.11282238616408401}


@pytest.mark.parametrize(("name", "expected"), [("a", A), ("b", B)])
@pytest.mark.parametrize("source", ["exact", "manual", "torch"])
def test_updates_are_the_exact_ones(name, expected, source):
    frame = homework.check(name, np.dtype(np.float64)).set_index("name")
    for short, (key, index) in homework.NAMES.items():
        found = np.array(frame.loc[f"updated.{key}"][source])[index]
        assert abs(found - expected[short]) <= 1e-15, short
    assert abs(frame.loc["loss"][source] - expected["loss"]) <= 1e-15


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["a", "b"])
def test_every_tensor_of_both_sides_is_right(name, dtype):
    frame = homework.check(name, np.dtype(dtype))
    assert list(frame.verdict) == ["ok"] * 19
    assert set(frame.stage) == {"forward", "backward", "updated"}
    limit = 1e-15 if dtype == np.float64 else 5.4e-7
    assert frame[["manual_error", "torch_error"]].max(axis=None) <= limit


@pytest.mark.parametrize("name", ["a", "b"])
def test_exact_derivatives_agree_with_the_chain_rule_in_50_digits(name):
    """∂L/∂w1 and ∂L/∂w7, by hand and by another arbitrary-precision library."""
    with mpmath.workdps(50):
        given = homework.PROBLEMS[name]
        w = [[mpmath.mpf(v) for v in row] for row in given["0.weight"]]
        b = [mpmath.mpf(v) for v in given["0.bias"]]
        v = [mpmath.mpf(value) for value in given["2.weight"][0]]

        def sigma(z):
            return 1 / (1 + mpmath.exp(-z))

        n = [sigma(w[i][0] + b[i]) for i in range(3)]
        out = sigma(sum(v[i] * n[i] for i in range(3)) + mpmath.mpf(given["2.bias"][0]))
        delta = (out - 1) * out * (1 - out)
        w7 = delta * n[0]
        w1 = delta * v[0] * n[0] * (1 - n[0])
        exact = homework.exact(name)
        assert abs(mpmath.mpf(exact["grad.2.weight"][0, 0]) - w7) <= abs(w7) * 2**-53
        assert abs(mpmath.mpf(exact["grad.0.weight"][0, 0]) - w1) <= abs(w1) * 2**-53


@pytest.mark.parametrize(
    ("method", "wrong", "row"),
    [
        ("forward", lambda self, x: (setattr(self, "saved", (x,)), np.tanh(x))[1], "activation.1"),
        ("backward", lambda self, dy: dy * self.saved[0], "d_activation.2"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_wrong_sigmoid_is_found(monkeypatch, method, wrong, row, dtype):
    monkeypatch.setattr(nn.Sigmoid, method, wrong)
    frame = homework.check("b", np.dtype(dtype))
    assert frame[frame.verdict != "ok"].iloc[0]["name"] == row


def test_a_missing_gradient_is_found(monkeypatch):
    backward = nn.Linear.backward_parameters

    def forgets(self, dy):
        backward(self, dy)
        self.bias.grad = None

    monkeypatch.setattr(nn.Linear, "backward_parameters", forgets)
    frame = homework.check("a", np.dtype(np.float64))
    assert set(frame[frame.verdict == "missing"]["name"]) == {"grad.0.bias", "grad.2.bias"}


def test_what_a_step_that_breaks_off_did_not_come_to_is_missing(monkeypatch):
    def breaks(self, dy):
        raise ValueError("no way back")

    monkeypatch.setattr(nn.Sigmoid, "backward", breaks)
    frame = homework.check("b", np.dtype(np.float64)).set_index("name")
    done = ["x", *(f"activation.{k}" for k in range(4))]
    assert list(frame.index[frame.verdict == "ok"]) == done
    lost = frame[frame.verdict != "ok"]
    assert set(lost.verdict) == {"missing"}
    assert set(lost.manual_error) == {np.inf}
    assert np.isnan(lost.loc["grad.0.weight", "manual"]).tolist() == [[True] * 2] * 3


def test_what_torch_does_not_have_is_found(monkeypatch):
    right = homework.manual_step

    def more(*given):
        rows = right(*given)
        return [*rows, rows[0]._replace(name="x, second reading")]

    monkeypatch.setattr(homework, "manual_step", more)
    frame = homework.check("a", np.dtype(np.float64))
    wrong = frame[frame.verdict != "ok"]
    assert list(zip(wrong["name"], wrong.verdict, strict=True)) == [
        ("x, second reading", "missing")
    ]


def test_the_largest_error_that_is_allowed_passes(monkeypatch):
    def failures():
        frame = homework.check("b", np.dtype(np.float64))
        return frame[frame.verdict != "ok"], frame[["manual_error", "torch_error"]].max(axis=None)

    largest = failures()[1]
    assert 0 < largest < homework.ALLOWED
    monkeypatch.setattr(homework, "ALLOWED", largest)
    assert not len(failures()[0])
    monkeypatch.setattr(homework, "ALLOWED", np.nextafter(largest, 0))
    assert len(failures()[0])


def test_the_homework_rejects_a_wrong_torch_side(monkeypatch):
    def wrong(*sides):
        built = twins(*sides)
        with torch.no_grad():
            built[0][0].weight[0, 0] += 1e-6
        return built

    monkeypatch.setattr(homework, "twins", wrong)
    row = homework.check("a", np.dtype(np.float64)).set_index("name").loc["updated.0.weight"]
    assert row.torch_error > row.allowed >= row.manual_error
    assert row.verdict == "mismatch"


@pytest.mark.parametrize("side", ["manual", "torch"])
def test_the_homework_rejects_a_wrong_shape(monkeypatch, side):
    right = getattr(homework, f"{side}_step")

    def wrong(*given):
        step = right(*given)
        rows = step if side == "manual" else step.rows.values()
        rows = [
            row._replace(value=row.value[None]) if row.name == "grad.0.bias" else row
            for row in rows
        ]
        return rows if side == "manual" else step._replace(rows={row.name: row for row in rows})

    monkeypatch.setattr(homework, f"{side}_step", wrong)
    frame = homework.check("b", np.dtype(np.float64)).set_index("name")
    assert list(frame.index[frame.verdict != "ok"]) == ["grad.0.bias"]
    assert frame.loc["grad.0.bias", f"{side}_error"] == np.inf
