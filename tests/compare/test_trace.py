"""What is recorded of a step: on either side the same rows, in causal order, as they were."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from compare.sides import torch_run
from compare.trace import (
    Passage,
    Run,
    StepError,
    TorchStep,
    cotangent,
    layerwise_step,
    lbfgs_state,
    manual_step,
    named_buffers,
    prediction_row,
    torch_step,
)
from compare.trace.manual_side import scalar
from compare.trace.record import same
from manual import nn, optim
from torch_ref import modules as modules_of_torch
from torch_ref import twins

NAN = np.nan


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
        stage = {"d": "backward", "grad": "backward", "updated": "updated"}
        expected = stage.get(a.name.partition("_")[0].partition(".")[0], "forward")
        assert (a.stage, b.stage) == (expected, expected), a.name


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


# All that a step has.


def linear(n_in=3, n_out=2, dtype=np.float64):
    return nn.Linear(n_in, n_out, dtype=dtype, generator=np.random.default_rng(n_in))


def whole(kind=optim.SGD, clip=None, **options):
    """Both sides of a network with everything, and what they are given."""
    net = nn.Sequential(linear(), nn.BatchNorm1d(2, dtype=np.float64))
    optimizer = kind(net.parameters(), lr=0.5, **options)
    scheduler = optim.StepLR(optimizer, 1, gamma=0.25)
    run = Run(net, nn.MSELoss(), optimizer, scheduler, clip)
    g = np.random.default_rng(0)
    return run, torch_run(run, None, "cpu"), g.normal(size=(5, 3)), g.normal(size=(5, 2))


def by_norm():
    return partial(optim.clip_grad_norm_, max_norm=0.125)


NAMES = ["0.weight", "0.bias", "1.weight", "1.bias"]
BUFFERS = [f"buffer.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]
FORWARD = ["x", "activation.0", "activation.1", *BUFFERS, "loss"]
BACKWARD = ["d_activation.1", "grad.1.weight", "grad.1.bias"]
BACKWARD += ["d_activation.0", "grad.0.weight", "grad.0.bias", "d_x"]
STAGES = dict.fromkeys(FORWARD, "forward") | dict.fromkeys(BACKWARD, "backward")
STAGES |= dict.fromkeys(["grad_norm", *(f"clipped.{name}" for name in NAMES)], "backward")
STAGES |= dict.fromkeys([*(f"updated.{name}" for name in NAMES), "lr.0"], "updated")


def test_every_row_has_its_place_and_stage_and_is_the_same_on_all_sides():
    run, torchs, x, y = whole(clip=by_norm(), momentum=0.5)
    layers = copy.deepcopy(run)
    theirs = torch_step(torchs, torch.tensor(x), torch.tensor(y)).rows
    mine = {row.name: row for row in manual_step(run, x, y)}
    torchs = torch_run(layers, None, "cpu")
    fed, errors = layerwise_step(layers, x, y, torch_step(torchs, torch.tensor(x), torch.tensor(y)))
    assert errors == []
    for rows in (theirs, mine, fed):
        assert {name: row.stage for name, row in rows.items()} == STAGES
        for name, row in rows.items():
            np.testing.assert_allclose(row.value, theirs[name].value, 1e-12, 1e-15, err_msg=name)
            assert row.value.dtype == theirs[name].value.dtype
            assert row.expected is None
    assert list(mine) == list(theirs) == list(STAGES)
    assert mine["lr.0"].value == 0.125


def test_l_bfgs_is_recorded_with_its_state_and_its_gradients_are_clipped():
    by_value = partial(optim.clip_grad_value_, clip_value=0.0625)
    for clip in (None, by_value, by_norm()):
        run, torchs, x, y = whole(optim.LBFGS, clip, max_iter=3)
        layers = copy.deepcopy(run)
        theirs = torch_step(torchs, torch.tensor(x), torch.tensor(y))
        mine = {row.name: row for row in manual_step(run, x, y)}
        state = ["state.d", "state.prev_flat_grad"]
        assert list(mine) == list(theirs.rows)
        names = list(theirs.rows)
        assert names[names.index("updated.0.weight") - 2 :][:2] == state
        for name, row in theirs.rows.items():
            np.testing.assert_allclose(mine[name].value, row.value, 1e-9, 1e-9, err_msg=name)
        assert mine["state.d"].stage == "updated"
        if clip is not None:
            assert np.abs(mine["state.prev_flat_grad"].value).max() <= 0.125
        fed, _ = layerwise_step(layers, x, y, theirs)  # has no layer
        assert not [name for name in fed if name.startswith(("updated", "state"))]
        assert fed["lr.0"].value == 0.125


def test_what_was_recorded_of_manuals_side_stays_as_it_was():
    run, _, x, y = whole(clip=by_norm())
    rows = manual_step(run, x, y)
    kept = [row.value.copy() for row in rows]
    manual_step(run, 2 * x, y)
    for value, row in zip(kept, rows, strict=True):
        np.testing.assert_array_equal(row.value, value, err_msg=row.name)


def test_a_clip_that_returns_nothing_has_no_norm():
    run, torchs, x, y = whole(clip=partial(optim.clip_grad_value_, clip_value=0.125))
    expected = [name for name in STAGES if name != "grad_norm"]
    assert [row.name for row in manual_step(run, x, y)] == expected
    assert list(torch_step(torchs, torch.tensor(x), torch.tensor(y)).rows) == expected


def test_what_has_no_gradient_has_no_row_of_one():
    class Without(nn.Linear):
        def backward_parameters(self, dy):
            super().backward_parameters(dy)
            self.bias.grad = None

    g = np.random.default_rng(0)
    net = nn.Sequential(Without(3, 2, dtype=np.float64, generator=g))
    rows = manual_step(Run(net, nn.MSELoss(), clip=by_norm()), np.ones((4, 3)), np.ones((4, 2)))
    names = [row.name for row in rows]
    assert names[-3:] == ["d_x", "grad_norm", "clipped.0.weight"]
    assert "grad.0.bias" not in names
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2, dtype=torch.float64))
    theirs[0].bias.requires_grad_(False)
    ones = torch.ones(4, 3, dtype=torch.float64)
    names = list(torch_step(Run(theirs, torch.nn.MSELoss()), ones, ones[:, :2]).rows)
    assert names[-2:] == ["grad.0.weight", "d_x"]


# What raises.


class Raises(nn.Tanh):
    def forward(self, x):
        raise ValueError("not today")


class RaisesLater(nn.Tanh):
    def backward(self, dy):
        raise ZeroDivisionError("not today")


@pytest.mark.parametrize(
    ("kind", "told", "recorded"),
    [
        (Raises, "ValueError", ["x", "activation.0"]),
        (RaisesLater, "ZeroDivisionError", ["x", "activation.0", "activation.1"]),
    ],
)
def test_what_was_recorded_until_something_raises_is_handed_on(kind, told, recorded):
    net = nn.Sequential(linear(), kind())
    with pytest.raises(StepError) as caught:
        manual_step(Run(net, nn.MSELoss()), np.ones((4, 3)), np.ones((4, 2)))
    error = caught.value
    assert str(error) == f"manual raised {told}: not today"
    assert [row.name for row in error.rows] == recorded
    assert error.error is error.__cause__
    assert type(error.error).__name__ == told
    assert not any({"forward", "backward"} & vars(module).keys() for module in net)


def test_what_raises_layer_by_layer_is_said():
    for kind, what in ((Raises, "forward"), (RaisesLater, "backward")):
        given = nn.Sequential(linear(), kind())
        theirs = torch_run(Run(nn.Sequential(linear(), nn.Tanh()), nn.MSELoss()), None, "cpu")
        ones = np.ones((4, 3)), np.ones((4, 2))
        step = torch_step(theirs, *map(torch.tensor, ones))
        rows, errors = layerwise_step(Run(given, nn.MSELoss()), *ones, step)
        name = {"forward": "ValueError", "backward": "ZeroDivisionError"}[what]
        first = f"manual's {what} of {kind.__name__} '1' raised {name}: not today"
        assert errors[0] == first
        assert len(errors) == 1 + (what == "forward")  # a backward after no forward
        assert "loss" in rows
        assert ("activation.1" in rows, "d_activation.0" in rows) == (what == "backward", False)


def fed(net=None, criterion=None, optimizer=None):
    """layerwise_step of these, beside a right twin."""
    right = nn.Sequential(linear(), nn.Tanh())
    theirs = torch_run(Run(right, nn.MSELoss(), optim.SGD(right.parameters(), lr=0.5)), None, "cpu")
    net = right if net is None else net
    run = Run(net, criterion or nn.MSELoss(), optimizer and optimizer(net.parameters(), lr=0.5))
    x, y = np.arange(12.0).reshape(4, 3), np.ones((4, 2))
    rows, errors = layerwise_step(run, x, y, torch_step(theirs, torch.tensor(x), torch.tensor(y)))
    return rows, errors, x


def raising(kind, method):
    def raises(self, *given):
        raise KeyError("not today")

    return type("Raising", (kind,), {method: raises})


def test_where_a_whole_part_raises_that_is_said():
    def pair(kind):
        return kind(linear(), nn.Tanh())

    every = {"x", "activation.0", "activation.1", "loss", "d_activation.1", "d_activation.0"}
    every |= {"grad.0.weight", "grad.0.bias", "d_x"}
    for given, what, rows in (
        ({"net": pair(raising(nn.Sequential, "forward"))}, "forward", {"x", "loss"}),
        ({"net": pair(raising(nn.Sequential, "backward"))}, "backward", None),
        ({"criterion": raising(nn.MSELoss, "forward")()}, "loss", None),
        ({"criterion": raising(nn.MSELoss, "backward")()}, "loss backward", every),
        ({"optimizer": raising(optim.SGD, "step")}, "update", every),
    ):
        found, errors, _ = fed(**given)
        assert errors[0] == f"manual's {what} raised KeyError: 'not today'"
        if what == "loss backward":
            rows = rows - {"d_activation.1"}
        elif what == "loss":
            rows = {"x", "activation.0", "activation.1"}
        elif what == "backward":
            rows = {"x", "activation.0", "activation.1", "loss", "d_activation.1"}
        assert set(found) >= rows
        if what != "forward":
            assert set(found) == rows
            assert len(errors) == 1


def test_what_is_no_array_is_said_too():
    class Listing(nn.Tanh):
        def forward(self, x):
            return super().forward(x).tolist()

    rows, errors, _ = fed(nn.Sequential(linear(), Listing()))
    expected = "manual's forward of Listing '1' returned a list, expected an ndarray"
    assert errors[0] == expected
    assert "activation.1" not in rows


def test_what_was_handed_on_and_changed_is_a_row():
    class Changes(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            x *= 2
            return y

    class Spoils(nn.MSELoss):
        def backward(self, dloss=None):
            found = super().backward(dloss)
            prediction_of_it.append(self.spoilt)
            self.spoilt[...] = 7
            return found

        def forward(self, prediction, target):
            self.spoilt = prediction
            return super().forward(prediction, target)

    prediction_of_it = []
    g = np.random.default_rng(3)
    net = nn.Sequential(Changes(3, 2, dtype=np.float64, generator=g), nn.Tanh())
    rows, _, x = fed(net, Spoils())
    changed = rows["x (changed)"]
    assert changed.stage == "forward"
    np.testing.assert_array_equal(changed.value, 2 * x)
    np.testing.assert_array_equal(changed.expected, x)
    np.testing.assert_array_equal(rows["x"].value, x)
    assert rows["prediction (changed)"].value.max() == 7
    assert prediction_of_it[0] is not rows["prediction (changed)"].value
    assert [name for name in rows if "changed" in name] == ["x (changed)", "prediction (changed)"]


def test_each_of_them_by_its_name():
    def changing(kind):
        class Changes(kind):
            def forward(self, x):
                y = super().forward(x)
                x *= 2
                return y

            def backward(self, dy):
                dx = super().backward(dy)
                dy *= 2
                return dx

        return Changes

    first = changing(nn.Linear)(3, 2, dtype=np.float64, generator=np.random.default_rng(3))
    rows, errors, _ = fed(nn.Sequential(first, changing(nn.Tanh)()))
    assert errors == []
    expected = ["x", "activation.0", "d_activation.1", "d_activation.0"]
    changed = [row for row in rows.values() if "(" in row.name]
    assert [row.name for row in changed] == [f"{name} (changed)" for name in expected]
    for row in changed:
        np.testing.assert_array_equal(row.value, 2 * row.expected)


def test_a_loss_that_is_a_python_float_is_recorded_too():
    class Floats(nn.MSELoss):
        def forward(self, prediction, target):
            return float(super().forward(prediction, target))

    rows, errors, _ = fed(criterion=Floats())
    assert errors == []
    assert rows["loss"].value.dtype == np.float64


def test_a_part_that_changes_nothing_may_be_left_out_on_the_way_back():
    class Short(nn.Sequential):
        def backward(self, dy):
            return self[0].backward(dy)

    right = nn.Sequential(linear(), nn.Identity())
    x, y = np.arange(12.0).reshape(4, 3), np.ones((4, 2))
    theirs = torch_run(Run(right, nn.MSELoss()), None, "cpu")
    step = torch_step(theirs, torch.tensor(x), torch.tensor(y))
    net = Short(linear(), nn.Identity())
    rows, errors = layerwise_step(Run(net, nn.MSELoss()), x, y, step)
    assert (rows.keys(), errors) == (step.rows.keys(), [])


def test_of_a_backward_that_raises_no_gradient_counts():
    class Halfway(nn.Linear):
        def backward_parameters(self, dy):
            super().backward_parameters(dy)
            raise KeyError("halfway")

    first = Halfway(3, 2, dtype=np.float64, generator=np.random.default_rng(3))
    rows, errors, _ = fed(nn.Sequential(first, nn.Tanh()))
    assert errors == ["manual's backward of Halfway '0' raised KeyError: 'halfway'"]
    assert set(rows) == {
        *("x", "activation.0", "activation.1", "loss", "d_activation.1", "d_activation.0")
    }


# Layer by layer.


def test_every_part_starts_from_torchs_values():
    """Which here are other ones than it would have itself."""
    run, torchs, x, y = whole(clip=by_norm())
    theirs = torch_step(torchs, torch.tensor(x), torch.tensor(y))
    g = np.random.default_rng(1)
    other = {n: r._replace(value=g.normal(size=r.value.shape)) for n, r in theirs.rows.items()}
    passages = {
        path: Passage(p.x, *(g.normal(size=v.shape) for v in (p.y, p.dy, p.dx)))
        for path, p in theirs.passages.items()
    }
    other["d_x"] = other["d_x"]._replace(value=passages["0"].dx)
    prediction = g.normal(size=(5, 2))
    start = {name: p.data.copy() for name, p in run.net.named_parameters()}
    rows, errors = layerwise_step(run, x, y, TorchStep(other, passages, prediction))
    assert errors == []

    def same_as(name, value):
        np.testing.assert_allclose(rows[name].value, value, 1e-12, 1e-15, err_msg=name)

    z = passages["0"].y  # what torch has between the two
    same_as("activation.0", linear()(x))
    same_as("activation.1", (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5))
    same_as("loss", np.mean((prediction - y) ** 2))
    same_as("d_activation.1", 2 * (prediction - y) / y.size)
    same_as("grad.1.bias", other["d_activation.1"].value.sum(0))
    same_as("grad.0.bias", passages["1"].dx.sum(0))
    same_as("d_x", passages["1"].dx @ start["0.weight"])
    gradients = [other[f"grad.{name}"].value for name in NAMES]
    norm = np.sqrt(sum((value**2).sum() for value in gradients))
    same_as("grad_norm", norm)
    for name, value in zip(NAMES, gradients, strict=True):
        same_as(f"clipped.{name}", value * 0.125 / (norm + 1e-6))
        same_as(f"updated.{name}", start[name] - 0.5 * other[f"clipped.{name}"].value)
    assert rows["prediction"].stage == "forward"
    assert rows["prediction"].expected is prediction
    np.testing.assert_array_equal(rows["prediction"].value, passages["1"].y)
    np.testing.assert_array_equal(rows["x"].value, x)


def test_what_torch_did_not_run_is_handed_on_as_it_is():
    net = nn.Sequential(linear(), nn.Tanh())
    theirs = torch_run(Run(net, nn.MSELoss()), None, "cpu")
    x, y = np.arange(12.0).reshape(4, 3) / 9, np.ones((4, 2))
    step = torch_step(theirs, torch.tensor(x), torch.tensor(y))
    first, last = step.passages.values()
    for passages in ({"0": first}, {"0": first, "1": last._replace(dx=None)}):
        rows, errors = layerwise_step(
            Run(net, nn.MSELoss()), x, y, step._replace(passages=passages)
        )
        assert errors == []
        assert rows.keys() == step.rows.keys() | ({"prediction"} & rows.keys())
        for name, row in step.rows.items():
            np.testing.assert_allclose(rows[name].value, row.value, 1e-12, 1e-15, err_msg=name)


def test_what_torch_has_not_is_done_without():
    """A gradient of the prediction is then manual's own; what has no gradient is not clipped."""
    run, torchs, x, y = whole(clip=by_norm())
    step = torch_step(torchs, torch.tensor(x), torch.tensor(y))
    gone = ("d_activation.1", "grad.1.bias", "clipped.1.bias")
    kept = {name: row for name, row in step.rows.items() if name not in gone}
    rows, errors = layerwise_step(run, x, y, step._replace(rows=kept))
    assert errors == []
    assert rows.keys() == step.rows.keys() - {"clipped.1.bias"}
    for name in ("d_activation.1", "grad.1.bias", "d_activation.0"):
        np.testing.assert_allclose(rows[name].value, step.rows[name].value, 1e-12, 1e-15)


