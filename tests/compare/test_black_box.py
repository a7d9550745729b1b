"""E of a function without a rule: it covers what rounding does, and not much more."""

import numpy as np
import pytest
import torch

from compare.backward.functions import Reference
from compare.rounding import Rounding
from compare.rounding.black_box import Shaken, _count, decomposition_table, rounded, spread

F = torch.nn.functional
FUNCTIONS = {
    "tanh": (torch.tanh, [(6, 5)]),
    "tanh of large": (lambda x: torch.tanh(4 + x), [(6, 5)]),
    "gelu": (lambda x: F.gelu(3 * x - 4), [(6, 5)]),
    "gelu, tanh": (lambda x: F.gelu(3 * x - 4, approximate="tanh"), [(6, 5)]),
    "silu": (lambda x: F.silu(4 * x), [(6, 5)]),
    "softmax": (lambda x: torch.softmax(5 * x, -1), [(6, 5)]),
    "log_softmax": (lambda x: torch.log_softmax(5 * x, -1), [(6, 5)]),
    "logsumexp": (lambda x: torch.logsumexp(5 * x, -1), [(6, 5)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [(6, 5), (5,), (5,)]),
    "layer_norm, all but cancelled": (lambda x: F.layer_norm(x, (2,)), [(6, 2)]),
    "group_norm": (lambda x: F.group_norm(x, 2), [(3, 4, 5)]),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), [(6, 5)]),
    "linear": (F.linear, [(6, 50), (7, 50), (7,)]),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [(2, 3, 40), (2, 40, 5)]),
    "conv1d": (F.conv1d, [(3, 4, 9), (5, 4, 3), (5,)]),
    "inverse": (torch.linalg.inv, [(5, 5)]),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=-1), [(6, 5)]),
    "std": (lambda x: (x + 10).std(-1), [(6, 5)]),
    "cumsum": (lambda x: torch.cumsum(x, 0), [(50, 2)]),
    "prod": (lambda x: torch.prod(x, 0), [(5, 6)]),
    "long sum": (lambda x: x.sum(0), [(4000, 3)]),
    "broadcast": (lambda x, b: x + b, [(4000, 3), (3,)]),
    "embedding": (lambda w: F.embedding(torch.tensor([0, 1, 1, 0, 2]), w), [(4, 3)]),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), [(2, 3, 8)]),
    "smooth_l1": (lambda x, y: F.smooth_l1_loss(x, y), [(6, 5), (6, 5)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.arange(5)), [(5, 7)]),
    "attention": (F.scaled_dot_product_attention, [(4, 5), (6, 5), (6, 3)]),
}


# Of these most is lost, in either dtype.
CANCELLED = ["tanh of large", "gelu", "gelu, tanh", "layer_norm, all but cancelled"]


