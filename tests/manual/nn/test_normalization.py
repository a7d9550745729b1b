"""BatchNorm1d: outputs, gradients and running statistics against torch and central differences."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manual import nn
from torch_ref import twin

RNG = np.random.default_rng
OPTIONS = {
    "defaults": {},
    "affine": {"affine": False},
    "bias": {"bias": False},
    "eps, momentum": {"eps": 0.3, "momentum": 0.7},
    "cumulative": {"momentum": None},
    "untracked": {"track_running_stats": False},
    "nothing kept": {"track_running_stats": False, "affine": False},
}
SHAPES = [(6, 4), (4, 4), (2, 3), (5, 4, 3), (3, 3, 3), (1, 4, 5), (5, 1), (4, 1, 2), (7, 3, 1)]


def module(channels, dtype=np.float64, seed=0, **options):
    """A BatchNorm1d with weights of both signs, biases not 0, running statistics not 0 and 1."""
    net, rng = nn.BatchNorm1d(channels, dtype=dtype, **options), RNG(seed)
    for p in net.parameters():
        p.data = (rng.choice([-1, 1], channels) * rng.uniform(0.5, 2, channels)).astype(dtype)
    if net.running_mean is not None:
        net.running_mean[...] = rng.normal(size=channels)
        net.running_var[...] = rng.uniform(0.5, 2, channels)
    return net


def allowed(net, x, dy, u):
    """{what: |error|} of torch and manual together, each with roundings of relative size u.

    x̂ = (x − μ)/σ: sums of n and some 10 other roundings, of numbers up to |x|, over σ. dx:
    the same, in x̂ and in the products with dy. Running statistics: the same in μ and Σ (x − μ)².
    """
    n, channels = x.size // x.shape[1], x.shape[1]
    rows = np.moveaxis(x, 1, 0).reshape(channels, -1).astype(np.float64)
    if net.training or net.running_mean is None:
        mean, var = rows.mean(1), rows.var(1)
    else:
        mean, var = net.running_mean, net.running_var
    sigma = np.sqrt(var.astype(np.float64) + net.eps).min()
    size, peak = np.abs(rows).max() + np.abs(mean).max(), np.abs(dy).max()
    gamma = 1.0 if net.weight is None else float(np.abs(net.weight.data).max())
    beta = 0.0 if net.bias is None else float(np.abs(net.bias.data).max())
    relative, reach = 4 * (n + 10) * u, 1 + size / sigma
    return {
        "y": relative * (gamma * reach + beta),
        "dx": relative * gamma / sigma * float(peak) * 3 * reach**2,
        "grad": relative * n * float(peak) * reach,
        "buffer": relative * (1 + size) ** 2,
    }


def unit(dtype):
    """Of the coarser side: the twin has float64."""
    return max(float(np.finfo(dtype).eps), float(np.finfo(np.float64).eps)) / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_torch(shape, options, training, dtype):
    """Three batches in training, so that the running statistics run; then one in the mode."""
    net, rng = module(shape[1], dtype, **options), RNG(1)
    if net.num_batches_tracked is not None:
        net.num_batches_tracked += 2
    theirs = twin(net, dtype=torch.float64)
    for mode in (True, True, True, training):
        net.train(mode)
        theirs.train(mode)
        x = (3 * rng.normal(size=shape) + 2).astype(dtype)
        dy = rng.normal(size=shape).astype(dtype)
        limits = allowed(net, x, dy, unit(dtype))
        y, dx = net(x), net.backward(dy)
        tx = torch.tensor(x.astype(np.float64), requires_grad=True)
        theirs.zero_grad()
        ty = theirs(tx)
        ty.backward(torch.tensor(dy.astype(np.float64)))
        assert y.dtype == dx.dtype == dtype
        assert y.shape == dx.shape == shape
        assert np.abs(y - ty.detach().numpy()).max() <= limits["y"]
        assert np.abs(dx - tx.grad.numpy()).max() <= limits["dx"]
        named = dict(theirs.named_parameters())
        assert [name for name, _ in net.named_parameters()] == list(named)
        for name, p in net.named_parameters():
            assert p.grad.dtype == dtype
            assert np.abs(p.grad - named[name].grad.numpy()).max() <= limits["grad"]
        for (name, own), (other, value) in zip(
            net.named_buffers(), theirs.named_buffers(), strict=True
        ):
            assert name == other
            assert own.shape == value.shape
            assert np.abs(own - value.numpy()).max() <= limits["buffer"]
            assert own.dtype == (np.int64 if name == "num_batches_tracked" else dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (5, 4, 3)], ids=str)
def test_memory_layouts(shape, training, layout):
    net, x, dy = module(4).train(training), RNG(1).normal(size=shape), RNG(2).normal(size=shape)
    other = copy.deepcopy(net)
    expected = net(x), net.backward(dy)
    found = other(layout(x)), other.backward(layout(dy))
    limits = allowed(net, x, dy, unit(np.float64))  # sums in another order
    for got, want, name in zip(found, expected, ("y", "dx"), strict=True):
        assert np.abs(got - want).max() <= limits[name]


@given(
    shape=st.one_of(
        st.tuples(st.integers(2, 9), st.integers(1, 6)),
        st.tuples(st.integers(2, 5), st.integers(1, 6), st.integers(1, 5)),
    ),
    eps=st.floats(1e-6, 10),
    seed=st.integers(0, 2**32),
)
def test_dx_has_no_part_that_the_statistics_take_away(shape, eps, seed):
    """A shift of x changes nothing: Σ dx = 0. A stretch only through eps:
    Σ dx x̂ = γ/σ Σ dy x̂ (1 − mean x̂²), with 1 − mean x̂² = eps/σ²."""
    rng = RNG(seed)
    net = module(shape[1], np.float64, seed, eps=eps, affine=False)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    normed, dx = net(x), net.backward(dy)
    axes = (0, 2)[: x.ndim - 1]
    variance = x.var(axes) + eps
    limit = x.size * allowed(net, x, dy, unit(np.float64))["dx"]
    assert (np.abs(dx.sum(axes)) <= limit).all()
    expected = (dy * normed).sum(axes) * eps / variance**1.5
    reach = 1 + np.abs(normed).max()
    assert (np.abs((dx * normed).sum(axes) - expected) <= limit * reach).all()


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2)], ids=str)
@pytest.mark.parametrize("how", ["training", "eval", "untracked"])
def test_longdouble_against_central_differences(shape, how, slope):
    options = {"track_running_stats": False} if how == "untracked" else {}
    net = module(3, np.longdouble, eps=0.01, **options).train(how == "training")
    x = RNG(1).normal(size=shape).astype(np.longdouble)
    dy = RNG(2).normal(size=shape).astype(np.longdouble)
    net(x)
    got = {"x": net.backward(dy), "weight": net.weight.grad.copy(), "bias": net.bias.grad.copy()}

    def loss_at(name):
        def loss(value):
            probe = copy.deepcopy(net)
            if name != "x":
                getattr(probe, name).data = value
            return np.sum(dy * probe(value if name == "x" else x))

        return loss

    for name, at in {"x": x, "weight": net.weight.data, "bias": net.bias.data}.items():
        np.testing.assert_allclose(got[name], slope(loss_at(name), at), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0, 2.0, -0.5, None])
def test_running_statistics_by_their_formula(momentum):
    """Means and unbiased variances of two batches, in numbers that are exact in binary."""
    net = nn.BatchNorm1d(2, momentum=momentum, dtype=np.float64)
    batches = [np.array([[1.0, 0], [3, 8]]), np.array([[2.0, 4], [6, 4], [4, 4]])]
    means, variances = [[2, 4], [4, 4]], [[2, 32], [4, 0]]
    mean, var = np.zeros(2), np.ones(2)
    for k, x in enumerate(batches):
        net(x)
        factor = 1 / (k + 1) if momentum is None else momentum
        mean = (1 - factor) * mean + factor * np.array(means[k])
        var = (1 - factor) * var + factor * np.array(variances[k])
        # three roundings of numbers up to 64
        np.testing.assert_allclose(net.running_mean, mean, rtol=0, atol=2e-14)
        np.testing.assert_allclose(net.running_var, var, rtol=0, atol=2e-14)
        assert net.num_batches_tracked == k + 1


def test_evaluation_changes_no_statistics():
    net, x = module(3), RNG(1).normal(size=(5, 3))
    kept = net.state_dict()
    net.eval()(x)
    net.backward(x)
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


def test_evaluation_uses_running_statistics_even_for_one_row():
    net = module(3).eval()
    x = RNG(1).normal(size=(1, 3))
    expected = (x - net.running_mean) / np.sqrt(net.running_var + 1e-5)
    expected = expected * net.weight.data + net.bias.data
    np.testing.assert_allclose(net(x), expected, rtol=1e-15, atol=1e-15)  # a few roundings
    dx = net.backward(np.ones((1, 3)))
    expected = net.weight.data / np.sqrt(net.running_var + 1e-5)
    np.testing.assert_allclose(dx[0], expected, rtol=1e-15)


@pytest.mark.parametrize("shape", [(500, 2), (50, 2, 10)], ids=str)
def test_digits_stay_where_the_mean_is_far_greater_than_the_spread(shape):
    """float32, values 4096 to 4097: x̂ has an error of some u, and not of u 4096/σ (4e-4 here).

    x − μ is rounded once and corrected once, σ comes of a sum of n squares: (n/2 + 10) u of x̂."""
    x = (4096 + RNG(1).random(shape)).astype(np.float32)
    net = nn.BatchNorm1d(2)
    exact = nn.BatchNorm1d(2, dtype=np.longdouble)
    y, expected = net(x), exact(x.astype(np.longdouble))
    assert np.abs(y - expected).max() <= 260 * 2.0**-24 * np.abs(expected).max()
    dy = RNG(2).normal(size=shape).astype(np.float32)
    dx, expected = net.backward(dy), exact.backward(dy.astype(np.longdouble))
    assert np.abs(dx - expected).max() <= 520 * 2.0**-24 * np.abs(expected).max()
    np.testing.assert_allclose(net.running_var, exact.running_var, rtol=520 * 2.0**-24)


def test_a_constant_channel():
    """The sum of 1000 times 0.1 is rounded, by up to n u 0.1; of that, n u is left: 4e-10 before
    the factor 1/√eps, 316. The running mean has the mean's second part as well."""
    net = nn.BatchNorm1d(2)
    net.bias.data = np.array([2, 3], np.float32)
    x = np.full((1000, 2), 0.1, np.float32)
    assert np.abs(x.sum(axis=0) / 1000 - 0.1).max() > 1e-7  # 16 u
    y = net(x)
    assert np.abs(y - net.bias.data).max() <= 2e-7 + 2.0**-22
    np.testing.assert_allclose(net.running_mean, 0.01, rtol=4 * 2.0**-24)  # four roundings
    np.testing.assert_allclose(net.running_var, 0.9, rtol=2 * 2.0**-24)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0), (1, 3, 0)], ids=str)
