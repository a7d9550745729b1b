"""Cases for every module, over ranks and arguments."""

from collections.abc import Iterator

import numpy as np

from compare.cases.case import Case, Draw
from manual import nn, optim

ACTIVATIONS = {
    nn.Identity: [{}],
    nn.Sigmoid: [{}],
    nn.LogSigmoid: [{}],
    nn.Tanh: [{}],
    nn.Arctan: [{}],
    nn.ReLU: [{}],
    nn.LeakyReLU: [{}, {"negative_slope": 0.3}, {"negative_slope": 0.0}, {"negative_slope": -0.5}],
    nn.ELU: [{}, {"alpha": 0.3}, {"alpha": 2.0}],
    nn.Softplus: [{}, {"beta": 2.5, "threshold": 4.0}, {"beta": 0.5}],
    nn.SiLU: [{}],
    nn.GELU: [{}, {"approximate": "tanh"}],
    nn.Step: [{}],
}
FLATTENED = [{}, {"start_dim": 0}, {"start_dim": 0, "end_dim": 1}, {"start_dim": -2}]
NORMALISED = [
    {},
    {"eps": 0.1, "momentum": 0.5},
    {"momentum": None},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
]


def module_cases(draw: Draw) -> Iterator[Case]:
    yield from _activations(draw)
    yield from _softmax(draw)
    yield from _linear(draw)
    yield from _normalization(draw)
    yield from _containers(draw)


def _activations(draw: Draw) -> Iterator[Case]:
    for kind, variants in ACTIVATIONS.items():
        for options in variants:
            for rank in range(5):
                x = draw.kinked(*draw.shape(rank))
                yield draw.module_case(kind.__name__, options, kind(**options), x)
    for rank in range(5):
        x = draw.kinked(*draw.shape(rank))
        channels = x.shape[1] if rank > 1 else 1
        for options in ({}, {"init": -0.4}, {"num_parameters": channels, "init": 0.1}):
            net = nn.PReLU(**options, dtype=draw.dtype)
            yield draw.module_case("PReLU", options, net, x)
    for rank in range(1, 5):
        for pieces in (2, 3):
            x = draw.kinked(*draw.shape(rank - 1), pieces * draw.width())
            yield draw.module_case("Maxout", {"pieces": pieces}, nn.Maxout(pieces), x)


def _softmax(draw: Draw) -> Iterator[Case]:
    for kind in (nn.Softmax, nn.LogSoftmax):
        for rank in range(5):
            for dim in range(-rank, rank) if rank else (0,):
                x = draw.kinked(*draw.shape(rank))
                yield draw.module_case(kind.__name__, {"dim": dim}, kind(dim), x)
        x = 1e4 * draw.normal(*draw.shape(2))
        yield draw.module_case(kind.__name__, {"dim": 1}, kind(1), x)


def _linear(draw: Draw) -> Iterator[Case]:
    for bias in (True, False):
        for rank in range(1, 5):
            n_in, n_out = draw.width(), draw.width()
            net, x = draw.linear(n_in, n_out, bias), draw.normal(*draw.shape(rank - 1), n_in)
            yield draw.module_case("Linear", {"bias": bias}, net, x)
    n = draw.width(2)
    square = nn.Sequential(draw.linear(n, n), draw.linear(n, draw.width()))
    yield draw.module_case("Linear", {"bias": True}, square, draw.normal(draw.width(2), n))


def _normalization(draw: Draw) -> Iterator[Case]:
    for options in NORMALISED:
        for rank in (2, 3):
            for training in (True, False):
                c = draw.width()
                net = nn.BatchNorm1d(c, **options, dtype=draw.dtype).train(training)
                for p in net.parameters():
                    p.data = draw.uniform(0.5, 2, c)
                if net.running_mean is not None:
                    net.running_mean[...] = draw.normal(c)
                    net.running_var[...] = draw.uniform(0.5, 2, c)
                x = 2 * draw.normal(draw.width(3), c, *draw.shape(rank - 2)) + 1
                shown = options if training else {**options, "eval": True}
                yield draw.module_case("BatchNorm1d", shown, net, x)
    n_in, hidden = draw.width(2), draw.width(2)
    inside = nn.Sequential(
        draw.linear(n_in, hidden), nn.BatchNorm1d(hidden, dtype=draw.dtype), nn.Tanh()
    )
    yield draw.module_case("BatchNorm1d", {}, inside, draw.normal(8, n_in))
    for options in ({}, {"momentum": None}):  # running statistics over several steps
        first = nn.BatchNorm1d(n_in, **options, dtype=draw.dtype)
        net = nn.Sequential(first, draw.linear(n_in, hidden))
        x = 2 * draw.normal(8, n_in) + 1
        optimizer = optim.SGD(net.parameters(), lr=0.01)
        yield draw.module_case("BatchNorm1d", options, net, x, optimizer=optimizer, steps=4)


def _containers(draw: Draw) -> Iterator[Case]:
    for rank in range(5):
        for options in ({}, {"p": 0.2}, {"p": 0.0}, {"p": 1.0}, {"eval": True}):
            p = {name: value for name, value in options.items() if name == "p"}
            net = nn.Dropout(**p, generator=np.random.default_rng(draw.width(0, 999)))
            x = draw.normal(*draw.shape(rank))
            yield draw.module_case("Dropout", options, net.train("eval" not in options), x)
    for options in FLATTENED:
        for rank in range(2, 5):
            yield draw.module_case(
                "Flatten", options, nn.Flatten(**options), draw.normal(*draw.shape(rank))
            )
    for rank in range(2, 4):
        n = draw.width(2)
        x = draw.normal(*draw.shape(rank - 1), n)
        inner = nn.Sequential(draw.linear(n, 3), nn.Tanh(), draw.linear(3, n))
        net = nn.Sequential(draw.linear(n, n), nn.Residual(inner), nn.Sigmoid())
        yield draw.module_case("Residual", {"module": nn.Sequential}, net, x)
        nested = nn.Residual(nn.Sequential(nn.Residual(draw.linear(n, n)), nn.Tanh()))
        yield draw.module_case("Residual", {"module": nn.Residual}, nested, x)
        yield draw.module_case("Residual", {"module": nn.Identity}, nn.Residual(nn.Identity()), x)
    n, hidden, out = draw.width(), draw.width(), draw.width()
    nested = nn.Sequential(
        nn.Sequential(draw.linear(n, hidden), nn.Tanh()),
        nn.Sequential(nn.Sequential(draw.linear(hidden, out), nn.Sequential()), nn.Sigmoid()),
    )
    yield draw.module_case("Sequential", {}, nested, draw.normal(5, n))
    yield draw.module_case("Sequential", {}, nn.Sequential(), draw.normal(5, n))
