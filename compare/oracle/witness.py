"""What the third witness says of a step, unit by unit, and how far each of its words can be off."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from compare.oracle import definitions, kinks, losses, optimizers
from compare.oracle.dependence import Index, part, scale
from compare.oracle.differences import derivative
from compare.oracle.forward_of_own import own_or_twins
from compare.oracle.noise import noise
from manual import nn

Value = tuple[np.ndarray, np.ndarray]  # (value, error), elementwise
Entry = tuple[float, float]

SMALL = 4  # a tensor of so many entries is asked about in full
DRAWN = 3  # entries drawn of a larger one, beside the worst
NEARBY = (0.0, 3 * 2.0**-20, -5 * 2.0**-20)  # by what share of themselves values are moved
BCE_FLOOR = 1.01e-12  # torch's BCELoss takes p (1 − p) for at least 1e-12 in its backward


class Witness:
    """Values that share no formula with manual or torch, each with a bound on its own error.

    dtype: that of the pair, float32 or float64. The witness works in float64 for float32, and in
    longdouble for float64 (of the same precision on some machines: its errors are larger then).
    seed: of the entries drawn. asked, of: how many entries of gradients were asked about until now,
    and how many there were.

    Everywhere: arrays are torch's values in any dtype, and are not changed; an answer is a pair
    (value, error), in the working dtype for whole arrays; where the value is not finite, has no
    error bound or (a derivative) does not exist, both are NaN; None where nothing is known. At a
    kink that `compare.oracle.kinks` knows, the derivative is torch's choice among the slopes.
    """

    def __init__(self, dtype: np.dtype, seed: int = 0) -> None:
        self.dtype = np.dtype(np.float64 if dtype == np.float32 else np.longdouble)
        self.generator = np.random.default_rng(seed)
        self.asked = self.of = 0

    def output(self, module: Any, theta: Mapping, x: np.ndarray) -> Value | None:
        """(y, error), elementwise. module: manual's unit as it was before its forward (a copy);
        theta: its parameters and buffers then, by name; a Residual's has its inner module's output
        as "module". None where the module has no definition."""
        f = definitions.definition(module)
        if f is None:
            return None
        theta, x = self._cast(theta), self._up(x)
        with np.errstate(all="ignore"):  # what is not finite becomes NaN, "no answer"
            y = f(theta, x)
            return _answer(y, noise(module, theta, x, y))

    def buffers(self, module: Any, theta: Mapping, x: np.ndarray) -> dict[str, Value]:
        """{name: (value, error)} of the buffers after the forward, of those that are known."""
        theta, x = self._cast(theta), self._up(x)
        with np.errstate(all="ignore"):
            after = definitions.buffers_after(module, theta, x)
            units = 8 + 2 * np.sqrt(x.size)
            found = {}
            for name, value in after.items():
                size = np.maximum(np.abs(value), np.abs(theta[name]))
                if name == "running_mean" and x.size:  # a sum that may cancel
                    size = size + np.max(np.abs(x), (0, 2)[: x.ndim - 1])
                exact = np.asarray(value).dtype.kind == "i"
                error = np.zeros(value.shape) if exact else self._eps * units * size
                found[name] = _answer(np.asarray(value), error)
        return found

    def gradients(
        self,
        module: Any,
        built: torch.nn.Module,
        theta: Mapping[str, np.ndarray],
        x: np.ndarray,
        dy: np.ndarray,
        wanted: Mapping[str, list[Index]],
        drawn: int = DRAWN,
    ) -> dict[str, dict[Index, Entry]]:
        """{name: {index: (value, error)}} of dLoss/d<name>, where "" is x and else a name of theta.

        wanted: name → the indices that have to be among the entries; so many `drawn` at random join
        them (all entries of a tensor of at most 4). dy: dLoss/dy. Arguments else as for `output`,
        and built is the twin in float64 as it was before its forward. A Residual's x is asked
        about on its way around the inner module: what comes back through that is to be added.

        Without a definition these are differences of manual's forward, where it computes in the
        working dtype and agrees with the twin's in float64; else of the twin's forward.
        """
        f = definitions.definition(module)
        theta, x, dy = self._cast(theta), self._up(x), self._up(dy)
        if f is None:
            f, theta, x = own_or_twins(module, built, theta, x)
        found = {}
        for name, worst in wanted.items():
            at = theta[name] if name else x
            entries = self._entries(at.shape, worst, drawn)
            if definitions.base(type(module)) is nn.Step or at.dtype.kind != "f":
                # Flat, or nothing to differentiate.
                found[name] = dict.fromkeys(entries, (0.0, 0.0))
                continue
            found[name] = {
                index: self._slope(module, f, theta, x, dy, name, index) for index in entries
            }
        return found

    def _slope(self, module, f, theta, x, dy, name: str, index: Index) -> Entry:
        theta, x, dy, index = part(module, theta, x, dy, name, index)
        at = theta[name] if name else x

        def point(value: np.ndarray) -> tuple:
            return ({**theta, name: value}, x) if name else (theta, value)

        known, rounding = definitions.definition(module) is not None, None
        if known:

            def rounding(value: np.ndarray, y: np.ndarray) -> np.ndarray:
                return noise(module, *point(value), y)

        side = None if name else kinks.side_of_module(module, x, index)
        return derivative(
            *(kinks.continued(lambda value: f(*point(value)), at, index, side), at, index, dy),
            scale=scale(module, theta, x, name, at) if known else None,
            noise=rounding,
        )

    def loss(self, criterion: Any, prediction: np.ndarray, target: np.ndarray) -> Value | None:
        """(loss, error): 0-d, or elementwise with reduction "none". None without a definition."""
        terms = losses.loss_terms(criterion)
        if terms is None:
            return None
        with np.errstate(all="ignore"):
            values, errors = terms(self._up(prediction), self._up(target))
            return _answer(
                losses.reduced(criterion, values), losses.loss_noise(criterion, values, errors)
            )

    def dprediction(
        self,
        criterion: Any,
        prediction: np.ndarray,
        target: np.ndarray,
        dloss: np.ndarray | None,
        worst: list[Index],
        drawn: int = DRAWN,
    ) -> dict[Index, Entry] | None:
        """{index: (value, error)} of dLoss/dprediction for these indices and some drawn. dloss:
        the cotangent, as criterion.backward takes it. None without a definition."""
        p, target = self._up(prediction), self._up(target)
        terms = losses.loss_terms(criterion, (p, target))
        if terms is None:
            return None
        cotangent = np.ones(()) if dloss is None else self._up(np.asarray(dloss))
        if criterion.reduction == "none" and cotangent.ndim < p.ndim:  # summed over the classes
            cotangent = np.expand_dims(cotangent, losses.axis(p))
        cotangent = np.broadcast_to(cotangent, p.shape)
        apart, found = losses.row_by_row(criterion, p), {}
        for index in self._entries(p.shape, worst, drawn):
            if isinstance(criterion, nn.BCELoss) and not p[index] * (1 - p[index]) > BCE_FLOOR:
                found[index] = np.nan, np.nan  # torch's floor, no derivative of the loss
                continue
            own = slice(index[0], index[0] + 1) if apart else ...
            at = (0, *index[1:]) if apart else index
            side = kinks.side_of_loss(criterion, p, target, index)
            terms_of_own = _Kept(terms, target[own])
            f = kinks.continued(terms_of_own, p[own], at, side)
            found[index] = derivative(f, p[own], at, cotangent[own], noise=terms_of_own.noise)
        return found

    def updated(
        self, optimizer: Any, group: dict, theta: np.ndarray, g: np.ndarray, state: dict
    ) -> Value | None:
        """(θ after the step, error). group: the options before it; state: the witness's own for
        this parameter, which is changed: {} at first, or its entry in optimizer.state_dict().

        The error is that of the same formula in the next lower precision, scaled; also close by,
        as a single rounding may be small by chance.
        """
        if not optimizers.known(optimizer):
            return None
        kept, answer, differ = dict(state), None, 0
        with np.errstate(all="ignore"):
            for shift in NEARBY:
                given = [np.asarray(a).astype(self._lower) * (1 + shift) for a in (theta, g)]
                given = [theta, g] if answer is None else given
                states = [state if answer is None else dict(kept), dict(kept)]
                value, lower = (
                    optimizers.updated(optimizer, group, *given, own, dtype)
                    for own, dtype in zip(states, (self._long, self._lower), strict=True)
                )
                answer = value if answer is None else answer
                differ = np.maximum(differ, np.abs(value - lower))
            return _answer(answer, self._scaled_error(answer, differ, theta))

    def clipped(
        self, clip: Callable, gradients: list[np.ndarray]
    ) -> tuple[Value | None, list[Value]] | None:
        """((norm, error) or None, [(clipped, error)]) of a functools.partial of manual.optim's
        clip_grad_norm_ or clip_grad_value_."""
        with np.errstate(all="ignore"):
            found = optimizers.clipped(clip, gradients, self._long)
            if found is None:
                return None
            total, values = found
            low_total, lows = optimizers.clipped(clip, gradients, self._lower)
            count = sum(np.size(g) for g in gradients)
            norm = None
            if total is not None:
                error = self._scaled_error(total, abs(total - low_total), total, count)
                norm = _answer(np.asarray(total), np.asarray(error))
            return norm, [
                _answer(v, self._scaled_error(v, np.abs(v - low), v, count))
                for v, low in zip(values, lows, strict=True)
            ]

    def rates(self, scheduler: Any, epochs: int) -> list[Entry] | None:
        """[(lr, error) of each group] after `epochs` calls of its step() in all. scheduler: as it
        was handed over, before the first step that is judged. None where no closed form is known,
        or where its present rates are not on it (somebody set them)."""
        now = optimizers.rates_after(scheduler, scheduler.last_epoch)
        if now is None:
            return None
        own = [float(group["lr"]) for group in scheduler.optimizer.param_groups]
        if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(own, now, strict=True)):
            return None
        eps = np.finfo(float).eps  # as a float; the power and the cosine add far less
        after = optimizers.rates_after(scheduler, epochs)
        return [
            (float(rate), float(eps * (abs(rate) + abs(base))))
            for rate, base in zip(after, scheduler.base_lrs, strict=True)
        ]

    @property
    def _eps(self) -> np.floating:
        return np.finfo(self.dtype).eps

    @property
    def _long(self) -> np.dtype:
        return np.dtype(np.longdouble)

    @property
    def _lower(self) -> np.dtype:
        better = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps
        return np.dtype(np.float64 if better else np.float32)

    def _scaled_error(self, value, differ, start, count: int = 1) -> np.ndarray:
        """The error of a value, from what the same in a lower precision differs by and a few units
        of that, by the ratio of the units."""
        units = [np.finfo(dtype).eps for dtype in (self._long, self._lower)]
        size = np.maximum(np.abs(value), np.abs(start))
        return (32 * differ + (8 + np.sqrt(count)) * units[1] * size) * (units[0] / units[1])

    def _up(self, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(self.dtype) if array.dtype.kind == "f" else array

    def _cast(self, theta: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: self._up(value) for name, value in theta.items()}

    def _entries(self, shape: tuple[int, ...], worst: list[Index], drawn: int) -> list[Index]:
        """The worst, each once, and so many drawn at random; all of a small tensor."""
        size = math.prod(shape)
        flat = range(size)
        if size > SMALL:
            flat = self.generator.choice(size, drawn, replace=False)
        others = [tuple(int(i) for i in np.unravel_index(k, shape)) for k in flat]
        entries = list(dict.fromkeys([tuple(int(i) for i in index) for index in worst] + others))
        self.asked += len(entries)
        self.of += size
        return entries


class _Kept:
    """The terms of a loss, whose noise was computed with them."""

    def __init__(self, terms: losses.Terms, target: np.ndarray) -> None:
        self.terms, self.target = terms, target

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        self.last = self.terms(prediction, self.target)
        return self.last[0]

    def noise(self, prediction: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (self.last if y is self.last[0] else self.terms(prediction, self.target))[1]


def _answer(value: np.ndarray, error: np.ndarray) -> Value:
    value, error = np.asarray(value), np.asarray(error)
    known = np.isfinite(value) & np.isfinite(error)
    return np.where(known, value, np.nan), np.where(known, error, np.nan)
