"""Every optimizer against torch's, step by step, over all its options."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn, optim
from torch_ref import twin, twins

RNG = np.random.default_rng


def product(**values):
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


ADAM = product(
    betas=[(0.9, 0.999), (0.3, 0.6)],
    weight_decay=[0, 0.05],
    amsgrad=[False, True],
    maximize=[False, True],
)
GRID = {
    "SGD": [
        options
        for options in product(
            momentum=[0, 0.9],
            dampening=[0, 0.3],
            nesterov=[False, True],
            weight_decay=[0, 0.05],
            maximize=[False, True],
        )
        if not options["nesterov"] or (options["momentum"] > 0 and options["dampening"] == 0)
    ],
    "Adam": [*ADAM, *product(decoupled_weight_decay=[True], weight_decay=[0.05], eps=[0.1])],
    "AdamW": [*ADAM, *product(eps=[0, 0.1], lr=[0.3])],
    "RMSprop": [
        *product(
            alpha=[0.99, 0.5],
            weight_decay=[0, 0.05],
            momentum=[0, 0.9],
            centered=[False, True],
            maximize=[False, True],
        ),
        *product(eps=[0, 0.1], centered=[False, True]),
    ],
    "Adagrad": [
        *product(
            lr_decay=[0, 0.1],
            weight_decay=[0, 0.05],
            initial_accumulator_value=[0, 0.3],
            maximize=[False, True],
        ),
        *product(eps=[0, 0.1]),
    ],
}
CASES = [(kind, options) for kind, grid in GRID.items() for options in grid]


def described(value):
    if isinstance(value, str):
        return value
    return "-".join(f"{name}={v}" for name, v in value.items() if v) or "plain"


@pytest.mark.parametrize(("kind", "options"), CASES, ids=described)
def test_a_hundred_steps(pair, kind, options):
    sides = pair(1).start(kind, **{"lr": 0.1, **options})
    start = [p.data.copy() for p in sides.own]
    for _ in range(100):
        sides.step()
        sides.agree()
    sides.same_state()
    assert not any(np.isin(p.data, s).any() for p, s in zip(sides.own, start, strict=True))


def drawn(kind):
    small, share = st.floats(0, 0.2), st.floats(0, 0.999)
    return {
        "SGD": st.fixed_dictionaries(
            {"momentum": share, "dampening": st.floats(-1, 1), "weight_decay": small}
        ),
        "Adam": st.fixed_dictionaries(
            {
                "betas": st.tuples(share, share),
                "eps": st.floats(1e-12, 1),
                "weight_decay": small,
                "amsgrad": st.booleans(),
                "decoupled_weight_decay": st.booleans(),
            }
        ),
        "AdamW": st.fixed_dictionaries(
            {
                "betas": st.tuples(share, share),
                "eps": st.floats(1e-12, 1),
                "weight_decay": small,
                "amsgrad": st.booleans(),
            }
        ),
        # s − a² loses digits as α goes to 0, where it is the difference of equals.
        "RMSprop": st.fixed_dictionaries(
            {
                "alpha": st.floats(0.1, 0.999),
                "eps": st.floats(1e-12, 1),
                "weight_decay": small,
                "momentum": share,
                "centered": st.booleans(),
            }
        ),
        "Adagrad": st.fixed_dictionaries(
            {
                "lr_decay": st.floats(0, 2),
                "weight_decay": small,
                "initial_accumulator_value": st.floats(0, 2),
                "eps": st.floats(1e-12, 1),
            }
        ),
    }[kind]


@pytest.mark.parametrize("kind", GRID)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_options(pair, kind, data):
    options = data.draw(drawn(kind)) | {"maximize": data.draw(st.booleans())}
    without = st.sets(st.integers(0, 3), max_size=2)
    sides = pair(2).start(kind, lr=data.draw(st.floats(0, 0.5)), **options)
    for _ in range(10):
        sides.step(data.draw(without))
        sides.agree()
    sides.same_state()


@pytest.mark.parametrize("kind", GRID)
def test_float32(pair, kind):
    """Ten steps from equal values, ten roundings each, of which momentum may add up ten."""
    for seed, options in enumerate(GRID[kind]):
        sides = pair(seed, np.float32).start(kind, **{"lr": 0.1, **options})
        for _ in range(10):
            sides.step()
            sides.agree(1000)
        sides.same_state(1000)
        assert {p.dtype for p in sides.own} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", GRID)
def test_longdouble_is_as_precise_as_it_should_be(pair, kind):
    """Beside float64 runs of manual itself the difference is float64's rounding, and there is one:
    longdouble does not go through float64."""
    for seed, options in enumerate(GRID[kind]):
        sides = pair(seed)
        exact = [nn.Parameter(p.data.astype(np.longdouble)) for p in sides.own]
        pairs = [getattr(optim, kind)(p, **{"lr": 0.1, **options}) for p in (sides.own, exact)]
        for _ in range(10):
            for p, q in zip(sides.own, exact, strict=True):
                p.grad = sides.rng.normal(size=p.shape)
                q.grad = p.grad.astype(np.longdouble)
            for optimizer in pairs:
                optimizer.step()
        states = [entry for o in pairs for entry in o.state_dict()["state"].values()]
        assert {v.dtype for entry in states for name, v in entry.items() if name != "step"} <= {
            np.dtype(np.float64),
            np.dtype(np.longdouble),
        }
        differences = [np.abs(p.data - q.data).max() for p, q in zip(sides.own, exact, strict=True)]
        assert all(q.dtype == np.longdouble for q in exact)
        assert max(differences) < 1000 * np.finfo(np.float64).eps * 10
        if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
            assert max(differences) > 0


def reference_adam(theta, grads, lr, beta1, beta2, eps):
    """Kingma & Ba's algorithm 1, in longdouble, with m̂ and v̂ written out."""
    one = np.longdouble(1)
    theta, m, v = theta.astype(np.longdouble), np.longdouble(0), np.longdouble(0)
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (one - beta1) * g
        v = beta2 * v + (one - beta2) * g**2
        theta = theta - lr * (m / (one - beta1**t)) / (np.sqrt(v / (one - beta2**t)) + eps)
    return theta


