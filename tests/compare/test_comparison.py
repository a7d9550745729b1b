"""What a comparison says, of networks and of rows that are made up."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from compare import EquivalenceError, assert_equivalent, check_backward, compare
from manual import nn, optim
from tests.compare.report_rows import BUG, IDLE, LOST, ROUNDING, SAME, steps, verdict_on


def setting(dtype=np.float32, activation=nn.Tanh):
    g = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(4, 5, generator=g, dtype=dtype),
        activation(),
        nn.Linear(5, 3, generator=g, dtype=dtype),
    )
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (4, 3))
    return net, nn.MSELoss(), x, y


@pytest.fixture
def wrong_tanh(monkeypatch):
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy * (1 - self.saved[0]))


def test_explain_says_that_it_is_rounding_and_why():
    comparison = compare(*setting())
    row = comparison.frame.set_index("name").loc["grad.0.weight"]
    text = comparison.explain("grad.0.weight")
    assert text.startswith("grad.0.weight, step 1: backward, [5, 4], float32\n")
    assert "Linear: y = x Wᵀ + b; dx = dy W; dW = dyᵀ x; db = Σ dy." in text
    assert "u = 5.96e-08 for each rounding in float32" in text
    assert f"allowed     {row.allowed:.3g}" in text
    assert f"at {list(row.worst)}, the worst element" in text
    for side in ("manual", "torch", "oracle"):
        assert f"{side:<11} {row[side]:.9g}" in text
    assert text.endswith("verdict     ok: rounding, not a bug")


@pytest.mark.usefixtures("wrong_tanh")
def test_explain_says_that_it_is_a_bug_and_whose():
    text = compare(*setting()).explain("d_activation.0")
    assert text.endswith("a bug in manual: torch and the oracle agree")
    assert "times the allowance" in text


def test_explain_takes_the_first_step_that_fails_or_the_one_asked_for(monkeypatch):
    net, criterion, x, y = setting()
    calls = []
    backward = nn.Tanh.backward

    def wrong_from_the_second_step(self, dy):
        calls.append(1)
        dx = backward(self, dy)
        return dx if len(calls) <= 3 else 2 * dx  # three backwards a step

    monkeypatch.setattr(nn.Tanh, "backward", wrong_from_the_second_step)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    comparison = compare(net, criterion, x, y, optimizer=optimizer, steps=3)
    assert "step 2" in comparison.explain("d_activation.0")
    assert comparison.explain("d_activation.0", step=1).endswith("rounding, not a bug")
    with pytest.raises(KeyError, match=r"no tensor 'loss' in step 4"):
        comparison.explain("loss", step=4)


def test_explain_of_what_is_not_rounded():
    text = compare(*setting()).explain("x")
    assert "0 there: nothing is rounded\n" in text
    assert "the input is given to both sides" in text
    assert " u = " not in text
    assert text.endswith("ok: no difference")


def test_explain_of_a_row_that_is_no_side_against_the_other():
    x = np.random.default_rng(0).normal(size=(3, 2))
    comparison = check_backward(lambda x: (x * x, x), lambda x, dy: 2 * x * dy, lambda x: x * x, x)
    text = comparison.explain("d_x (linear)")
    assert "there: what rounding can do\n" in text
    assert "rounding of all three" in text
    assert "twice" in comparison.explain("d_x")


def test_explain_of_what_is_vacuous_missing_or_not_finite():
    net, criterion, x, y = setting(activation=nn.ReLU)
    x[...] = 0
    text = compare(net, criterion, x, y).explain("grad.0.weight")
    assert "vacuous: all zero on both sides" in text
    y[0, 0] = np.nan
    text = compare(net, criterion, x, y).explain("loss")
    assert "nonfinite" in text
    assert "manual nan, torch nan" in text


def test_the_summary_says_how_much_was_used_and_asked():
    comparison = compare(*setting())
    last = str(comparison).splitlines()[-1]
    assert last.startswith("13 tensors: all ok, at most ")
    assert "the oracle was asked about" in last
    assert "oracle was not asked" in str(compare(*setting(), oracle=False))


@pytest.mark.usefixtures("wrong_tanh")
def test_an_error_has_the_table_the_first_failing_row_and_what_reproduces_it():
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(*setting(), seed=41)
    text = str(caught.value)
    assert text.startswith("manual and torch differ\n step")
    assert "1 not ok; first: step 1, d_activation.0: manual " in text
    assert "to blame: manual" in text
    assert f"seed 41, numpy {np.__version__}, torch {torch.__version__} on cpu" in text
    assert f"threads: torch {torch.get_num_threads()}" in text
    test = "test_an_error_has_the_table_the_first_failing_row_and_what_reproduces_it"
    assert text.splitlines()[-1].startswith("reproduce: pytest ")
    assert text.splitlines()[-1].rstrip("'").endswith(f"test_comparison.py::{test}")
    assert caught.value.comparison.blame == "manual"


def test_outside_of_pytest_the_command_line_reproduces_it(monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr("sys.orig_argv", ["python", "my check.py", "--seed", "3"])
    assert compare(*setting()).context.endswith("reproduce: python 'my check.py' --seed 3")


def test_of_many_steps_the_first_that_fails_is_shown(monkeypatch):
    net, criterion, x, y = setting()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    lines = str(compare(net, criterion, x, y, optimizer=optimizer, steps=20)).splitlines()
    assert len(lines) == 1 + 17 + 2
    assert "of 20: where most of the allowance is used" in lines[-2]
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    text = str(compare(net, criterion, x, y, optimizer=optimizer, steps=20))
    assert "(step 1 of 20: the first that fails)" in text


def test_the_frame_goes_to_csv_and_json(tmp_path):
    frame = compare(*setting()).frame
    frame.to_csv(tmp_path / "frame.csv", index=False)
    again = pd.read_csv(tmp_path / "frame.csv")
    assert list(again["name"]) == list(frame["name"])
    np.testing.assert_allclose(again.allowed, frame.allowed)
    rows = json.loads(frame.to_json(orient="records"))
    assert rows[1]["shape"] == [6, 5]
    assert rows[1]["blame"] is None
    assert rows[1]["verdict"] == "ok"


def test_an_explanation_is_of_the_step_that_fails_or_the_last_or_the_one_asked_for():
    reasons = {(k, "x"): f"reason {k}" for k in (1, 2, 3)}
    good = verdict_on(*steps([SAME], 3), reasons=reasons)
    assert "x, step 3:" in good.explain("x")
    assert "reason 3" in good.explain("x")
    assert "reason 1" in good.explain("x", step=1)
    rows = steps([SAME, IDLE], 3)
    rows[2] |= {"verdict": "mismatch", "blame": "torch"}
    bad = verdict_on(*rows, reasons=reasons)
    assert "reason 2" in bad.explain("x")
    assert "reason 3" in bad.explain("x", step=3)
    assert "d_x, step 3:" in bad.explain("d_x")
    assert "nothing is rounded\n  difference" in bad.explain("d_x")  # no reason was given


@pytest.mark.parametrize(
    ("name", "step", "text"),
    [
        ("y", None, "explain: there is no tensor 'y'"),
        ("x", 4, "explain: there is no tensor 'x' in step 4"),
        ("d_y", 4, "explain: there is no tensor 'd_y' in step 4; did you mean ['d_x']?"),
        (3, None, "explain: there is no tensor 3"),
    ],
)
def test_there_is_no_explanation_of_what_there_is_not(name, step, text):
    with pytest.raises(KeyError) as caught:
        verdict_on(SAME, IDLE).explain(name, step=step)
    assert caught.value.args == (text,)


def test_who_is_to_blame_and_what_fails():
    assert verdict_on(SAME, ROUNDING).passed is True
    assert not verdict_on().passed
    assert verdict_on().blame is None
    compared = verdict_on(SAME, IDLE, LOST | {"blame": "torch"}, BUG, allow_vacuous=("d_*",))
    assert compared.passed is False
    assert compared.blame == "torch"
    assert list(compared.failures["name"]) == ["grad.w", "d_activation.0"]
    assert verdict_on(SAME | {"blame": "manual"}).blame is None
    assert verdict_on(ROUNDING | {"verdict": "vacuous"}, allow_vacuous=("d_*",)).failures.shape[0]


def test_an_error_says_what_is_wrong_before_all_else():
    for rows, what in (
        ([SAME, IDLE], "a check could not have failed"),
        ([SAME, IDLE, BUG], "manual and torch differ"),
        ([], "manual and torch differ"),
    ):
        compared = verdict_on(*rows)
        error = EquivalenceError(compared)
        assert str(error) == f"{what}\n{compared}"
        assert error.comparison is compared
