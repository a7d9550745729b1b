"""A run of the study: the same weights and batches, the pair proven, then both sides trained."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import manual.training
import torch_ref.training
from benchmarks.data import Dataset
from benchmarks.homework.kept import Kept
from benchmarks.homework.parts import Part
from benchmarks.homework.scores import confusion, decided, scores
from benchmarks.mnist import (
    SCALE,
    Pair,
    Settings,
    difference,
    equal_threads,
    gpu_name,
    make_pair,
    move,
    numpy_of,
)
from benchmarks.results import provenance
from compare.device import true_float32
from manual import init, nn
from torch_ref import twins

# One set for all runs. In float64 the sides stay together to the last digits, so that early
# stopping stops both in the same epoch.
SETTINGS = Settings(
    hidden=(256, 128), lr=0.02, momentum=0.9, weight_decay=1e-4, epochs=40, dtype="float64"
)
PATIENCE = 10  # epochs without a better validation loss
SHARE = 0.1  # of the training images, which are kept for validation and not trained on
STD = 0.05  # of random normal weights, as in Keras


class Initial(NamedTuple):
    """Of the weights: in words, and what fills a weight (biases then start at 0); None: nothing,
    the layers keep what they began with."""

    text: str
    draw: Callable[..., Any] | None


INITIAL = {
    "default": Initial("uniform in ±1/√inputs, biases too, as in torch", None),
    "normal": Initial(
        f"normal with standard deviation {STD}, as in Keras; biases 0",
        partial(init.normal_, std=STD),
    ),
    "he": Initial(
        "normal with standard deviation √(2/inputs); biases 0",
        partial(init.kaiming_normal_, nonlinearity="relu"),
    ),
    "glorot": Initial("uniform in ±√(6/(inputs + outputs)); biases 0", init.xavier_uniform_),
}


@dataclass(frozen=True)
class Images:
    """Of one run: uint8 images (N, 784) and their targets, class indices (N,) or, for one sigmoid
    output, 0.0 and 1.0 as (N, 1). names: the digit that each class is."""

    dataset: str
    names: tuple[int, ...]
    train_x: np.ndarray
    train_y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def choose(data: Dataset, part: Part, digits: tuple[int, int], dtype: str, seed: int) -> Images:
    """The images of the run; which of the training images are for validation depends on seed."""

    def own(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not part.binary:
            return x, y
        chosen = np.isin(y, digits)
        return x[chosen], (y[chosen] == digits[1]).astype(dtype)[:, None]

    x, y = own(data.train_x, data.train_y)
    order = np.random.default_rng([seed, 2]).permutation(len(x))
    kept = math.ceil(SHARE * len(x))
    held, trained = order[:kept], order[kept:]
    names = digits if part.binary else tuple(range(data.classes))
    test = own(data.test_x, data.test_y)
    return Images(data.name, names, x[trained], y[trained], x[held], y[held], *test)


def pair_of(part: Part, settings: Settings, inputs: int) -> Pair:
    """The network and what trains it. The last module gives logits: the sigmoid (the softmax) is
    taken within the loss, which keeps it exact where it is almost 0 or 1."""
    pair = make_pair(settings, inputs, 1 if part.binary else 10)
    draw = INITIAL[part.initial].draw
    if draw is not None:
        generator = np.random.default_rng([settings.seed, 0])
        for name, parameter in pair.net.named_parameters():
            if name.endswith("weight"):
                draw(parameter, generator=generator)
            else:
                parameter.data[...] = 0
    return pair._replace(criterion=nn.BCEWithLogitsLoss()) if part.binary else pair


class Side(NamedTuple):
    """What one side came to. said: a class for each test image; weights: name → array."""

    history: manual.training.History
    said: np.ndarray
    weights: dict[str, np.ndarray]


class Trained(NamedTuple):
    """One run: a row of figures for each side, and what the pictures show."""

    part: Part
    seed: int
    rows: list[dict[str, Any]]
    sides: dict[str, Side]
    images: Images

    @property
    def true(self) -> np.ndarray:
        """The class of each test image."""
        return self.images.test_y.reshape(-1).astype(np.int64)

    def confusion(self, side: str) -> np.ndarray:
        """Of the test images, how many of each true class (row) the side said are which."""
        return confusion(self.sides[side].said, self.true, len(self.images.names))


def study(
    part: Part,
    pair: Pair,
    images: Images,
    settings: Settings,
    progress: Callable[[str], object] = lambda what: None,
    kept: Kept | None = None,
) -> Trained:
    """Train both sides, one after the other, over the same batches; with `kept`, on from there.

    Raises FloatingPointError, with the side, where a loss or weight is not finite; ResumeError for
    a state that does not fit."""
    theirs = twins(*pair, device=settings.device)
    move(pair, settings.device)
    sides, rows = {}, []
    with equal_threads(settings.threads), true_float32(settings.device):
        for name, package, (net, criterion, optimizer) in (
            ("manual", manual.training, pair),
            ("torch", torch_ref.training, theirs),
        ):
            progress(f"{part.name}, {name}")
            try:
                history = package.fit(
                    net,
                    criterion,
                    optimizer,
                    images.train_x,
                    images.train_y,
                    epochs=settings.epochs,
                    batch_size=settings.batch_size,
                    generator=np.random.default_rng([settings.seed, 1]),
                    scale=SCALE,
                    validation=(images.validation_x, images.validation_y),
                    patience=PATIENCE if part.stops else None,
                    checkpoint=kept and kept.keep(settings.seed, part.name, name),
                    resume=kept and kept.state(settings.seed, part.name, name),
                )
                logits = package.predict(net, images.test_x, SCALE)
            except FloatingPointError as error:
                raise FloatingPointError(f"{part.name}, {name}: {error}") from None
            weights = {key: numpy_of(value) for key, value in net.state_dict().items()}
            side = sides[name] = Side(history, decided(logits), weights)
            loss = float(pair.criterion(logits, images.test_y))
            rows.append({"run": part.name, "side": name} | _figures(part, side, loss, images))
    apart = difference(*(side.weights for side in sides.values()))
    common = {
        "dataset": images.dataset,
        "digits": "-".join(map(str, images.names)),
        "train_images": len(images.train_x),
        "validation_images": len(images.validation_x),
        "test_images": len(images.test_x),
        "initial": part.initial,
        "patience": PATIENCE if part.stops else None,
    }
    common |= {"max_weight_difference": apart, **asdict(settings)}
    common["gpu"] = gpu_name(settings.device)
    common["hidden"] = "-".join(map(str, settings.hidden))
    origin = provenance()
    return Trained(part, settings.seed, [row | common | origin for row in rows], sides, images)


def _figures(part: Part, side: Side, test_loss: float, images: Images) -> dict[str, Any]:
    epochs = side.history.epochs
    best = epochs[side.history.best - 1]
    true = images.test_y.reshape(-1).astype(np.int64)
    return {
        **scores(side.said, true, part.binary),
        "test_loss": test_loss,
        "train_loss": best.loss,
        "validation_loss": best.validation_loss,
        "epochs_run": len(epochs),
        "best_epoch": side.history.best,
        "stopped": side.history.stopped,
        "seconds": sum(epoch.seconds for epoch in epochs),
        "samples_per_second": len(images.train_x) / median(epoch.seconds for epoch in epochs),
        "weights": digest(side.weights),
    }


def digest(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 of all weights: equal where they are equal bit by bit."""
    sha = hashlib.sha256()
    for name, value in weights.items():
        sha.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()
