"""L-BFGS by the textbook: against torch's in float64, and as the third witness of a step."""

import copy
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from compare import compare
from compare.cases.case import Draw
from compare.oracle.lbfgs import Point, cubic_minimum, inverse_hessian, lbfgs_updated, wolfe_point
from manual import nn, optim
from manual.optim import lbfgs
from tests.planted.bug import as_expected, edited, find, together
from tests.planted.cases import regression
from tests.planted.optimizers import BUGS

LBFGS_BUGS = [bug for bug in BUGS if bug.subject == "LBFGS"]
LONG = np.longdouble


# The parts, from what they are for.


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_h_is_the_dense_matrix_of_the_definition(count):
    g = np.random.default_rng(count)
    n, gamma = 5, LONG(0.7)
    identity, v = np.eye(n, dtype=LONG), g.normal(size=n).astype(LONG)
    h, pairs = gamma * identity, []
    for _ in range(count):
        s, y = g.normal(size=(2, n)).astype(LONG)
        pairs.append((s, y, 1 / np.dot(s, y)))
        right = identity - np.outer(y, s) / np.dot(s, y)
        h = right.T @ h @ right + np.outer(s, s) / np.dot(s, y)
    kept = v.copy()
    found = inverse_hessian(pairs, gamma, v)
    assert found.dtype == LONG
    size = np.abs(h).max() * np.abs(v).max() * 4.0**count  # intermediate values may be larger
    np.testing.assert_allclose(found, h @ v, rtol=0, atol=1e3 * np.finfo(LONG).eps * size)
    np.testing.assert_array_equal(v, kept)
    if count:  # the secant equation of the newest pair
        s, y, _ = pairs[-1]
        np.testing.assert_allclose(inverse_hessian(pairs, gamma, y), s, rtol=0, atol=1e-12 * size)


def on_the_cubic(a, b, c, t):
    """Of a + b t + t² / 2 + c t³ / 3, of slope b + t + c t²."""
    t, nothing = LONG(t), np.zeros(0)
    return Point(t, a + b * t + t**2 / 2 + c * t**3 / 3, nothing, b + t + c * t**2)


@pytest.mark.parametrize("c", [0.2, -0.1, 0.0, 1e-9])
@pytest.mark.parametrize("ends", [(0, 1), (3, 0.5), (-1, 7)])
def test_the_minimum_of_a_cubic_is_that_of_the_polynomial(c, ends):
    found = cubic_minimum(*(on_the_cubic(0.3, -0.9, c, t) for t in ends))
    slope = on_the_cubic(0.3, -0.9, c, found).slope
    assert abs(slope) < 1e-14
    assert 1 + 2 * c * found > 0  # rising there
    mirrored = [
        p._replace(t=-p.t, slope=-p.slope) for p in (on_the_cubic(0.3, -0.9, c, t) for t in ends)
    ]
    assert abs(cubic_minimum(*mirrored) + found) < 1e-14


def test_a_cubic_that_only_rises_or_falls_has_no_minimum():
    def monotone(t):
        return Point(LONG(t), LONG(-t - t**3), np.zeros(0), LONG(-1 - 3 * t**2))

    with np.errstate(all="ignore"):
        assert np.isnan(cubic_minimum(monotone(0), monotone(1)))


def shallow(t):
    return -t / (t**2 + 2), (t**2 - 2) / (t**2 + 2) ** 2


def steep(t):
    t = t + 0.004
    return t**5 - 2 * t**4, 5 * t**4 - 8 * t**3


def wavy(t):
    return -t + np.sin(9 * t) / 20 + t**2 / 9, -1 + 9 * np.cos(9 * t) / 20 + 2 * t / 9


