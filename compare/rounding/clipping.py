"""How rounding errors pass through the clipping of gradients."""

from collections.abc import Callable

import numpy as np
import torch

from compare.rounding.ball import Ball


def clip_rule(clip: Callable, gradients: list[Ball]) -> tuple[Ball | None, list[Ball]]:
    """(total norm, clipped gradients). clip: functools.partial of a function of torch.nn.utils,
    its options by name."""
    if clip.func is torch.nn.utils.clip_grad_norm_:
        return _norm(gradients, **clip.keywords)
    if clip.func is torch.nn.utils.clip_grad_value_:
        limit = clip.keywords["clip_value"]
        return None, [_clipped(g, -limit, limit) for g in gradients]
    raise TypeError(f"no rounding rule is known for {clip.func.__name__}")


def _norm(
    gradients: list[Ball], max_norm: float, norm_type: float = 2.0, **options: object
) -> tuple[Ball, list[Ball]]:
    """‖g‖, and g min(1, max_norm / (‖g‖ + 10⁻⁶)); ‖g + e‖ is at most ‖g‖ + ‖e‖ (Minkowski)."""
    r = gradients[0].r
    values, errors = (
        np.concatenate([np.ravel(t) for t in ts])
        for ts in ([g.value for g in gradients], [g.e for g in gradients])
    )
    value, e = (np.linalg.norm(t, norm_type) for t in (values, errors))
    norm = Ball(value, e + (r.sum(values.size) + r.libm) * value, r)
    limit = Ball(np.array(float(max_norm)), r.u * max_norm, r)
    factor = _clipped(limit / norm.plus(1e-6), 0.0, 1.0)
    return norm, [g * factor for g in gradients]


def _clipped(ball: Ball, low: float, high: float) -> Ball:
    """Exact where either side is beyond a limit for certain, but for the limit's own rounding."""
    value, *ends = (
        np.clip(v, low, high) for v in (ball.value, ball.value - ball.e, ball.value + ball.e)
    )
    e = np.max([np.abs(end - value) for end in ends], axis=0)
    return Ball(value, e + ball.r.u * np.abs(value), ball.r)
