"""What in torch corresponds to what in manual, and how the weights get across."""

import copy
import warnings
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
import torch

from manual import nn
from manual.arrays import host, is_array
from torch_ref import modules, optimizers


def twin(
    obj: Any,
    acts_on: Iterable[torch.Tensor] | torch.optim.Optimizer | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:
    """The torch counterpart of a manual module, criterion, optimizer, schedule or clipping
    function (or functools.partial of one), with the same values.

    A module's weights are copied, into `dtype` (default: their own), onto `device`. A `Dropout`
    gets a copy of the generator: from then on both draw the same masks. An optimizer `acts_on` the
    twins of its parameters, in its own order, a schedule on the twin of its optimizer; both take
    over the state they have reached. A class without a twin of its own gets its base's.
    Raises TypeError for an object nobody registered a twin for.

    A module of your own gets a twin by a function that builds the torch module, whose weights
    are then copied by name:

        @torch_ref.twin.register
        def _(module: MyModule) -> torch.nn.Module:
            return MyTorchModule(...)
    """
    if optimizers.known(obj):
        return optimizers.counterpart(obj, acts_on)
    with torch.random.fork_rng(devices=[]):  # torch's layers draw initial values
        built = _build(obj)
    if isinstance(obj, nn.Module):
        dtype = dtype or _torch_dtype(obj)
        load(built, obj, dtype)
        copies: dict[int, Any] = {}  # one for all, so that a shared generator stays shared
        for module in built.modules():
            if isinstance(module, modules.Dropout):
                module.generator = copy.deepcopy(module.generator, copies)
        theirs = dict(built.named_modules())
        for path, module in obj.named_modules():  # outside first: a part may be in another mode
            if path in theirs:
                theirs[path].train(module.training)
    return built.to(device=device, dtype=dtype)


def twins(
    net: nn.Module,
    criterion: nn.Criterion,
    optimizer: Any,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    built: torch.nn.Module | None = None,
) -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer | None]:
    """The torch counterparts of all three, the optimizer holding the parameters of the net.

    built: the net's, where there is one already, with parameters of the same names."""
    built = twin(net, device=device, dtype=dtype) if built is None else built
    if optimizer is None:
        return built, twin(criterion, device=device, dtype=dtype), None
    names = {id(p): name for name, p in net.named_parameters()}
    theirs = dict(built.named_parameters())
    own = [p for group in optimizer.param_groups for p in group["params"]]
    if any(id(p) not in names for p in own):
        raise ValueError("twins: the optimizer has parameters that are not the network's")
    parameters = [theirs[names[id(p)]] for p in own]
    return (
        built,
        twin(criterion, device=device, dtype=dtype),
        twin(optimizer, parameters),
    )


@singledispatch
def _build(obj: Any) -> torch.nn.Module:
    raise TypeError(
        f"no twin is known for {type(obj).__module__}.{type(obj).__name__}; "
        "register one with @torch_ref.twin.register"
    )


twin.register = _build.register
twin.dispatch = _build.dispatch  # class → what builds its twin


@twin.register
def _(module: nn.Sequential) -> torch.nn.Module:
    built = modules.Sequential()
    for name, child in module.named_children():
        built.add_module(name, _build(child))
    return built


@twin.register
def _(module: nn.Linear) -> torch.nn.Module:
    with warnings.catch_warnings():  # torch warns that it has no initial values to draw
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)


@twin.register
def _(module: nn.BatchNorm1d) -> torch.nn.Module:
    built = torch.nn.BatchNorm1d(
        module.num_features,
        module.eps,
        module.momentum,
        module.affine,
        module.track_running_stats,
    )
    if module.bias is None:  # an argument `bias` came to torch late
        built.register_parameter("bias", None)
    return built


@twin.register
def _(module: nn.Residual) -> torch.nn.Module:
    return modules.Residual(_build(module.module))


@twin.register
def _(module: nn.Dropout) -> torch.nn.Module:
    return modules.Dropout(module.p, module.generator)


def _same_name(kind: type, *arguments: str) -> None:
    """The twin is the class of that name in torch.nn (or, where torch.nn lacks it, in
    `torch_ref.modules`), made with these attributes as keyword arguments; arrays are copied."""
    home = torch.nn if hasattr(torch.nn, kind.__name__) else modules
    counterpart = getattr(home, kind.__name__)
    twin.register(kind, lambda obj: counterpart(**{a: _own(getattr(obj, a)) for a in arguments}))


def _own(value: Any) -> Any:
    return torch.tensor(host(value)) if is_array(value) else value


_same_name(nn.Identity)
_same_name(nn.Flatten, "start_dim", "end_dim")
_same_name(nn.Sigmoid)
_same_name(nn.LogSigmoid)
_same_name(nn.Tanh)
_same_name(nn.Arctan)
_same_name(nn.ReLU)
_same_name(nn.LeakyReLU, "negative_slope")
_same_name(nn.PReLU, "num_parameters", "init")
_same_name(nn.ELU, "alpha")
_same_name(nn.Softplus, "beta", "threshold")
_same_name(nn.SiLU)
_same_name(nn.GELU, "approximate")
_same_name(nn.Softmax, "dim")
_same_name(nn.LogSoftmax, "dim")
_same_name(nn.Maxout, "pieces")
_same_name(nn.Step)
_same_name(nn.HalfSquaredError)
_same_name(nn.SumSquaredError)
_same_name(nn.MSELoss, "reduction")
_same_name(nn.L1Loss, "reduction")
_same_name(nn.BCELoss, "weight", "reduction")
_same_name(nn.BCEWithLogitsLoss, "weight", "reduction", "pos_weight")
_same_name(nn.NLLLoss, "weight", "ignore_index", "reduction")
_same_name(nn.CrossEntropyLoss, "weight", "ignore_index", "reduction", "label_smoothing")


def load(built: torch.nn.Module, module: nn.Module, dtype: torch.dtype | None) -> None:
    """Copy the module's weights and buffers into its twin, which is converted to `dtype`."""
    built.to(dtype)
    own = str(dtype).removeprefix("torch.")
    built.load_state_dict(
        {
            name: torch.tensor(value if value.dtype.kind == "i" else value.astype(own))
            for name, value in module.state_dict().items()
        }
    )


def _torch_dtype(module: nn.Module) -> torch.dtype | None:
    """That of the first floating array of its state, or None where it has none."""
    for array in (*module.parameters(), *module.buffers()):
        if array.dtype == np.longdouble:
            raise TypeError("torch has no longdouble; pass dtype=torch.float64 or float32")
        if array.dtype.kind == "f":
            return getattr(torch, array.dtype.name)
    return None
