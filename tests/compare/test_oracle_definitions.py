"""The definitions against mpmath and against the twins in float64: two further formulas each."""

import copy
import functools

import mpmath
import numpy as np
import pytest
import torch

from compare.oracle.definitions import buffers_after, class_axis, definition, moments
from compare.oracle.losses import loss_definition
from compare.oracle.noise import noise
from compare.oracle.normal import normal_distribution
from compare.oracle.optimizers import clipped, known, rates_after
from manual import nn, optim
from torch_ref import twin

mpmath.mp.dps = 60
mpf = mpmath.mpf
F8 = np.float64


def exactly(number):
    """All digits of a number of NumPy's in mpmath, however small."""
    mantissa, exponent = np.frexp(number)
    high = float(mantissa)
    return mpmath.ldexp(mpf(high) + mpf(float(mantissa - type(mantissa)(high))), int(exponent))


def phi(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def tanh_phi(x):
    return sigma(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpf("0.044715") * x**3))


def sigma(x):  # also (1 + tanh(x/2)) / 2
    return 1 / (1 + mpmath.exp(-x))


EXACT = {
    "Sigmoid": (nn.Sigmoid(), sigma),
    "LogSigmoid": (nn.LogSigmoid(), lambda x: -mpmath.log1p(mpmath.exp(-x))),
    "Tanh": (nn.Tanh(), mpmath.tanh),
    "Arctan": (nn.Arctan(), mpmath.atan),
    "ELU": (nn.ELU(0.7), lambda x: x if x > 0 else mpf(0.7) * mpmath.expm1(x)),
    "Softplus": (nn.Softplus(), lambda x: x if x > 20 else mpmath.log1p(mpmath.exp(x))),
    "Softplus(-3, 2)": (
        nn.Softplus(-3.0, 2.0),
        lambda x: x if -3 * x > 2 else mpmath.log1p(mpmath.exp(-3 * x)) / -3,
    ),
    "SiLU": (nn.SiLU(), lambda x: x * sigma(x)),
    "GELU": (nn.GELU(), lambda x: x * phi(x)),
    "GELU(tanh)": (nn.GELU("tanh"), lambda x: x * tanh_phi(x)),
    "ReLU": (nn.ReLU(), lambda x: max(x, mpf(0))),
    "LeakyReLU": (nn.LeakyReLU(0.3), lambda x: x if x > 0 else mpf(0.3) * x),
    "Step": (nn.Step(), lambda x: mpf(x >= 0)),
}


def points():
    generator = np.random.default_rng(0)
    sizes = 10.0 ** generator.uniform(-8, 2, 60)
    special = [0.0, 1.499999, 1.5, 1.500001, -1.5, 20.0, 20.5, -20.0, 100.0, -100.0, 6.0, -6.0]
    return np.concatenate([special, sizes, -sizes])


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
@pytest.mark.parametrize("name", EXACT)
def test_an_activation_is_within_its_noise_of_the_exact_value(name, dtype):
    module, exact = EXACT[name]
    x = points().astype(dtype)
    y = definition(module)({}, x)
    allowed = noise(module, {}, x, y)
    assert y.dtype == dtype
    for xi, yi, e in zip(x, y, allowed, strict=True):
        value = exact(mpf(float(xi)))
        assert abs(exactly(yi) - value) <= exactly(e), (name, xi)
        if not (name == "Softplus" and xi == 20):  # where both sides of the threshold are right
            assert e <= 50 * np.finfo(dtype).eps * abs(float(value)) * max(1, abs(xi)) ** 3 + 1e-300


def test_the_normal_distribution_has_18_digits():
    x = points().astype(np.longdouble)
    for xi, own in zip(x, normal_distribution(x), strict=True):
        value = phi(mpf(float(xi)))
        error = abs(exactly(own) - value) / value
        assert error <= float(np.finfo(np.longdouble).eps) * (
            (20 if xi < 0 else 10) + min(0.0, float(xi)) ** 2
        )
        if abs(xi) == 1.5:  # where the series has lost 6 units, the fraction none
            assert error <= float(np.finfo(np.longdouble).eps)


