"""Every term of the error rules: no bound below the worst case, none much above it."""

import numpy as np
import pytest
import torch

from compare import assert_equivalent, homework
from compare.rounding import Ball, Rounding, loss_rule, rule, update_rule
from compare.tolerance import Bounds
from compare.trace import Run, manual_step, torch_step
from manual import nn, optim
from torch_ref import twins
from torch_ref.modules import HalfSquaredError

NONE = Rounding(u=0.0, tiny=0.0)
U = 2.0**-24
SINGLE = Rounding(u=U, tiny=0.0)
ONE = np.ones(())  # the cotangent of a scalar loss


def away_from_0(g, *shape):
    return g.uniform(0.3, 2, shape) * g.choice([-1, 1], shape)


def errors(g, *shape):
    """The largest is less than 13/7 times the smallest."""
    return 1e-7 * g.uniform(0.7, 1.3, shape)


def worst_cases(f, inputs, at, e):
    """Σ |∂out/∂in| E(in) of every output of f, for the input number `at`."""
    tensors = [torch.tensor(v) for v in inputs]

    def one(v):
        return f(*tensors[:at], v, *tensors[at + 1 :])

    jacobians = torch.autograd.functional.jacobian(one, tensors[at])
    return [(j.abs() * torch.tensor(e)).flatten(j.ndim - e.ndim).sum(-1).numpy() for j in jacobians]


# E passed on, nothing rounded: one source at a time, against autograd's second derivatives.

MODULES = [torch.nn.Linear(3, 4), torch.nn.Linear(3, 4, bias=False)]
MODULES += [torch.nn.Sigmoid(), torch.nn.Tanh(), torch.nn.Identity(), torch.nn.ReLU()]


@pytest.mark.parametrize("source", ["x", "dy", "weight", "bias"])
@pytest.mark.parametrize("lead", [(5,), (2, 5)])
@pytest.mark.parametrize("module", MODULES, ids=str)
def test_an_error_passes_on_as_the_derivatives_say(module, lead, source):
    g = np.random.default_rng(0)
    names = [name for name, _ in module.named_parameters()]
    inputs = {"x": away_from_0(g, *lead, 3), "dy": away_from_0(g, *lead, 4 if names else 3)}
    inputs |= {name: away_from_0(g, *p.shape) for name, p in module.named_parameters()}
    if source not in inputs:
        return
    e = {name: np.zeros(v.shape) for name, v in inputs.items()}
    e[source] = errors(g, *inputs[source].shape)

    def everything(x, dy, *theta):
        x, theta = x.requires_grad_(), [p.requires_grad_() for p in theta]
        y = torch.func.functional_call(module, dict(zip(names, theta, strict=True)), (x,))
        return y, *torch.autograd.grad(y, (x, *theta), dy, create_graph=True)

    expected = worst_cases(everything, inputs.values(), list(inputs).index(source), e[source])
    theta = {name: (inputs[name], e[name]) for name in names}
    ey, backward = rule(module, NONE, theta, inputs["x"], e["x"])
    edx, gradients = backward(inputs["dy"], e["dy"])
    for found, worst in zip([ey, edx, *(gradients[n] for n in names)], expected, strict=True):
        np.testing.assert_allclose(found, worst, rtol=1e-4, atol=0)


def loss_and_slope(criterion, y):
    def f(z):
        z = z.requires_grad_()
        loss = criterion(z, torch.from_numpy(y))
        return loss, *torch.autograd.grad(loss, z, create_graph=True)

    return f


SQUARED = [HalfSquaredError(), torch.nn.MSELoss(), torch.nn.MSELoss(reduction="sum")]