@pytest.mark.parametrize("first", [1e-3, 0.1, 1, 10])
@pytest.mark.parametrize("function", [shallow, steep, wavy])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a cubic without a minimum
def test_the_search_finds_a_point_with_both_wolfe_conditions(function, first):
    trials = []

    def phi(t):
        trials.append(t)
        loss, slope = function(t)
        return Point(t, loss, np.zeros(0), slope)

    start = phi(LONG(0))
    found = wolfe_point(phi, start, LONG(first), LONG(1), 25)
    assert found.loss <= start.loss + 1e-4 * found.t * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)
    assert found.t in trials
    assert len(trials) <= 16
    # With fewer trials, the lowest end of the bracket: never higher than the start.
    for limit in range(3):
        assert wolfe_point(phi, start, LONG(first), LONG(1), limit).loss <= start.loss


# The whole, against torch's.


def quadratic(g):
    n = int(g.integers(2, 9))
    a = g.normal(size=(n, n))
    a, b = torch.tensor(a @ a.T + 0.3 * np.eye(n)), torch.tensor(g.normal(size=n))
    return n, lambda theta: theta @ a @ theta / 2 - b @ theta


def logistic(g):
    n = int(g.integers(2, 9))
    x, y = torch.tensor(g.normal(size=(20, n))), torch.tensor(g.integers(0, 2, 20)).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    return n, lambda theta: loss(x @ theta, y) + 0.01 * theta @ theta


def network(g):
    x, y = torch.tensor(g.normal(size=(8, 3))), torch.tensor(g.normal(size=(8, 2)))

    def loss(theta):
        hidden = torch.tanh(x @ theta[:12].view(3, 4))
        return ((hidden @ theta[12:].view(4, 2) - y) ** 2).mean()

    return 20, loss


PROBLEMS = {"quadratic": quadratic, "logistic": logistic, "network": network}
RULES = {
    "defaults": {},
    "lr": {"lr": 0.3, "max_iter": 6},
    "one iteration": {"max_iter": 1},
    "no iteration": {"max_iter": 0},
    "short history": {"history_size": 2, "max_iter": 9, "lr": 0.5},
    "flat": {"tolerance_grad": 0.05},
    "still": {"tolerance_change": 1e-3},
    "few calls": {"max_eval": 4},
    "one call": {"max_eval": 1},
    "uphill": {"maximize": True, "max_iter": 5},
    "far": {"lr": 30.0, "max_iter": 4},
}


def called(f, theta):
    p = torch.tensor(np.asarray(theta, np.float64), requires_grad=True)
    loss = f(p)
    loss.backward()
    return loss.item(), p.grad.numpy()


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_it_does_what_torch_does_step_after_step(name, rule, search):
    seed = sum(map(ord, f"{name}{rule}"))
    g = np.random.default_rng(seed)
    size, loss = PROBLEMS[name](g)
    options = {"line_search_fn": search} | RULES[rule]
    if search is None and name == "network" and rule == "far":
        options["lr"] = 2.0  # it diverges from more, where every rounding counts

    def f(theta):
        return -loss(theta) if options.get("maximize") else loss(theta)

    p = torch.tensor(g.normal(size=size), requires_grad=True)
    optimizer = torch.optim.LBFGS([p], **options)
    own, others = [], []

    def closure():
        value, p.grad = (torch.tensor(np.asarray(v)) for v in called(f, p.detach()))
        others.append(p.detach().numpy().copy())
        return value

    def evaluate(theta):
        own.append(theta.copy())
        return called(f, theta)

    theta, state = p.detach().numpy().copy(), {}
    for step in range(6):
        del own[:], others[:]
        before = {k: np.asarray(v).copy() for k, v in state.items() if k in ("d", "prev_flat_grad")}
        handed = state
        optimizer.step(closure)
        theta, state = lbfgs_updated(optimizer.param_groups[0], handed, theta, evaluate)
        for key, value in before.items():
            np.testing.assert_array_equal(handed[key], value)
        # The same points in the same order, and the same of everything that is kept. Roundings
        # grow from step to step, here to less than 1e-8.
        context = f"seed {seed}, step {step}"
        assert len(own) == len(others), context
        np.testing.assert_allclose(np.array(own), others, rtol=1e-8, atol=1e-8, err_msg=context)
        np.testing.assert_allclose(theta, p.detach().numpy(), rtol=1e-8, atol=1e-8, err_msg=context)
        theirs = optimizer.state_dict()["state"][0]
        if theirs.get("d") is None:
            assert "d" not in state
            continue
        assert state["n_iter"] == theirs["n_iter"], context
        assert len(state["old_stps"]) == len(theirs["old_stps"]), context
        for key in ("d", "t", "prev_flat_grad", "prev_loss", "old_stps"):
            value = theirs[key] if key != "old_stps" else np.array([v.numpy() for v in theirs[key]])
            found = np.asarray(state[key], np.float64)
            np.testing.assert_allclose(
                found, value, rtol=1e-5, atol=1e-8, err_msg=f"{context} {key}"
            )
        # Each goes on from its own state, or the witness from torch's, as in a comparison.
        if name == "network" or step == 2:
            theta, state = p.detach().numpy().copy(), copy.deepcopy(theirs)


