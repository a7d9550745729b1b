"""What rounding alone can explain, end to end: how far two whole steps may be apart.

A running error analysis of one training step, in causal order. Beside every tensor t stands E(t),
a bound on the error that one side's t may carry: the errors of what t was computed from, passed
on by the same operation, plus the rounding of that operation (`compare.rounding` has the rules).
Two correct sides differ by at most 2 E(t). Everything follows from the dtype's unit roundoff, the
sizes and the data, which come from a float64 run of the twin; nothing is tuned.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch

from compare.lbfgs import Start, lbfgs_bounds, lbfgs_witness
from compare.rounding import Ball, Rounding, buffer_rule, loss_rule, rule, to_use_up
from compare.tolerance import (
    at_least,
    clip_bounds,
    optimizer_state,
    rate_bounds,
    update_bounds,
)
from compare.trace import LBFGS, RESIDUALS, Draw, Run, cotangent, dotted, torch_step
from torch_ref import modules

Backward = Callable[[np.ndarray], np.ndarray]


class Bounds:
    """E for every row of a trace, step after step.

    run: float64 twins of their own, at the values both sides start from, where E is 0.
    dtype: the one both sides compute in.
    """

    def __init__(self, run: Run, dtype: np.dtype) -> None:
        self.run, self.dtype, self.rounding = run, dtype, Rounding.of(dtype)
        tensors = (*run.net.named_parameters(), *run.net.named_buffers())
        self.errors = {name: np.zeros(tensor.shape) for name, tensor in tensors}
        self.kept = optimizer_state(run, self.rounding)

    def restart(self) -> None:
        """Say that both sides, and the float64 twins, have the same weights and buffers again. The
        optimizer's state keeps its E."""
        self.errors = {name: np.zeros_like(e) for name, e in self.errors.items()}

    def step(
        self, x: torch.Tensor, y: torch.Tensor, draw: Draw | None = None
    ) -> dict[str, np.ndarray]:
        """Take one step on the float64 twins; row name → 2 E, an array of the tensor's shape."""
        r, optimizer = self.rounding, self.run.optimizer
        net = copy.deepcopy(self.run.net)  # as it is before the step
        groups = [dict(group) for group in optimizer.param_groups] if optimizer else []
        state = None
        if isinstance(optimizer, LBFGS):
            state = copy.deepcopy(optimizer.state_dict())
        rows = torch_step(self.run, x, y, draw).rows
        self.values = {name: row.value for name, row in rows.items()}
        self.bounds = {"x": np.zeros(x.shape)}
        prediction, e, backward = self._forward(
            to_use_up(net), "", self.values["x"], self.bounds["x"]
        )
        for name, _ in net.named_buffers():
            self.bounds[f"buffer.{name}"] = self.errors[name]
        dloss = cotangent(self.run.criterion, self.values["loss"], draw)
        dloss = np.ones(()) if dloss is None else dloss
        self.bounds["loss"], e = loss_rule(self.run.criterion, r, prediction, e, y.numpy(), dloss)
        self.bounds["d_x"] = backward(e)
        if self.run.clip is not None:
            clip_bounds(self.run, self.values, self.bounds, self._ball)
        if state is not None:
            self.lbfgs = Start(self.run, net, state, x, y, dict(self.errors))
            new = lbfgs_bounds(self.lbfgs, self.dtype, lambda at: self._here(at, x, y))
            self.bounds |= new
            self.errors |= {
                name.removeprefix("updated."): e
                for name, e in new.items()
                if name.startswith("updated.")
            }
        elif optimizer is not None:
            before = {
                name: Ball(p.detach().numpy(), self.errors[name], r)
                for name, p in net.named_parameters()
            }
            new = update_bounds(self.run, before, groups, self.values, self._ball, self.kept)
            self.errors |= new
            self.bounds |= {f"updated.{name}": e for name, e in new.items()}
        self.bounds |= rate_bounds(self.run, groups, ahead=0)
        return {
            name: 2 * at_least(e, self.values[name], r)
            for name, e in self.bounds.items()
            if name in self.values
        }

    def _forward(
        self, module: torch.nn.Module, path: str, a: np.ndarray, e: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Backward]:
        """The module's output, its E, and the way back: E(dy) → E(dx), noting all that it
        passes."""
        if isinstance(module, modules.Sequential):
            backwards = []
            for name, child in module.named_children():
                a, e, backward = self._forward(child, dotted(path, name), a, e)
                backwards.append(backward)

            def chained(edy: np.ndarray) -> np.ndarray:
                for backward in reversed(backwards):
                    edy = backward(edy)
                return edy

            return a, e, chained
        row, drow = dotted("activation", path), dotted("d_activation", path)
        rule_of = self._residual if isinstance(module, RESIDUALS) else self._unit
        self.bounds[row], backward = rule_of(module, path, a, e)

        def noted(edy: np.ndarray) -> np.ndarray:
            self.bounds[drow] = edy
            return backward(self.values[drow], edy)

        return self.values[row], self.bounds[row], noted

    def _unit(self, module: torch.nn.Module, path: str, a: np.ndarray, e: np.ndarray):
        theta = {
            name: (tensor.detach().numpy(), self.errors[dotted(path, name)])
            for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }
        buffers = buffer_rule(module, self.rounding, theta, a, e)
        ey, rule_backward = rule(module, self.rounding, theta, a, e)
        self.errors |= {dotted(path, name): error for name, error in buffers.items()}

        def backward(dy: np.ndarray, edy: np.ndarray) -> np.ndarray:
            edx, gradients = rule_backward(dy, edy)
            for name, error in gradients.items():
                self.bounds[dotted("grad", path, name)] = error
            return edx

        return ey, backward

    def _residual(self, module: modules.Residual, path: str, a: np.ndarray, e: np.ndarray):
        """y = x + f(x), dx = dy + f's dx: two errors and a sum."""
        inside = copy.deepcopy(module)
        u = self.rounding.u
        f, ef, inner_backward = self._forward(module.module, dotted(path, "module"), a, e)

        def backward(dy: np.ndarray, edy: np.ndarray) -> np.ndarray:
            point = torch.tensor(a).requires_grad_()
            (dx,) = torch.autograd.grad(inside(point), point, torch.tensor(dy))
            inner = self.bounds[dotted("d_x", path, "module")] = inner_backward(edy)
            return edy + inner + u * np.abs(dx.numpy())

        return e + ef + u * np.abs(a + f), backward

    def _here(self, net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict:
        """E of one forward and backward by this network, whose weights are exact."""
        bounds = Bounds(Run(copy.deepcopy(net), self.run.criterion), self.dtype)
        return {name: e / 2 for name, e in bounds.step(x, y).items()}

    def _ball(self, row: str) -> Ball:
        return Ball(self.values[row], self.bounds[row], self.rounding)

    def witness_of_lbfgs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Row name → (value, error) of what the last step of L-BFGS left, as the third witness has
        it, at losses and gradients of the float64 twin."""
        return lbfgs_witness(self.lbfgs)
