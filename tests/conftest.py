"""What several test files need. Session scope, so that hypothesis may use them too."""

import copy

import numpy as np
import pytest
import threadpoolctl
import torch
from hypothesis import Phase, settings

from compare.device import require
from manual.arrays import DeviceError
from torch_ref import twin

# The same examples in every run; `--hypothesis-profile random` looks further.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("random", print_blob=True)
# For mutants: a failing example is enough, nobody wants it small.
settings.register_profile(
    "mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("fixed")

# These networks are too small for two threads, which on a busy machine wait for one another.
torch.set_num_threads(1)
threadpoolctl.threadpool_limits(1)


def pytest_collection_modifyitems(items):
    """What needs a GPU is skipped, with the reason, where CuPy or torch cannot use one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        require("cuda")
    except DeviceError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))


def laid_out(kind, array):
    """The same values in another memory layout, read-only: who writes into them fails."""
    if kind == "contiguous" or array.ndim == 0:
        out = array.copy()
    elif kind == "transposed":
        out = np.ascontiguousarray(array.T).T
    elif kind == "strided":
        gaps = np.nan if array.dtype.kind == "f" else 99
        out = np.full([2 * n for n in array.shape], gaps, array.dtype)
        out = out[(slice(None, None, 2),) * array.ndim]
        out[...] = array
    else:
        back = (slice(None, None, -1),) * array.ndim
        out = array[back].copy()[back]
    assert np.array_equal(out, array, equal_nan=True)
    out.flags.writeable = False
    return out


@pytest.fixture(scope="session", params=["contiguous", "transposed", "strided", "reversed"])
def layout(request):
    """layout(array): a read-only copy in one of four memory layouts."""
    return lambda array: laid_out(request.param, array)


@pytest.fixture(scope="session")
def in_torch():
    """in_torch(module, x, dy) → (y, dx, {name: gradient}): the twin, in float64, from copies."""

    def run(module, x, dy):
        net = twin(module, dtype=torch.float64)
        tx = torch.tensor(np.array(x, np.float64, order="C"), requires_grad=True)
        y = net(tx)
        y.backward(torch.tensor(np.array(dy, np.float64, order="C")))
        grads = {name: p.grad.numpy() for name, p in net.named_parameters()}
        return y.detach().numpy(), tx.grad.numpy(), grads

    return run


@pytest.fixture(scope="session")
def slope():
    """slope(f, x) → ∂f/∂x of a scalar f by central differences in longdouble.

    The step h leaves h² f'''/6 ~ 1e-11 of truncation and at most eps/h ~ 1e-11 of rounding
    (where longdouble is float64), for f and x of size 1: good to 1e-9.
    """

    def differences(f, x):
        h, x = np.longdouble(1e-5), np.array(x, np.longdouble)
        out = np.empty_like(x)
        for at in np.ndindex(x.shape):
            kept = x[at]
            x[at] = kept + h
            above = f(x)
            x[at] = kept - h
            out[at] = (above - f(x)) / (2 * h)
            x[at] = kept
        return out

    return differences


@pytest.fixture(scope="session")
def check_loss():
    """check_loss(criterion, prediction, target, allowed, seed, slope_allowed): value and gradient
    against the twin in float64, for a random cotangent of both signs. allowed: of the loss, and
    (unless slope_allowed is given) of the gradient, for cotangents of size 1. Returns (loss,
    dprediction)."""

    def check(criterion, prediction, target, allowed, seed=0, slope_allowed=None):
        shape = criterion(prediction, target).shape
        dloss = np.random.default_rng(seed).normal(size=shape).astype(prediction.dtype)
        dloss = np.asarray(dloss)
        dloss.flags.writeable = False
        loss = criterion(prediction, target)
        dz = criterion.backward(dloss)
        assert isinstance(dz, np.ndarray)
        assert loss.dtype == dz.dtype == prediction.dtype
        assert np.array_equal(criterion.backward(dloss), dz)
        expected, expected_dz = loss_in_torch(criterion, prediction, target, dloss)
        assert loss.shape == expected.shape
        assert dz.shape == expected_dz.shape == prediction.shape
        assert (np.abs(loss - expected) <= allowed).all()
        slope_allowed = allowed if slope_allowed is None else slope_allowed
        size = np.abs(dloss).max(initial=1)
        assert (np.abs(dz - expected_dz) <= slope_allowed * size).all()
        return loss, dz

    return check


def loss_in_torch(criterion, prediction, target, dloss):
    """(loss, dprediction) of the twin in float64, from copies."""
    criterion = copy.copy(criterion)
    for name, value in vars(criterion).items():
        if isinstance(value, np.ndarray):
            setattr(criterion, name, value.astype(np.float64))
    z = torch.tensor(np.array(prediction, np.float64, order="C"), requires_grad=True)
    kind = np.int64 if np.asarray(target).dtype.kind in "iu" else np.float64
    loss = twin(criterion)(z, torch.tensor(np.array(target, kind, order="C")))
    loss.backward(torch.tensor(np.array(dloss, np.float64)))
    return loss.detach().numpy(), z.grad.numpy()
