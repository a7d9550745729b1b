"""A manual optimizer and torch's of the same name, side by side on the same parameters."""

import numpy as np
import pytest
import torch

from manual import nn, optim

SHAPES = [(3, 2), (4,), (2, 2), (1,)]


class Pair:
    """own, theirs: the parameters, equal and in one buffer on the manual side, one transposed.
    optimizers: (manual, torch), made by `start`."""

    def __init__(self, seed, dtype=np.float64):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        net = nn.Module()
        for k, shape in enumerate(SHAPES):
            value = self.rng.normal(size=shape).astype(dtype)
            setattr(net, f"p{k}", nn.Parameter(np.asfortranarray(value) if k == 0 else value))
        net.flatten_parameters()
        self.own = list(net.parameters())
        self.theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in self.own]
        self.largest = 1.0

    def start(self, kind, groups=lambda params: params, **options):
        self.optimizers = (
            getattr(optim, kind)(groups(self.own), **options),
            getattr(torch.optim, kind)(groups(self.theirs), **options),
        )
        return self

    def step(self, without=()):
        """The same random gradients to both sides, then one step each; gradients must stay."""
        given = []
        for k, (p, q) in enumerate(zip(self.own, self.theirs, strict=True)):
            grad = None if k in without else self.rng.normal(size=p.shape).astype(self.dtype)
            given.append(grad)
            p.grad, q.grad = grad, None if grad is None else torch.tensor(grad)
        for optimizer in self.optimizers:
            assert optimizer.step() is None
        for p, grad in zip(self.own, given, strict=True):
            assert (p.grad is None) if grad is None else np.array_equal(p.grad, grad)
        self.largest = max(self.largest, *(float(np.abs(p.data).max()) for p in self.own))

    def agree(self, roundings=10_000):
        """Both sides within so many roundings of the largest value there has been: 100 steps, in
        each of which some ten numbers are rounded and an old error may count tenfold (momentum
        0.9 adds up ten steps)."""
        allowed = roundings * np.finfo(self.dtype).eps * self.largest
        for p, q in zip(self.own, self.theirs, strict=True):
            error = np.abs(p.data - q.detach().numpy()).max()
            assert error <= allowed, (error, allowed, p.data, q)

    def same_state(self, roundings=10_000):
        """The state dicts agree: the same keys, shapes, counts and values."""
        own, theirs = (optimizer.state_dict() for optimizer in self.optimizers)
        assert own["state"].keys() == theirs["state"].keys()
        for i, entry in own["state"].items():
            assert entry.keys() == theirs["state"][i].keys()
            for name, value in entry.items():
                expected = theirs["state"][i][name].numpy()
                if name == "step":
                    assert value == expected
                    continue
                assert value.dtype == self.dtype
                allowed = roundings * np.finfo(self.dtype).eps * max(1, np.abs(expected).max())
                np.testing.assert_allclose(value, expected, rtol=0, atol=allowed)
        for group, expected in zip(own["param_groups"], theirs["param_groups"], strict=True):
            assert {name: expected[name] for name in group} == group


@pytest.fixture(scope="session")
def pair():
    """pair(seed, dtype=float64) → `Pair`."""
    return Pair
