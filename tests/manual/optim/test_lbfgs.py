"""L-BFGS against torch's: the same iterates, the same counts, the same reasons to stop."""

import copy
import importlib

import numpy as np
import pytest
import torch

from manual import nn, optim
from manual.optim.lbfgs import _remember
from manual.optim.line_search import Point, cubic_minimum, strong_wolfe
from torch_ref import twins

RNG = np.random.default_rng
A = np.array([[3.0, 1, 0.5], [1, 2, 0], [0.5, 0, 8]])
START = np.array([-1.2, 1.0, 0.7])


def quadratic(x):
    """½ xᵀ A x − Σ x and its gradient."""
    return x @ (A.astype(x.dtype) @ x) / 2 - x.sum(), A.astype(x.dtype) @ x - 1


def valley(x):
    """Rosenbrock's: Σ 100 (x_{i+1} − x_i²)² + (1 − x_i)²."""
    bend, rest = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * bend - 2 * rest
    g[1:] += 200 * bend
    return (100 * bend**2 + rest**2).sum(), g


def waves(x):
    """Not convex: steep walls and many bends, so that a search has to widen and to zoom."""
    return (np.sin(3 * x) + x**4 / 4).sum(), 3 * np.cos(3 * x) + x**3


def flat_valley(x):
    """Σ √(1 + x²): a full step from afar goes too far."""
    root = np.sqrt(1 + x**2)
    return root.sum(), x / root


FUNCTIONS = [quadratic, valley, waves, flat_valley]


class Both:
    """A manual and a torch optimizer on two parameters, a (2-D, transposed) and b, whose values
    in order are x. Both get value and gradient from the same NumPy function: what differs is the
    optimizer."""

    def __init__(self, function, start=START, dtype=np.float64, sign=1, **options):
        start = np.asarray(start, dtype)
        parts = start[:2].reshape(1, 2), start[2:]
        self.own = [nn.Parameter(v) for v in parts]
        self.theirs = [torch.nn.Parameter(torch.tensor(v)) for v in parts]
        self.function, self.sign, self.calls = function, sign, []
        self.optimizers = (
            optim.LBFGS(self.own, **options),
            torch.optim.LBFGS(self.theirs, **options),
        )

    def evaluate(self, x):
        loss, g = self.function(x)
        self.calls.append(x)
        return self.sign * loss, self.sign * g

    def closure(self):
        loss, g = self.evaluate(np.concatenate([p.data.ravel() for p in self.own]))
        self.own[0].grad, self.own[1].grad = g[:2].reshape(1, 2), g[2:]
        return loss

    def their_closure(self):
        x = torch.cat([p.detach().ravel() for p in self.theirs]).numpy()
        loss, g = self.evaluate(x)
        self.theirs[0].grad = torch.tensor(g[:2].reshape(1, 2))
        self.theirs[1].grad = torch.tensor(g[2:])
        return torch.tensor(loss)

    def step(self):
        """One step each; returns the points at which each evaluated."""
        self.calls = []
        loss = self.optimizers[0].step(self.closure)
        own, self.calls = self.calls, []
        expected = self.optimizers[1].step(self.their_closure)
        assert np.isclose(loss, expected.item(), rtol=1e-9, atol=1e-9)
        return own, self.calls

    def x(self):
        return np.concatenate([p.data.ravel() for p in self.own])

    def follow(self):
        """Put the manual side where torch's stands."""
        for p, q in zip(self.own, self.theirs, strict=True):
            p.data = q.detach().numpy()
        self.optimizers[0].load_state_dict(self.optimizers[1].state_dict())

    def agree(self, allowed=1e-9):
        theirs = torch.cat([p.detach().ravel() for p in self.theirs]).numpy()
        allowed *= max(1, np.abs(theirs).max())
        np.testing.assert_allclose(self.x(), theirs, rtol=0, atol=allowed)
        own, state = self.states()
        assert own["func_evals"] == state["func_evals"]
        assert own["n_iter"] == state["n_iter"]

    def states(self):
        own, theirs = (optimizer.state_dict()["state"] for optimizer in self.optimizers)
        assert own.keys() == theirs.keys() == {0}
        return own[0], theirs[0]


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.02},
        {"lr": 0.3, "history_size": 2},
        {},
        {"lr": 3.0, "history_size": 1},
        {"lr": 0.5, "max_eval": 7},
        {"tolerance_grad": 1e-2, "lr": 0.1},
        {"tolerance_change": 1e-3, "lr": 0.1},
    ],
    ids=str,
)
def test_the_same_evaluations_as_torch(function, options, line_search_fn):
    """Every point at which the closure is called, through 100 inner iterations.

    On the curved functions a rounding grows tenfold within a few iterations, on either side: there
    each step of five begins where torch stands, with torch's state.
    """
    both = Both(function, max_iter=5, line_search_fn=line_search_fn, **options)
    for _ in range(20):
        if function in (valley, waves):
            both.follow()
        own, theirs = both.step()
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-9 * max(1, np.abs(theirs).max()))
        both.agree()


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("maximize", [False, True])
def test_maximize_climbs(line_search_fn, maximize):
    both = Both(
        quadratic,
        sign=-1 if maximize else 1,
        lr=0.5,
        maximize=maximize,
        line_search_fn=line_search_fn,
    )
    for _ in range(5):
        both.step()
        both.agree()
    # It stops where the loss, ½ δᵀ A δ above its minimum, changes by less than 1e-9.
    np.testing.assert_allclose(both.x(), np.linalg.solve(A, np.ones(3)), atol=1e-4)


