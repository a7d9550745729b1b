"""What the witness answers for whole units: true, within its error, for the entries asked."""

import copy
import functools
import time

import mpmath
import numpy as np
import pytest
import torch

from compare.oracle import Witness
from compare.oracle.witness import DRAWN, SMALL, _answer
from manual import nn, optim
from tests.compare.pinned import assert_as_pinned
from torch_ref import twin

F8 = np.float64
MODULES = {
    "Linear": (lambda: nn.Linear(5, 3, dtype=F8), (2, 5)),
    "Linear, rank 1": (lambda: nn.Linear(5, 3, dtype=F8), (5,)),
    "Linear, rank 3": (lambda: nn.Linear(3, 3, dtype=F8), (2, 2, 3)),
    "Linear without bias": (lambda: nn.Linear(3, 3, bias=False, dtype=F8), (3, 3)),
    "Identity": (nn.Identity, (2, 3)),
    "Flatten": (nn.Flatten, (2, 2, 2)),
    "Dropout": (lambda: nn.Dropout(0.4, np.random.default_rng(5)), (2, 4)),
    "Sigmoid": (nn.Sigmoid, (2, 3)),
    "LogSigmoid": (nn.LogSigmoid, (2, 3)),
    "Tanh": (nn.Tanh, (2, 3)),
    "Arctan": (nn.Arctan, (2, 3)),
    "SiLU": (nn.SiLU, (2, 3)),
    "GELU": (nn.GELU, (2, 3)),
    "GELU(tanh)": (lambda: nn.GELU("tanh"), (2, 3)),
    "ELU": (lambda: nn.ELU(1.7), (2, 3)),
    "Softplus": (lambda: nn.Softplus(2.0, 1.0), (2, 3)),
    "ReLU": (nn.ReLU, (2, 3)),
    "LeakyReLU": (lambda: nn.LeakyReLU(-0.4), (2, 3)),
    "PReLU": (lambda: nn.PReLU(3, dtype=F8), (2, 3, 2)),
    "PReLU, rank 0": (lambda: nn.PReLU(dtype=F8), ()),
    "Step": (nn.Step, (2, 3)),
    "Maxout": (lambda: nn.Maxout(3), (2, 6)),
    "Softmax": (lambda: nn.Softmax(-1), (2, 3)),
    "Softmax(0)": (lambda: nn.Softmax(0), (2, 3)),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), (2, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3, dtype=F8), (4, 3)),
    "BatchNorm1d, rank 3": (lambda: nn.BatchNorm1d(2, dtype=F8), (2, 2, 3)),
    "BatchNorm1d(affine)": (lambda: nn.BatchNorm1d(3, affine=False, dtype=F8), (4, 3)),
    "BatchNorm1d(eval)": (lambda: nn.BatchNorm1d(3, dtype=F8).eval(), (4, 3)),
}


def drawn(module, seed):
    """theta of a module whose parameters and running statistics are drawn."""
    g = np.random.default_rng(seed)
    for p in module.parameters():
        p.data[...] = g.normal(size=p.shape)
    for _, buffer in module.named_buffers():
        if buffer.dtype.kind == "f":
            buffer[...] = g.uniform(0.5, 2, buffer.shape)
    theta = {name: p.data.copy() for name, p in module.named_parameters()}
    return theta | {name: b.copy() for name, b in module.named_buffers()}


def in_torch(module, x, dy):
    """(y, {"" and every parameter: gradient}) of the twin in float64, and the twin from before."""
    theirs = twin(module, dtype=torch.float64)
    before, given = copy.deepcopy(theirs), torch.tensor(x, requires_grad=True)
    y = theirs(given)
    y.backward(torch.tensor(dy))
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    return y.detach().numpy(), {"": given.grad.numpy(), **gradients}, before


