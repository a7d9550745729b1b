"""What the witness is asked about, and what follows from its answers."""

from functools import partial

import numpy as np
import pytest
import torch

import torch_ref
from compare import compare, testimony
from compare.judge import judge
from compare.sides import torch_run
from compare.testimony import Judged
from compare.trace import Run, Tensor, torch_step
from manual import nn, optim

NAN, INF = np.nan, np.inf
ULP = 2.0**-52


class Scripted:
    """A witness with the given answers, who remembers what it was asked."""

    asked, of = 7, 1234

    def __init__(self, **answers):
        nothing = {"gradients": lambda *given: {name: {} for name in given[5]}}
        self.answers, self.questions = nothing | {"dprediction": {}, "buffers": {}} | answers, []

    def __getattr__(self, method):
        def answer(*given):
            self.questions.append((method, given))
            found = self.answers.get(method)
            return found(*given) if callable(found) else found

        return answer

    def asked_for(self, method):
        return [given for name, given in self.questions if name == method]


def row(name, a, b, allowed=None, blamed=None):
    """Of manual's `a` and torch's `b` (None: missing)."""
    a, b = (None if v is None else Tensor(name, "forward", np.asarray(v)) for v in (a, b))
    allowed = None if allowed is None else np.asarray(allowed)
    return Judged(judge(1, a, b, allowed) | {"blame": blamed}, a, b, allowed)


class Setting:
    """A Testimony with a scripted witness, about steps of a network and its twin."""

    def __init__(self, net, every=True, dtype=np.float64, criterion=None, seed=0, **others):
        self.own = Run(net, criterion or nn.HalfSquaredError(), **others)
        self.theirs = torch_run(self.own, None, "cpu")
        self.exact = torch_run(self.own, None, "cpu", torch.float64)
        self.testimony = testimony.Testimony(self.own, np.dtype(dtype), seed, every)
        self.testimony.witness = self.witness = Scripted()
        self.calls = 0

    def step(self, x, y, *rows, certain=None, change=lambda step: step, draw=np.ones, **answers):
        """The rows by name, after a step on these; torch's may be changed."""
        self.witness.answers |= answers
        self.witness.questions = []
        self.taken = change(torch_step(self.theirs, torch.tensor(x), torch.tensor(y), draw))

        def surely():
            self.calls += 1
            return {} if certain is None else certain

        self.testimony.step(self.own, self.exact, self.taken, y, draw, rows, surely)
        return {each.row["name"]: each.row for each in rows}


X = np.array([[1.0, -2.0], [3.0, 0.5]])
GIVEN = np.ones((4, 3)), np.ones((4, 2))


def about_output(a, b, allowed, value, error, dtype=np.float64, **options):
    """The row of an output with the witness's answer about it."""
    setting = Setting(nn.Identity(), dtype=dtype)
    answer = tuple(np.asarray(part, np.float64) for part in (value, error))
    x = X.astype(dtype)
    rows = setting.step(x, x, row("activation", a, b, allowed), output=answer, **options)
    return rows["activation"]


# Both sides agree, and are wrong.


def test_two_sides_that_agree_are_wrong_where_both_certainly_are():
    """Further from the value than all that is allowed and its error together: ¼ + 1⁄16."""
    edge = np.array([5.0, 2.0 + 5 / 16])
    within = about_output(edge, edge, [0.5, 0.25], [5, 2], [0, 1 / 16])
    assert (within["verdict"], within["blame"]) == ("ok", None)
    beyond = np.nextafter(edge, INF)
    found = about_output(beyond, beyond, [0.5, 0.25], [5, 2], [0, 1 / 16])
    assert (found["verdict"], found["blame"], found["worst"]) == ("mismatch", "both", (1,))
    assert (found["manual"], found["torch"], found["oracle"]) == (beyond[1], beyond[1], 2)
    assert (found["allowed"], found["used"]) == (0.25, (beyond[1] - 2) / 0.25)


def test_nobody_is_accused_of_what_only_a_probability_excludes():
    """Certain is 1, though ¼ is allowed: accused is who is off by more than 1 + 1⁄16."""
    certain = {"activation": np.array(1.0)}
    for off, who in ((17 / 16, None), (17 / 16 + 1e-9, "both")):
        both = np.array([2.0 + off, 7.0])
        found = about_output(both, both, [0.25, 0.25], [2, 7], [1 / 16, 0], certain=certain)
        assert found["blame"] == who
    assert (found["allowed"], found["used"]) == (0.25, (17 / 16 + 1e-9) / 0.25)


def test_what_may_not_be_rounded_is_used_up_at_once():
    found = about_output([2.0], [2.0], None, [1], [0])
    assert (found["blame"], found["allowed"], found["used"]) == ("both", 0.0, INF)