def test_the_history_overflows_and_the_oldest_goes():
    g = np.random.default_rng(3)
    size, f = quadratic(g)
    group = optim.LBFGS([nn.Parameter(np.ones(size))], history_size=3, max_iter=6, lr=0.3)
    group = group.param_groups[0]
    points = []
    _, state = lbfgs_updated(
        group, {}, g.normal(size=size), lambda t: points.append(t) or called(f, t)
    )
    steps = [b - a for a, b in pairwise(points)]
    assert len(state["ro"]) == len(state["old_dirs"]) == 3
    np.testing.assert_allclose(np.array(state["old_stps"], float), np.array(steps[-3:], float))


def test_a_loss_that_is_nan_or_a_tie_has_no_answer():
    search = {"line_search_fn": "strong_wolfe"}
    group = optim.LBFGS([nn.Parameter(np.ones(2))], **search).param_groups[0]
    theta = np.ones(2)
    assert lbfgs_updated(group, {}, theta, lambda t: (np.nan, t)) is None
    # All points are equally high and steep: torch chooses by the order in which they came.
    assert lbfgs_updated(group, {}, theta, lambda t: (1.0, theta)) is None
    assert lbfgs_updated(group, {}, theta, lambda t: (float(t @ t), 2 * t)) is not None


# As a witness.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bug", LBFGS_BUGS, ids=lambda bug: bug.wrong)
def test_planted_bugs_are_blamed_on_manual(bug, dtype):
    found = find(bug, np.dtype(dtype), 0)
    assert as_expected(bug, found), found.comparison
    assert np.isfinite(found.comparison.failures.iloc[0].oracle)


WRONG = {
    "lr": ("t = lr\n", "t = 0.9 * lr\n"),
    "stops": ("abs(loss - prev_loss) < tolerance_change", "n_iter == 2"),
}
SAME = {
    "lr": ("t = lr\n", "t = 0.9 * lr\n"),
    "stops": ('abs(loss - state["prev_loss"]) < least_change', "iteration == 2"),
}


def lbfgs_case(draw, **options):
    net = nn.Sequential(draw.linear(5, 7), nn.Tanh(), draw.linear(7, 4))
    given = regression(draw, net)
    options = {"max_iter": 4, "max_eval": 20} | options
    return given | {"optimizer": optim.LBFGS(net.parameters(), **options)}