@pytest.mark.parametrize("size", [0.01, 30.0])
@pytest.mark.parametrize("name", MODULES)
def test_every_gradient_is_autograds(name, size):
    make, shape = MODULES[name]
    g = np.random.default_rng(4)
    module, x = make(), np.asarray(g.normal(size=shape) * size)
    theta = drawn(module, 5)
    dy = g.normal(size=copy.deepcopy(module)(x).shape)
    y, expected, unit = in_torch(module, x, dy)
    kept = copy.deepcopy((theta, x, dy, vars(module).get("training")))
    for dtype, aim in ((np.float32, 1e-8), (np.float64, 1e-10)):
        witness = Witness(dtype, 0)
        value, error = witness.output(module, theta, x)
        scale = np.maximum(1, np.abs(y))
        assert value.shape == error.shape == y.shape
        assert (np.abs(value - y) <= error + 1e-14 * scale * max(1, size)).all()
        assert (error <= 1e-12 * scale * max(1, size)).all()
        every = {key: list(np.ndindex(v.shape)) for key, v in expected.items()}
        found = witness.gradients(module, unit, theta, x, dy, every)
        assert found.keys() == expected.keys()
        for key, entries in found.items():
            assert list(entries) == every[key]
            for index, (slope, error) in entries.items():
                own = expected[key][index]
                terms = np.abs(dy).sum() * max(1, abs(own))  # that torch sums, at most about so
                assert abs(slope - own) <= error + 1e-14 * terms, (key, index, slope, own)
                assert error <= aim * terms, (key, index)
    assert all(np.array_equal(theta[k], v) for k, v in kept[0].items())
    assert np.array_equal(x, kept[1])
    assert np.array_equal(dy, kept[2])


def test_a_step_is_flat_and_says_so():
    witness = Witness(np.float32)
    found = witness.gradients(nn.Step(), None, {}, np.array([0.0, 1.0]), np.ones(2), {"": []})
    assert found == {"": {(0,): (0.0, 0.0), (1,): (0.0, 0.0)}}


def test_which_entries_are_asked():
    """Those wanted, and a few drawn; all of a small tensor; the same ones for the same seed."""
    x, dy = np.random.default_rng(0).normal(size=(2, 6, 4)), np.ones((2, 6, 4))
    wanted = {"": [(1, 2, 3), (0, 0, 0), (1, 2, 3)]}
    witness = Witness(np.float32, 3)
    found = witness.gradients(nn.Tanh(), None, {}, x, dy, wanted)[""]
    assert list(found)[:2] == [(1, 2, 3), (0, 0, 0)]
    assert DRAWN <= len(found) <= DRAWN + 2
    assert (witness.asked, witness.of) == (len(found), 48)
    again = Witness(np.float32, 3).gradients(nn.Tanh(), None, {}, x, dy, wanted)[""]
    assert again == found
    other = Witness(np.float32, 4).gradients(nn.Tanh(), None, {}, x, dy, wanted)[""]
    assert list(other) != list(found)
    second = witness.gradients(nn.Tanh(), None, {}, x, dy, {"": []})[""]
    assert list(second) != list(found)  # a further draw
    assert witness.of == 96
    small = witness.gradients(nn.Tanh(), None, {}, x[0, :1], dy[0, :1], {"": []})[""]
    assert list(small) == list(np.ndindex(1, SMALL))
    assert DRAWN >= 3  # or a tensor that is wrong in every other entry may pass


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_working_dtype_has_more_digits(dtype):
    y, error = Witness(dtype).output(nn.Sigmoid(), {}, np.ones(3, dtype))
    assert y.dtype == error.dtype == (np.float64 if dtype == np.float32 else np.longdouble)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("module", "theta", "slope"),
    [
        (nn.ReLU(), {}, 0.0),
        (nn.LeakyReLU(0.3), {}, 0.3),
        (nn.ELU(0.7), {}, 0.7),
        (nn.PReLU(1, dtype=np.float64), {"weight": np.array([0.4])}, 0.4),
    ],
    ids=["ReLU", "LeakyReLU", "ELU", "PReLU"],
)
def test_at_a_kink_it_is_torchs_choice(module, theta, slope, dtype):
    x, dy = np.array([[0.0, 1e-3], [-0.0, 5.0]]), np.array([[2.0, 3.0], [-4.0, 5.0]])
    found = Witness(dtype).gradients(module, None, theta, x, dy, {"": list(np.ndindex(2, 2))})[""]
    for index, expected in (((0, 0), slope), ((0, 1), 1), ((1, 0), slope), ((1, 1), 1)):
        value, error = found[index]
        assert abs(value - dy[index] * expected) <= error < 1e-6, index