@pytest.mark.parametrize(
    ("off", "worst"),
    # shares of what is allowed, 1 and 0, and of the witness's error, 0 and 1
    [((2.75, 2.5), 1), ((2.75, 3.0), 2), ((1.5, -2.0), 2), ((-2.0, 1.5), 1)],
)
def test_the_entry_furthest_off_is_the_one_asked_about(off, worst):
    value = np.array([1.0, 4.0, -8.0])  # the first is right
    both = value + np.array([0, *off])
    found = about_output(both, both, [1.0, 1.0, 0.0], value, [0, 0, 1])
    assert (found["blame"], found["worst"]) == ("both", (worst,))


def test_the_side_that_is_nearer_counts_for_how_far_off_an_entry_is():
    """At [1] one side is 5 off and the other 1, of 4 that are allowed; at [2] both are 2 off, of
    which 1.75 are allowed."""
    sides = [1.0, 15.0, 22.0], [1.0, 11.0, 22.0]
    for a, b in (sides, sides[::-1]):
        found = about_output(a, b, [4, 4, 1.75], [1, 10, 20], [0, 0, 0])
        assert (found["blame"], found["worst"]) == ("both", (2,))


def test_where_the_witness_has_no_answer_nothing_follows():
    both = np.array([9.0, 9.0, 9.0])
    assert about_output(both, both, None, [NAN] * 3, [NAN] * 3)["blame"] is None
    found = about_output(both, both, None, [NAN, 9, 1], [NAN, 0, 0])
    assert (found["blame"], found["worst"]) == ("both", (2,))
    assert about_output(both, both, None, [1, 1], [0, 0])["blame"] is None  # of another shape
    nothing = np.zeros((0, 2))
    assert about_output(nothing, nothing, None, nothing, nothing)["verdict"] == "ok"


def test_a_value_that_the_dtype_cannot_hold_accuses_nobody():
    most = float(np.finfo(np.float32).max)
    off, right = np.float32([0, 1]), np.float32([1, 1])
    found = about_output(off, right, None, [2 * most, 1], [0, 0], np.float32)
    assert (found["verdict"], found["blame"]) == ("mismatch", "undecided")
    assert about_output(off, right, None, [most, 1], [0, 0], np.float32)["blame"] == "both"
    # but one entry more than that may
    found = about_output(np.float32([0, 5]), right, None, [2 * most, 1], [0, 0], np.float32)
    assert found["blame"] == "manual"


# One side fails.


def test_an_answer_is_shown_and_says_who_is_wrong():
    for a, b, who in ((1.5, 2.0, "manual"), (2.0, 1.5, "torch"), (1.5, 2.5, "both")):
        found = about_output([7.0, a], [7.0, b], [0.125, 0.125], [7, 2], [0, 0])
        assert (found["verdict"], found["worst"]) == ("mismatch", (1,))
        assert (found["oracle"], found["blame"]) == (2, who)
        assert (found["manual"], found["torch"]) == (a, b)


@pytest.mark.parametrize(("dtype", "u"), [(np.float32, 2.0**-24), (np.float64, 2.0**-53)])
def test_a_side_that_fails_is_wrong_beyond_its_half_and_what_torchs_value_is_off(dtype, u):
    """What rounding can do was computed at torch's value; where the true one is 2 away, 16 of its
    roundings are added. Torch is 2 off: its half of what is allowed, ½, and 32 u cover that with
    an error of 1½ − 32 u."""
    for error, who in ((1.5 - 32 * u, "manual"), (1.5 - 34 * u, "both")):
        found = about_output(dtype([7]), dtype([3]), [1.0], [1], [error], dtype)
        assert found["blame"] == who


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_where_torch_has_no_number_the_roundings_are_those_of_the_value(bad):
    """4 is 3 off from 1, of which 1 is allowed and the rest is the error, but for 16 roundings."""
    u = 2.0**-53
    for error, who in ((2 - 16 * u, "torch"), (2 - 20 * u, "both")):
        found = about_output([4.0], [bad], [2.0], [1], [error])
        assert (found["verdict"], found["blame"]) == ("nonfinite", who)
        assert found["oracle"] == 1


def test_what_is_certain_tells_who_is_further_off():
    """Both are off by more than is allowed, but only manual by more than is possible; where
    neither is, what is allowed decides."""
    given = ([12.0], [10.5], [0.25], [10], [0])
    assert about_output(*given)["blame"] == "both"
    assert about_output(*given, certain={"activation": np.array(3.0)})["blame"] == "manual"
    assert about_output(*given, certain={"activation": np.array(9.0)})["blame"] == "both"
    assert about_output(*given, certain={"loss": np.array(3.0)})["blame"] == "both"
    given = ([12.0], [8.0], [0.25], [10], [1])  # too far apart, though neither is surely wrong
    assert about_output(*given, certain={"activation": np.array(3.0)})["blame"] == "both"


