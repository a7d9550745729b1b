"""Arrays are used again, but never one that somebody holds; and a training step allocates nothing
that grows with the batch."""

import copy
import gc
import pickle
import tracemalloc
from functools import partial

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


@pytest.mark.parametrize("value", [1, -1, 0, 2.5])
def test_full_arrays_are_kept_and_cannot_be_changed(value):
    workspace = Workspace()
    full = workspace.full(3, value, FLOAT)
    assert full.dtype == FLOAT
    assert list(full) == [value] * 3
    assert workspace.full(3, value, FLOAT) is full
    assert workspace.full((3, 2), value, np.dtype(np.float64)).shape == (3, 2)
    assert workspace.full(3, value, np.dtype(np.float64)).dtype == np.float64
    assert list(workspace.full(3, value + 1, FLOAT)) == [value + 1] * 3
    with pytest.raises(ValueError, match="read-only"):
        full += 1
    for n in range(2 * SHAPES):
        workspace.full(n, value, FLOAT)
    assert len(workspace._full) == SHAPES


def test_an_array_of_a_class_of_its_own_changes_nothing():
    class Own(np.ndarray):
        pass

    module = nn.ReLU()
    module(np.ones((2, 3)))
    workspace = module._workspace
    module(np.ones((2, 3)).view(Own))
    assert module._workspace is workspace


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
    "BatchNorm1d in evaluation": lambda: nn.BatchNorm1d(8).eval(),
    "Residual": lambda: nn.Residual(nn.Linear(8, 8)),
}
CRITERIA = {
    "HalfSquaredError": nn.HalfSquaredError,
    "SumSquaredError": nn.SumSquaredError,
    "MSELoss": nn.MSELoss,
    "MSELoss of each": lambda: nn.MSELoss("none"),
    "L1Loss": nn.L1Loss,
    "BCELoss": nn.BCELoss,
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss,
    "BCEWithLogitsLoss weighted": lambda: nn.BCEWithLogitsLoss(
        pos_weight=np.arange(8, dtype=np.float32)
    ),
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

        dloss = np.ones_like(criterion(prediction, target))

        def step():
            criterion(prediction, target)
            criterion.backward(dloss)

        return step

    assert grows(make_step) < 4096


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
@pytest.mark.parametrize("name", MODULES | CRITERIA)
def test_what_is_worked_in_has_the_digits_of_the_input(name, dtype, monkeypatch):
    empty, dtypes = Workspace.empty, set()
    monkeypatch.setattr(
        Workspace, "empty", lambda self, *given: dtypes.add(given[1]) or empty(self, *given)
    )
    generator = np.random.default_rng(0)
    x = generator.uniform(0.1, 0.9, (5, 8)).astype(dtype)
    if name in MODULES:
        module = MODULES[name]().to(dtype)
        module.backward(np.ones_like(module(x)))
    else:
        criterion, y = CRITERIA[name](), x[::-1]
        for attribute in ("weight", "pos_weight"):
            if getattr(criterion, attribute, None) is not None:
                setattr(criterion, attribute, getattr(criterion, attribute).astype(dtype))
        if isinstance(criterion, nn.NLLLoss | nn.CrossEntropyLoss):
            y = generator.integers(0, 8, 5)
        criterion.backward(np.ones_like(criterion(x, y)))
    assert dtypes <= {x.dtype, bool, np.intp, *([float] if name == "Dropout" else [])}


UPDATES = {
    "SGD": optim.SGD,
    "SGD with all": partial(optim.SGD, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": partial(optim.Adam, weight_decay=0.1, amsgrad=True),
    "AdamW": partial(optim.AdamW, maximize=True),
    "RMSprop": partial(optim.RMSprop, momentum=0.9, centered=True, weight_decay=0.1, maximize=True),
    "Adagrad": partial(optim.Adagrad, maximize=True),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_allocates_nothing_that_grows_with_the_parameters(name):
    def make_step(n):
        p = nn.Parameter(np.ones(n, np.float32))
        p.grad = np.ones(n, np.float32)
        return UPDATES[name]([p], lr=0.1).step

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
