"""The speed table: who takes part is manual's equal, what is timed, and how it is reported."""

import gc
import importlib.util
import json
import math
import sys
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from benchmarks import cli
from benchmarks.steps import (
    alone,
    command,
    contestant,
    numpy_side,
    picture,
    problem,
    proof,
    sweep,
    table,
    timing,
    torch_side,
)
from benchmarks.steps.contestant import MAKERS, MANUAL, Contestant, LeftOut, make
from benchmarks.steps.problem import HOMEWORK, Problem

SMALL = Problem((6, 5, 4, 3), batch=7)
PROBLEMS = {
    "relu": SMALL,
    "one row": replace(SMALL, batch=1, activation="tanh"),
    "float64": replace(SMALL, dtype="float64", activation="sigmoid"),
    "no hidden layer": replace(SMALL, widths=(6, 3), activation="identity"),
    "linear": replace(SMALL, activation="identity"),
    "homework": HOMEWORK,
}
HERE = [n for n in MAKERS if n != "JAX jit" or importlib.util.find_spec("jax")]


@pytest.fixture
def uncompiled(monkeypatch):
    """Compiling takes ten seconds; what is compiled is the same."""
    monkeypatch.setattr(torch, "compile", lambda step, **options: step)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("which", PROBLEMS)
def test_everybody_takes_the_same_step(name, which, uncompiled):
    given = PROBLEMS[which]
    if name == "scikit-learn" and given.loss != problem.CROSS_ENTROPY:
        with pytest.raises(LeftOut, match="no activation after its last layer"):
            make(name, given)
        return
    taking_part = make(name, given)
    judge = proof.Proof(given)
    for _ in range(2):  # the second time from the start again
        assert 0 <= judge.check(taking_part) <= 1
    taking_part.step()
    taking_part.step()
    if name not in contestant.PRODUCTS:  # two steps are not one
        with pytest.raises(proof.NotEqual):
            judge.check(taking_part._replace(restart=lambda: None))


@pytest.mark.parametrize("name", ["torch eager", "torch compiled", "scikit-learn"])
def test_a_learning_rate_one_percent_off_is_no_equal(name, uncompiled, monkeypatch):
    module = MAKERS[name].split(":")[0]
    target = f"benchmarks.steps.{module}.LR"
    monkeypatch.setattr(target, 1.01 * problem.LR)
    with pytest.raises(proof.NotEqual, match=r"updated\.0\.weight at .* where rounding explains"):
        proof.Proof(SMALL).check(make(name, SMALL))


def test_who_is_proven_has_its_first_weights_again():
    contestant = make(MANUAL, SMALL)
    start = contestant.results()
    proof.Proof(SMALL).check(contestant)
    after = contestant.results()
    assert all(np.array_equal(after[name], value) for name, value in start.items())


def spoilt(results):
    """manual, whose results are changed."""
    real = make(MANUAL, SMALL)
    return real._replace(results=lambda: results(real.results()))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda r: {**r, "updated.2.bias": r["updated.2.bias"] + 1e-4}, r"updated\.2\.bias at \["),
        (lambda r: {**r, "updated.4.bias": np.full(3, np.nan, np.float32)}, "is nan"),
        (lambda r: {**r, "updated.0.bias": r["updated.0.bias"].astype(float)}, "float64 of shape"),
        (lambda r: {**r, "updated.0.weight": r["updated.0.weight"].T}, r"shape \(6, 5\)"),
        (lambda r: {k: v for k, v in r.items() if k != "updated.4.bias"}, "updated.4.bias differ"),
        (lambda r: {**r, "updated.9.bias": r["updated.0.bias"]}, "updated.9.bias differ"),
        (lambda r: {}, "differ"),
    ],
)
def test_what_is_not_the_same_step_is_refused(spoil, told):
    with pytest.raises(proof.NotEqual, match=told) as refused:
        proof.Proof(SMALL).check(spoilt(spoil))
    assert "\n" not in str(refused.value)


def test_products_of_other_arrays_are_refused(monkeypatch):
    operands = numpy_side.operands
    monkeypatch.setattr(
        torch_side, "operands", lambda p: [o._replace(dz=1.01 * o.dz) for o in operands(p)]
    )
    with pytest.raises(proof.NotEqual, match=r"grad\.0\.weight"):
        proof.Proof(SMALL).check(make("torch products", SMALL))


