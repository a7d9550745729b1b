"""init: torch's bounds and spreads, its gains and errors, and where the randomness comes from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from manual import init, nn

RNG = np.random.default_rng
ALL = [
    init.normal_,
    init.uniform_,
    init.xavier_normal_,
    init.xavier_uniform_,
    init.kaiming_normal_,
    init.kaiming_uniform_,
]
OPTIONS = {
    "normal_": [{}, {"mean": -2.0, "std": 3.0}],
    "uniform_": [{}, {"a": -3.0, "b": -1.0}],
    "xavier_normal_": [{}, {"gain": 5 / 3}],
    "xavier_uniform_": [{}, {"gain": 5 / 3}],
    "kaiming_normal_": [{}, {"mode": "fan_out"}, {"nonlinearity": "relu"}, {"a": 2.0}],
    "kaiming_uniform_": [{}, {"mode": "fan_out"}, {"nonlinearity": "tanh"}, {"a": 5**0.5}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


@pytest.mark.parametrize("shape", [(400, 50), (50, 400)], ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_the_distribution_is_torchs(name, options, shape):
    """20,000 values of each side against the same formula (Kolmogorov–Smirnov with fixed seeds,
    p < 1e-3 once in a thousand of them), and the two samples against each other."""
    values, reference = np.empty(shape), torch.empty(shape, dtype=torch.float64)
    assert getattr(init, name)(values, **options, generator=RNG(1)) is values
    getattr(torch.nn.init, name)(reference, **options, generator=torch.Generator().manual_seed(1))
    out, fan_in = shape
    if "xavier" in name:
        std = options.get("gain", 1) * math.sqrt(2 / (fan_in + out))
    else:
        fan = out if options.get("mode") == "fan_out" else fan_in
        gain = torch.nn.init.calculate_gain(
            options.get("nonlinearity", "leaky_relu"), options.get("a", 0)
        )
        std = gain / math.sqrt(fan)
    mean = 0.0
    if name == "normal_":
        mean, std = options.get("mean", 0.0), options.get("std", 1.0)
    if name == "uniform_":
        low, high = options.get("a", 0.0), options.get("b", 1.0)
        mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
    if "normal" in name:
        expected = stats.norm(mean, std)
    else:
        expected = stats.uniform(mean - math.sqrt(3) * std, 2 * math.sqrt(3) * std)
        assert np.abs(values - mean).max() <= math.sqrt(3) * std
        assert np.abs(values - mean).max() > 0.999 * math.sqrt(3) * std
    assert stats.kstest(values.ravel(), expected.cdf).pvalue > 1e-3
    assert stats.kstest(reference.numpy().ravel(), expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("fill", ALL, ids=lambda fill: fill.__name__)
def test_a_generator_decides_and_no_global_one(fill, dtype):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    parameters = [nn.Parameter(np.zeros((4, 3), dtype)) for _ in range(3)]
    for p, seed in zip(parameters, (1, 1, 2), strict=True):
        data = p.data
        assert fill(p, generator=RNG(seed)) is p
        assert p.data is data
    first, same, other = parameters
    assert np.array_equal(first.data, same.data)
    assert not np.isin(first.data, other.data).any()
    assert np.unique(first.data).size == 12
    assert first.dtype == dtype
    assert first.grad is None
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    with pytest.raises(TypeError, match="generator"):
        fill(first)


def test_one_generator_gives_new_values_every_time():
    rng, values = RNG(3), np.empty((2, 5, 4))
    for part in values:
        init.kaiming_uniform_(part, generator=rng)
    assert not np.isin(values[0], values[1]).any()


@given(st.floats(-10, 10), st.sampled_from(["leaky_relu"]))
def test_the_gain_of_a_slope_is_torchs(slope, name):
    assert init.calculate_gain(name, slope) == torch.nn.init.calculate_gain(name, slope)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name):
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


@pytest.mark.parametrize("bad", ["gelu", "ReLU", "", None], ids=repr)
def test_unknown_nonlinearity(bad):
    with pytest.raises(ValueError, match=f"one of linear, .*leaky_relu, got {bad!r}"):
        init.calculate_gain(bad)
    with pytest.raises(ValueError, match=f"got {bad!r}"):
        init.kaiming_normal_(np.empty((2, 3)), nonlinearity=bad, generator=RNG(0))


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("fill", ALL[2:], ids=lambda fill: fill.__name__)
def test_fans_need_a_weight(fill, shape):
    with pytest.raises(ValueError, match=r"need a .* weight, got shape") as error:
        fill(np.empty(shape), generator=RNG(0))
    assert str(shape) in str(error.value)


def test_bad_arguments():
    values = np.zeros((2, 3))
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"std must be >= 0, got {bad!r}"):
            init.normal_(values, 0, bad, generator=RNG(0))
    for a, b in [(1.0, 0.5), (float("nan"), 1.0)]:
        with pytest.raises(ValueError, match=f"a <= b, got a={a!r}, b={b!r}"):
            init.uniform_(values, a, b, generator=RNG(0))
    for fill in ALL[4:]:
        with pytest.raises(ValueError, match=r"mode must be .* got 'fan'"):
            fill(values, mode="fan", generator=RNG(0))
    assert not values.any()
    init.uniform_(values, 2, 2, generator=RNG(0))
    assert (values == 2).all()
    init.normal_(values, 3, 0, generator=RNG(0))
    assert (values == 3).all()
