"""Linear: forward and backward against torch, exact integers, and central differences."""

import numpy as np
import pytest
from scipy import stats

from manual import nn

SHAPES = [(3, 5), (5, 3), (4, 4), (1, 3), (3, 1), (1, 1)]  # (in, out)
ROWS = [(), (2,), (7,), (2, 3)]  # what stands before the last dimension of x
RNG = np.random.default_rng


def case(seed, n_in, n_out, bias, dtype, rows, values="normal"):
    """A Linear with random weights, an x and a cotangent."""
    rng = RNG(seed)

    def draw(*shape):
        if values == "integers":
            return rng.integers(-9, 10, shape).astype(dtype)
        return rng.normal(size=shape).astype(dtype)

    net = nn.Linear(n_in, n_out, bias, dtype=dtype, generator=rng)
    net.weight.data = draw(n_out, n_in)
    if bias:
        net.bias.data = draw(n_out) + dtype(0.5)  # never 0
    return net, draw(*rows, n_in), draw(*rows, n_out)


def rounding(dtype, terms, magnitude):
    """|error| of a sum of products in any order: n eps Σ|a||b|; twice, for torch's own error."""
    return 2 * (terms + 1) * float(np.finfo(dtype).eps) * magnitude


def close(got, expected, allowed):
    assert got.shape == expected.shape
    error = np.abs(got.astype(np.float64) - expected)
    assert (error <= allowed).all(), f"error {error.max()}, allowed {np.min(allowed)}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_matches_torch(n_in, n_out, rows, bias, dtype, layout, in_torch):
    net, x, dy = case(n_in * 10 + n_out, n_in, n_out, bias, dtype, rows)
    x, dy = layout(x), layout(dy)
    y = net(x)
    kept, weights = y.copy(), net.state_dict()
    dx = net.backward(dy)
    assert y.dtype == dx.dtype == net.weight.grad.dtype == dtype
    assert np.array_equal(y, kept)
    assert all(np.array_equal(value, weights[name]) for name, value in net.state_dict().items())
    if dtype == np.longdouble:  # the twin has float64: the same weights, rounded
        net.to(np.float64)
        dtype = np.float64
    expected_y, expected_dx, grads = in_torch(net, x, dy)
    w, ax, ady = np.abs(net.weight.data).astype(float), np.abs(x), np.abs(dy)
    offset = np.abs(net.bias.data) if bias else 0
    close(y, expected_y, rounding(dtype, n_in + 1, np.dot(ax, w.T) + offset))
    close(dx, expected_dx, rounding(dtype, n_out, np.dot(ady, w)))
    n = int(np.prod(rows))
    ady, ax = ady.reshape(n, n_out).astype(float), ax.reshape(n, n_in).astype(float)
    close(net.weight.grad, grads["weight"], rounding(dtype, n, np.dot(ady.T, ax)))
    if bias:
        close(net.bias.grad, grads["bias"], rounding(dtype, n, ady.sum(axis=0)))
    assert grads.keys() == dict(net.named_parameters()).keys()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_whole_numbers_are_exact(n_in, n_out, rows, dtype, layout, in_torch):
    """Sums of small whole numbers round nowhere, so both sides agree to the last bit."""
    net, x, dy = case(n_in + n_out, n_in, n_out, True, dtype, rows, "integers")
    y, dx = net(layout(x)), net.backward(layout(dy))
    got = [y, dx, net.weight.grad.copy(), net.bias.grad.copy()]
    expected_y, expected_dx, grads = in_torch(net.to(np.float64), x, dy)
    expected = [expected_y, expected_dx, grads["weight"], grads["bias"]]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_longdouble_against_central_differences(rows, slope):
    net, x, dy = case(5, 3, 4, True, np.longdouble, rows)

    def loss_at(name):
        def loss(value):
            probe = nn.Linear(3, 4, dtype=np.longdouble, generator=RNG(0))
            probe.load_state_dict({**net.state_dict(), **({} if name == "x" else {name: value})})
            return np.sum(dy * probe(value if name == "x" else x))

        return loss

    net(x)
    got = {"x": net.backward(dy), "weight": net.weight.grad, "bias": net.bias.grad}
    for name, at in {"x": x, **net.state_dict()}.items():
        np.testing.assert_allclose(got[name], slope(loss_at(name), at), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_backward_parameters_is_backward_without_dx(bias):
    net, x, dy = case(1, 3, 2, bias, np.float64, (4,))
    net(x)
    net.backward(dy)
    expected = [p.grad.copy() for p in net.parameters()]
    for p in net.parameters():
        p.grad = None
    assert net.backward_parameters(dy) is None
    assert all(np.array_equal(p.grad, e) for p, e in zip(net.parameters(), expected, strict=True))


def test_gradients_are_overwritten_and_belong_to_the_last_forward():
    net, x, dy = case(2, 3, 2, True, np.float64, (4,))
    net(x)
    first = net.backward(dy)
    kept = [p.grad.copy() for p in net.parameters()]
    assert np.array_equal(net.backward(dy), first)
    assert all(np.array_equal(p.grad, k) for p, k in zip(net.parameters(), kept, strict=True))
    net(2 * x)
    net.backward(dy)
    assert np.array_equal(net.weight.grad, 2 * kept[0])


def test_what_is_too_large_is_infinite_without_a_warning():
    module = nn.Linear(2, 2)
    module.weight.data, module.bias.data = np.full((2, 2), 3e38, np.float32), 0 * module.bias.data
    x = np.full((3, 2), 3e38, np.float32)
    y, dx = module(x), module.backward(x)
    assert np.isposinf([y, dx]).all()
    assert np.isposinf(module.weight.grad).all()
    assert np.isposinf(module.bias.grad).all()


@pytest.mark.parametrize(("dtype", "told"), [(np.float32, "dy: expected"), (np.float64, "x was")])
def test_a_conversion_between_forward_and_backward_is_told(dtype, told):
    module = nn.Linear(3, 2)
    module(np.ones((4, 3), np.float32))
    module.to(np.float64)
    with pytest.raises(TypeError, match=f"Linear: {told}.* float32"):
        module.backward(np.ones((4, 2), dtype))
    assert module.weight.grad is None
    assert module.bias.grad is None


def test_no_rows_give_zero_gradients():
    net, x, dy = case(3, 3, 2, True, np.float64, (0,))
    assert net(x).shape == (0, 2)
    assert net.backward(dy).shape == (0, 3)
    assert not net.weight.grad.any()
    assert not net.bias.grad.any()


@pytest.mark.parametrize("bad", [[1.0, 2.0, 3.0], 1.5, "x", None], ids=repr)
def test_only_arrays(bad):
    net, x, _ = case(4, 3, 2, True, np.float64, (4,))
    with pytest.raises(TypeError, match=rf"Linear: x.*{type(bad).__name__}"):
        net(bad)
    net(x)
    with pytest.raises(TypeError, match=rf"Linear: dy.*{type(bad).__name__}"):
        net.backward(bad)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16, np.complex128, bool])
