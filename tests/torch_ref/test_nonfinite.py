"""A loss, weight or validation loss that is not finite: the epoch, step and layer it began in."""

import re

import numpy as np
import pytest
import torch

from manual import nn, optim, training
from manual.nn.workspace import Reuses
from torch_ref import training as reference
from torch_ref import twin, twins

RNG = np.random.default_rng
N = 20


def network(dtype=np.float32, activation=nn.ReLU):
    rng = RNG(0)
    return nn.Sequential(
        nn.Linear(3, 4, dtype=dtype, generator=rng),
        activation(),
        nn.Dropout(0.2, RNG(3)),
        nn.Residual(nn.Linear(4, 4, dtype=dtype, generator=rng)),
        nn.Linear(4, 2, dtype=dtype, generator=rng),
    )


def data(dtype=np.float32, n=N):
    rng = RNG(1)
    return rng.normal(size=(n, 3)).astype(dtype), rng.normal(size=(n, 2)).astype(dtype)


def stopped(side, net, optimizer=None, xy=None, criterion=None, **options):
    """The message of the FloatingPointError that fit raises."""
    optimizer = optimizer or optim.SGD(net.parameters(), lr=0.01)
    fit, parts = training.fit, (net, criterion or nn.MSELoss(), optimizer)
    if side == "torch":
        fit, parts = reference.fit, twins(*parts)
        if options.get("scheduler"):
            options["scheduler"] = twin(options["scheduler"], parts[2])
    arguments = {"epochs": 5, "batch_size": 5, "generator": RNG(2), **options}
    with pytest.raises(FloatingPointError) as caught:
        fit(*parts, *(xy or data()), **arguments)
    assert caught.value.__cause__ is None
    return str(caught.value)


both = pytest.mark.parametrize("side", ["manual", "torch"])


@both
@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data(side, which, bad):
    x, y = data()
    at = RNG(2).permutation(N)[12]  # in the third batch of the first epoch
    (x if which == "x" else y)[at, 1] = bad
    told = stopped(side, network(), xy=(x, y))
    assert "in epoch 1, step 3; it began in epoch 1, step 3, the data" in told
    assert told.endswith(f"the data: {which} holds {bad}")


@both
@pytest.mark.parametrize("name", ["0.bias", "3.module.weight"])
def test_a_weight_that_was_not_finite_before(side, name):
    net = network()
    dict(net.named_parameters())[name].data[...] = np.nan
    told = stopped(side, net)
    path = name.rpartition(".")[0]
    assert told == (
        "the loss became nan in epoch 1, step 1; it began in epoch 1, step 1, "
        f"layer {path} (Linear): {name} holds nan"
    )


@both
def test_an_activation(side):
    net = network(activation=nn.Identity)
    net[0].weight.data[...] = 3e38
    x, y = data()
    told = stopped(side, net, xy=(np.abs(x) + 1, y))
    assert "step 1; it began in epoch 1, step 1, layer 0 (Linear): activation.0 holds inf" in told


@both
def test_an_activation_that_a_container_makes(side):
    """x + f(x), each near 2e38."""
    net = network()
    net[0].bias.data[...] = 1e38
    net[3].module.weight.data[...] = 0
    net[3].module.bias.data[...] = 3e38
    told = stopped(side, net)
    assert "it began in epoch 1, step 1, layer 3 (Residual): activation.3 holds inf" in told


@both
def test_the_loss_alone(side):
    x, y = data()
    told = stopped(side, network(), xy=(x, y + np.float32(1e30)))
    assert told == (
        "the loss became inf in epoch 1, step 1; it began in epoch 1, step 1, "
        "the loss (MSELoss): loss holds inf"
    )


@both
@pytest.mark.parametrize("inner", [False, True])
def test_the_gradient_of_a_first_layer_alone(side, inner):
    """dWᵀ = xᵀ dy with x of 1e30 and dy of 1e15; no layer before needs dx."""
    layer = nn.Linear(3, 2, dtype=np.float32, generator=RNG(0))
    layer.weight.data[...] = 0
    net = nn.Sequential(nn.Sequential(layer) if inner else layer)
    x, y = np.full((N, 3), 1e30, np.float32), np.full((N, 2), -1e15, np.float32)
    told = stopped(side, net, xy=(x, y))
    path = "0.0" if inner else "0"
    assert f"it began in epoch 1, step 1, layer {path} (Linear): grad.{path}.weight holds" in told


