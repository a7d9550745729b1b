"""What a sheet may say, and the one line for what it may not."""

import re
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cli import main
from compare.worked import DisagreementError, Place, SheetError, mark, parse, read
from tests.compare.worked.problem_1b import PROBLEM_1B

SHEETS = Path(__file__).parents[3] / "examples" / "sheets"
TEXT = (
    PROBLEM_1B
    + """[names]
w1 = "0.weight[0,0]"
b4 = "2.bias[0]"
a4 = "activation.3[0,0]"
[claims.forward]
a4 = 0.525
loss = 0.113
[claims.derivative]
"a4 / w1" = 0.0571
[claims.backward]
b4 = -0.119
[claims.updated]
w1 = 0.5027
"""
)


def test_a_sheet_is_read():
    sheet = parse(TEXT)
    assert (sheet.title, sheet.source) == ("Problem 1b", "homework")
    assert sheet.layers == (2, 3, 1)
    assert sheet.modules == ("linear", "sigmoid", "linear", "sigmoid")
    assert list(sheet.parameters) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert sheet.parameters["0.weight"].tolist() == [[0.5, -0.25]] * 3
    assert sheet.x.tolist() == [[1, 0]]
    assert sheet.y.tolist() == [[1]]
    assert sheet.step.lr == Decimal("0.1")
    assert sheet.names["b4"] == Place("2.bias", (0,))
    places = {claim.label: (str(claim.place), claim.printed) for claim in sheet.claims}
    assert places == {
        "a4": ("activation.3[0,0]", "0.525"),
        "loss": ("loss", "0.113"),
        "a4 / w1": ("activation.3[0,0] / 0.weight[0,0]", "0.0571"),
        "b4": ("grad.2.bias[0]", "-0.119"),
        "w1": ("updated.0.weight[0,0]", "0.5027"),
    }


def test_the_digits_are_kept_as_written():
    for written in ("0.500", "-6.552e-5", "2", "1e2", "+0.5", "1_000.0"):
        claim = parse(TEXT.replace("a4 = 0.525", f"a4 = {written}")).claims[0]
        assert claim.printed == written
        assert claim.value == Decimal(written)