def setting(name, dtype, seed):
    """(outputs and gradients as a function of the arrays, the arrays)."""
    f, shapes = FUNCTIONS[name]
    g = np.random.default_rng(seed)
    arrays = [g.normal(size=shape).astype(dtype) for shape in shapes]
    dy = g.normal(size=f(*(torch.tensor(a) for a in arrays)).shape).astype(np.float32)

    def everything(arrays):
        outputs, (slopes,) = Reference(f).gradients(arrays, [dy])
        return [*outputs, *slopes]

    return everything, arrays


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_covers_the_distance_of_float32_from_float64(name):
    """And of the sizes at which a hundredth too much has to show, all but a few are caught."""
    for seed in range(3):
        everything, arrays = setting(name, np.float32, seed)
        wide = [a.astype(np.float64) for a in arrays]
        exact, found = everything(wide), everything(arrays)
        for value, mine, e in zip(
            exact, found, spread(everything, wide, np.dtype(np.float32)), strict=True
        ):
            assert e.shape == value.shape
            assert (np.abs(mine - value) <= e).all()
            if name not in CANCELLED:
                assert np.median(e) <= 2e-3 * np.median(np.abs(value[value != 0]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_float64_it_is_less_in_proportion(name):
    everything, arrays = setting(name, np.float32, 0)
    wide = [a.astype(np.float64) for a in arrays]
    of_single, of_double = (spread(everything, wide, np.dtype(d)) for d in ("f4", "f8"))
    for single, double in zip(of_single, of_double, strict=True):
        ratio = np.median(single) / np.median(double) / 2.0**29
        assert 1 / 8 < ratio < 8


def test_at_a_tie_and_at_a_kink_it_does_not_take_the_other_branch_for_rounding():
    g = np.random.default_rng(0)
    a = np.round(2 * g.normal(size=(40,)))
    b = np.where(g.uniform(size=40) < 0.5, a, np.round(2 * g.normal(size=40)))
    dy = g.uniform(1, 2, 40)
    for f in (
        torch.maximum,
        lambda a, b: (a - b).abs(),
        lambda a, b: torch.relu(1 - a) * b,
        lambda a, b: F.hardtanh(a) + F.hardtanh(b, 1, 2),
        lambda a, b: torch.stack([a, b]).amax(0),
        lambda a, b: torch.where(a > b, a, 2 * b),
    ):

        def everything(arrays, f=f):
            outputs, (slopes,) = Reference(f).gradients(arrays, [dy])
            return [*outputs, *slopes]

        for dtype in (np.float32, np.float64):
            for e in spread(everything, [a, b], np.dtype(dtype)):
                assert e.max() <= 1e3 * Rounding.of(dtype).u


def test_another_stable_way_to_compute_is_covered():
    """a² − b² loses digits where (a − b)(a + b) does not; as much as inputs off by a rounding."""
    g = np.random.default_rng(0)
    a = g.normal(size=200).astype(np.float32)
    b = (a * (1 + 1e-3 * g.normal(size=200))).astype(np.float32)

    def product(arrays):
        a, b = (torch.tensor(v) for v in arrays)
        return [((a - b) * (a + b)).numpy()]

    wide = [a.astype(np.float64), b.astype(np.float64)]
    (e,) = spread(product, wide, np.dtype(np.float32))
    off = np.abs((a * a - b * b).astype(np.float64) - product(wide)[0])
    assert (off <= e).all()


def test_where_rounding_may_take_the_other_branch_it_may_in_that_dtype_only():
    """0.1 + 0.2 − 0.3 + 10⁻⁸ is 0 as far as float32 knows, and positive for float64."""
    x = np.array([0.1, 0.2, -0.3 + 1e-8])

    def everything(arrays):
        outputs, (slopes,) = Reference(lambda x: torch.relu(x.sum())).gradients(arrays, [1.0])
        return [*outputs, *slopes]

    (_, single), (_, double) = (spread(everything, [x], np.dtype(d)) for d in ("f4", "f8"))
    assert (single >= 1).all()
    assert (double <= 1e-12).all()


def test_what_is_copied_has_the_rounding_of_one_function_and_integers_have_none():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32).astype(np.float64)

    def copied(arrays):
        values, at = torch.tensor(arrays[0]).T.sort(0)
        return [values.numpy(), at.numpy()]

    e, none = spread(copied, [x], np.dtype(np.float32))
    r = Rounding.of(np.float32)
    # 8 u of the result, and four times the 8 u by which the inputs were moved
    assert (e <= 40 * r.u * np.abs(copied([x])[0]) + r.tiny).all()
    assert (none == 0).all()


@pytest.mark.parametrize("bits", [24, 40])
def test_a_shaken_operation_is_rounded_to_so_many_digits(bits):
    x = torch.tensor(rounded(np.random.default_rng(0).normal(size=50) + 5, bits))
    u = 2.0**-bits
    with Shaken(bits, 0):
        y = x / 3
        others = x / 3
        total = x.sum()
        saturated = torch.tanh(40 * x)
        same = [torch.maximum(x, -x), x.clone(), x[3:], torch.where(x > 5, x, 0 * x), x * 2, x - x]
        ranks = x.argsort()
    off = (y / (x / 3) - 1).abs().max()
    assert 0 < off <= 2.1 * u
    assert not torch.equal(y, others)
    assert 0 < abs(total / x.sum() - 1) <= 3 * Rounding(u, 0).sum(50)
    assert 0 < (saturated - 1).abs().max() <= 9 * u
    for short in (y, total, saturated):
        assert np.array_equal(rounded(short.numpy(), bits), short.numpy())
    expected = [torch.maximum(x, -x), x, x[3:], torch.where(x > 5, x, 0 * x), x * 2, x - x]
    assert all(torch.equal(a, b) for a, b in zip(same, expected, strict=True))
    assert torch.equal(ranks, x.argsort())


def test_a_shaken_function_may_work_in_place_and_draw_random_numbers():
    x = torch.full((1000,), 3.0, dtype=torch.float64)
    with Shaken(24, 0):
        y = x.clone()
        z = y.div_(7)
        torch.manual_seed(0)
        drawn = torch.rand(1000, dtype=torch.float64)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1000, dtype=torch.float64))
    assert z is y
    assert not torch.equal(y, x / 7)
    assert (y - x / 7).abs().max() <= 2.0**-24


