"""Sums over paths against both backwards, and the printed formulas against torch's."""

import importlib.util
from itertools import chain, combinations
from math import prod
from pathlib import Path

import numpy as np
import pytest

from manual import nn

PATH = Path(__file__).parents[2] / "examples" / "paths.py"
SPEC = importlib.util.spec_from_file_location("paths", PATH)
paths = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(paths)

EPS = np.finfo(float).eps
PROBLEMS = {"4-3-2-1": paths.training_notes, "2-3-2-2": paths.lecture_notes}
PRINTED = {
    "w01³": ("2",),
    "w21³": ("2",),
    "w31²": ("2", "y1"),
    "w01²": ("2", "y1"),
    "w12¹": ("2", "y1", "∂σ/∂w"),
    "u, as w21³": ("sign",),
    "w, as w31²": ("sign",),
}


@pytest.fixture(scope="module")
def lecture():
    problem = paths.lecture_notes()
    step = paths.forward(problem)
    return problem, step, {f.name: f for f in paths.printed_formulas(step, problem.y)}


@pytest.mark.parametrize("seed", [2, *range(100, 110)])
@pytest.mark.parametrize("name", PROBLEMS)
def test_sum_over_paths_is_the_gradient(name, seed):
    """A path is a product of at most 9 factors: the slopes σ(1 − σ) are rounded twice each, the
    loss slope three times, the product 8 times, and backprop's sums no more. 50 eps of the paths'
    sizes are twice that, for either side. torch's σ may be some ulp from ours, and 1 − σ
    multiplies that by σ/(1 − σ): at most 6 slopes on the two sides, 4 ulp each."""
    problem = PROBLEMS[name](seed)
    step = paths.forward(problem)
    hand, autograd = paths.by_hand(problem), paths.by_torch(problem)
    steepest = max(float((a / (1 - a)).max()) for a in step.a[1:])
    listed = paths.weights(problem.net)
    assert len(set(listed)) == len(listed) == sum(p.size for p in problem.net.parameters())
    assert len(listed) == {"4-3-2-1": 20, "2-3-2-2": 23}[name]
    for weight in listed:
        shares = [route.share for route in paths.routes(weight, step)]
        size, total = sum(map(abs, shares)), sum(shares)
        assert size > 0
        assert abs(weight.of(hand) - total) <= 50 * EPS * size, weight
        assert abs(weight.of(autograd) - total) <= (50 + 24 * steepest) * EPS * size, weight


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_path_comes_once(name):
    problem = PROBLEMS[name]()
    step = paths.forward(problem)
    widths = [len(a) for a in step.a]
    assert "-".join(map(str, widths)) == name
    for weight in paths.weights(problem.net):
        found = [route.neurons for route in paths.routes(weight, step)]
        assert len(set(found)) == len(found) == prod(widths[weight.layer + 1 :])
        for neurons in found:
            assert neurons[0] == weight.n
            assert len(neurons) == len(widths) - weight.layer
            assert all(1 <= k <= n for k, n in zip(neurons, widths[weight.layer :], strict=True))


def test_the_two_paths_of_a_deep_weight_written_out():
    """∂L/∂w21¹ = −2 (y − ŷ) ŷ (1 − ŷ) [w11³ a1² (1 − a1²) w11² + w21³ a2² (1 − a2²) w12²] ·
    a1¹ (1 − a1¹) x2, in the indices of the notes."""
    problem = paths.training_notes()
    w1, w2, w3 = (linear.weight.data for linear in problem.net[::2])
    h1 = 1 / (1 + np.exp(-w1 @ problem.x))
    h2 = 1 / (1 + np.exp(-w2 @ h1))
    (out,) = 1 / (1 + np.exp(-w3 @ h2))
    outer = -2 * (0.8 - out) * out * (1 - out)
    inner = h1[0] * (1 - h1[0]) * problem.x[1]
    expected = [outer * w3[0, k] * h2[k] * (1 - h2[k]) * w2[k, 0] * inner for k in (0, 1)]
    found = paths.routes(paths.Weight(1, 2, 1), paths.forward(problem))
    assert [route.neurons for route in found] == [(1, 1, 1), (1, 2, 1)]
    np.testing.assert_allclose([route.share for route in found], expected, rtol=1e-14)


