"""The same networks in torch.nn, with the same weights; the backward is autograd's alone."""

from torch_ref import training
from torch_ref.twin import twin, twins

__all__ = ["training", "twin", "twins"]