def test_of_equal_pieces_the_first_follows():
    x = np.array([[2.0, 2.0, 1.0, 0.0, 3.0, 3.0]])
    wanted = {"": list(np.ndindex(1, 6))}
    dy = np.array([[5.0, -7.0]])
    found = Witness(np.float64).gradients(nn.Maxout(3), None, {}, x, dy, wanted)[""]
    for k, expected in enumerate([5, 0, 0, 0, -7, 0]):
        value, error = found[(0, k)]
        assert abs(value - expected) <= error < 1e-9, k


BAD = [np.nan, np.inf, -np.inf, 1e300, -1e300]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", [n for n, (_, shape) in MODULES.items() if shape == (2, 3)])
def test_what_is_not_finite_or_saturated_gives_no_wrong_answer_and_no_warning(name, bad):
    module, x, dy = MODULES[name][0](), np.full((2, 3), 0.5), np.ones((2, 3))
    x[0, 1] = bad
    for dtype in (np.float32, np.float64):
        witness = Witness(dtype)
        y, error = witness.output(module, {}, x)
        assert (np.isnan(y) == np.isnan(error)).all()
        assert not np.isinf(y).any()
        assert not np.isinf(error).any()
        assert not np.isnan(y[1] if name != "Softmax(0)" else y[1, [0, 2]]).any()
        found = witness.gradients(module, None, {}, x, dy, {"": list(np.ndindex(2, 3))})[""]
        for value, error in found.values():
            assert np.isnan(value) == np.isnan(error)
            assert not np.isinf(value)
            assert not np.isinf(error)
        if not np.isfinite(bad) and name != "Step":
            assert np.isnan(found[(0, 1)]).all()
        if name != "Softmax(0)" or bad == -np.inf:  # else the column's NaN is in the sum
            assert not np.isnan(found[(1, 0)][0])


def test_a_dy_that_is_not_finite_has_no_answer():
    dy = np.array([[np.nan, 1.0], [1.0, 1.0]])
    found = Witness(np.float32).gradients(nn.Tanh(), None, {}, np.ones((2, 2)), dy, {"": []})[""]
    assert np.isnan(found[(0, 0)]).all()
    assert not np.isnan(found[(1, 0)]).any()


def test_buffers():
    module = nn.BatchNorm1d(3, momentum=0.3, dtype=F8)
    theta, x = drawn(module, 1), np.random.default_rng(2).normal(size=(5, 3, 2)) + 100
    theirs = twin(module, dtype=torch.float64)
    theirs(torch.tensor(x))
    for dtype in (np.float32, np.float64):
        found = Witness(dtype).buffers(module, theta, x)
        assert found.keys() == {"running_mean", "running_var", "num_batches_tracked"}
        for name, (value, error) in found.items():
            own = dict(theirs.named_buffers())[name].numpy()
            assert (np.abs(value - own) <= error + 1e-13).all(), name
            assert (error <= 1e-10).all(), name
        assert found["num_batches_tracked"][1] == 0
    assert Witness(np.float32).buffers(nn.Tanh(), {}, x) == {}


def test_a_residual_is_asked_about_the_way_around():
    x, inner, dy = np.array([0.3, -2.0]), np.array([5.0, 6.0]), np.array([2.0, 3.0])
    residual, witness = nn.Residual(nn.Tanh()), Witness(np.float64)
    y, error = witness.output(residual, {"module": inner}, x)
    assert (np.abs(y - [5.3, 4.0]) <= error + 1e-15).all()
    found = witness.gradients(residual, None, {"module": inner}, x, dy, {"": []})[""]
    for k, expected in enumerate(dy):
        assert abs(found[(k,)][0] - expected) <= found[(k,)][1] < 1e-12


class Cubed(nn.Module):
    """Somebody's own: y = a x³, with a wrong backward."""

    def __init__(self, size=1.0, rounded=False):
        self.a = nn.Parameter(np.array([size]))
        self.rounded = rounded

    def forward(self, x):
        self.saved = (x,)
        y = self.a.data * x**3
        return y.astype(np.float32).astype(x.dtype) if self.rounded else y

    def backward(self, dy):
        return dy


class TorchCubed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return self.a * x**3


class Bare:
    """With forward, backward and named_parameters, and no more."""

    def __init__(self):
        self.a = nn.Parameter(np.array([1.0]))

    def named_parameters(self):
        yield "a", self.a

    def forward(self, x):
        return self.a.data * x**3


class Failing(Bare):
    def forward(self, x):
        raise ValueError("not today")