def test_an_empty_batch(shape, training, in_torch):
    net = module(3).train(training)
    theirs = twin(net)
    expected = theirs(torch.zeros(shape, dtype=torch.float64))
    y = net(np.zeros(shape))
    assert y.shape == net.backward(np.zeros(shape)).shape == tuple(expected.shape) == shape
    assert not net.weight.grad.any()
    assert not net.bias.grad.any()
    for name, value in theirs.state_dict().items():
        assert np.array_equal(net.state_dict()[name], value.numpy())


def test_no_channels():
    """torch makes such a module, but its forward fails."""
    net = nn.BatchNorm1d(0)
    x = np.zeros((3, 0), np.float32)
    assert net(x).shape == net.backward(x).shape == (3, 0)


def test_backward_belongs_to_the_last_forward():
    """Also where the mode, the running statistics or the batch have changed since."""
    x, dy = RNG(1).normal(size=(5, 3)), RNG(2).normal(size=(5, 3))
    expected = {}
    for mode in (True, False):
        net = module(3).train(mode)
        net(x)
        expected[mode] = net.backward(dy), net.weight.grad.copy()
    assert np.abs(expected[True][0] - expected[False][0]).max() > 0.1
    for mode in (True, False):
        net = module(3).train(mode)
        net(x)
        net.train(not mode)
        net.running_mean += 1
        net.running_var += 1
        for _ in range(2):  # and it may be called twice
            assert np.array_equal(net.backward(dy), expected[mode][0])
            assert np.array_equal(net.weight.grad, expected[mode][1])
    net = module(3)
    net(3 * x[:4])
    net.eval()
    net(x + 1)
    net.running_mean -= 100
    net.train()
    kept = module(3)
    kept(3 * x[:4])
    kept.eval()(x + 1)
    assert np.array_equal(net.backward(dy), kept.backward(dy))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_backward_parameters_is_backward_without_dx(options):
    net, x, dy = module(3, **options), RNG(1).normal(size=(5, 3)), RNG(2).normal(size=(5, 3))
    net(x)
    net.backward(dy)
    expected = [p.grad.copy() for p in net.parameters()]
    assert len(expected) == 2 - ("affine" in options) * 2 - ("bias" in options)
    for p in net.parameters():
        p.grad = None
    assert net.backward_parameters(dy) is None
    assert all(np.array_equal(p.grad, e) for p, e in zip(net.parameters(), expected, strict=True))


