"""`verify` covers everything there is, passes, and fails where one line of it is wrong."""

import copy
import inspect
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from compare import compare, verify
from compare.cases import cases
from compare.cases import optimizers as compare_cases
from compare.show import coverage_table, homework_table, results_table
from compare.trace import Run, manual_step
from manual import nn, optim
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
    self.saved = (np.asarray(np.where(x == 0, 1, y), x.dtype),)
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


def test_tables_show_the_failing_tensor(monkeypatch, capsys):
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    Console(width=160).print(results_table(list(verify.verify(0, only=SOME)), 0))
    out = capsys.readouterr().out
    assert "10 not ok; Tanh() []" in out
    assert "mismatch at d_x" in out
    Console(width=80).print(homework_table())
    out = capsys.readouterr().out
    assert "1.0000066640624292" in out
    assert "…" not in out


def test_the_list_fits_80_columns(capsys):
    Console(width=80).print(coverage_table(verify.coverage(0), 0))
    out = capsys.readouterr().out
    assert all(name in out for name in PUBLIC)
    assert "…" not in out