WRONG = [  # (in the text, in its place, what the message must say)
    ("title =", "titel =", "titel: unknown key; expected one of title, .*nearest: 'title'"),
    ('title = "Problem 1b"', "title = 3", "title: expected text"),
    ('title = "Problem 1b"', 'title = "a\\u001b[31m"', "title: expected one line without control"),
    ("w1 = ", '"w\\n1" = ', "names.w 1: expected one line without control characters"),
    ("[2, 3, 1]", "[2, 1e9, 1]", r"whole numbers from 1 to 200, got \[2, 1e9, 1\]"),
    ('title = "Problem 1b"\n', "", "title: expected, and missing"),
    ("[2, 3, 1]", "[2, 0, 1]", "network.layers: expected whole numbers from 1"),
    ("[2, 3, 1]", "[2, 3.0, 1]", "network.layers: expected whole numbers"),
    ("[2, 3, 1]", "[2, 10000, 1]", "network.layers: expected whole numbers from 1 to 200"),
    ("[2, 3, 1]", "[]", "network.layers: expected a list of 1 to 20 widths"),
    ("[2, 3, 1]", "[2, 4, 1]", r"parameters\[0\].weight: expected 4 lists of 2 numbers; got 3"),
    ("[2, 3, 1]", "[2, 1]", "network.activations: expected 1 names.*got 2|parameters: expected 1"),
    ('["sigmoid", "sigmoid"]', '["sigmiod", "sigmoid"]', r"\[0\]: expected one of .*'sigmoid'"),
    ('["sigmoid", "sigmoid"]', '["sigmoid"]', "network.activations: expected 2 names"),
    ('["sigmoid", "sigmoid"]', '"sigmoid"', "network.activations: expected a list of names"),
    ("half_squared_error", "half_square_error", "network.loss: .*nearest: 'half_squared_error'"),
    ('loss = "half_squared_error"', "loss = 1", "network.loss: expected one of"),
    ('loss = "half_squared_error"\n', "", "network.loss: expected, for there is a"),
    ("bias = [0.1]", "bais = [0.1]", r"parameters\[1\].bais: unknown key; .*nearest: 'bias'"),
    ("bias = [0.1]", "bias = [0.1, 0.2]", r"\[1\].bias: expected 1 numbers; got 2"),
    ("bias = [0.1]", 'bias = ["a"]', r"\[1\].bias\[0\]: expected a number, got 'a'"),
    ("bias = [0.1]", "bias = [nan]", "expected a finite number, got nan"),
    ("bias = [0.1]", "bias = [1e999999999]", "expected a finite number, got 1e999999999"),
    ("bias = [0.1]", "bias = [1e99]", "expected .* from 1E-30 to 1E.30 in size"),
    ("bias = [0.1]", "bias = [true]", "expected a number, got True"),
    ("bias = [0.1]", f"bias = [{'9' * 5000}]", "expected TOML"),
    ("bias = [0.1]", f"bias = [{'9' * 50}]", "expected a number of at most 1E.30"),
    ("bias = [0.1]", f"bias = [0.{'1' * 50}]", "expected at most 40 digits"),
    ("x = [[1, 0]]", "x = [[1, 0, 2]]", r"data.x\[0\]: expected 2 numbers; got 3"),
    ("x = [[1, 0]]", "x = []", "data.x: expected a list of 2 numbers for each of 1 to 100"),
    ("y = [[1]]", "y = [[1], [2]]", "data.y: expected 1 list of 1 numbers; got 2"),
    ("y = [[1]]\n", "", "data.y: expected, and missing"),
    ('"sgd"', '"sdg"', "step.optimizer: expected one of sgd, adam, got 'sdg' .nearest: 'sgd'."),
    ("lr = 0.1", "lr = -0.1", "step.lr: expected 0 or more"),
    ("lr = 0.1", "learning_rate = 0.1", "step.learning_rate: unknown key"),
    ("lr = 0.1", "lr = 0.1\nfrozen = ['0.weigth']", r"frozen\[0\]: .*nearest: '0.weight'"),
    ("2.bias[0]", "2.bias[1]", r"names.b4: '2.bias\[1\]' is outside: the last .* '2.bias\[0\]'"),
    ("2.bias[0]", "2.bias[0,0]", r"names.b4: expected 1 indices, as in '2.bias\[0\]'"),
    ("2.bias[0]", "2.bias", "names.b4: expected 1 indices"),
    ("2.bias[0]", "2.biass[0]", "names.b4: .*nearest: '2.bias'"),
    ("2.bias[0]", "2.bias[-1]", "names.b4: "),
    ("2.bias[0]", "2.bias[99999999999999999999]", "names.b4: expected 1 indices"),
    ("2.bias[0]", "w1 +", "names.b4: expected an expression"),
    ("b4 = -0.119", "b5 = -0.119", "claims.backward.b5: unknown 'b5' .nearest: 'b4'."),
    ("b4 = -0.119", "loss = -0.119", "claims.backward.loss: a backward claim is of"),
    ("b4 = -0.119", "b4 = inf", "claims.backward.b4: expected a finite number, got inf"),
    ("b4 = -0.119", "b4 = []", "claims.backward.b4: expected a number"),
    ("b4 = -0.119", "b4 = 1979-05-27", "claims.backward.b4: expected a number"),
    ("b4 = -0.119", "b4 = '-0.119'", "claims.backward.b4: expected a number without quotes"),
    ("b4 = -0.119", "b4 = '1 +'", "claims.backward.b4: expected an expression"),
    ("b4 = -0.119", "b4 = '1 < 2'", "claims.backward.b4: expected an expression, and no"),
    ("b4 = -0.119", "b4 = 'wi'", "unknown name 'wi' .nearest: 'w1'."),
    ("b4 = -0.119", "b4 = '__import__(w1)'", "unknown name '__import__'"),
    ("b4 = -0.119", "b4 = 'w1; w1'", "';' cannot stand in an expression"),
    ("b4 = -0.119", "b4 = 'exp(w1, w1)'", "',' cannot stand in an expression"),
    ("b4 = -0.119", "b4 = 'exp'", "expected an expression"),
    ("b4 = -0.119", f"b4 = '{'(' * 900}w1{')' * 900}'", "expected an expression"),
    ("b4 = -0.119", f"b4 = '{'-' * 900}w1'", "expected (an expression|at most 40 levels)"),
    ("b4 = -0.119", f"b4 = '{'w1+' * 900}w1'", "expected at most 2000 characters"),
    ("a4 = 0.525", "w1 = 0.525", "claims.forward.w1: a forward claim is of an activation"),
    ("w1 = 0.5027", "a4 = 0.5027", "claims.updated.a4: an updated claim is of a parameter"),
    ('"a4 / w1"', '"w1 / a4"', "expected an activation or the loss before ' / '"),
    ('"a4 / w1"', '"activation.1[0,0] / a4"', "expected the later one first"),
    ('"a4 / w1"', '"a4 / a4"', "expected the later one first"),
    ('"a4 / w1"', '"a4 / "', "claims.derivative.a4 /"),
    ('"a4 / w1"', "a4", "claims.derivative.a4: expected a derivative"),
    ("[claims.forward]", "[claims.foreward]", "claims.foreward: unknown key; .*'forward'"),
    ("[claims.forward]", "[notes.forward]\nz = 'a'\n[claims.forward]", "notes.forward.z: is no"),
    ("[claims.forward]", "[claims]\nforward = 1\n[x]", "unknown key|expected a table"),
    ("[data]", "[data", "expected TOML"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[w[1][:30] for w in WRONG])
def test_what_is_wrong_is_said(old, new, message):
    assert TEXT.count(old) >= 1
    with pytest.raises(SheetError) as error:
        parse(TEXT.replace(old, new, 1), "some.toml")
    text = str(error.value)
    assert text.startswith("some.toml: ")
    assert "\n" not in text
    assert len(text) < 600
    assert re.search(message, text), text


def test_no_claims_is_no_pass():
    with pytest.raises(SheetError, match="claims: expected 1 to 500 claims, got 0"):
        parse(TEXT[: TEXT.index("[claims")] + "[claims.forward]\n")


def test_too_many_parameters_are_refused_before_they_are_read():
    text = TEXT.replace("[2, 3, 1]", "[2, 200, 200]")
    with pytest.raises(SheetError, match=r"layers: expected at most 2,000 weights.*40,800"):
        parse(text)


def test_what_would_take_for_ever_is_refused():
    text = f"title = 't'\n[network]\nlayers = {[9] * 20}\nactivations = {['tanh'] * 19}\n"
    text += "loss = 'sum_squared_error'\n"
    text += f"[[network.parameters]]\nweight = {[[0.1] * 9] * 9}\n" * 19
    rows = [[0.1] * 9] * 20
    text += f"[data]\nx = {rows}\ny = {rows}\n[claims.forward]\nloss = 0.1\n"
    with pytest.raises(SheetError, match="layers: expected a smaller network or fewer rows"):
        parse(text)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("9**9**9", "has no value"),
        ("w1 / (w1 - w1)", "has no value"),
        ("log(w1 - 1)", "has no value"),
        ("sqrt(-1 * w1)", "has no value"),
        ("exp(exp(exp(exp(9))))", "has no value"),
        ("exp(9999)", "has no value"),  # beyond what is shown
        ("(9**999)**999", "has no value"),
    ],
)
def test_a_formula_without_a_value_is_said(formula, message):
    sheet = parse(TEXT.replace("b4 = -0.119", f"b4 = '{formula}'"), "some.toml")
    begin = time.perf_counter()
    with pytest.raises(SheetError, match=message) as error:
        mark(sheet)
    assert str(error.value).startswith("some.toml: claims.backward.b4: ")
    assert time.perf_counter() - begin < 5


