"""Cases for every optimizer, schedule and clipping: several steps on a small network."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from compare.cases.case import Case, Draw
from manual import nn, optim

DECAY = {"weight_decay": 0.1}
OPTIMIZERS = {
    optim.SGD: [
        {},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True, **DECAY},
        {"momentum": 0.5, "maximize": True},
    ],
    optim.Adam: [
        {},
        {"betas": (0.5, 0.9), "eps": 1e-4, **DECAY},
        {"amsgrad": True, "betas": (0.9, 0.3)},  # so that the mean of the squares falls
        {"maximize": True, **DECAY},
        {"decoupled_weight_decay": True, **DECAY},
    ],
    optim.AdamW: [
        {},
        {"betas": (0.5, 0.9), "weight_decay": 0.3},
        {"amsgrad": True, "betas": (0.9, 0.3), "eps": 1e-4},
        {"maximize": True, "weight_decay": 0.0},
    ],
    optim.RMSprop: [
        {},
        {"alpha": 0.5, "momentum": 0.9},
        {"centered": True, "eps": 1e-2},
        {"maximize": True, **DECAY},
    ],
    optim.Adagrad: [
        {},
        {"lr_decay": 0.1, "initial_accumulator_value": 0.2},
        {"maximize": True, "eps": 1e-3, **DECAY},
    ],
}
LBFGS = [
    {"max_iter": 4},
    {"max_iter": 4, "history_size": 2, "lr": 0.5},
    {"max_iter": 4, "line_search_fn": "strong_wolfe"},
    {"max_iter": 4, "max_eval": 3, "maximize": True, "lr": 0.1},
    {"max_iter": 4, "tolerance_grad": 0.2, "lr": 0.5},
    {"max_iter": 4, "tolerance_change": 0.05, "lr": 0.5},
]
SCHEDULES = [
    (optim.StepLR, {"step_size": 2, "gamma": 0.5}),
    (optim.ExponentialLR, {"gamma": 0.8}),
    (optim.CosineAnnealingLR, {"T_max": 3, "eta_min": 0.01}),
]
SCHEDULES += [(kind, {**options, "last_epoch": 3}) for kind, options in SCHEDULES]
CLIPS = [
    (optim.clip_grad_norm_, {"max_norm": 0.1}),
    (optim.clip_grad_norm_, {"max_norm": 1e3}),
    (optim.clip_grad_norm_, {"max_norm": 0.1, "norm_type": 1.0}),
    (optim.clip_grad_norm_, {"max_norm": 0.05, "norm_type": 3.0}),
    (optim.clip_grad_norm_, {"max_norm": 0.05, "norm_type": float("inf")}),
    (optim.clip_grad_value_, {"clip_value": 0.02}),
]


def optimizer_cases(draw: Draw) -> Iterator[Case]:
    for kind, variants in OPTIMIZERS.items():
        for options in variants:
            net, more = _network(draw)
            options = {"lr": 0.02, **options}
            optimizer = kind(net.parameters(), **options)
            yield _case(kind.__name__, options, net, more, optimizer=optimizer, steps=5)
        net, more = _network(draw)
        optimizer = kind(_groups(net), lr=0.02)
        shown = {"params": "weights | biases"}
        yield _case(kind.__name__, shown, net, more, optimizer=optimizer, steps=5)
    for options in LBFGS:
        net, more = _network(draw)
        optimizer = optim.LBFGS(net.parameters(), **options)
        yield _case("LBFGS", options, net, more, optimizer=optimizer, steps=2)
    for kind, options in SCHEDULES:
        for momentum in (0.0, 0.9):
            net, more = _network(draw)
            optimizer = optim.SGD(_groups(net), lr=0.1, momentum=momentum)
            if "last_epoch" in options:
                for group in optimizer.param_groups:
                    group["initial_lr"] = 0.2
            more |= {"optimizer": optimizer, "scheduler": kind(optimizer, **options)}
            yield _case(kind.__name__, options, net, more, steps=7)
    for clip, options in CLIPS:
        net, more = _network(draw)
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        more |= {"optimizer": optimizer, "clip": partial(clip, **options)}
        yield _case(clip.__name__, options, net, more, steps=2)


def _network(draw: Draw) -> tuple[nn.Module, dict[str, Any]]:
    """Two layers, and something to learn: classes or values."""
    n_in, hidden, out = draw.width(2), draw.width(2), draw.width(2)
    net = nn.Sequential(draw.linear(n_in, hidden), nn.Tanh(), draw.linear(hidden, out))
    x = draw.normal(6, n_in)
    if draw.width(0, 1):
        return net, {
            "criterion": nn.CrossEntropyLoss(),
            "x": x,
            "y": draw.generator.integers(0, out, 6),
        }
    return net, {"criterion": nn.MSELoss(), "x": x, "y": draw.normal(6, out)}


def _groups(net: nn.Module) -> list[dict[str, Any]]:
    """A penalty that spares the biases, which learn faster."""
    parameters = list(net.parameters())
    return [{"params": parameters[::2], **DECAY}, {"params": parameters[1::2], "lr": 0.05}]


def _case(
    subject: str, options: dict[str, Any], net: nn.Module, more: dict[str, Any], **rest: Any
) -> Case:
    return Case(subject, options, net, **more, **rest)
