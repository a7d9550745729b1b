"""Random networks with everything that belongs to a training step, each one from two numbers."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from compare.cases.case import Draw
from compare.cases.optimizers import CLIPS, LBFGS, OPTIMIZERS, SCHEDULES
from compare.trace import Run, Tensor, manual_step
from manual import nn, optim

LIMIT = float(np.finfo(np.float32).max)
DTYPES = (np.float32, np.float64)

ACTIVATIONS: list[Callable[[Draw, int], nn.Module]] = [
    *(lambda draw, width, kind=kind: kind() for kind in (nn.Identity, nn.Sigmoid, nn.LogSigmoid)),
    *(lambda draw, width, kind=kind: kind() for kind in (nn.Tanh, nn.Arctan, nn.ReLU, nn.SiLU)),
    lambda draw, width: nn.LeakyReLU(_one(draw, (0.01, 0.3, 0.0, -0.5))),
    lambda draw, width: nn.ELU(_one(draw, (1.0, 0.3, 2.0))),
    lambda draw, width: nn.Softplus(*_one(draw, ((), (2.5, 4.0), (0.5,)))),
    lambda draw, width: nn.GELU(_one(draw, ("none", "tanh"))),
    lambda draw, width: nn.Softmax(-1),
    lambda draw, width: nn.LogSoftmax(-1),
    lambda draw, width: nn.PReLU(
        _one(draw, (1, width)), draw.generator.uniform(-0.5, 0.5), dtype=draw.dtype
    ),
]
BATCH_NORMS = [{}, {}, {"momentum": None}, {"affine": False}, {"bias": False}]
BATCH_NORMS += [{"track_running_stats": False}, {"eps": 0.1, "momentum": 0.5}]


class Network(NamedTuple):
    """A training run of `steps` steps on (x, y); optimizer, scheduler and clip as in `compare`.
    redrawn: how many were thrown away before it."""

    net: nn.Module
    criterion: nn.Criterion
    x: np.ndarray
    y: np.ndarray
    optimizer: optim.Optimizer | None
    scheduler: Any
    clip: Callable | None
    steps: int
    redrawn: int = 0

    @property
    def dtype(self) -> np.dtype:
        return self.x.dtype

    def copied(self) -> "Network":
        """The same once more, x and y too."""
        return Network(*copy.deepcopy(tuple(self)))

    def run(self) -> Run:
        """What a step is made of; a step changes it."""
        return Run(self.net, self.criterion, self.optimizer, self.scheduler, self.clip)

    def __str__(self) -> str:
        clip = self.clip and f"{self.clip.func.__name__}({self.clip.keywords})"
        return (
            f"{self.net!r}\n{type(self.criterion).__name__}, reduction "
            f"{getattr(self.criterion, 'reduction', 'sum')}; {type(self.optimizer).__name__}, "
            f"{type(self.scheduler).__name__}, {clip}\n"
            f"x {list(self.x.shape)} {self.dtype}, largest {np.abs(self.x).max():.3g}; "
            f"{self.steps} steps, {self.redrawn} redrawn"
        )


def network(seed: int, number: int) -> Network:
    """Network `number` of `seed`. A draw is thrown away where any number that it comes to, computed
    in a wider dtype, is beyond the range of float32: what is not finite fails by rule."""
    attempt = 0
    while True:
        drawn = _draw(np.random.default_rng((seed, number, attempt)))
        if _in_range(drawn):
            return drawn._replace(redrawn=attempt)
        attempt += 1


def widened(given: Network) -> Network:
    """A copy in float64 instead of float32, in longdouble instead of float64."""
    own = given.copied()
    dtype = np.float64 if given.dtype == np.float32 else np.longdouble
    own.net.to(dtype)
    for name, value in vars(own.criterion).items():
        if isinstance(value, np.ndarray):
            setattr(own.criterion, name, value.astype(dtype))
    y = own.y.astype(dtype) if own.y.dtype.kind == "f" else own.y
    return own._replace(x=own.x.astype(dtype), y=y)


def cotangent(step: int) -> Callable[[tuple], np.ndarray]:
    """What stands for ∂L/∂loss in this step, where the loss is not a scalar: what `compare` draws
    for the seed 0."""

    def draw(shape: tuple) -> np.ndarray:
        values = np.random.default_rng((0, step)).normal(size=tuple(shape))
        return values.astype(np.float32)

    return draw


def exact_step(given: Network) -> dict[str, np.ndarray]:
    """Every tensor of the first step, by name, computed in a wider dtype."""
    own = widened(given)
    return {row.name: row.value for row in manual_step(own.run(), own.x, own.y, cotangent(1))}


def _in_range(given: Network) -> bool:
    own = widened(given)
    run = own.run()
    with np.errstate(all="ignore"):
        for step in range(1, given.steps + 1):
            rows = manual_step(run, own.x.copy(), own.y.copy(), cotangent(step))
            state = run.optimizer.state_dict()["state"].values()
            rows += [
                Tensor(name, "state", value)
                for entry in state
                for name, value in entry.items()
                if isinstance(value, np.ndarray)
            ]
            if not all((np.abs(row.value) <= LIMIT).all() for row in rows):
                return False
    return True


def _one(draw: Draw, options: Any) -> Any:
    return options[int(draw.generator.integers(len(options)))]


def _chance(draw: Draw, probability: float) -> bool:
    return bool(draw.generator.random() < probability)


def _size(draw: Draw, low: int = 1) -> int:
    """low to 64, each octave as likely as the next."""
    return int(low * (65 / low) ** draw.generator.random())


def _decades(draw: Draw, low: float, high: float) -> float:
    return float(10 ** draw.generator.uniform(low, high))


def _draw(generator: np.random.Generator) -> Network:
    draw = Draw(np.dtype(DTYPES[int(generator.integers(2))]), generator)
    batch = _size(draw, 1 if _chance(draw, 0.1) else 2)
    front, shape = [], (_size(draw),)
    if _chance(draw, 0.1):
        shape = (draw.width(1, 8), draw.width(1, 8))
        front = [nn.Flatten()]
    x = draw.normal(batch, *shape) * draw.dtype.type(_decades(draw, -2, 2))
    width, layers = int(np.prod(shape)), []
    depth = draw.width(1, 4)
    for k in range(depth):
        layer, width = _layer(draw, width, batch, last=k == depth - 1)
        layers += layer
    kind = LOSSES[int(generator.integers(len(LOSSES)))]
    if kind is nn.BCELoss:
        layers.append(nn.Sigmoid())
    if kind is nn.NLLLoss:
        layers.append(nn.LogSoftmax(-1))
    net = nn.Sequential(*front, *layers)
    if _chance(draw, 0.15):
        net.eval()
    lbfgs = _chance(draw, 0.03)
    criterion = _criterion(draw, kind, width, ("mean", "sum") if lbfgs else REDUCTIONS)
    prediction = copy.deepcopy(net)(x)
    y = _target(draw, kind, prediction)
    optimizer = _lbfgs(draw, net) if lbfgs else _optimizer(draw, net)
    scheduler = None
    if not lbfgs and _chance(draw, 0.3):
        schedule, options = _one(draw, SCHEDULES[:3])
        scheduler = schedule(optimizer, **options)
    clip = None
    if _chance(draw, 0.3):
        function, options = _one(draw, CLIPS)
        clip = partial(function, **options)
    steps = min(draw.width(1, 5), draw.width(1, 5))  # each takes time, and few are like many
    return Network(net, criterion, x, y, optimizer, scheduler, clip, steps)


def _layer(draw: Draw, width: int, batch: int, last: bool) -> tuple[list[nn.Module], int]:
    """Linear, then perhaps BatchNorm1d, an activation or Maxout, Dropout; and the new width."""
    residual, pieces, out = _chance(draw, 0.1), 1, _size(draw)
    if residual:
        out = width
    elif _chance(draw, 0.05):
        pieces = draw.width(2, 3)
    linear = draw.linear(width, out * pieces, _chance(draw, 0.85))
    scale = _decades(draw, -2, 1)
    for p in linear.parameters():
        p.data *= draw.dtype.type(scale)
    layer: list[nn.Module] = [linear]
    if batch > 1 and _chance(draw, 0.15):
        layer.append(_batch_norm(draw, out * pieces))
    if pieces > 1:
        layer.append(nn.Maxout(pieces))
    elif not last or _chance(draw, 0.5):
        # nothing before a Step has a gradient, so there are few
        step = _chance(draw, 0.02)
        layer.append(nn.Step() if step else _one(draw, ACTIVATIONS)(draw, out))
    if _chance(draw, 0.1):
        generator = np.random.default_rng(draw.width(0, 10**6))
        layer.append(nn.Dropout(_one(draw, (0.5, 0.2, 0.0)), generator))
    if residual:
        layer = [nn.Residual(nn.Sequential(*layer))]
    elif _chance(draw, 0.1):
        layer = [nn.Sequential(*layer)]
    return layer, out


def _batch_norm(draw: Draw, width: int) -> nn.Module:
    norm = nn.BatchNorm1d(width, **_one(draw, BATCH_NORMS), dtype=draw.dtype)
    for p in norm.parameters():
        p.data = draw.uniform(-2, 2, width)
    if norm.running_mean is not None:
        norm.running_mean[...] = draw.normal(width)
        norm.running_var[...] = draw.uniform(0.5, 2, width)
    return norm


LOSSES = [nn.HalfSquaredError, nn.SumSquaredError, nn.MSELoss, nn.L1Loss, nn.BCELoss]
LOSSES += [nn.BCEWithLogitsLoss, nn.NLLLoss, nn.CrossEntropyLoss]
REDUCTIONS = ("mean", "sum", "none")


def _criterion(draw: Draw, kind: type, width: int, reductions: tuple) -> nn.Criterion:
    if kind in (nn.HalfSquaredError, nn.SumSquaredError):
        return kind()
    options: dict[str, Any] = {"reduction": _one(draw, reductions)}
    if kind not in (nn.MSELoss, nn.L1Loss) and _chance(draw, 0.3):
        options["weight"] = draw.uniform(0.5, 2, width)
    if kind is nn.BCEWithLogitsLoss and _chance(draw, 0.3):
        options["pos_weight"] = draw.uniform(0.5, 3, width)
    if kind is nn.CrossEntropyLoss and _chance(draw, 0.3):
        options["label_smoothing"] = 0.1
    return kind(**options)


def _target(draw: Draw, kind: type, prediction: np.ndarray) -> np.ndarray:
    """Values, some of them hardly off the prediction; probabilities; or classes."""
    shape = prediction.shape
    if kind in (nn.BCELoss, nn.BCEWithLogitsLoss):
        y = draw.uniform(0, 1, *shape)
        return np.round(y) if _chance(draw, 0.5) else y
    if kind is nn.CrossEntropyLoss and _chance(draw, 0.2):
        y = draw.uniform(0, 1, *shape)
        return y / y.sum(axis=1, keepdims=True)
    if kind in (nn.CrossEntropyLoss, nn.NLLLoss):
        return draw.generator.integers(0, shape[1], shape[0])
    if _chance(draw, 0.2):
        return prediction * (1 + draw.dtype.type(1e-3) * draw.normal(*shape))
    return draw.normal(*shape) * draw.dtype.type(_decades(draw, -2, 2))


def _optimizer(draw: Draw, net: nn.Module) -> optim.Optimizer:
    kind = _one(draw, list(OPTIMIZERS))
    options = {**_one(draw, OPTIMIZERS[kind]), "lr": _decades(draw, -4, -1)}
    parameters = list(net.parameters())
    if len(parameters) > 1 and _chance(draw, 0.2):
        groups = [{"params": parameters[::2], "weight_decay": 0.1}]
        parameters = [*groups, {"params": parameters[1::2], "lr": 2 * options["lr"]}]
    return kind(parameters, **options)


def _lbfgs(draw: Draw, net: nn.Module) -> optim.Optimizer:
    return optim.LBFGS(net.parameters(), **_one(draw, LBFGS))
