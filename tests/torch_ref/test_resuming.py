"""A run that is resumed ends, bit for bit, where the same run ends that nothing stopped."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from manual import nn, optim, training
from manual.resuming import ResumeError
from torch_ref import training as reference
from torch_ref import twin, twins

RNG = np.random.default_rng
N = 20
OPTIMIZERS = {
    "SGD": partial(optim.SGD, lr=0.05, momentum=0.9),
    "Adam": partial(optim.Adam, lr=0.01, amsgrad=True),
    "AdamW": partial(optim.AdamW, lr=0.01),
    "RMSprop": partial(optim.RMSprop, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=0.05),
    "LBFGS": partial(optim.LBFGS, lr=0.1, max_iter=3, history_size=4),
}
SCHEDULES = [
    None,
    partial(optim.StepLR, step_size=2, gamma=0.5),
    partial(optim.CosineAnnealingLR, T_max=4),
]


def network(dtype=np.float64, dropout=0.2, width=6, activation=nn.Tanh):
    rng, masks = RNG(0), RNG(5)
    return nn.Sequential(
        nn.Linear(3, width, dtype=dtype, generator=rng),
        nn.BatchNorm1d(width, dtype=dtype),
        activation(),
        nn.Dropout(dropout, masks),
        nn.Residual(
            nn.Sequential(
                nn.Linear(width, width, dtype=dtype, generator=rng), nn.Dropout(dropout, masks)
            )
        ),
        nn.Linear(width, 2, dtype=dtype, generator=rng),
    )


def data(dtype=np.float64, n=N, seed=1):
    rng = RNG(seed)
    x = rng.normal(size=(n, 3)).astype(dtype)
    return x, (np.sin(x[:, :2]) + 0.3 * rng.normal(size=(n, 2))).astype(dtype)


class Run:
    """One side of a training, made anew each time: nothing is handed from run to run but states."""

    def __init__(self, side, make=OPTIMIZERS["SGD"], schedule=None, dtype=np.float64, **network_of):
        self.dtype, self.generator = dtype, RNG(2)
        self.net, self.criterion = network(dtype, **network_of), nn.MSELoss()
        self.optimizer = make(self.net.parameters())
        self.scheduler = schedule and schedule(self.optimizer)
        self.fit = training.fit
        if side == "torch":
            self.fit = reference.fit
            built = twins(self.net, self.criterion, self.optimizer)
            self.scheduler = self.scheduler and twin(self.scheduler, built[2])
            self.net, self.criterion, self.optimizer = built

    def __call__(self, epochs=6, **options):
        arguments = {"batch_size": 7, "validation": data(self.dtype, 9, 3), "patience": 50}
        arguments |= {"generator": self.generator, "scheduler": self.scheduler, **options}
        x, y = data(self.dtype)
        return self.fit(self.net, self.criterion, self.optimizer, x, y, epochs=epochs, **arguments)

    def everything(self):
        parts = [self.net, self.optimizer, *([self.scheduler] if self.scheduler else [])]
        drawn = [self.generator.bit_generator.state]
        for module in self.net.modules():
            if hasattr(module, "generator"):
                drawn.append(module.generator.bit_generator.state)
        return [part.state_dict() for part in parts], drawn


def alike(a, b):
    """Whether two nested states are, bit for bit and type for type, the same."""
    if isinstance(a, torch.Tensor):
        a, b = a.numpy(), b.numpy()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(v, w) for v, w in zip(a, b, strict=True))
    return a == b


def timeless(history):
    return [epoch[:3] for epoch in history.epochs], history.best, history.stopped


both = pytest.mark.parametrize("side", ["manual", "torch"])


def resumed_everywhere(side, **made):
    """Run on without a stop; then anew from the state after each epoch: the same end."""
    states, options = [], made.pop("options", {})
    whole = Run(side, **made)
    history = whole(checkpoint=lambda s: states.append(copy.deepcopy(s)), **options)
    assert len(states) == len(history.epochs) > 1
    plain = Run(side, **made)
    assert timeless(plain(**options)) == timeless(history)  # to be looked at changes nothing
    assert alike(plain.everything(), whole.everything())
    for state in states:
        kept, later = copy.deepcopy(state), []
        other = Run(side, **made)
        again = other(resume=state, checkpoint=later.append, **options)
        assert timeless(again) == timeless(history)
        assert alike(other.everything(), whole.everything())
        assert alike(state, kept)  # what was resumed from can be resumed from again
        for found, expected in zip(later[::-1], states[::-1], strict=False):
            assert without_seconds(found, expected)
        assert len(later) == len(states) - len(state["history"])
    return history, states


def without_seconds(a, b):
    a, b = ({**s, "history": [entry[:3] for entry in s["history"]]} for s in (a, b))
    return alike(a, b)


@both
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer(side, kind):
    resumed_everywhere(side, make=OPTIMIZERS[kind])


def test_a_number_of_torchs_in_another_dtype_than_the_weights():
    """NAdam multiplies a product up, in float32 whatever the weights are in."""

    def trained(**options):
        net = twin(network(dropout=0.0))
        optimizer = torch.optim.NAdam(net.parameters(), lr=0.01)
        arguments = {"batch_size": 5, "generator": RNG(2), **options}
        reference.fit(net, torch.nn.MSELoss(), optimizer, *data(), **arguments)
        return [p.detach().numpy() for p in net.parameters()]

    states = []
    whole = trained(epochs=6, checkpoint=states.append)
    for state in states[:-1]:
        for expected, found in zip(whole, trained(epochs=6, resume=state), strict=True):
            assert np.array_equal(expected, found)


@both
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["none", "step", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_schedules_and_dtypes(side, schedule, dtype):
    resumed_everywhere(side, schedule=schedule, dtype=dtype)


@both
@pytest.mark.parametrize(
    ("options", "stopped"),
    [
        ({"patience": None, "validation": None}, "epochs"),
        ({"patience": None}, "epochs"),
        ({"patience": None, "batch_size": None, "generator": None}, "epochs"),
        ({"patience": None, "tolerance": 0.006, "epochs": 60}, "tolerance"),
        ({"patience": 2, "epochs": 80}, "early stopping"),
        ({"callback": lambda epoch: epoch.epoch == 4}, "callback"),
    ],
)
def test_whatever_the_run_stops_for(side, options, stopped):
    make = partial(optim.SGD, lr=0.3 if stopped == "early stopping" else 0.02)
    history, states = resumed_everywhere(side, options=options, make=make, dropout=0.0)
    assert history.stopped == states[-1]["stopped"] == stopped
    assert {state["stopped"] for state in states[:-1]} == {"epochs"}
    if stopped == "early stopping":
        assert 1 < history.best < len(history.epochs)


@both
@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_any_bit_generator(side, kind):
    states = []
    whole, other = Run(side), Run(side)
    whole(3, checkpoint=states.append, generator=np.random.Generator(kind(4)))
    rng = np.random.Generator(kind(99))
    other(3, resume=states[0], generator=rng)
    assert alike(other.everything(), whole.everything())


def test_a_network_that_draws_from_torch_itself():
    """torch.nn.Dropout draws from torch's one generator."""
    x, y = data(np.float32)

    def run(epochs, **options):
        torch.manual_seed(options.pop("seed"))
        net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Dropout(), torch.nn.Linear(5, 2))
        net.load_state_dict(start)
        optimizer = torch.optim.Adam(net.parameters())
        options |= {"batch_size": 6, "generator": RNG(1)}
        reference.fit(net, torch.nn.MSELoss(), optimizer, x, y, epochs=epochs, **options)
        return net.state_dict()

    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Dropout(), torch.nn.Linear(5, 2))
    start, states = net.state_dict(), []
    expected = run(4, seed=7, checkpoint=states.append)
    assert alike(run(4, seed=8, resume=states[1]), expected)
    assert not alike(run(4, seed=8), expected)


