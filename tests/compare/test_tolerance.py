"""What is allowed layer by layer: never less than the true rounding of that layer, and not much
more; and where it comes from."""

import copy
from collections import defaultdict
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from compare import compare
from compare.cases import Case, cases
from compare.rounding import Rounding, loss_rule, rule
from compare.sides import copy_values, go_on, torch_run
from compare.tolerance import Tolerance, at_least, optimizer_state, rate_bounds
from compare.trace import LBFGS, Run, layerwise_step, torch_step
from manual import nn, optim
from tests.compare.allowances import RTOL, RTOL_OF_DRAWS, unchanged
from tests.compare.allowances.steps import TOLERATED

U = 2.0**-24
SINGLE = Rounding.of(np.dtype(np.float32))
EXACT = ("Step", "ReLU", "Identity", "Flatten", "Maxout")  # in forward
SUBJECTS = sorted({case.subject for case in cases(np.dtype(np.float32), np.random.default_rng(0))})


def in_float64(run):
    """A copy of manual's side that computes, and keeps its state, in float64."""
    run = copy.deepcopy(run)
    run.net.to(np.float64)
    for name, value in vars(run.criterion).items():
        if isinstance(value, np.ndarray):
            setattr(run.criterion, name, value.astype(np.float64))
    for state in getattr(run.optimizer, "_states", ()):
        for name, value in state.items() if isinstance(state, dict) else ():
            if isinstance(value, np.ndarray):
                state[name] = value.astype(np.float64)
    return run


def doubled(step):
    """A recorded step with all its values in float64: exact inputs of every part."""

    def up(array):
        is_float = array is not None and array.dtype == np.float32
        return array.astype(np.float64) if is_float else array

    return step._replace(
        rows={name: row._replace(value=up(row.value)) for name, row in step.rows.items()},
        passages={k: type(p)(*map(up, p)) for k, p in step.passages.items()},
        prediction=up(step.prediction),
    )


def local_errors(case):
    """(side, step, name, error, E, |exact value|) of every row of a float32 case, where "exact" is
    the same part run in float64 on the same numbers."""
    own = Run(*copy.deepcopy((case.net, case.criterion, case.optimizer, case.scheduler)), case.clip)
    theirs = torch_run(own, None, "cpu", torch.float32)
    exact = torch_run(own, None, "cpu", torch.float64)
    finer = in_float64(own)
    tolerance = Tolerance(exact, Rounding.of(np.dtype(np.float32)))
    x, y = case.x, case.y
    exact_y = y.astype(np.float64 if y.dtype.kind == "f" else np.int64)
    tx, ty = torch.tensor(x), torch.tensor(y)
    found = []
    for step in range(1 if isinstance(own.optimizer, LBFGS) else min(case.steps, 3)):

        def draw(shape, step=step):
            return np.random.default_rng(step).normal(size=tuple(shape)).astype(np.float32)

        given = torch_step(theirs, tx, ty if ty.is_floating_point() else ty.long(), draw)
        allowed = tolerance.step(given, exact_y, draw)
        true, _ = layerwise_step(finer, x.astype(np.float64), exact_y.copy(), doubled(given), draw)
        mine, raised = layerwise_step(own, x.copy(), y.copy(), given, draw)
        assert not raised
        sides = {"manual": mine, "torch": given.rows}
        for side, rows in sides.items():
            for name, row in rows.items():
                if name in true and not name.startswith(("state.", "x")):
                    value = true[name].value.astype(np.float64)
                    error = np.abs(row.value.astype(np.float64) - value)
                    bound = np.broadcast_to(allowed[name] / 2, value.shape)
                    found.append((side, step, name, error, bound, np.abs(value)))
        if own.optimizer is not None:
            copy_values(finer.net, own.net)
            go_on(theirs, own)
            torch_step(exact, tx.double(), torch.from_numpy(exact_y), draw)
            go_on(exact, own)
    return found


def within(rows):
    for side, step, name, error, bound, _ in rows:
        assert (error <= bound * (1 + 1e-6) + 1e-45).all(), f"{side}, step {step}, {name}"


@pytest.fixture(scope="module")
def every_case():
    found = defaultdict(list)
    for case in cases(np.dtype(np.float32), np.random.default_rng(7)):
        found[case.subject].append((case.name, local_errors(case)))
    return found


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_true_error_of_every_part_stays_within_its_half(subject, every_case):
    for _, rows in every_case[subject]:
        within(rows)


