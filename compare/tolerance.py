"""What rounding alone can explain: how far two correct sides may be apart, element by element.

A running error analysis of one training step, in causal order. Beside every tensor t stands E(t),
a bound on the error that one side's t may carry: the errors of what t was computed from, passed
on by the same operation, plus the rounding of that operation (`compare.rounding` has the rules).
Two correct sides differ by at most 2 E(t). Everything follows from the dtype's unit roundoff, the
sizes and the data, which come from a float64 run of the twin; nothing is tuned.
"""

import numpy as np
import torch

from compare.rounding import Rounding, loss_rule, rule, update_rule
from compare.trace import dotted, torch_step, units


class Bounds:
    """E for every row of a trace, step after step.

    net, criterion, optimizer: float64 twins of their own, at the values both sides start from,
    where E is 0. dtype: the one both sides compute in.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        criterion: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        dtype: np.dtype,
    ) -> None:
        self.net, self.criterion, self.optimizer = net, criterion, optimizer
        self.rounding = Rounding.of(dtype)
        self.parameters = {n: np.zeros(p.shape) for n, p in net.named_parameters()}
        self.state: dict[str, tuple] = {}
        for name, p in net.named_parameters():
            kept = optimizer.state.get(p, {}) if optimizer is not None else {}
            if kept.get("momentum_buffer") is not None:  # a momentum that has started before
                velocity = np.abs(kept["momentum_buffer"].numpy())
                self.state[name] = velocity, np.zeros(p.shape)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
        """Take one step on the float64 twins; row name → 2 E, an array of the tensor's shape."""
        r = self.rounding
        before = {n: p.detach().numpy().copy() for n, p in self.net.named_parameters()}
        bounds = dict(self.parameters)
        rows = torch_step(self.net, self.criterion, self.optimizer, x, y)
        values = {row.name: row.value for row in rows}

        chain = []
        a, e = values["x"], np.zeros(x.shape)
        bounds["x"] = e
        for path, module in units(self.net):
            theta = {}
            for name, _ in module.named_parameters():
                full = dotted(path, name)
                theta[name] = before[full], self.parameters[full]
            e, backward = rule(module, r, theta, a, e)
            chain.append((path, backward))
            a = values[dotted("activation", path)]
            bounds[dotted("activation", path)] = e

        bounds["loss"], e = loss_rule(self.criterion, r, a, e, y.numpy())
        for path, backward in reversed(chain):
            bounds[dotted("d_activation", path)] = e
            e, gradients = backward(values[dotted("d_activation", path)], e)
            for name, bound in gradients.items():
                bounds[dotted("grad", path, name)] = bound
        bounds["d_x"] = e
        if self.optimizer is not None:
            self._update(before, bounds, values)
        return {name: 2 * e for name, e in bounds.items()}

    def _update(self, before: dict, bounds: dict, values: dict) -> None:
        names = {id(p): name for name, p in self.net.named_parameters()}
        for group in self.optimizer.param_groups:
            for name in (names[id(p)] for p in group["params"]):
                if f"grad.{name}" in bounds:
                    self.parameters[name], self.state[name] = update_rule(
                        self.optimizer,
                        self.rounding,
                        group,
                        (before[name], self.parameters[name]),
                        (values[f"grad.{name}"], bounds[f"grad.{name}"]),
                        self.state.get(name),
                    )
        for name, e in self.parameters.items():
            bounds[f"updated.{name}"] = e
