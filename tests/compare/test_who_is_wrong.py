"""Who is wrong: manual, torch, or both alike, which no comparison of the two could see."""

import numpy as np
import pytest
import torch

from compare import compare
from manual import nn, optim
from torch_ref import modules

DTYPES = [np.float64, np.float32]


def given(dtype=np.float64, middle=nn.Tanh, seed=4):
    g = np.random.default_rng(seed)
    net = nn.Sequential(
        nn.Linear(4, 3, dtype=dtype, generator=g),
        middle(),
        nn.Linear(3, 3, dtype=dtype, generator=g),
    )
    x, y = (g.normal(size=(6, n)).astype(dtype) for n in (4, 3))
    return net, nn.HalfSquaredError(), x, y


def twin(middle=torch.nn.Tanh):
    return torch.nn.Sequential(torch.nn.Linear(4, 3), middle(), torch.nn.Linear(3, 3))


# Each mistake of one side, and the same of the other.


class HalfTanh(nn.Tanh):
    def backward(self, dy):
        return super().backward(dy) / 2


class HalfSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.tanh(x))
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return dy * (1 - y * y) / 2


class TorchHalfTanh(torch.nn.Module):
    def forward(self, x):
        return HalfSlope.apply(x)


class TwiceTanh(nn.Tanh):
    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dy):
        return 2 * super().backward(dy)


class TorchTwiceTanh(torch.nn.Module):
    def forward(self, x):
        return 2 * torch.tanh(x)


class NaNTanh(nn.Tanh):
    def forward(self, x):
        y = super().forward(x)
        y[1, 2] = np.nan
        return y


class TorchNaNTanh(torch.nn.Module):
    def forward(self, x):
        y = torch.tanh(x).clone()
        y[1, 2] = torch.nan
        return y