@pytest.mark.parametrize("oracle", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", WRONG)
def test_torch_is_blamed_and_both_are(name, dtype, oracle):
    theirs = edited(torch.optim.LBFGS.step, *WRONG[name])
    mine = edited(optim.LBFGS._minimize, *SAME[name])
    given = lbfgs_case(Draw(np.dtype(dtype), np.random.default_rng(1)))
    with theirs({}):
        compared = compare(**given, oracle=oracle)
    assert (compared.blame, compared.passed) == ("torch", False), compared
    with together(theirs, mine)({}):
        compared = compare(**given, oracle=oracle)
    # What both agree on is asked about only by an oracle that is asked about everything.
    assert compared.blame == ("both" if oracle else None), compared
    assert compared.passed == (not oracle)
    with mine({}):
        compared = compare(**given, oracle=oracle)
    assert compared.blame == "manual", compared


def correct_pair(seed):
    g = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    n, inputs, hidden, outputs = (
        int(g.integers(a, b)) for a, b in ((3, 10), (1, 7), (1, 7), (2, 5))
    )
    middle = [nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.GELU(), nn.Softplus()][g.integers(5)]
    between = [[], [nn.BatchNorm1d(hidden, dtype=dtype)], [nn.Dropout(0.3, g)]][seed // 2 % 3]
    net = nn.Sequential(
        nn.Linear(inputs, hidden, generator=g, dtype=dtype),
        *between,
        middle,
        nn.Linear(hidden, outputs, generator=g, dtype=dtype),
    )
    x = (10.0 ** g.uniform(-1.5, 1) * g.normal(size=(n, inputs))).astype(dtype)
    criterion, y = nn.CrossEntropyLoss(), g.integers(0, outputs, n)
    if g.random() < 0.5:
        criterion, y = nn.MSELoss(), g.normal(size=(n, outputs)).astype(dtype)
    clip = partial(optim.clip_grad_norm_, max_norm=0.5) if seed % 5 == 0 else None
    options = {
        "lr": float(g.choice([0.1, 0.5, 1, 2])),
        "max_iter": int(g.choice([1, 3, 5])),
        "line_search_fn": [None, "strong_wolfe"][seed // 6 % 2],
        "history_size": int(g.choice([2, 100])),
        "tolerance_change": float(g.choice([1e-9, 1e-4])),
    }
    optimizer = optim.LBFGS(net.parameters(), **options)
    given = {"net": net, "criterion": criterion, "x": x, "y": y, "optimizer": optimizer}
    return given | {"clip": clip, "steps": 2, "seed": seed, "allow_vacuous": ["*"]}


@pytest.mark.parametrize("seed", range(60))
def test_correct_pairs_pass(seed):
    compared = compare(**correct_pair(seed))
    assert compared.passed, compared
    rows = compared.frame[compared.frame["name"].str.startswith(("state.", "updated."))]
    rows = rows[rows.verdict == "ok"]
    asked = rows[rows.max_abs.notna()].oracle
    assert asked.notna().all()
    off = np.abs(rows.manual - rows.oracle)
    assert (off <= 3 * rows.allowed / 2 + 1e-300).all()


def test_without_the_oracle_nothing_is_asked_of_a_pair_that_passes():
    compared = compare(**correct_pair(1), oracle=False)
    assert compared.passed
    assert compared.frame.oracle.isna().all()


def test_a_missing_update_and_a_wrong_shape_take_no_value_to_see(monkeypatch):
    def fails(self, closure):
        closure()
        raise RuntimeError("no step")

    monkeypatch.setattr(optim.LBFGS, "step", fails)
    compared = compare(**correct_pair(1))
    missing = compared.frame[compared.frame.verdict == "missing"]
    assert len(missing)
    assert set(missing.blame) == {"manual"}
    monkeypatch.undo()

    def longer(self, closure):
        loss = step(self, closure)
        self._states[0]["d"] = np.append(self._states[0]["d"], 0)
        return loss

    step = optim.LBFGS.step
    monkeypatch.setattr(optim.LBFGS, "step", longer)
    first = compare(**correct_pair(1) | {"steps": 1}).failures.iloc[0]
    assert (first["name"], first.verdict, first.blame) == ("state.d", "shape", "manual")


def test_an_optimizer_based_on_it_is_nobody_elses(monkeypatch):
    """Its steps are its own: the textbook does not know them."""
    given = correct_pair(1)
    kind = type("Own", (torch.optim.LBFGS,), {})
    monkeypatch.setattr(torch.optim, "LBFGS", kind)
    assert lbfgs.LBFGS is optim.LBFGS
    compared = compare(**given)
    assert compared.passed, compared
