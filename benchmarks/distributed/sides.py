"""A step whose batch is shared by several processes, with manual and with torch.

The loss of a global batch of n samples is the mean of theirs. Of them rank r has n_r, with the mean
loss L_r; so L = Σ_r n_r/n · L_r, and dL/dθ = Σ_r n_r/n · dL_r/dθ: a sum over the processes of
gradients that each has weighted with its share. Shares differ where n is no multiple of the number
of processes, and may be 0.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.distributed.group import Alone, Group
from benchmarks.mnist import SCALE, Pair, move, numpy_of
from manual.arrays import as_array, as_if, host
from manual.nn.parameter import runs
from manual.training import scaled
from torch_ref import twins
from torch_ref.training import scaled as scaled_tensor
from torch_ref.training import tensor


def share(index: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The piece of a global batch that is this rank's: one behind the other, sizes that differ by
    1 at most."""
    n = len(index)
    return index[rank * n // world : (rank + 1) * n // world]


class Side:
    """name, device, and `loss`: the sum of this rank's losses over the samples since it was set
    to 0."""

    name = device = ""
    loss = 0.0

    def __init__(self, group: Group | Alone) -> None:
        self.group = group

    def step(self, index: np.ndarray) -> float:
        """One update with a global batch, of which this rank takes its share; the share's mean
        loss (0 without samples)."""
        loss = self.gradients(index)
        self.update()
        return loss

    def gradients(self, index: np.ndarray) -> float:
        own = share(index, self.group.rank, self.group.world)
        loss = self.backward(own, len(own) / len(index))
        self.loss += loss * len(own)
        return loss

    def backward(self, own: np.ndarray, weight: float) -> float:
        """Leave the gradient of the global batch in the parameters. weight: n_r / n."""
        raise NotImplementedError

    def update(self) -> None:
        raise NotImplementedError

    def weights(self) -> dict[str, np.ndarray]:
        return {name: numpy_of(value) for name, value in self.net.state_dict().items()}

    def wait(self) -> None:
        """Until everything asked for is done: on a GPU it may not be."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


class Manual(Side):
    """manual's hand-written gradients. Those of all parameters lie in one flat buffer, which torch
    adds up where it is, on the CPU or the GPU: nothing is copied."""

    name = "manual"

    def __init__(
        self, group: Group | Alone, pair: Pair, x: np.ndarray, y: np.ndarray, device: torch.device
    ) -> None:
        super().__init__(group)
        self.device = str(device)
        move(pair, device.type)
        self.net, self.criterion, self.optimizer = pair
        self.x, self.y = as_array(x, device.type), as_array(y, device.type)
        self.dtype = next(self.net.parameters()).dtype
        self.flat = [shared_memory(gradients) for _, gradients in runs(self.net.parameters())]

    def backward(self, own: np.ndarray, weight: float) -> float:
        loss = 0.0
        if len(own):
            at = as_if(self.x, own)
            inputs = scaled(self.x.take(at, axis=0), self.dtype, SCALE)
            loss = float(self.criterion(self.net(inputs), self.y.take(at, axis=0)))
            # dL/dL_r = n_r / n
            self.net.backward_parameters(self.criterion.backward(np.asarray(weight, self.dtype)))
        else:
            for p in self.net.parameters():
                p.overwrite_grad()[...] = 0
        for gradients in self.flat:
            self.group.all_reduce(gradients)
        return loss

    def update(self) -> None:
        self.optimizer.step()

    def read_gradients(self) -> dict[str, np.ndarray]:
        return {name: np.array(host(p.grad)) for name, p in self.net.named_parameters()}


class Torch(Side):
    """torch with DistributedDataParallel, which adds the gradients up during backward and divides
    them by the number of processes: so the loss is weighted with that number, too."""

    name = "torch"

    def __init__(
        self, group: Group | Alone, pair: Pair, x: np.ndarray, y: np.ndarray, device: torch.device
    ) -> None:
        super().__init__(group)
        self.device = str(device)
        self.net, self.criterion, self.optimizer = twins(*pair, device=self.device)
        self.x, self.y = tensor(x, device), tensor(y, device)
        self.dtype = next(self.net.parameters()).dtype
        self.forward: Any = self.net
        if isinstance(group, Group):
            with group.talking():
                self.forward = DistributedDataParallel(self.net, gradient_as_bucket_view=True)

    def backward(self, own: np.ndarray, weight: float) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        chosen = torch.from_numpy(own).to(self.x.device)
        prediction = self.forward(scaled_tensor(self.x[chosen], self.dtype, SCALE))
        # The mean of nothing is NaN; its sum is 0, and has a gradient of zeros.
        loss = self.criterion(prediction, self.y[chosen]) if len(own) else prediction.sum()
        with self.group.talking():
            (loss * (weight * self.group.world)).backward()
        return float(loss.detach())

    def update(self) -> None:
        self.optimizer.step()

    def read_gradients(self) -> dict[str, np.ndarray]:
        return {name: p.grad.cpu().numpy().copy() for name, p in self.net.named_parameters()}


def shared_memory(array: Any) -> torch.Tensor:
    """A tensor on the array's own memory: a NumPy array's, or that of one on a GPU."""
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def pair_of(
    group: Group | Alone, pair: Pair, x: np.ndarray, y: np.ndarray, device: torch.device
) -> list[Side]:
    """Both sides, from the same weights. The manual side is `pair` itself."""
    torchs = Torch(group, pair, x, y, device)
    return [Manual(group, pair, x, y, device), torchs]
