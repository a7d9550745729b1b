"""One training step of either side, recorded tensor by tensor in causal order."""

from compare.trace.layerwise import layerwise_step
from compare.trace.manual_side import StepError, manual_step
from compare.trace.record import Draw, Run, Tensor, cotangent
from compare.trace.torch_side import Passage, TorchStep, torch_step
from compare.trace.unit import (
    RESIDUALS,
    Unit,
    dotted,
    named_buffers,
    own_parameters,
    prediction_row,
    units,
)
from compare.trace.update import LBFGS, lbfgs_state

__all__ = [
    "LBFGS",
    "RESIDUALS",
    "Draw",
    "Passage",
    "Run",
    "StepError",
    "Tensor",
    "TorchStep",
    "Unit",
    "cotangent",
    "dotted",
    "layerwise_step",
    "lbfgs_state",
    "manual_step",
    "named_buffers",
    "own_parameters",
    "prediction_row",
    "torch_step",
    "units",
]