def test_what_overflows_is_reported():
    text = TEXT.replace('["sigmoid", "sigmoid"]', '["elu", "identity"]')
    text = text.replace("[[1, -1, 0]]", "[[1e30, 1e30, 1e30]]").replace("x = [[1", "x = [[1e30")
    text = text.replace("half_squared_error", "binary_cross_entropy")
    with pytest.raises(SheetError, match=r"sheet: network: a number of the step is too large"):
        mark(parse(text))


def test_a_prediction_without_a_loss_is_said():
    text = TEXT.replace('"sigmoid"]', '"identity"]').replace("bias = [0.1]", "bias = [1.5]")
    text = text.replace("half_squared_error", "binary_cross_entropy")
    with pytest.raises(SheetError, match=r"network: .*logarithm of 0 or of a negative number"):
        mark(parse(text))


def test_all_may_be_frozen():
    frozen = 'frozen = ["0.weight", "0.bias", "2.weight", "2.bias"]'
    text = TEXT.replace("lr = 0.1", f"lr = 0.1\n{frozen}").replace("w1 = 0.5027", "w1 = 0.5")
    marked = mark(parse(text)).claims[-1]
    assert (marked.claim.label, marked.mark, marked.exact) == ("w1", "exact", 0.5)


def test_names_of_names_do_not_grow_without_bound():
    """Each is twice the one above it."""
    names = "\n".join(f'n{k} = "n{k - 1} + n{k - 1}"' for k in range(1, 300))
    text = TEXT.replace("[names]", f'[names]\nn0 = "0.weight[0,0] + lr"\n{names}')
    with pytest.raises(SheetError, match=r"names.n10: expected at most 2,000 terms.*got 2,048"):
        parse(text)


