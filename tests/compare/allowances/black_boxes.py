"""What is known of no rule: functions of torch that are shaken, with draws of our own."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from compare.backward.functions import Reference
from compare.rounding import loss_rule
from compare.rounding.black_box import spread
from tests.compare.allowances import FORMATS, Rows, errors, wave
from tests.compare.allowances.draws import Draws, fixed_draws
from tests.compare.allowances.modules import over

F = torch.nn.functional
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def in_place(x: torch.Tensor) -> torch.Tensor:
    return x.clone().mul_(1.3).add_(0.7).exp_().clone().div_(3) + x.clone().mul_(60).tanh_()


def several(x: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(x, 0)
    return torch.cat([mean, variance, torch.stack([x[0], x[1]]).amax(0)])


def bent(x: torch.Tensor) -> torch.Tensor:
    """Kinks and a jump where the input is."""
    return torch.relu(x) + (x - x.detach()[0]).abs() + torch.where(x > x.detach()[1], x, 2 * x)


# The shapes of the inputs. Sums are long enough for √n to matter.
FUNCTIONS: dict[str, tuple[Callable, list[tuple]]] = {
    "arithmetic": (lambda x, y: (x + 2 * y) / (1.5 - x) - x.square() * y.rsqrt(), [(7,), (7,)]),
    "in place": (in_place, [(7,)]),
    "tanh": (lambda x: torch.tanh(9 * x), [(7,)]),
    "erf and sin": (lambda x: torch.erf(2 * x) * torch.sin(x), [(7,)]),
    "exact": (lambda x: torch.maximum(2 * x, -x).clone()[2:], [(7,)]),
    "bent": (bent, [(7,)]),
    "gelu": (F.gelu, [(7,)]),
    "gelu, tanh": (partial(F.gelu, approximate="tanh"), [(7,)]),
    "silu": (F.silu, [(7,)]),
    "softmax": (lambda x: torch.softmax(5 * x, -1), [(3, 4)]),
    "log_softmax": (lambda x: torch.log_softmax(5 * x, -1), [(3, 4)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), [(3, 4), (4,), (4,)]),
    "group_norm": (lambda x: F.group_norm(x, 2), [(2, 4, 3)]),
    "linear": (F.linear, [(3, 41), (2, 41), (2,)]),
    "product": (torch.mm, [(3, 50), (50, 2)]),
    "of a vector": (torch.mv, [(3, 50), (50,)]),
    "inner": (torch.dot, [(50,), (50,)]),
    "batches": (torch.bmm, [(2, 3, 40), (2, 40, 2)]),
    "batches and a sum": (torch.baddbmm, [(2, 3, 2), (2, 3, 40), (2, 40, 2)]),
    "of a vector and a sum": (torch.addmv, [(3,), (3, 50), (50,)]),
    "conv1d": (F.conv1d, [(2, 3, 9), (4, 3, 3), (4,)]),
    "sum": (lambda x: x.sum(0), [(60, 2)]),
    "of all": (torch.sum, [(6, 10)]),
    "norm of one": (lambda x: torch.linalg.vector_norm(-x), [(1,)]),
    "pooled": (lambda x: F.avg_pool2d(x, 2), [(1, 1, 5, 5)]),
    "short sum": (lambda x: x.sum(0), [(4, 2)]),
    "cumsum": (lambda x: x.cumsum(0), [(9, 2)]),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=-1), [(3, 4)]),
    "several": (several, [(5, 4)]),
    "sort": (lambda x: x.sort(0).values, [(7,)]),
    "embedding": (lambda w: F.embedding(torch.tensor([0, 1, 1, 2]), w), [(4, 3)]),
}


def of_functions(names: list[str]) -> Iterator[tuple[str, Rows]]:
    for name in names:
        yield from of_function(name)


def of_function(name: str) -> Iterator[tuple[str, Rows]]:
    f, shapes = FUNCTIONS[name]
    arrays = [
        (1.2 + wave(*s) if name == "arithmetic" else wave(*s, phase=k + 0.1)).astype(np.float32)
        for k, s in enumerate(shapes)
    ]
    arrays = [a.astype(np.float64) for a in arrays]
    dy = wave(*f(*(torch.tensor(a) for a in arrays)).shape, phase=2).astype(np.float32)

    def everything(arrays: list[np.ndarray]) -> list[np.ndarray]:
        outputs, (slopes,) = Reference(f).gradients(arrays, [dy.astype(np.float64)])
        return [*outputs, *slopes]

    with fixed_draws():
        found = spread(everything, arrays, SINGLE)
    yield name, {("y", *"abc")[k]: e for k, e in enumerate(found)}


def of_integers() -> Iterator[tuple[str, Rows]]:
    """Integers go in as they are, and have no error; zeros have the smallest number's."""
    x, at = np.array([0.0, 0.3, 1e-30, -7.0]), np.array([3, 0, 0, 1])

    def f(arrays: list[np.ndarray]) -> list[np.ndarray]:
        x, at = (torch.tensor(a) for a in arrays)
        return [x[at].numpy(), (3 * x).exp().numpy(), at.numpy(), (x * 0).numpy()]

    for dtype in (SINGLE, DOUBLE):
        with fixed_draws():
            found = spread(f, [x, at], dtype)
        yield dtype.name, dict(zip(("taken", "exp", "index", "zero"), found, strict=True))


class Swish(torch.nn.Module):
    """With a parameter, one that is not used, and a buffer that moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = torch.nn.Parameter(torch.ones(3))
        self.idle = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x * torch.sigmoid(self.beta * x)


class Drawing(Swish):
    """Its random numbers are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Draws(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.tensor(self.generator.random(tuple(x.shape)))


class Distance(torch.nn.Module):
    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).exp().mean()


def of_module() -> Iterator[tuple[str, Rows]]:
    with fixed_draws():
        found = list(over(plain=(Swish(), (5, 3)))) + list(over(drawing=(Drawing(), (5, 3))))
    yield from found[:2] + found[4:6]  # float32 and float64: these are what is computed in


def of_loss() -> Iterator[tuple[str, Rows]]:
    z, y = 2 * wave(5, 3), wave(5, 3, phase=1)
    for of in ("float32", "float64"):
        r, size = FORMATS[of]
        with fixed_draws():
            found = loss_rule(Distance(), r, z, errors(size, 5, 3), y, np.array(1.3))
        yield of, dict(zip(("loss", "dz"), found, strict=True))


NAMES = list(FUNCTIONS)
BLACK_BOXES = {
    "functions": partial(of_functions, NAMES[:13]),
    "sums": partial(of_functions, NAMES[13:]),
    "integers": of_integers,
    "a module of one's own": of_module,
    "a loss of one's own": of_loss,
}