@pytest.mark.parametrize("criterion", SQUARED, ids=str)
def test_an_error_passes_through_a_squared_loss_as_the_derivatives_say(criterion):
    g = np.random.default_rng(0)
    y = g.normal(size=(5, 4))
    z, ez = y + away_from_0(g, 5, 4), errors(g, 5, 4)
    expected = worst_cases(loss_and_slope(criterion, y), [z], 0, ez)
    for found, worst in zip(loss_rule(criterion, NONE, z, ez, y, ONE), expected, strict=True):
        np.testing.assert_allclose(found, worst, rtol=1e-4, atol=0)
    loss, dz = (v.detach().numpy() for v in loss_and_slope(criterion, y)(torch.tensor(z)))
    eloss, edz = loss_rule(criterion, SINGLE, z, 0 * z, y, ONE)
    np.testing.assert_allclose(eloss, (2 + 20 + 2) * U * loss, rtol=1e-6)
    np.testing.assert_allclose(edz, 4 * U * np.abs(dz))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_error_of_the_logits_is_at_most_four_times_overstated(
    weighted, smoothing, ignore_index, reduction
):
    """z reaches log p by itself and through log Σ e^z; the rule adds up what partly cancels. With
    q = t / Σ t and ρ = max E / min E < 13/7 it is too large by at most
    loss: Σ (q + p) E / Σ |q − p| E ≤ ρ / (q_y − p_y);
    dz:   ((1 + p) E + S) / ((1 − p) E + S), where S = Σ p E over the others ≥ (1 − p) min E.
    No factor holds for all p (at p = q the loss is flat): here p < 0.65, and y is least likely.
    """
    g = np.random.default_rng(0)
    z, ez = g.uniform(-0.8, 0.8, (12, 4)), errors(g, 12, 4)
    y = z.argmin(1)
    w = np.array([0.8, 1.0, 1.2, 1.5]) if weighted else np.ones(4)
    criterion = torch.nn.CrossEntropyLoss(
        torch.tensor(w) if weighted else None,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    t = (smoothing / 4 + (1 - smoothing) * np.eye(4)[y]) * w * (y != ignore_index)[:, None]
    total = t.sum(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    rows = np.arange(12)[y != ignore_index]
    rho, distance = 13 / 7, (t[rows] / total[rows] - p[rows])[range(len(rows)), y[rows]].min()
    assert max(rho / distance, (rho * 1.65 + 0.35) / (0.35 * (rho + 1))) < 4
    assert p.max() < 0.65
    found = loss_rule(criterion, NONE, z, ez, y, ONE)
    divisor = w[y[rows]].sum() if reduction == "mean" else 1
    through = (p * ez).sum(1, keepdims=True)
    paths = (t * (ez + through)).sum() / divisor, total * p * (ez + through) / divisor
    worst = worst_cases(loss_and_slope(criterion, y), [z], 0, ez)
    for bound, sum_of_paths, exact in zip(found, paths, worst, strict=True):
        np.testing.assert_allclose(bound, sum_of_paths, rtol=1e-4, atol=0)
        assert (bound >= exact * (1 - 1e-6)).all()
        assert (bound <= exact * 4).all()


OPTIONS = [{}, {"weight_decay": 0.5}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}]
OPTIONS += [{"momentum": 0.9, "nesterov": True}]
OPTIONS += [{"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.5}]
OPTIONS += [{"momentum": 0.9, "nesterov": True, "weight_decay": 0.5}]


def sgd(options, theta, gradient, velocity=None):
    """torch's (updated θ, velocity) of float64 scalars."""
    p = torch.tensor(float(theta), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.7, **options)
    p.grad = torch.tensor(float(gradient), dtype=torch.float64)
    if velocity is not None:
        v = torch.tensor(float(velocity), dtype=torch.float64)
        optimizer.state[p]["momentum_buffer"] = v
    optimizer.step()
    return np.array([p.item(), float(optimizer.state[p].get("momentum_buffer") or 0)])


def updated(options, r, theta, gradient, velocity=None):
    """(E(updated θ), velocity as a Ball) from (value, E) of each."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.7, **options)
    state = {} if velocity is None else {"momentum_buffer": Ball(*velocity, r)}
    group = optimizer.param_groups[0]
    new = update_rule(optimizer, group, Ball(*theta, r), Ball(*gradient, r), state)
    return new.e, state.get("momentum_buffer")


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_error_passes_through_an_update_as_its_coefficients_say(options, started):
    """θ has two paths, kept apart: itself, coefficient 1, and the gradient of its decay."""
    if started and "momentum" not in options:
        return
    g = np.random.default_rng(0)
    value, gradient, velocity = away_from_0(g, 3, 6)
    for source in range(3 if started else 2):
        e = np.zeros((3, 6))
        e[source] = errors(g, 6)
        before = (velocity, e[2]) if started else None
        new, after = updated(options, NONE, (value, e[0]), (gradient, e[1]), before)
        unit = np.eye(3)[source]
        of_theta, of_velocity = sgd(options, *(unit if started else unit[:2]))
        coefficient = 1 + abs(of_theta - 1) if source == 0 else abs(of_theta)
        np.testing.assert_allclose(new, coefficient * e[source], rtol=1e-9)
        assert (new >= abs(of_theta) * e[source] * (1 - 1e-9)).all()
        if "momentum" in options:
            np.testing.assert_allclose(after.e, abs(of_velocity) * e[source], rtol=1e-9)


def test_a_momentum_started_on_huge_gradients_is_known_to_the_bounds():
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(5, 7, generator=g), nn.Linear(7, 4, generator=g))
    optimizer = optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    criterion, start = nn.HalfSquaredError(), net.state_dict()
    x, y = (g.normal(size=(8, n)).astype(np.float32) for n in (5, 4))
    criterion(net(x * np.float32(1e4)), y)
    net.backward(criterion.backward())
    optimizer.step()
    net.load_state_dict(start)
    assert_equivalent(net, criterion, x, y, optimizer=optimizer, steps=3)


# What each operation rounds, where nothing came in.


@pytest.mark.parametrize("lead", [(5,), (2, 3)])
def test_a_linear_module_rounds_once_for_each_term(lead):
    assert SINGLE.libm == 8 * U
    g = np.random.default_rng(0)
    x, dy, w, b = (away_from_0(g, *s) for s in ((*lead, 3), (*lead, 4), (4, 3), (4,)))
    theta = {"weight": (w, np.zeros((4, 3))), "bias": (b, np.zeros(4))}
    ey, backward = rule(torch.nn.Linear(3, 4), SINGLE, theta, x, np.zeros(x.shape))
    edx, gradients = backward(dy, np.zeros(dy.shape))
    x, dy, w, b = (np.abs(v) for v in (x, dy, w, b))
    rows, drows = x.reshape(-1, 3), dy.reshape(-1, 4)
    n = len(rows)
    np.testing.assert_allclose(ey, 4 * U * (x @ w.T + b))
    np.testing.assert_allclose(edx, 4 * U * (dy @ w))
    np.testing.assert_allclose(gradients["weight"], n * U * (drows.T @ rows))
    np.testing.assert_allclose(gradients["bias"], n * U * drows.sum(0))


def test_equal_rows_of_a_large_batch_pass():
    g = np.random.default_rng(0)
    x, y = (np.tile(g.normal(size=n).astype(np.float32), (20_000, 1)) for n in (3, 2))
    assert_equivalent(nn.Linear(3, 2, generator=g), nn.HalfSquaredError(), x, y)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_update_rounds_each_sum_and_product(options, started):
    """Its roundings, counted: a + c b has those of c, of the product and of the sum."""
    g = np.random.default_rng(0)
    value, gradient, velocity = np.abs(away_from_0(g, 3, 6))
    none = np.zeros(6)
    state = (velocity, none) if started and "momentum" in options else None
    new, _ = updated(options, SINGLE, (value, none), (gradient, none), state)

    def add(a, c, b):
        (a, ea), (b, eb) = a, b
        return a + c * b, ea + abs(c) * eb + U * (np.abs(a + c * b) + 2 * np.abs(c * b))

    step, mu = (gradient, none), options.get("momentum", 0)
    if "weight_decay" in options:
        step = add(step, options["weight_decay"], (value, none))
    if mu:
        kept = (1 - options.get("dampening", 0)) if state else 1
        scaled = kept * step[0], kept * step[1] + (kept < 1) * 2 * U * kept * step[0]
        v = add(scaled, mu, (velocity, none)) if state else step
        step = add(step, mu, v) if options.get("nesterov") else v
    np.testing.assert_allclose(new, add((value, none), -0.7, step)[1], rtol=1e-9)


def test_cross_entropy_rounds_its_sums_and_its_difference():
    """p of the first class is 1 to within 10⁻⁷; Σ e^z and, smoothed, Σ t have 31 terms each."""
    c, z = 31, np.zeros((1, 31))
    z[0, 0] = 20
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.3)
    eloss, _ = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, np.array([0]), ONE)
    assert (c - 1) * U <= eloss <= 3 * c * U
    _, edz = loss_rule(criterion, SINGLE, z, 0 * z, np.array([0]), ONE)
    assert 2 * (c - 1) * U <= edz[0, 0] <= 4 * c * U
    z, y = np.tile([0.0, -20.0], (31, 1)), np.ones(31, int)  # p < 10⁻⁸, t = 1: |dz| = 1/31
    _, edz = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, y, ONE)
    assert (edz[:, 1] >= U / 31).all()
    weighted = torch.nn.CrossEntropyLoss(torch.ones(2))  # the divisor is a sum of 31 weights
    assert (loss_rule(weighted, SINGLE, z, 0 * z, y, ONE)[1][:, 1] >= 30 * U / 31).all()
    z = np.array([[0.0, -0.1, -0.1]])  # Σ e^z is off by 8 u of itself, its logarithm by 8 u more
    eloss, _ = loss_rule(torch.nn.CrossEntropyLoss(), SINGLE, z, 0 * z, np.array([0]), ONE)
    assert eloss >= SINGLE.libm * (1 + np.log(np.exp(z).sum()))


@pytest.mark.parametrize("module", MODULES[2:], ids=str)
def test_an_activation_rounds_itself_and_its_slope(module):
    x, dy = away_from_0(np.random.default_rng(0), 2, 5)
    point = torch.tensor(x, requires_grad=True)
    y = module(point)
    y.backward(torch.tensor(dy))
    y, dx = np.abs(y.detach().numpy()), np.abs(point.grad.numpy())
    ey, backward = rule(module, SINGLE, {}, x, 0 * x)
    slope = {torch.nn.Sigmoid: 8 * U * y, torch.nn.Tanh: 16 * U * y * y}.get(type(module))
    np.testing.assert_allclose(ey, 0 * y if slope is None else 8 * U * y)
    identity = isinstance(module, torch.nn.Identity)
    expected = (0 if identity else 3 * U * dx) + (0 if slope is None else slope * np.abs(dy))
    np.testing.assert_allclose(backward(dy, 0 * dy)[0], expected)


# The whole step.


def test_no_row_of_an_ordinary_network_leaves_room_for_a_mistake():
    """Of the median entry less than 10⁻³: with lr = 1, of an update's as well."""
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(9, 8, generator=g), nn.Tanh(), nn.Linear(8, 4, generator=g))
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    exact = twins(net, nn.CrossEntropyLoss(), optimizer, dtype=torch.float64)
    x, y = torch.from_numpy(g.normal(size=(16, 9))), torch.from_numpy(g.integers(0, 4, 16))
    again = twins(net, nn.CrossEntropyLoss(), optimizer, dtype=torch.float64)
    values = {row.name: np.abs(row.value) for row in torch_step(Run(*again), x, y)}
    allowed = Bounds(Run(*exact), np.dtype(np.float32)).step(x, y)
    assert (allowed.pop("x") == 0).all()
    for name in values.keys() - {"x"}:
        value = values[name.replace("updated", "grad")].ravel()
        middle = np.argsort(value)[value.size // 2]
        assert 0 < allowed[name].ravel()[middle] < 1e-3 * value[middle], name
    for name, _ in net.named_parameters():  # θ − lr g: both E's, lr and the product, the difference
        g, e = values[f"grad.{name}"], allowed[f"grad.{name}"]
        np.testing.assert_allclose(
            allowed[f"updated.{name}"],
            e + 2 * U * (2 * g + values[f"updated.{name}"]),
            rtol=1e-6,
        )


def test_the_homework_rejects_a_wrong_torch_side(monkeypatch):
    def wrong(*sides):
        built = twins(*sides)
        with torch.no_grad():
            built[0][0].weight[0, 0] += 1e-6
        return built

    monkeypatch.setattr(homework, "twins", wrong)
    row = homework.check("a", np.dtype(np.float64)).set_index("name").loc["updated.0.weight"]
    assert row.torch_error > row.allowed >= row.manual_error
    assert row.verdict == "mismatch"


@pytest.mark.parametrize("side", ["manual", "torch"])
def test_the_homework_rejects_a_wrong_shape(monkeypatch, side):
    right = getattr(homework, f"{side}_step")

    def wrong(*given):
        return [
            row._replace(value=row.value[None]) if row.name == "grad.0.bias" else row
            for row in right(*given)
        ]

    monkeypatch.setattr(homework, f"{side}_step", wrong)
    frame = homework.check("b", np.dtype(np.float64)).set_index("name")
    assert list(frame.index[frame.verdict != "ok"]) == ["grad.0.bias"]
    assert frame.loc["grad.0.bias", f"{side}_error"] == np.inf


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