@pytest.mark.parametrize(
    ("name", "product", "weights"),
    [
        ("NumPy products", (np, "dot"), [(6, 7, 5), (5, 7, 4), (4, 7, 3)]),
        ("torch products", (torch, "mm"), [(5, 7, 6), (4, 7, 5), (3, 7, 4)]),
    ],
    ids=["numpy", "torch"],
)
def test_the_products_are_those_of_a_step(name, product, weights):
    """Every product of forward and backward, but for the gradient of the data."""
    done = []
    with pytest.MonkeyPatch.context() as patch:
        taking_part = make(name, SMALL)
        patch.setattr(*product, lambda a, b, out: done.append((*a.shape, b.shape[1])))
        taking_part.step()
    forward, inputs = [(7, 6, 5), (7, 5, 4), (7, 4, 3)], [(7, 4, 5), (7, 3, 4)]
    assert sorted(done) == sorted(forward + weights + inputs)


def test_a_step_that_moves_nothing_proves_nothing(monkeypatch):
    monkeypatch.setattr(problem, "LR", 0.0)
    with pytest.raises(proof.NotEqual, match="no proof"):
        proof.Proof(SMALL).check(make(MANUAL, SMALL))


def test_one_seed_is_one_problem():
    for p in (SMALL, HOMEWORK):
        a, b, c = (problem.setup(x) for x in (p, p, replace(p, seed=1)))
        assert np.array_equal(a.x, b.x)
        assert np.array_equal(a.net[0].weight.data, b.net[0].weight.data)
        assert not np.array_equal(a.x, c.x)
        assert not np.array_equal(a.net[0].weight.data, c.net[0].weight.data)
    assert HOMEWORK.network == "2-3-1 sigmoid"
    assert [type(m).__name__ for m in problem.setup(HOMEWORK).net] == ["Linear", "Sigmoid"] * 2
    assert a.x.dtype == a.net[0].weight.dtype == np.float64


def test_without_a_compiler_the_compiled_step_is_left_out_in_one_line(monkeypatch):
    error = torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: No working C++\n\nlong")

    def no_compiler(step, **options):
        def fails():
            raise error

        return fails

    monkeypatch.setattr(torch, "compile", no_compiler)
    (outcome,) = sweep.measure([sweep.Point(SMALL, 1)], ["torch compiled"], 2)
    told = "torch.compile does not work here: InvalidCxxCompiler: No working C++"
    assert outcome.left_out == {"torch compiled": told}
    assert [row["contestant"] for row in outcome.rows] == [MANUAL]


def test_who_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(LeftOut, match=r"^jax is not installed; pip install 'handgrad\[peers"):
        make("JAX jit", SMALL)


def test_no_fused_sgd_is_left_out(monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("`fused=True` requires …")

    monkeypatch.setattr(torch.optim, "SGD", fails)
    with pytest.raises(LeftOut, match="no fused SGD here: `fused=True` requires"):
        make("torch fused SGD", SMALL)


class Clock:
    """A clock that only contestants move: timing without time."""

    def __init__(self, monkeypatch):
        self.now, self.log = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def contestant(self, name, seconds):
        def step():
            assert not gc.isenabled()
            self.log.append(name)
            self.now += seconds

        return Contestant(step, lambda: self.log.append(f"{name} restarts"), dict)


def test_turns_are_short_shuffled_and_begin_anew(monkeypatch):
    clock = Clock(monkeypatch)
    took = {"manual": 2**-10, "a": 2**-9, "b": 2**-7}  # sums of which are exact
    field = {name: clock.contestant(name, seconds) for name, seconds in took.items()}
    seconds = timing.interleaved(field, rounds=20, seed=3)
    assert gc.isenabled()
    for name, expected in took.items():
        np.testing.assert_allclose(seconds[name], np.full(20, expected))
    starts = [k for k, what in enumerate(clock.log) if what.endswith(" restarts")]
    turns = [clock.log[a:b] for a, b in pairwise([*starts, len(clock.log)])]
    assert all(set(steps) == {restart.split()[0]} for restart, *steps in turns)
    timed = [(turn[1], len(turn) - 2) for turn in turns][-60:]  # but the first step of a turn
    least = {name: math.ceil(timing.TURN / each) for name, each in took.items()}
    assert all(least[name] <= steps <= 2 * least[name] for name, steps in timed)
    orders = {tuple(name for name, _ in timed[k : k + 3]) for k in range(0, 60, 3)}
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "manual")}
    assert len(orders) > 3
    first = clock.log.copy()
    clock.log.clear()
    timing.interleaved(field, rounds=20, seed=3)
    assert clock.log == first


