"""What is recorded of a step: on either side the same rows, in causal order, as they were."""

import numpy as np

from compare.trace import Run, manual_step
from manual import nn


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