def test_memory_that_nobody_has_written_to_is_not_shaken():
    """Whatever stands there would decide on the numbers drawn, and on E. A copy of a module with a
    buffer asks for it."""
    with Shaken(24, 0) as shaken:
        before = shaken.generator.get_state()
        torch.ones(3, dtype=torch.float64).new_empty([])
        torch.empty_like(torch.ones(3, dtype=torch.float64))
        assert torch.equal(shaken.generator.get_state(), before)
        torch.ones(3, dtype=torch.float64) / 3
        assert not torch.equal(shaken.generator.get_state(), before)


def test_a_move_counts_where_a_shorter_one_moves_the_value_in_proportion():
    """By a quarter at most, for moves of a sixteenth; and 2⁻⁴⁸ of the value."""
    r = Rounding.of(np.float32)

    def e(value, far, near):
        def f(arrays):
            by = abs(arrays[0][0] - 1)
            return [np.array(value + (far if by > 2.0**-22 else near if by > 0 else 0.0))]

        (found,) = spread(f, [np.ones(1)], np.dtype(np.float32))
        return float(found) - r.tiny - r.libm * value

    assert e(0.0, 1.0, 0.25) == 4.0  # in float32 the moves are what they are
    assert e(0.0, 1.0, 0.2501) == 0.0
    far, near = 2.0**-40, 2.0**-42 + 2.0**-48
    np.testing.assert_allclose(e(1.0, far, near), 4 * far, rtol=1e-6)
    assert abs(e(1.0, far, near + 2.0**-50)) < 1e-3 * far


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_not_written_out_by_torch(monkeypatch, approximate):
    """Which imports for seconds."""
    monkeypatch.setitem(decomposition_table, torch.ops.aten.gelu.default, None)
    x = torch.linspace(-3, 3, 20, dtype=torch.float64)
    exact = F.gelu(x, approximate=approximate)
    with Shaken(24, 0):
        shaken = F.gelu(x, approximate=approximate)
    assert 0 < (shaken - exact).abs().max() < 1e-5


def test_a_sum_over_a_list_is_shaken_and_options_are_kept():
    x = torch.linspace(1, 2, 20, dtype=torch.float64)
    exact = torch._foreach_norm([x])[0], torch.var(x, correction=0)
    with Shaken(24, 0):
        shaken = torch._foreach_norm([x])[0], torch.var(x, correction=0)
    for value, near in zip(exact, shaken, strict=True):
        assert 0 < abs(near - value) < 1e-4


def test_how_many_are_added_up():
    one, of_50 = torch.ones(3), torch.ones(4, 50)
    for name in ("mm", "bmm", "mv", "dot"):
        assert _count(name, (of_50, one), [of_50, one], [one]) == 51
    for name in ("addmm", "addmv", "baddbmm"):
        assert _count(name, (one, of_50, one), [one, of_50, one], [one]) == 51
    assert _count("sum", (of_50,), [of_50], [torch.ones(2)]) == 100
    assert _count("cumsum", (of_50,), [of_50], [of_50]) == 50