def test_a_contestant_that_fails_leaves_the_collector_on(monkeypatch):
    def fails():
        raise ArithmeticError("wrong by hand")

    with pytest.raises(ArithmeticError):
        timing.interleaved({MANUAL: Contestant(fails, lambda: None, dict)}, 1, 0)
    assert gc.isenabled()
    gc.disable()
    try:
        with timing.collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_ratios_are_those_of_a_round():
    """2, 2, 9: the median is 2, not the ratio of the medians, 3."""
    seconds = {MANUAL: np.array([1.0, 2, 2]), "a": np.array([2.0, 4, 18])}
    found = timing.Quartiles.of(timing.ratios(seconds)["a"])
    assert found == (2, 2, 5.5)


def test_a_row_says_what_was_measured(uncompiled):
    points = [sweep.Point(replace(SMALL, batch=n, seed=4), 1) for n in (2, 3)]
    said = []
    found = list(sweep.measure(points, ["torch eager", "NumPy products"], 3, said.append))
    assert "6-5-4-3 relu, batch 2: proving torch eager" in said
    rows = pd.DataFrame([row for outcome in found for row in outcome.rows])
    assert list(rows.contestant) == [MANUAL, "torch eager", "NumPy products"] * 2
    assert list(rows.batch) == [2] * 3 + [3] * 3
    assert set(rows.threads) == {1}
    assert set(rows.rounds) == {3}
    assert set(rows.seed) == {4}
    assert (rows[rows.contestant == MANUAL].times_manual == 1).all()
    assert (rows.us_q1 <= rows.us).all()
    assert (rows.us <= rows.us_q3).all()
    assert rows.of_rounding.between(0, 1).all()
    assert all(outcome.left_out == outcome.not_equal == {} for outcome in found)


def test_who_is_not_equal_is_not_timed(monkeypatch):
    monkeypatch.setattr(torch_side, "LR", 0.02)
    (outcome,) = sweep.measure([sweep.Point(SMALL, 1)], ["torch eager"], 2)
    assert list(outcome.not_equal) == ["torch eager"]
    assert [row["contestant"] for row in outcome.rows] == [MANUAL]
    monkeypatch.setattr(proof.Proof, "check", lambda *a: (_ for _ in ()).throw(proof.NotEqual("x")))
    (outcome,) = sweep.measure([sweep.Point(SMALL, 1)], ["NumPy products"], 2)
    assert outcome == ([], {}, {MANUAL: "x", "NumPy products": "x"})


def test_with_threads_each_is_alone_and_medians_are_compared(monkeypatch):
    answers = {
        MANUAL: {"used": 0.0, "seconds": [1e-6, 2e-6, 9e-6]},
        "torch eager": {"used": 0.5, "seconds": [3e-6, 9e-6, 4e-6]},
        "torch compiled": {"left_out": "no compiler\nat all"},
        "JAX jit": {"not_equal": "updated.0.bias"},
    }
    asked = []

    def measured(given, name, threads, rounds):
        asked.append((name, threads, rounds))
        return answers[name]

    monkeypatch.setattr(sweep, "measure_alone", measured)
    names = [name for name in answers if name != MANUAL]
    (outcome,) = sweep.measure([sweep.Point(SMALL, 2)], names, 3)
    assert asked == [(name, 2, 15) for name in answers]
    assert outcome.left_out == {"torch compiled": "no compiler"}
    assert outcome.not_equal == {"JAX jit": "updated.0.bias"}
    mine, theirs = outcome.rows
    assert (mine["us"], theirs["us"], theirs["us_q3"]) == pytest.approx((2, 4, 6.5))
    assert theirs["times_manual"] == pytest.approx(2)
    assert np.isnan(theirs["times_manual_q1"])
    assert theirs["threads"] == 2


