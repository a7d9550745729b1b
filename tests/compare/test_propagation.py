"""What is allowed: never less than the true rounding error, and not much more."""

import copy
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import torch

import torch_ref
from compare import compare
from compare.cases import Case, cases
from compare.propagation import Bounds
from compare.trace import Run, torch_step
from manual import nn, optim
from tests.compare.allowances import RTOL, RTOL_OF_DRAWS, unchanged
from tests.compare.allowances.steps import PROPAGATED
from torch_ref import twins

CRITERIA = [
    nn.HalfSquaredError(),
    nn.MSELoss(),
    nn.MSELoss("sum"),
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(np.float32([0.5, 1, 2, 4]), label_smoothing=0.2, reduction="sum"),
    nn.CrossEntropyLoss(ignore_index=1),
]
U = 2.0**-24


def within(rows):
    """float64 stands in for the exact values: its own error is 10⁻⁹ of float32's."""
    for side, step, name, error, half, _ in rows:
        assert (error <= half).all(), f"{side}, step {step}, {name}"


# Never below the truth.

SUBJECTS = {case.subject for case in cases(np.dtype(np.float32), np.random.default_rng(0))}
# Where an allowance may be more than 10⁻³ of what is judged: tails of which float32 has no more
# (1 − tanh², 1 + erf, p (dy − s), log p of p near 1), and a bias before BatchNorm1d, whose gradient
# is 0; two sums that cancel; the black box of L-BFGS.
NEAR_0 = {
    ("Tanh", "d_x"),
    ("GELU", "activation"),
    ("GELU", "d_x"),
    ("Softmax", "d_x"),
    ("LogSoftmax", "activation"),
    ("BatchNorm1d", "grad"),
    ("AdamW", "grad"),
    ("LBFGS", "updated"),
}


@pytest.fixture(scope="module", params=[(np.float32, 1), (np.float64, 2)])
def every_case(request, true_errors):
    """(dtype, {subject: [(case's name, its rows)]})"""
    dtype, seed = request.param
    found = defaultdict(list)
    for case in cases(np.dtype(dtype), np.random.default_rng(seed)):
        found[case.subject].append((case.name, true_errors(case, dtype)))
    return dtype, found


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_the_true_error_of_every_case_stays_within_its_half(subject, every_case):
    dtype, found = every_case
    assert found[subject]
    for _, rows in found[subject]:
        if dtype == np.float32:
            within(rows)
        else:  # float64 is no judge of itself, but of its twin: they differ by both errors
            for side, step, name, error, half, _ in rows:
                assert (error <= 2 * half).all(), f"{side}, step {step}, {name}"


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_every_case_leaves_little_room_for_a_mistake(subject, every_case):
    """Of the median entry of a row less than 10⁻³ in float32 and 10⁻¹² in float64, in a subject's
    median case; and in every case less than ten times that, where the row is no difference of
    nearly equal numbers."""
    dtype, found = every_case
    limit = 1e-3 if dtype == np.float32 else 1e-12
    shares = defaultdict(list)
    for name, rows in found[subject]:
        for side, step, row, _, half, size in rows:
            kept = size > 0
            if side == "torch" and step == 0 and kept.any():
                share = np.median((2 * half[kept]) / size[kept])
                shares[row.partition(".")[0]].append(share)
                if (subject, row.partition(".")[0]) not in NEAR_0:
                    assert share < 10 * limit, (name, row)
    for row, of_cases in shares.items():
        assert np.median(of_cases) < limit, row


def setting(seed):
    """A random 3-layer float32 net ending in 4 outputs, data of a random scale."""
    g = np.random.default_rng(seed)
    activation = [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity][seed % 4]
    criterion = CRITERIA[seed % len(CRITERIA)]
    modules = []
    for n_in, n_out in ((9, 33), (33, 17), (17, 4)):
        modules += [nn.Linear(n_in, n_out, generator=g), activation()]
        modules[-2].weight.data *= np.float32(10 ** g.uniform(-1, 0.7))
    net = nn.Sequential(*modules[:-1])
    options = [{}, {"momentum": 0.9, "dampening": 0.2}, {"momentum": 0.9, "nesterov": True}]
    optimizer = optim.SGD(
        net.parameters(), lr=0.01, weight_decay=0.1 * (seed % 2), **options[seed % 3]
    )
    x = (g.normal(size=(20, 9)) * 10 ** g.uniform(-2, 1)).astype(np.float32)
    y = g.normal(size=(20, 4)).astype(np.float32)
    if isinstance(criterion, nn.CrossEntropyLoss):
        y = np.r_[0, 2, g.integers(0, 4, 18)]
    return Case("", {}, net, criterion, x, y, optimizer, steps=3)


