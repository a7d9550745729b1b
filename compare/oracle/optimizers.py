"""What every optimizer, clipping function and schedule computes, from the papers' formulas.

Every array in longdouble, one parameter at a time. The formulas are those of torch's documentation
and of the papers it names; a schedule is its closed form and not the step that manual and torch
take from one rate to the next.
"""

import functools
import inspect
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from compare.oracle.normal import PI
from manual import optim

State = dict[str, Any]


def updated(
    optimizer: Any,
    group: dict[str, Any],
    theta: np.ndarray,
    g: np.ndarray,
    state: State,
    dtype: np.dtype = np.longdouble,
) -> np.ndarray | None:
    """θ after one step of the optimizer (manual's, for its class) with the options `group`.

    state: of this parameter, by torch's names, and changed: {} at first, or its entry in a state
    dict. The options and what is made of them alone, as 1 − βᵗ, are Python's floats, as in torch:
    that they are rounded belongs to the problem.

    None where no formula is known: for L-BFGS, and for a class that is neither one of manual.optim
    nor based on one.
    """
    if not known(optimizer):
        return None
    for name, value in state.items():
        state[name] = np.asarray(value).astype(dtype) if name != "step" else int(value)
    theta, g = np.asarray(theta).astype(dtype), np.asarray(g).astype(dtype)
    options = {
        name: float(value) if isinstance(value, np.floating) else value
        for name, value in group.items()
    }
    state["step"] = state.get("step", 0) + 1
    g = -g if options.get("maximize") else g
    return _updated(optimizer, options, theta, g, state)


def known(optimizer: Any) -> bool:
    return _updated.dispatch(type(optimizer)) is not _updated.dispatch(object)


@singledispatch
def _updated(optimizer: Any, o: dict, theta: np.ndarray, g: np.ndarray, state: State):
    raise NotImplementedError  # `known` has seen to it


@_updated.register
def _sgd(optimizer: optim.SGD, o: dict, theta: np.ndarray, g: np.ndarray, state: State):
    """v₁ = g₁, v_t = μ v_(t−1) + (1 − τ) g_t; θ − lr (g + μ v) (Nesterov), θ − lr v or θ − lr g."""
    g = g + o["weight_decay"] * theta
    if not o["momentum"]:
        return theta - o["lr"] * g
    v = g
    if "momentum_buffer" in state:
        v = o["momentum"] * state["momentum_buffer"] + (1 - o["dampening"]) * g
    state["momentum_buffer"] = v
    return theta - o["lr"] * (g + o["momentum"] * v if o["nesterov"] else v)


@_updated.register
def _adam(optimizer: optim.Adam, o: dict, theta: np.ndarray, g: np.ndarray, state: State):
    """m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), θ − lr m̂ / (√v̂ + ε); amsgrad: v̂ from the largest v so far.
    Decoupled, θ (1 − lr λ) takes θ's place; else λθ is part of the gradient."""
    decoupled, t = o["decoupled_weight_decay"], state["step"]
    beta1, beta2 = (float(beta) for beta in o["betas"])
    decay = o["weight_decay"] * theta
    g, theta = (g, theta - o["lr"] * decay) if decoupled else (g + decay, theta)
    m = beta1 * state.get("exp_avg", 0) + (1 - beta1) * g
    v = beta2 * state.get("exp_avg_sq", 0) + (1 - beta2) * g**2
    state |= {"exp_avg": m, "exp_avg_sq": v}
    if o["amsgrad"]:
        v = state["max_exp_avg_sq"] = np.maximum(v, state.get("max_exp_avg_sq", v))
    return theta - o["lr"] * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + o["eps"])


@_updated.register
def _rmsprop(optimizer: optim.RMSprop, o: dict, theta: np.ndarray, g: np.ndarray, state: State):
    """s = α s + (1 − α) g², a = α a + (1 − α) g; d = g / (√(s − a²) + ε) (a only if centered);
    b = μ b + d; θ − lr b."""
    g, alpha = g + o["weight_decay"] * theta, o["alpha"]
    s = state["square_avg"] = alpha * state.get("square_avg", 0) + (1 - alpha) * g**2
    variance = s
    if o["centered"]:
        a = state["grad_avg"] = alpha * state.get("grad_avg", 0) + (1 - alpha) * g
        variance = s - a**2
    d = g / (np.sqrt(variance) + o["eps"])
    if o["momentum"]:
        d = state["momentum_buffer"] = o["momentum"] * state.get("momentum_buffer", 0) + d
    return theta - o["lr"] * d