@both
def test_more_epochs_than_were_asked_for_at_first(side):
    states = []
    whole, short, longer = Run(side), Run(side), Run(side)
    whole(6)
    short(3, checkpoint=states.append)
    longer(6, resume=states[-1])
    assert alike(longer.everything(), whole.everything())
    with pytest.raises(ResumeError, match="cannot resume: the state is of epoch 3, after epochs=2"):
        Run(side)(2, resume=states[-1])


def spoilt(state, path, value):
    """A copy with `value` at the path; without what is there for None."""
    state = copy.deepcopy(state)
    at = state
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return state


BAD = [
    (["network", "0.weight"], None, r"the state's network has \['0.bias'"),
    (["network", "0.weight"], np.ones((6, 4)), r"float64 of shape \(6, 4\), expected .*\(6, 3\)"),
    (["network", "0.weight"], np.ones((6, 3), np.float32), "is float32 of .* expected float64"),
    (["network", "0.weight"], "text", "is no array: str"),
    (["network", "9.weight"], np.ones(3), "'9.weight'"),
    (["best_network", "5.bias"], np.ones(3), "5.bias of the state's best_network is float64"),
    (["best_network"], None, "the state has .* expected .*best_network"),
    (["best"], 9, "best epoch is 9 of 3"),
    (["best"], 0, "best epoch is 0 of 3"),
    (["best"], True, "best epoch is True"),
    (["stopped"], "bedtime", "stopped for 'bedtime'"),
    (["history", 1], [3, 0.1, 0.1, 0.1], "does not count its epochs from 1"),
    (["history", 1], [2, 0.1, "x", 0.1], "history is no list"),
    (["history", 1], [2, 0.1, float, 0.1], "history is no list"),
    (["history"], 3, "history is no list"),
    (["optimizer", "param_groups"], [], "fit: cannot resume"),
    (["optimizer", "param_groups", 0, "lr"], None, "fit: cannot resume"),
    (["optimizer"], None, "expected .*optimizer"),
    (["generator"], {"bit_generator": "PCG64"}, "fit: cannot resume"),
    (["generator", "bit_generator"], "MT19937", "fit: cannot resume"),
    (["generator", "state", "state"], "text", "fit: cannot resume"),
    (["generators", "3.generator"], None, "the state has generators .* the network"),
    (["generators", "3.generator", "bit_generator"], "MT19937", "fit: cannot resume"),
    (["about", "network"], "Sequential()", r"network is 'Sequential\(.*the state's is 'Sequen"),
    (["about", "batch_size"], 8, "batch_size is 7, but the state's is 8"),
    (["about", "samples"], 21, "samples is 20"),
    (["about", "patience"], 3, "patience is 50"),
    (["about", "criterion"], "L1Loss()", r"criterion is 'MSELoss\(\)'"),
    (["about", "optimizer"], "Adam", "optimizer is 'SGD'"),
    (["about"], 5, "fit: cannot resume"),
]