def test_an_entry_that_accuses_nobody_leaves_it_to_the_next():
    """The worst has no answer; of the others, furthest off is the last."""
    found = about_output([3.0, 1, 5], [1.0, 1, 4], None, [NAN, 1, 4], [NAN, 0, 0])
    assert (found["worst"], found["blame"]) == ((0,), "manual")
    assert np.isnan(found["oracle"])
    assert about_output([3.0, 1], [1.0, 1], None, [NAN, 1], [NAN, 0])["blame"] == "undecided"


def test_the_worst_entry_is_heard_first_then_the_one_furthest_off():
    """The worst accuses manual; furthest off is one where they agree; at the last, torch is off."""
    sides = [9.0, 7, 3], [1.0, 7, 4]
    assert about_output(*sides, None, [1, 1, 3], [0, 0.5, 0.5])["blame"] == "manual"
    assert about_output(*sides, None, [NAN, 1, 3], [NAN, 0.5, 0.5])["blame"] == "both"
    assert about_output(*sides, None, [NAN, 7, 3], [NAN, 0.5, 0.5])["blame"] == "torch"


def test_the_value_shown_is_that_at_the_worst_entry():
    found = about_output([1.0, 2], [1.0, 2.125], [0.25, 0.25], [1.2, 2.0625], [0, 0])
    assert (found["verdict"], found["worst"], found["oracle"]) == ("ok", (1,), 2.0625)


def test_of_many_entries_as_far_off_the_first_are_asked_about():
    setting = Setting(linear())
    setting.step(*GIVEN, row("grad.bias", np.arange(99) % 2 + 2.0, np.ones(99)))
    assert setting.witness.asked_for("gradients")[0][5]["bias"] == [(0,), (1,), (3,), (5,)]


def test_what_is_certain_is_asked_for_once_a_step():
    setting = Setting(nn.Identity())
    wrong = [row(name, [2.0, 2.0], [3.0, 3.0]) for name in ("activation", "loss")]
    right = tuple(np.array([2.0, 2.0]) * k for k in (1, 0))
    setting.step(X, X, *wrong, output=right, loss=right)
    assert setting.calls == 1
    setting.step(X, X, row("activation", X, X), output=(X, 0 * X))
    assert setting.calls == 1  # where nobody is accused, not at all


# What takes no value to see.


def named(net, name, a, b, **answers):
    setting = Setting(net)
    x = np.ones((4, 3))
    y = np.ones((4, 2))
    options = {key: answers.pop(key) for key in ("blamed",) if key in answers}
    return setting.step(x, y, row(name, a, b, **options), **answers)[name]["blame"]


def linear(n_in=3, n_out=2, dtype=np.float64):
    return nn.Linear(n_in, n_out, dtype=dtype, generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("grad.1.weight", (2, 3)),
        ("clipped.1.bias", (2,)),
        ("updated.1.weight", (2, 3)),
        ("d_activation.0", (4, 3)),
        ("d_activation.1", (4, 2)),
        ("d_x", (4, 3)),
    ],
)
def test_a_gradient_has_the_shape_of_what_it_belongs_to(name, shape):
    net = nn.Sequential(nn.Tanh(), linear())
    right, wrong, other = np.ones(shape), np.ones((1, *shape)), np.ones((5, 5))
    assert named(net, name, right, wrong) == "torch"
    assert named(net, name, wrong, right) == "manual"
    assert named(net, name, wrong, other) == "both"


@pytest.mark.parametrize("name", ["loss", "activation.1", "state.d", "d_x.1.module", "buffer.x"])
def test_a_shape_that_nobody_knows_is_undecided(name):
    net = nn.Sequential(nn.Tanh(), linear())
    assert named(net, name, np.ones((4, 3)), np.ones(4)) == "undecided"


def test_the_shapes_of_an_output_and_a_loss_are_the_witness_s():
    net = nn.Sequential(nn.Tanh(), linear())
    answer = np.ones((4, 2)), np.zeros(())
    given = ("activation.1", np.ones((4, 2)), np.ones((1, 2)))
    assert named(net, *given, output=answer) == "torch"
    answer = np.ones(()), np.zeros(())
    assert named(net, "loss", np.ones(1), np.ones(()), loss=answer) == "manual"


def test_a_dtype_is_that_of_the_comparison():
    right, single, whole = np.ones(2), np.ones(2, np.float32), np.ones(2, int)
    for a, b, who in ((right, single, "torch"), (single, right, "manual"), (single, whole, "both")):
        assert named(linear(), "grad.bias", a, b) == who


def test_who_lacks_a_tensor_is_wrong():
    assert named(linear(), "grad.bias", None, np.ones(2)) == "manual"
    assert named(linear(), "grad.bias", np.ones(2), None) == "torch"


