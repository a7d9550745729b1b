"""The verdict: compare a network, its training step, or several, with its twin."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch

from compare.comparison import Comparison, EquivalenceError
from compare.context import check_seed, context
from compare.device import require, true_float32
from compare.judge import frame
from compare.sides import manual_run
from compare.step import Sides
from compare.trace import LBFGS
from compare.vacuity import check_patterns
from manual.arrays import device_of


def compare(
    net: Any,
    criterion: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    clip: Callable | None = None,
    steps: int = 1,
    device: str = "cpu",
    seed: int | None = None,
    twin: torch.nn.Module | None = None,
    oracle: bool = True,
    allow_vacuous: Collection[str] = (),
) -> Comparison:
    """Run `steps` training steps on (x, y) with `net` and with its twin, and judge every tensor.

    Layer by layer: each module is fed torch's own input and upstream gradient, the loss torch's
    prediction, the update torch's gradients, so that one wrong layer is one wrong row. Where every
    layer is right, the step is judged once more as it runs in training; a row "… (end to end)"
    says that it still differs. After each step torch goes on from manual's weights and buffers, so
    that roundings do not grow from step to step; the state of the optimizer stays each side's own
    (that of L-BFGS, which is of the points it came by, is manual's, and judged: state.d and
    state.prev_flat_grad).

    net: a manual.nn.Module with a twin; or, with `twin`, anything that has forward, backward and
        named_parameters (whose parameters have data and grad).
    x, y: as the network and the criterion take them. Without optimizer: one forward and backward.
    scheduler: of that optimizer; takes a step after each of its steps.
    clip: a functools.partial of clip_grad_norm_ or clip_grad_value_, between backward and update.
    device: "cpu", or "cuda": both sides on the GPU (manual on CuPy arrays), with products of
        float32 in true float32 (no TF32). What is allowed is derived on the CPU all the same.
    seed: the one that made this case, for the message; it also draws the cotangent of a loss with
        reduction "none" and the entries the oracle is asked about (seed 0 where it is None).
    twin: the torch module to compare with, with parameters of the same names and shapes; it gets
        manual's values and modes (training or not). Where it is a torch.nn.Sequential as manual's,
        it is judged part by part.
    oracle: ask the third witness (`compare.oracle`) about every tensor, of gradients about the
        worst entry and, in the first step, a random draw; False: only about tensors that fail.
    allow_vacuous: names of rows, or patterns such as "activation.*", that may be vacuous: a
        gradient that is all zero on both sides, a ReLU whose inputs all had one sign. A check that
        could not have failed is no pass unless it is declared.
    Everything is done on copies: net, criterion, optimizer, x, y and twin stay exactly as they are.

    Two correct sides pass: what is allowed follows from rounding alone (`compare.tolerance`).
    Names, shapes and dtypes are compared before values, nothing broadcasts, and a value that is
    not finite on either side fails.

    Raises ValueError or TypeError for arguments that do not go together, DeviceError where CuPy or
    a GPU is missing.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"compare: steps must be a whole number >= 1, got {steps!r}")
    if optimizer is None and steps > 1:
        raise ValueError("compare: more than one step needs an optimizer")
    if scheduler is not None and getattr(scheduler, "optimizer", None) is not optimizer:
        raise ValueError("compare: the scheduler must be one of the given optimizer")
    _check_kinds(net, criterion, optimizer, seed)
    x, y = _array("x", x), _array("y", y)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"compare: x must be float32 or float64, got {x.dtype}")
    if x.size == 0:
        raise ValueError(f"compare: x has no elements (shape {x.shape}), so nothing can be judged")
    if twin is not None and not isinstance(twin, torch.nn.Module):
        raise TypeError(f"compare: twin must be a torch.nn.Module, got {type(twin).__name__}")
    check_patterns("compare", allow_vacuous)
    require(device)
    rows, raised = [], []
    # Without warnings: a value that is not finite is a verdict here.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        np.errstate(all="ignore"),
        true_float32(device),
    ):
        own, given = manual_run(net, twin, criterion, optimizer, scheduler, clip)
        sides = Sides(own, given, x.dtype, device, seed or 0, oracle)
        for step in range(1, steps + 1):
            if step > 1:
                sides.go_on()

            def draw(shape: tuple, step: int = step) -> np.ndarray:
                values = np.random.default_rng((seed or 0, step)).normal(size=tuple(shape))
                return values.astype(np.float32)  # the same number in either dtype

            found, raised = sides.step(x, y, draw)
            rows += found
            if raised:
                break
    return Comparison(
        frame(rows),
        "".join(f"{line}\n" for line in raised) + context(seed, device),
        sides.reasons,
        tuple(allow_vacuous),
        sides.testimony.asked,
    )


def assert_equivalent(
    net: Any, criterion: Any, x: np.ndarray, y: np.ndarray, **options: Any
) -> None:
    """`compare` (which see for the options) that raises EquivalenceError where it does not pass."""
    comparison = compare(net, criterion, x, y, **options)
    if not comparison.passed:
        raise EquivalenceError(comparison)


def _check_kinds(net: Any, criterion: Any, optimizer: Any, seed: Any) -> None:
    methods = ("forward", "backward")
    for what, value, names in (
        ("net", net, (*methods, "named_parameters")),
        ("criterion", criterion, methods),
    ):
        for name in names:
            if isinstance(value, type) or not callable(getattr(value, name, None)):
                raise TypeError(f"compare: {what} must have a method {name!r}, got {_kind(value)}")
    for name, p in net.named_parameters():
        if not isinstance(getattr(p, "data", None), np.ndarray):
            raise TypeError(
                f"compare: the network's parameter {name!r} must have data (an ndarray) and grad, "
                f"got {_kind(p)}"
            )
    if optimizer is not None and not isinstance(getattr(optimizer, "param_groups", None), list):
        raise TypeError(f"compare: optimizer must have param_groups, got {_kind(optimizer)}")
    if isinstance(optimizer, LBFGS) and getattr(criterion, "reduction", None) == "none":
        raise ValueError("compare: LBFGS needs one loss, and reduction 'none' gives an array")
    if seed is not None:
        check_seed("compare", seed)


def _array(name: str, value: Any) -> np.ndarray:
    """A copy."""
    if isinstance(value, torch.Tensor) or device_of(value) == "cuda":
        kind = "torch.Tensor" if isinstance(value, torch.Tensor) else "CuPy array"
        raise TypeError(f"compare: {name} must be an ndarray, got a {kind}")
    found = np.array(value)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"compare: {name} must be an array of numbers, got {found.dtype}")
    return found


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"