def test_dtypes_are_refused(dtype):
    net, x, dy = case(4, 3, 2, True, np.float64, (4,))
    with pytest.raises(TypeError, match=rf"Linear: x.*{np.dtype(dtype)}"):
        net(np.ones((4, 3), dtype))
    net(x)
    with pytest.raises(TypeError, match=rf"Linear: dy.*{np.dtype(dtype)}"):
        net.backward(np.ones_like(dy, dtype))


@pytest.mark.parametrize("shape", [(4, 4), (4, 1), (3, 4), (4,), (1,), (), (4, 3, 1)], ids=str)
def test_shapes_of_x_are_refused(shape):
    net, *_ = case(4, 3, 2, True, np.float64, (4,))
    with pytest.raises(RuntimeError, match=r"Linear: "):  # torch's
        net(np.ones(shape))
    with pytest.raises(ValueError, match=r"Linear: .*3\), got \(") as error:
        net(np.ones(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(4, 1), (1, 2), (2,), (), (4, 3), (8,), (1, 4, 2)], ids=str)
def test_cotangents_do_not_broadcast(shape):
    net, x, _ = case(4, 3, 2, True, np.float64, (4,))
    net(x)
    for backward in (net.backward, net.backward_parameters):
        with pytest.raises(ValueError, match=r"Linear: dy.*\(4, 2\), got \(") as error:
            backward(np.ones(shape))
        assert str(shape) in str(error.value)
    assert net.weight.grad is None


