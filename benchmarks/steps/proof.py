"""Before anything is timed: a contestant's step is manual's step, but for rounding.

Both begin with the same weights. How far rounding can carry two such steps apart is derived
(`compare.propagation`): from the dtype's unit roundoff, the sizes and the data, operation by
operation, through forward, backward and update.
"""

import copy

import numpy as np
import torch

from benchmarks.steps.contestant import Contestant
from benchmarks.steps.problem import Problem, setup
from compare.propagation import Bounds
from compare.sides import torch_run
from compare.trace import Run, manual_step


class NotEqual(Exception):
    """A step that is not manual's; the message says where, in one line."""


class Proof:
    """Of one problem. expected: what manual's step came to, row name → array; allowed: how far
    from it another correct step may be."""

    def __init__(self, problem: Problem) -> None:
        net, criterion, optimizer, x, y = setup(problem)
        exact = torch_run(Run(net, criterion, optimizer), None, "cpu", torch.float64)
        tensors = (torch.from_numpy(t) for t in (x, y))
        tx, ty = (t.double() if t.is_floating_point() else t for t in tensors)
        self.allowed = Bounds(exact, np.dtype(problem.dtype)).step(tx, ty)
        self.before = {f"updated.{name}": value for name, value in net.state_dict().items()}
        rows = manual_step(Run(*copy.deepcopy((net, criterion, optimizer))), x, y)
        self.expected = {row.name: row.value for row in rows}

    def check(self, contestant: Contestant) -> float:
        """The largest share of what is allowed that one step of it uses. Leaves it restarted.

        Raises NotEqual where a tensor is missing, of another shape or dtype, or further from
        manual's than that; or where a tensor that should change hardly does, so that nothing
        could be proven.
        """
        contestant.restart()
        contestant.step()
        contestant.wait()  # a graph has a stream of its own, which reading does not wait for
        results = contestant.results()
        contestant.restart()
        kind = "updated." if any(name.startswith("updated.") for name in results) else "grad."
        wanted = {
            name
            for name, value in self.expected.items()
            if name.startswith(kind) and (kind == "updated." or value.ndim == 2)
        }
        if results.keys() != wanted:
            names = ", ".join(sorted(results.keys() ^ wanted))
            raise NotEqual(f"expected {len(wanted)} tensors, and {names} differ")
        return max(self._row(name, value) for name, value in results.items())

    def _row(self, name: str, value: np.ndarray) -> float:
        expected, allowed = self.expected[name], self.allowed[name]
        if (value.shape, value.dtype) != (expected.shape, expected.dtype):
            raise NotEqual(
                f"{name} is {value.dtype} of shape {value.shape}, "
                f"manual's is {expected.dtype} of shape {expected.shape}"
            )
        wide = expected.astype(np.float64)
        moved = np.abs(wide - self.before.get(name, 0))
        if not (moved > allowed).any():
            raise NotEqual(f"{name}: manual's step moves it by less than rounding: no proof")
        apart = np.abs(value - wide)
        used = apart / np.maximum(allowed, np.finfo(np.float64).tiny)
        if not (used <= 1).all():
            worst = np.unravel_index(np.argmax(np.where(used <= 1, 0, 1 + used)), used.shape)
            at = [int(i) for i in worst]
            raise NotEqual(
                f"{name} at {at} is {value[worst]:.9g}, manual's is {expected[worst]:.9g}: "
                f"{apart[worst]:.2g} apart, where rounding explains {allowed[worst]:.2g}"
            )
        return float(used.max())
