"""Training: the epoch loop with early stopping, and `fit`, which runs it on a manual network.

`train` knows no array library: the twin's `fit` runs the very same loop, so that both sides see
the same batches and stop for the same reasons.
"""

from __future__ import annotations  # naming np.random.Generator would import numpy.random

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from manual.arrays import as_array, host, is_array, take
from manual.nn.criterion import Criterion
from manual.nn.module import Module
from manual.nn.parameter import Parameter, runs
from manual.nn.workspace import Workspace
from manual.nonfinite import first_nonfinite
from manual.resuming import REFUSALS, Generators, ResumeError, check_state, resumable

STEPS = 100  # between copies of a run's state in memory, each of which takes about one step


class Epoch(NamedTuple):
    """What one epoch came to. loss: mean over the samples, taken as they were trained on;
    validation_loss: the same at the end of the epoch, or None; seconds: training alone."""

    epoch: int
    loss: float
    validation_loss: float | None
    seconds: float


class History(NamedTuple):
    """epochs: one `Epoch` each, from 1. best: the number of the epoch whose weights the network
    has now. stopped: "epochs", "early stopping", "tolerance" or "callback"."""

    epochs: list[Epoch]
    best: int
    stopped: str


def batches(
    n: int, batch_size: int | None, generator: np.random.Generator
) -> Iterator[np.ndarray | slice]:
    """The indices 0 … n−1 once each, shuffled, in arrays of batch_size (the last may be less);
    batch_size None: all in one, as they are."""
    if batch_size is None:
        yield slice(None)
        return
    order = generator.permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def scaled(
    x: np.ndarray, dtype: np.dtype, scale: float | None, out: np.ndarray | None = None
) -> np.ndarray:
    """x as it is, or with `scale` converted to dtype and multiplied by it (into `out`)."""
    return x if scale is None else np.multiply(x, scale, out=out, dtype=dtype)


def predict(
    net: Module, x: np.ndarray, scale: float | None = None, batch_size: int = 1000
) -> np.ndarray:
    """net(x) in evaluation mode, batch by batch, as a NumPy array; the mode is set back afterwards.
    x as in `fit`.

    Raises FloatingPointError where a prediction is not a number, ValueError for no samples.
    """
    return not_nan(_outputs(net, x, scale, batch_size))


def _outputs(net: Module, x: np.ndarray, scale: float | None, batch_size: int = 1000) -> np.ndarray:
    """`predict` that lets a NaN pass."""
    if len(x) == 0:
        raise ValueError("predict: x has no samples")
    (dtype, device), modes = _home(net), [(m, m.training) for m in net.modules()]
    net.eval()
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # who calls looks itself
            parts = [
                host(net(scaled(as_array(x[start : start + batch_size], device), dtype, scale)))
                for start in range(0, len(x), batch_size)
            ]
    finally:
        for module, mode in modes:
            module.training = mode
    return np.concatenate(parts)


def not_nan(prediction: np.ndarray) -> np.ndarray:
    """The prediction itself. Raises FloatingPointError, with the row, where it holds a NaN."""
    rows = np.isnan(prediction).reshape(len(prediction), -1).any(axis=1)
    if rows.any():
        raise FloatingPointError(f"the prediction for sample {int(rows.argmax())} is not a number")
    return prediction