def test_backward_before_forward():
    net, _, dy = case(4, 3, 2, True, np.float64, (4,))
    for backward in (net.backward, net.backward_parameters):
        with pytest.raises(RuntimeError, match=r"Linear\.backward called before forward"):
            backward(dy)


@pytest.mark.parametrize("bad", [2.0, True, "3", None], ids=repr)
def test_sizes_that_are_no_whole_numbers(bad):
    with pytest.raises(TypeError, match=f"in_features must be a whole number >= 0, got {bad!r}"):
        nn.Linear(bad, 3)
    with pytest.raises(TypeError, match=f"out_features must be a whole number >= 0, got {bad!r}"):
        nn.Linear(3, bad)


def test_negative_sizes():
    for error in (RuntimeError, ValueError):  # RuntimeError is torch's
        with pytest.raises(error, match="in_features must be a whole number >= 0, got -1"):
            nn.Linear(-1, 3)
        with pytest.raises(error, match="out_features must be a whole number >= 0, got -2"):
            nn.Linear(3, -2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(), (2,), (0,), (2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize(("n_in", "n_out"), [(0, 3), (3, 0), (0, 0), (3, 2)])
def test_no_features_and_no_rows(n_in, n_out, rows, bias, in_torch):
    """As torch: a sum over nothing is 0, and the bias of no inputs starts at 0."""
    net = nn.Linear(n_in, n_out, bias, dtype=np.float64, generator=RNG(0))
    if bias and n_in == 0:
        assert not net.bias.data.any()
        net.bias.data += 2
    x, dy = RNG(1).normal(size=(*rows, n_in)), RNG(2).normal(size=(*rows, n_out))
    y = net(x)
    dx = net.backward(dy)
    expected_y, expected_dx, grads = in_torch(net, x, dy)
    close(y, expected_y, 1e-14)  # some ten roundings of numbers below 5
    close(dx, expected_dx, 1e-14)
    assert len(grads) == 1 + bias
    for name, p in net.named_parameters():
        close(p.grad, grads[name], 1e-14)
    assert np.array_equal(net.to(np.longdouble).weight.data, net.weight.data)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex64])
def test_bad_dtypes(dtype):
    with pytest.raises(TypeError, match=f"got {np.dtype(dtype)}"):
        nn.Linear(2, 3, dtype=dtype)


def test_attributes_are_torchs():
    net = nn.Linear(np.int64(3), 2)
    assert (net.in_features, net.out_features) == (3, 2)
    assert (net.weight.shape, net.bias.shape) == ((2, 3), (2,))
    assert net.weight.dtype == net.bias.dtype == np.float32
    assert nn.Linear(3, 2, bias=False).bias is None
    assert repr(net) == "Linear(in_features=3, out_features=2, bias=True)"
    assert repr(nn.Linear(3, 2, False)) == "Linear(in_features=3, out_features=2, bias=False)"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("n_in", "n_out"), [(9, 2000), (2000, 9)])
def test_initial_values_have_torchs_distribution(n_in, n_out, seed):
    """Uniform in ±1/√in. The seeds are fixed; p < 1e-3 comes once in a thousand of them."""
    net = nn.Linear(n_in, n_out, dtype=np.float64, generator=RNG(seed))
    bound = 1 / np.sqrt(n_in)
    for p in net.parameters():
        values = p.data.ravel()
        assert np.abs(values).max() <= bound
        assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert np.unique(net.weight.data).size == n_in * n_out


def test_the_generator_decides_the_initial_values():
    first, same, other = (nn.Linear(3, 2, generator=RNG(s)).state_dict() for s in (0, 0, 1))
    assert all(np.array_equal(first[k], same[k]) for k in first)
    assert not any(np.array_equal(first[k], other[k]) for k in first)
    fresh = [nn.Linear(3, 2).state_dict() for _ in range(2)]
    assert not np.array_equal(fresh[0]["weight"], fresh[1]["weight"])