def test_losses():
    """Σ (y − ŷ)² for the notes on training, ½ ‖y − a³‖² for the lecture notes."""
    for make, kind, factor in (
        (paths.training_notes, nn.SumSquaredError, 2),
        (paths.lecture_notes, nn.HalfSquaredError, 1),
    ):
        problem = make()
        step = paths.forward(problem)
        assert type(problem.criterion) is kind
        np.testing.assert_array_equal(step.dloss, -factor * (np.array(problem.y) - step.a[-1]))


def test_printed_formulas_and_their_faults(lecture):
    _, _, formulas = lecture
    assert {name: formula.faults for name, formula in formulas.items()} == PRINTED
    assert set(chain.from_iterable(PRINTED.values())) == set(paths.FAULTS)
    for name, formula in formulas.items():
        assert str(formula.weight) == name[-4:]


@pytest.mark.parametrize("name", PRINTED)
def test_mended_it_is_the_gradient(lecture, name):
    problem, step, formulas = lecture
    formula = formulas[name]
    size = sum(abs(route.share) for route in paths.routes(formula.weight, step))
    for gradients in (paths.by_hand(problem), paths.by_torch(problem)):
        assert abs(formula.value(()) - formula.weight.of(gradients)) <= 100 * EPS * size


@pytest.mark.parametrize("name", PRINTED)
def test_every_fault_makes_it_wrong(lecture, name):
    """Each by itself, and any of them together."""
    problem, _, formulas = lecture
    formula = formulas[name]
    right = formula.weight.of(paths.by_hand(problem))
    own = formula.faults
    for some in chain.from_iterable(combinations(own, k) for k in range(1, len(own) + 1)):
        assert abs(formula.value(some) - right) > 0.1 * abs(right), some


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed(lecture, name):
    """Twice torch's gradient for the targets (y1, y1), and once more x1 for w12¹; or minus it."""
    problem, step, formulas = lecture
    formula = formulas[name]
    factor = 2 if "2" in formula.faults else -1
    if "y1" in formula.faults:
        problem = problem._replace(y=(problem.y[0], problem.y[0]))
    if "∂σ/∂w" in formula.faults:
        factor *= problem.x[0]
    size = sum(abs(route.share) for route in paths.routes(formula.weight, step))
    expected = factor * formula.weight.of(paths.by_torch(problem))
    assert abs(formula.value(formula.faults) - expected) <= 1e-13 * max(size, abs(expected))


def test_what_it_prints(run_example, lecture):
    lines = run_example("paths")[0].splitlines()
    problem, _, formulas = lecture
    hand = paths.by_hand(problem)
    after = lines[lines.index(next(line for line in lines if "as printed and mended" in line)) :]
    for name, formula in formulas.items():
        (line,) = (line for line in after if line.startswith(f" {name} "))
        printed, right = formula.value(formula.faults), formula.weight.of(hand)
        figures = line.removeprefix(f" {name} ").split()
        assert figures[:3] == [f"{value:.6f}" for value in (printed, right, right)]
        assert figures[3] == f"{printed / right:.3f}"
    assert "right as printed for E = ½ ‖y − a³‖²: none" in lines
    assert "right as printed for E = ‖y − a³‖², without the ½: w01³, w21³" in lines
    training = paths.training_notes()
    step = paths.forward(training)
    for weight in paths.weights(training.net):
        (line,) = (line for line in lines if line.split()[:1] == [str(weight)] and "e" in line[-6:])
        total = sum(route.share for route in paths.routes(weight, step))
        assert line.split()[1] == str(len(paths.routes(weight, step)))
        assert line.split()[2] == f"{total:.9f}"
    assert any("23 weights, 58 paths" in line for line in lines)