def test_the_cotangent_of_a_loss_that_is_no_scalar_is_of_the_predictions_dtype():
    seen = []

    class Noting(nn.MSELoss):
        def backward(self, dloss=None):
            seen.append(dloss)
            return super().backward(dloss)

    def draw(shape):
        return np.full(shape, 3.0)

    net, criterion = linear(dtype=np.float32), Noting(reduction="none")
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    theirs = torch_run(Run(net, nn.MSELoss(reduction="none")), None, "cpu")
    step = torch_step(theirs, torch.tensor(x), torch.tensor(y), draw)
    mine = {row.name: row.value for row in manual_step(Run(net, criterion), x, y, draw)}
    fed, errors = layerwise_step(Run(net, criterion), x, y, step, draw)
    assert errors == []
    expected = np.full((4, 2), 3, np.float32)
    assert len(seen) == 3  # once more for backward_parameters
    for dloss in seen:
        np.testing.assert_array_equal(dloss, expected, strict=True)
    for rows in (mine, {name: row.value for name, row in fed.items()}):
        np.testing.assert_allclose(rows["d_activation"], step.rows["d_activation"].value, 1e-6)


def test_a_gradient_that_comes_by_on_another_way_is_noted():
    """Here backward hands on twice what the second module returns."""

    class Doubles(nn.Sequential):
        def backward(self, dy):
            first, second = self
            return first.backward(2 * second.backward(dy))

    g = np.random.default_rng(0)
    net = Doubles(linear(), nn.Tanh())
    theirs = torch_run(Run(nn.Sequential(linear(), nn.Tanh()), nn.MSELoss()), None, "cpu")
    x, y = g.normal(size=(4, 3)), g.normal(size=(4, 2))
    step = torch_step(theirs, torch.tensor(x), torch.tensor(y))
    rows, _ = layerwise_step(Run(net, nn.MSELoss()), x, y, step)
    expected = 2 * step.rows["d_activation.0"].value
    np.testing.assert_array_equal(rows["d_activation.0"].value, expected)
    assert rows["d_activation.0"].stage == "backward"


