"""`handgrad trust`: what the networks cover, what is planted, who is asked how, what is counted."""

import copy
import inspect
import json

import numpy as np
import pandas as pd
import pytest
import threadpoolctl
import torch

from benchmarks import cli
from benchmarks.trust import checkers, command, examine, networks, planted, report
from benchmarks.trust.networks import exact_step, network
from compare.trace import manual_step, own_parameters, units
from manual import nn, optim

MANY = 400
SIDES = examine.CHECKERS


@pytest.fixture(scope="module")
def drawn():
    """Networks as they are drawn, in range or not."""
    return [networks._draw(np.random.default_rng((0, k, 0))) for k in range(MANY)]


def parts(given):
    """Every object a network is made of."""
    yield from given.net.modules()
    yield from (given.criterion, given.optimizer, given.scheduler)
    yield given.clip and given.clip.func


# The networks.


def test_every_public_name_is_drawn(drawn):
    seen = {getattr(part, "__name__", type(part).__name__) for g in drawn for part in parts(g)}
    bases = {"Module", "Criterion", "Parameter", "Optimizer", "lr_scheduler"}
    assert {*nn.__all__, *optim.__all__} - bases <= seen


def test_sizes_scales_dtypes_steps_and_modes_are_those_promised(drawn):
    assert {g.dtype for g in drawn} == {np.dtype(np.float32), np.dtype(np.float64)}
    assert {g.steps for g in drawn} == {1, 2, 3, 4, 5}
    assert {g.net.training for g in drawn} == {True, False}
    batches = [len(g.x) for g in drawn]
    assert min(batches) == 1
    assert 48 < max(batches) <= 64
    linears = [[m for m in g.net.modules() if isinstance(m, nn.Linear)] for g in drawn]
    assert {len(some) for some in linears} == {1, 2, 3, 4}
    widths = [m.in_features for some in linears for m in some]
    assert min(widths) == 1
    assert 48 < max(widths) <= 64
    sizes = [np.abs(m.weight.data).max() * m.in_features**0.5 for some in linears for m in some]
    assert min(sizes) < 0.02
    assert max(sizes) > 5
    inputs = [np.abs(g.x).std() for g in drawn if g.x.size > 30]
    assert min(inputs) < 0.02
    assert max(inputs) > 30
    assert {g.criterion.reduction for g in drawn} == {"mean", "sum", "none"}
    kinds = [type(g.optimizer) for g in drawn]
    assert 0 < kinds.count(optim.LBFGS) < 0.1 * MANY


