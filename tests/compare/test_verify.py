"""`verify` covers everything there is, passes, and fails where one line of it is wrong."""

import copy
import inspect
from functools import partial

import numpy as np
import pandas as pd
import pytest

from compare import compare, homework, verify
from compare.cases import Case, cases
from compare.cases import optimizers as compare_cases
from compare.comparison import Comparison
from compare.judge import frame
from compare.trace import Run, manual_step
from manual import nn, optim
from tests.compare.report_rows import BUG, IDLE, LOST, ROUNDING, SAME
from torch_ref import optimizers, twin, twins

NOT_RUN = {"Module", "Criterion", "Parameter", "Optimizer", "lr_scheduler"}  # bases, and a home
PUBLIC = sorted({*nn.__all__, *optim.__all__} - NOT_RUN)


@pytest.fixture(scope="module")
def every_case():
    return list(cases(np.dtype(np.float64), np.random.default_rng(0)))


def test_the_public_names_are_all_there():
    for module in (nn, optim):
        found = {name for name, v in vars(module).items() if inspect.isclass(v)}
        found |= {name for name, v in vars(module).items() if inspect.isfunction(v)}
        assert {name for name in found if not name.startswith("_")} <= set(module.__all__)
    assert {"GELU", "BatchNorm1d", "LBFGS", "StepLR", "clip_grad_norm_"} <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_cases_that_run_it(name, every_case):
    own = [case for case in every_case if case.subject == name]
    assert len(own) >= 1
    for case in own:
        run = {type(m).__name__ for m in case.net.modules()}
        run |= {type(o).__name__ for o in (case.criterion, case.optimizer, case.scheduler)}
        run |= set() if case.clip is None else {case.clip.func.__name__}
        assert name in run, case.name


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_twin(name, every_case):
    case = next(case for case in every_case if case.subject == name)
    net, criterion, optimizer = twins(case.net, case.criterion, case.optimizer)
    found = [*net.modules(), criterion, optimizer]
    if case.scheduler is not None:
        found.append(twin(case.scheduler, optimizer))
    if case.clip is not None:
        found.append(twin(case.clip).func)
    assert name in {getattr(t, "__name__", type(t).__name__) for t in found}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_that_changes_the_mathematics_has_a_case(name, every_case):
    kind = getattr(nn if name in nn.__all__ else optim, name)
    found = {argument for case in every_case if case.subject == name for argument in case.options}
    no_mathematics = {"dtype", "generator", "params", "optimizer", "parameters", "modules"}
    no_mathematics |= {"in_features", "out_features", "num_features", "error_if_nonfinite"}
    no_mathematics |= {"args", "kwargs"}
    assert set(inspect.signature(kind).parameters) - no_mathematics <= found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["Adagrad", "Adam", "AdamW", "LBFGS", "RMSprop", "SGD"])
