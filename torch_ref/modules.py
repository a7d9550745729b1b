"""What the documents need and torch.nn lacks. Forward only: the backward is autograd's."""

import torch


class HalfSquaredError(torch.nn.Module):
    """½ Σ (ŷ − y)², over every element."""

    reduction = "sum"

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((prediction - target) ** 2).sum() / 2


class SumSquaredError(torch.nn.Module):
    """Σ (ŷ − y)², over every element."""

    reduction = "sum"

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((prediction - target) ** 2).sum()


class Sequential(torch.nn.Sequential):
    """The twin of a manual Sequential, as distinct from one that is the twin of a single module."""