def fit(
    net: Module,
    criterion: Criterion,
    optimizer: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int,
    batch_size: int | None,
    generator: np.random.Generator | None,
    scale: float | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    clip: Callable[[Iterable[Parameter]], object] | None = None,
    scheduler: Any = None,
    callback: Callable[[Epoch], object] | None = None,
    checkpoint: Callable[[dict[str, Any]], object] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> History:
    """Train `net` with mini-batches of (x, y) in an order drawn anew for every epoch.

    x: (n, …) of the network's dtype; or of any real dtype (uint8 images) with `scale`: then each
    batch is converted to the network's dtype and multiplied by it. y: (n, …).
    On a GPU, where the network is there: all of x and y is moved to it once, as it is, before the
    first epoch.
    criterion: one with a scalar loss (reduction "mean" or "sum").
    batch_size: 1 is descent sample by sample, None the whole batch (which is not shuffled).
    generator: draws the order; not needed for the whole batch, None will do.
    validation: (x, y) for a loss at the end of every epoch; patience: stop after that many epochs
    without a better one. Where it is given, the network ends with the weights (and buffers) of the
    best epoch, whatever it stopped for. tolerance: stop when no weight changed by more than this
    in an epoch: w_new ≈ w_old.
    clip: called with the parameters between backward and update, as
    functools.partial(optim.clip_grad_norm_, max_norm=1.0); scheduler: takes a step after every
    epoch; callback: called with each `Epoch`, stops on True.
    checkpoint: called at the end of every epoch, after callback, with all that the rest of the run
    depends on: a dict of dicts, lists, tuples, arrays, numbers and texts, copies.
    resume: such a dict. With the arguments of its run (epochs may be more) and what these were
    made of, this one goes on after that epoch and ends, bit for bit, where it would have ended;
    optimizer, scheduler and generators take on the state they had.

    Raises TypeError for data that is no array and a generator that is none, ValueError for sizes
    that do not fit, ResumeError (a ValueError; nothing is changed) for a `resume` of another
    network or other arguments, FloatingPointError when the loss (at once), a weight or the
    validation loss (at the end of the epoch) is no longer finite, with the epoch, step and layer
    where that began. To find these the steps since a copy of the state are taken once more.
    """
    check_data(x, y, validation)
    dtype, device = _home(net)
    parameters = list(net.parameters())
    x, y = as_array(x, device), as_array(y, device)

    new_empty = Workspace(device).empty

    def gathered(data: np.ndarray, index: np.ndarray | slice) -> np.ndarray:
        if isinstance(index, slice):
            return data
        out = new_empty((len(index), *data.shape[1:]), data.dtype)
        return take(data, index, out, axis=0)

    def step(index: np.ndarray | slice) -> float:
        index = index if isinstance(index, slice) else as_array(index, device)
        inputs, target = gathered(x, index), gathered(y, index)
        if scale is not None:
            inputs = scaled(inputs, dtype, scale, new_empty(inputs.shape, dtype))

        def closure() -> np.floating:
            loss = criterion(net(inputs), target)
            net.backward_parameters(criterion.backward())
            if clip is not None:
                clip(parameters)
            return loss

        return float(optimizer.step(closure))

    def validate() -> float:
        outputs = as_array(_outputs(net, validation[0], scale), device)
        loss = float(criterion(outputs, as_array(validation[1], device)))
        return loss if criterion.reduction == "mean" else loss / len(validation[1])

    def get_weights() -> np.ndarray:
        return np.concatenate([host(values) for values, _ in runs(parameters)])

    parts = {"network": net, "optimizer": optimizer, "generators": Generators(net)}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # `train` looks itself
        return train(
            step,
            get_weights,
            parts if scheduler is None else {**parts, "scheduler": scheduler},
            lambda run: first_nonfinite(net, criterion, run),
            about={
                "network": repr(net),
                "criterion": repr(criterion),
                "optimizer": type(optimizer).__name__,
            },
            n=len(x),
            reduction=criterion.reduction,
            set_training=net.train,
            epochs=epochs,
            batch_size=batch_size,
            generator=generator,
            validate=validate if validation is not None else None,
            patience=patience,
            tolerance=tolerance,
            scheduler=scheduler,
            callback=callback,
            checkpoint=checkpoint,
            resume=resume,
        )


def train(
    step: Callable[[np.ndarray | slice], float],
    get_weights: Callable[[], np.ndarray],
    parts: Mapping[str, Any],
    examine: Callable[[Callable[[], float]], str | None],
    *,
    about: Mapping[str, str],
    n: int,
    reduction: str,
    set_training: Callable[[bool], object],
    epochs: int,
    batch_size: int | None,
    generator: np.random.Generator | None,
    validate: Callable[[], float] | None,
    patience: int | None,
    tolerance: float | None,
    scheduler: Any,
    callback: Callable[[Epoch], object] | None,
    checkpoint: Callable[[dict[str, Any]], object] | None,
    resume: Mapping[str, Any] | None,
) -> History:
    """The loop of `fit`. step(indices) does one update and returns the loss of its batch;
    get_weights() returns a 1-D copy of all weights; parts: name → what training changes, with
    state_dict() and load_state_dict(), among them "network"; examine(run) calls run() and says
    where a value was first not finite, if the loss that it returns or a weight is not. about: what
    the parts are, in words."""
    _check(reduction, epochs, batch_size, generator, validate, patience, tolerance)
    parts = resumable(parts, required=checkpoint is not None or resume is not None)
    about = {
        **about,
        "samples": n,
        "batch_size": batch_size and int(batch_size),
        "patience": patience and int(patience),
        "tolerance": None if tolerance is None else float(tolerance),
        "validation": validate is not None,
    }
    history: list[Epoch] = []
    best, best_network, stopped = 0, None, "epochs"

    def get_state() -> dict[str, Any]:
        """What the steps depend on."""
        return {
            "generator": None if generator is None else generator.bit_generator.state,
            **{name: part.state_dict() for name, part in parts.items()},
        }

    def whole_state() -> dict[str, Any]:
        """And what the epochs came to."""
        return {
            "about": about,
            "history": [list(epoch) for epoch in history],
            "best": best,
            "best_network": best_network,
            "stopped": stopped,
            **get_state(),
        }

    def set_state(state: Mapping[str, Any]) -> None:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        if generator is not None:
            generator.bit_generator.state = state["generator"]

    def began(last: int) -> str:
        """Where what is not finite in epoch `last` began."""
        set_state(kept)
        for epoch in range(kept_at + 1, last + 1):
            set_training(True)
            for k, index in enumerate(batches(n, batch_size, generator), 1):
                found = examine(lambda index=index: step(index))
                if found is not None:
                    return f"it began in epoch {epoch}, step {k}, {found}"
            if scheduler is not None:
                scheduler.step()
        return "where it began is not known: the same steps, taken again, stay finite"

    kept, steps = get_state(), 0
    if resume is not None:
        try:
            check_state(resume, whole_state(), epochs)
            set_state(resume)
        except REFUSALS as error:
            set_state(kept)
            told = " ".join(str(error).split())
            raise ResumeError(f"fit: cannot resume: {told}") from error
        history += [Epoch(*epoch) for epoch in resume["history"]]
        best, best_network, stopped = (resume[k] for k in ("best", "best_network", "stopped"))
        kept = resume
    kept_at = len(history)
    for epoch in range(len(history) + 1, epochs + 1 if stopped == "epochs" else 0):
        # What a callback may have changed is in no step.
        if steps >= STEPS or (steps and callback is not None):
            kept, kept_at, steps = get_state(), epoch - 1, 0
        before = get_weights() if tolerance is not None else None
        set_training(True)
        total, start = 0.0, time.perf_counter()
        for k, index in enumerate(batches(n, batch_size, generator), 1):
            loss = step(index)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss} in epoch {epoch}, step {k}; {began(epoch)}"
                )
            size = n if batch_size is None else len(index)
            total += loss * size if reduction == "mean" else loss
        steps += k
        if scheduler is not None:
            scheduler.step()
        seconds = time.perf_counter() - start
        weights = get_weights()
        if not np.isfinite(weights).all():
            raise FloatingPointError(f"a weight became non-finite in epoch {epoch}; {began(epoch)}")
        validation_loss = None if validate is None else validate()
        if validation_loss is not None and not math.isfinite(validation_loss):
            raise FloatingPointError(
                f"the validation loss became {validation_loss} in epoch {epoch}; "
                f"it began in {examine(validate)}"
            )
        history.append(Epoch(epoch, total / n, validation_loss, seconds))
        if validation_loss is not None and (
            best == 0 or validation_loss < history[best - 1].validation_loss
        ):
            best = epoch
            best_network = parts["network"].state_dict() if patience is not None else None
        if callback is not None and callback(history[-1]):
            stopped = "callback"
        elif patience is not None and epoch - best >= patience:
            stopped = "early stopping"
        elif tolerance is not None and np.abs(weights - before).max() <= tolerance:
            stopped = "tolerance"
        if checkpoint is not None:
            checkpoint(whole_state())
        if stopped != "epochs":
            break
    if patience is None:
        best = len(history)
    else:
        parts["network"].load_state_dict(best_network)
    return History(history, best, stopped)


