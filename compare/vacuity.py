"""Checks that could not have failed, judged for a tensor as a whole."""

from collections.abc import Collection
from fnmatch import fnmatchcase

from compare.trace import Passage, Tensor, Unit
from manual import nn

# One formula for either sign of the input.
TWO_SIDED = nn.ReLU | nn.LeakyReLU | nn.PReLU | nn.ELU | nn.Step


def vacuous_gradient(a: Tensor, b: Tensor) -> bool:
    """Whether a tensor of gradients is all zero on both sides: a backward that is never run, or
    wrong by any factor, would pass."""
    gradient = a.name.startswith(("d_", "grad."))
    return gradient and a.value.size > 0 and not a.value.any() and not b.value.any()


def vacuous_output(unit: Unit, passage: Passage) -> bool:
    """Whether a unit with a formula for either sign of its input saw one sign only."""
    x = passage.x
    return (
        isinstance(unit.module, TWO_SIDED) and x.size > 0 and not ((x > 0).any() and (x < 0).any())
    )


def declared(name: str, patterns: Collection[str]) -> bool:
    """Whether one of the patterns ("grad.0.bias", "activation.*") is for this row."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def why(name: str) -> str:
    """Why that row's check could not have failed."""
    if name.startswith("activation"):
        return "its inputs all have one sign: the formula for the other was not used"
    if name.startswith(("updated", "state")):
        return "rounding decides how L-BFGS goes on here, so either result could be right"
    return "all zero on both sides: a gradient that is forgotten, or any multiple, would pass"