@both
@pytest.mark.parametrize(("path", "value", "text"), BAD, ids=lambda v: str(v)[:30])
def test_a_state_that_does_not_fit_changes_nothing(side, path, value, text):
    states = []
    Run(side)(3, checkpoint=states.append)
    run = Run(side)
    before = copy.deepcopy(run.everything())
    with pytest.raises(ResumeError, match=text) as caught:
        run(resume=spoilt(states[-1], path, value))
    assert "\n" not in str(caught.value)
    assert alike(run.everything(), before)


@both
def test_the_state_of_another_run_is_refused(side):
    states = {}
    made = {"wide": {"width": 8}, "relu": {"activation": nn.ReLU}, "float32": {"dtype": np.float32}}
    made |= {"Adam": {"make": OPTIMIZERS["Adam"]}, "scheduled": {"schedule": SCHEDULES[1]}}
    for name, options in made.items():
        Run(side, **options)(1, checkpoint=partial(states.__setitem__, name))
    for name, state in states.items():
        with pytest.raises(ResumeError, match="fit: cannot resume"):
            Run(side)(resume=state)
        Run(side, **made[name])(resume=state)
    with pytest.raises(ResumeError, match=r"fit: cannot resume: expected a state .*got int"):
        Run(side)(resume=3)
    other = "torch" if side == "manual" else "manual"
    Run(other)(1, checkpoint=partial(states.__setitem__, "other"))
    with pytest.raises(ResumeError, match="fit: cannot resume"):
        Run(side)(resume=states["other"])


@both
def test_a_schedule_without_a_state_trains_but_cannot_be_resumed(side):
    class Plain:
        def step(self):
            pass

    run = Run(side)
    run.scheduler = Plain()
    run(2)
    with pytest.raises(TypeError, match=r"needs a scheduler with state_dict .*; Plain has none"):
        run(2, checkpoint=print)