def _home(net: Module) -> tuple[np.dtype, str]:
    """The dtype and the device of its parameters."""
    for p in net.parameters():
        return p.dtype, p.device
    raise ValueError("the network has no parameters to train, or to take the dtype from")


def check_data(x: Any, y: Any, validation: Any) -> None:
    """Raise TypeError or ValueError for data that `fit` cannot train on, before it begins."""
    if validation is not None and not (
        isinstance(validation, tuple | list) and len(validation) == 2
    ):
        raise TypeError(f"fit: validation must be (x, y) or None, got {type(validation).__name__}")
    for where, pair in (("", (x, y)), ("validation's ", validation or (x, y))):
        for name, array in zip("xy", pair, strict=True):
            if not is_array(array):
                raise TypeError(f"fit: {where}{name} must be an array, got {type(array).__name__}")
            if array.ndim == 0:
                raise ValueError(f"fit: {where}{name} must have samples, got a 0-d array")
        sizes = tuple(len(array) for array in pair)
        if sizes[0] != sizes[1] or sizes[0] == 0:
            raise ValueError(f"fit: {where}x and y need equally many samples (>= 1), got {sizes}")


def _check(reduction, epochs, batch_size, generator, validate, patience, tolerance) -> None:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"fit: the criterion's reduction must be mean or sum, got {reduction!r}")
    if batch_size is not None and not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"fit: generator must be a numpy.random.Generator, got {type(generator).__name__}"
        )
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        optional = value is None and name != "epochs"
        if not optional and not (whole and value >= 1):
            raise ValueError(f"fit: {name} must be a whole number >= 1, got {value!r}")
    if patience is not None and validate is None:
        raise ValueError("fit: patience (early stopping) needs validation data")
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real | None):
        raise TypeError(f"fit: tolerance must be a number, got {tolerance!r}")
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(f"fit: tolerance must be a finite number >= 0, got {tolerance!r}")