def test_adam_is_the_papers_in_longdouble():
    """Independent of torch, to some hundred roundings of longdouble: 1 − β too is that precise."""
    rng = RNG(3)
    start = rng.normal(size=5).astype(np.longdouble)
    grads = rng.normal(size=(20, 5)).astype(np.longdouble)
    lr, beta1, beta2, eps = map(np.longdouble, (0.1, 0.3, 0.4, 1e-3))
    p = nn.Parameter(start)
    optimizer = optim.Adam([p], float(lr), (float(beta1), float(beta2)), float(eps))
    for g in grads:
        p.grad = g
        optimizer.step()
    expected = reference_adam(start, grads, lr, beta1, beta2, eps)
    allowed = float(400 * np.finfo(np.longdouble).eps)
    np.testing.assert_allclose(p.data, expected, rtol=0, atol=allowed)


@pytest.mark.parametrize(("kind", "options"), CASES[::3], ids=described)
def test_a_real_network(kind, options):
    """Own backward against autograd, each on its own trajectory, to 1e-9 after 100 steps: rounding
    (1e-16) is amplified wherever the loss is steep, and adaptive steps see its sign."""
    # Smaller with momentum: steps of a fixed size around a minimum are chaotic.
    options = {"lr": 0.002 if options.get("momentum") else 0.01, **options}
    sign = -1.0 if options.get("maximize") else 1.0  # what is maximized is −loss
    rng = RNG(4)
    make = {"dtype": np.float64, "generator": rng}
    net = nn.Sequential(nn.Linear(4, 6, **make), nn.Tanh(), nn.Linear(6, 3, **make))
    weights, biases = [[p for p in net.parameters() if p.ndim == n] for n in (2, 1)]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0}]
    criterion, optimizer = nn.MSELoss(), getattr(optim, kind)(groups, **options)
    theirs, their_criterion, their_optimizer = twins(net, criterion, optimizer)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    tx, ty = torch.tensor(x), torch.tensor(y)
    before = net.state_dict()
    for _ in range(100):
        criterion(net(x), y)
        net.backward(criterion.backward(sign))
        optimizer.step()
        their_optimizer.zero_grad()
        (sign * their_criterion(theirs(tx), ty)).backward()
        their_optimizer.step()
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], value.numpy(), rtol=0, atol=1e-9)
        assert np.abs(net.state_dict()[name] - before[name]).max() > 1e-3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("lr", "line_search_fn"), [(0.5, None), (1.0, "strong_wolfe")])