CASES = {
    "Linear": (lambda: nn.Linear(5, 3, dtype=F8), [(4, 5), (5,), (2, 3, 5), (1, 5), (0, 5)]),
    "Linear without bias": (lambda: nn.Linear(4, 4, bias=False, dtype=F8), [(4, 4)]),
    "Identity": (nn.Identity, [(), (3,), (2, 3)]),
    "Flatten": (nn.Flatten, [(4, 2, 3), (2, 3, 4, 2), (0, 2, 3)]),
    "Flatten(0, 1)": (lambda: nn.Flatten(0, 1), [(4, 2, 3)]),
    "Flatten(0)": (lambda: nn.Flatten(0), [()]),
    "Sigmoid": (nn.Sigmoid, [(), (3,), (2, 3, 4)]),
    "LogSigmoid": (nn.LogSigmoid, [(), (2, 3)]),
    "Tanh": (nn.Tanh, [(), (2, 3)]),
    "Arctan": (nn.Arctan, [(), (2, 3)]),
    "SiLU": (nn.SiLU, [(), (2, 3)]),
    "GELU": (nn.GELU, [(), (2, 3)]),
    "GELU(tanh)": (lambda: nn.GELU("tanh"), [(), (2, 3)]),
    "ELU": (lambda: nn.ELU(1.7), [(), (2, 3)]),
    "Softplus": (lambda: nn.Softplus(2.0, 1.0), [(), (4, 5)]),
    "ReLU": (nn.ReLU, [(), (2, 3)]),
    "LeakyReLU": (lambda: nn.LeakyReLU(-0.4), [(), (2, 3)]),
    "PReLU": (lambda: nn.PReLU(dtype=F8), [(), (3,), (2, 3), (2, 3, 4)]),
    "PReLU(3)": (lambda: nn.PReLU(3, dtype=F8), [(2, 3), (2, 3, 4), (2, 3, 4, 2)]),
    "Step": (nn.Step, [(), (2, 3)]),
    "Maxout": (lambda: nn.Maxout(3), [(6,), (2, 9), (2, 2, 3)]),
    "Softmax(0)": (lambda: nn.Softmax(0), [(), (3,), (2, 3), (2, 3, 4)]),
    "Softmax(-1)": (lambda: nn.Softmax(-1), [(3,), (2, 3), (2, 0)]),
    "Softmax(1)": (lambda: nn.Softmax(1), [(2, 3, 4), (2, 1)]),
    "Softmax(None)": (nn.Softmax, [(), (3,), (2, 3), (2, 3, 4), (2, 3, 2, 2)]),
    "LogSoftmax(None)": (nn.LogSoftmax, [(2, 3), (2, 3, 4)]),
    "LogSoftmax(0)": (lambda: nn.LogSoftmax(0), [(), (3,), (2, 3), (2, 3, 4)]),
    "LogSoftmax(1)": (lambda: nn.LogSoftmax(1), [(2, 3), (2, 3, 4), (0, 3)]),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3, dtype=F8), [(4, 3), (2, 3, 4)]),
    "BatchNorm1d(eps)": (lambda: nn.BatchNorm1d(3, eps=0.3, dtype=F8), [(4, 3)]),
    "BatchNorm1d(affine)": (lambda: nn.BatchNorm1d(3, affine=False, dtype=F8), [(4, 3)]),
    "BatchNorm1d(bias)": (lambda: nn.BatchNorm1d(3, bias=False, dtype=F8), [(4, 3)]),
    "BatchNorm1d(untracked)": (
        lambda: nn.BatchNorm1d(3, track_running_stats=False, dtype=F8),
        [(4, 3)],
    ),
    "BatchNorm1d(momentum)": (lambda: nn.BatchNorm1d(3, momentum=None, dtype=F8), [(4, 3)]),
    "Dropout": (lambda: nn.Dropout(0.4, np.random.default_rng(5)), [(), (2, 3)]),
    "Dropout(0)": (lambda: nn.Dropout(0.0, np.random.default_rng(5)), [(2, 3)]),
    "Dropout(1)": (lambda: nn.Dropout(1.0, np.random.default_rng(5)), [(2, 3)]),
}


def made(name, shape, seed):
    """(module with parameters and buffers drawn, theta, x)."""
    generator = np.random.default_rng(seed)
    module = CASES[name][0]()
    for p in module.parameters():
        p.data[...] = generator.normal(size=p.shape)
    for key, buffer in module.named_buffers():
        if buffer.dtype.kind == "f":
            buffer[...] = generator.uniform(0.5, 2, buffer.shape)
        else:
            buffer[...] = 6
        assert key
    theta = {key: p.data.copy() for key, p in module.named_parameters()}
    theta |= {key: b.copy() for key, b in module.named_buffers()}
    return module, theta, generator.normal(size=shape) * 3


