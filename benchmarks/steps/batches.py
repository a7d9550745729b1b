"""Mini-batches in torch, in two ways; both as manual's `fit` makes them."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.steps.memory import BATCH, SCALE
from manual.training import scaled

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def indexed(x: np.ndarray, y: np.ndarray, seed: int) -> Batches:
    """Batches of two tensors in the order of a permutation."""
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    for chosen in order.split(BATCH):
        yield images[chosen].float() * SCALE, labels[chosen]


class Images(torch.utils.data.Dataset):
    """As torchvision.datasets.MNIST gives them: each a picture of PIL, through the transforms."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        from torchvision import transforms

        self.x, self.y = torch.from_numpy(x.reshape(-1, 28, 28)), torch.from_numpy(y)
        # Mean and deviation make no difference to the time; with these all sides see one scale.
        normal = transforms.Normalize((0.0,), (1.0,))
        self.transform = transforms.Compose([transforms.ToTensor(), normal])

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.x[i].numpy())), int(self.y[i])


def loaded(x: np.ndarray, y: np.ndarray, seed: int) -> Batches:
    """Batches of a DataLoader without workers, which for images this small only cost time."""
    order = np.random.default_rng(seed).permutation(len(x)).tolist()
    for images, labels in torch.utils.data.DataLoader(Images(x, y), BATCH, sampler=order):
        yield images.flatten(1), labels


def check_batches(x: np.ndarray, y: np.ndarray, seed: int) -> None:
    """Raises ValueError unless the batches of both are manual's, to a rounding of each number.

    x · (1/255) is within two roundings of the quotient, for 1/255 is rounded, too, and x / 255
    within one: 3 units of roundoff apart at most.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    for batches in (indexed, loaded):
        total = 0
        for k, (images, labels) in enumerate(batches(x, y, seed)):
            own = order[k * BATCH : (k + 1) * BATCH]
            total += len(own)
            mine = scaled(x[own], np.dtype(np.float32), SCALE)
            apart = np.abs(images.numpy() - mine) > 3 * np.finfo(np.float32).eps / 2 * mine
            if images.dtype != torch.float32 or apart.any() or (labels.numpy() != y[own]).any():
                raise ValueError(f"{batches.__name__}: batch {k} is not manual's")
        if total != len(x):
            raise ValueError(f"{batches.__name__}: {total} samples, expected {len(x)}")