def test_l_bfgs_on_a_logistic_regression(lr, line_search_fn, seed):
    """100 steps of one iteration each. The loss is convex; where it is not, or with lr far below 1
    and no line search, L-BFGS amplifies a rounding of the start to 1e-4, in torch alone as well."""
    rng = RNG(seed)
    net, criterion = nn.Linear(3, 2, dtype=np.float64, generator=rng), nn.BCEWithLogitsLoss()
    options = {"lr": lr, "max_iter": 1, "line_search_fn": line_search_fn}
    optimizer = optim.LBFGS(net.parameters(), **options)
    theirs, their_criterion, their_optimizer = twins(net, criterion, optimizer)
    x = rng.normal(size=(40, 3))
    y = (rng.uniform(size=(40, 2)) < 1 / (1 + np.exp(-x[:, :2]))).astype(float)
    tx, ty = torch.tensor(x), torch.tensor(y)

    def closure():
        loss = criterion(net(x), y)
        net.backward(criterion.backward())
        return loss

    def their_closure():
        their_optimizer.zero_grad()
        loss = their_criterion(theirs(tx), ty)
        loss.backward()
        return loss

    losses = []
    for _ in range(100):
        losses.append(optimizer.step(closure))
        their_optimizer.step(their_closure)
        for name, value in theirs.state_dict().items():
            np.testing.assert_allclose(net.state_dict()[name], value.numpy(), rtol=0, atol=1e-9)
    assert losses[-1] < losses[0] - 0.05


CHANGES = {
    "SGD": [("momentum", 0.5), ("weight_decay", 0), ("weight_decay", 0.2), ("maximize", True)],
    "Adam": [("betas", (0.5, 0.6)), ("eps", 0.1), ("weight_decay", 0.2), ("maximize", True)],
    "AdamW": [("betas", (0.5, 0.6)), ("eps", 0.1), ("weight_decay", 0), ("maximize", True)],
    "RMSprop": [("alpha", 0.6), ("eps", 0.1), ("weight_decay", 0.2), ("maximize", True)],
    "Adagrad": [("lr_decay", 0.3), ("eps", 0.1), ("weight_decay", 0.2), ("maximize", True)],
}


@pytest.mark.parametrize(("kind", "options"), CASES[::2], ids=described)
def test_groups_with_options_of_their_own_that_change(pair, kind, options):
    grid = GRID[kind]
    other = grid[(grid.index(options) + 7) % len(grid)]
    # A group of Adagrad has no initial value of its own (nor has torch's, which reads it all the
    # same where the group lists it).
    other = {k: v for k, v in other.items() if k != "initial_accumulator_value"}

    def groups(p):
        yield {"params": [p[0], p[1]]}
        yield {"params": iter(p[2:3]), **{"lr": 0.3, **other}}
        yield {"params": p[3], "weight_decay": 0.2}

    sides = pair(5).start(kind, groups, **{"lr": 0.1, **options})
    for k in range(14):
        if k >= 4:
            for optimizer in sides.optimizers:
                name, value = CHANGES[kind][k % 4]
                optimizer.param_groups[k % 3][name] = value
                optimizer.param_groups[0]["lr"] = 0.5 / k
        sides.step()
        sides.agree()
    sides.same_state()


