"""What the documents need and torch.nn lacks. Forward only: the backward is autograd's."""

import numpy as np
import torch


class HalfSquaredError(torch.nn.Module):
    """½ Σ (ŷ − y)², over every element."""

    reduction = "sum"

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((prediction - target) ** 2).sum() / 2


class Arctan(torch.nn.Module):
    """arctan(x), element by element."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.atan(x)


class Maxout(torch.nn.Module):
    """The largest of `pieces` consecutive elements of the last dimension."""

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.reshape(*x.shape[:-1], x.shape[-1] // self.pieces, self.pieces)
        return parts.max(dim=-1).values


class Step(torch.nn.Module):
    """0 for x < 0, 1 for x >= 0. Made of sign and ceil, whose derivative torch has as 0 (it has
    none of heaviside)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.isnan(), x.detach(), ((x.sign() + 1) / 2).ceil())


class SumSquaredError(torch.nn.Module):
    """Σ (ŷ − y)², over every element."""

    reduction = "sum"

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((prediction - target) ** 2).sum()


class Sequential(torch.nn.Sequential):
    """The twin of a manual Sequential, as distinct from one that is the twin of a single module."""


class Residual(torch.nn.Module):
    """x + f(x)."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.module(x)


class Dropout(torch.nn.Dropout):
    """torch.nn.Dropout with the masks of a NumPy generator: those that manual's draws."""

    def __init__(self, p: float, generator: np.random.Generator) -> None:
        super().__init__(p)
        self.generator = generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        drawn = np.asarray(self.generator.random(tuple(x.shape)))
        kept = torch.from_numpy(np.asarray(drawn >= self.p)).to(x)
        return x * kept if self.p == 1 else x * (kept / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"
