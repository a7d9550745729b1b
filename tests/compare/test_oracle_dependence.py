"""Through which part of a batch an entry goes, and how long a step it allows."""

import numpy as np
import pytest

from compare.oracle.dependence import LONG, part, scale
from manual import nn

X = np.arange(24.0).reshape(3, 2, 4) - 7
DY = 100 + X
PLANE, D_PLANE = X[:, :, 0], DY[:, :, 0]


def parts(module, theta, x, dy, name, index):
    theta = {key: np.asarray(value) for key, value in theta.items()}
    theta, x, dy, index = part(module, theta, x, dy, name, index)
    return {key: value.tolist() for key, value in theta.items()}, x.tolist(), dy.tolist(), index


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize(
    ("module", "theta"),
    [
        (nn.Linear(4, 4), {"weight": np.eye(4), "bias": np.ones(4)}),
        (nn.PReLU(), {"weight": [0.5]}),
        (nn.Tanh(), {}),
        (nn.Softmax(-1), {}),
        (nn.Softmax(2), {}),
        (nn.LogSoftmax(1), {}),
    ],
    ids=repr,
)
def test_an_input_of_a_module_that_is_rowwise_goes_into_its_row(module, theta):
    as_lists = {key: np.asarray(value).tolist() for key, value in theta.items()}
    expected = as_lists, X[1:2].tolist(), DY[1:2].tolist(), (0, 1, 3)
    assert parts(module, theta, X, DY, "", (1, 1, 3)) == expected
    one = X[0, 0], DY[0, 0]
    if module.__class__ in (nn.Linear, nn.PReLU, nn.Tanh):
        whole = as_lists, one[0].tolist(), one[1].tolist(), (2,)
        assert parts(module, theta, *one, "", (2,)) == whole


@pytest.mark.parametrize(
    ("module", "x", "dy"),
    [
        (nn.Softmax(0), X, DY),
        (nn.LogSoftmax(-3), X, DY),
        (nn.Softmax(None), X, DY),  # rank 3: over dimension 0
        (nn.Softmax(-1), X[0, 0], DY[0, 0]),
        (nn.Softmax(0), X[0, 0, 0], DY[0, 0, 0]),
        (nn.Tanh(), X[0, 0, 0], DY[0, 0, 0]),
        (nn.Flatten(0), X, DY),
    ],
    ids=repr,
)
def test_an_input_of_any_other_goes_into_all(module, x, dy):
    index = (1, 1, 3)[: x.ndim]
    assert parts(module, {}, x, dy, "", index) == ({}, x.tolist(), dy.tolist(), index)


def test_without_a_dim_a_matrix_is_taken_row_by_row():
    found = parts(nn.Softmax(None), {}, PLANE, D_PLANE, "", (2, 0))
    assert found == ({}, PLANE[2:].tolist(), D_PLANE[2:].tolist(), (0, 0))


def test_a_parameter_of_a_linear_goes_into_its_output():
    theta = {"weight": np.arange(12.0).reshape(3, 4), "bias": np.arange(3.0)}
    x, dy = X, np.arange(18.0).reshape(3, 2, 3)
    own = {"weight": [[4, 5, 6, 7]], "bias": [1]}
    expected = x.tolist(), dy[..., 1:2].tolist()
    assert parts(nn.Linear(4, 3), theta, x, dy, "weight", (1, 2)) == (own, *expected, (0, 2))
    assert parts(nn.Linear(4, 3), theta, x, dy, "bias", (1,)) == (own, *expected, (0,))
    # … and that of another module into all.
    found = parts(nn.PReLU(2), {"weight": [1.0, 2.0]}, X, DY, "weight", (1,))
    assert found == ({"weight": [1, 2]}, X.tolist(), DY.tolist(), (1,))


def test_whatever_goes_into_a_batch_norm_goes_into_its_channel():
    module = nn.BatchNorm1d(3)
    theta = {"weight": np.arange(3.0), "bias": np.arange(3.0) + 5, "num_batches_tracked": 7}
    x, dy = X.reshape(2, 3, 4), DY.reshape(2, 3, 4)
    own = {"weight": [1], "bias": [6], "num_batches_tracked": 7}
    expected = x[:, 1:2].tolist(), dy[:, 1:2].tolist()
    assert parts(module, theta, x, dy, "", (1, 1, 3)) == (own, *expected, (1, 0, 3))
    assert parts(module, theta, x, dy, "bias", (1,)) == (own, *expected, (0,))
    x, dy = x[:, :, 0], dy[:, :, 0]
    expected = x[:, 1:2].tolist(), dy[:, 1:2].tolist()
    assert parts(module, theta, x, dy, "", (0, 1)) == (own, *expected, (0, 0))


def test_how_far_a_step_may_go():
    x = np.array([[3.0, -5.0], [1.0, 1.0]])
    batch_norm = nn.BatchNorm1d(2, eps=0.25)
    running = {"running_mean": x[0]}
    for module in (
        *(nn.Linear(2, 2), nn.Residual(nn.Tanh()), nn.Identity(), nn.Dropout(0.5), nn.Flatten()),
        batch_norm.eval(),
    ):
        assert scale(module, running, x, "", x) == 5 * 2**14 == 5 * LONG
    assert scale(nn.Identity(), {}, x, "", 0 * x) == LONG
    # Of x it bends over about one, unless it is told; of a parameter nothing does.
    assert scale(nn.Tanh(), {}, x, "", x) is None
    assert scale(nn.PReLU(), {}, x, "", x) is None
    assert scale(nn.PReLU(), {}, x, "weight", np.array([-0.5])) == LONG / 2
    batch_norm.train()
    assert scale(batch_norm, running, x, "weight", np.array([3.0])) == 3 * LONG
    assert scale(batch_norm, running, x, "", x) == np.sqrt(9 + 0.25)  # (9 + 25 + 1 + 1) / 4 − 0
    batch_norm.eval()
    assert scale(batch_norm, {}, x, "", x) == np.sqrt(9 + 0.25)  # it has no running ones