@pytest.mark.parametrize(
    ("module", "aim"),
    [
        (Cubed(), 1e-14),
        (Cubed(rounded=True), 1e-9),  # disagrees with its twin: the twin is asked
        (Cubed(2.0), 1e-14),  # theta says what a is
        (Bare(), 1e-9),  # cannot be converted to longdouble
        (Failing(), 1e-9),
    ],
)
def test_a_module_without_a_definition(module, aim):
    x, dy, theta = np.array([[0.3, -2.1]]), np.array([[1.0, 10.0]]), {"a": np.array([1.5])}
    witness = Witness(np.float64)
    assert witness.output(module, theta, x) is None
    assert witness.buffers(module, theta, x) == {}
    found = witness.gradients(module, TorchCubed(), theta, x, dy, {"": [], "a": []})
    expected = {"": 4.5 * dy * x**2, "a": np.array([(dy * x**3).sum()])}
    for key, entries in found.items():
        for index, (value, error) in entries.items():
            assert abs(value - expected[key][index]) <= error + 1e-15 * abs(value)
            assert error <= aim * 200
    assert module.a.data.dtype == np.float64
    assert module.a.data[0] in (1.0, 2.0)


def test_updates():
    g = np.random.default_rng(0)
    p = nn.Parameter(g.normal(size=4))
    own = optim.AdamW([p], lr=0.1)
    q = torch.nn.Parameter(torch.tensor(p.data))
    theirs = twin(own, [q])
    for dtype in (np.float32, np.float64):
        witness, state = Witness(dtype), {}
        for _ in range(3):
            before, gradient = q.detach().numpy().copy(), g.normal(size=4)
            q.grad = torch.tensor(gradient)
            value, error = witness.updated(own, own.param_groups[0], before, gradient, state)
            theirs.step()
            assert (np.abs(value - q.detach().numpy()) <= error + 1e-15).all()
            assert (error <= 1e-13).all()
            assert (error > 0).all()
        theirs.load_state_dict(twin(own, [q]).state_dict())
    assert witness.updated(optim.LBFGS([p]), {}, p.data, p.data, {}) is None
    bad, error = witness.updated(
        own, own.param_groups[0], np.array([np.nan, 1.0]), np.array([1.0, np.inf]), {}
    )
    assert np.isnan(bad).all()
    assert np.isnan(error).all()


def test_the_error_of_an_update_that_cancels_is_true():
    """Centered, s − a² is the 1e-9th part of s: what is left of its digits, by mpmath."""
    p, g = nn.Parameter(np.ones(3)), np.array([0.3, -1.7, 2.9])
    alpha = 1e-9
    own = optim.RMSprop([p], lr=0.1, alpha=alpha, centered=True, eps=0.0)
    value, error = Witness(np.float32).updated(own, own.param_groups[0], p.data, g, {})
    share = mpmath.mpf(1 - alpha)
    with mpmath.workdps(60):
        for k in range(3):
            exact = mpmath.mpf(g[k])
            deviation = mpmath.sqrt(share * exact**2 - (share * exact) ** 2)
            exact = 1 - mpmath.mpf(0.1) * exact / deviation
            own = mpmath.mpf(float(value[k])) + mpmath.mpf(float(value[k] - float(value[k])))
            assert abs(own - exact) <= float(error[k]) <= 1e-3 * abs(exact)


def test_clipping():
    given = [np.array([3.0, -4.0]), np.array([[12.0]])]
    witness = Witness(np.float64)
    (norm, error), found = witness.clipped(
        functools.partial(optim.clip_grad_norm_, max_norm=1.0), given
    )
    assert abs(norm - 13) <= error < 1e-14
    for (value, error), g in zip(found, given, strict=True):
        assert (np.abs(value - g / 13.000001) <= error + 1e-15).all()
        assert (error <= 1e-14).all()
    norm, [(value, error), _] = witness.clipped(
        functools.partial(optim.clip_grad_value_, clip_value=3.5), given
    )
    assert norm is None
    assert value.tolist() == [3.0, -3.5]
    assert witness.clipped(lambda p: None, given) is None
    (norm, _), _ = witness.clipped(
        functools.partial(optim.clip_grad_norm_, max_norm=1.0), [np.array([np.inf])]
    )
    assert np.isnan(norm)


