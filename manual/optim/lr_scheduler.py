"""Learning rates that change from epoch to epoch.

Each schedule computes the next rate from the present one, `group["lr"]`: who changes it from
outside changes what comes after.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from manual.optim.optimizer import Optimizer, check_number


class LRScheduler:
    """A schedule for the lr of every group of an optimizer.

    last_epoch: −1 for a new one, whose base_lrs are the present rates; else the epoch to go on
    after, and the groups need "initial_lr" (KeyError).

    A schedule of your own gives its numbers to `__init__` as attributes and defines `_next_lr`;
    `_check` refuses numbers that have no sense, also those of a state dict.
    """

    _numbers: ClassVar[tuple[str, ...]] = ()  # the arguments, by name

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param_groups[{i}] has no 'initial_lr' to resume a schedule from")
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
        self._set([self._first_lr(group) for group in optimizer.param_groups])

    def step(self) -> None:
        """Go on to the next epoch: call it once at the end of each."""
        self.last_epoch += 1
        groups = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        self._set([self._next_lr(group["lr"], base) for group, base in groups])

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = rates

    def _first_lr(self, group: dict[str, Any]) -> float:
        return group["lr"]

    def _next_lr(self, lr: float, base_lr: float) -> float:
        """The rate of epoch `last_epoch` from that of the epoch before."""
        raise NotImplementedError(f"{type(self).__name__} has no _next_lr")

    def get_last_lr(self) -> list[float]:
        """The rates this schedule set last, one for each group."""
        return list(self._last_lr)

    def _check(self, numbers: Mapping[str, Any]) -> None:
        """Raise TypeError or ValueError for one of `_numbers` that has no sense."""

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer (which has the present rates); copies."""
        return {
            **{name: getattr(self, name) for name in self._numbers},
            "base_lrs": list(self.base_lrs),
            "last_epoch": self.last_epoch,
            "_last_lr": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, here or in torch. The rates are the optimizer's.

        Raises ValueError, and changes nothing, for other names, a number of groups that differs or
        a bad value (TypeError for what is no number).
        """
        own = self.state_dict()
        who = f"{type(self).__name__}: the state dict"
        of_torch = {"_step_count", "_is_initial", "_get_lr_called_within_step"}
        if state_dict.keys() - of_torch != own.keys():
            raise ValueError(f"{who} has {sorted(state_dict)}, expected {sorted(own)}")
        for name in ("base_lrs", "_last_lr"):
            if len(state_dict[name]) != len(own[name]):
                raise ValueError(
                    f"{who} has {name} for {len(state_dict[name])} groups, "
                    f"the optimizer has {len(own[name])}"
                )
            for rate in state_dict[name]:
                check_number(f"{who}: {name}", rate)
        check_number(f"{who}: last_epoch", state_dict["last_epoch"], -1)
        self._check(state_dict)
        for name in own:
            value = state_dict[name]
            setattr(self, name, list(value) if isinstance(value, list) else value)


class StepLR(LRScheduler):
    """lr ← gamma · lr every step_size epochs, as torch.optim.lr_scheduler.StepLR:
    base_lr · gamma^⌊epoch / step_size⌋.

    Raises ValueError for a step_size of 0 or a number that is not finite.
    """

    _numbers = ("step_size", "gamma")

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self._check({"step_size": step_size, "gamma": gamma})
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _check(self, numbers: Mapping[str, Any]) -> None:
        _check_period("StepLR: step_size", numbers["step_size"])
        check_number("StepLR: gamma", numbers["gamma"], 0)

    def _first_lr(self, group: dict[str, Any]) -> float:
        return self._next_lr(group["lr"], group["initial_lr"])  # resumed, as torch

    def _next_lr(self, lr: float, base_lr: float) -> float:
        due = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return lr * self.gamma if due else lr


class ExponentialLR(LRScheduler):
    """lr ← gamma · lr every epoch, as torch.optim.lr_scheduler.ExponentialLR:
    base_lr · gamma^epoch.

    Raises ValueError for a gamma that is negative or not finite.
    """

    _numbers = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self._check({"gamma": gamma})
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _check(self, numbers: Mapping[str, Any]) -> None:
        check_number("ExponentialLR: gamma", numbers["gamma"], 0)

    def _next_lr(self, lr: float, base_lr: float) -> float:
        return lr * self.gamma


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from base_lr down to eta_min in T_max epochs, then up again, and so on, as
    torch.optim.lr_scheduler.CosineAnnealingLR. With c(e) = 1 + cos(π e / T_max), the rate of
    epoch e is

        η(e) = eta_min + (base_lr − eta_min) · c(e) / 2

    so that  η(e) − eta_min = (η(e−1) − eta_min) · c(e) / c(e−1), which is what is computed; after
    the lowest point, where c(e−1) = 0,
        η(e) = η(e−1) + (base_lr − eta_min) · (1 − cos(π/T_max)) / 2

    Raises ValueError for a T_max of 0 or a number that is not finite.

    Loshchilov & Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", without
    the restarts.
    """

    _numbers = ("T_max", "eta_min")

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self._check({"T_max": T_max, "eta_min": eta_min})
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _check(self, numbers: Mapping[str, Any]) -> None:
        _check_period("CosineAnnealingLR: T_max", numbers["T_max"])
        check_number("CosineAnnealingLR: eta_min", numbers["eta_min"])

    def _next_lr(self, lr: float, base_lr: float) -> float:
        def c(epoch: int) -> float:
            return 1 + math.cos(math.pi * epoch / self.T_max)

        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            return lr + (base_lr - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        ratio = c(self.last_epoch) / c(self.last_epoch - 1)
        return ratio * (lr - self.eta_min) + self.eta_min


def _check_period(what: str, value: float) -> None:
    check_number(what, value)
    if value == 0:
        raise ValueError(f"{what} must not be 0")