# What must not come back.


def test_a_forward_elsewhere_is_of_copies():
    class Noting(nn.Tanh):
        seen = []  # noqa: RUF012

        def forward(self, x):
            self.seen.append((self, x.copy()))
            return super().forward(x)

    class Doubling(nn.MSELoss):
        def forward(self, prediction, target):
            target *= 2
            return super().forward(prediction, target)

    net = Noting()
    x = np.float32([[1, 2], [3, 4]])
    y = np.ones((2, 2), np.float32)
    rows = {row.name: row for row in manual_step(Run(net, Doubling()), x, y)}
    (own, first), (other, second) = net.seen
    assert own is net
    assert other is not net
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, np.float32([[3.5, 2.625], [1.75, 0.875]]), strict=True)
    changed = rows["y (changed)"]
    assert (changed.stage, changed.value[0, 0], changed.expected[0, 0]) == ("forward", 2, 1)


class Trained(nn.Linear):
    """`in_training` is what backward_parameters does; backward always does the right thing."""

    def __init__(self, in_training):
        super().__init__(3, 2, dtype=np.float64, generator=np.random.default_rng(0))
        self.in_training = in_training

    def backward(self, dy):
        nn.Linear.backward_parameters(self, dy)
        return dy @ self.weight.data

    def backward_parameters(self, dy):
        nn.Linear.backward_parameters(self, dy)
        self.in_training(self)


