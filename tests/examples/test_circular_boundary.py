"""The learnt circle, beside its twin, the notes' parameters and the best of all lines."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from manual import nn
from torch_ref import twin

PATH = Path(__file__).parents[2] / "examples" / "circular_boundary.py"
SPEC = importlib.util.spec_from_file_location("circular_boundary", PATH)
circle = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(circle)


@pytest.fixture(scope="module")
def points():
    generator = np.random.default_rng(circle.SEED)
    return circle.sample(400, generator), circle.sample(2000, generator)


@pytest.fixture(scope="module")
def learnt(points):
    return {
        features: circle.learn(features, *points, np.random.default_rng(1))
        for features in (circle.plain, circle.squared)
    }


def test_points(points):
    """Half of the square lies in the circle: of n points, n/2 ± 5 √n/2."""
    for part in points:
        n = len(part.x)
        assert part.x.shape == (n, 2)
        assert part.y.shape == (n, 1)
        for (x1, x2), (y,) in zip(part.x, part.y, strict=True):
            assert y == (1 if x1 * x1 + x2 * x2 >= 1 else 0)
        assert abs(part.y.sum() - n / 2) <= 5 * np.sqrt(n) / 2
        assert np.abs(part.x).max() <= circle.SIDE


def test_the_notes_parameters_are_right_everywhere(points):
    for part in points:
        z = circle.NOTES[0] + circle.squared(part.x) @ circle.NOTES[1:]
        assert np.array_equal(z >= 0, part.y[:, 0] == 1)


def test_the_circle_is_learnt(learnt):
    """400 points leave gaps of some hundredths of the radius, so no nearer is Θ to be known."""
    own = learnt[circle.squared]
    assert own.accuracy[0] == 1
    assert own.accuracy[1] >= 0.98
    for theta in list(own.thetas.values())[1:]:
        np.testing.assert_allclose(theta / -theta[0], circle.NOTES, rtol=0, atol=0.05)


def test_theta_grows_without_end(learnt):
    """The training points can be divided, so the loss has no minimum."""
    own = learnt[circle.squared]
    sizes = [-theta[0] for theta in own.thetas.values()]
    assert list(own.thetas) == list(circle.STEPS)
    assert sizes[0] > 1
    assert sizes[2] > 1.3 * sizes[1] > 1.3**2 * sizes[0]
    assert own.losses[-1] < own.losses[199] < own.losses[19] < own.losses[0]


def test_no_line_does_it(learnt, points):
    own = learnt[circle.plain]
    for share, part in zip(own.accuracy, points, strict=True):
        assert 0.4 < share <= circle.best_line(part) < 0.75
    before, after = list(own.thetas.values())[1:]
    np.testing.assert_allclose(after, before, rtol=1e-3)  # here the loss has a minimum


def test_accuracy_is_the_share_of_points_on_their_side(learnt, points):
    for features, own in learnt.items():
        theta = own.thetas[circle.STEPS[-1]]
        for share, part in zip(own.accuracy, points, strict=True):
            z = theta[0] + features(part.x) @ theta[1:]
            assert share == np.mean((z >= 0) == (part.y[:, 0] == 1))


def test_twin_learns_the_same(points, monkeypatch):
    """50 steps of either side, in float64. The loss falls, so errors do not grow: 1e-12 is 5000
    roundings of Θ of size 10."""
    monkeypatch.setattr(circle, "STEPS", (50,))
    own = circle.learn(circle.squared, *points, np.random.default_rng(3))
    start = nn.Sequential(
        nn.Linear(4, 1, dtype=np.float64, generator=np.random.default_rng(3)), nn.Sigmoid()
    )
    theirs = twin(start)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1, momentum=0.9)
    x, y = torch.from_numpy(circle.squared(points[0].x)), torch.from_numpy(points[0].y)
    for loss in own.losses:
        optimizer.zero_grad()
        found = torch.nn.functional.binary_cross_entropy(theirs(x), y)
        assert abs(found.item() - loss) <= 1e-12
        found.backward()
        optimizer.step()
    theta = torch.cat([theirs[0].bias, theirs[0].weight[0]]).detach().numpy()
    np.testing.assert_allclose(own.thetas[50], theta, rtol=0, atol=1e-12)


def test_best_line():
    """By hand: three of XOR's four points, all of AND's; of a row 0 1 1 0 three, and all of one
    class; and rows in other directions that a line divides."""
    corners = np.array([[0.0, 0.1], [0.1, 1.0], [1.0, 0.0], [1.1, 1.1]])
    row = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    for x, y, share in (
        (corners, (0, 1, 1, 0), 0.75),
        (corners, (0, 0, 0, 1), 1),
        (corners, (1, 0, 0, 0), 1),
        (row, (0, 1, 1, 0), 0.75),
        (row, (1, 1, 1, 1), 1),
        (row, (0, 0, 0, 0), 1),
        (row @ [[1.0, -1.0], [0, 0]], (1, 0, 0, 0), 1),
        (row[[0, 2, 1, 3]] @ [[1.0, -1.0], [0, 0]], (1, 0, 1, 0), 1),
        (row[[0, 2, 1, 3]] @ [[0.0, 1.0], [0, 0]], (0, 1, 0, 1), 1),
    ):
        points = circle.Points(x, np.array(y, np.float64)[:, None])
        assert circle.best_line(points) == share, y


def test_what_it_prints(run_example, points):
    lines = run_example("circular_boundary")[0].splitlines()
    generator = np.random.default_rng(circle.SEED)
    for part in points:
        assert np.array_equal(circle.sample(len(part.x), generator).x, part.x)
    expected = [circle.learn(f, *points, generator) for f in (circle.plain, circle.squared)]
    starts = [" 1, x1, x2  ", " 1, x1, x2, x1², x2²  ", " the best of all lines "]
    rows = [line for line in lines if line.startswith(tuple(starts))]
    shares = [own.accuracy for own in expected] + [[circle.best_line(part) for part in points]]
    for line, start, pair in zip(rows, starts, shares, strict=True):
        assert line.startswith(start)
        assert line.split()[-2:] == [f"{share:.2%}" for share in pair]
    for line, own in zip(rows[:2], expected, strict=True):
        assert line.split()[-3] == f"{own.losses[-1]:.4f}"
    rows = [line.split() for line in lines if line.startswith(" step ")]
    for words, (step, theta) in zip(rows, expected[1].thetas.items(), strict=True):
        assert words[1] == str(step)
        assert words[2:7] == [f"{value:.3f}" for value in theta / -theta[0]]
        assert words[7:] == [f"{-theta[0]:.1f}", f"{expected[1].losses[step - 1]:.4f}"]
    (words,) = (line.split() for line in lines if line.startswith(" lecture notes "))
    assert words[2:] == ["-1.000", "0.000", "0.000", "1.000", "1.000", "1.0"]
    assert f"seed {circle.SEED};" in lines[0]