@pytest.mark.parametrize("seed", range(24))
def test_the_true_error_of_a_network_stays_within_its_half(seed, true_errors):
    within(true_errors(setting(seed)))


AFTER_A_BAD_LAYER = {
    "BatchNorm1d": lambda g: nn.BatchNorm1d(6),
    "BatchNorm1d, momentum None": lambda g: nn.BatchNorm1d(6, eps=1e-3, momentum=None),
    "Softmax": lambda g: nn.Softmax(1),
    "LogSoftmax": lambda g: nn.LogSoftmax(-1),
    "GELU": lambda g: nn.GELU(),
    "GELU, tanh": lambda g: nn.GELU("tanh"),
    "SiLU": lambda g: nn.SiLU(),
    "Softplus": lambda g: nn.Softplus(),
    "Softplus, early": lambda g: nn.Softplus(2.5, 4.0),
    "ELU": lambda g: nn.ELU(2.0),
    "LeakyReLU": lambda g: nn.LeakyReLU(-0.5),
    "ReLU": lambda g: nn.ReLU(),
    "PReLU": lambda g: nn.PReLU(6, init=-2.3),
    "Maxout": lambda g: nn.Maxout(2),
    "Sigmoid": lambda g: nn.Sigmoid(),
    "LogSigmoid": lambda g: nn.LogSigmoid(),
    "Tanh": lambda g: nn.Tanh(),
    "Arctan": lambda g: nn.Arctan(),
    "Step": lambda g: nn.Step(),
    "Dropout": lambda g: nn.Dropout(0.3, g),
    "Residual": lambda g: nn.Residual(nn.Tanh()),
    "L1Loss": lambda g: nn.Identity(),
    "BCEWithLogitsLoss": lambda g: nn.Identity(),
    "CrossEntropyLoss": lambda g: nn.Identity(),
}


def badly_scaled(kind, seed):
    """A layer whose outputs are large and nearly equal, all rounding, or just large; then the
    module, and a loss that is as badly off. After BatchNorm1d sometimes a layer."""
    g = np.random.default_rng(seed)
    first, x = nn.Linear(4, 6, generator=g), g.normal(size=(8, 4)).astype(np.float32)
    first.weight.data *= np.float32(10 ** g.uniform(-1, 1.5))
    if seed % 3 == 0:
        offset = 10 ** g.uniform(0, 4, 6) * g.choice([-1, 1], 6)
        first.bias.data += offset.astype(np.float32)
    elif seed % 3 == 1:  # w x − w (x + some units in the last place)
        first.weight.data *= np.float32(10 ** g.uniform(0, 4))
        first.weight.data[:, 2:] = -first.weight.data[:, :2]
        x[:, 2:] = x[:, :2] * (1 + 4 * np.float32(U) * g.integers(-3, 4, (8, 2)))
        first.bias.data[:] = 0
    else:
        first.weight.data *= np.float32(10 ** g.uniform(0, 3))
    modules = [first, AFTER_A_BAD_LAYER[kind](g)]
    if "BatchNorm1d" in kind and seed % 2:
        modules.append(nn.Linear(6, 6, generator=g))
    net = nn.Sequential(*modules)
    y = g.normal(size=(8, 3 if kind == "Maxout" else 6)).astype(np.float32)
    between = g.uniform(0, 1, (8, 6)).astype(np.float32)
    criterion = [nn.HalfSquaredError(), nn.MSELoss("none"), nn.MSELoss()][seed % 3]
    if kind == "Sigmoid":
        criterion, y = nn.BCELoss(reduction=["mean", "sum", "none"][seed % 3]), between
    elif kind == "BCEWithLogitsLoss":
        weight = g.uniform(0.5, 3, 6).astype(np.float32)
        criterion, y = nn.BCEWithLogitsLoss(pos_weight=weight), between
    elif kind == "CrossEntropyLoss":
        criterion, y = nn.CrossEntropyLoss(label_smoothing=0.1), g.integers(0, 6, 8)
    elif kind == "LogSoftmax" and seed % 2:
        criterion, y = nn.NLLLoss(), g.integers(0, 6, 8)
    elif kind == "L1Loss":
        criterion = nn.L1Loss()
    return Case(kind, {}, net, criterion, x, y, optim.SGD(net.parameters(), lr=0.01), steps=2)


