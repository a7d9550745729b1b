"""Arrays are used again, but never one that somebody holds; and a training step allocates nothing
that grows with the batch."""

import copy
import gc
import pickle
import tracemalloc

import numpy as np
import pytest

from manual import nn, optim
from manual.nn.workspace import COPIES, SHAPES, Workspace

FLOAT = np.dtype(np.float32)


def test_an_array_that_nobody_holds_is_handed_out_again():
    workspace = Workspace()
    first = workspace.empty((3, 4), FLOAT)
    place = first.ctypes.data
    assert workspace.empty((3, 4), FLOAT).ctypes.data != place
    del first
    assert workspace.empty((3, 4), FLOAT).ctypes.data == place


@pytest.mark.parametrize(
    "view", [lambda a: a[1:], lambda a: a.T, lambda a: a.reshape(-1)[3], memoryview, lambda a: [a]]
)
def test_an_array_is_held_by_whatever_shows_it(view):
    workspace = Workspace()
    array = workspace.empty((3, 4), FLOAT)
    array[...] = 7
    place, held = array.ctypes.data, view(array)
    del array
    other = workspace.empty((3, 4), FLOAT)
    if not isinstance(held, np.generic):  # a number is a copy
        assert other.ctypes.data != place


def test_shape_and_dtype_are_those_asked_for():
    workspace = Workspace()
    for shape in [(), (0, 3), (2,), (2, 3)]:
        for dtype in (np.float32, np.float64, np.longdouble, np.bool_, np.intp):
            array = workspace.empty(shape, np.dtype(dtype))
            assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
            assert array.flags.c_contiguous


def test_ones_are_kept_and_cannot_be_changed():
    workspace = Workspace()
    ones = workspace.ones(3, FLOAT)
    assert ones.dtype == FLOAT
    assert list(ones) == [1, 1, 1]
    assert workspace.ones(3, FLOAT) is ones
    assert workspace.ones(3, np.dtype(np.float64)).dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        ones += 1
    for n in range(2 * SHAPES):
        workspace.ones(n, FLOAT)
    assert len(workspace._ones) == SHAPES


def test_it_keeps_few():
    workspace = Workspace()
    held = [workspace.empty((5,), FLOAT) for _ in range(2 * COPIES)]
    assert len({array.ctypes.data for array in held}) == 2 * COPIES
    assert sum(map(len, workspace._kept.values())) == COPIES
    for n in range(2 * SHAPES):
        workspace.empty((n, 2), FLOAT)
    assert len(workspace._kept) == SHAPES


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_a_copy_has_a_workspace_of_its_own(copied):
    module = nn.Tanh()
    y = module(np.ones((2, 3), np.float32))
    other = copied(module)
    held = y.copy()
    other(np.zeros((2, 3), np.float32))
    assert np.array_equal(y, held)


def test_what_a_module_returned_stays_as_long_as_it_is_held():
    net = nn.Sequential(nn.Linear(3, 4, generator=np.random.default_rng(0)), nn.ReLU())
    outputs = [net(np.full((2, 3), k, np.float32)) for k in range(5)]
    copies = [y.copy() for y in outputs]
    for k in range(5):
        net(np.full((2, 3), -k, np.float32))
        assert np.array_equal(outputs[k], copies[k])
    gradients = [net.backward(np.full((2, 4), k, np.float32)) for k in range(5)]
    copies = [dx.copy() for dx in gradients]
    net.backward(np.ones((2, 4), np.float32))
    assert all(map(np.array_equal, gradients, copies))


MODULES = {
    "Linear": lambda: nn.Linear(8, 8),
    "Identity": nn.Identity,
    "Flatten": nn.Flatten,
    "Sigmoid": nn.Sigmoid,
    "LogSigmoid": nn.LogSigmoid,
    "Tanh": nn.Tanh,
    "Arctan": nn.Arctan,
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "PReLU": nn.PReLU,
    "PReLU of 8": lambda: nn.PReLU(8),
    "ELU": nn.ELU,
    "Softplus": nn.Softplus,
    "SiLU": nn.SiLU,
    "GELU": nn.GELU,
    "GELU tanh": lambda: nn.GELU("tanh"),
    "Softmax": lambda: nn.Softmax(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "Maxout": nn.Maxout,
    "Step": nn.Step,
    "Dropout": nn.Dropout,
    "BatchNorm1d": lambda: nn.BatchNorm1d(8),
    "Residual": lambda: nn.Residual(nn.Linear(8, 8)),
}
CRITERIA = {
    "HalfSquaredError": nn.HalfSquaredError,
    "SumSquaredError": nn.SumSquaredError,
    "MSELoss": nn.MSELoss,
    "L1Loss": nn.L1Loss,
    "BCELoss": nn.BCELoss,
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss,
    "NLLLoss": nn.NLLLoss,
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "CrossEntropyLoss smoothed": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "CrossEntropyLoss weighted": lambda: nn.CrossEntropyLoss(np.arange(8, dtype=np.float32)),
}


def allocated(step) -> int:
    """The bytes that a step has at most beyond those before it, when it has run twice."""
    for _ in range(3):
        step()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def grows(make_step) -> int:
    """By how much more memory a step takes with a batch of 16,384 than with one of 4,096."""
    return allocated(make_step(16384)) - allocated(make_step(4096))


@pytest.mark.parametrize("name", MODULES)
def test_no_module_allocates_with_the_batch(name):
    def make_step(n):
        module, x = MODULES[name](), np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
        dy = np.ones_like(module(x))

        def step():
            module(x)
            module.backward(dy)

        return step

    assert grows(make_step) < 4096


@pytest.mark.parametrize("name", CRITERIA)
def test_no_loss_allocates_with_the_batch(name):
    def make_step(n):
        generator, criterion = np.random.default_rng(0), CRITERIA[name]()
        prediction = generator.uniform(0.1, 0.9, (n, 8)).astype(np.float32)
        target = generator.uniform(0.1, 0.9, (n, 8)).astype(np.float32)
        if isinstance(criterion, nn.NLLLoss | nn.CrossEntropyLoss):
            target = generator.integers(0, 8, n)

        def step():
            criterion(prediction, target)
            criterion.backward()

        return step

    assert grows(make_step) < 4096


def test_a_training_step_allocates_nothing_with_the_batch():
    def make_step(n):
        generator = np.random.default_rng(0)
        net = nn.Sequential(
            nn.Linear(20, 16, generator=generator),
            nn.ReLU(),
            nn.Linear(16, 10, generator=generator),
        )
        criterion, optimizer = nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1)
        x = generator.normal(size=(n, 20)).astype(np.float32)
        y = generator.integers(0, 10, n)

        def step():
            prediction = net(x)
            criterion(prediction, y)
            net.backward(criterion.backward())
            optimizer.step()

        return step

    assert grows(make_step) < 4096
