"""L-BFGS by the textbook: by numbers worked out by hand, and against torch's in float64."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.optim.lbfgs import _strong_wolfe

from compare.oracle.lbfgs import Point, cubic_minimum, inverse_hessian, lbfgs_updated, wolfe_point
from manual import nn, optim

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


def test_a_line_falls_for_ever():
    points = [Point(LONG(t), LONG(-2 * t), np.zeros(0), LONG(-2)) for t in (1, 3)]
    with np.errstate(all="ignore"):
        assert cubic_minimum(*points) == cubic_minimum(*points[::-1]) == np.inf


def test_the_valley_is_seen_from_the_top_of_the_hill():
    """t³ − 3t²: a maximum at 0, a minimum at 2."""
    top, low = (
        Point(LONG(t), LONG(t**3 - 3 * t**2), np.zeros(0), LONG(3 * t**2 - 6 * t)) for t in (0, 1)
    )
    assert cubic_minimum(top, low) == 2


def shallow(t):
    return -t / (t**2 + 2), (t**2 - 2) / (t**2 + 2) ** 2


def steep(t):
    t = t + 0.004
    return t**5 - 2 * t**4, 5 * t**4 - 8 * t**3


def waves(seed):
    g = np.random.default_rng(seed)
    size, often, shift = g.normal(size=4), g.uniform(1, 12, 4), g.uniform(0, 7, 4)
    size *= -np.sign(size @ (often * np.cos(shift)))  # down at first

    def function(t):
        angle = often * t + shift
        return t**2 / 9 + size @ np.sin(angle), 2 * t / 9 + (size * often) @ np.cos(angle)

    return function


@pytest.mark.parametrize("limit", [25, 3, 2, 1, 0])
@pytest.mark.parametrize("function", [shallow, steep, *map(waves, range(5))])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a cubic without a minimum
def test_a_search_tries_the_points_that_torchs_does(function, limit):
    for first, size in ((0.02, 1), (0.3, 1), (4.0, 1), (0.3, 1e-8), (4.0, 1e-8)):
        tried = []

        def at(t, tried=tried):
            tried.append(float(t))
            return [np.float64(value) for value in function(tried[-1])]

        def phi(t, at=at):
            loss, slope = at(t)
            return Point(t, loss, np.zeros(0), slope)

        def theirs(x, t, d, at=at, size=size):
            loss, slope = at(t)
            return torch.tensor(loss), torch.tensor([slope / size])

        zero, d = torch.zeros(1), torch.tensor([size], dtype=torch.float64)
        start = phi(0.0)
        found = wolfe_point(phi, start, np.float64(first), size, limit)
        own = tried[1:]
        assert found.loss <= start.loss
        if limit == 25 and size == 1:
            assert found.loss <= start.loss + 1e-4 * found.t * start.slope
            assert abs(found.slope) <= 0.9 * abs(start.slope)
        loss, g = theirs(None, 0.0, None)
        del tried[:]
        _, _, t, _ = _strong_wolfe(theirs, zero, first, d, loss, g, g.dot(d), max_ls=limit)
        # Of a 100 ulps or so in the values, each trial makes more.
        np.testing.assert_allclose(own, tried, rtol=1e-6)
        assert found.t == pytest.approx(float(t), rel=1e-6)


# Values and slopes written down, not those of any function: how a search goes on.


def searched(*values, first=1.0, size=1.0, limit=25):
    """(t of what was found, every t tried), where the trials find these (loss, slope), after 0 and
    -1 at the start."""
    points = iter(values)
    tried = []

    def phi(t):
        tried.append(t)
        loss, slope = map(LONG, next(points))
        return Point(LONG(t), loss, np.zeros(0), slope)

    start = Point(LONG(0), LONG(0), np.zeros(0), LONG(-1))
    with np.errstate(all="ignore"):
        return wolfe_point(phi, start, LONG(first), LONG(size), limit).t, tried


def test_both_conditions_include_their_bounds():
    low, flat = -LONG(1e-4), -LONG(0.9)
    assert searched((low, flat)) == (1, [1])
    assert searched((low, -flat)) == (1, [1])
    for loss, slope in ((low * (1 - 1e-9), flat), (low, flat * (1 + 1e-9))):
        assert len(searched((loss, slope), (-9, 0))[1]) == 2
    assert searched((4 * low, 0), first=4) == (4, [4])
    assert len(searched((2 * low, 0), (-9, 0), first=4)[1]) == 2


def test_strides_ahead_and_their_bounds():
    # The cubic has its minimum behind: a hundredth of the last stride.
    behind = (-0.2, -0.95)
    assert searched(behind, behind, (-9, 0))[1] == pytest.approx([1, 1.01, 1.0101], rel=1e-15)
    assert searched((-2, -4), (-9, 0))[1] == [1, pytest.approx(5.505)]  # it has none
    assert searched((-1, -1), (-9, 0))[1] == [1, 10]  # it falls for ever


def test_a_stride_ends_where_it_rises():
    for slope, ahead in ((-0.95, True), (0.95, False)):
        _, tried = searched((-0.5, slope), (-9, 0))
        assert (tried[1] > 1) == ahead
    # From the third point on, where it is not lower than the last, though low enough.
    ts, falls = [], [(-2, -2), (-5, -2)]
    for third in (-4, -5, -5.001):
        _, tried = searched(*falls, (third, -2), (-9, 0))
        ts.append(tried[3] < tried[2])
    assert ts == [True, True, False]
    _, tried = searched((-5, -2), (-4, -2), (-9, 0))  # the second may be higher
    assert tried[2] > tried[1]


def test_without_trials_left_it_is_the_lowest_end():
    assert searched((-2, -2), limit=0) == (1, [1])
    assert searched((0, -2), limit=0) == (0, [1])  # no lower than the start
    t, tried = searched(*[(-k, -2) for k in (2, 4, 8, 16)], limit=3)
    assert (t, len(tried)) == (tried[-1], 4)
    assert searched((-0.5, 2), (-0.3, -5), limit=1)[0] == 1
    assert searched((0, 2), (0.5, -5), limit=1)[0] == 0


def test_a_bracket_of_a_billionth_is_divided_once_more():
    for size, trials in ((1e-9, 2), (0.999e-9, 1)):
        assert len(searched((1, 3), (0.5, 0), size=size, limit=1)[1]) == trials


def test_what_is_lower_but_not_low_enough_is_an_end_of_the_next_bracket():
    _, tried = searched((1, 3), (-1e-6, -2), (-9, 0))
    assert 0 < tried[2] < tried[1] < 1


# Losses and gradients written down: how a step goes on.


def stepped(*values, theta=(1.0,), state=(), **options):
    """(θ, the state) after one step whose evaluations find these (loss, gradient), all of them
    and no more."""
    flat = {"tolerance_grad": 0, "tolerance_change": 0, "lr": 0.5, "max_iter": 2, "max_eval": 9}
    group = optim.LBFGS([nn.Parameter(np.ones(1))], **flat | options).param_groups[0]
    points = iter(values)

    def evaluate(theta):
        loss, slope = next(points)
        return loss, np.full(1, slope)

    found = lbfgs_updated(group, dict(state), np.array(theta), evaluate)
    assert next(points, None) is None
    return found


def test_a_gradient_that_is_as_flat_as_asked_for_ends_it():
    third, state = LONG(1) / 3, {"n_iter": 3, "al": [1.0, None], "ro": [LONG(1) / 7], "prev": None}
    state["d"] = np.array([LONG(1) / 9])
    theta, found = stepped((1, 0.5), theta=[third], state=state, tolerance_grad=0.5)
    assert theta == [third]  # with all its digits
    assert found == {name: state[name] for name in ("n_iter", "ro", "d")}
    assert isinstance(found["n_iter"], int)
    assert found["ro"][0].dtype == found["d"].dtype == theta.dtype == LONG
    theta, found = stepped((1, 1), (9, 0.5), tolerance_grad=0.5)  # or after an iteration
    assert (theta, found["n_iter"]) == ([0.5], 1)


def test_what_comes_of_a_gradient_has_all_its_digits():
    third = LONG(1) / 3
    theta, state = stepped((1, third), max_iter=1)
    assert theta == [1 - third / 2]
    assert state["prev_flat_grad"] == -state["d"] == [third]
    theta, _ = stepped((1, third), max_iter=1, maximize=True)
    assert theta == [1 + third / 2]


@pytest.mark.parametrize(("slope", "moved"), [(2.0**-5, True), (2.0**-5 * 0.999, False)])
def test_a_direction_that_falls_as_little_as_is_asked_for_is_taken(slope, moved):
    theta, _ = stepped((1, slope), max_iter=1, tolerance_change=2.0**-10)
    assert theta == [1 - slope / 2 if moved else 1]


def test_small_changes_end_it():
    # θ by a quarter; the loss by less than a quarter.
    _, state = stepped((5, 0.5), (1, 0.4), tolerance_change=0.25)
    assert state["n_iter"] == 1
    for loss, iterations in ((4.75, 2), (4.76, 1), (-5.1, 2)):
        _, state = stepped((5, 2), (loss, 1.9), tolerance_change=0.25)
        assert state["n_iter"] == iterations


def test_a_pair_is_kept_where_the_curvature_is_more_than_the_least():
    g, least = LONG(2) ** -20, LONG(1e-10)  # s = −g, so y = −least / g has sᵀy = least
    for factor, kept in ((1, 0), (1 + LONG(2) ** -20, 1)):
        _, state = stepped((1, g), (0.5, g - factor * least / g), lr=1)
        assert len(state["old_stps"]) == len(state["old_dirs"]) == len(state["ro"]) == kept


SEARCH = {"line_search_fn": "strong_wolfe"}


def test_a_search_has_the_evaluations_that_are_left():
    falls = [(-k, 1 + k) for k in (0, 2, 4, 8, 16)]  # the first trial is beside them
    _, state = stepped(*falls, max_eval=4, **SEARCH)
    assert state["n_iter"] == 1


def test_a_search_that_finds_nothing_ends_where_it_began():
    theta, state = stepped((1, 1e-10), (2, 1e-10), **SEARCH)  # no parameter moves by 1e-9
    assert (theta, state["n_iter"], state["t"]) == ([1], 1, 0)


def test_an_infinite_loss_ahead_is_only_a_step_too_long():
    theta, _ = stepped((1, 1), (np.inf, np.inf), (0, 0), max_iter=1, **SEARCH)
    assert theta == [0.75]


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
