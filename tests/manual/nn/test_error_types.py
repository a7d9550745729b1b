"""What torch refuses is refused here with an error that is one of torch's type too."""

import numpy as np
import pytest
import torch

from manual import nn

ONE_ARGUMENT = {"BatchNorm1d": (3,), "Linear": (3, 2), "Softmax": (1,), "LogSoftmax": (1,)}
MODULES = ["BatchNorm1d", "ELU", "GELU", "LeakyReLU", "Linear", "LogSigmoid", "LogSoftmax"]
MODULES += ["PReLU", "SiLU", "Softmax", "Softplus"]  # torch takes integers in the other ones
CRITERIA = ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "NLLLoss", "CrossEntropyLoss"]


def refusal(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError(f"{call} took {arguments}")


@pytest.mark.parametrize("name", MODULES + CRITERIA)
def test_integers(name):
    """torch: now RuntimeError, now NotImplementedError."""
    ours, theirs = (getattr(home, name)(*ONE_ARGUMENT.get(name, ())) for home in (nn, torch.nn))
    x = (np.ones((2, 3), int),) if name in MODULES else (np.ones((2, 3), int),) * 2
    if name in ("NLLLoss", "CrossEntropyLoss"):
        x = x[0], np.array([0, 1])
    error = refusal(ours, *x)
    assert isinstance(error, type(refusal(theirs, *map(torch.from_numpy, x))))
    assert isinstance(error, TypeError)
    assert "float32, float64 or longdouble, got int64" in str(error)
    assert ours.saved is None


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss"])
def test_no_dloss_for_an_array_of_losses(name):
    ours, theirs = (getattr(home, name)(reduction="none") for home in (nn, torch.nn))
    p = np.full(3, 0.5)
    ours(p, p)
    loss = theirs(torch.tensor(p, requires_grad=True), torch.tensor(p))
    assert isinstance(refusal(ours.backward), type(refusal(loss.backward)))


@pytest.mark.parametrize("bad", [1.5, np.nan, None, "1", True, [1]], ids=repr)
@pytest.mark.parametrize("kind", [nn.NLLLoss, nn.CrossEntropyLoss])
def test_ignore_index_is_a_whole_number(kind, bad):
    """TypeError is torch's type. A 1.5 or a NaN would ignore nothing, and say nothing."""
    with pytest.raises(TypeError, match="ignore_index must be a whole number, got"):
        kind(ignore_index=bad)
    taken = kind(ignore_index=np.int64(3)).ignore_index
    assert (type(taken), taken) == (int, 3)


def test_label_smoothing():
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=1.5)
    expected = refusal(theirs, torch.ones(2, 3), torch.tensor([0, 1]))
    assert isinstance(refusal(lambda: nn.CrossEntropyLoss(label_smoothing=1.5)), type(expected))


@pytest.mark.parametrize("index", [2, -3, 10**20])
def test_a_module_that_is_not_there(index):
    ours, theirs = (home.Sequential(home.ReLU(), home.Tanh()) for home in (nn, torch.nn))
    error = refusal(lambda: ours[index])
    assert isinstance(error, type(refusal(lambda: theirs[index])))
    assert f"index {index} is out of range for 2 modules" in str(error)
    assert (repr(ours[-2]), repr(ours[1])) == ("ReLU()", "Tanh()")


EVERY_MODULE = [
    *(nn.Arctan(), nn.BatchNorm1d(4), nn.Dropout(), nn.ELU(), nn.Flatten(), nn.GELU()),
    *(nn.Identity(), nn.LeakyReLU(), nn.Linear(4, 3), nn.LogSigmoid(), nn.LogSoftmax(1)),
    *(nn.Maxout(), nn.PReLU(), nn.ReLU(), nn.Residual(nn.Tanh()), nn.Sequential(), nn.SiLU()),
    *(nn.Sigmoid(), nn.Softmax(1), nn.Softplus(), nn.Step(), nn.Tanh()),
]
EVERY_CRITERION = [
    *(nn.BCELoss, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.HalfSquaredError, nn.L1Loss),
    *(nn.MSELoss, nn.NLLLoss, nn.SumSquaredError),
]