def test_an_answer_is_proven_and_timed(monkeypatch):
    monkeypatch.setattr(timing, "TURN", 1e-4)
    request = {"problem": vars(SMALL), "contestant": "torch eager", "threads": 1, "rounds": 3}
    request = json.loads(json.dumps(request))
    found = alone.answer(request)
    assert len(found["seconds"]) == 3
    assert 0 <= found["used"] <= 1
    two_classes = vars(replace(SMALL, widths=(3, 2)))
    left = alone.answer(request | {"problem": two_classes, "contestant": "scikit-learn"})
    assert "single output for two classes" in left["left_out"]
    monkeypatch.setattr(torch_side, "LR", 0.02)
    assert "updated.0.weight" in alone.answer(request)["not_equal"]


def test_a_process_of_its_own_is_told_threads_and_kernels_before_it_loads():
    fields = vars(SMALL)
    found = alone.run_alone("benchmarks.steps.probe", {"problem": fields}, 1)
    assert found["us"] > 0
    if found["kernels"] in ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen", "Haswell"):
        settings = {"OPENBLAS_CORETYPE": "Nehalem"}
        found = alone.run_alone("benchmarks.steps.probe", {"problem": fields}, 1, settings)
        assert found["kernels"] == "Nehalem"


def test_threads_are_variables_of_the_process(monkeypatch):
    seen = {}

    class Done:
        returncode, stdout, stderr = 0, "noise\n[7]\n", ""

    def run(arguments, env, **options):
        seen.update(env)
        return Done

    monkeypatch.setattr(alone.subprocess, "run", run)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert alone.run_alone("module", {}, 3, {"OPENBLAS_CORETYPE": "Zen"}) == [7]
    assert {seen[v] for v in alone.THREADS} == {"3"}
    assert seen["OPENBLAS_CORETYPE"] == "Zen"
    assert seen["PYTHONPATH"].split(":") == [str(Path(cli.__file__).parents[1]), "elsewhere"]
    Done.returncode, Done.stderr = 1, "Traceback\nMemoryError: 5 TiB\n"
    with pytest.raises(alone.ChildError, match=r"^MemoryError: 5 TiB$"):
        alone.run_alone("module", {}, 3)
    Done.returncode, Done.stderr = -9, ""
    with pytest.raises(alone.ChildError, match="exit status -9"):
        alone.run_alone("module", {}, 3)


def test_the_usual_sweep():
    points = sweep.default_points([1, 2], 5, quick=False)
    assert {p.threads for p in points} == {1, 2}
    assert {p.problem.seed for p in points} == {5}
    one = [p.problem for p in points if p.threads == 1]
    assert [p.batch for p in one if p.network == "784-128-10 relu"] == [1, 8, 32, 128, 512]
    assert [p.batch for p in one if p.network == "784-512-512-10 relu"] == [32, 128, 512]
    assert one[-1] == replace(HOMEWORK, seed=5)
    quick = sweep.default_points([1], 0, quick=True)
    assert [p.problem.batch for p in quick] == [1, 32, 1]
    assert [p.problem.batch for p in sweep.points_of(SMALL, [], [1], True)] == [1, 32]
    assert [p.problem.batch for p in sweep.points_of(SMALL, [], [1], False)] == [1, 8, 32, 128, 512]
    assert sweep.points_of(SMALL, [3], [1, 2], True) == [
        sweep.Point(replace(SMALL, batch=3), n) for n in (1, 2)
    ]


def rows_of(batches, threads=1, us=100_000.0, ratio=12.345, names=tuple(MAKERS)):
    """A sweep's rows, with figures as wide as they come."""
    quartile = ratio if threads == 1 else np.nan
    return [
        {
            "network": "784-512-512-10 relu",
            "loss": problem.CROSS_ENTROPY,
            "dtype": "float32",
            "threads": threads,
            "device": "cpu",
            "batch": n,
            "contestant": name,
            "us": us * (1 + k) * n**0.7,
            "us_q1": us * (1 + k) * n**0.7,
            "us_q3": us * (1 + k) * n**0.7 * 1.2,
            "times_manual": 1.0 if name == MANUAL else ratio,
            "times_manual_q1": 1.0 if name == MANUAL else quartile,
            "times_manual_q3": 1.0 if name == MANUAL else 2 * quartile,
        }
        for n in batches
        for k, name in enumerate(names)
    ]