def test_rates():
    groups = [{"params": [nn.Parameter(np.ones(1))], "lr": lr} for lr in (0.3, 0.5)]
    own = optim.SGD(groups)
    scheduler = optim.ExponentialLR(own, 0.9)
    found = Witness(np.float32).rates(scheduler, 4)
    for (rate, error), base in zip(found, (0.3, 0.5), strict=True):
        assert abs(rate - base * 0.9**4) <= error < 1e-15
    own.param_groups[0]["lr"] = 0.2
    assert Witness(np.float32).rates(scheduler, 4) is None  # no closed form from there


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 1.0), (np.float64, 2.5)])
def test_a_network_of_784_128_10_is_asked_in_time(dtype, limit):
    """Ten times as long as it takes; a forward of all in longdouble for each step would not do."""
    g = np.random.default_rng(0)
    x = g.uniform(size=(64, 784)).astype(dtype)
    net = [nn.Linear(784, 128, dtype=dtype), nn.Sigmoid(), nn.Linear(128, 10, dtype=dtype)]
    inputs = [x]
    for module in net:
        inputs.append(module(inputs[-1]))
    criterion, target = nn.CrossEntropyLoss(), g.integers(0, 10, 64)
    criterion(inputs[-1], target)
    dys = [criterion.backward()]
    for module in reversed(net):
        dys.append(module.backward(dys[-1]))
    best = np.inf
    for _ in range(2):
        start, witness = time.perf_counter(), Witness(dtype)
        witness.loss(criterion, inputs[-1], target)
        witness.dprediction(criterion, inputs[-1], target, None, [(0, 0)])
        for module, given, dy in zip(reversed(net), inputs[-2::-1], dys, strict=False):
            theta = {name: p.data for name, p in module.named_parameters()}
            witness.output(module, theta, given)
            witness.gradients(
                module, None, theta, given, dy, {"": [(0, 0)], **{key: [] for key in theta}}
            )
        best = min(best, time.perf_counter() - start)
    assert witness.asked < 80 < 170_000 > witness.of > 150_000
    assert best < limit


UNIT = np.finfo(np.longdouble).eps


def update(**options):
    return optim.RMSprop([nn.Parameter(np.ones(3))], lr=0.1, **options)


def bounds():
    """In units of roundoff of float64. Those of updates are of the 64 bits of a longdouble."""
    witness, found, eps = Witness(np.float32), {}, np.finfo(float).eps
    x = np.arange(12.0).reshape(3, 2, 2) - 4
    module = nn.BatchNorm1d(2, momentum=0.25, dtype=F8)
    theta = {
        "running_mean": np.array([10.0, -0.5]),
        "running_var": np.array([0.5, 300.0]),
        "num_batches_tracked": np.array(3),
    }
    for name, given in (("x", x), ("x, rank 2", x[:, :, 0]), ("no x", x[:0])):
        for key, (_, error) in witness.buffers(module, theta, given).items():
            found[f"{key}, {name}"] = error / eps
    found["output"] = witness.output(nn.Tanh(), {}, x)[1] / eps
    # Without any rounding in fact: what is left is what there might have been.
    theta = {"weight": np.array([[0.5, -2.0]]), "bias": np.array([0.25])}
    linear = nn.Linear(2, 1, dtype=F8), theta, x[0, :1], x[1, :1, 1:]
    for name, (module, theta, given, dy) in (
        ("Identity", (nn.Identity(), {}, x[0], x[1])),
        ("Linear", linear),
    ):
        wanted = {"": [], **{key: [] for key in theta}}
        for key, entries in witness.gradients(module, None, theta, given, dy, wanted).items():
            found[f"{name}, gradient of {key or 'x'}"] = [e / eps for _, e in entries.values()]
    own = optim.SGD([{"params": [nn.Parameter(np.ones(1))], "lr": lr} for lr in (0.5, 0.25)])
    rates = witness.rates(optim.ExponentialLR(own, 0.5), 2)
    found["rates"] = [error / eps for _, error in rates]
    if UNIT == 2.0**-63:
        before, g = np.array([1.0, -2.0, 1e-3]), np.array([0.3, 0.7, -1e-5])
        for name, options in (("plain", {}), ("momentum", {"momentum": 0.9, "centered": True})):
            own, state = update(**options), {}
            for step in range(2):
                _, error = witness.updated(own, own.param_groups[0], before, g + step, state)
                found[f"{name}, step {step}"] = (error / eps).astype(float)
        by_norm = functools.partial(optim.clip_grad_norm_, max_norm=0.5)
        (_, norm), clipped = witness.clipped(by_norm, [g, before[:2]])
        found["norm"] = norm / eps
        by_value = functools.partial(optim.clip_grad_value_, clip_value=0.5)
        for name, each in (("norm", clipped), ("value", witness.clipped(by_value, [g])[1])):
            found[f"clipped by {name}"] = np.concatenate([error for _, error in each]) / eps
    return found