@both
def test_an_update_that_is_too_long(side):
    """The gradients are finite, lr times them is not; the loss is, until the next step."""
    net = network(activation=nn.Tanh)
    x, y = data()
    told = stopped(side, net, optim.SGD(net.parameters(), lr=3e38), xy=(x, y + 99))
    assert "the loss became nan in epoch 1, step 2; it began in epoch 1, step 1, layer" in told
    assert "(Linear): updated." in told


@both
def test_a_gradient(side):
    """y = (1e20 h)·w with w ~ 1e-20: y and the loss are near 1, dL/dw ~ 1e20 is finite, and 1e20
    times 1e20 is not."""
    net = nn.Sequential(
        nn.Linear(3, 1, dtype=np.float32, generator=RNG(0)),
        nn.Linear(1, 1, dtype=np.float32, generator=RNG(0)),
        nn.Linear(1, 2, dtype=np.float32, generator=RNG(0)),
    )
    net[0].weight.data[...] = 1e25
    net[1].weight.data[...] = 1e-30
    net[2].weight.data[...] = 1e20
    for module in net:
        module.bias.data[...] = 0
    x, y = data()
    told = stopped(side, net, optim.SGD(net.parameters(), lr=1e-3), xy=(np.abs(x), y))
    assert "step 1, layer 1 (Linear): grad.1.weight holds" in told


@both
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_weight_that_no_loss_shows(side, epoch):
    """The first layer's rate is made so great in one epoch that its weights become −inf, behind
    units that are dead then: the loss stays finite, the weights are looked at as the epoch ends."""
    net = nn.Sequential(
        nn.Linear(3, 4, dtype=np.float32, generator=RNG(0)),
        nn.ReLU(),
        nn.Linear(4, 2, dtype=np.float32, generator=RNG(0)),
    )
    net[2].weight.data[...] = np.abs(net[2].weight.data)
    net[0].bias.data[...] = 3
    first, rest = net[0].bias, [net[0].weight, net[2].weight, net[2].bias]
    optimizer = optim.SGD([{"params": [first], "lr": 1e-3}, {"params": rest, "lr": 0.0}])

    class Leap:
        """In that epoch the bias of the first layer has another rate."""

        def __init__(self, optimizer):
            self.optimizer, self.done = optimizer, 0
            self.set()

        def set(self):
            if self.done + 1 == epoch:
                self.optimizer.param_groups[0]["lr"] = 3e38

        def step(self):
            self.done += 1
            self.set()

        def state_dict(self):
            return {"done": self.done}

        def load_state_dict(self, state):
            self.done = state["done"]
            self.set()

    x, y = data()
    y = y - np.float32(50)  # the gradient of the bias is positive
    parts = (net, nn.MSELoss(), optimizer)
    fit = training.fit
    if side == "torch":
        fit, parts = reference.fit, twins(*parts)
    with pytest.raises(FloatingPointError) as caught:
        fit(
            *parts,
            np.abs(x),
            y,
            epochs=5,
            batch_size=N,
            generator=RNG(2),
            scheduler=Leap(parts[2]),
        )
    assert str(caught.value) == (
        f"a weight became non-finite in epoch {epoch}; it began in epoch {epoch}, step 1, "
        "layer 0 (Linear): updated.0.bias holds -inf"
    )