def test_attributes_state_and_repr_are_torchs():
    for options in OPTIONS.values():
        net, theirs = nn.BatchNorm1d(3, **options), torch.nn.BatchNorm1d(3, **options)
        state = theirs.state_dict()
        assert list(net.state_dict()) == list(state)
        for name, value in net.state_dict().items():
            assert value.dtype == state[name].numpy().dtype
            assert np.array_equal(value, state[name].numpy())
        assert repr(net) == repr(theirs)
        for name in ("num_features", "eps", "momentum", "affine", "track_running_stats"):
            assert getattr(net, name) == getattr(theirs, name)
    positional = nn.BatchNorm1d(3, 0.1, 0.2, False, False)
    assert repr(positional) == repr(torch.nn.BatchNorm1d(3, 0.1, 0.2, False, False))


def test_copies_and_conversions_keep_everything():
    net, x = module(3, np.float32), RNG(1).normal(size=(5, 3)).astype(np.float32)
    copies = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    y = net(x)
    for other in copies:
        assert other.num_batches_tracked == 0
        assert np.array_equal(other(x), y)
        other.backward(x)
        assert other.num_batches_tracked == 1
        assert np.array_equal(other.running_var, net.running_var)
    net.to(np.float64)
    assert net(x.astype(np.float64)).dtype == net.running_var.dtype == np.float64
    assert net.num_batches_tracked.dtype == np.int64
    net.load_state_dict(module(3, np.float32, seed=5).state_dict())
    assert net.num_batches_tracked == 0
    assert net.running_mean.dtype == np.float64