def test_a_network_follows_from_seed_and_number():
    def state(given):
        return str(given), given.net.state_dict(), given.x, given.y

    one, again, other, elsewhere = (network(*at) for at in ((3, 7), (3, 7), (3, 8), (4, 7)))
    assert str(one) == str(again)
    for a, b in zip(state(one)[2:], state(again)[2:], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.net.state_dict().keys() == again.net.state_dict().keys()
    for name, value in one.net.state_dict().items():
        np.testing.assert_array_equal(value, again.net.state_dict()[name])
    for different in (other, elsewhere):
        assert one.x.shape != different.x.shape or (one.x != different.x).any()


def test_a_draw_beyond_float32_is_thrown_away_and_counted(monkeypatch):
    draw, seeds = networks._draw, []

    def too_large_at_first(generator):
        given = draw(generator)
        seeds.append(generator.bit_generator.seed_seq.entropy)
        if len(seeds) < 3:
            given.net[0].to(np.float64)
            given = given._replace(x=np.full_like(given.x, 1e38), net=blown_up(given))
        return given

    def blown_up(given):
        linear = next(m for m in given.net.modules() if isinstance(m, nn.Linear))
        linear.weight.data = np.full(linear.weight.shape, 1e30, linear.weight.dtype)
        return given.net

    monkeypatch.setattr(networks, "_draw", too_large_at_first)
    assert network(0, 5).redrawn == 2
    assert seeds == [(0, 5, 0), (0, 5, 1), (0, 5, 2)]


def test_what_runs_is_a_copy():
    given = network(0, 1)
    before = copy.deepcopy(given)
    assert len(list(examine._examine(0, 1, given, True))) > 4 * len(planted.ERRORS)
    np.testing.assert_array_equal(given.x, before.x)
    for name, value in given.net.state_dict().items():
        np.testing.assert_array_equal(value, before.net.state_dict()[name])
    assert type(given.net[0]) is type(before.net[0])
    assert given.optimizer.state_dict()["state"] == {}


# The errors.


def steps_of(given):
    """Every tensor of manual's first step, by name."""
    own = given.copied()
    return {r.name: r.value for r in manual_step(own.run(), own.x, own.y, networks.cotangent(1))}


def places_of(given, error="entry", generator=None):
    torchs = {p.name: p.torch for p in checkers.trace(given, 1)[0]}
    generator = generator or np.random.default_rng(0)
    return planted.place(given, torchs, exact_step(given), error, generator)


def differing(correct, wrong):
    """Names of backward's tensors that differ; those before the update alone."""
    names = [n for n in correct if not n.startswith(("updated", "clipped", "grad_norm", "state"))]
    assert all(n in wrong or n.startswith("grad") for n in names)
    return [
        n
        for n in names
        if n not in wrong
        or correct[n].dtype != wrong[n].dtype
        or not np.array_equal(correct[n], wrong[n], equal_nan=True)
    ]


def of_kind(kind, dtype):
    """A network whose first parameters are those of a module of this kind."""
    for number in range(1000):
        given = networks._draw(np.random.default_rng((9, number, 0)))
        for unit in units(given.net):
            own = dict(own_parameters(unit.module))
            if type(unit.module) is kind and given.dtype == dtype and own:
                correct, name = steps_of(given), next(iter(own))
                if (np.abs(correct[f"grad.{unit.path}.{name}"]) > 1e-20).all():
                    return given, correct, unit.path, name
    raise AssertionError("none found")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [nn.Linear, nn.BatchNorm1d, nn.PReLU])
def test_one_entry_is_off_by_the_share_and_nothing_else(kind, dtype):
    given, correct, path, name = of_kind(kind, dtype)
    gradient = correct[f"grad.{path}.{name}"]
    where = planted.Place(path, name, planted.median_entry(gradient), "")
    wrong = steps_of(planted.plant(given, "entry", where))
    assert wrong.keys() == correct.keys()  # no second reading that differs
    assert differing(correct, wrong) == [where.row]
    share = {np.float32: 0.01, np.float64: 1e-6}[dtype]
    off = wrong[where.row] - gradient
    assert np.flatnonzero(off).tolist() == [np.ravel_multi_index(where.index, off.shape)]
    expected = share * gradient[where.index]
    rel = 2 * float(np.finfo(dtype).eps) / share  # the product and the factor are rounded
    assert off[where.index] == pytest.approx(expected, rel=rel)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_of_the_other_errors_is_what_it_is_called(dtype):
    given, correct, path, name = of_kind(nn.Linear, dtype)
    row = f"grad.{path}.{name}"
    gradient = correct[row]
    where = planted.Place(path, name, planted.median_entry(gradient), "")
    found = {e: steps_of(planted.plant(given, e, where)) for e in planted.ERRORS[1:]}
    for error in ("zero", "shape", "dtype", "nan", "missing"):
        assert differing(correct, found[error]) == [row], error
    assert not found["zero"][row].any()
    assert found["shape"][row].shape == (1, *gradient.shape)
    assert {found["dtype"][row].dtype, gradient.dtype} == {np.dtype("f4"), np.dtype("f8")}
    assert np.isnan(found["nan"][row]).sum() == 1
    assert np.isnan(found["nan"][row][where.index])
    assert row not in found["missing"]
    both = planted.plant(given, "nan on both", where)
    for pair in checkers.trace(both, 1)[0]:
        if pair.name in ("loss", row):
            assert np.isnan(pair.manual).any(), pair.name
            assert np.isnan(pair.torch).any(), pair.name


def test_planting_leaves_the_given_network_alone():
    given, correct, path, name = of_kind(nn.Linear, np.float32)
    where = planted.Place(path, name, (0, 0), "")
    for error in planted.ERRORS:
        planted.plant(given, error, where)
    assert differing(correct, steps_of(given)) == []