@pytest.mark.parametrize(("kind", "options"), CASES[::2], ids=described)
def test_parameters_without_a_gradient_are_left_alone(pair, kind, options):
    sides = pair(7).start(kind, **{"lr": 0.1, **options})
    for without in [(0, 2), (2,), (), (1, 3), (0, 1, 2, 3), (0,), ()]:
        before = [p.data.copy() for p in sides.own]
        sides.step(without)
        sides.agree()
        sides.same_state()
        for k, (p, kept) in enumerate(zip(sides.own, before, strict=True)):
            assert np.array_equal(p.data, kept) == (k in without)


def test_sgds_momentum_switched_off_and_on_again(pair):
    sides = pair(8).start("SGD", lr=0.1, momentum=0.9)
    for momentum in (0.9, 0.9, 0, 0, 0.5, 0.5):
        for optimizer in sides.optimizers:
            optimizer.param_groups[0]["momentum"] = momentum
        sides.step((1,) if momentum == 0.9 else ())
        sides.agree()
        sides.same_state()


@pytest.mark.parametrize(
    ("kind", "option", "value", "names"),
    [
        ("Adam", "amsgrad", True, ["max_exp_avg_sq"]),
        ("RMSprop", "momentum", 0.9, ["momentum_buffer"]),
        ("RMSprop", "centered", True, ["grad_avg"]),
    ],
)
def test_an_option_switched_on_later_begins_at_zero(pair, kind, option, value, names):
    """torch has no state for it then and raises KeyError; given zeros it does the same."""
    sides = pair(9).start(kind, lr=0.1)
    sides.step()
    for optimizer in sides.optimizers:
        optimizer.param_groups[0][option] = value
    for q, state in sides.optimizers[1].state.items():
        state |= {name: torch.zeros_like(q) for name in names}
    sides.same_state()  # saved at this moment the state is complete too
    for _ in range(5):
        sides.step()
        sides.agree()
        sides.same_state()


@pytest.mark.parametrize("kind", GRID)
@pytest.mark.parametrize("size", [1e-30, 5e19, 1e25])  # 5e19: (1 − β₂) g² is in range
def test_gradients_whose_square_leaves_the_range(pair, kind, size):
    """In float32: g² is 0 or inf, where it is in torch too, and nothing warns."""
    sides = pair(11, np.float32).start(kind, lr=1e-3)
    for _ in range(3):
        for p, q in zip(sides.own, sides.theirs, strict=True):
            p.grad = (size * sides.rng.normal(size=p.shape)).astype(np.float32)
            q.grad = torch.tensor(p.grad)
        for optimizer in sides.optimizers:
            optimizer.step()
    for p, q in zip(sides.own, sides.theirs, strict=True):
        assert np.isfinite(p.data).all()
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.5, 0.7])
def test_centered_rmsprop_with_a_constant_gradient_stays_a_number(dtype, alpha):
    """The variance s − a² goes to 0 and rounding may make it negative: it counts as 0."""
    p = nn.Parameter(np.linspace(0.1, 3, 50).astype(dtype))
    optimizer = optim.RMSprop([p], lr=1e-9, alpha=alpha, centered=True)
    p.grad = np.linspace(0.1, 3, 50).astype(dtype)
    negative = 0
    for _ in range(300):
        optimizer.step()
        [state] = optimizer.state_dict()["state"].values()
        negative += (state["square_avg"] < state["grad_avg"] ** 2).sum()
        assert np.isfinite(p.data).all()
    assert negative > 0


def test_twins_of_every_kind_have_the_same_defaults(pair):
    for kind in [*GRID, "LBFGS"]:
        own, theirs = (optimizer.param_groups for optimizer in pair(0).start(kind).optimizers)
        assert all(theirs[0][name] == v for name, v in own[0].items() if name != "params")
        kernels = {"foreach", "fused", "capturable", "differentiable"}
        assert theirs[0].keys() - own[0].keys() <= kernels
        assert type(twin(getattr(optim, kind)(pair(0).own), pair(0).theirs)).__name__ == kind