def test_what_training_does_otherwise_is_a_row_with_what_it_must_be():
    def trained(change):
        net = nn.Sequential(Trained(change))
        x = np.arange(12.0).reshape(4, 3)
        rows = {row.name: row for row in manual_step(Run(net, nn.MSELoss()), x, np.ones((4, 2)))}
        return rows, rows.get("grad.0.bias (backward_parameters)")

    rows, found = trained(lambda linear: None)
    assert found is None

    def doubled(linear):
        linear.bias.grad = 2 * linear.bias.grad

    rows, found = trained(doubled)
    assert [name for name in rows if "(" in name] == [found.name]
    right = rows["grad.0.bias"].value
    assert found.stage == "backward"
    np.testing.assert_array_equal(found.expected, right)
    np.testing.assert_array_equal(found.value, 2 * right)

    def forgotten(linear):
        linear.bias.grad = None

    _, found = trained(forgotten)
    assert np.isnan(found.value).all()
    np.testing.assert_array_equal(found.expected, right)


def test_what_only_training_gives_is_a_row_and_what_nobody_gives_is_none():
    class Late(nn.Module):
        def __init__(self):
            self.late, self.never = (nn.Parameter(np.ones(2)) for _ in range(2))

        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

        def backward_parameters(self, dy):
            self.late.grad = np.full(2, 5.0)

    rows = {
        row.name: row
        for row in manual_step(Run(Late(), nn.MSELoss()), np.ones((3, 2)), np.ones((3, 2)))
    }
    assert [name for name in rows if "grad" in name] == ["grad.late (backward_parameters)"]
    found = rows["grad.late (backward_parameters)"]
    np.testing.assert_array_equal(found.value, [5, 5])
    assert np.isnan(found.expected).all()