RUNS = [(name, shape) for name, (_, shapes) in CASES.items() for shape in shapes]


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "shape"), RUNS)
def test_a_definition_gives_what_the_twin_gives(name, shape, training):
    if 0 in shape and name.startswith("BatchNorm"):
        return
    module, theta, x = made(name, shape, 1)
    module.train(training)
    theirs = twin(module, dtype=torch.float64)
    before = copy.deepcopy((theta, x))
    for dtype in (np.float64, np.longdouble):
        cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in theta.items()}
        f, given = definition(module), x.astype(dtype)
        y = f(cast, given)
        assert y.dtype == dtype
        assert np.array_equal(f(cast, given), y)  # pure: the same mask, the same statistics
        expected = copy.deepcopy(theirs)(torch.tensor(x)).detach().numpy()
        assert y.shape == expected.shape
        e = noise(module, cast, given, y)
        e64 = noise(module, theta, x, expected)
        assert np.broadcast_shapes(e.shape, y.shape) == y.shape
        # torch's own rounding beside ours; its GELU cancels for x < 0, like 1 + erf
        assert (np.abs(y - expected) <= e + 4 * e64 + 2e-16 * np.abs(x).max(initial=0)).all()
    assert all(np.array_equal(theta[k], v) for k, v in before[0].items())
    assert np.array_equal(x, before[1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "shape"), [run for run in RUNS if run[0].startswith("Batch")])
def test_the_buffers_after_a_forward(name, shape, training):
    module, theta, x = made(name, shape, 2)
    module.train(training)
    theirs = twin(module, dtype=torch.float64)
    theirs(torch.tensor(x))
    found = buffers_after(module, theta, x)
    expected = {key: b.numpy() for key, b in theirs.named_buffers()}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() <= 1e-14, key
    assert buffers_after(nn.Linear(2, 2), {}, x) == {}


def test_a_residual_adds_what_its_inner_module_gave():
    x, inner = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    y = definition(nn.Residual(nn.Tanh()))({"module": inner}, x)
    assert y.tolist() == [1.5, 1.0]