@_updated.register
def _adagrad(optimizer: optim.Adagrad, o: dict, theta: np.ndarray, g: np.ndarray, state: State):
    """s = s + g²; θ − lr / (1 + (t − 1) η) g / (√s + ε), with s at first the constructor's
    initial_accumulator_value."""
    g = g + o["weight_decay"] * theta
    first = theta.dtype.type(optimizer.defaults["initial_accumulator_value"])
    s = state["sum"] = state.get("sum", first) + g**2
    rate = o["lr"] / (1 + (state["step"] - 1) * o["lr_decay"])
    return theta - rate * g / (np.sqrt(s) + o["eps"])


def clipped(
    clip: Callable, gradients: list[np.ndarray], dtype: np.dtype = np.longdouble
) -> tuple[np.ndarray | None, list[np.ndarray]] | None:
    """(their norm before, or None; the gradients as clipped) for clip_grad_norm_ or
    clip_grad_value_ of manual.optim, as a functools.partial or bare with its limit given so.
    None for another function.

    ‖g‖ = (Σ |g_i|^p)^(1/p), g · min(1, max_norm / (‖g‖ + 1e-6)). As in torch the norms are taken
    tensor by tensor, then that of the norms (which for p = 0 counts the tensors that are not 0).
    """
    function, keywords = clip, {}
    if isinstance(clip, functools.partial):
        function, keywords = clip.func, clip.keywords
    if function not in (optim.clip_grad_norm_, optim.clip_grad_value_):
        return None
    bound = inspect.signature(function).bind(None, **keywords)
    bound.apply_defaults()
    o, number = bound.arguments, np.dtype(dtype).type
    gradients = [np.asarray(g).astype(dtype) for g in gradients]
    if function is optim.clip_grad_value_:
        limit = number(o["clip_value"])
        return None, [np.minimum(np.maximum(g, -limit), limit) for g in gradients]
    p = float(o["norm_type"])
    total = _norm(np.array([_norm(g, p) for g in gradients], dtype), p)
    factor = np.minimum(1, number(o["max_norm"]) / (total + number(1e-6)))
    return total, [g * factor for g in gradients]


def _norm(g: np.ndarray, p: float) -> np.ndarray:
    size, p = np.abs(np.ravel(g)), g.dtype.type(p)
    if size.size == 0:
        return g.dtype.type(0)
    if np.isinf(p):
        return np.max(size) if p > 0 else np.min(size)
    if p == 0:
        return g.dtype.type(np.count_nonzero(size))
    return np.sum(size**p) ** (1 / p)


def rates_after(scheduler: Any, epochs: int, dtype: np.dtype = np.longdouble) -> list | None:
    """[the lr of every group] after `epochs` calls of scheduler.step() in all (its last_epoch),
    from base_lrs alone. None where no closed form is known."""
    if _rate.dispatch(type(scheduler)) is _rate.dispatch(object):
        return None
    number = np.dtype(dtype).type
    return [_rate(scheduler, number(base), number(epochs)) for base in scheduler.base_lrs]


@singledispatch
def _rate(scheduler: Any, base: np.floating, epoch: np.floating) -> np.floating:
    raise NotImplementedError  # `rates_after` has seen to it


@_rate.register
def _step_lr(scheduler: optim.StepLR, base: np.floating, epoch: np.floating) -> np.floating:
    """base γ^⌊epoch / step_size⌋."""
    return base * type(base)(scheduler.gamma) ** np.floor(epoch / scheduler.step_size)


@_rate.register
def _exponential_lr(
    scheduler: optim.ExponentialLR, base: np.floating, epoch: np.floating
) -> np.floating:
    """base γ^epoch."""
    return base * type(base)(scheduler.gamma) ** epoch


@_rate.register
def _cosine_annealing_lr(
    scheduler: optim.CosineAnnealingLR, base: np.floating, epoch: np.floating
) -> np.floating:
    """η_min + (base − η_min) (1 + cos(π epoch / T_max)) / 2."""
    low = type(base)(scheduler.eta_min)
    return low + (base - low) * (1 + np.cos(PI.astype(base.dtype) * epoch / scheduler.T_max)) / 2
