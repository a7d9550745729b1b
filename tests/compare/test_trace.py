"""What is recorded of a step: on either side the same rows, in causal order, as they were."""

import numpy as np
import torch

from compare.trace import Run, manual_step, torch_step
from manual import nn, optim
from torch_ref import twins


class Greedy(nn.Sigmoid):
    def backward(self, dy):
        dx = super().backward(dy)
        dy *= 0
        return dx


def test_a_recorded_step_keeps_what_was_given_and_leaves_nothing_behind():
    rows = []
    for activation in (nn.Sigmoid(), Greedy()):
        g = np.random.default_rng(0)
        net = nn.Sequential(nn.Linear(3, 4, generator=g), activation)
        x, y = (g.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
        step = manual_step(Run(net, nn.MSELoss()), x, y)
        rows.append({row.name: row.value for row in step})
        assert not any({"forward", "backward"} & vars(module).keys() for module in net)
    assert np.abs(rows[1]["d_activation.1"]).min() > 0
    np.testing.assert_array_equal(rows[1]["d_activation.1"], rows[0]["d_activation.1"])


def both_sides(net, x, y, optimizer=None):
    theirs = Run(*twins(net, nn.MSELoss(), optimizer))
    mine = manual_step(Run(net, nn.MSELoss(), optimizer), x, y)
    return mine, list(torch_step(theirs, torch.tensor(x), torch.tensor(y)).rows.values())


def test_a_nested_residual_is_recorded_from_the_inside_out():
    g = np.random.default_rng(0)
    deepest = nn.Residual(nn.Residual(nn.Linear(3, 3, dtype=np.float64, generator=g)))
    inner = nn.Sequential(nn.Linear(3, 3, dtype=np.float64, generator=g), deepest)
    net = nn.Sequential(nn.Tanh(), nn.Residual(inner), nn.Identity())
    x, y = g.normal(size=(5, 3)), g.normal(size=(5, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    mine, theirs = both_sides(net, x, y, optimizer)
    expected = ["x", "activation.0", "activation.1.module.0"]
    expected += [f"activation.1.module.1.{path}" for path in ("module.module", "module")]
    expected += ["activation.1.module.1", "activation.1", "activation.2", "loss"]
    expected += ["d_activation.2", "d_activation.1", "d_activation.1.module.1"]
    expected += ["d_activation.1.module.1.module", "d_activation.1.module.1.module.module"]
    deep, first = "1.module.1.module.module", "1.module.0"
    expected += [f"grad.{deep}.weight", f"grad.{deep}.bias"]
    expected += [f"d_x.{deep}", "d_x.1.module.1.module", f"d_activation.{first}"]
    expected += [f"grad.{first}.weight", f"grad.{first}.bias", "d_x.1.module"]
    expected += ["d_activation.0", "d_x"]
    expected += [f"updated.{p}.{name}" for p in (first, deep) for name in ("weight", "bias")]
    assert [row.name for row in theirs] == expected
    assert [row.name for row in mine] == expected
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-12, err_msg=a.name)


def test_every_output_of_an_identity_in_a_residual_has_a_gradient_of_its_own():
    """Identity returns its input, whose gradient is that of skip and branch together."""
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Identity(), nn.Residual(nn.Identity()), nn.Residual(nn.Identity()))
    x, y = g.normal(size=(5, 3)), g.normal(size=(5, 3))
    dy = 2 * (4 * x - y) / 15
    for rows in both_sides(net, x, y):
        values = {row.name: row.value for row in rows}
        for name, factor in {
            "activation.1.module": 1,
            "activation.1": 2,
            "activation.2.module": 2,
            "activation.2": 4,
        }.items():
            np.testing.assert_allclose(values[name], factor * x, err_msg=name)
        for name, factor in {
            "d_activation.2": 1,
            "d_activation.2.module": 1,
            "d_activation.1": 2,
            "d_activation.1.module": 2,
            "d_activation.0": 4,
            "d_x": 4,
        }.items():
            np.testing.assert_allclose(values[name], factor * dy, err_msg=name)


def test_what_a_step_changes_and_must_not_is_a_row():
    class Shifts(nn.Sigmoid):
        def forward(self, x):
            x += 1
            return super().forward(x)

    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 4, generator=g), Shifts())
    x, y = (g.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
    rows = {row.name: row.value for row in manual_step(Run(net, nn.MSELoss()), x, y)}
    assert (rows["activation.0"] != net[0](x)).all()

    class Greedier(nn.MSELoss):
        def forward(self, prediction, target):
            target *= 2
            return super().forward(prediction, target)

    rows = {row.name for row in manual_step(Run(net, Greedier()), x, y)}
    assert "y (changed)" in rows
