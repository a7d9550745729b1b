"""`manual.training.fit` for the twin: the same loop, the same batches, torch's step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from manual.resuming import Generators
from manual.training import Epoch, History, check_data, not_nan, train
from torch_ref.nonfinite import first_nonfinite
from torch_ref.resuming import Arrays, Drawn, arrays


def scaled(x: torch.Tensor, dtype: torch.dtype, scale: float | None) -> torch.Tensor:
    """x as it is, or with `scale` converted to dtype and multiplied by it."""
    return x if scale is None else x.to(dtype) * scale


def tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on the device, copied where torch cannot share it (read-only, not contiguous)."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _target(y: np.ndarray, device: torch.device) -> torch.Tensor:
    """As `tensor`; class indices as int64, which torch.nn.CrossEntropyLoss wants."""
    return tensor(y.astype(np.int64) if y.dtype.kind in "iu" else y, device)


def predict(
    net: torch.nn.Module, x: np.ndarray, scale: float | None = None, batch_size: int = 1000
) -> np.ndarray:
    """net(x) in evaluation mode, batch by batch, as a NumPy array on the CPU.

    Raises FloatingPointError where a prediction is not a number, ValueError for no samples.
    """
    return not_nan(_outputs(net, x, scale, batch_size))


def _outputs(
    net: torch.nn.Module, x: np.ndarray, scale: float | None, batch_size: int = 1000
) -> np.ndarray:
    """`predict` that lets a NaN pass."""
    if len(x) == 0:
        raise ValueError("predict: x has no samples")
    weight, modes = next(net.parameters()), [(m, m.training) for m in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            parts = [
                net(scaled(part, weight.dtype, scale)).cpu()
                for part in tensor(x, weight.device).split(batch_size)
            ]
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(parts).numpy()


def fit(
    net: torch.nn.Module,
    criterion: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
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
    clip: Callable[[Iterable[torch.Tensor]], object] | None = None,
    scheduler: Any = None,
    callback: Callable[[Epoch], object] | None = None,
    checkpoint: Callable[[dict[str, Any]], object] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> History:
    """Train `net` as `manual.training.fit` does, which see for arguments and errors.

    The data is moved to the network's device once, before the first epoch. torch's own generator,
    which its Dropout draws from, is part of the state that `checkpoint` gets and `resume` sets.
    """
    check_data(x, y, validation)
    weight = next(net.parameters())
    data, target = tensor(x, weight.device), _target(y, weight.device)
    parameters = list(net.parameters())

    def step(index: np.ndarray | slice) -> float:
        chosen = index
        if not isinstance(index, slice):
            chosen = torch.from_numpy(index).to(weight.device)
        inputs, wanted = scaled(data[chosen], weight.dtype, scale), target[chosen]

        def closure() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(net(inputs), wanted)
            loss.backward()
            if clip is not None:
                clip(parameters)
            return loss

        return optimizer.step(closure).item()

    def validate() -> float:
        prediction = tensor(_outputs(net, validation[0], scale), weight.device)
        loss = criterion(prediction, _target(validation[1], weight.device)).item()
        return loss if criterion.reduction == "mean" else loss / len(validation[1])

    def get_weights() -> np.ndarray:
        return torch.nn.utils.parameters_to_vector(parameters).detach().cpu().numpy().copy()

    parts = {
        "network": Arrays(net),
        "optimizer": arrays(optimizer),
        "generators": Generators(net),
        "torch": Drawn(weight.device),
    }
    return train(
        step,
        get_weights,
        parts if scheduler is None else {**parts, "scheduler": arrays(scheduler)},
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