def shares(rows):
    """Of each row, the largest error as a share of E, where anything is rounded at all."""
    return [
        (error[bound > 0] / bound[bound > 0]).max()
        for _, _, _, error, bound, _ in rows
        if (bound > 0).any() and error.any()
    ]


def test_the_allowance_is_no_wider_than_it_must_be(every_case):
    """Half of all rows use at least a twentieth of it, one in ten more than two fifths."""
    used = [
        share for subject in every_case.values() for _, rows in subject for share in shares(rows)
    ]
    assert np.median(used) > 0.05
    assert np.quantile(used, 0.9) > 0.4
    assert max(used) <= 1


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_allowance_is_no_wider_than_it_must_be_anywhere(subject, every_case):
    """In some row of every subject at least a hundredth is used; exact ones have none at all."""
    used = [share for _, rows in every_case[subject] for share in shares(rows)]
    if subject in EXACT:
        local = [
            bound
            for _, rows in every_case[subject]
            for _, _, name, _, bound, _ in rows
            if name == "activation"
        ]
        assert local
        assert not any(bound.any() for bound in local)
    else:
        assert max(used) > 0.01


def network(seed):
    """Deep, of random widths, weights and inputs over three decades each."""
    g = np.random.default_rng(seed)
    widths = g.integers(1, 30, g.integers(3, 7))
    kinds = [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Identity]
    modules = []
    for n_in, n_out in pairwise(widths):
        linear = nn.Linear(n_in, n_out, generator=g)
        linear.weight.data *= np.float32(10 ** g.uniform(-1.5, 1))
        modules += [linear, g.choice(kinds)()]
        if g.random() < 0.3:
            modules.append(nn.Residual(nn.Linear(n_out, n_out, generator=g)))
        if g.random() < 0.3:
            modules.append(nn.BatchNorm1d(n_out))
    net = nn.Sequential(*modules)
    n = int(g.integers(2, 40))
    x = (g.normal(size=(n, widths[0])) * 10 ** g.uniform(-2, 1)).astype(np.float32)
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    if seed % 2:
        return Case("", {}, net, nn.CrossEntropyLoss(), x, g.integers(0, widths[-1], n), optimizer)
    y = g.normal(size=(n, widths[-1])).astype(np.float32)
    return Case("", {}, net, nn.MSELoss(), x, y, optimizer)


@pytest.mark.parametrize("seed", range(20))
def test_the_true_error_of_every_layer_of_a_network_stays_within_its_half(seed):
    within(local_errors(network(seed)))


def test_a_deep_layer_is_allowed_no_more_than_a_first_one():
    """Errors of the layers before do not count: of ten equal layers the last has as much room."""
    g = np.random.default_rng(0)
    net = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(8, 8, generator=g), nn.Tanh())))
    x, y = (g.normal(size=(6, 8)).astype(np.float32) for _ in range(2))
    frame = compare(net, nn.MSELoss(), x, y, oracle=False).frame.set_index("name")
    first, last = frame.loc["activation.1"], frame.loc["activation.19"]
    assert last.allowed <= 2 * 8 * U  # 2 E, of tanh, which is at most 1
    assert first.allowed <= 2 * 8 * U
    assert frame.loc["activation.18"].allowed < 60 * U


# The reason beside the number.


@pytest.fixture(scope="module")
def cases_of():
    found = defaultdict(list)
    for case in cases(np.dtype(np.float32), np.random.default_rng(8)):
        found[case.subject].append(case)
    return found


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_number_has_a_reason(subject, cases_of):
    for case in cases_of[subject]:
        steps = min(case.steps, 2)
        options = {"optimizer": case.optimizer, "scheduler": case.scheduler, "clip": case.clip}
        options |= {"steps": steps, "oracle": False, "allow_vacuous": ["*"]}
        comparison = compare(case.net, case.criterion, case.x, case.y, **options)
        for row in comparison.frame.itertuples():
            reason = comparison.reasons[row.step, row.name]
            assert len(reason) > 20, (case.name, row.name)
            assert row.allowed >= 0 or row.shape == (0,), (case.name, row.name)
            if row.allowed == 0:
                assert row.max_abs == 0, (case.name, row.name)