@pytest.mark.parametrize("kind", AFTER_A_BAD_LAYER)
def test_the_true_error_stays_within_its_half_where_inputs_are_badly_off(kind, true_errors):
    for seed in range(9):
        rows = true_errors(badly_scaled(kind, seed))
        assert all(np.isfinite(half).all() for *_, half, _ in rows), seed
        within(rows)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize("seed", range(24))
def test_the_probes_of_lbfgs_cover_float32(seed, line_search, true_errors):
    g = np.random.default_rng(seed)
    net = nn.Sequential(
        nn.Linear(3, 5, generator=g),
        nn.Dropout(0.2, g) if seed % 4 == 3 else nn.Identity(),
        [nn.Tanh, nn.Sigmoid][seed % 2](),
        nn.Linear(5, 3, generator=g),
    )
    optimizer = optim.LBFGS(
        net.parameters(), lr=[1, 0.3][seed % 2], max_iter=5, line_search_fn=line_search
    )
    x = g.normal(size=(12, 3)).astype(np.float32)
    criterion, y = nn.MSELoss(), g.normal(size=(12, 3)).astype(np.float32)
    if seed % 3:
        criterion, y = nn.CrossEntropyLoss(), g.integers(0, 3, 12)
    within(true_errors(Case("", {}, net, criterion, x, y, optimizer)))


def test_the_probes_of_lbfgs_see_the_masks_of_the_step(true_errors):
    """Another mask would spread them by as much as the weights themselves move."""
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 4, generator=g), nn.Dropout(0.5, g))
    optimizer = optim.LBFGS(net.parameters(), max_iter=2, lr=0.1)
    x, y = (g.normal(size=(8, n)).astype(np.float32) for n in (3, 4))
    for _, _, name, _, half, size in true_errors(Case("", {}, net, nn.MSELoss(), x, y, optimizer)):
        if name.startswith("updated"):
            assert np.median(half) < 1e-4 * np.median(size), name


def test_the_update_takes_the_clipped_gradient():
    g = np.random.default_rng(0)
    net, x, y = nn.Linear(3, 4, generator=g), g.normal(size=(8, 3)), g.normal(size=(8, 4))
    optimizer = optim.SGD(net.parameters(), lr=0.7)
    sides = twins(net, nn.MSELoss("sum"), optimizer, dtype=torch.float64)
    clip = partial(torch.nn.utils.clip_grad_norm_, max_norm=0.1)
    bounds = Bounds(Run(*sides, clip=clip), np.dtype(np.float32))
    bounds.step(torch.tensor(x), torch.tensor(y))
    e, v = bounds.bounds, {name: np.abs(value) for name, value in bounds.values.items()}
    assert (100 * v["clipped.weight"] < v["grad.weight"]).all()
    np.testing.assert_allclose(
        e["updated.weight"],
        0.7 * (e["clipped.weight"] + 2 * U * v["clipped.weight"]) + U * v["updated.weight"],
        rtol=1e-5,
    )


def nested(g, depth):
    inside = nested(g, depth - 1) if depth > 1 else nn.Tanh()
    return nn.Residual(nn.Sequential(nn.Linear(4, 4, generator=g), inside))