# The parts.


def test_a_loss_is_an_array_of_its_own_dtype_or_the_predictions():
    prediction = np.ones(2, np.float32)
    for loss, dtype in (
        (0.5, np.float32),
        (np.float64(0.5), np.float64),
        (np.float32(0.5), np.float32),
    ):
        found = scalar(loss, prediction)
        np.testing.assert_array_equal(found, np.array(0.5, dtype), strict=True)


def test_what_is_the_same_is_so_to_the_bit_but_for_signs_of_0():
    a = np.array([1.0, NAN, 0.0])
    assert same(a, np.array([1.0, NAN, -0.0]))
    assert not same(a, np.array([np.nextafter(1, 2), NAN, 0.0]))
    assert not same(a, a.astype(np.float32))
    assert not same(a, a[:, None])
    assert same(np.arange(3), np.arange(3))
    assert not same(np.arange(3), np.arange(1, 4))
    assert same(0.5, np.array(0.5))


def test_only_a_loss_that_is_no_scalar_has_a_cotangent():
    class Own:
        pass

    def draw(shape):
        return np.full(shape, 3.0)

    np.testing.assert_array_equal(
        cotangent(nn.MSELoss(reduction="none"), np.ones((2, 3)), draw),
        np.full((2, 3), 3.0),
        strict=True,
    )
    assert cotangent(nn.MSELoss(), np.ones(()), draw) is None
    assert cotangent(Own(), np.ones(()), draw) is None