def test_every_public_name_has_a_definition():
    """Run through part by part, or only a base: these have none."""
    without = {"Criterion", "Module", "Parameter", "Sequential", "Optimizer", "lr_scheduler"}
    modules = {name.partition("(")[0].partition(" ")[0]: make for name, (make, _) in CASES.items()}
    modules["Residual"] = lambda: nn.Residual(nn.Tanh())
    parameter = nn.Parameter(np.zeros(2))
    schedules = {
        "StepLR": {"step_size": 2},
        "ExponentialLR": {"gamma": 0.5},
        "CosineAnnealingLR": {"T_max": 3},
    }
    limits = {"clip_grad_norm_": "max_norm", "clip_grad_value_": "clip_value"}
    optimizers = set()
    for name in sorted({*nn.__all__, *optim.__all__} - without):
        kind = getattr(nn, name, None) or getattr(optim, name)
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            assert definition(modules[name]()) is not None, name  # KeyError: it has no test
        elif isinstance(kind, type) and issubclass(kind, nn.Criterion):
            assert loss_definition(kind()) is not None, name
        elif name in schedules:
            schedule = kind(optim.SGD([parameter]), **schedules[name])
            assert rates_after(schedule, 1) is not None, name
        elif isinstance(kind, type):
            assert issubclass(kind, optim.Optimizer), name
            optimizers.add(name)
            assert known(kind([parameter])) or name == "LBFGS", name
        else:
            assert clipped(functools.partial(kind, **{limits[name]: 1.0}), [np.ones(2)]), name
    assert optimizers == {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS"}


class SameTwin(nn.Tanh):
    """Another way to the same values."""


class OtherTwin(nn.Tanh):
    """Other values."""


class Unknown(nn.Module):
    def forward(self, x):
        return x


@twin.register
def _(module: OtherTwin) -> torch.nn.Module:
    return torch.nn.Sigmoid()


def test_a_class_of_ones_own_has_its_bases_definition_only_with_its_bases_twin():
    x = np.array([0.3])
    assert definition(SameTwin())({}, x) == definition(nn.Tanh())({}, x)
    assert definition(OtherTwin()) is None
    assert definition(Unknown()) is None
    assert definition(object()) is None
    assert loss_definition(nn.Criterion()) is None


def test_channels_of_any_two_sizes_have_their_own_mean_and_variance():
    """What rounding leaves in the mean of one, 0.1 + 0.1 + 0.1 over 3, is taken out."""
    x = np.array([[0.1, 1e9, 1.0], [0.1, 1e9 + 1, 2.0], [0.1, 1e9 + 2, 6.0]])
    centred, variance, mean = moments(x)
    assert centred.tolist() == [[0, -1, -2], [0, 0, -1], [0, 1, 3]]
    assert variance.tolist() == [[0, 2 / 3, 14 / 3]]
    assert mean.tolist() == [[0.1, 1e9 + 1, 3]]
    long = np.moveaxis(np.stack([x, x]), 1, 2)  # (2, 3, 3): the same, twice
    for found, expected in zip(moments(long), (centred, variance, mean), strict=True):
        assert np.array_equal(found[0], expected.T)


@pytest.mark.parametrize("function", [nn.Softmax(-1), nn.LogSoftmax(-1)], ids=repr)
def test_rows_far_from_0_and_from_each_other(function):
    x = np.array([[0.0, 1.0], [5000.0, 5001.0], [-5000.0, -4999.0]])
    y = definition(function)({}, x)
    assert np.array_equal(y, y[[0, 0, 0]])
    assert (np.exp(y) if isinstance(function, nn.LogSoftmax) else y).sum() == pytest.approx(3)


def test_at_the_threshold_a_softplus_still_bends():
    y = definition(nn.Softplus(2.0, 1.0))({}, np.array([0.5, 0.50001]))
    assert y == pytest.approx([np.log1p(np.e) / 2, 0.50001], abs=1e-15)


def test_of_no_classes_there_is_no_share():
    for function in (nn.Softmax(-1), nn.LogSoftmax(-1)):
        assert definition(function)({}, np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_without_a_dim_it_is_torchs_old_rule():
    assert [class_axis(None, ndim) for ndim in range(5)] == [0, 0, 1, 0, 1]
    assert class_axis(-1, 3) == -1
    x = np.log([[[1.0, 3.0]], [[3.0, 1.0]]])
    assert np.exp(definition(nn.LogSoftmax())({}, x)).ravel() == pytest.approx(
        [0.25, 0.75, 0.75, 0.25]
    )


@pytest.mark.parametrize(("momentum", "share"), [(0.5, 0.5), (None, 0.25)])
def test_running_statistics_go_to_the_batchs_by_a_share(momentum, share):
    """Of the batch, mean 3 and variance 4 (over n − 1); without a momentum, 1 of 3 + 1 batches."""
    module, x = nn.BatchNorm1d(2, momentum=momentum), np.array([[1.0, 5.0], [3.0, 1.0], [5.0, 3.0]])
    theta = {"running_mean": np.array([10.0, 2.0]), "running_var": np.array([8.0, 0.0])}
    after = buffers_after(module, theta | {"num_batches_tracked": np.array(3)}, x)
    assert after["running_mean"] == pytest.approx([10 - 7 * share, 2 + share])
    assert after["running_var"] == pytest.approx([8 - 4 * share, 4 * share])
    assert after["num_batches_tracked"] == 4


class Drawing:
    """A generator that gives 0.4, then 0.39, then 0.4 …"""

    drawn = 0

    def random(self, shape):
        self.drawn += 1
        return np.full(shape, 0.4 if self.drawn % 2 else 0.39)


def test_the_mask_is_the_next_one_of_the_module_whose_generator_stays():
    module = nn.Dropout(0.4, np.random.default_rng(0))
    module.generator = Drawing()
    f = definition(module)
    for shape in ((2,), (3,), (2,)):  # for each the first: 0.4 is not below 0.4
        assert f({}, np.ones(shape)).tolist() == [1 / 0.6] * shape[0]
    module = nn.Dropout(0.4, np.random.default_rng(0))
    f, expected = definition(module), np.random.default_rng(0).random(8) >= 0.4
    for _ in range(2):
        assert (f({}, np.ones(8)) != 0).tolist() == expected.tolist()
        assert (f({}, np.ones((4, 2))) != 0).ravel().tolist() == expected.tolist()
    module(np.ones(8))
    assert (f({}, np.ones((2, 4))) != 0).ravel().tolist() == expected.tolist()