def test_numpy_numbers_as_options_do_not_change_the_dtype():
    net = nn.BatchNorm1d(np.int64(3), np.float64(0.1), np.float64(0.5))
    x = np.ones((4, 3), np.float32)
    for mode in (True, False):
        net.train(mode)
        assert net(x).dtype == net.backward(x).dtype == net.running_var.dtype == np.float32


def unchanged(net, error, text, x):
    kept = net.state_dict()
    with pytest.raises(error, match=text):
        net(x)
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_ranks_are_refused_as_in_torch(shape, training):
    net = module(3).train(training)
    text = f"expected 2D or 3D input.* got {len(shape)}D"
    unchanged(net, ValueError, text, np.ones(shape))
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        twin(net)(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 4), (2, 1), (3, 2), (2, 4, 3), (3, 2, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_another_number_of_channels(shape, training):
    net = module(3).train(training)
    for error in (RuntimeError, ValueError):
        text = r"expected x of shape \(N, 3\) or \(N, 3, L\), got "
        unchanged(net, error, text, np.ones(shape))
    with pytest.raises(RuntimeError):
        twin(net)(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1)], ids=str)
def test_one_value_per_channel(shape):
    text = "more than 1 value per channel"
    unchanged(module(3), ValueError, text, np.ones(shape))
    unchanged(module(3, momentum=None), ValueError, text, np.ones(shape))
    for mode in (True, False):
        net = module(3, track_running_stats=False).train(mode)
        unchanged(net, ValueError, text, np.ones(shape))
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            twin(net)(torch.ones(shape, dtype=torch.float64))