def test_the_error_is_in_every_step_and_in_the_update():
    given, _, path, name = of_kind(nn.Linear, np.float64)
    where = planted.Place(path, name, (0, 0), "")
    own = planted.plant(given, "zero", where)._replace(clip=None, optimizer=None, scheduler=None)
    own = own._replace(optimizer=optim.SGD(own.net.parameters(), lr=0.1))
    before = own.net.state_dict()[f"{path}.{name}"]
    for _ in range(2):
        rows = manual_step(own.run(), own.x, own.y, networks.cotangent(1))
        (found,) = (r.value for r in rows if r.name == where.row)
        assert not found.any()
    np.testing.assert_array_equal(own.net.state_dict()[f"{path}.{name}"], before)


def test_the_median_is_of_the_sizes_that_are_not_0():
    assert planted.median_entry(np.array([0, -5.0, 1, 0, 3, 0])) == (4,)
    assert planted.median_entry(np.array([[0, -5.0], [1, 3]])) == (1, 1)
    assert planted.median_entry(np.array([[2.0, -1.0]])) == (0, 1)  # the lower of two
    assert planted.median_entry(np.array([7.0])) == (0,)
    assert planted.median_entry(np.zeros((2, 2))) in np.ndindex(2, 2)


def test_an_error_that_nobody_could_find_is_not_counted():
    """A bias before a BatchNorm has the gradient 0, but for rounding."""
    g = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        layers = nn.Linear(3, 4, dtype=dtype, generator=g), nn.BatchNorm1d(4, dtype=dtype)
        x, y = (g.normal(size=(8, n)).astype(dtype) for n in (3, 4))
        net = nn.Sequential(*layers)
        given = networks.Network(net, nn.MSELoss(), x, y, None, None, None, 1)
        rows = {"grad.0.weight": "", "grad.0.bias": "rounding", "grad.1.weight": ""}
        rows["grad.1.bias"] = ""
        found = {}
        for seed in range(20):
            for error in ("entry", "zero"):
                where = places_of(given, error, np.random.default_rng(seed))
                found.setdefault(where.row, set()).add(where.hopeless)
        assert found == {row: {why} for row, why in rows.items()}
        assert not places_of(given, "nan").hopeless
        dead = planted.dead(given)
        for seed in range(20):
            where = places_of(dead, "entry", np.random.default_rng(seed))
            if where.path == "0":
                assert where.hopeless == "all zero"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_too_small_to_be_more_than_underflow(dtype):
    given, _, path, _ = of_kind(nn.Linear, dtype)
    module = next(unit.module for unit in units(given.net) if unit.path == path)
    own = given._replace(net=nn.Sequential(module))
    tiny, share = np.finfo(dtype).tiny, planted.SHARE[np.dtype(dtype)]
    for size, why in ((0.9, "underflow"), (1.1, "")):
        rows = {
            f"grad.0.{n}": np.full(p.shape, size * tiny / share, dtype)
            for n, p in own.net[0].named_parameters()
        }
        where = planted.place(own, rows, rows, "entry", np.random.default_rng(0))
        assert where.hopeless == why


def test_zero_is_judged_by_the_largest_entry():
    given, *_ = of_kind(nn.Linear, np.float32)
    where = places_of(given, "zero")
    gradient = {p.name: p.torch for p in checkers.trace(given, 1)[0]}[where.row]
    assert abs(gradient[where.index]) == np.abs(gradient).max()


def test_a_dead_network_has_zeros_on_both_sides_and_only_there():
    for number in range(12):
        given = planted.dead(network(0, number))
        rows = {p.name: p for p in checkers.trace(given, 1)[0]}
        for name in ("grad.0.weight", "grad.0.bias"):
            assert not rows[name].manual.any()
            assert not rows[name].torch.any()
        assert rows["activation.0"].torch.all()
        assert not rows["activation.1"].torch.any()


# The checkers.


