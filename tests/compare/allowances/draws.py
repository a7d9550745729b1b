"""Random numbers that are the same everywhere: streams change with versions of NumPy and torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch


class Draws:
    """In the place of either library's generator. Every draw is another, and so is every seed's."""

    def __init__(self, seed: int) -> None:
        self.seed, self.drawn = int(seed), 0

    def shares(self, shape: tuple) -> np.ndarray:
        """Between 0 and 1."""
        self.drawn += 1
        at = np.arange(np.prod(shape, dtype=int))
        return np.mod(0.137 * self.seed + 0.219 * self.drawn + 0.6180339887 * at, 1).reshape(shape)

    def random(self, shape: tuple) -> np.ndarray:
        return self.shares(shape)

    def uniform(self, low: float, high: float, shape: tuple) -> np.ndarray:
        return low + (high - low) * self.shares(shape)

    def choice(self, values: list, shape: tuple) -> np.ndarray:
        return np.array(values)[(len(values) * self.shares(shape)).astype(int)]


class TorchDraws(Draws):
    def __init__(self) -> None:
        pass

    def manual_seed(self, seed: int) -> "TorchDraws":
        super().__init__(seed)
        return self


def rand(shape: tuple, *, generator: Draws, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(generator.shares(shape), dtype=dtype)


@contextmanager
def fixed_draws() -> Iterator[None]:
    with (
        patch("numpy.random.default_rng", Draws),
        patch("torch.Generator", TorchDraws),
        patch("torch.rand", rand),
    ):
        yield
