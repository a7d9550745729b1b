"""What the witness asks, of whom, and with how many digits: by small numbers."""

import numpy as np
import pytest
import torch

from compare.oracle import Witness, witness
from compare.oracle.losses import loss_terms
from compare.oracle.noise import sums
from compare.oracle.witness import BCE_FLOOR, _Kept
from manual import nn, optim

EPS = np.finfo(float).eps
LONG = np.longdouble


def test_without_a_seed_the_draw_is_that_of_0():
    found, other = (w._entries((40, 50), [], 3) for w in (Witness(np.float32), Witness("f4", 0)))
    assert found == other


def test_an_output_has_the_noise_of_its_module():
    theta, x = {"weight": np.ones((1, 2))}, np.array([[1000.0, -1000.0]])
    y, error = Witness(np.float32).output(nn.Linear(2, 1, bias=False), theta, x)
    assert y == [[0]]
    assert error == pytest.approx(sums(3) * EPS * 2000, abs=1e-300)


def test_buffers_that_overflow_are_no_answer():
    module = nn.BatchNorm1d(1, dtype=np.float64)
    theta = {name: b.copy() for name, b in module.named_buffers()}
    found = Witness(np.float32).buffers(module, theta, np.array([[1e200], [-1e200]]))
    assert np.isnan(found["running_var"]).all()
    assert found["running_mean"][0] == [0]


def test_what_is_flat_keeps_nothing_else_from_being_asked():
    module = nn.BatchNorm1d(1, dtype=np.float64, eps=0.0).eval()
    theta = {"running_mean": np.array([1.0]), "running_var": np.array([4.0])}
    theta |= {"num_batches_tracked": np.array(3), "weight": np.array([6.0]), "bias": np.zeros(1)}
    wanted = {"num_batches_tracked": [], "": [], "weight": []}
    x, dy = np.array([[2.0], [7.0]]), np.array([[1.0], [10.0]])
    found = Witness(np.float32).gradients(module, None, theta, x, dy, wanted)
    assert found["num_batches_tracked"] == {(): (0, 0)}
    assert found[""][(1, 0)][0] == pytest.approx(30)  # 10 γ / σ
    assert found["weight"][(0,)][0] == pytest.approx(30.5)  # Σ dy x̂


def test_the_loss_is_one_of_each_row_where_rows_are_not_reduced():
    p, dloss = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]), np.array([2.0, -10.0])
    criterion = nn.CrossEntropyLoss(reduction="none")
    every = list(np.ndindex(2, 3))
    found = Witness(np.float64).dprediction(criterion, p, np.array([2, 0]), dloss, every)
    expected = [[0.25, 0.5, -0.75], [6.25, -3.75, -2.5]]  # dloss (p − 1)
    for index in every:
        assert found[index][0] == pytest.approx(expected[index[0]][index[1]])


def test_a_row_of_a_loss_is_asked_about_alone():
    """The same error whatever stands beside it, of the noise of its own terms."""
    g = np.random.default_rng(0)
    p, t = g.normal(size=(20, 1)), g.normal(size=(20, 1))
    criterion = nn.MSELoss(reduction="sum")
    for k in (0, 7):
        many = Witness(np.float32).dprediction(criterion, p, t, None, [(k, 0)])[(k, 0)]
        alone = Witness(np.float32).dprediction(criterion, p[[k]], t[[k]], None, [(0, 0)])[(0, 0)]
        assert many == alone


def test_at_the_kink_of_a_loss_it_is_torchs_choice():
    p = np.array([[1.0], [3.0], [2.0]])
    found = Witness(np.float64).dprediction(
        nn.L1Loss(reduction="sum"), p, np.full((3, 1), 2.0), None, []
    )
    assert [found[(k, 0)][0] for k in range(3)] == pytest.approx([-1, 1, 0])


def test_torchs_floor_of_bce_is_on_both_sides():
    near = LONG(BCE_FLOOR) + LONG(BCE_FLOOR) ** 2
    p = np.array([near + k * np.spacing(near) for k in range(-8, 9)])
    equal = p[p * (1 - p) == BCE_FLOOR]
    assert equal.size
    p = np.array([equal[0], 2 * equal[0], 1 - equal[0] / 2, 0.5])
    found = Witness(np.float64).dprediction(nn.BCELoss(reduction="sum"), p, np.ones(4), None, [])
    assert [bool(np.isnan(found[(k,)][0])) for k in range(4)] == [True, False, True, False]