def test_every_option_of_an_optimizers_case_matters(kind, dtype):
    """With the default in its place the case ends elsewhere."""
    defaults = inspect.signature(getattr(optim, kind)).parameters

    def end(case, **options):
        net, criterion, optimizer = copy.deepcopy((case.net, case.criterion, case.optimizer))
        for group in optimizer.param_groups:
            group.update(options)
        for _ in range(case.steps):
            manual_step(Run(net, criterion, optimizer), case.x, case.y)
        return np.concatenate([p.data.ravel() for p in net.parameters()])

    for case in cases(np.dtype(dtype), np.random.default_rng(0)):
        if case.subject == kind:
            idle = {"params", "initial_accumulator_value"}  # read when the optimizer is made
            if case.options.keys() & {"tolerance_grad", "tolerance_change"}:
                idle.add("max_iter")  # it stops before
            for option in case.options.keys() - idle:
                default = {option: defaults[option].default}
                if option == "max_iter":
                    default["max_eval"] = 25
                elif option == "max_eval":
                    default = {"max_eval": 5 * case.options["max_iter"] // 4}
                moved = np.abs(end(case) - end(case, **default)).max()
                assert moved > 1000 * np.finfo(dtype).eps, f"{case.name}: {option}"


def test_cases_vary_ranks_and_widths(every_case):
    shapes = {name: [c.x.shape for c in every_case if c.subject == name] for name in PUBLIC}
    for name in ("Sigmoid", "PReLU", "Softmax", "MSELoss", "Dropout"):
        assert {len(shape) for shape in shapes[name]} == {0, 1, 2, 3, 4}
    for name in ("Linear", "Maxout", "CrossEntropyLoss", "NLLLoss"):
        assert {len(shape) for shape in shapes[name]} == {1, 2, 3, 4}
    assert {len(shape) for shape in shapes["BatchNorm1d"]} == {2, 3}
    others = cases(np.dtype(np.float64), np.random.default_rng(1))
    assert [c.x.shape for c in others] != [c.x.shape for c in every_case]
    in_float32 = cases(np.dtype(np.float32), np.random.default_rng(1))
    assert [(c.subject, *c.options) for c in in_float32] == [
        (c.subject, *c.options) for c in every_case
    ]


def test_the_list_counts_the_cases(every_case):
    rows = {row["subject"]: row for row in verify.coverage(0)}
    assert set(rows) == {*PUBLIC, "homework"}
    homework = rows.pop("homework")
    assert (homework["kind"], homework["cases"], homework["ranks"]) == ("homework", 8, "2")
    for name, row in rows.items():
        assert row["cases"] == 2 * sum(case.subject == name for case in every_case)
    kinds = {"Tanh": "module", "L1Loss": "loss", "Adam": "optimizer", "StepLR": "schedule"}
    kinds["clip_grad_value_"] = "clipping"
    assert all(rows[name]["kind"] == kind for name, kind in kinds.items())
    assert rows["Tanh"]["ranks"] == "0 to 4"
    assert rows["LBFGS"]["steps"] == 2 * rows["LBFGS"]["cases"]
    assert rows["LeakyReLU"]["arguments"] == "negative_slope"
    assert {"amsgrad", "maximize", "weight_decay"} <= set(rows["Adam"]["arguments"].split(", "))


@pytest.mark.parametrize("seed", [1])
def test_everything_passes_on_another_seed_too(seed):
    results = list(verify.verify(seed))
    assert [r["case"] for r in results if r["verdict"] != "ok"] == [], f"seed {seed}"
    assert {r["subject"] for r in results} == {*PUBLIC, "homework"}
    # Of everything there is a case in which no check was idle; a Step has no gradient but 0.
    assert {r["subject"] for r in results if not r["vacuous"]} == {*PUBLIC, "homework"} - {"Step"}


SOME = {"Tanh", "Dropout", "MSELoss", "Adam", "homework"}


def test_the_same_seed_gives_the_same_results():
    first, second = ([r | {"detail": ""} for r in verify.verify(5, only=SOME)] for _ in range(2))
    assert first == second
    assert {r["subject"] for r in first} == SOME


def slope_1_at_0(self, x):
    y = np.asarray(np.maximum(x, 0))
    self.saved = np.asarray(x >= 0), x.dtype
    return y


def failing(subject, monkeypatch):
    """{dtype: the first result of one subject's cases that is not ok}."""
    found = {}
    for dtype in verify.DTYPES:
        with monkeypatch.context() as patch:
            patch.setattr(verify, "DTYPES", (dtype,))
            patch.setattr(verify, "compare", partial(compare, oracle=False))
            results = verify.verify(0, only={subject})
            first = next((r for r in results if r["verdict"] != "ok"), None)
        if first is not None:
            found[str(dtype)] = first
    return found


@pytest.mark.parametrize(
    ("owner", "method", "wrong"),
    [
        (nn.ReLU, "forward", slope_1_at_0),
        (nn.Tanh, "backward", lambda self, dy: dy * (1 - self.saved[0])),
        (nn.Step, "backward", lambda self, dy: dy),
        (optim.SGD, "step", lambda self, closure=None: None),
        (optim.Adam, "step", lambda self, closure=None: None),
        (optim.StepLR, "step", lambda self: None),
        (nn.Residual, "backward", lambda self, dy: self.module.backward(dy)),
    ],
)
def test_a_wrong_line_fails_its_case(monkeypatch, owner, method, wrong):
    monkeypatch.setattr(owner, method, wrong)
    failed = failing(owner.__name__, monkeypatch)
    assert set(failed) == {"float64", "float32"}
    for dtype, result in failed.items():
        assert (result["subject"], result["dtype"]) == (owner.__name__, dtype)
        assert "mismatch" in verify.detail_text(result)
        assert "seed 0" in verify.detail_text(result)


def thousandth_off(original):
    def wrong(*args, **kwargs):
        result = original(*args, **kwargs)
        return np.asarray(result * 1.001, result.dtype)

    return wrong


@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize("name", [n for n in PUBLIC if n in nn.__all__])
def test_a_thousandth_off_fails(monkeypatch, name, method):
    """In every module and loss, in both dtypes; a Step's gradient is 0 whatever the factor."""
    kind = getattr(nn, name)
    monkeypatch.setattr(kind, method, thousandth_off(getattr(kind, method)))
    failed = set(failing(name, monkeypatch))
    assert failed == (set() if (name, method) == ("Step", "backward") else {"float64", "float32"})


@pytest.mark.parametrize("name", [n for n in PUBLIC if n in optim.__all__])
def test_an_optimizer_a_thousandth_off_fails(monkeypatch, name):
    """Its learning rate; of a schedule its first value; of clipping its limit."""
    kind = getattr(optim, name)
    if inspect.isfunction(kind):

        def wrong(parameters, **options):
            limit = next(iter(options))
            return kind(parameters, **{**options, limit: 1.001 * options[limit]})

        monkeypatch.setitem(optimizers.FUNCTIONS, wrong, optimizers.FUNCTIONS[kind])
        monkeypatch.setattr(
            compare_cases, "CLIPS", [(wrong, o) for f, o in compare_cases.CLIPS if f is kind]
        )
        monkeypatch.setattr(wrong, "__name__", name, raising=False)
    elif issubclass(kind, optim.Optimizer):
        step = kind.step

        def wrong(self, *closure):
            for group in self.param_groups:
                group["lr"] *= 1.001
            return step(self, *closure)

        monkeypatch.setattr(kind, "step", wrong)
    else:
        step = kind.step

        def wrong(self):
            step(self)
            self.optimizer.param_groups[0]["lr"] *= 1.001

        monkeypatch.setattr(kind, "step", wrong)
    assert set(failing(name, monkeypatch)) == {"float64", "float32"}


# With a stand-in for what proves


def made_up(subject, options, ndim, **more):
    x = np.zeros((2,) * ndim)
    return Case(subject, options, nn.Tanh(), nn.MSELoss(), x, x, **more)


@pytest.fixture
def stand_ins(monkeypatch):
    """A list of what is called, and with what: `cases`, `compare` and homework.check are made up.
    Of the second case one tensor fails, and another could not have failed."""
    net = nn.Linear(2, 2)
    optimizer = optim.SGD(net.parameters())
    plan = [
        made_up("Tanh", {"alpha": 2}, 1),
        made_up("StepLR", {"step_size": 2, "gamma": 0.5}, 3, optimizer=optimizer, steps=4)._replace(
            scheduler=optim.StepLR(optimizer, 2), clip=print
        ),
        made_up("Tanh", {"slope": 1}, 2),
    ]
    calls = []

    def drawn(dtype, generator):
        calls.append(("cases", dtype, generator.integers(1000)))
        return iter(plan)

    def judged(*given, **options):
        calls.append(("compare", given, options))
        rows = [SAME, ROUNDING, IDLE]
        if options.get("scheduler"):
            rows = [IDLE, LOST, SAME, BUG]
        elif given[0] is plan[2].net:
            rows = [IDLE, SAME]
        return Comparison(frame(rows), "", {}, tuple(options["allow_vacuous"]))

    def checked(name, dtype, device):
        calls.append(("check", name, dtype, device))
        errors = {"manual_error": [1e-16, 3e-16, 0.0], "torch_error": [2e-16, 1e-16, 0.0]}
        verdicts = ["ok", "mismatch" if (name, dtype) == ("b", np.float32) else "ok", "ok"]
        names = ["loss", "grad.0.bias", "d_x"]
        return pd.DataFrame({"name": names, **errors, "allowed": 1e-15, "verdict": verdicts})

    monkeypatch.setattr(verify, "cases", drawn)
    monkeypatch.setattr(verify, "compare", judged)
    monkeypatch.setattr(homework, "check", checked)
    calls.append(plan)
    return calls


def test_what_is_asked_and_what_is_reported_of_a_case(stand_ins):
    [plan], told = stand_ins, []
    results = list(verify.verify(7, told.append, only={"StepLR", "Adam"}, device="cuda"))
    assert told == ["StepLR"] * 2
    asked = [call[1:] for call in stand_ins[1:] if call[0] == "compare"]
    case = plan[1]
    options = {"optimizer": case.optimizer, "scheduler": case.scheduler, "clip": print}
    options |= {"steps": 4, "device": "cuda", "seed": 7, "allow_vacuous": ["*"]}
    for given, found in asked:
        assert [id(v) for v in given] == [id(v) for v in (case.net, case.criterion, case.x, case.y)]
        assert found == options
    drawn = [call[1:] for call in stand_ins[1:] if call[0] == "cases"]
    first = np.random.default_rng(7).integers(1000)
    assert drawn == [(np.float64, first), (np.float32, first)]
    details = [result.pop("detail") for result in results]
    assert all(isinstance(detail, Comparison) for detail in details)
    assert details[0] is not details[1]
    expected = {"subject": "StepLR", "case": "StepLR(step_size=2, gamma=0.5) [2, 2, 2]"}
    expected |= {"tensors": 4, "failed": 2, "vacuous": 1, "used": BUG["used"], "worst": "grad.w"}
    assert results == [
        {**expected, "dtype": dtype, "verdict": "missing"} for dtype in ("float64", "float32")
    ]


def test_what_is_reported_of_all_that_passes(stand_ins):
    results = list(verify.verify(7, only=["Tanh"]))
    shown = [(r["case"], r["dtype"], r["verdict"]) for r in results]
    assert shown == [
        (case, dtype, "ok")
        for dtype in ("float64", "float32")
        for case in ("Tanh(alpha=2) [2]", "Tanh(slope=1) [2, 2]")
    ]
    found = [[r[k] for k in ("tensors", "failed", "vacuous", "used", "worst")] for r in results]
    assert found == [[3, 0, 1, 0.254, "activation.1"], [2, 0, 1, 0.0, "d_x"]] * 2


def test_what_is_asked_and_what_is_reported_of_the_homework(stand_ins):
    told = []
    results = list(verify.verify(7, told.append, only=["homework"], device="cuda"))
    assert told == ["homework (a)", "homework (b)"] * 2
    assert [call[1:] for call in stand_ins[1:] if call[0] == "check"] == [
        (name, dtype, "cuda") for dtype in (np.float64, np.float32) for name in "ab"
    ]
    asked = [call[1:] for call in stand_ins[1:] if call[0] == "compare"]
    for ((net, criterion, x, y), options), (dtype, name) in zip(
        asked, [(d, n) for d in (np.float64, np.float32) for n in "ab"], strict=True
    ):
        right, right_criterion, optimizer, right_x, right_y = homework.problem(name, dtype)
        assert (str(net), str(criterion)) == (str(right), str(right_criterion))
        np.testing.assert_array_equal(net[0].weight.data, right[0].weight.data)
        np.testing.assert_array_equal(x, right_x)
        np.testing.assert_array_equal(y, right_y)
        assert {x.dtype, y.dtype, net[0].weight.dtype} == {np.dtype(dtype)}
        given = options.pop("optimizer")
        assert options == {"device": "cuda", "allow_vacuous": ["d_x"]}
        assert given.defaults == optimizer.defaults
        assert given.param_groups[0]["params"][0] is net[0].weight
    shown = [(r["case"], r["dtype"], r["verdict"], r["worst"], r["failed"]) for r in results]
    assert shown == [
        (f"({name}){exact}", dtype, *of)
        for dtype in ("float64", "float32")
        for name in "ab"
        for exact, of in [
            (
                ", exact",
                ("mismatch", "grad.0.bias", 1)
                if (name, dtype) == ("b", "float32")
                else ("ok", "grad.0.bias", 0),
            ),
            ("", ("ok", "activation.1", 0)),
        ]
    ]
    assert {r["subject"] for r in results} == {"homework"}
    assert [r["used"] for r in results] == [pytest.approx(0.3, rel=1e-15), 0.254] * 4
    assert [r["tensors"] for r in results] == [3, 3] * 4
    assert [r["vacuous"] for r in results] == [0, 1] * 4
    # Its text has all digits: the frame's, and the comparison's.
    assert verify.detail_text(results[0]) == (
        "       name           manual_error            torch_error                allowed verdict\n"
        "       loss 9.9999999999999998e-17                  2e-16 1.0000000000000001e-15      ok\n"
        "grad.0.bias 2.9999999999999999e-16 9.9999999999999998e-17 1.0000000000000001e-15      ok\n"
        "        d_x                      0                      0 1.0000000000000001e-15      ok"
    )
    assert verify.detail_text(results[1]) == str(results[1]["detail"])


@pytest.mark.usefixtures("stand_ins")
def test_without_a_choice_all_is_proven():
    for results in (list(verify.verify(7)), list(verify.verify(7, only=None))):
        subjects = [r["subject"] for r in results]
        assert subjects == ["homework"] * 8 + ["Tanh", "StepLR", "Tanh"] * 2
    assert list(verify.verify(7, only=[])) == []


def test_the_list_of_what_is_covered(stand_ins):
    own = {"subject": "homework", "kind": "homework", "cases": 8, "steps": 8, "ranks": "2"}
    assert verify.coverage(7) == [
        own | {"arguments": ""},
        {
            **{"subject": "Tanh", "kind": "module", "cases": 4, "steps": 4, "ranks": "1 to 2"},
            "arguments": "alpha, slope",
        },
        {
            **{"subject": "StepLR", "kind": "clipping", "cases": 2, "steps": 8, "ranks": "3"},
            "arguments": "step_size, gamma",
        },
    ]
    first = np.random.default_rng(7).integers(1000)
    assert stand_ins[1:] == [("cases", np.float64, first), ("cases", np.float32, first)]


def test_what_can_be_asked_for(stand_ins):
    assert verify.subjects() == ["homework", "Tanh", "StepLR"]
    assert stand_ins[1:] == [("cases", np.float64, np.random.default_rng(0).integers(1000))]
