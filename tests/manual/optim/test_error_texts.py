"""What is refused is refused with the whole of one clear message."""

import numpy as np
import pytest

from manual import nn, optim
from manual.optim import lr_scheduler

P, Q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))
NARROW = nn.Parameter(np.ones(2, np.float32))
SGD_OPTIONS = "lr, momentum, dampening, weight_decay, nesterov, maximize"


def loaded(kind, change, **options):
    """Load a state of one step with one change."""
    optimizer = getattr(optim, kind)([P], **options)
    P.grad = np.ones(2)
    optimizer.step(lambda: 1.0)
    state = optimizer.state_dict()
    change(state)
    optimizer.load_state_dict(state)


def added(**group):
    optim.SGD([P]).add_param_group(group)


def scheduled(**options):
    return lr_scheduler.StepLR(optim.SGD([P]), 3, **options)


MESSAGES = [
    (
        lambda: optim.SGD(P),
        "params must be an iterable of parameters or of dicts, got one Parameter",
    ),
    (lambda: optim.SGD([]), "the optimizer got no parameters"),
    (lambda: optim.SGD([{"params": P}, Q]), "a parameter group is a dict, got Parameter"),
    (
        lambda: added(lr=1, rate=2),
        f"a parameter group has 'params' and any of {SGD_OPTIONS}; got 'lr', 'rate'",
    ),
    (
        lambda: added(params={Q}),
        "a group's params need an order that stays, got a set",
    ),
    (lambda: added(params=[Q, 1]), "an optimizer updates Parameters, got int"),
    (lambda: added(params=[P]), "a parameter of shape (2,) was given twice"),
    (
        lambda: added(params=[Q, NARROW]),
        "a parameter group needs parameters, all of one dtype",
    ),
    (
        lambda: optim.SGD([P], nesterov=True),
        "SGD: nesterov needs momentum > 0 and dampening 0, got momentum=0, dampening=0",
    ),
    (lambda: optim.Adam([P], betas=1), "Adam: betas must be two numbers, got 1"),
    (
        lambda: optim.AdamW([P], betas=(0.5, 1)),
        "AdamW: betas[1] must be a finite number >= 0 and < 1, got 1",
    ),
    (lambda: optim.Adam([P], lr="1"), "Adam: lr must be a number, got '1'"),
    (lambda: optim.Adam([P], lr=-1), "Adam: lr must be a finite number >= 0, got -1"),
    (
        lambda: optim.SGD([P], dampening=np.inf),
        "SGD: dampening must be a finite number, got inf",
    ),
    (
        lambda: loaded("SGD", lambda state: state.pop("state")),
        "SGD: the state dict needs 'state' and 'param_groups', got ['param_groups']",
    ),
    (
        lambda: loaded("SGD", lambda state: state["param_groups"][0]["params"].append(1)),
        "SGD: the state dict has groups of [2] parameters, expected [1]",
    ),
    (
        lambda: loaded("SGD", lambda state: state["state"].update({5: {}})),
        "SGD: the state dict has a state for [5], its parameters are [0]",
    ),
    (
        lambda: loaded("SGD", lambda state: state["param_groups"][0].pop("maximize")),
        "SGD: the state dict has the options lr, momentum, dampening, weight_decay, nesterov, "
        f"expected {SGD_OPTIONS}",
    ),
    (
        lambda: loaded("Adagrad", lambda state: state["state"][0].pop("step")),
        "Adagrad: the state dict has ['sum'] for parameter 0 of a group, expected ['step', 'sum']",
    ),
    (
        lambda: loaded("Adagrad", lambda state: state["state"][0].update(sum=np.ones(3))),
        "Adagrad: the state dict: sum of parameter 0 of a group has shape (3,) and dtype float64, "
        "expected shape (2,) and real numbers",
    ),
    (
        lambda: loaded("Adagrad", lambda state: state["state"][0].update(step=-1)),
        "Adagrad: the state dict: step must be a finite number >= 0, got -1.0",
    ),
    (lambda: optim.LBFGS([P], max_iter="1"), "LBFGS: max_iter must be a number, got '1'"),
    (lambda: optim.LBFGS([P], max_iter=-1), "LBFGS: max_iter must be a finite number >= 0, got -1"),
    (lambda: optim.LBFGS([P], max_iter=1.5), "LBFGS: max_iter must be a whole number, got 1.5"),
    (lambda: optim.LBFGS([P], max_eval=1.5), "LBFGS: max_eval must be a whole number, got 1.5"),
    (
        lambda: optim.LBFGS([P], history_size=1.5),
        "LBFGS: history_size must be a whole number, got 1.5",
    ),
    (
        lambda: optim.LBFGS([P], line_search_fn="weak"),
        "LBFGS: line_search_fn is None or 'strong_wolfe', got 'weak'",
    ),
    (
        lambda: optim.LBFGS([{"params": P}, {"params": Q}]),
        "LBFGS: all parameters are one group, with one set of options",
    ),
    (
        lambda: loaded("LBFGS", lambda state: state["state"][0].pop("d")),
        "LBFGS: the state dict has ['H_diag', 'func_evals', 'n_iter', 'old_dirs', 'old_stps', "
        "'prev_flat_grad', 'prev_loss', 'ro', 't'], expected ['H_diag', 'd', 'func_evals', "
        "'n_iter', 'old_dirs', 'old_stps', 'prev_flat_grad', 'prev_loss', 'ro', 't']",
    ),
    (
        lambda: loaded("LBFGS", lambda state: state["state"][0].update(d=np.ones(3))),
        "LBFGS: the state dict: d has shape (3,) and dtype float64, expected shape (2,) and real "
        "numbers",
    ),
    (
        lambda: loaded("LBFGS", lambda state: state["state"][0].update(ro=[1.0])),
        "LBFGS: the state dict has old_dirs, old_stps, ro of different lengths",
    ),
    (
        lambda: optim.clip_grad_norm_([1], 1.0),
        "gradients to clip are those of Parameters, got int",
    ),
    (lambda: optim.clip_grad_norm_([P], np.nan), "max_norm must be a number, got nan"),
    (lambda: optim.clip_grad_norm_([P], 1, np.nan), "norm_type must be a number, got nan"),
    (lambda: optim.clip_grad_value_([P], np.nan), "clip_value must be a number, got nan"),
    (lambda: lr_scheduler.StepLR(1, 3), "int is not an Optimizer"),
    (lambda: lr_scheduler.StepLR(optim.SGD([P]), 0), "StepLR: step_size must not be 0"),
    (lambda: scheduled(gamma=-1), "StepLR: gamma must be a finite number >= 0, got -1"),
    (
        lambda: scheduled().load_state_dict({"gamma": 1}),
        "StepLR: the state dict has ['gamma'], expected ['_last_lr', 'base_lrs', 'gamma', "
        "'last_epoch', 'step_size']",
    ),
    (
        lambda: scheduled().load_state_dict({**scheduled().state_dict(), "base_lrs": []}),
        "StepLR: the state dict has base_lrs for 0 groups, the optimizer has 1",
    ),
    (
        lambda: lr_scheduler.CosineAnnealingLR(optim.SGD([P]), 0),
        "CosineAnnealingLR: T_max must not be 0",
    ),
    (
        lambda: lr_scheduler.CosineAnnealingLR(optim.SGD([P]), 3, np.inf),
        "CosineAnnealingLR: eta_min must be a finite number, got inf",
    ),
    (
        lambda: lr_scheduler.ExponentialLR(optim.SGD([P]), -1),
        "ExponentialLR: gamma must be a finite number >= 0, got -1",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_the_whole_message(call, message):
    with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
        call()
    assert str(error.value) == message
