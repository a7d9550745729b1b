"""MNIST with both sides: the same weights and batches, the pair proven, then trained and timed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl
import torch

import manual.training
import torch_ref.training
from benchmarks.data import Dataset
from benchmarks.results import provenance
from compare import Comparison, compare
from compare.device import true_float32
from manual import nn, optim
from torch_ref import twins

SCALE = 1 / 255  # uint8 images to [0, 1], batch by batch
PROOF_STEPS = 3
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}


@dataclass(frozen=True)
class Settings:
    """What is trained, and how. device: of both sides, "cpu" or "cuda"."""

    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64
    epochs: int = 5
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


class Pair(NamedTuple):
    """The manual side, from which torch's is copied."""

    net: nn.Sequential
    criterion: nn.CrossEntropyLoss
    optimizer: optim.SGD


def make_pair(settings: Settings, inputs: int, classes: int) -> Pair:
    """The network inputs-hidden…-classes with torch's default initial weights, from the seed."""
    generator = np.random.default_rng([settings.seed, 0])
    widths = [inputs, *settings.hidden, classes]
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        modules.append(nn.Linear(n_in, n_out, dtype=settings.dtype, generator=generator))
        modules.append(ACTIVATIONS[settings.activation]())
    net = nn.Sequential(*modules[:-1])
    optimizer = optim.SGD(
        net.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    return Pair(net, nn.CrossEntropyLoss(), optimizer)


def prove(pair: Pair, data: Dataset, settings: Settings) -> Comparison:
    """Compare the very pair that is to be trained, over a few steps on a batch of the data."""
    n = settings.batch_size
    return compare(
        pair.net,
        pair.criterion,
        manual.training.scaled(data.train_x[:n], np.dtype(settings.dtype), SCALE),
        data.train_y[:n],
        optimizer=pair.optimizer,
        steps=PROOF_STEPS,
        device=settings.device,
        seed=settings.seed,
    )


def move(pair: Pair, device: str) -> None:
    """Put manual's side there; torch's has been copied from it."""
    pair.net.to(device=device)
    pair.criterion.to(device)


def gpu_name(device: str) -> str | None:
    return None if device == "cpu" else torch.cuda.get_device_name()


class Side(NamedTuple):
    """One side of the training. train(n): on to the end of epoch n; predict(x): logits;
    weights(): name → array."""

    name: str
    train: Callable[[int], manual.training.Epoch]
    predict: Callable[[np.ndarray], np.ndarray]
    weights: Callable[[], dict[str, np.ndarray]]


def train(
    pair: Pair,
    data: Dataset,
    settings: Settings,
    progress: Callable[[str], object] = lambda what: None,
    states: dict[str, dict[str, Any]] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Train both sides, epoch by epoch in turn; after each, the two rows of results.

    Both see the same batches. The side that goes first changes from epoch to epoch. Seconds are
    those of the training alone. states: side → what its `fit` resumes from, in which case the
    epochs before are not trained again; after each epoch it holds what the next goes on from.
    Raises FloatingPointError where a loss or weight is not finite, ResumeError for a state that
    does not fit.
    """
    states = {} if states is None else states
    done = max((len(state["history"]) for state in states.values()), default=0)
    with equal_threads(settings.threads), true_float32(settings.device):
        sides = _sides(pair, data, settings, states)
        origin = {"dataset": data.name, **asdict(settings)} | provenance()
        origin["gpu"] = gpu_name(settings.device)
        origin["hidden"] = "-".join(map(str, settings.hidden))
        for epoch in range(done + 1, settings.epochs + 1):
            rows = {}
            for side in sides if epoch % 2 else sides[::-1]:
                progress(f"epoch {epoch}, {side.name}")
                try:
                    rows[side.name] = epoch_row(side, data, epoch)
                except FloatingPointError as error:
                    raise FloatingPointError(f"{side.name}: {error}") from None
            apart = difference(*(side.weights() for side in sides))
            for side in sides:
                rows[side.name] |= {"max_weight_difference": apart, **origin}
            yield [rows[side.name] for side in sides]


def epoch_row(side: Side, data: Dataset, epoch: int) -> dict[str, Any]:
    """Train to the end of the epoch; what it came to. Raises FloatingPointError."""
    trained = side.train(epoch)
    logits = {"train": side.predict(data.train_x), "test": side.predict(data.test_x)}
    test_loss = float(nn.CrossEntropyLoss()(logits["test"], data.test_y))
    if not math.isfinite(test_loss):
        raise FloatingPointError(f"the test loss became {test_loss} in epoch {epoch}")
    return {
        "side": side.name,
        "epoch": epoch,
        "train_loss": trained.loss,
        "train_accuracy": accuracy(logits["train"], data.train_y),
        "test_loss": test_loss,
        "test_accuracy": accuracy(logits["test"], data.test_y),
        "seconds": trained.seconds,
        "samples_per_second": len(data.train_x) / trained.seconds,
    }


def accuracy(logits: np.ndarray, target: np.ndarray) -> float:
    """Share of rows of (N, C) logits whose largest entry is the target's."""
    return float((logits.argmax(axis=1) == target).mean())


def _sides(
    pair: Pair, data: Dataset, settings: Settings, states: dict[str, dict[str, Any]]
) -> list[Side]:
    theirs = twins(*pair, device=settings.device)
    move(pair, settings.device)

    def side(name: str, package: Any, net: Any, criterion: Any, optimizer: Any) -> Side:
        order = np.random.default_rng([settings.seed, 1])  # the same batches on both sides

        def train_to(epoch: int) -> manual.training.Epoch:
            history = package.fit(
                net,
                criterion,
                optimizer,
                data.train_x,
                data.train_y,
                epochs=epoch,
                batch_size=settings.batch_size,
                generator=order,
                scale=SCALE,
                checkpoint=partial(states.__setitem__, name),
                resume=states.get(name),
            )
            return history.epochs[-1]

        return Side(
            name,
            train_to,
            lambda x: package.predict(net, x, SCALE),
            lambda: {key: numpy_of(value) for key, value in net.state_dict().items()},
        )

    return [
        side("manual", manual.training, *pair),
        side("torch", torch_ref.training, *theirs),
    ]


def numpy_of(value: np.ndarray | torch.Tensor) -> np.ndarray:
    """The value itself, or what a tensor holds."""
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest between any two weights of one name and place."""
    return float(max(np.abs(a[name] - b[name]).max() for name in a))


@contextmanager
def equal_threads(n: int) -> Iterator[None]:
    """Let both sides use n threads, and set things back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpoolctl.threadpool_limits(n, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