@pytest.mark.parametrize("seed", range(8))
def test_the_true_error_stays_within_its_half_in_nested_residuals(seed, true_errors):
    g = np.random.default_rng(seed)
    shared = np.random.default_rng(seed)  # one generator for two: the second mask is another
    net = nn.Sequential(
        nn.Linear(3, 4, generator=g),
        nn.Residual(nn.Dropout(0.5, shared)),
        nested(g, 3),
        nn.Residual(nn.Identity()),
        nn.Residual(nn.Residual(nn.Dropout(0.5, shared))),
    )
    x, y = (g.normal(size=(6, n)).astype(np.float32) for n in (3, 4))
    optimizer = optim.SGD(net.parameters(), lr=0.001)
    rows = true_errors(Case("", {}, net, nn.MSELoss(), x, y, optimizer, steps=3))
    within(rows)
    for side, step, name, _, half, size in rows:  # the sum of skip and branch, and no more
        if side == "torch" and step == 0 and name.startswith("activation"):
            assert half.mean() < 1e-4 * size.mean(), name


def test_an_error_passes_through_a_residual_by_both_its_ways():
    """y = x + f(x) with f linear, x, f's weight and dy off by what a layer before and the loss
    leave; the sum is rounded once more."""
    g = np.random.default_rng(0)
    first, inner = (nn.Linear(4, 4, dtype=np.float64, generator=g) for _ in range(2))
    net = nn.Sequential(first, nn.Residual(inner))
    x, y = (torch.tensor(g.normal(size=(6, 4))) for _ in range(2))
    bounds = Bounds(Run(*twins(net, nn.MSELoss(), None)), np.dtype(np.float32))
    bounds.step(x, y)
    e, v = bounds.bounds, {name: np.abs(value) for name, value in bounds.values.items()}
    np.testing.assert_allclose(
        e["activation.1"],
        e["activation.0"] + e["activation.1.module"] + U * v["activation.1"],
        rtol=1e-12,
    )
    np.testing.assert_array_equal(e["d_activation.1.module"], e["d_activation.1"])
    w = np.abs(inner.weight.data)
    of_f = e["d_activation.1"] @ w + 4 * U * (v["d_activation.1"] + e["d_activation.1"]) @ w
    np.testing.assert_allclose(
        e["d_activation.0"],
        e["d_activation.1"] + of_f + U * v["d_activation.0"],
        rtol=1e-6,
    )


def test_a_custom_module_has_its_buffers_bounded_too():
    class Counts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(3, dtype=torch.float64))

        def forward(self, x):
            self.seen += x.detach().sum(0)
            return 2 * x

    x = torch.tensor(np.random.default_rng(0).normal(size=(5, 3)))
    net = torch_ref.modules.Sequential(Counts())
    for _ in range(2):
        allowed = Bounds(Run(net, torch.nn.MSELoss()), np.dtype(np.float32)).step(x, x)
        size = x.abs().sum(0).numpy()
        assert (allowed["buffer.0.seen"] >= U * size).all()
        assert (allowed["buffer.0.seen"] <= 400 * U * size).all()


# Not much above it.


@pytest.mark.parametrize("seed", range(12))
def test_an_ordinary_network_leaves_no_room_for_a_mistake(seed):
    """torch's initial weights, unit inputs: of a gradient's median entry less than 10⁻³ in
    float32 and 10⁻¹² in float64."""
    for dtype, limit in ((np.float32, 1e-3), (np.float64, 1e-12)):
        g = np.random.default_rng(seed)
        net = nn.Sequential(
            nn.Linear(30, 20, dtype=dtype, generator=g),
            [nn.Sigmoid, nn.Tanh, nn.ReLU][seed % 3](),
            nn.Linear(20, 4, dtype=dtype, generator=g),
        )
        criterion = nn.CrossEntropyLoss()
        x, y = torch.from_numpy(g.normal(size=(16, 30))), torch.from_numpy(g.integers(0, 4, 16))
        exact = twins(net, criterion, None, dtype=torch.float64)
        values = {
            row.name: np.abs(row.value) for row in torch_step(Run(*exact), x, y).rows.values()
        }
        allowed = Bounds(Run(*exact), np.dtype(dtype)).step(x, y)
        for name in ("grad.0.weight", "grad.0.bias", "grad.2.weight", "grad.2.bias"):
            kept = values[name] > 0
            middle = np.argsort(values[name][kept])[kept.sum() // 2]
            assert allowed[name][kept][middle] < limit * values[name][kept][middle], name


def test_no_row_of_an_ordinary_network_leaves_room_for_a_mistake():
    """Of the median entry less than 10⁻³: of an update's with lr nearly 1, too."""
    g = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(9, 8, generator=g), nn.Tanh(), nn.Linear(8, 4, generator=g))
    optimizer = optim.SGD(net.parameters(), lr=0.9)
    exact = twins(net, nn.CrossEntropyLoss(), optimizer, dtype=torch.float64)
    x, y = torch.from_numpy(g.normal(size=(16, 9))), torch.from_numpy(g.integers(0, 4, 16))
    again = twins(net, nn.CrossEntropyLoss(), optimizer, dtype=torch.float64)
    values = {row.name: np.abs(row.value) for row in torch_step(Run(*again), x, y).rows.values()}
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
            0.9 * e + 2 * U * (2 * 0.9 * g + values[f"updated.{name}"]),
            rtol=1e-5,
        )