def test_an_update_keeps_digits_that_are_given():
    own = optim.SGD([nn.Parameter(np.ones(1))], lr=0.5)
    third = np.array([LONG(1) / 3])
    value, _ = Witness(np.float64).updated(own, own.param_groups[0], third, np.zeros(1), {})
    assert value == third


def test_where_a_longdouble_is_a_double_the_lower_precision_is_single(monkeypatch):
    assert Witness(np.float64)._lower == (np.float64 if np.finfo(LONG).eps < EPS else np.float32)
    monkeypatch.setattr(np, "longdouble", np.float64)
    assert Witness(np.float64)._lower == np.float32


def test_the_noise_of_a_loss_is_that_of_the_values_it_goes_with():
    calls = []

    def terms(prediction, target):
        calls.append(1)
        return prediction * target, prediction + target

    kept = _Kept(terms, np.array([10.0]))
    first, second = np.array([1.0]), np.array([2.0])
    y, z = kept(first), kept(second)
    assert kept.noise(second, z) == [12]
    assert len(calls) == 2  # it was computed with them
    assert kept.noise(first, y) == [11]
    assert z == [20]


class Wavy(nn.Module):
    """tanh(a x), by nobody's definition."""

    calls = 0

    def __init__(self):
        self.a = nn.Parameter(np.ones(1))

    def forward(self, x):
        Wavy.calls += 1
        return np.tanh(self.a.data * x)


class TorchWavy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(self.a * x)


def test_a_parameter_of_a_module_of_ones_own_may_bend_it():
    theta, x = {"a": np.array([0.5])}, np.array([[2.0]])
    Wavy.calls = 0
    wanted = {"a": []}
    found = Witness(np.float64).gradients(Wavy(), TorchWavy(), theta, x, np.ones((1, 1)), wanted)
    value, error = found["a"][(0,)]
    assert abs(value - 2 / np.cosh(1) ** 2) <= error < 1e-14
    assert Wavy.calls < 30  # no steps over a thousand lengths


def test_steps_are_long_where_nothing_bends():
    """A BatchNorm1d by its weight: nothing but the roundings of the value and of its sum."""
    module, x = nn.BatchNorm1d(1, 0.0, dtype=np.float64), np.array([[1.0], [2.0], [6.0]])
    theta = {"weight": np.ones(1), "bias": np.array([5.0])}
    dy = np.array([[1.0], [1.0], [0.0]])
    found = Witness(np.float32).gradients(module, None, theta, x, dy, {"weight": [], "": []})
    value, error = found["weight"][(0,)]
    assert abs(value + 3 / np.sqrt(14 / 3)) <= error < 100 * EPS
    assert np.isfinite(found[""][(2, 0)]).all()


def test_rows_that_share_a_weight_of_each_entry_are_asked_about_together():
    criterion = nn.BCELoss(np.array([[1.0, 2.0], [3.0, 4.0]]), reduction="sum")
    p = np.array([[0.5, 0.25], [0.5, 0.2]])
    found = Witness(np.float64).dprediction(criterion, p, np.ones((2, 2)), None, [])
    expected = {(0, 0): -2, (0, 1): -8, (1, 0): -6, (1, 1): -20}  # −w / p
    assert {index: pytest.approx(value) for index, (value, _) in found.items()} == expected


def test_a_loss_goes_with_its_own_noise(monkeypatch):
    asked = []

    def derivative(f, at, index, cotangent, noise=None):
        asked.append(noise(at, f(at)))
        return 0.0, 0.0

    monkeypatch.setattr(witness, "derivative", derivative)
    p, target = np.array([[1.0, 2.0, 3.0]]), np.array([1])
    Witness(np.float32).dprediction(nn.CrossEntropyLoss(), p, target, None, [])
    expected = loss_terms(nn.CrossEntropyLoss(), (p, target))(p, target)[1]
    assert len(asked) == 3
    assert all(np.array_equal(error, expected) for error in asked)
