"""What rounding can do to a step of L-BFGS: all that it sees is moved, and where it decides on the
way that the step takes, nothing is judged."""

from functools import partial

import numpy as np
import pytest
import torch

from compare import compare
from compare.lbfgs import _as_it_is, _course, lbfgs_bounds, lbfgs_witness
from compare.propagation import Bounds
from compare.trace import Run
from manual import nn, optim
from tests.compare.allowances import RTOL_OF_DRAWS, unchanged
from tests.compare.allowances.steps import PROBED
from torch_ref import twins

EXACT = {"tolerance_grad": 0.0, "tolerance_change": 0.0}


def stepped(net, criterion, x, y, dtype=np.float32, clip=None, **options):
    """Bounds after one step of L-BFGS."""
    optimizer = optim.LBFGS(net.parameters(), **options)
    sides = twins(net, criterion, optimizer, dtype=torch.float64)
    bounds = Bounds(Run(*sides, clip=clip), np.dtype(dtype))
    bounds.step(torch.tensor(x).double(), torch.tensor(y).double())
    return bounds


def regression(seed, dtype=np.float32):
    g = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(3, 5, dtype=dtype, generator=g), nn.Tanh())
    net.append(nn.Linear(5, 2, dtype=dtype, generator=g))
    x, y = (g.normal(size=(12, n)).astype(dtype) for n in (3, 2))
    return net, nn.MSELoss(), x, y


def verdicts(comparison):
    frame = comparison.frame
    own = frame[frame["name"].str.startswith(("updated", "state"))]
    assert len(own)
    return set(own.verdict)


def test_a_gradient_that_is_0_at_first_has_its_error_where_it_is_not():
    """The second piece of a Maxout, which is the largest only after the first has come down."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Maxout(2))
    net[0].weight.data = np.float32([[1.0], [0.9]])
    x, y = np.float32([[1.0], [2.0]]), np.float32([[-4.0], [-8.0]])
    bounds = stepped(net, nn.MSELoss(), x, y, max_iter=2, max_eval=9, lr=0.3)
    assert bounds.values["grad.0.weight"][1] == 0
    assert bounds.bounds["grad.0.weight"][1] == 0
    net[0].weight.data = np.float32([[0.7], [0.9]])
    there = stepped(net, nn.MSELoss(), x, y, max_iter=1)
    least = 4 * there.bounds["grad.0.weight"][1, 0]
    value, e = (t["state.prev_flat_grad"][1] for t in (bounds.values, bounds.bounds))
    assert least > 1e-6 * abs(value)
    assert least < e < 10 * least


def test_its_own_sums_are_rounded_where_gradients_are_exact():
    """Clipped to one number: what moves them before that does not move d."""
    g = np.random.default_rng(0)
    net = nn.Linear(10, 8, bias=False, generator=g)
    x, y = (100 * g.normal(size=(5, n)).astype(np.float32) for n in (10, 8))
    clip = partial(torch.nn.utils.clip_grad_value_, clip_value=0.02)
    options = {"max_iter": 3, "line_search_fn": "strong_wolfe"}
    bounds = stepped(net, nn.HalfSquaredError(), x, y, clip=clip, **options)
    value, e = (np.abs(t["state.d"]) for t in (bounds.values, bounds.bounds))
    assert (e > 10 * 2.0**-24 * value).all()
    assert (e < 1e-2 * value).all()


def test_the_points_on_the_way_are_rounded():
    """Which moves the gradient by the curvature times u θ, beside its own rounding."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data = np.float32([[1.0]])
    x, y = np.float32([[1e3]]), np.float32([[1.001e3]])
    bounds = stepped(net, nn.HalfSquaredError(), x, y, max_iter=1, lr=1e-7, **EXACT)
    own = bounds.bounds["grad.weight"][0, 0]
    e = bounds.bounds["state.prev_flat_grad"][0]
    assert e > 4 * own + 0.9 * 4 * 2.0**-24 * 1e6


def test_the_starting_point_has_its_error():
    net, criterion, x, y = regression(0)
    sides = twins(net, criterion, optim.LBFGS(net.parameters(), max_iter=1), dtype=torch.float64)
    bounds = Bounds(Run(*sides), np.dtype(np.float32))
    bounds.errors = {name: np.full(e.shape, 1e-5) for name, e in bounds.errors.items()}
    bounds.step(torch.tensor(x).double(), torch.tensor(y).double())
    for name, _ in net.named_parameters():
        assert (bounds.bounds[f"updated.{name}"] > 3e-5).all()


def test_where_rounding_decides_whether_to_stop_nothing_is_told():
    """The largest gradient is just what is small enough to stop."""
    net, criterion, x, y = regression(0)
    plain = stepped(net, criterion, x, y, max_iter=1)
    largest = max(np.abs(v).max() for n, v in plain.values.items() if n.startswith("grad."))
    options = {"tolerance_grad": largest, "max_iter": 4}
    bounds = stepped(net, criterion, x, y, **options)
    for name, _ in net.named_parameters():
        assert (bounds.bounds[f"updated.{name}"] == np.inf).all()
    optimizer = optim.LBFGS(net.parameters(), **options)
    for allow in ([], ["updated.*", "state.*"]):
        comparison = compare(net, criterion, x, y, optimizer=optimizer, allow_vacuous=allow)
        assert verdicts(comparison) == {"vacuous"}
        assert comparison.passed == bool(allow)
        assert comparison.blame is None
    assert "rounding decides" in comparison.explain("updated.0.weight")


