"""How a module's output depends on one entry of its input or of a parameter: through which part of
the batch or of the outputs, so that no more has to be computed, and over what length it bends.

Everywhere: name is that of the parameter, "" for x; index: that of the entry.
"""

from typing import Any

import numpy as np

from compare.oracle import definitions
from manual import nn

Index = tuple[int, ...]
Values = dict[str, np.ndarray]

ROWWISE = (
    *(nn.Linear, nn.Identity, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Arctan, nn.SiLU, nn.GELU),
    *(nn.ELU, nn.Softplus, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Step, nn.Maxout),
)
LONG = 2.0**14  # 16 · 1024: steps of 1024 times the largest entry, where nothing bends


def part(
    module: Any, theta: Values, x: np.ndarray, dy: np.ndarray, name: str, index: Index
) -> tuple[Values, np.ndarray, np.ndarray, Index]:
    """(theta, x, dy, index) of that part of the batch, or of the outputs, that the entry goes into:
    its row in modules that treat each row for itself, its output of a Linear, its channel of a
    BatchNorm1d. All where the module is another."""
    kind = definitions.base(type(module))
    along_rows = kind in ROWWISE
    if kind in (nn.Softmax, nn.LogSoftmax) and x.ndim:
        along_rows = definitions.class_axis(module.dim, x.ndim) % x.ndim > 0
    if not name and along_rows and x.ndim > 1:
        row = slice(index[0], index[0] + 1)
        return theta, x[row], dy[row], (0, *index[1:])
    if name and kind is nn.Linear:
        own = slice(index[0], index[0] + 1)
        theta = {key: value[own] for key, value in theta.items()}
        return theta, x, dy[..., own], (0, *index[1:])
    if kind is nn.BatchNorm1d:
        c = index[0] if name else index[1]
        own = slice(c, c + 1)
        theta = {key: value[own] if value.ndim else value for key, value in theta.items()}
        index = (0,) if name else (index[0], 0, *index[2:])
        return theta, x[:, own], dy[:, own], index
    return theta, x, dy, index


def scale(module: Any, theta: Values, x: np.ndarray, name: str, at: np.ndarray) -> float | None:
    """The length over which the module bends, where it is not max(1, |entry|). One that is affine
    in its argument never does: the longer the step, the less the rounding of all else counts."""
    kind = definitions.base(type(module))
    affine = kind in (nn.Linear, nn.Residual, nn.Identity, nn.Dropout, nn.Flatten) or name
    if kind is nn.BatchNorm1d and not name and definitions.from_batch(module, theta):
        return float(np.sqrt(np.var(x) + module.eps))
    if affine or kind is nn.BatchNorm1d:
        return LONG * (float(np.abs(at).max()) or 1.0)
    return None
