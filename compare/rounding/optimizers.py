"""How rounding errors pass through an optimizer's update: its formulas, in Balls.

update_rule(optimizer, group, theta, g, state) → the updated parameter. theta: the parameter
before; g: its gradient; state: what the optimizer keeps for it, by torch's names, as Balls (and
"step", the number of updates before this one), changed to what it is afterwards.
"""

from functools import singledispatch
from typing import Any

import numpy as np
import torch

from compare.rounding.ball import Ball, Rounding

State = dict[str, Ball | float]


@singledispatch
def update_rule(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], theta: Ball, g: Ball, state: State
) -> Ball:
    raise TypeError(
        f"no rounding rule is known for {type(optimizer).__name__}; register one with "
        "@compare.rounding.update_rule.register"
    )


def _gradient(group: dict[str, Any], theta: Ball, g: Ball) -> Ball:
    """g, turned round for maximize, with the penalty of weight_decay."""
    g = -g if group["maximize"] else g
    return g + group["weight_decay"] * theta if group["weight_decay"] else g


def _kept(state: State, name: str, like: Ball) -> Ball:
    """The state of that name; zeros at first."""
    return state.get(name, Ball(np.zeros(like.value.shape), 0.0, like.r))


def _mixed(old: Ball, new: Ball, share: float) -> Ball:
    """A running mean: share of the old, the rest of the new."""
    return share * old + (1 - share) * new


def _bias_correction(beta: float, t: int, r: Rounding) -> Ball:
    """1 − βᵗ, a number of Python's on both sides, then rounded to the dtype: βᵗ is up to one unit
    in the last place off, which counts for much beside a small difference."""
    power, double = beta**t, 2.0**-53
    value = 1 - power
    return Ball(np.array(value), 2 * double * power + (double + r.u) * value, r)


@update_rule.register
def _sgd(optimizer: torch.optim.SGD, group, theta, g, state):
    g = _gradient(group, theta, g)
    if group["momentum"]:
        v = state.get("momentum_buffer")
        v = g if v is None else group["momentum"] * v + (1 - group["dampening"]) * g
        state["momentum_buffer"] = v
        g = g + group["momentum"] * v if group["nesterov"] else v
    return theta - group["lr"] * g


@update_rule.register(torch.optim.Adam)
@update_rule.register(torch.optim.AdamW)
def _adam(optimizer, group, theta, g, state):
    """|m̂| ≤ K √v̂ on either side (Cauchy and Schwarz), which holds where g is all rounding."""
    (beta1, beta2), t = group["betas"], int(state.get("step", 0)) + 1
    decay = group["weight_decay"]
    decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    g = -g if group["maximize"] else g
    if decay and decoupled:
        theta = (1 - group["lr"] * decay) * theta
    elif decay:
        g = g + decay * theta
    m = _mixed(_kept(state, "exp_avg", g), g, beta1)
    v = _mixed(_kept(state, "exp_avg_sq", g), g * g, beta2)
    state |= {"step": t, "exp_avg": m, "exp_avg_sq": v}
    if group["amsgrad"]:
        v = state["max_exp_avg_sq"] = _kept(state, "max_exp_avg_sq", g).maximum(v)
    bias1, bias2 = (_bias_correction(beta, t, g.r) for beta in (beta1, beta2))
    k = np.arange(t)
    shares = ((1 - beta1) * beta1**k / bias1.value) ** 2
    shares /= (1 - beta2) * beta2**k / bias2.value
    ratio = (m / bias1) / (v.sqrt() / bias2.sqrt()).plus(group["eps"])
    return theta - group["lr"] * ratio.within(np.sqrt(shares.sum()))


@update_rule.register
def _rmsprop(optimizer: torch.optim.RMSprop, group, theta, g, state):
    """v ≥ (1 − α) g², so |g| / √v ≤ 1/√(1 − α) on either side.

    Centered, v − mean² is the variance of gradients among which g has the weight 1 − α and the 0
    of the start α^t, t updates later: least where all others are the mean of these two,
    (1 − α) α^t g² / (1 − α + α^t). It is also at least α^t v, which rounding cannot consume
    before α^t comes near u.
    """
    g = _gradient(group, theta, g)
    alpha, t = group["alpha"], int(state.get("step", 0)) + 1
    state["step"] = t
    v = state["square_avg"] = _mixed(_kept(state, "square_avg", g), g * g, alpha)
    limit = 1 / np.sqrt(1 - alpha) if alpha < 1 else np.inf
    if group["centered"]:
        mean = state["grad_avg"] = _mixed(_kept(state, "grad_avg", g), g, alpha)
        start = alpha**t
        certain = alpha < 1 and start > 100 * t * g.r.u
        limit = np.sqrt((1 - alpha + start) / ((1 - alpha) * start)) if certain else np.inf
        v = v - mean * mean
    ratio = (g / v.sqrt().plus(group["eps"])).within(limit)
    if group["momentum"]:
        ratio = group["momentum"] * _kept(state, "momentum_buffer", g) + ratio
        state["momentum_buffer"] = ratio
    return theta - group["lr"] * ratio


@update_rule.register
def _adagrad(optimizer: torch.optim.Adagrad, group, theta, g, state):
    """sum ≥ g², so |g| / √sum ≤ 1 on either side."""
    g = _gradient(group, theta, g)
    t = int(state.get("step", 0))
    total = state["sum"] = _kept(state, "sum", g) + g * g
    state["step"] = t + 1
    lr = group["lr"] / (1 + t * group["lr_decay"])
    return theta - lr * (g / total.sqrt().plus(group["eps"])).within(1.0)