def printed(rows):
    out = StringIO()
    console = Console(file=out, width=200)
    titles = []
    for title, one in table.tables(rows):
        titles.append(title)
        console.print(one)
    return titles, out.getvalue()


def test_tables_fit_into_80_columns():
    titles, text = printed(rows_of([1, 8, 32, 128, 512, 1024], us=800.0))
    assert titles == ["784-512-512-10 relu, softmax cross-entropy, float32, 1 thread"] * 2
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for name in MAKERS:
        assert text.count(name) == 2
    assert "12.3–24.7" in text
    assert "…" not in text
    (title,), text = printed(rows_of([2], threads=2, names=(MANUAL, "torch eager")))
    assert title.endswith("2 threads")
    assert "nan" not in text
    assert [line.split() for line in text.splitlines() if "torch" in line] == [
        ["torch", "eager", "324901", "12.3"]
    ]
    manual = next(line for line in text.splitlines() if MANUAL in line)
    assert manual.split() == [MANUAL, "162450"]


def test_a_table_has_a_blank_for_who_was_left_out():
    rows = rows_of([1, 8], names=(MANUAL, "JAX jit"), us=1.0)[:3]
    _, text = printed(rows)
    (line,) = (line for line in text.splitlines() if "JAX" in line)
    assert line.split() == ["JAX", "jit", "2.00", "12.3"]
    assert "scikit" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.12"),
        (9.94, "9.94"),
        (9.96, "10.0"),
        (99.4, "99.4"),
        (99.6, "100"),
        (4e5, "400000"),
    ],
)
def test_three_digits(value, text):
    assert table.digits(value) == text