@both
def test_a_step_late_in_a_long_run(side):
    """The steps since the last copy of the state are taken again, Dropout's masks and the order of
    the batches as they were; the same step fails."""
    net = network(np.float64)
    optimizer = optim.Adam(net.parameters(), lr=1e-3)
    seen = []

    def clip(parameters):
        seen.append(1)
        if len(seen) == 4 * 46 + 3:
            for p in parameters:
                if side == "manual":
                    p.grad = np.full_like(p.grad, np.nan)
                else:
                    p.grad = torch.full_like(p.grad, torch.nan)

    told = stopped(side, net, optimizer, data(np.float64), clip=clip, epochs=60)
    assert told == (
        "the loss became nan in epoch 47, step 4; "
        "where it began is not known: the same steps, taken again, stay finite"
    )
    assert len(seen) <= 4 * 46 + 4 + 99 + 4  # and no more of them than there must be


@both
@pytest.mark.parametrize("epochs", [1, 30])
@pytest.mark.parametrize("called", [True, False])
def test_a_rate_that_grows_and_grows(side, epochs, called):
    """lr ← 1e6 lr every epoch, from where that many epochs lead to about 1: the loss is not finite
    some epochs later, which is found again, schedule, masks and order being as they were."""
    net = network(np.float64)
    optimizer = optim.SGD(net.parameters(), lr=10.0 ** (-6 * epochs))
    scheduler = optim.ExponentialLR(optimizer, gamma=1e6)
    options = {"callback": lambda epoch: None} if called else {}
    told = stopped(
        side, net, optimizer, data(np.float64), scheduler=scheduler, epochs=99, **options
    )
    found = re.fullmatch(
        r"the loss became (?:inf|nan) in epoch (\d+), step (\d); "
        r"it began in epoch (\d+), step (\d), (?:the loss|layer [\d.a-z]+) .* holds -?(?:inf|nan)",
        told,
    )
    at, step, began_at, began_step = map(int, found.groups())
    assert epochs < began_at <= at < epochs + 9
    assert 0 <= 4 * (at - began_at) + step - began_step <= 1


@both
def test_validation(side):
    x, y = data()
    bad = x.copy()
    bad[7, 1] = np.nan
    told = stopped(side, network(), xy=(x, y), validation=(bad, y))
    assert told == "the validation loss became nan in epoch 1; it began in the data: x holds nan"
    net, great = network(), np.full_like(x, 3e38)
    net[0].weight.data[...] = 1
    told = stopped(side, net, xy=(x, y), validation=(great, y))
    assert re.fullmatch(
        r"the validation loss became (inf|nan) in epoch 1; "
        r"it began in layer 0 \(Linear\): activation.0 holds (inf|nan|-inf)",
        told,
    )


@both
def test_the_modules_are_as_they_were(side):
    net = network()
    net[0].weight.data[...] = np.nan
    parts = (net, nn.MSELoss(), optim.SGD(net.parameters()))
    fit = training.fit
    if side == "torch":
        fit, parts = reference.fit, twins(*parts)
    before = [sorted(vars(m)) for m in parts[0].modules()]
    with pytest.raises(FloatingPointError):
        fit(*parts, *data(), epochs=1, batch_size=5, generator=RNG(2))
    if side == "manual":
        extra = {"saved", "training", *vars(Reuses)}
        after = [sorted(vars(m).keys() - extra) for m in parts[0].modules()]
        assert after == [sorted(set(names) - extra) for names in before]
        assert not {"forward", "backward"} & vars(parts[1]).keys()
    else:
        for module in [*parts[0].modules(), parts[1]]:
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        assert all(not p._backward_hooks for p in parts[0].parameters())


def test_a_weight_of_torchs_that_is_frozen():
    own = network()
    net, criterion, optimizer = twins(own, nn.MSELoss(), optim.SGD(own.parameters()))
    net[0].weight.requires_grad_(False)
    x, y = data()
    y[:] = np.inf
    with pytest.raises(FloatingPointError, match="it began in epoch 1, step 1, the data: y holds"):
        reference.fit(net, criterion, optimizer, x, y, epochs=1, batch_size=5, generator=RNG(2))


def test_a_method_of_an_objects_own_comes_back():
    net = network()

    def own(x):
        return nn.Linear.forward(net[0], x) * np.float32(np.nan)

    net[0].forward = own
    told = stopped("manual", net)
    assert "layer 0 (Linear): activation.0 holds nan" in told
    assert net[0].forward is own