def tolerated(net, criterion=None, optimizer=None, scheduler=None):
    """(Tolerance, what it allows in a first step)."""

    def run():
        own = copy.deepcopy(net)
        stepping = optimizer and optimizer(own.parameters())
        schedule = scheduler and scheduler(stepping)
        return Run(own, criterion or torch.nn.MSELoss(), stepping, schedule)

    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 3)))
    tolerance = Tolerance(run(), SINGLE)
    return tolerance, tolerance.step(torch_step(run(), x, x), x.numpy())


def test_the_reason_names_what_it_is_of():
    """The rule's own words, in one line; which rule it is, the class says."""
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 3, generator=g), nn.Residual(nn.Identity()), nn.Flatten())
    optimizer = optim.Adam(net.parameters())
    scheduler = optim.ExponentialLR(optimizer, 0.9)
    clip = partial(optim.clip_grad_norm_, max_norm=1.0)
    x, y = (g.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
    options = {"optimizer": optimizer, "scheduler": scheduler, "clip": clip}
    reasons = compare(net, nn.MSELoss(), x, y, **options, oracle=False).reasons
    linear = "Linear: y = x Wᵀ + b; dx = dy W; dW = dyᵀ x; db = Σ dy."
    residual = "Residual: y = x + f(x), dx = dy + f's dx: one rounding of the sum"
    identity = "Identity: y = x, dx = dy: nothing is rounded."
    flatten = "Flatten: y = x, dx = dy in another shape: nothing is rounded."
    loss = (
        "MSELoss: Σ (z − y)² times a factor, dz = 2 (z − y) times it: the roundings of the "
        "difference, of the squares and of their sum."
    )
    clipped = "clip_grad_norm_: one factor for all gradients"
    update = (
        "Adam: the roundings of its formula one after the other, from this gradient and what is "
        "kept"
    )
    assert reasons == {
        (1, "x"): "the input is given to both sides: nothing was rounded",
        (1, "activation.0"): linear,
        (1, "d_x"): linear,
        (1, "grad.0.weight"): linear,
        (1, "grad.0.bias"): linear,
        (1, "activation.1.module"): identity,
        (1, "d_x.1.module"): identity,
        (1, "activation.1"): residual,
        (1, "d_activation.0"): residual,
        (1, "d_activation.1.module"): residual,
        (1, "activation.2"): flatten,
        (1, "d_activation.1"): flatten,
        (1, "loss"): loss,
        (1, "d_activation.2"): loss,
        (1, "clipped.0.weight"): clipped,
        (1, "clipped.0.bias"): clipped,
        (1, "grad_norm"): "the norm: a sum over all gradients, and a square root",
        (1, "updated.0.weight"): update,
        (1, "updated.0.bias"): update,
        (1, "lr.0"): "a number of Python on both sides: roundings of float64",
    }


class Silent(torch.nn.Tanh):
    """With a rule that says nothing."""


class SilentLoss(torch.nn.MSELoss):
    pass


@rule.register
def _(module: Silent, r, theta, x, ex):
    return 3 * r.u + ex, lambda dy, edy: (edy, {})


@loss_rule.register
def _(criterion: SilentLoss, r, z, ez, y, dloss):
    return np.array(5 * r.u), ez


def test_a_rule_that_says_nothing_is_known_by_its_class():
    tolerance, allowed = tolerated(Silent(), SilentLoss())
    assert tolerance.reasons["activation"] == "Silent: "
    assert tolerance.reasons["loss"] == tolerance.reasons["d_activation"] == "SilentLoss: "
    np.testing.assert_array_equal(allowed["activation"], np.full((4, 3), 6 * U))  # 2 E
    assert allowed["loss"] == 10 * U


def test_what_nobody_knows_is_shaken():
    class Unknown(torch.nn.Module):
        def forward(self, prediction, y):
            return ((prediction - y) ** 4).sum()

    tolerance, _ = tolerated(Odd(), Unknown())
    shaken = (
        "four times the largest difference of runs in which every operation is shaken by rounding"
    )
    assert tolerance.reasons["activation"] == tolerance.reasons["d_x"] == f"Odd: {shaken}"
    assert tolerance.reasons["loss"] == f"Unknown: {shaken}"


def test_where_autograd_does_not_come_nothing_is_allowed():
    class Constant(torch.nn.MSELoss):
        def forward(self, prediction, y):
            return super().forward(prediction.detach(), y)

    _, allowed = tolerated(torch.nn.Linear(3, 3).double(), Constant())
    assert allowed.keys() == {"x", "activation", "loss"}


def test_rates_are_bounded_after_the_steps_that_are_still_to_come():
    """8 roundings of float64 a step, beside the largest rate; past the lowest point of a cosine
    2 / c(T + 1) times as much."""
    sgd = partial(torch.optim.SGD, lr=0.5)
    exponential = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    net = torch.nn.Linear(3, 3).double()
    tolerance, allowed = tolerated(net, optimizer=sgd, scheduler=exponential)
    assert allowed["lr.0"] == 2 * 8 * 1 * 2.0**-53 * 0.5
    run = tolerance.run
    groups = [{"lr": 0.5}, {"lr": 0.25}]
    for ahead in (0, 1, 2):
        run.scheduler.last_epoch = 3
        found = rate_bounds(run, groups, ahead)
        expected = {"lr.0": (3 + ahead) * 2.0**-51, "lr.1": (3 + ahead) * 2.0**-52}
        assert found == expected
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 2, eta_min=0.0)
    cosine.last_epoch = 2
    [e] = rate_bounds(run._replace(scheduler=cosine), groups[:1], 1).values()
    np.testing.assert_allclose(e, 3 * 2.0**-51 * 2, rtol=1e-12)
    assert rate_bounds(run._replace(scheduler=None), groups, 1) == {}