PIECES = [
    *("0.5", "-1e999", "1e99999999", "9" * 30, "nan", "[]", "[[]]", "{}", "true", "''", '"w1"'),
    *(
        '"0.weight[0,9]"',
        '"9**9**9"',
        "'a4 / w1'",
        "softmax",
        "cross_entropy",
        "\x00",
        "é",
        "[",
        "]",
    ),
    *("=", "\n", "[names]", "[claims.updated]", "12:00:00", "0x10", "'''", "#", "\\", ","),
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_sheet_makes_a_traceback(data):
    """Lines left out, doubled, or with a piece of something else in them."""
    text = data.draw(st.sampled_from([TEXT, (SHEETS / "lecture-nudges-2.toml").read_text()]))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(begin + 30, len(text))))
        text = text[:begin] + data.draw(st.sampled_from(["", *PIECES])) + text[end:]
    said = "some.toml"
    try:
        mark(parse(text, "some.toml"))
    except (SheetError, DisagreementError) as error:
        said = str(error)
    assert said.startswith("some.toml")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_no_file_makes_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("sheet") / "a.toml"
    path.write_bytes(content)
    with pytest.raises(SheetError):
        read(path)


def run(*arguments):
    with pytest.raises(SystemExit) as exited:
        main(["check", *map(str, arguments)])
    return exited.value.code


def test_status_0_and_the_table(capsys):
    assert run(SHEETS / "homework-b.toml") == 0
    out = capsys.readouterr().out
    assert "53 of 53 right" in out
    assert "rounding" in out


def test_status_1_and_records(capsys):
    import json

    assert run(SHEETS / "homework-a.toml", SHEETS / "homework-b.toml", "--json") == 1
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert len(rows) == 103
    (wrong,) = [row for row in rows if row["mark"] == "wrong"]
    assert (wrong["name"], wrong["printed"]) == ("b1", "2.0000065")
    np.testing.assert_allclose(wrong["exact"], 1.0000066640624292, rtol=1e-15)
    assert "49 of 50 right; first slip: b1" in captured.err


def test_csv(capsys):
    assert run(SHEETS / "lecture-softmax-digits.toml", "--csv") == 0
    assert capsys.readouterr().out.count("\n") == 7


def test_status_2_marks_the_others(tmp_path, capsys):
    broken = tmp_path / "broken.toml"
    broken.write_text(TEXT.replace("sigmoid", "sigmiod"))
    assert run(broken, tmp_path / "none.toml", SHEETS / "homework-b.toml") == 2
    captured = capsys.readouterr()
    assert "53 of 53 right" in captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("handgrad: error: ")
    assert "broken.toml: network.activations[0]: expected one of" in lines[0]
    assert "none.toml" in lines[1]


def test_two_formats_are_refused(capsys):
    assert run(SHEETS / "homework-b.toml", "--csv", "--json") == 2
    assert "expected --json or --csv" in capsys.readouterr().err