def test_the_minimum_of_rosenbrocks_valley_is_found():
    both = Both(valley, [*START[:2], 0.5], line_search_fn="strong_wolfe", max_iter=100)
    both.step()
    both.agree()
    np.testing.assert_allclose(both.x(), 1, atol=1e-5)


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_a_small_network(line_search_fn):
    """Own backward against autograd; 100 inner iterations."""
    rng = RNG(0)
    make = {"dtype": np.float64, "generator": rng}
    net = nn.Sequential(nn.Linear(3, 5, **make), nn.Tanh(), nn.Linear(5, 2, **make))
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(net.parameters(), lr=0.3, max_iter=20, line_search_fn=line_search_fn)
    theirs, their_criterion, reference = twins(net, criterion, optimizer)

    def closure():
        loss = criterion(net(x), y)
        net.backward(criterion.backward())
        return loss

    def their_closure():
        reference.zero_grad()
        loss = their_criterion(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        return loss

    losses = []
    for _ in range(5):
        losses.append(optimizer.step(closure))
        reference.step(their_closure)
        for name, value in theirs.state_dict().items():
            np.testing.assert_allclose(net.state_dict()[name], value.numpy(), rtol=0, atol=1e-9)
        own, [state] = optimizer.state_dict()["state"][0], reference.state.values()
        assert own["func_evals"] == state["func_evals"]
    assert own["n_iter"] == state["n_iter"] == 100
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_float32(line_search_fn):
    """Ten iterations on a quadratic, each some tens of roundings of numbers of size 10."""
    both = Both(quadratic, dtype=np.float32, lr=0.3, max_iter=10, line_search_fn=line_search_fn)
    both.step()
    both.agree(10 * 30 * 10 * np.finfo(np.float32).eps)
    state, _ = both.states()
    assert {v.dtype for name in ("old_dirs", "old_stps", "ro") for v in state[name]} == {
        np.dtype(np.float32)
    }
    assert {p.dtype for p in both.own} == {np.dtype(np.float32)}


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_longdouble_goes_further_than_float64_can(line_search_fn):
    p = nn.Parameter(START.astype(np.longdouble))
    optimizer = optim.LBFGS(
        [p],
        lr=1,
        max_iter=60,
        tolerance_grad=0,
        tolerance_change=0,
        max_eval=200,
        line_search_fn=line_search_fn,
    )

    def closure():
        loss, p.grad = quadratic(p.data)
        return loss

    assert isinstance(optimizer.step(closure), np.longdouble)
    residual = np.abs(A.astype(np.longdouble) @ p.data - 1).max()
    # A search looks at the loss, which shows an error δ in x only as δ².
    eps = np.finfo(np.longdouble).eps
    assert residual < (10 * np.sqrt(eps) if line_search_fn else 1000 * eps)
    assert p.dtype == np.longdouble


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("max_iter", [0, 1, 2, 7])
def test_stops_after_max_iter(max_iter, line_search_fn):
    both = Both(
        waves,
        max_iter=max_iter,
        max_eval=100,
        lr=0.05,
        tolerance_change=0,
        line_search_fn=line_search_fn,
    )
    for k in (1, 2, 3):
        both.step()
        both.agree()
        assert both.states()[0]["n_iter"] == k * max_iter


@pytest.mark.parametrize("max_eval", range(1, 12))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_stops_after_max_eval(function, max_eval):
    for line_search_fn, lr in [(None, 0.05), ("strong_wolfe", 0.05), ("strong_wolfe", 10.0)]:
        both = Both(function, max_iter=50, max_eval=max_eval, lr=lr, line_search_fn=line_search_fn)
        for _ in range(3):
            both.follow()
            own, theirs = both.step()
            assert len(own) == len(theirs)
            both.agree()


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_a_start_with_small_gradients(line_search_fn):
    """Where Σ|g| < 1 the first step is lr · g and no longer."""
    near = np.linalg.solve(A, np.ones(3)) + np.array([0.01, -0.02, 0.005])
    both = Both(quadratic, near, lr=0.1, max_iter=3, line_search_fn=line_search_fn)
    own, theirs = both.step()
    np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(own[1], near - 0.1 * quadratic(near)[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("curvature", "lr", "tolerances", "end", "evaluations"),
    [
        (1.0, 0.5, {"tolerance_grad": 1.0}, 1.0, 1),  # |g| = 1 to begin with
        (1.0, 0.5, {"tolerance_grad": 0.5}, 0.5, 2),  # |g| = 0.5 then
        (4.0, 0.5, {"tolerance_change": 0.5}, 0.5, 2),  # moved by 0.5; the loss is 1.5 less
    ],
)
def test_a_change_as_large_as_its_tolerance_is_the_last(
    curvature, lr, tolerances, end, evaluations
):
    """½ c θ² from θ = 1; where torch has <=."""
    p = nn.Parameter(np.ones(1))

    def closure():
        p.grad = curvature * p.data
        return curvature * float(p.data[0]) ** 2 / 2

    optimizer = optim.LBFGS([p], lr, **{"tolerance_grad": 0, "tolerance_change": 0, **tolerances})
    optimizer.step(closure)
    assert (p.data[0], optimizer.state_dict()["state"][0]["func_evals"]) == (end, evaluations)


def test_a_straight_slope_is_gone_down_by_its_gradient():
    """Loss θ/2: no curvature is found, so H stays 1. Slope and change of the loss are both exactly
    the tolerance, where torch has < and goes on."""
    p = nn.Parameter(np.ones(1))

    def closure():
        p.grad = np.full(1, 0.5)
        return float(p.data[0]) / 2

    optimizer = optim.LBFGS([p], max_iter=3, max_eval=9, tolerance_change=0.25)
    optimizer.step(closure)
    assert p.data[0] == 1 - 3 * 0.5
    assert optimizer.state_dict()["state"][0]["H_diag"] == 1


def test_a_closure_that_gives_no_number_is_refused_before_anything_moves():
    p = nn.Parameter(np.ones(2))
    p.grad = np.ones(2)
    with pytest.raises(TypeError):
        optim.LBFGS([p]).step(lambda: p.data**2)
    assert np.array_equal(p.data, np.ones(2))


@pytest.mark.parametrize("function", [quadratic, waves, flat_valley])
@pytest.mark.parametrize("tolerance_change", [0.02, 0.1, 0.3, 1.0])
def test_the_tolerance_for_changes_is_not_the_searchs(function, tolerance_change):
    for lr in (0.5, 1.0, 3.0, 10.0):
        both = Both(
            function,
            lr=lr,
            max_iter=4,
            tolerance_change=tolerance_change,
            line_search_fn="strong_wolfe",
        )
        for _ in range(4):
            both.follow()
            own, theirs = both.step()
            assert len(own) == len(theirs)
            both.agree()


def test_the_search_is_told_the_largest_element_of_the_direction(monkeypatch):
    told = []

    def search(*args, **options):
        told.append(options["size"])
        return strong_wolfe(*args, **options)

    monkeypatch.setattr("manual.optim.lbfgs.strong_wolfe", search)
    both = Both(waves, lr=0.3, max_iter=1, max_eval=9, line_search_fn="strong_wolfe")
    for _ in range(3):
        both.step()
        assert told.pop() == np.abs(both.states()[0]["d"]).max()


def wavy(seed):
    """t ↦ (f, f'), a random sum of waves on a slope or in a bowl."""
    rng = RNG(seed)
    size, speed, phase = rng.normal(size=4), rng.uniform(0.2, 6, 4), rng.uniform(0, 6, 4)
    slope, bowl = rng.normal(), rng.choice([0, 0.01, 1])

    def f(t):
        value = (size * np.sin(speed * t + phase)).sum() + slope * t + bowl * t**4
        gradient = (size * speed * np.cos(speed * t + phase)).sum() + slope + 4 * bowl * t**3
        return float(value), float(gradient)

    return f


def scripted(seed):
    """The n-th call gets the n-th random (f, f'), wherever it is: all ways that a search may go."""
    rng = RNG(seed)
    values = iter(rng.normal(size=(100, 2)) * 10 ** rng.uniform([-7, -1], 0.3, (100, 2)))
    return lambda t: tuple(map(float, next(values)))


def tied(seed):
    """As `scripted`, with a few values only, of which many are equal."""
    rng = RNG(seed)
    values = zip(rng.choice([-3.0, -2, -1, 1], 100), rng.choice([-4.0, -1.5, 2], 100), strict=True)
    return lambda t: tuple(map(float, next(values)))


@pytest.mark.parametrize("max_ls", [1, 2, 3, 5, 25])
@pytest.mark.parametrize("kind", [wavy, scripted, tied])
def test_the_search_tries_what_torchs_tries(kind, max_ls):
    """The very points, on 300 random functions of one variable."""
    refined, torchs = 0, importlib.import_module("torch.optim.lbfgs")
    for seed in range(300):
        f, their_f, first = kind(seed), kind(seed), 10 ** RNG(seed).uniform(-2.5, 1.5)
        loss, gradient = f(0.0)
        assert their_f(0.0) == (loss, gradient)
        d, own, theirs = -gradient, [], []

        def at(t, f=f, d=d, own=own):
            own.append(float(t))
            value, g = f(t * d)
            return Point(t, value, np.array([g]), g * d)

        def evaluate(x, t, direction, f=their_f, theirs=theirs):
            theirs.append(float(t))
            value, g = f(float(t) * direction.item())
            return value, torch.tensor([g], dtype=torch.float64)

        options = {"tolerance_change": [1e-9, 1e-2][seed % 2], "max_ls": max_ls}
        start = Point(0, loss, np.array([gradient]), gradient * d)
        found, evaluated = strong_wolfe(at, start, first, size=abs(d), **options)
        direction, g = torch.tensor([[d], [gradient]], dtype=torch.float64)
        value, _, t, count = torchs._strong_wolfe(
            evaluate, None, first, direction, loss, g, g.dot(direction), **options
        )
        assert evaluated == count == len(own)
        np.testing.assert_allclose(own, theirs, rtol=1e-6, atol=1e-9, err_msg=f"{seed}")
        np.testing.assert_allclose(found.t, float(t), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.loss, value, rtol=1e-6)
        refined += evaluated > 3
    assert refined > 20 or max_ls < 3


def test_nothing_to_do():
    """At a minimum the closure is called once and nothing changes; there is no direction yet."""
    best = np.linalg.solve(A, np.ones(3))
    both = Both(quadratic, best)
    both.step()
    both.agree(0)
    assert np.array_equal(both.x(), best)
    assert both.states()[0] == {"func_evals": 1, "n_iter": 0}


def test_a_parameter_without_a_gradient_counts_as_one_with_zeros():
    p, q = nn.Parameter(np.array([1.0, 2.0])), nn.Parameter(np.array([3.0]))
    optimizer = optim.LBFGS([p, q], max_iter=5)

    def closure():
        p.grad = 2 * p.data
        return (p.data**2).sum()

    assert optimizer.step(closure) == 5
    np.testing.assert_allclose(p.data, 0, atol=1e-12)
    assert q.data == 3


def test_a_loss_that_is_not_finite_far_out():
    """A first step of 1e4 times the slope: exp overflows there, and the search comes back."""

    def steep(x):
        return np.exp(x**2).sum(), 2 * x * np.exp(x**2)

    both = Both(steep, [1.0, 2.0, 1.5], lr=1e4, max_iter=15, line_search_fn="strong_wolfe")
    for _ in range(2):
        with np.errstate(over="ignore", invalid="ignore"):  # torch's closure computes it too
            both.step()
        both.agree()
    assert np.isfinite(both.x()).all()
    assert np.abs(both.x()).max() < 2


def test_the_state_dict_is_torchs():
    both = Both(waves, lr=0.3, max_iter=8, history_size=3, line_search_fn="strong_wolfe")
    both.step()
    own, theirs = both.states()
    assert own.keys() == theirs.keys() - {"al"}
    for name, value in own.items():
        value, expected = (
            [np.asarray(v) for v in (x if isinstance(x, list) else [x])]
            for x in (value, theirs[name])
        )
        assert [v.shape for v in value] == [v.shape for v in expected]
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)
    assert len(own["old_dirs"]) == 3


@pytest.mark.parametrize("from_torch", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_loading_a_state_goes_on_from_it(steps, from_torch):
    options = {"lr": 0.3, "max_iter": 5, "history_size": 3, "line_search_fn": "strong_wolfe"}
    both = Both(valley, **options)
    for _ in range(steps):
        both.step()
    loaded = Both(valley, both.x(), **options)
    loaded.optimizers[0].load_state_dict(both.optimizers[from_torch].state_dict())
    # torch's state dict is not a copy, and torch goes on with the very tensors it loads.
    loaded.optimizers[1].load_state_dict(copy.deepcopy(both.optimizers[1].state_dict()))
    for _ in range(3):
        both.step()
        loaded.step()
        loaded.agree()
        np.testing.assert_allclose(loaded.x(), both.x(), rtol=0, atol=1e-9)
    assert loaded.states()[0]["func_evals"] == both.states()[0]["func_evals"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": np.zeros(4)}, r"d has shape \(4,\)"),
        ({"ro": [1.0] * 9}, "of different lengths"),
        ({"old_dirs": [np.zeros((3, 1))] * 2}, "old_dirs has shape"),
        ({"n_iter": "x"}, "n_iter has shape"),
        ({"more": 1}, "expected"),
        ({"t": None}, "expected"),
    ],
)
def test_bad_states_change_nothing(change, message):
    both = Both(valley, max_iter=3)
    both.step()
    optimizer = both.optimizers[0]
    bad = optimizer.state_dict()
    bad["state"][0] |= change
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(bad)
    both.step()
    both.agree()


def test_a_converted_network_keeps_its_history():
    both = Both(quadratic, lr=0.1, max_iter=4)
    both.step()
    for p in both.own:
        p.to(np.float32)
    optimizer = both.optimizers[0]
    for k in range(30):
        optimizer.step(both.closure)
        assert {p.dtype for p in both.own} == {np.dtype(np.float32)}
        state = optimizer.state_dict()["state"][0]
        arrays = [state["d"], *state["old_dirs"], *state["ro"], state["H_diag"], state["t"]]
        assert {v.dtype for v in arrays} == {np.dtype(np.float32)}, k
    np.testing.assert_allclose(both.x(), np.linalg.solve(A, np.ones(3)), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [
        *(("lr", bad, ValueError) for bad in (-0.1, np.nan, np.inf)),
        *(("max_iter", bad, ValueError) for bad in (-1, 2.5, np.nan)),
        *(("max_eval", bad, ValueError) for bad in (-1, 2.5, np.inf)),
        *(("history_size", bad, ValueError) for bad in (0, -1, 1.5)),
        *(("tolerance_grad", bad, ValueError) for bad in (np.nan, np.inf)),
        *(("tolerance_change", bad, ValueError) for bad in (np.nan, -np.inf)),
        ("line_search_fn", "wolfe", RuntimeError),
        ("lr", "1", TypeError),
        ("max_iter", "20", TypeError),
    ],
)
def test_bad_options(name, bad, error):
    p = nn.Parameter(np.ones(2))
    with pytest.raises(error, match=rf"LBFGS: {name} .*got {bad!r}"):
        optim.LBFGS([p], **{name: bad})
    optimizer = optim.LBFGS([p])
    optimizer.param_groups[0][name] = bad
    with pytest.raises(error, match=rf"LBFGS: {name} .*got {bad!r}"):
        optimizer.step(lambda: pytest.fail("the closure was called"))


def test_loading_a_state_of_one_parameter():
    """Whole numbers come as such, from whatever the state held."""
    own = nn.Parameter(np.ones(2))
    own.grad = np.ones(2)
    optimizer = optim.LBFGS([own])
    optimizer.step(lambda: 1.0)
    state = optimizer.state_dict()
    state["state"][0] |= {name: np.array(state["state"][0][name]) for name in ("n_iter", "t")}
    loaded = optim.LBFGS([nn.Parameter(np.ones(2))])
    loaded.load_state_dict(state)
    [entry] = loaded.state_dict()["state"].values()
    assert type(entry["n_iter"]) is int
    assert entry.keys() == state["state"][0].keys()


def test_only_the_first_parameter_has_a_state():
    own = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))]
    optimizer = optim.LBFGS(own)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"LBFGS: the state dict has \[\], expected"):
        optimizer.load_state_dict({**state, "state": {1: {"n_iter": 1}}})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_zeros_for_a_missing_gradient_keep_the_dtype(dtype):
    p, q = nn.Parameter(np.ones(2, dtype)), nn.Parameter(np.ones(3, dtype))
    p.grad = np.ones(2, dtype)
    gradient = optim.LBFGS([p, q])._gradient()
    assert gradient.dtype == dtype
    assert np.array_equal(gradient, [1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "compute",
    [lambda: np.float64(1e300) * 1e300, lambda: np.float64(np.inf) * 0, lambda: np.float64(1) / 0],
    ids=["overflow", "invalid", "divide"],
)
def test_no_step_warns_of_what_is_not_finite(compute):
    """A step that is too long may come to such a point."""
    own = nn.Parameter(np.ones(2))

    def closure():
        compute()
        own.grad = own.data.copy()
        return (own.data**2).sum() / 2

    assert optim.LBFGS([own]).step(closure) == 1


def test_the_loss_keeps_its_digits():
    own = nn.Parameter(np.ones(2, np.longdouble))
    own.grad = np.ones(2, np.longdouble)
    optimizer, third = optim.LBFGS([own], max_iter=1), 1 / np.longdouble(3)
    assert optimizer.step(lambda: third) == third
    assert optimizer.state_dict()["state"][0]["prev_loss"] == third


def test_a_state_dict_is_a_copy():
    own = nn.Parameter(np.ones(2))
    optimizer = optim.LBFGS([own])

    def closure():
        own.grad = own.data**3
        return (own.data**4).sum() / 4

    optimizer.step(closure)
    [entry] = optimizer.state_dict()["state"].values()
    for vector in (entry["d"], *entry["old_dirs"], *entry["old_stps"]):
        vector[...] = np.nan
    entry["ro"].clear()
    [entry] = optimizer.state_dict()["state"].values()
    assert np.isfinite([entry["d"], *entry["old_dirs"], *entry["old_stps"]]).all()
    assert len(entry["ro"]) == len(entry["old_dirs"]) > 0


@pytest.mark.parametrize(("curvature", "kept"), [(1e-10, 0), (2e-10, 1)])
def test_a_pair_without_curvature_is_not_kept(curvature, kept):
    """yᵀs must be more than 1e-10, as in torch."""
    state = {"prev_flat_grad": np.zeros(1), "d": np.ones(1), "t": 1.0, "H_diag": 1.0}
    state |= {"old_dirs": [], "old_stps": [], "ro": []}
    _remember(state, np.array([curvature]), 5)
    assert [len(state[name]) for name in ("old_dirs", "old_stps", "ro")] == [kept] * 3


def test_one_group_only():
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    with pytest.raises(ValueError, match="one group"):
        optim.LBFGS([{"params": p}, {"params": q}])
    optimizer = optim.LBFGS([p])
    with pytest.raises(ValueError, match="one group"):
        optimizer.add_param_group({"params": q})
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()


def cubic_points(coefficients, a, b):
    f = np.polynomial.Polynomial(coefficients)
    return [Point(t, float(f(t)), np.zeros(1), float(f.deriv()(t))) for t in (a, b)]


def test_the_minimum_of_a_cubic():
    """f = t³ − 3t has its minimum at 1; in either order of the points, and within bounds."""
    a, b = cubic_points([0, -3, 0, 1], 0.25, 3.0)
    for pair in ((a, b), (b, a)):
        assert abs(cubic_minimum(*pair, (0.25, 3.0)) - 1) < 1e-14
        assert cubic_minimum(*pair, (1.5, 3.0)) == 1.5
        assert cubic_minimum(*pair, (0.25, 0.5)) == 0.5
    a, b = cubic_points([0, 1, 0, 1], -1.0, 3.0)  # t³ + t has none
    assert cubic_minimum(a, b, (-1.0, 3.0)) == 1
    assert cubic_minimum(a, a, (-1.0, 2.0)) == 0.5  # one point is no cubic


def test_a_cubic_with_a_level_point_in_place_of_a_minimum():
    """Its slope is −(3t − 2)², and has a double zero."""
    a, b = cubic_points([0, -4, 6, -3], 0.0, 1.0)
    theirs = importlib.import_module("torch.optim.lbfgs")._cubic_interpolate
    points = (torch.tensor(v, dtype=torch.float64) for p in (a, b) for v in (p.t, p.loss, p.slope))
    expected = theirs(*points, bounds=(0.0, 10.0))
    assert abs(cubic_minimum(a, b, (0.0, 10.0)) - 2 / 3) < 1e-15
    assert abs(expected - 2 / 3) < 1e-15


@pytest.mark.parametrize(("loss", "slope"), [(-1e-4, 0.0), (-0.5, -0.9), (-0.5, 0.9)])
def test_the_first_point_of_a_search_may_just_satisfy_a_condition(loss, slope):
    """From φ(0) = 0 with φ'(0) = −1: φ(1) = −c1 and |φ'(1)| = c2 are good enough."""
    g, tried = np.ones(1), []

    def at(t):
        tried.append(t)
        return Point(t, loss, g, slope)

    found, evaluated = strong_wolfe(at, Point(0, 0.0, g, -1.0), 1.0, size=1.0, max_ls=10)
    assert (found.t, evaluated, tried) == (1.0, 1, [1.0])


def tries(values, first, **options):
    """The points that a search tries where the n-th try gives the n-th (loss, slope)."""
    g, tried, values = np.ones(1), [], iter(values)
    loss, slope = next(values)
    start = Point(0, loss, g, slope)

    def at(t):
        tried.append(t)
        loss, slope = next(values)
        return Point(t, loss, g, slope)

    strong_wolfe(at, start, first, size=1.0, max_ls=10, **options)
    return tried


def test_a_tenth_inside_is_not_near_an_end():
    """(t − 1)² has its minimum a tenth inside [0, 10]. The next try is near an end for the first
    time: it is made where it is (a second time it would be moved to 1.9)."""
    tried = tries([(1.0, -2.0), (81.0, 18.0), (0.9, -1.9), (0.5, 0.0)], 10.0)
    np.testing.assert_allclose(tried, [10, 1, 1.695], atol=1e-3)


def test_a_bracket_as_wide_as_the_tolerance_is_searched():
    assert len(tries([(1.0, -2.0), (9.0, 1.0), (0.5, 0.0)], 1.0, tolerance_change=1.0)) == 2
    assert len(tries([(1.0, -2.0), (9.0, 1.0)], 1.0, tolerance_change=1.1)) == 1


def test_the_units_of_steps_and_losses_do_not_matter():
    """Also where a slope is far smaller than the steps are large."""
    values = [(1.0, -2.0), (9.0, 1.0), (0.5, -1.9), (0.1, 0.0)]
    unit, losses = 2.0**600, 2.0**90
    scaled = [(losses * loss, losses / unit * slope) for loss, slope in values]
    tried = tries(values, 1.0)
    assert len(tried) == 3
    assert tries(scaled, unit) == [unit * t for t in tried]


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 7.0, 50.0])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_the_search_finds_satisfies_both_conditions(function, t):
    loss, g = function(START)
    d = -g

    def at(t):
        value, gradient = function(START + t * d)
        return Point(t, value, gradient, gradient @ d)

    start = Point(0, loss, g, g @ d)
    found, evaluated = strong_wolfe(
        at, start, t, size=np.abs(d).max(), tolerance_change=1e-12, max_ls=60
    )
    assert found.loss <= loss + 1e-4 * found.t * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)
    np.testing.assert_array_equal(found.gradient, function(START + found.t * d)[1])
    assert 1 <= evaluated <= 61