WAYS = {
    "backward": (HalfTanh, TorchHalfTanh, "d_activation.0", "mismatch"),
    "forward": (TwiceTanh, TorchTwiceTanh, "activation.1", "mismatch"),
    "NaN": (NaNTanh, TorchNaNTanh, "activation.1", "nonfinite"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_one_side_or_the_other_or_both(way, dtype, first):
    mine, theirs, row, verdict = WAYS[way]
    assert first(compare(*given(dtype, mine), twin=twin())) == (row, verdict, "manual")
    assert first(compare(*given(dtype), twin=twin(theirs))) == (row, verdict, "torch")
    both = compare(*given(dtype, mine), twin=twin(theirs))
    assert first(both) == (row, verdict, "both")
    if way == "forward":  # whose derivative is wrong with it
        assert list(both.failures["name"]) == [row, "d_activation.0"]
    elif way == "backward":
        assert len(both.failures) == 1
    found = both.failures.iloc[0]
    assert np.isfinite(found.oracle)
    if verdict == "mismatch":
        assert abs(found.manual - found.torch) <= 1e-6 * abs(found.torch)
        assert abs(found.manual - found.oracle) > 0.1 * abs(found.oracle)
        assert found.used > 1


def test_without_the_oracle_a_mistake_of_both_is_not_seen():
    assert compare(*given(middle=HalfTanh), twin=twin(TorchHalfTanh), oracle=False).passed
    comparison = compare(*given(), twin=twin(), oracle=False)
    assert comparison.passed
    assert comparison.frame.oracle.isna().all()


def test_without_the_oracle_who_is_wrong_is_still_said(first):
    comparison = compare(*given(middle=HalfTanh), twin=twin(), oracle=False)
    assert first(comparison) == ("d_activation.0", "mismatch", "manual")
    frame = comparison.frame.set_index("name")
    assert np.isfinite(frame.oracle["d_activation.0"])
    assert frame.oracle.drop("d_activation.0").isna().all()


def wrong_forward(self, prediction, target):
    self.saved = (prediction - target,)
    return (self.saved[0] ** 2).sum()


def wrong_backward(self, dloss=None):
    return 2 * self.saved[0]


def wrong_torch(self, prediction, target):
    return ((prediction - target) ** 2).sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_for_a_half_in_the_loss(monkeypatch, dtype, first):
    with monkeypatch.context() as patch:
        patch.setattr(nn.HalfSquaredError, "forward", wrong_forward)
        assert first(compare(*given(dtype))) == ("loss", "mismatch", "manual")
        patch.setattr(nn.HalfSquaredError, "backward", wrong_backward)
        patch.setattr(modules.HalfSquaredError, "forward", wrong_torch)
        comparison = compare(*given(dtype))
        assert first(comparison) == ("loss", "mismatch", "both")
        assert list(comparison.failures["name"]) == ["loss", "d_activation.2"]
        assert set(comparison.failures.blame) == {"both"}
    monkeypatch.setattr(modules.HalfSquaredError, "forward", wrong_torch)
    assert first(compare(*given(dtype))) == ("loss", "mismatch", "torch")


class Biased(nn.BatchNorm1d):
    def forward(self, x):
        old, n = self.running_var.copy(), x.size // x.shape[1]
        y = super().forward(x)
        share = (self.running_var - (1 - self.momentum) * old) * (n - 1) / n
        self.running_var[...] = (1 - self.momentum) * old + share
        return y


class TorchBiased(torch.nn.BatchNorm1d):
    def forward(self, x):
        old, n = self.running_var.clone(), x.numel() // x.shape[1]
        y = super().forward(x)
        with torch.no_grad():
            share = (self.running_var - (1 - self.momentum) * old) * (n - 1) / n
            self.running_var.data.copy_((1 - self.momentum) * old + share)
        return y


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_biased_running_variance(dtype, only):
    def norm(kind):
        return lambda: kind(3, dtype=dtype)

    def theirs(kind):
        return twin(lambda: kind(3))

    row = "buffer.1.running_var"
    options = {"allow_vacuous": ["*"]}
    mine = given(dtype, norm(Biased))
    right = given(dtype, norm(nn.BatchNorm1d))
    torch_right, torch_wrong = theirs(torch.nn.BatchNorm1d), theirs(TorchBiased)
    assert compare(*right, twin=torch_right, **options).passed
    for net, given_twin, who in (
        (mine, torch_right, "manual"),
        (right, torch_wrong, "torch"),
        (mine, torch_wrong, "both"),
    ):
        assert only(compare(*net, twin=given_twin, **options)) == (row, "mismatch", who)


def hurried(step):
    """A step with a learning rate a thousandth too large."""

    def wrong(self, *args, **kwargs):
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= 1.001
        step(self, *args, **kwargs)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate

    return wrong


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_an_update_that_goes_too_far(monkeypatch, kind, dtype, first):
    mine, theirs = getattr(optim, kind), getattr(torch.optim, kind)
    right, torch_right = mine.step, theirs.step

    def who():
        net, *rest = given(dtype)
        optimizer = mine(net.parameters(), lr=0.1)
        comparison = compare(net, *rest, optimizer=optimizer, steps=2)
        assert set(comparison.failures.stage) == {"updated"}
        row, verdict, blame = first(comparison)
        assert (row, verdict) == ("updated.0.weight", "mismatch")
        return blame

    with monkeypatch.context() as patch:
        patch.setattr(mine, "step", hurried(right))
        assert who() == "manual"
        patch.setattr(theirs, "step", hurried(torch_right))
        assert who() == "both"
    monkeypatch.setattr(theirs, "step", hurried(torch_right))
    assert who() == "torch"


class OneAtZero(nn.ReLU):
    """The slope 1 at exactly 0, where torch has 0."""

    def forward(self, x):
        self.saved = (x,)
        return np.maximum(x, 0)

    def backward(self, dy):
        return dy * (self.saved[0] >= 0)


class SlopeAtZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * (x >= 0)


class TorchOneAtZero(torch.nn.Module):
    def forward(self, x):
        return SlopeAtZero.apply(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_wrong_choice_at_a_kink(dtype, only):
    def at_zero(middle):
        net, criterion, x, y = given(dtype, middle)
        net[0].bias.data[...] = 0
        x[:2] = 0
        return net, criterion, x, y

    row = ("d_activation.0", "mismatch")
    assert compare(*at_zero(nn.ReLU), twin=twin(torch.nn.ReLU)).passed
    assert only(compare(*at_zero(OneAtZero), twin=twin(torch.nn.ReLU))) == (*row, "manual")
    assert only(compare(*at_zero(nn.ReLU), twin=twin(TorchOneAtZero))) == (*row, "torch")


# How much is asked.


def test_every_tensor_that_was_computed_is_asked_about():
    frame = compare(*given()).frame
    assert list(frame["name"][frame.oracle.isna()]) == ["x"]
    finite = frame[frame.oracle.notna()]
    scale = finite.torch.abs() + 1e-3
    assert ((finite.oracle - finite.torch).abs() < 1e-12 * scale).all()


def test_of_a_large_tensor_entries_are_drawn_and_that_is_said():
    g = np.random.default_rng(0)
    net = nn.Linear(60, 50, generator=g)
    x, y = (g.normal(size=(20, n)).astype(np.float32) for n in (60, 50))
    comparison = compare(net, nn.MSELoss(), x, y)
    assert "entries of gradients" in comparison.asked
    asked, of = (
        int(word.replace(",", "")) for word in comparison.asked.split() if word[0].isdigit()
    )
    assert of == 20 * 60 + 60 * 50 + 50 + 20 * 50
    assert 4 <= asked <= 40
    assert comparison.asked in str(comparison)


@pytest.mark.parametrize("seed", range(3))
def test_one_wrong_entry_of_a_large_tensor_is_found_wherever_it_is(seed, only):
    """The worst entries are asked about, not only drawn ones."""
    g = np.random.default_rng(seed)
    at = tuple(int(i) for i in g.integers(0, 50, 2))

    class Off(nn.Linear):
        def backward_parameters(self, dy):
            super().backward_parameters(dy)
            self.weight.grad[at] *= np.float32(1.1)

    net = Off(50, 50, generator=g)
    x, y = (g.normal(size=(20, 50)).astype(np.float32) for _ in range(2))
    comparison = compare(net, nn.MSELoss(), x, y, seed=seed)
    assert only(comparison) == ("grad.weight", "mismatch", "manual")
    assert comparison.failures.iloc[0].worst == at


def test_what_the_dtype_cannot_hold_is_nobodys_fault(only):
    """Not finite, and so no pass; but the oracle's 10⁴⁰ accuses nobody of float32's inf."""
    net = nn.Sequential(nn.Identity())
    x = np.full((2, 3), 1e20, np.float32)
    comparison = compare(net, nn.HalfSquaredError(), x, 0 * x)
    assert only(comparison) == ("loss", "nonfinite", "undecided")


class Halving(optim.Adam):
    """Its lr is half as large after every step."""

    def step(self):
        super().step()
        self.param_groups[0]["lr"] /= 2


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_optimizer_that_changes_its_own_options_is_to_blame(dtype, scheduled):
    net, *rest = given(dtype)
    optimizer = Halving(net.parameters(), lr=0.1)
    scheduler = optim.CosineAnnealingLR(optimizer, 9) if scheduled else None
    compared = compare(net, *rest, optimizer=optimizer, scheduler=scheduler, steps=3)
    updates = compared.failures[compared.failures.stage == "updated"]
    updates = updates[updates["name"].str.startswith("updated.")]
    assert updates.iloc[0].step == 2
    assert set(updates.blame) == {"manual"}
    assert compared.blame == "manual"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.5, 0.0, 1.0])
def test_a_generator_that_several_dropouts_share_is_where_the_last_one_left_it(dtype, p):
    shared = np.random.default_rng(3)
    (first, middle, last), *rest = given(dtype)
    inner = nn.Residual(nn.Sequential(nn.Dropout(0.5, shared), middle))
    dropouts = nn.Dropout(p, shared), nn.Dropout(0.5, shared)
    net = nn.Sequential(dropouts[0], first, inner, dropouts[1], last)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    compared = compare(net, *rest, optimizer=optimizer, steps=3, allow_vacuous=["*"])
    assert compared.passed, compared
