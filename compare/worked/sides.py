"""The same step by manual and by torch, in float64."""

import numpy as np
import torch

from compare.trace import Run, manual_step, torch_step
from compare.worked.places import Place
from compare.worked.sheet import Sheet
from manual import nn, optim
from torch_ref import twin, twins

ACTIVATIONS = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "arctan": nn.Arctan,
    "softmax": lambda: nn.Softmax(dim=-1),
}
LOSSES = {
    "half_squared_error": nn.HalfSquaredError,
    "sum_squared_error": nn.SumSquaredError,
    "mean_squared_error": nn.MSELoss,
    "binary_cross_entropy": nn.BCELoss,
    "cross_entropy": nn.CrossEntropyLoss,
}


def network(sheet: Sheet) -> nn.Sequential:
    """The sheet's network, with its numbers rounded to float64."""
    modules, theta = [], sheet.parameters
    for k, module in enumerate(sheet.modules):
        if module == "linear":
            n, m = theta[f"{k}.weight"].shape
            has_bias = f"{k}.bias" in theta
            modules.append(nn.Linear(m, n, bias=has_bias, dtype=np.float64))
        else:
            modules.append(ACTIVATIONS[module]())
    net = nn.Sequential(*modules)
    net.load_state_dict(theta)
    return net


def optimizer(sheet: Sheet, net: nn.Sequential) -> optim.Optimizer | None:
    """The sheet's; the penalty is on weights, and what is frozen it does not have."""
    step = sheet.step
    if step is None:
        return None
    named = {k: p for k, p in net.named_parameters() if k not in step.frozen}
    groups = [
        {"params": [p for k, p in named.items() if k.endswith(kind)], "weight_decay": decay}
        for kind, decay in (("weight", float(step.weight_decay)), ("bias", 0.0))
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        return None
    if step.optimizer == "adam":
        return optim.Adam(groups, lr=float(step.lr))
    return optim.SGD(groups, lr=float(step.lr), momentum=float(step.momentum))


def rows(sheet: Sheet) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(manual's, torch's) rows of one step, by name. Without a loss those of the forward."""
    net = network(sheet)
    x, y = sheet.x, sheet.y
    if sheet.loss is None:  # one stands in, and what comes of it is left out
        criterion, y = nn.SumSquaredError(), np.zeros_like(net(x))
    else:
        criterion = LOSSES[sheet.loss]()
    own = Run(net, criterion, optimizer(sheet, net))
    theirs = Run(*twins(*own[:3]))
    torchs = torch_step(theirs, torch.from_numpy(x.copy()), torch.from_numpy(y.copy())).rows
    manuals = manual_step(own, x, y)
    found = {row.name: row.value for row in manuals}, {k: r.value for k, r in torchs.items()}
    if sheet.loss is None:
        keep = ("x", "activation.")
        found = tuple({k: v for k, v in side.items() if k.startswith(keep)} for side in found)
    if sheet.step and own.optimizer is None:  # all is frozen
        kept = ({f"updated.{k}": p.numpy(force=True) for k, p in theirs.net.named_parameters()},)
        kept = ({f"updated.{k}": p.data for k, p in net.named_parameters()}, *kept)
        found = tuple(side | after for side, after in zip(found, kept, strict=True))
    return found


def derivative(sheet: Sheet, of: Place, by: Place) -> tuple[float, float]:
    """∂of/∂by of an activation by something before it, by manual's backward and by autograd."""
    until = int(of.row.split(".")[1])
    net = nn.Sequential(*list(network(sheet))[: until + 1])
    theirs = twin(net)
    x = sheet.x
    dy = np.zeros_like(net(x))
    dy[of.index] = 1
    given = torch.from_numpy(x.copy()).requires_grad_()
    passed = [given]
    for module in theirs:
        passed.append(module(passed[-1]))
        passed[-1].retain_grad()
    passed[-1][of.index].backward()
    head, _, rest = by.row.partition(".")
    if head in ("x", "activation"):
        k = -1 if head == "x" else int(rest)
        for module in reversed(list(net)[k + 1 :]):
            dy = module.backward(dy)
        return float(dy[by.index]), passed[k + 1].grad[by.index].item()
    net.backward(dy)
    grads = dict(net.named_parameters()), dict(theirs.named_parameters())
    return float(grads[0][by.row].grad[by.index]), grads[1][by.row].grad[by.index].item()
