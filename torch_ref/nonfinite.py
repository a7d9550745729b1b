"""`manual.nonfinite` for the twin: what torch's hooks see."""

import math
from collections.abc import Callable
from contextlib import ExitStack

import torch

from manual.nonfinite import Watch, dotted, layer


def first_nonfinite(
    net: torch.nn.Module, criterion: torch.nn.Module, run: Callable[[], float]
) -> str | None:
    """As `manual.nonfinite.first_nonfinite`, which see."""
    watch, modules = Watch(), dict(net.named_modules())

    def look(where: str, what: str, value: object) -> None:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            watch.look(where, what, value.detach().cpu().numpy())

    def look_at_parameters(kind: str) -> None:
        for name, p in net.named_parameters():
            path = name.rpartition(".")[0]
            look(layer(path, modules[path]), f"{kind}{name}", p)

    def before(module: torch.nn.Module, inputs: tuple) -> None:
        look("the data", "x", inputs[0])

    def after(path: str) -> Callable:
        where = layer(path, modules[path])

        def hook(module: torch.nn.Module, inputs: tuple, output: object) -> None:
            look(where, dotted("activation", path), output)
            if isinstance(output, torch.Tensor) and output.requires_grad:
                output.register_hook(lambda g: look(where, dotted("d_activation", path), g))

        return hook

    def before_loss(module: torch.nn.Module, inputs: tuple) -> None:
        look("the data", "y", inputs[1])

    def after_loss(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        look(f"the loss ({type(criterion).__name__})", "loss", output)

    look_at_parameters("")
    with ExitStack() as stack:
        hooks = [
            net.register_forward_pre_hook(before),
            criterion.register_forward_pre_hook(before_loss),
            criterion.register_forward_hook(after_loss),
        ]
        hooks += [module.register_forward_hook(after(path)) for path, module in modules.items()]
        for name, p in net.named_parameters():
            if not p.requires_grad:  # a frozen one takes no hook
                continue
            path = name.rpartition(".")[0]
            where = layer(path, modules[path])
            hooks.append(
                p.register_hook(lambda g, where=where, name=name: look(where, f"grad.{name}", g))
            )
        for hook in hooks:
            stack.callback(hook.remove)
        loss = run()
    look_at_parameters("updated.")
    finite = math.isfinite(loss) and all(p.isfinite().all() for p in net.parameters())
    return None if finite or not watch.found else watch.found[0]