def test_the_picture_has_a_line_for_each_over_the_floor(tmp_path, monkeypatch):
    figures = []
    save = picture.save
    monkeypatch.setattr(picture, "save", lambda f, path: (figures.append(f), save(f, path)))
    rows = rows_of([1, 8, 32], us=10.0) + rows_of([8, 32], 2, us=5.0) + rows_of([4], 3, us=1.0)
    picture.plot(rows, "machine", tmp_path / "new" / "p.png")
    content = (tmp_path / "new" / "p.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    (figure,) = figures
    assert len(figure.axes) == 2  # a single batch size is no line
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert {line.get_label() for line in axes.lines} == set(MAKERS)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(MAKERS)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines[MANUAL].get_ydata(), 10 * np.array([1, 8, 32]) ** 0.7)
    assert lines["NumPy products"].get_linestyle() == "--"
    picture.plot(rows_of([4], us=1.0), "machine", tmp_path / "one.png")
    assert len(figures[1].axes) == 1


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd):
    """Run `bench --steps` in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "TURN", 1e-4)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main(["bench", *map(str, args)])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


TINY = ["--steps", "--quick", "--hidden", 4, "--batch-size", 2, "--only", "torch eager"]


def test_steps_write_a_table_a_csv_and_a_picture(handgrad, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    status, out, err = handgrad(*TINY, "--batch-size", 3, "--seed", 6, "--only", "JAX jit")
    assert status == 0, err
    assert "784-4-10 relu, softmax cross-entropy, float32, 1 thread" in out
    assert "torch eager" in out
    assert "NumPy's BLAS" in out
    assert "of seed 6" in err
    left = "left out: JAX jit: jax is not installed; pip install 'handgrad[peers]'"
    assert err.count(left) == 1
    path, drawn = sorted((tmp_path / "results").glob("steps-*"))
    assert (path.suffix, drawn.suffix) == (".csv", ".png")
    frame = pd.read_csv(path)
    runs = pd.read_csv(tmp_path / "results" / "runs.csv")
    assert list(runs.run) == [f"784-4-10 relu, batch {n}, 1 thread" for n in (2, 2, 3, 3)]
    assert list(runs.side) == list(frame.contestant)
    assert list(runs.step_us) == list(frame.us)
    assert (runs.command == "steps").all()
    assert (runs.seed == 6).all()
    assert runs.machine.notna().all()
    assert list(frame.contestant) == [MANUAL, "torch eager"] * 2
    assert list(frame.batch) == [2, 2, 3, 3]
    for column in ("machine", "blas", "torch_blas", "numpy", "torch", "threads", "dtype", "seed"):
        assert frame[column].notna().all(), column
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_batch_size_alone_is_that_of_the_usual_network(handgrad, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "steps", lambda points, *rest: asked.extend(points) or 0)
    assert handgrad("--steps", "--batch-size", 3)[0] == 0
    assert asked == [(Problem(batch=3), 1)]


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(command, "plot", lambda rows, heading, path: None)


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_steps_as_data(handgrad, undrawn, form):
    status, out, _ = handgrad(*TINY, "--dtype", "float64", "--activation", "tanh", form)
    assert status == 0
    rows = pd.DataFrame(json.loads(out)) if form == "--json" else pd.read_csv(StringIO(out))
    assert list(rows.contestant) == [MANUAL, "torch eager"]
    assert set(rows.network) == {"784-4-10 tanh"}
    assert set(rows.dtype) == {"float64"}
    assert "scikit_learn" in rows


def test_a_step_that_is_not_manuals_is_named_and_fails(handgrad, undrawn, monkeypatch):
    monkeypatch.setattr(torch_side, "LR", 0.0101)
    status, out, err = handgrad(*TINY)
    assert status == 1
    assert "refused: torch eager is not manual: updated.0.weight at" in err
    assert "torch eager" not in out
    assert MANUAL in out


def test_ctrl_c_keeps_what_was_measured(handgrad, undrawn, tmp_path, monkeypatch):
    measured = sweep._together

    def interrupted(point, *args):
        if point.problem.batch == 3:
            raise KeyboardInterrupt
        return measured(point, *args)

    monkeypatch.setattr(sweep, "_together", interrupted)
    status, out, err = handgrad(*TINY, "--batch-size", 3)
    assert status == 130
    assert "interrupted after 2 finished measurements" in err
    assert MANUAL in out
    assert list(pd.read_csv(next((tmp_path / "results").glob("steps-*.csv"))).batch) == [2, 2]


def test_a_process_that_dies_is_told_in_one_line(handgrad, monkeypatch):
    def dies(*args):
        raise alone.ChildError("MemoryError: 5 TiB")

    monkeypatch.setattr(sweep, "measure_alone", dies)
    monkeypatch.setattr("benchmarks.results.available_cores", lambda: 2)
    status, out, err = handgrad(*TINY, "--threads", 2)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == "a process that measures ended: MemoryError: 5 TiB"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--steps", "--epochs", 3], "--epochs has no meaning with --steps"),
        (["--steps", "--lr", 3], "--lr has no meaning with --steps"),
        (["--steps", "--data-root", "x"], "--data-root has no meaning with --steps"),
        (["--steps", "--weight-decay", 0], "--weight-decay has no meaning with --steps"),
        (["--advise", "--device", "cpu"], "--device has no meaning with --advise"),
        (["--advise", "--out", "x"], "--out has no meaning with --advise"),
        (["--advise", "--quick"], "--quick goes with --steps"),
        (["--steps", "--advise"], "got both"),
        (["--quick"], "--quick goes with --steps"),
        (["--only", "manual"], "--only goes with --steps"),
        (["--threads", 1, "--threads", 1], "--threads can be given more than once only with"),
        (["--batch-size", 1, "--batch-size", 2], "--batch-size can be given more than once only"),
        (["--advise", "--batch-size", 1, "--batch-size", 2], "more than once only with --steps"),
        (["--steps", "--only", "jax"], "expected one of 'manual', 'torch eager'"),
        (["--steps", "--threads", 10**5], "the cores here"),
        (["--steps", "--batch-size", 0], "expected a whole number >= 1"),
        (["--steps", "--json", "--csv"], "expected --json or --csv"),
    ],
)
def test_options_that_do_not_go_together(handgrad, tmp_path, args, told):
    status, out, err = handgrad(*args)
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert line.startswith("handgrad: error: ")
    assert told in line
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_timed(handgrad, monkeypatch):
    Path("taken").write_text("a file")
    monkeypatch.setattr(command, "measure", lambda *a: pytest.fail("measured"))
    status, _, err = handgrad(*TINY, "--out", "taken")
    assert status == 2
    assert "taken" in err.splitlines()[-1]