def kinds_of(base):
    found = {
        kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, base)
    }
    return found - {base}


def test_every_module_and_criterion_is_below():
    assert {type(module) for module in EVERY_MODULE} == kinds_of(nn.Module)
    assert set(EVERY_CRITERION) == kinds_of(nn.Criterion)


@pytest.mark.parametrize("module", EVERY_MODULE, ids=lambda module: type(module).__name__)
def test_a_module_says_where(module):
    name, given = type(module).__name__, "expected a NumPy array, got list"
    assert str(refusal(module, [[1.0]])) == f"{name}: x: {given}"
    module(np.ones((2, 4), np.float32))
    assert str(refusal(module.backward, [[1.0]])) == f"{name}: dy: {given}"
    if name != "Sequential":  # without modules it has no gradients to compute
        assert str(refusal(module.backward_parameters, [[1.0]])) == f"{name}: dy: {given}"


@pytest.mark.parametrize("kind", EVERY_CRITERION)
def test_a_criterion_says_where(kind):
    name, given = kind.__name__, "expected a NumPy array, got list"
    criterion, p = kind(), np.full((2, 3), 0.5)
    target = np.array([0, 2]) if kind in (nn.NLLLoss, nn.CrossEntropyLoss) else p
    assert str(refusal(criterion, [[0.5]], target)) == f"{name}: prediction: {given}"
    criterion(p, target)
    assert str(refusal(criterion.backward, [1.0])) == f"{name}: dloss: {given}"
    if kind not in (nn.NLLLoss, nn.CrossEntropyLoss):
        assert str(refusal(criterion, p, [[0.5]])) == f"{name}: target: {given}"


