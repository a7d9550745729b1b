"""Rounding of a function in torch that nobody has a rule for: E from runs in which it is shaken.

In float64, and each time a little different: every operation, also those of autograd's backward,
is rounded at random to the digits of a shorter format (Monte Carlo arithmetic: Parker 1997), which
shows what the function's own way of computing does; or every input is moved by a few units in its
last place, which shows what another stable way may do. E is four times the largest difference.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode

from compare.rounding.ball import Rounding

Arrays = list[np.ndarray]
Function = Callable[[Arrays], Arrays]

SHAKES, MOVES = 5, 3
NEARER = 16  # how much shorter the second moves are
ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "sqrt", "rsqrt", "reciprocal", "square"}
# Rounded even where what comes out is short: tanh(20) is not 1.
ROUNDED = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin"}
ROUNDED |= {"acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid"}
ROUNDED |= {"erf", "erfc", "silu", "softplus", "logaddexp", "lgamma", "digamma"}
# One kernel, several roundings: torch writes them out in operations of the other kinds.
WRITTEN_OUT = {"_softmax", "_log_softmax", "native_layer_norm", "native_group_norm", "gelu"}
BACKWARDS = ("_backward", "_backward_data")


def spread(function: Function, arrays: Arrays, dtype: np.dtype) -> Arrays:
    """E of every array that `function` gives: how far rounding in `dtype` may carry one side.

    function: of float64 arrays (and others, as they are), through torch; pure. Its value has to
    come in float64 too. Beside the runs, E has the rounding of the result itself: that of exp or
    log, and the smallest normal number. 0 for integers.

    Where the value does not get closer when the moves of the inputs get shorter, they lie on a
    kink or a jump, where both sides take the same branch: there only the shaken runs count.
    """
    r = Rounding.of(dtype)
    bits = 24 if dtype == np.float32 else 40  # float64 leaves no room: E is in proportion
    scale = r.u * 2.0**bits
    arrays = [rounded(a, bits) if a.dtype == np.float64 else a for a in arrays]

    def moved(seed: int, by: float) -> Arrays:
        """The inputs by that at most, relative, and by half of it at least."""
        g = np.random.default_rng(seed)
        return function(
            [
                a * (1 + by * g.uniform(0.5, 1, a.shape) * g.choice([-1, 1], a.shape))
                if a.dtype == np.float64
                else a
                for a in arrays
            ]
        )

    step = 8 * 2.0**-bits
    exact = function(arrays)
    shaken = []
    for seed in range(SHAKES):
        with Shaken(bits, seed):
            shaken.append(function(arrays))
    moves = [(moved(k, step), moved(k, step / NEARER)) for k in range(MOVES)]
    errors = []
    for k, value in enumerate(exact):
        if value.dtype != np.float64:
            errors.append(np.zeros(value.shape))
            continue
        size = np.abs(value)
        largest = np.max([np.abs(run[k] - value) for run in shaken], axis=0)
        for far, near in moves:
            move, short = np.abs(far[k] - value), np.abs(near[k] - value)
            smooth = short <= 4 / NEARER * move + 2.0**-48 * size
            largest = np.maximum(largest, np.where(smooth, move, 0))
        errors.append(4 * scale * largest + r.libm * size + r.tiny)
    return errors


def rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """float64 to `bits` binary digits, to nearest."""
    return _short(torch.from_numpy(np.array(a)), bits).numpy()


def _short(t: torch.Tensor, bits: int) -> torch.Tensor:
    """The same, of a tensor: half a unit of the last digit that stays, then cut off."""
    whole = t.contiguous().view(torch.int64)
    cut = 53 - bits
    return ((whole + (1 << (cut - 1))) & -(1 << cut)).view(torch.float64)


class Shaken(TorchDispatchMode):
    """Within it, every operation on float64 tensors is rounded at random to `bits` digits.

    What comes out with no more digits than that is exact and stays: copies, comparisons, maxima,
    masks; but not exp, tanh and the like. Arithmetic is moved by up to one unit roundoff before it
    is rounded, other functions by the eight of `Rounding.libm`; a sum of n terms, and its terms
    before, by what `Rounding.sum` says.
    """

    def __init__(self, bits: int, seed: int) -> None:
        super().__init__()
        self.bits, self.r = bits, Rounding(2.0**-bits, 0.0)
        self.generator = torch.Generator().manual_seed(seed)

    # True would import torch's compiler, which takes seconds, and is not in use.
    _should_skip_dynamo = classmethod(lambda cls: False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind, name = _kind(func)
        if kind == "written out":
            with self:
                return (_gelu if name == "gelu" else decomposition_table[func])(*args, **kwargs)
        out = func(*args, **kwargs)
        results = [t for t in (out if isinstance(out, tuple | list) else [out]) if _real(t)]
        if kind == "as it is" or not results:
            return out
        if kind == "pointwise":
            size = self.r.u if name.rstrip("_") in ARITHMETIC else self.r.libm
            return self._noisy(out, size, args, always=name.rstrip("_") in ROUNDED)
        terms = [t for a in args for t in (a if isinstance(a, tuple | list) else [a]) if _real(t)]
        if not terms or _chosen(results, terms):
            return out
        size = self.r.sum(_count(name, args, terms, results))
        return self._noisy(func(*self._moved(args, size), **kwargs), size, args, always=True)

    def _moved(self, value, size: float):
        if isinstance(value, tuple | list):
            return type(value)(self._moved(v, size) for v in value)
        return value * self._factor(value, size) if _real(value) else value

    def _factor(self, t: torch.Tensor, size: float) -> torch.Tensor:
        drawn = torch.rand(t.shape, generator=self.generator, dtype=torch.float64)
        return 1 + size * (2 * drawn - 1)

    def _noisy(self, out, size: float, args: tuple, always: bool):
        if isinstance(out, tuple | list):
            return type(out)(self._noisy(t, size, args, always) for t in out)
        if not _real(out):
            return out
        short = _short(out * self._factor(out, size), self.bits)
        if not always:
            short = torch.where(_short(out, self.bits) == out, out, short)
        if any(out is a for a in args):  # in place
            return out.copy_(short)
        return short


def _real(value) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


def _gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    """torch's own way of writing it out takes seconds to import."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(math.sqrt(0.5) * x))