def test_each_is_called_with_its_defaults(monkeypatch):
    given = network(0, 0)
    called = {}

    def recording(owner, name):
        real = getattr(owner, name)

        def call(*args, **options):
            called.setdefault(name, set()).update(options)
            called[f"{name} takes"] = max(called.get(f"{name} takes", 0), len(args))
            return real(*args, **options)

        call.__signature__ = inspect.signature(real)
        monkeypatch.setattr(owner, name, call)

    recording(torch.testing, "assert_close")
    recording(np, "allclose")
    recording(torch.autograd, "gradcheck")
    recording(checkers, "compare")
    pairs, _ = checkers.trace(given, 1)
    checkers.assert_close(pairs, 0.0)
    checkers.allclose(pairs, 0.0)
    assert checkers.gradcheck(given, places_of(given)) is not None
    checkers.handgrad(given, 1)
    for name in ("assert_close", "allclose", "gradcheck"):
        assert called[name] == set(), name
        assert called[f"{name} takes"] == 2, name
    settings = {"optimizer", "scheduler", "clip", "steps", "seed", "allow_vacuous", "oracle"}
    assert called["compare"] <= settings
    assert called["compare takes"] == 4


def pair(manual, torchs, name="a"):
    return checkers.Pair(1, name, manual, torchs)


def test_the_first_tensor_that_fails_is_named():
    one = np.ones(3, np.float32)
    good, bad = pair(one, one), pair(one + np.float32(1e-3), one, "b")
    for check in (checkers.assert_close, checkers.allclose):
        assert check([good, good], 1.0)[:2] == ("pass", "")
        assert check([good, bad, bad], 1.0)[:2] == ("wrong", "step 1, b")
        assert check([good], 1.0).seconds >= 1
        assert check([pair(None, one)], 0.0).says == "wrong"
        assert check([pair(None, None, "a side raised")], 0.0).where == "step 1, a side raised"
    # what tells the two apart
    wide = pair(one[None], one), pair(one.astype(np.float64), one)
    for some in wide:
        assert checkers.assert_close([some], 0.0).says == "wrong"
        assert checkers.allclose([some], 0.0).says == "pass"


def test_the_traces_of_a_correct_network_are_those_that_compare_judges():
    for number in range(6):
        given = network(0, number)
        pairs, _ = checkers.trace(given, given.steps)
        frame = checkers.compared(given, given.steps).frame
        assert [(p.step, p.name) for p in pairs] == list(zip(frame.step, frame.name, strict=True))
        for found, row in zip(pairs, frame.itertuples(), strict=True):
            if found.step == 1:  # later on compare keeps torch's own state of the optimizer
                assert found.torch[row.worst] == row.torch


@pytest.mark.parametrize("kind", [nn.Linear, nn.BatchNorm1d, nn.PReLU])
def test_gradcheck_sees_manuals_backward(kind):
    given, correct, path, name = of_kind(kind, np.float64)
    where = planted.Place(path, name, planted.median_entry(correct[f"grad.{path}.{name}"]), "")
    assert checkers.gradcheck(given, where).says == "pass"
    for error in ("zero", "nan", "missing"):
        assert checkers.gradcheck(planted.plant(given, error, where), where).says == "wrong", error


def test_gradcheck_is_spared_a_large_jacobian(monkeypatch):
    given, _, path, name = of_kind(nn.Linear, np.float64)
    where = planted.Place(path, name, (0, 0), "")
    monkeypatch.setattr(checkers, "JACOBIAN", 1)
    assert checkers.gradcheck(given, where) is None


def test_what_is_vacuous_is_told_apart():
    given = planted.dead(network(0, 0))
    told = checkers.handgrad(given, 1)
    assert told.says == "pass"
    assert "grad.0.weight" in told.where
    assert checkers.handgrad(given, 1, vacuous=()).says == "vacuous"
    assert checkers.handgrad(given, 1, vacuous=["grad.0.*"]).says == "vacuous"  # others there
    path, name = places_of(given)[:2]
    wrong = planted.plant(given, "nan", planted.Place(path, name, (0,), ""))
    assert checkers.handgrad(wrong, 1, vacuous=()).says == "wrong"


def test_a_compare_that_raises_calls_the_network_wrong(monkeypatch):
    def failing(*args, **options):
        raise RuntimeError("no\nwords")

    monkeypatch.setattr(checkers, "compare", failing)
    found = checkers.handgrad(network(0, 0), 1)
    assert found[:2] == ("wrong", "RuntimeError: no")


# The counts.