ONES, SHARED = np.ones((2, 3)), nn.Tanh()
WHOLE_MESSAGES = [
    (lambda: nn.Flatten("1"), "Flatten: start_dim must be a whole number, got '1'"),
    (lambda: nn.Flatten(1, "1"), "Flatten: end_dim must be a whole number, got '1'"),
    (lambda: nn.Sequential()["1"], "Sequential: index must be a whole number, got '1'"),
    (
        lambda: nn.Sequential({"a": SHARED, "b": SHARED}),
        "Sequential: 'a' and 'b' are the same object; give each place its own",
    ),
    (
        lambda: nn.Residual(nn.Maxout(2))(np.ones((1, 2))),
        "Residual: module(x), to be added to x: expected shape (1, 2), got (1, 1)",
    ),
    (lambda: nn.Linear("1", 2), "Linear: in_features must be a whole number >= 0, got '1'"),
    (lambda: nn.Linear(1, "2"), "Linear: out_features must be a whole number >= 0, got '2'"),
    (
        lambda: nn.Linear(1, 2, dtype=int),
        "Linear: dtype must be float32, float64 or longdouble, got int64",
    ),
    (
        lambda: nn.Linear(1, 2, generator=1),
        "Linear: generator must be a numpy.random.Generator, got int",
    ),
    (lambda: nn.PReLU("1"), "PReLU: num_parameters must be a whole number >= 1, got '1'"),
    (lambda: nn.PReLU(1, "a"), "PReLU: init must be a finite number, got 'a'"),
    (
        lambda: nn.PReLU(dtype=int),
        "PReLU: dtype must be float32, float64 or longdouble, got int64",
    ),
    (lambda: nn.LeakyReLU("a"), "LeakyReLU: negative_slope must be a finite number, got 'a'"),
    (lambda: nn.Maxout("1"), "Maxout: pieces must be a whole number >= 1, got '1'"),
    (lambda: nn.ELU("a"), "ELU: alpha must be a finite number, got 'a'"),
    (lambda: nn.Softplus("a"), "Softplus: beta must be a finite number, got 'a'"),
    (lambda: nn.Softplus(1, "a"), "Softplus: threshold must be a finite number, got 'a'"),
    (lambda: nn.Dropout(0.5, 1), "Dropout: generator must be a numpy.random.Generator, got int"),
    (lambda: nn.BatchNorm1d("1"), "BatchNorm1d: num_features must be a whole number >= 0, got '1'"),
    (
        lambda: nn.BatchNorm1d(1, dtype=int),
        "BatchNorm1d: dtype must be float32, float64 or longdouble, got int64",
    ),
    (
        lambda: nn.BatchNorm1d(3)(np.ones((1, 3), np.float32)),
        "BatchNorm1d: expected more than 1 value per channel when the batch's own statistics are "
        "used, got shape (1, 3)",
    ),
    (lambda: nn.Softmax("1"), "Softmax: dim must be a whole number or None, got '1'"),
    (lambda: nn.LogSoftmax("1"), "LogSoftmax: dim must be a whole number or None, got '1'"),
    (lambda: nn.BCELoss([1.0]), "BCELoss: weight: expected a NumPy array, got list"),
    (
        lambda: nn.BCEWithLogitsLoss(pos_weight=[1.0]),
        "BCEWithLogitsLoss: pos_weight: expected a NumPy array, got list",
    ),
    (
        lambda: nn.BCELoss(ONES)(np.ones(3), np.ones(3)),
        "BCELoss: weight: expected a shape that broadcasts to (3,), got (2, 3)",
    ),
    (
        lambda: nn.BCEWithLogitsLoss(pos_weight=ONES)(np.ones(3), np.ones(3)),
        "BCEWithLogitsLoss: pos_weight: expected a shape that broadcasts to (3,), got (2, 3)",
    ),
    (
        lambda: nn.BCELoss()(2 * ONES, ONES),
        "BCELoss: prediction: expected probabilities in [0, 1], got 2.0 at (0, 0)",
    ),
    (
        lambda: nn.BCELoss()(ONES, -ONES),
        "BCELoss: target: expected probabilities in [0, 1], got -1.0 at (0, 0)",
    ),
    (lambda: nn.NLLLoss([1.0]), "NLLLoss: weight: expected a NumPy array, got list"),
    (
        lambda: nn.NLLLoss(np.ones(2))(ONES, np.array([0, 1])),
        "NLLLoss: weight: expected shape (3,), got (2,)",
    ),
    (
        lambda: nn.NLLLoss(ignore_index="1"),
        "NLLLoss: ignore_index must be a whole number, got '1'",
    ),
    (
        lambda: nn.CrossEntropyLoss()(ONES, np.ones((2, 3), int)),
        "CrossEntropyLoss: target (class probabilities): expected float32, float64 or longdouble, "
        "got int64",
    ),
    (
        lambda: nn.CrossEntropyLoss(ignore_index=1)(ONES, ONES),
        "CrossEntropyLoss: ignore_index 1 needs class indices as the target, got class "
        "probabilities",
    ),
    (
        lambda: nn.CrossEntropyLoss()(ONES, np.array([-100, -100])),
        "CrossEntropyLoss: no target counts (all are ignore_index or of weight 0); the mean over "
        "nothing is undefined",
    ),
    (
        lambda: nn.CrossEntropyLoss()(np.ones(()), np.array(0)),
        "CrossEntropyLoss: expected a prediction of shape (N, C), (N, C, d1, …) or (C,) with C > "
        "0, got ()",
    ),
    (
        lambda: nn.MSELoss("most"),
        "MSELoss: reduction must be 'mean', 'sum' or 'none', got 'most'",
    ),
    (
        lambda: nn.Parameter(np.ones(2, int)),
        "a Parameter is float32, float64 or longdouble, got an array of int64",
    ),
]


@pytest.mark.parametrize(("call", "message"), WHOLE_MESSAGES)
def test_the_whole_message(call, message):
    """A value, what was expected and where: all of it is part of what a user is promised."""
    assert str(refusal(call)) == message