def test_losses_that_float32_cannot_tell_apart_end_the_step_on_one_way_only():
    """A constant of 5 · 10⁵ beside a loss that falls by 10⁻³."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data = np.float32([[1.0]])
    x, y = np.float32([[1.0], [0.0]]), np.float32([[1.05], [1e3]])
    bounds = stepped(net, nn.HalfSquaredError(), x, y, max_iter=4, lr=0.5, tolerance_grad=0)
    assert (bounds.bounds["updated.weight"] == np.inf).all()
    again = stepped(net, nn.HalfSquaredError(), x, y, np.float64, max_iter=4, lr=0.5)
    assert (again.bounds["updated.weight"] < 1e-12).all()


def test_where_the_gradient_is_mostly_rounding_nothing_is_told():
    net, criterion, x, _ = regression(1)
    y = net(x) * np.float32(1 + 3e-7)
    bounds = stepped(net, criterion, x, y, max_iter=3, **EXACT)
    assert (bounds.bounds["updated.0.weight"] == np.inf).all()


def test_a_value_that_is_not_finite_fails_all_the_same(monkeypatch):
    net, criterion, x, y = regression(2)
    step = optim.LBFGS.step

    def broken(self, closure):
        loss = step(self, closure)
        next(net.parameters())  # the network given is not the one that runs
        self.param_groups[0]["params"][0].data[...] = np.nan
        return loss

    monkeypatch.setattr(optim.LBFGS, "step", broken)
    plain = stepped(net, criterion, x, y, max_iter=1)
    largest = max(np.abs(v).max() for n, v in plain.values.items() if n.startswith("grad."))
    optimizer = optim.LBFGS(net.parameters(), tolerance_grad=largest)
    comparison = compare(net, criterion, x, y, optimizer=optimizer, allow_vacuous=["*"])
    assert comparison.failures.iloc[0]["name"] == "updated.0.weight"
    assert comparison.failures.iloc[0].verdict == "nonfinite"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
@pytest.mark.parametrize("seed", range(4))
def test_many_iterations_are_judged_and_pass(seed, line_search_fn, dtype):
    net, criterion, x, y = regression(seed, dtype)
    optimizer = optim.LBFGS(net.parameters(), max_iter=8, line_search_fn=line_search_fn)
    comparison = compare(net, criterion, x, y, optimizer=optimizer, steps=2, allow_vacuous=["*"])
    assert comparison.passed, comparison
    assert verdicts(comparison.__class__(comparison.frame[comparison.frame.step == 1], "")) == {
        "ok"
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_witness_has_an_error_that_covers_its_own_formula(seed):
    """In float64 it is no more exact than either side: the error is what its sums may lose."""
    bounds = stepped(*regression(seed, np.float64), np.float64, max_iter=6)
    found = lbfgs_witness(bounds.lbfgs)
    assert found.keys() == {n for n in bounds.values if n.startswith(("updated", "state"))}
    for name, (value, error) in found.items():
        off = np.abs(value - bounds.values[name])
        assert (off <= error + bounds.bounds[name]).all(), name
        assert 0 < error.max() < 1e-6 * np.abs(value).max(), name


def test_a_weight_that_nothing_moves_may_be_off_by_the_smallest_number():
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = np.float32([[1.0, 0.0]])
    x, y = np.float32([[1.0, 0.0], [2.0, 0.0]]), np.float32([[3.0], [5.0]])
    bounds = stepped(net, nn.MSELoss(), x, y, max_iter=1, **EXACT)
    assert bounds.bounds["updated.weight"][0, 1] == np.finfo(np.float32).tiny


def test_the_way_of_a_step_is_how_often_it_evaluates_and_what_it_keeps():
    bounds = stepped(*regression(0), max_iter=3, max_eval=9, **EXACT)
    asked = []

    def errors(net, k):
        asked.append(k)
        return bounds.bounds

    course = _course(bounds.lbfgs, errors, _as_it_is, np.float64)
    names = [f"updated.{name}" for name, _ in regression(0)[0].named_parameters()]
    assert course.way == (3, 3, 2, *names, "state.d", "state.prev_flat_grad")
    assert asked == [0, 1, 2]


def test_the_same_bounds_each_time():
    net, criterion, x, y = regression(3)
    bounds = stepped(net, criterion, x, y, max_iter=4)
    again = lbfgs_bounds(
        bounds.lbfgs,
        np.float32,
        lambda at: bounds._here(at, bounds.lbfgs.x, bounds.lbfgs.y),
    )
    for name, e in again.items():
        np.testing.assert_array_equal(e, bounds.bounds[name])


@pytest.mark.parametrize("name", PROBED)
def test_the_numbers_are_as_they_were(name):
    unchanged("lbfgs", name, PROBED[name](), RTOL_OF_DRAWS)