def test_eps_zero_only_in_evaluation():
    net = module(3, eps=0)
    unchanged(net, ValueError, "eps must be positive in training, got 0", np.ones((2, 3)))
    with pytest.raises(ValueError, match="eps must be positive during training"):
        twin(net)(torch.ones(2, 3, dtype=torch.float64))
    assert np.isfinite(net.eval()(np.ones((2, 3)))).all()
    small = nn.BatchNorm1d(3, eps=1e-60)  # 0 in float32
    unchanged(small, ValueError, "got 1e-60 as float32", np.ones((2, 3), np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16, np.complex128, bool])
def test_dtypes_are_refused(dtype):
    net = module(3)
    unchanged(net, TypeError, rf"BatchNorm1d: x.*{np.dtype(dtype)}", np.ones((4, 3), dtype))
    untrained = module(3, affine=False)
    unchanged(untrained, TypeError, rf"BatchNorm1d: x.*{np.dtype(dtype)}", np.ones((4, 3), dtype))
    net(np.ones((4, 3)))
    for backward in (net.backward, net.backward_parameters):
        with pytest.raises(TypeError, match=rf"BatchNorm1d: dy.*{np.dtype(dtype)}"):
            backward(np.ones((4, 3), dtype))
    assert net.weight.grad is None


def test_without_anything_kept_every_float_is_taken():
    net = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    for dtype in (np.float32, np.float64, np.longdouble):
        assert net(np.eye(3, dtype=dtype)).dtype == dtype
    with pytest.raises(TypeError, match="got int64"):
        net(np.eye(3, dtype=np.int64))


@pytest.mark.parametrize("bad", [[[1.0, 2, 3]] * 2, None, 1.5], ids=repr)
def test_only_arrays(bad):
    with pytest.raises(TypeError, match=f"BatchNorm1d: x.*{type(bad).__name__}"):
        module(3)(bad)


@pytest.mark.parametrize("shape", [(4, 1), (1, 3), (3,), (), (4, 3, 1), (12,)], ids=str)
def test_cotangents_do_not_broadcast(shape):
    net = module(3)
    net(RNG(1).normal(size=(4, 3)))
    for backward in (net.backward, net.backward_parameters):
        with pytest.raises(ValueError, match=r"BatchNorm1d: dy.*\(4, 3\), got \("):
            backward(np.ones(shape))
    assert net.weight.grad is None


def test_backward_before_forward():
    for backward in (module(3).backward, module(3).backward_parameters):
        with pytest.raises(RuntimeError, match=r"BatchNorm1d\.backward called before forward"):
            backward(np.ones((4, 3)))


@pytest.mark.parametrize("bad", [2.0, True, "3", None], ids=repr)
def test_sizes_that_are_no_whole_numbers(bad):
    with pytest.raises(TypeError, match=f"num_features must be a whole number >= 0, got {bad!r}"):
        nn.BatchNorm1d(bad)
    with pytest.raises(TypeError):
        torch.nn.BatchNorm1d(bad)


def test_bad_options():
    for error in (ValueError, RuntimeError):
        with pytest.raises(error, match="num_features must be a whole number >= 0, got -1"):
            nn.BatchNorm1d(-1)
    for eps in (-1e-9, np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="eps must be a finite number >= 0, got"):
            nn.BatchNorm1d(3, eps)
    for momentum in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="momentum must be finite or None, got"):
            nn.BatchNorm1d(3, momentum=momentum)
    for dtype in (np.float16, np.int64, np.complex64):
        with pytest.raises(TypeError, match=f"got {np.dtype(dtype)}"):
            nn.BatchNorm1d(3, dtype=dtype)