def test_what_is_hardly_larger_than_0_may_be_lost():
    """In float64 E itself underflows for values of 10⁻³²⁰, and so does a Softplus of −800, which is
    no 0; a ReLU's is exact."""
    x, tiny = np.array([-737.0, -800.0, 0.0]), np.finfo(np.float64).tiny
    found = []
    for net in (nn.Softplus(), nn.ReLU()):
        exact = twins(net, nn.MSELoss("none"), None, dtype=torch.float64)
        allowed = Bounds(Run(*exact), np.dtype(np.float64)).step(
            torch.tensor(x), torch.zeros(3).double(), np.ones
        )
        found.append(allowed["activation"])
    np.testing.assert_array_equal(found[0][:2], [4 * tiny, 4 * tiny])
    assert 4 * tiny < found[0][2] < 1e-14
    np.testing.assert_array_equal(found[1], 0)


def test_a_product_of_small_numbers_may_be_the_smallest_number_or_0():
    """dy σ' = 10⁻⁴³ · 10⁻²⁸⁰ of a SiLU, factor by factor."""
    x = np.linspace(-655, -640, 400)
    net, criterion = nn.SiLU(), nn.HalfSquaredError()
    y = np.full(x.shape, -5e-43)  # the prediction is smaller still, so dy = 5e-43
    comparison = compare(net, criterion, x, y, allow_vacuous=["*"])
    assert comparison.passed, comparison
    row = comparison.frame.set_index("name").loc["d_x"]
    assert row.allowed <= 4 * np.finfo(np.float64).tiny


def test_twins_are_used_up_by_the_bounds_alone():
    net, criterion, x, y = setting(0)[2:6]
    before = net.state_dict()
    twin = torch_ref.twin(net, dtype=torch.float64)
    Bounds(Run(twin, torch_ref.twin(criterion)), np.dtype(np.float32)).step(
        torch.from_numpy(x).double(), torch.from_numpy(y).double()
    )
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("name", PROPAGATED)
def test_the_numbers_are_as_they_were(name):
    rtol = RTOL_OF_DRAWS if name == "drawing" else RTOL
    unchanged("propagation", name, PROPAGATED[name](), rtol)


def test_a_step_of_lbfgs_starts_where_the_last_has_left_it():
    """From the state that the optimizer had before the step, and the errors of its parameters."""
    net = torch_ref.modules.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=2)
    bounds = Bounds(Run(net, torch.nn.MSELoss(), optimizer), np.dtype(np.float32))
    x, y = (torch.tensor(np.random.default_rng(n).normal(size=(6, n))) for n in (3, 2))
    names = list(bounds.errors)
    for _ in range(2):
        before = copy.deepcopy(optimizer.state_dict()["state"])
        errors = dict(bounds.errors)
        bounds.step(x, y)
        found = bounds.lbfgs.state["state"]
        assert found.keys() == before.keys()
        for k, kept in before.items():
            assert found[k].keys() == kept.keys()
            assert all(str(found[k][name]) == str(kept[name]) for name in kept)
        for name, p in net.named_parameters():
            np.testing.assert_array_equal(bounds.lbfgs.errors[name], errors[name])
            assert bounds.errors[name].shape == tuple(p.shape)
            np.testing.assert_array_equal(bounds.errors[name], bounds.bounds[f"updated.{name}"])
            assert (bounds.errors[name] > 0).all()
        assert list(bounds.errors) == names