@pytest.mark.parametrize(
    ("a", "b", "who"),
    [
        (NAN, 1.0, "manual"),
        (1.0, NAN, "torch"),
        (NAN, NAN, "undecided"),
        (NAN, INF, "manual"),
        (INF, NAN, "torch"),
        (INF, 1.0, "undecided"),
        (1.0, INF, "undecided"),
        (INF, INF, "undecided"),
    ],
)
def test_without_an_answer_not_a_number_is_wrong(a, b, who):
    assert named(linear(), "grad.bias", [a, 1.0], [b, 1.0]) == who


def test_without_an_answer_a_difference_is_undecided_unless_somebody_is_blamed():
    assert named(linear(), "grad.bias", [1.0, 1.0], [2.0, 1.0]) == "undecided"
    assert named(linear(), "grad.bias", [1.0, 1.0], [2.0, 1.0], blamed="torch") == "torch"
    assert named(linear(), "grad.bias", [2.0, 1.0], [2.0, 1.0]) is None


def test_a_vacuous_row_stays_one():
    zeros = row("grad.bias", [0.0, 0.0], [0.0, 0.0])
    zeros.row["verdict"] = "vacuous"
    found = Setting(linear()).step(np.ones((4, 3)), np.ones((4, 2)), zeros)["grad.bias"]
    assert (found["verdict"], found["blame"]) == ("vacuous", None)


# What is asked.


def rows_of(names, off=()):
    """A row of each name whose sides agree, or do not."""
    return [row(name, [[1.0, 4.0]], [[1.0 + (name in off), 4.0]]) for name in names]


def test_every_part_is_asked_with_torchs_values_and_manuals_parameters():
    net = nn.Sequential(linear(2, 3), nn.BatchNorm1d(3, dtype=np.float64))
    setting = Setting(net)
    x, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.arange(6.0).reshape(2, 3)
    names = ["activation.0", "activation.1", "buffer.1.running_mean", "d_activation.0", "d_x"]
    names += ["grad.0.weight", "grad.1.bias", "loss", "d_activation.1"]
    setting.step(x, y, *rows_of(names))
    passages = setting.taken.passages
    for k, (module, theta, given) in enumerate(setting.witness.asked_for("output")):
        assert module is net[k]
        expected = dict(net[k].named_parameters()) | dict(net[k].named_buffers())
        assert list(theta) == list(expected)
        for name, value in theta.items():
            own = expected[name]
            assert value is (own.data if isinstance(own, nn.Parameter) else own)
        assert given is passages[str(k)].x
    ((module, theta, given),) = setting.witness.asked_for("buffers")
    assert module is net[1]
    assert set(theta) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert given is passages["1"].x
    questions = setting.witness.asked_for("gradients")
    worst = [(0, 0)]
    for k, asked in (("0", {"": worst, "weight": worst}), ("1", {"": worst, "bias": worst})):
        module, exact, theta, given, dy, wanted, drawn = questions[int(k)]
        assert (module, exact) == (net[int(k)], setting.exact.net[int(k)])
        assert "weight" in theta
        assert given is passages[k].x
        assert dy is passages[k].dy
        assert (wanted, drawn) == (asked, 3)
    criterion, prediction, target = setting.witness.asked_for("loss")[0]
    assert (criterion, prediction is setting.taken.prediction) == (setting.own.criterion, True)
    assert target is y
    *given, dloss, wanted, drawn = setting.witness.asked_for("dprediction")[0]
    assert given[0] is criterion
    assert given[1] is prediction
    assert given[2] is y
    assert (dloss, wanted, drawn) == (None, worst, 3)


def test_only_the_first_step_draws():
    setting = Setting(linear())
    for drawn in (3, 0, 0):
        setting.step(*GIVEN, *rows_of(["d_x", "d_activation"]))
        assert setting.witness.asked_for("gradients")[0][-1] == drawn
        assert setting.witness.asked_for("dprediction")[0][-1] == drawn


def test_unless_about_everything_the_witness_is_asked_about_failures_alone():
    setting = Setting(linear(), every=False)
    names = ["activation", "loss", "d_activation", "grad.weight", "grad.bias", "d_x"]
    setting.step(*GIVEN, *rows_of(names))
    assert [name for name, _ in setting.witness.questions] == ["gradients"]
    assert setting.witness.asked_for("gradients")[0][5] == {}
    setting.step(*GIVEN, *rows_of(names, ["activation", "loss", "grad.bias"]))
    assert [name for name, _ in setting.witness.questions] == ["output", "gradients", "loss"]
    assert list(setting.witness.asked_for("gradients")[0][5]) == ["bias"]
    infinite = row("d_x", [[INF]], [[1.0]])
    setting.step(*GIVEN, infinite, row("grad.weight", None, [1.0]))
    assert list(setting.witness.asked_for("gradients")[0][5]) == [""]


@pytest.mark.parametrize("a", [None, np.ones(3), np.ones(2, np.float32)])
def test_nobody_is_asked_who_lacks_a_tensor_or_has_another_kind(a):
    setting = Setting(linear())
    setting.step(*GIVEN, row("grad.bias", a, np.ones(2)))
    assert setting.witness.asked_for("gradients")[0][5] == {}