def test_what_an_optimizer_has_kept_is_exact():
    net = torch.nn.Linear(3, 3).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    run = Run(net, torch.nn.MSELoss(), optimizer)
    assert optimizer_state(run, SINGLE) == {"weight": {}, "bias": {}}
    x = torch.ones((4, 3), dtype=torch.float64)
    torch_step(run, x, 2 * x)
    optimizer.state[net.bias]["max_exp_avg_sq"] = None  # of no use: as if it were not there
    found = optimizer_state(run, SINGLE)
    for name, p in net.named_parameters():
        state, kept = optimizer.state[p], found[name]
        assert kept.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert kept["step"] == 1.0
        for key in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(kept[key].value, state[key].numpy(), strict=True)
            assert not np.shares_memory(kept[key].value, state[key].numpy())
            assert not kept[key].e.any()
            assert kept[key].r == SINGLE


def test_an_update_starts_from_exact_weights():
    """θ − lr g, each rounded: of a weight that both sides have, no more."""
    sgd = partial(torch.optim.SGD, lr=0.5)
    tolerance, allowed = tolerated(torch.nn.Linear(3, 3).double(), optimizer=sgd)
    values = {name: np.abs(value) for name, value in tolerance.values.items()}
    expected = 2 * U * (values["updated.weight"] + 2 * 0.5 * values["grad.weight"])
    np.testing.assert_allclose(allowed["updated.weight"], expected, rtol=1e-6)


def test_only_what_is_hardly_larger_than_the_smallest_number_has_it_added():
    r = Rounding(2.0**-4, 2.0**-6)  # 2⁻² is large
    value = np.array([0, 0.25, 0.24, -0.24, 0.24, 0.001, 0.5, -1.5])
    e = np.array([0, 0, 0, 0.001, 0.5, 0, 0, 0.001])
    t = r.tiny
    np.testing.assert_array_equal(at_least(e, value, r), [0, 0, t, t, 0.5, t, 0, 0.001])


class Odd(torch.nn.Module):
    def forward(self, x):
        return x**3


def test_a_module_nobody_knows_is_a_black_box_that_covers_float32():
    g = np.random.default_rng(0)

    class Cube(nn.Module):
        def forward(self, x):
            self.saved = (x,)
            return x * x * x

        def backward(self, dy):
            return 3 * self.saved[0] * self.saved[0] * dy

    x, y = (g.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    comparison = compare(Cube(), nn.MSELoss(), x, y, twin=Odd())
    assert comparison.passed, comparison
    assert "every operation is shaken by rounding" in comparison.reasons[1, "activation"]
    frame = comparison.frame.set_index("name")
    assert 0 < frame.loc["activation"].allowed < 1e-4
    assert 0 < frame.loc["d_x"].allowed < 1e-4


@pytest.mark.parametrize("name", TOLERATED)
def test_the_numbers_are_as_they_were(name):
    rtol = RTOL_OF_DRAWS if name == "drawing" else RTOL
    unchanged("tolerance", name, TOLERATED[name](), rtol)