@pytest.mark.skipif(UNIT != 2.0**-63, reason="longdouble has other digits here")
def test_no_bound_has_become_wider():
    found = bounds()
    assert_as_pinned("test_oracle_witness", found)
    # By hand: 8 + 2 √12 units of the larger of the old and the new, with x's size for a mean.
    assert found["running_mean, x"][0] == pytest.approx((8 + 2 * np.sqrt(12)) * (10 + 5))
    assert found["running_var, x"][1] == pytest.approx((8 + 2 * np.sqrt(12)) * 300)
    assert found["rates"] == [0.5 * 1.25, 0.25 * 1.25]


def test_the_error_of_a_value_by_what_a_lower_precision_makes_of_it():
    """8 + √count units of the larger of before and after, and 32 times the difference, of which
    a longdouble has the 2^−11th part."""
    witness, ratio = Witness(np.float64), UNIT / np.finfo(float).eps
    if ratio == 1:
        pytest.skip("longdouble is float64 here")
    value, start = np.array([3.0, -1.0]).astype(np.longdouble), np.array([-2.0, 5.0])
    found = witness._scaled_error(value, 0, start)
    assert found.astype(float) == pytest.approx(9 * UNIT * np.array([3, 5]), rel=1e-12)
    found = witness._scaled_error(value, 0, start, 16)
    assert found.astype(float) == pytest.approx(12 * UNIT * np.array([3, 5]), rel=1e-12)
    found = witness._scaled_error(0 * value, np.array([1e-3, 2.0]), 0 * start)
    assert found.astype(float) == pytest.approx(32 * ratio * np.array([1e-3, 2]), rel=1e-12)


def test_the_dtypes_it_works_in():
    witness = Witness(np.float32)
    value, error = witness.updated(
        *(own := update(), own.param_groups[0], np.ones(3, np.float32), np.ones(3, np.float32)), {}
    )
    assert value.dtype == error.dtype == np.longdouble
    assert witness._up(np.arange(3)).dtype == np.arange(3).dtype
    assert witness._up([0.5]).dtype == np.float64


def test_an_answer_that_is_not_finite_is_none_and_changes_no_other():
    value, error = _answer([1.0, np.inf, 3.0, np.nan], [0.1, 0.1, np.inf, 0.1])
    np.testing.assert_array_equal(value, [1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(error, [0.1, np.nan, np.nan, np.nan])


def test_entries_that_are_asked_about():
    witness = Witness(np.float32)
    assert witness._entries((2, 2), [(1, 0)], 3) == [(1, 0), (0, 0), (0, 1), (1, 1)]
    assert witness._entries((), [], 3) == [()]
    assert witness._entries((0, 3), [], 3) == []
    assert (witness.asked, witness.of) == (5, 5)
    drawn = witness._entries((5,), [], 3)
    assert len(set(drawn)) == len(drawn) == 3  # none twice
    assert sorted(witness._entries((5,), [], 5)) == [(k,) for k in range(5)]
    assert (witness.asked, witness.of) == (5 + 3 + 5, 15)
    found = Witness(np.float32, 7)._entries((40, 50), [(3, 4)], 3)
    flat = np.random.default_rng(7).choice(2000, 3, replace=False)
    assert found == [(3, 4)] + [divmod(int(k), 50) for k in flat]


def test_where_torchs_floor_is_not_reached_there_is_an_answer():
    """p (1 − p) counts for at least 1e-12: of a p of 1.02e-12 it is what it is."""
    p = np.array([1.02e-12, 1.005e-12, 0.5])
    found = Witness(np.float64).dprediction(nn.BCELoss(reduction="sum"), p, np.ones(3), None, [])
    assert [bool(np.isnan(found[(k,)][0])) for k in range(3)] == [False, True, False]
    assert found[(0,)][0] == pytest.approx(-1 / 1.02e-12)
