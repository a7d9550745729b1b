"""The sides of a comparison: copies, and twins that stand where manual stands."""

import copy
from typing import Any

import numpy as np
import torch

from compare.trace import LBFGS, Run, named_buffers, units
from manual import nn
from manual.arrays import host
from torch_ref import modules, twin, twins


class OneUnit(nn.Module):
    """A network as a single unit, for a twin that is not made of the same parts."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.net.forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return self.net.backward(dy)

    def backward_parameters(self, dy: np.ndarray) -> None:
        getattr(self.net, "backward_parameters", self.net.backward)(dy)

    def named_parameters(self):
        return self.net.named_parameters()

    def named_buffers(self):
        return named_buffers(self.net)


class TorchOneUnit(torch.nn.Module):
    """The same of a twin that `units` would take apart: its parameters keep their names."""

    def __init__(self, built: torch.nn.Module) -> None:
        super().__init__()
        for kind in ("_parameters", "_buffers", "_modules"):
            vars(self)[kind] = vars(built)[kind]
        self.forward = built.forward


def manual_run(net: Any, given: torch.nn.Module | None, *others: Any) -> tuple[Run, Any]:
    """Copies of manual's side (others: criterion, optimizer, scheduler; clip), and of the twin that
    was given for the network, if one was, made of the same units and in the same modes."""
    *copied, clip = *copy.deepcopy((net, *others[:-1])), others[-1]
    own = Run(*copied, clip)
    if given is None:
        return own, None
    given = copy.deepcopy(given)
    for module in given.modules():  # what it would overwrite is recorded
        if hasattr(module, "inplace"):
            module.inplace = False
    built = _aligned(net, given)
    if [unit.path for unit in units(net)] != [unit.path for unit in units(built)]:
        own, built = own._replace(net=OneUnit(own.net)), given
        if isinstance(built, modules.Sequential | modules.Residual):
            built = TorchOneUnit(built)
    named = getattr(net, "named_modules", lambda: [("", net)])
    modes = {path: module.training for path, module in named() if hasattr(module, "training")}
    for path, module in built.named_modules():  # outside first: a part may be in another mode
        if path in modes:
            module.train(modes[path])
    return own, built


def _aligned(net: Any, built: torch.nn.Module) -> torch.nn.Module:
    """The torch module, whose Sequentials are known as such where manual has one, too."""
    if isinstance(net, nn.Sequential) and isinstance(built, torch.nn.Sequential):
        children = dict(net.named_children())
        if list(children) == [name for name, _ in built.named_children()]:
            aligned = modules.Sequential()
            for name, child in built.named_children():
                aligned.add_module(name, _aligned(children[name], child))
            return aligned.train(built.training)
    if isinstance(net, nn.Residual) and isinstance(built, modules.Residual):
        built.module = _aligned(net.module, built.module)
    return built


def torch_run(
    own: Run, given: torch.nn.Module | None, device: str, dtype: torch.dtype | None = None
) -> Run:
    """Torch's side, in `dtype` (default: manual's), with manual's values. given: the network's
    twin, where one was handed over."""
    built = None
    if given is not None:
        built = copy.deepcopy(given).to(device=device)
        stand(built, own.net, dtype)
    net, criterion, optimizer = twins(
        own.net, own.criterion, own.optimizer, device, dtype, built=built
    )
    scheduler = None if own.scheduler is None else twin(own.scheduler, optimizer)
    return Run(net, criterion, optimizer, scheduler, own.clip and twin(own.clip))


def moved(own: Run, device: str) -> Run:
    """manual's side itself, with all that it holds on that device.

    Raises TypeError for a network or criterion that is none of manual.nn's kind and cannot be moved
    to a GPU, DeviceError where CuPy or a GPU is missing."""
    if device != own.device:
        for what, part in (("network", own.net), ("criterion", own.criterion)):
            if not isinstance(part, nn.Module | nn.Criterion):
                raise TypeError(
                    f"compare: device {device!r} needs a {what} that is a manual.nn module "
                    f"or criterion, which can be moved there; got a {type(part).__name__}"
                )
            part.to(device=device)
    return own._replace(device=device)


def go_on(side: Run, own: Run) -> None:
    """Put torch's side where manual's stands."""
    stand(side.net, own.net)
    if isinstance(own.optimizer, LBFGS):
        parameters = [p for group in side.optimizer.param_groups for p in group["params"]]
        side.optimizer.load_state_dict(twin(own.optimizer, parameters).state_dict())


def stand(built: torch.nn.Module, net: Any, dtype: torch.dtype | None = None) -> None:
    """Copy manual's weights and buffers into torch's module, which is converted to `dtype`.

    Raises ValueError where names or shapes of the parameters are not the same, or torch's module
    lacks a buffer that manual has."""
    built.to(dtype)
    theirs = dict(built.named_parameters())
    own = {name: np.asarray(host(p.data)) for name, p in net.named_parameters()}
    shapes = [
        {name: list(p.shape) for name, p in parameters.items()} for parameters in (own, theirs)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"compare: the network's parameters are {shapes[0]}, the twin's {shapes[1]}"
        )
    buffers = dict(named_buffers(net))
    theirs |= dict(built.named_buffers())
    for name, value in buffers.items():
        if name not in theirs or value.shape != tuple(theirs[name].shape):
            raise ValueError(
                f"compare: the twin has no buffer {name!r} of shape {list(value.shape)}"
            )
    own |= buffers
    with torch.no_grad():
        for name, value in own.items():
            theirs[name].copy_(torch.tensor(np.asarray(host(value))))


def copy_values(target: Any, source: Any) -> None:
    """Put one copy of manual's network where another stands."""
    for (_, p), (_, q) in zip(target.named_parameters(), source.named_parameters(), strict=True):
        p.data[...] = q.data
    for (_, b), (_, c) in zip(named_buffers(target), named_buffers(source), strict=True):
        b[...] = c