def finding(number=0, dtype="float32", experiment="correct", checker="handgrad", says="pass"):
    return examine.Finding(number, dtype, experiment, checker, says, "", 0.5, 2)


def findings_of_all(networks=200, **wrong):
    """What is to be said, by every checker; but `wrong` by handgrad about network 0."""
    expected = {
        "correct": "pass",
        **dict.fromkeys(planted.ERRORS, "wrong"),
        examine.DEAD: "vacuous",
    }
    rows = [
        finding(n, dtype, e, checker, says)
        for n in range(networks)
        for dtype in ("float32", "float64")
        for e, says in expected.items()
        for checker in SIDES
    ]
    changed = [
        r._replace(says=wrong[r.experiment])
        if r.checker == "handgrad" and r.number == 0 and r.experiment in wrong
        else r
        for r in rows
    ]
    return pd.DataFrame(changed)


def test_the_counts_add_up():
    frame = findings_of_all(**{"correct": "wrong", "entry": "rounding", "zero": "pass"})
    rows = {(r["checker"], r["dtype"]): r for r in report.counts(frame)}
    assert len(rows) == 8
    own, other = rows["handgrad", "float64"], rows["allclose", "float32"]
    assert (own["correct networks"], own["false alarms"]) == (200, 1)
    assert (other["correct networks"], other["false alarms"]) == (200, 0)
    assert (own["entry networks"], own["entry caught"]) == (199, 199)  # a hopeless one is no miss
    assert (own["zero networks"], own["zero caught"]) == (200, 199)
    assert (own["nan networks"], own["nan caught"]) == (200, 200)
    assert own[f"{examine.DEAD} passed"] == 0
    assert own["seconds"] == 0.5
    assert "entry', for nobody could find it there: 0 where the whole" in report.footnote(frame)
    assert "1 where torch's entry is off" in report.footnote(frame)
    assert "400 draws that left" in report.footnote(frame)


def test_the_counts_of_a_run_are_those_of_its_findings():
    frame = pd.DataFrame([f for number in range(10) for f in examine.examine(0, number)])
    for row in report.counts(frame):
        own = frame[(frame.checker == row["checker"]) & (frame.dtype == row["dtype"])]
        correct = own[own.experiment == "correct"]
        run = correct[correct.says != "not run"]
        assert row["correct networks"] == len(run)
        assert row["false alarms"] == (run.says == "wrong").sum()
    assert frame[frame.experiment == "correct"].number.nunique() == 10
    assert set(frame[frame.experiment == "zero"].number) == {0}
    for _, group in frame.groupby(["number", "experiment"]):
        assert sorted(group.checker) == sorted(SIDES)


@pytest.mark.parametrize(
    ("wrong", "networks", "good"),
    [
        ({}, 200, True),
        ({"entry": "pass"}, 200, True),  # 2 of 400: 0.5 %
        ({"entry": "pass"}, 199, False),
        ({"correct": "wrong"}, 20, False),
        ({"correct": "vacuous"}, 20, False),
        *(({error: "pass"}, 20, False) for error in planted.ERRORS[1:]),
        ({"zero": "all zero"}, 200, True),
        ({examine.DEAD: "pass"}, 20, False),
        ({examine.DEAD: "wrong"}, 20, False),
    ],
)
def test_what_is_good_enough(wrong, networks, good):
    frame = findings_of_all(networks, **wrong)
    assert report.trusted(frame) == good
    says = {"rounding", "all zero"}
    bad = {} if says & set(wrong.values()) else wrong
    assert set(report.offenders(frame).experiment) == set(bad)