def test_the_last_unit_gives_the_prediction():
    assert prediction_row(nn.Sequential()) == "d_x"
    assert prediction_row(nn.Tanh()) == "d_activation"
    assert prediction_row(nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh()))) == "d_activation.1.0"


def test_a_network_of_ones_own_need_not_have_buffers():
    assert list(named_buffers(object())) == []
    names = [name for name, _ in named_buffers(nn.BatchNorm1d(3))]
    assert names == ["running_mean", "running_var", "num_batches_tracked"]


def test_autograd_need_not_come_to_every_part():
    class Cut(torch.nn.Module):
        def forward(self, x):
            return x.detach() * 2

    def names(*modules):
        net = Run(modules_of_torch.Sequential(*modules), torch.nn.MSELoss())
        return list(torch_step(net, torch.ones(4, 3), torch.ones(4, 3)).rows)

    forward = ["x", "activation.0", "activation.1", "loss"]
    rest = ["d_activation.1", "grad.1.weight", "grad.1.bias"]
    assert names(Cut(), torch.nn.Linear(3, 3)) == forward + rest
    assert names(torch.nn.Tanh(), Cut()) == forward


def test_l_bfgs_that_has_done_nothing_has_kept_nothing():
    assert lbfgs_state(optim.LBFGS([nn.Parameter(np.ones(2))])) == {}


def test_a_twin_that_returns_no_tensor_is_named_with_its_place():
    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    net = modules_of_torch.Sequential(torch.nn.Tanh(), Pair())
    with pytest.raises(TypeError) as caught:
        torch_step(Run(net, torch.nn.MSELoss()), torch.ones(4, 3), torch.ones(4, 3))
    expected = "compare: the forward of the twin's '1' must return a tensor, got a tuple"
    assert str(caught.value) == expected