@cache
def _kind(func: torch._ops.OpOverload) -> tuple[str, str]:
    """How an operation is shaken, and its name."""
    name, schema = func._schema.name.partition("::")[2], func._schema
    if func in decomposition_table and (name in WRITTEN_OUT or name.endswith(BACKWARDS)):
        return "written out", name
    view = any(a.alias_info is not None and not a.alias_info.is_write for a in schema.returns)
    drawn = torch.Tag.nondeterministic_seeded in func.tags
    if view or drawn or "empty" in name:  # in memory that nobody has written to stands anything
        return "as it is", name
    if torch.Tag.pointwise in func.tags:
        return "pointwise", name
    return ("as it is" if schema.is_mutable else "sum"), name


def _chosen(results: list[torch.Tensor], terms: list[torch.Tensor]) -> bool:
    """Whether all that came out are numbers that went in, or zeros: nothing was computed."""
    given = torch.cat([t.reshape(-1) for t in terms] + [torch.zeros(1, dtype=torch.float64)])
    for few in (4, None):  # a sum is found out at once
        for t in results:
            if not torch.isin(t.reshape(-1)[:few], given).all():
                return False
    return True


def _count(name: str, args: tuple, terms: list, results: list[torch.Tensor]) -> int:
    """How many products or numbers are added up for one element, or more."""
    if name in ("mm", "bmm", "mv", "dot", "addmm", "addmv", "baddbmm"):
        return args[name.startswith(("add", "badd"))].shape[-1] + 1
    fewest = max(1, min(t.numel() for t in results))
    return max([1, *(t.numel() // fewest for t in terms), *(n for t in terms for n in t.shape)])