def test_who_changed_a_buffer_wrongly():
    setting = Setting(nn.Sequential(linear(3, 2), nn.BatchNorm1d(2, dtype=np.float64)))
    answer = {"running_mean": (np.array([1.0, 2.0]), np.zeros(2)), "running_var": None}
    rows = [row(f"buffer.1.{name}", [1.0, 2.0], [1.0, 3.0]) for name in answer]
    found = setting.step(*GIVEN, *rows, buffers=answer)
    assert [each["blame"] for each in found.values()] == ["torch", "undecided"]


def test_of_a_failing_tensor_the_three_entries_furthest_off_are_asked_about():
    """By their share of what is allowed; where that is nothing, any difference is as large."""
    a = np.array([[0.0, 8.0, 3.0], [2.0, 6.0, 1.0]])
    allowed = np.array([[1.0, 8.0, 1.0], [1.0, 2.0, 1.0]])
    setting = Setting(linear())

    def asked(name, *judged):
        setting.step(*GIVEN, row(name, *judged))
        return setting.witness.asked_for("gradients")[0][5][name.partition(".")[2]]

    b = np.array([[-4.0, -4.0, -4.0], [5.0, -4.0, 5.0]])  # moved with a, or opposite to it
    a += b
    assert asked("grad.weight", a, b, allowed) == [(0, 2), (1, 1), (1, 0)]
    assert asked("grad.weight", a, b, None) == [(0, 1), (1, 1), (0, 2)]
    a[0, 1] = NAN
    assert asked("grad.weight", a, b, allowed) == [(0, 1), (0, 2), (1, 1)]
    assert asked("grad.bias", a[0, :1], a[0, :1] + 1, None) == [(0,)]
    assert asked("grad.bias", a[1], a[1], None) == [(0,)]  # a tensor that does not fail: its worst
    assert asked("grad.bias", a[:0, 0], a[:0, 0], None) == []
    vacuous = row("grad.weight", 0 * b, 0 * b)
    vacuous.row["verdict"] = "vacuous"
    setting.step(*GIVEN, vacuous)
    assert setting.witness.asked_for("gradients")[0][5]["weight"] == [(0, 0)]


def test_a_loss_that_is_no_scalar_is_asked_about_with_its_cotangent():
    setting = Setting(linear(), criterion=nn.MSELoss(reduction="none"))
    options = {"draw": lambda shape: np.full(shape, 3.0), "dprediction": None}
    setting.step(*GIVEN, *rows_of(["d_activation"]), **options)
    (asked,) = setting.witness.asked_for("dprediction")
    (as_a_module,) = (each for each in setting.witness.asked_for("gradients") if not each[2])
    for dloss in (asked[3], as_a_module[4]):
        np.testing.assert_array_equal(dloss, np.full((4, 2), 3.0), strict=True)


def test_what_a_unit_did_not_get_is_not_asked_about():
    """A unit that torch's side does not run, or whose gradient autograd does not reach."""
    net = nn.Sequential(linear(3, 3), linear(3, 2))
    rows = rows_of(["activation.0", "grad.0.weight", "activation.1", "grad.1.weight"])

    def without(step):
        reached = step.passages["1"]._replace(dy=None)
        return step._replace(passages={"1": reached})

    setting = Setting(net)
    setting.step(*GIVEN, *rows, change=without)
    ((module, _, _),) = setting.witness.asked_for("output")
    assert module is net[1]
    assert setting.witness.asked_for("gradients") == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_witness_is_one_for_that_dtype_and_seed(dtype):
    own = Run(linear(dtype=dtype), nn.MSELoss())
    witness = testimony.Testimony(own, np.dtype(dtype), 5, True).witness
    assert witness.dtype == (np.float64 if dtype == np.float32 else np.longdouble)
    assert witness.generator.random() == np.random.default_rng(5).random()


def test_how_much_was_asked():
    found = Setting(linear()).testimony
    assert found.asked == "; the oracle was asked about 7 of 1,234 entries of gradients"
    found.witness.asked, found.witness.of = 12345, 67890
    assert found.asked == "; the oracle was asked about 12,345 of 67,890 entries of gradients"
    found.witness.of = 0
    assert found.asked == "; the oracle was not asked about gradients"


# A criterion of somebody's own, which the witness differentiates as a module of the prediction.


class Own(nn.Criterion):
    """Σ (ŷ − y)², of numbers or of the classes' numbers."""

    seen = []  # noqa: RUF012

    def __init__(self):
        super().__init__("sum")

    def forward(self, prediction, target):
        self.seen.append((prediction.dtype, np.asarray(target).dtype))
        self.saved = (prediction - np.asarray(target, prediction.dtype),)
        return (self.saved[0] ** 2).sum()

    def backward(self, dloss=None):
        return 2 * self.recall()[0]


