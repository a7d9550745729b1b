"""Every module's rule: E of what comes out, of what goes back, of gradients and of buffers."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from compare.rounding import Rounding, buffer_rule, rule
from tests.compare.allowances import FORMATS, Rows, errors, wave
from tests.compare.allowances.draws import Draws
from torch_ref import modules

nn = torch.nn
# Of both signs, at and near kinks and extremes, and where functions end.
POINTS = np.array(
    [*np.linspace(-12, 12, 25), *(0.001, -0.001, -1.28, -2.4, 2.4, -1.414, 1.414, -0.75, 30, -30)]
)


def passed(module: nn.Module, r: Rounding, size: float, x: np.ndarray, ex: np.ndarray) -> Rows:
    """Everything that the rule of the module says, for parameters and a dy of our own."""
    theta = {
        name: (0.4 + wave(*p.shape, phase=1), errors(size, *p.shape, phase=k))
        for k, (name, p) in enumerate(module.named_parameters())
    }
    for name, buffer in module.named_buffers():
        value = 3.0 if buffer.ndim == 0 else 1.3 + wave(*buffer.shape)
        theta[name] = np.array(value), errors(size * bool(buffer.ndim), *buffer.shape)
    found = {f"buffer {n}": e for n, e in buffer_rule(module, r, theta, x, ex).items()}
    ey, backward = rule(module, r, theta, x, ex)
    dy = wave(*ey.shape, phase=2)
    dy.flat[1::4] = 0
    edx, gradients = backward(dy, errors(size, *ey.shape, phase=4))
    return {"y": ey, "dx": edx} | {f"d{n}": e for n, e in gradients.items()} | found


def over(**made: tuple) -> Iterator[tuple[str, Rows]]:
    """made: name → (a module, x or its shape)."""
    for name, (module, x) in made.items():
        x = 2 * wave(*x) if isinstance(x, tuple) else x
        for of, (r, size) in FORMATS.items():
            yield f"{name}; {of}", passed(module.double(), r, size, x, errors(size, *x.shape))


def activations() -> Iterator[tuple[str, Rows]]:
    made = [nn.ReLU(), modules.Step(), nn.LeakyReLU(), nn.LeakyReLU(-1.7), nn.Sigmoid(), nn.Tanh()]
    made += [modules.Arctan(), nn.LogSigmoid(), nn.ELU(), nn.ELU(2.5), nn.ELU(-1.5), nn.Softplus()]
    made += [nn.Softplus(2.5, 4.0), nn.SiLU(), nn.GELU(), nn.GELU("tanh")]
    yield from over(**{str(module): (module, POINTS) for module in made})


def linear() -> Iterator[tuple[str, Rows]]:
    yield from over(
        plain=(nn.Linear(4, 3), (5, 4)),
        unbiased=(nn.Linear(4, 3, bias=False), (5, 4)),
        vector=(nn.Linear(4, 3), (4,)),
        batches=(nn.Linear(4, 3), (2, 3, 4)),
        wide=(nn.Linear(41, 43), (47, 41)),
    )


def dropout() -> Iterator[tuple[str, Rows]]:
    made = {f"p {p}": modules.Dropout(p, Draws(0)) for p in (0.0, 0.3, 1.0)}
    made["evaluation"] = modules.Dropout(0.3, Draws(0)).eval()
    yield from over(**{name: (module, (5, 4)) for name, module in made.items()})


def batch_norm() -> Iterator[tuple[str, Rows]]:
    norm = nn.BatchNorm1d
    yield from over(
        training=(norm(3), (5, 3)),
        long=(norm(3, eps=0.2), (41, 3)),
        sequences=(norm(3, momentum=0.3), (2, 3, 4)),
        evaluation=(norm(3).eval(), (5, 3)),
        evaluated_sequences=(norm(3, eps=0.0).eval(), (2, 3, 4)),
        no_parameters=(norm(3, affine=False), (5, 3)),
        nothing_kept=(norm(3, track_running_stats=False).eval(), (5, 3)),
        mean_of_all=(norm(3, momentum=None), (5, 3)),
        eps_0=(norm(3, eps=0.0), (5, 3)),
        equal_rows=(norm(3), np.ones((5, 3))),
        one_channel=(norm(1), (5, 1)),
    )


def over_classes(kind: type) -> Iterator[tuple[str, Rows]]:
    infinite = 3 * wave(5, 4)
    infinite[:, 3] = -np.inf
    yield from over(
        first=(kind(0), (5, 4)),
        last=(kind(-1), 3 * wave(2, 3, 4)),
        middle=(kind(1), 3 * wave(2, 3, 4)),
        many=(kind(1), (3, 41)),
        vector=(kind(0), (6,)),
        far=(kind(1), 30 * wave(5, 4)),
    )
    for ndim in range(4):  # what torch takes where none is given
        yield from over(**{f"{ndim} dimensions": (kind(None), 3 * wave(*(2, 3, 4)[:ndim]))})
    for name, x, ex in (
        ("minus infinity", infinite, np.where(np.isfinite(infinite), 0.01, 0)),
        ("large errors", wave(5, 4), np.linspace(0, 800, 20).reshape(5, 4)),
        ("next to nothing", np.array([[0.0, -702.0]]), np.array([[0.0, 800.0]])),
    ):
        yield name, passed(kind(1), *FORMATS["coarse"], x, ex)


def prelu() -> Iterator[tuple[str, Rows]]:
    yield from over(
        one=(nn.PReLU(), POINTS.reshape(7, 5)),
        one_of_a_vector=(nn.PReLU(), POINTS),
        channels=(nn.PReLU(5), POINTS.reshape(7, 5)),
        sequences=(nn.PReLU(3), wave(4, 3, 11)),
        vector=(nn.PReLU(35), POINTS),
        short_vector=(nn.PReLU(2), POINTS[-2:]),
        many=(nn.PReLU(2), 0.01 * wave(41, 2)),
        nothing=(nn.PReLU(2), np.zeros((0, 2))),
        no_channels=(nn.PReLU(2), np.zeros((3, 2, 0))),
    )


def maxout() -> Iterator[tuple[str, Rows]]:
    near = 1 + 0.004 * wave(5, 6)
    near[1] = 1
    yield from over(
        two=(modules.Maxout(2), (5, 6)),
        three=(modules.Maxout(3), (2, 3, 6)),
        near=(modules.Maxout(2), near),
        near_three=(modules.Maxout(3), near),
        one=(modules.Maxout(1), (3, 2)),
        vector=(modules.Maxout(3), (6,)),
    )


MODULES = {
    "Linear": linear,
    "Identity": partial(over, plain=(nn.Identity(), (5, 4))),
    "Flatten": partial(
        over,
        all=(nn.Flatten(0), (2, 3, 4)),
        last=(nn.Flatten(), (2, 3, 4)),
        two=(nn.Flatten(0, 1), (2, 3, 4)),
    ),
    "Dropout": dropout,
    "BatchNorm1d": batch_norm,
    "activations": activations,
    "PReLU": prelu,
    "Softmax": partial(over_classes, nn.Softmax),
    "LogSoftmax": partial(over_classes, nn.LogSoftmax),
    "Maxout": maxout,
}
