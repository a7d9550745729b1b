"""A catalogue of bugs that `compare` must find: each planted in a network that is right without."""

from tests.planted import (
    activations,
    both,
    class_losses,
    linear,
    losses,
    normalization,
    optimizers,
    own,
    piecewise,
    schedules,
    tensors,
    torch_functions,
    torch_side,
)
from tests.planted.bug import Bug

AREAS = {
    "activations": [*activations.BUGS, *piecewise.BUGS],
    "linear": linear.BUGS,
    "normalization": normalization.BUGS,
    "losses": [*losses.BUGS, *class_losses.BUGS],
    "optimizers": optimizers.BUGS,
    "schedules": schedules.BUGS,
    "tensors": tensors.BUGS,
    "own": own.BUGS,
    "torch": [*torch_functions.BUGS, *torch_side.BUGS],
    "both": both.BUGS,
}
BUGS: list[Bug] = [bug for bugs in AREAS.values() for bug in bugs]
