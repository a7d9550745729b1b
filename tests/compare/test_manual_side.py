"""What a recorded step leaves for a wrong backward to fall over."""

import numpy as np

from compare.trace import Run, manual_step
from compare.trace.manual_side import gradient_of_loss, spoil
from manual import nn


def test_what_a_gradient_will_be_written_over_is_no_number():
    weight, of_ones_own = nn.Parameter(np.ones((2, 3))), OwnParameter()
    for p in (weight, of_ones_own):
        p.grad = np.ones_like(p.data)
    spoil({"weight": weight, "own": of_ones_own})
    assert weight.grad is None
    assert of_ones_own.grad is None
    np.testing.assert_array_equal(weight.overwrite_grad(), np.full((2, 3), np.nan))


class OwnParameter:
    """Its gradient is an array or None, and that is all."""

    data = np.ones(2)


def test_training_finds_gradients_that_are_no_numbers_where_backward_gave_some():
    class Late(nn.Module):
        def __init__(self):
            self.never, self.both, self.late = (nn.Parameter(np.ones(2)) for _ in range(3))
            self.found = []

        def forward(self, x):
            return x

        def backward(self, dy):
            self.both.grad = np.full(2, 3.0)
            return dy

        def backward_parameters(self, dy):
            self.found += [(name, p.grad) for name, p in self.named_parameters()]
            self.found = [(name, g if g is None else g.copy()) for name, g in self.found]
            self.both.grad = np.full(2, 3.0)
            self.late.grad = np.full(2, 5.0)

    net = Late()
    x, y = np.ones((3, 2)), np.zeros((3, 2))
    names = [row.name for row in manual_step(Run(net, nn.MSELoss()), x, y)]
    found = dict(net.found)
    assert list(found) == ["never", "both", "late"]
    assert found["never"] is None
    assert found["late"] is None
    np.testing.assert_array_equal(found["both"], np.full(2, np.nan))
    assert [name for name in names if "(" in name] == ["grad.late (backward_parameters)"]


def test_a_criterion_of_ones_own_need_not_take_a_cotangent():
    class Own:
        def backward(self, *given):
            return given

    assert gradient_of_loss(Own(), None) == ()
    assert gradient_of_loss(Own(), 3.0) == (3.0,)


def test_the_loss_elsewhere_is_of_the_same_target():
    class Noting(nn.MSELoss):
        seen = []  # noqa: RUF012

        def forward(self, prediction, target):
            self.seen.append((self, target))
            return super().forward(prediction, target)

    criterion, y = Noting(), np.arange(6.0).reshape(3, 2)
    manual_step(Run(nn.Tanh(), criterion), np.ones((3, 2)), y)
    (own, first), (other, second) = Noting.seen
    assert own is criterion
    assert first is y
    assert other is not criterion
    assert second is not y
    np.testing.assert_array_equal(second, y)