# The command.


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd):
    """Run a command line in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main([str(a) for a in args])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


@pytest.fixture
def found(monkeypatch):
    """Give the command these findings."""

    def give(frame):
        rows = [examine.Finding(*row) for row in frame.itertuples(index=False)]
        monkeypatch.setattr(command, "examine_all", lambda *args: iter([rows[::2], rows[1::2]]))

    return give


def test_a_false_alarm_is_listed_and_makes_the_exit_status_1(handgrad, found, tmp_path):
    found(findings_of_all(3, correct="wrong"))
    status, out, err = handgrad("trust", "--seed", 5, "--networks", 3)
    assert status == 1
    assert "correct, float32: wrong; handgrad trust --seed 5 --only 0" in err
    assert "1/3" in out
    (path,) = (tmp_path / "results").glob("trust-*")
    frame = pd.read_csv(path)
    assert list(frame.checker) == [c for c in SIDES for _ in range(2)]
    assert list(frame["false alarms"]) == [1, 1, 0, 0, 0, 0, 0, 0]
    assert set(frame.seed) == {5}
    for column in ("machine", "numpy", "torch", "python", "networks"):
        assert frame[column].notna().all(), column
    runs = pd.read_csv(path.with_name("runs.csv"))
    assert list(runs.side) == list(frame.checker)
    assert list(runs.false_alarms) == list(frame["false alarms"])
    assert list(runs.network_seconds) == list(frame.seconds)
    assert set(runs.command) == {"trust"}
    assert set(runs.outcome) == {"finished"}
    assert "seconds" not in runs


def test_all_as_it_should_be_is_exit_status_0(handgrad, found):
    found(findings_of_all(3))
    status, out, err = handgrad("trust")
    assert status == 0, err
    assert "only" not in err
    assert "0/3" in out


def test_formats(handgrad, found):
    found(findings_of_all(3))
    rows = json.loads(handgrad("trust", "--json")[1])
    assert [row["checker"] for row in rows] == [c for c in SIDES for _ in range(2)]
    found(findings_of_all(3))
    assert handgrad("trust", "--csv")[1].splitlines()[0].startswith("checker,dtype,")
    assert handgrad("trust", "--csv", "--json")[0] == 2
    for wrong in (("--networks", 0), ("--seed", -1), ("--only", "x"), ("--processes", 0)):
        status, _, err = handgrad("trust", *wrong)
        assert status == 2
        assert wrong[0].strip("-") in err


def test_one_network_is_shown_with_its_tensors(handgrad):
    _, out, _ = handgrad("trust", "--only", 3)
    assert str(network(0, 3)) in out
    assert "activation.0" in out
    for error in (*planted.ERRORS, examine.DEAD):
        assert error in out
    status, out, err = handgrad("trust", "--only", 3, "--processes", 2)
    assert (status, out) == (2, "")
    assert "--processes has no meaning with --only" in err


def test_an_interrupted_run_reports_what_there_is(handgrad, monkeypatch, tmp_path):
    def interrupted(*args):
        yield [examine.Finding(*row) for row in findings_of_all(3).itertuples(index=False)]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "examine_all", interrupted)
    status, out, _ = handgrad("trust")
    assert status == 130
    assert "3 random networks" in out
    assert set(pd.read_csv(tmp_path / "results" / "runs.csv").outcome) == {"interrupted"}


def test_a_part_runs_with_two_threads_on_both_sides(monkeypatch):
    assert sorted(n for n in range(60) if examine.threads(n) == 2) == [10, 30, 50]
    seen = {}

    def looking(seed, number, given, every):
        libraries = {i["num_threads"] for i in threadpoolctl.threadpool_info()}
        seen[number] = torch.get_num_threads(), libraries
        return iter([finding(number)])

    monkeypatch.setattr(examine, "_examine", looking)
    for _ in examine.examine_all(0, 12, 1, lambda what: None):
        pass
    assert seen == {n: (2, {2}) if n == 10 else (1, {1}) for n in range(12)}
    assert torch.get_num_threads() == 1


def test_every_network_is_examined_once_and_told_of(monkeypatch):
    monkeypatch.setattr(examine, "examine", lambda seed, number: [finding(number), finding(number)])
    told = []
    rows = [f for some in examine.examine_all(0, 5, 1, told.append) for f in some]
    assert [f.number for f in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert told == [f"{done} of 5" for done in range(6)]


def test_what_is_found_does_not_depend_on_the_processes():
    """Findings and their order; but what a clock says is no finding."""
    given = []
    for processes in (1, 2, 3):
        found = examine.examine_all(0, 3, processes, lambda what: None)
        given.append([f._replace(seconds=0.0) for some in found for f in some])
    assert given[0] == given[1] == given[2]
    assert {f.number for f in given[0]} == {0, 1, 2}
