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