class TorchOwn(torch.nn.Module):
    def forward(self, prediction, target):
        return ((prediction - target) ** 2).sum()


@torch_ref.twin.register
def _(criterion: Own) -> torch.nn.Module:
    return TorchOwn()


def test_a_criterion_of_ones_own_is_a_module_of_the_prediction():
    setting = Setting(nn.Identity(), criterion=Own())
    asked = {"dprediction": None, "gradients": lambda *given: {"": {(0, 0): (5.0, 0.0)}}}
    rows = setting.step(X, 2 * X, row("d_activation", [[5.0, 1.0]], [[6.0, 1.0]]), **asked)
    assert (rows["d_activation"]["oracle"], rows["d_activation"]["blame"]) == (5.0, "torch")
    own, built, theta, prediction, dloss, wanted, drawn = setting.witness.asked_for("gradients")[1]
    assert own.forward(X) == (X**2).sum()
    assert built(torch.tensor(X)).item() == (X**2).sum()
    assert (theta, list(own.named_parameters())) == ({}, [])
    assert prediction is setting.taken.prediction
    assert (dloss.shape, dloss) == ((), 1)
    assert (wanted, drawn) == ({"": [(0, 0), (0, 1)]}, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_criterion_of_ones_own_computes_in_the_witness_s_dtype(monkeypatch, dtype):
    better = np.dtype(np.float64 if dtype == np.float32 else np.longdouble)
    x = X.astype(dtype)
    for y, kind in ((2 * x, better), (np.array([[1, 2], [0, 3]]), np.dtype(np.int64))):
        monkeypatch.setattr(Own, "seen", [])
        frame = compare(nn.Identity(), Own(), x, y).frame.set_index("name")
        assert (better, kind) in Own.seen
        assert frame.oracle["d_activation"] == frame.torch["d_activation"]


# The update.


def stepped(optimizer, clip=None, scheduler=None, **options):
    """Of a Linear with that optimizer of its parameters."""
    net = linear()
    optimizer = optimizer(net)
    scheduler = scheduler and scheduler(optimizer)
    return Setting(net, optimizer=optimizer, clip=clip, scheduler=scheduler, **options)


def momentum(net):
    """A weight and a bias in groups of their own; the weight has begun."""
    groups = [{"params": [net.weight], "lr": 0.5}, {"params": [net.bias], "momentum": 0.25}]
    optimizer = optim.SGD(groups, lr=0.125, momentum=0.75)
    net.weight.grad = np.full((2, 3), 2.0)
    optimizer.step()
    net.weight.grad = None
    return optimizer


def test_an_update_is_asked_for_with_what_the_optimizer_had_at_first():
    setting = stepped(momentum)
    net, optimizer = setting.own.net, setting.own.optimizer
    asked = []

    def updated(*given):
        asked.append(given)
        given[-1]["seen"] = len(asked)
        return np.full(given[2].shape, 7.0), np.zeros(given[2].shape)

    names = ["updated.weight", "updated.bias"]
    rows = [
        row(name, np.full(shape, 7.0), np.full(shape, 8.0))
        for name, shape in zip(names, [(2, 3), (2,)], strict=True)
    ]
    found = setting.step(*GIVEN, *rows, updated=updated)
    assert [found[name]["blame"] for name in names] == ["torch", "torch"]
    kept = optimizer.state_dict()["state"][0]
    for (p, name), (own, options, theta, g, state) in zip(
        [(net.weight, "weight"), (net.bias, "bias")], asked, strict=True
    ):
        assert own is optimizer
        assert theta is p.data
        assert g is setting.taken.rows[f"grad.{name}"].value
        first = name == "weight"
        assert (options["lr"], options["momentum"]) == ((0.5, 0.75) if first else (0.125, 0.25))
        assert "params" not in options
        assert state is setting.testimony.states[name]
    weight, bias = asked[0][-1], asked[1][-1]
    assert bias == {"seen": 2}
    np.testing.assert_array_equal(weight["momentum_buffer"], np.full((2, 3), 2.0))
    assert "seen" not in kept
    weight["momentum_buffer"][...] = 9
    assert (optimizer.state_dict()["state"][0]["momentum_buffer"] == 2).all()
    setting.step(*GIVEN, *rows, updated=updated)
    assert asked[2][-1] is weight


def sgd(net):
    return optim.SGD(net.parameters(), lr=0.5)


def test_what_has_no_gradient_or_no_optimizer_is_not_asked_for():
    def bare(step):
        return step._replace(rows={n: r for n, r in step.rows.items() if n != "grad.weight"})

    setting = stepped(sgd)
    rows = rows_of(["updated.weight", "updated.bias", "lr.0", "grad_norm", "clipped.bias"])
    setting.step(*GIVEN, *rows, change=bare, updated=None)
    (asked,) = setting.witness.asked_for("updated")
    assert asked[2] is setting.own.net.bias.data
    for optimizer in (lambda net: None, lambda net: optim.LBFGS(net.parameters())):
        setting = stepped(optimizer)
        setting.step(*GIVEN, *rows)
        assert {name for name, _ in setting.witness.questions} == {"gradients"}


def test_clipping_is_asked_about_with_torchs_gradients_and_the_update_with_the_clipped():
    clip = partial(optim.clip_grad_norm_, max_norm=0.125)
    setting = stepped(sgd, clip=clip)
    threes = np.full((2, 3), 3.0), np.full(2, 3.0)

    def clipped(own, gradients):
        assert own is clip
        for name, g in zip(("weight", "bias"), gradients, strict=True):
            assert g is setting.taken.rows[f"grad.{name}"].value
        return (np.array(5.0), np.array(0.0)), [(three, 0 * three) for three in threes]

    rows = [row("grad_norm", 4.0, 5.0), row("clipped.weight", threes[0], threes[0] / 2)]
    rows.append(row("clipped.bias", threes[1] / 2, threes[1] / 2))
    found = setting.step(*GIVEN, *rows, clipped=clipped)
    assert [each["blame"] for each in found.values()] == ["manual", "torch", "both"]
    for name, given in zip(("weight", "bias"), setting.witness.asked_for("updated"), strict=True):
        assert given[3] is setting.taken.rows[f"clipped.{name}"].value


@pytest.mark.parametrize("name", ["grad_norm", "clipped.weight", "clipped.bias"])
def test_any_row_of_the_clipping_is_reason_to_ask(name):
    setting = stepped(sgd, clip=partial(optim.clip_grad_norm_, max_norm=0.125), every=False)
    setting.step(*GIVEN, *rows_of([name]))
    assert setting.witness.asked_for("clipped") == []
    setting.step(*GIVEN, *rows_of([name], off=[name]))
    assert len(setting.witness.asked_for("clipped")) == 1


def test_a_clipping_of_values_has_no_norm():
    clip = partial(optim.clip_grad_value_, clip_value=0.125)
    setting = stepped(sgd, clip=clip)
    rows = [row("clipped.bias", np.ones(2), np.ones(2) / 2)]
    found = setting.step(
        *GIVEN,
        *rows,
        clipped=(None, [(np.ones((2, 3)), np.zeros((2, 3))), (np.ones(2), np.zeros(2))]),
    )
    assert found["clipped.bias"]["blame"] == "torch"


# The schedule.


def halving(optimizer):
    return optim.StepLR(optimizer, 1, gamma=0.5)


def test_a_rate_is_what_the_schedule_has_after_that_step():
    setting = stepped(sgd, scheduler=halving)
    handed_over = setting.own.scheduler.last_epoch
    for step in (1, 2, 3):
        asked = []

        def rates(scheduler, epochs, asked=asked):
            asked.append(epochs - handed_over)
            assert scheduler is not setting.own.scheduler  # a copy of it as it was,
            assert scheduler.optimizer is not setting.own.optimizer  # rates and all
            return [(0.25, 0.0)]

        found = setting.step(*GIVEN, row("lr.0", 0.5, 0.25), rates=rates)
        assert asked == [step - 1, step]  # for the update, and after it
        assert (found["lr.0"]["blame"], found["lr.0"]["oracle"]) == ("manual", 0.25)


def lr_asked_with(scheduled, lr, steps=1, own=1.0):
    """The rate of the update that the witness is asked about, where the optimizer was handed over
    with the rate `own`, the schedule has `scheduled` and the group `lr`."""
    setting = stepped(lambda net: optim.SGD(net.parameters(), lr=own), scheduler=halving)
    for _ in range(steps):
        setting.own.optimizer.param_groups[0]["lr"] = lr
        answer = None if scheduled is None else [(scheduled, 0.0)]
        setting.step(*GIVEN, *rows_of(["updated.bias"]), rates=answer)
    (_, options, *_), (_, again, *_) = setting.witness.asked_for("updated")
    assert options == again
    return options["lr"]


def test_an_update_s_rate_is_the_schedule_s_but_for_rounding():
    """Eight roundings a step of the larger of this rate and the first."""
    for steps in (1, 2):
        near, far = (1 + k * ULP for k in (4 * steps, 4 * steps + 1))
        assert lr_asked_with(1.0, near, steps) == near
        assert lr_asked_with(1.0, far, steps) == 1
    assert lr_asked_with(1 / 8, 1 / 8 + 4 * ULP) == 1 / 8 + 4 * ULP
    assert lr_asked_with(1 / 8, 1 / 8 + 5 * ULP) == 1 / 8
    assert lr_asked_with(8.0, 8 - 32 * ULP) == 8 - 32 * ULP
    assert lr_asked_with(8.0, 8 - 36 * ULP) == 8
    assert lr_asked_with(None, 0.3) == 0.3  # a schedule that nobody else knows


def test_without_a_schedule_the_rate_is_the_one_handed_over():
    setting = stepped(sgd)
    setting.own.optimizer.param_groups[0]["lr"] = 0.25
    setting.step(*GIVEN, *rows_of(["updated.bias"]))
    assert setting.witness.asked_for("updated")[0][1]["lr"] == 0.5


# What a Residual is made of.


def test_a_residual_is_asked_about_around_what_is_inside():
    """Its output with the inner module's as it is on torch's side; to the answer about dx, which is
    that of the way around, the inner module's is added."""
    net = nn.Residual(nn.Sequential(nn.Tanh(), linear(3, 3), nn.Sigmoid()))
    setting = Setting(nn.Sequential(linear(3, 3), net))
    x, y = np.linspace(-1, 1, 12).reshape(4, 3), np.ones((4, 3))
    rows = row("activation.1", y, y), row("d_activation.0", y, 2 * y)

    def answers(*given):
        inner = setting.taken.passages["1.module.0"].dx
        return {name: {(0, 0): (2 - inner[0, 0], 0.0)} for name in given[5]}

    found = setting.step(x, y, *rows, gradients=answers)
    passages = setting.taken.passages
    ((module, theta, given),) = setting.witness.asked_for("output")
    assert module is net
    assert list(theta) == ["module"]
    assert theta["module"] is passages["1.module.2"].y
    assert given is passages["1"].x
    assert list(setting.witness.asked_for("gradients")[-1][5]) == [""]  # no parameter of its own
    assert found["d_activation.0"]["oracle"] == pytest.approx(2, rel=ULP)
    assert found["d_activation.0"]["blame"] == "manual"


def test_a_residual_of_nothing_has_its_input_twice():
    setting = Setting(nn.Residual(nn.Sequential()))
    rows = row("activation", X, X), row("d_x", X, 2 * X)

    def answers(*given):
        return {"": {(0, 0): (1.0, 0.0)}}

    found = setting.step(X, 2 * X, *rows, gradients=answers)
    ((_, theta, _),) = setting.witness.asked_for("output")
    np.testing.assert_array_equal(theta["module"], X)
    assert found["d_x"]["oracle"] == 1 + setting.taken.passages[""].dy[0, 0]


def test_of_a_residual_that_torch_runs_otherwise_nothing_is_asked():
    net = nn.Residual(nn.Sequential(nn.Tanh(), linear(3, 3)))
    rows = rows_of(["activation", "d_x"], off=["d_x"])
    x, y = np.linspace(-1, 1, 12).reshape(4, 3), np.ones((4, 3))
    for gone in ("module.0", "module.1"):
        setting = Setting(net)

        def without(step, gone=gone):
            return step._replace(passages={k: p for k, p in step.passages.items() if k != gone})

        setting.step(x, y, *rows, change=without)
        assert setting.witness.asked_for("output") == []
        assert all(given[0] is not net for given in setting.witness.asked_for("gradients"))

    def unreached(step):
        passages = dict(step.passages)
        passages["module.0"] = passages["module.0"]._replace(dx=None)
        return step._replace(passages=passages)

    setting = Setting(net)
    found = setting.step(
        x, y, *rows, change=unreached, gradients=lambda *given: {"": {(0, 0): (1.0, 0.0)}}
    )
    assert found["d_x"]["blame"] == "undecided"


# Random numbers.


@pytest.mark.parametrize(
    ("p", "training", "draws"), [(0.5, True, 1), (1.0, True, 1), (0.0, True, 0), (0.5, False, 0)]
)
def test_a_dropout_draws_as_its_forward_does(p, training, draws):
    generator = np.random.default_rng(3)
    net = nn.Sequential(nn.Dropout(p, generator), linear(2, 2)).train(training)
    Setting(net).step(X, X)
    other = np.random.default_rng(3)
    for _ in range(draws):
        other.random(X.shape)
    assert net[0].generator.random() == other.random()


# What comes later.


def test_rows_of_a_whole_step_have_an_answer_from_data_of_either_side():
    """Off by at most half of what is allowed, and an error of its own: ⅛ + 1⁄16 beside the half."""
    answer = {"updated.bias": (np.array([2.0]), np.array([1 / 16]))}
    for off, who in ((5 / 16, "torch"), (5 / 16 + 1e-9, "both")):
        setting = Setting(linear())
        setting.step(*GIVEN)
        found = row("updated.bias", [2 + off], [0.0], [0.25])
        unknown = [row("state.d", [1.0], [3.0], [0.25]), row("loss", [1.0], [3.0])]
        setting.testimony.about([found, *unknown], answer | {"loss": answer["updated.bias"]})
        assert (found.row["blame"], found.row["oracle"]) == (who, 2.0)
        assert [each.row["blame"] for each in unknown] == ["undecided", "undecided"]
