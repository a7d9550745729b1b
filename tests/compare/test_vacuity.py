"""Checks that could not have failed do not pass, unless they are declared."""

import numpy as np
import pytest
import torch

from compare import EquivalenceError, assert_equivalent, compare
from compare.trace import Passage, Tensor, units
from compare.vacuity import check_patterns, declared, vacuous_gradient, vacuous_output, why
from manual import nn

ONE_SIDED = {
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "PReLU": lambda: nn.PReLU(dtype=np.float64),
    "ELU": nn.ELU,
    "Step": nn.Step,
}
SMOOTH = [nn.Tanh, nn.Softplus, nn.GELU, nn.Identity, nn.SiLU]


def biased(activation, bias, n=3):
    """A Linear whose outputs all have the sign of `bias`, and the activation."""
    g = np.random.default_rng(0)
    linear = nn.Linear(4, n, dtype=np.float64, generator=g)
    linear.bias.data[...] = bias
    net = nn.Sequential(linear, activation(), nn.Linear(n, 2, dtype=np.float64, generator=g))
    return net, nn.MSELoss(), g.uniform(-1, 1, (6, 4)), g.normal(size=(6, 2))


def vacuous(comparison):
    frame = comparison.frame
    return list(frame["name"][frame.verdict == "vacuous"])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ONE_SIDED)
def test_one_side_of_a_kink_alone_is_no_check(name, sign):
    comparison = compare(*biased(ONE_SIDED[name], 9.0 * sign))
    assert "activation.1" in vacuous(comparison)
    assert not comparison.passed
    assert set(comparison.failures.verdict) == {"vacuous"}
    assert comparison.blame is None
    assert set(comparison.failures.blame) == {None}


@pytest.mark.parametrize("name", ONE_SIDED)
def test_both_sides_are_one(name):
    assert "activation.1" not in vacuous(compare(*biased(ONE_SIDED[name], [9.0, -9.0, 0.0])))


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_single_formula_has_no_sides(activation):
    assert compare(*biased(activation, 9.0)).passed


def test_a_kink_itself_is_neither_side():
    relu = next(units(nn.ReLU()))
    for x, found in {(1, 0): True, (0, -1): True, (0, 0): True, (1, -1): False}.items():
        x = np.array(x, float)
        assert vacuous_output(relu, Passage(x, x, None, None)) == found
    single = np.ones(1)
    assert vacuous_output(relu, Passage(single, single, None, None))
    nothing = np.zeros((0, 3))
    assert not vacuous_output(relu, Passage(nothing, nothing, None, None))


def test_gradients_that_are_all_zero_are_no_check():
    comparison = compare(*biased(nn.ReLU, -9.0))
    expected = ["activation.1", "grad.2.weight", "d_activation.0", "grad.0.weight", "grad.0.bias"]
    assert vacuous(comparison) == [*expected, "d_x"]
    assert comparison.blame is None


def test_one_entry_that_is_not_zero_is_a_check():
    def gradient(*values, name="grad.0.bias"):
        return Tensor(name, "backward", np.array(values, float))

    assert vacuous_gradient(gradient(0, 0), gradient(0, -0.0))
    assert vacuous_gradient(gradient(0), gradient(0))
    assert not vacuous_gradient(gradient(0, 1), gradient(0, 0))
    assert not vacuous_gradient(gradient(0, 0), gradient(0, 1))
    assert not vacuous_gradient(gradient(0, np.nan), gradient(0, np.nan))
    assert not vacuous_gradient(gradient(), gradient())  # nothing in it that could be wrong
    for name, found in {"d_x": True, "d_activation.3": True, "activation.3": False}.items():
        assert vacuous_gradient(*[gradient(0, 0, name=name)] * 2) == found
    for name in ("x", "loss", "buffer.0.running_mean", "updated.0.bias", "grad_norm"):
        assert not vacuous_gradient(*[gradient(0, 0, name=name)] * 2)


def test_zero_on_one_side_alone_is_a_mismatch(monkeypatch):
    net, *given = biased(nn.Tanh, 0.0)
    right = nn.Linear.backward_parameters

    def zeroed(self, dy):
        right(self, dy)
        self.weight.grad = np.zeros_like(self.weight.grad)

    monkeypatch.setattr(nn.Linear, "backward_parameters", zeroed)
    failures = compare(net, *given).failures
    assert list(failures["name"]) == ["grad.2.weight", "grad.0.weight"]
    assert set(failures.verdict) == {"mismatch"}
    assert set(failures.blame) == {"manual"}


@pytest.mark.parametrize(
    ("patterns", "passes"),
    [
        (
            ["activation.1", "grad.2.weight", "d_activation.0", "grad.0.weight", "grad.0.bias"],
            False,
        ),
        (["*"], True),
        (["activation.*", "grad.*", "d_*"], True),
        (("activation.?", "grad.[02].*", "d_activation.0", "d_x"), True),
        ({"activation.1", "*grad*", "d_*"}, True),
        (["Activation.*", "grad.*", "d_*"], False),  # case counts
        (["activation", "grad.*", "d_*"], False),  # the whole name counts
        (["nothing like it"], False),
        ([], False),
    ],
)
def test_what_is_declared_passes_by_name_or_pattern(patterns, passes):
    given = biased(nn.ReLU, -9.0)
    comparison = compare(*given, allow_vacuous=patterns)
    assert comparison.passed == passes
    assert len(vacuous(comparison)) == 6  # it is still shown as what it is
    assert comparison.blame is None


def test_what_is_declared_vacuous_may_not_be_wrong(monkeypatch, first):
    given = biased(nn.Tanh, 0.0)
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    assert first(compare(*given, allow_vacuous=["*"])) == ("d_activation.0", "mismatch", "manual")


def test_an_exact_name_is_for_that_row_alone():
    assert declared("grad.0.bias", ["grad.0.bias"])
    assert not declared("grad.10.bias", ["grad.0.bias"])
    assert not declared("grad.0.bias", [])
    assert declared("grad.0.bias", ["loss", "grad.?.bias"])


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ["activation", "activation.1"],
            "its inputs all have one sign: the formula for the other was not used",
        ),
        (
            ["updated.0.bias", "state.d"],
            "rounding decides how L-BFGS goes on here, so either result could be right",
        ),
        (
            ["grad.0.bias", "d_x", "d_activation.1"],
            "all zero on both sides: a gradient that is forgotten, or any multiple, would pass",
        ),
    ],
)
def test_why_a_check_could_not_have_failed(names, text):
    assert [why(name) for name in names] == [text] * len(names)


def test_patterns_are_a_collection_of_text():
    for patterns in (["grad.*"], ("d_x",), {"a", "b"}, [], frozenset()):
        check_patterns("here", patterns)
    for patterns in ("grad.*", "", None, 3, [3], ["d_x", None], b"d_x"):
        with pytest.raises(TypeError) as caught:
            check_patterns("here", patterns)
        expected = f"here: allow_vacuous must be a list of patterns, got {patterns!r}"
        assert str(caught.value) == expected


def test_the_message_says_what_is_vacuous_and_that_nobody_is_wrong():
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(*biased(nn.ReLU, -9.0))
    text = str(caught.value)
    assert text.startswith("a check could not have failed")
    assert "vacuous" in text
    assert "activation.1" in text
    assert why("activation.1") in text
    assert caught.value.comparison.blame is None
    assert_equivalent(*biased(nn.ReLU, -9.0), allow_vacuous=["*"])


class Unreached(nn.Linear):
    """Has one more parameter, which its forward does not take."""

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.spare = nn.Parameter(np.ones(2))


class TorchUnreached(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.spare = torch.nn.Parameter(torch.ones(2))


def test_a_parameter_that_neither_side_reaches_is_vacuous():
    g = np.random.default_rng(0)
    net = Unreached(4, 2, dtype=np.float64, generator=g)
    given = net, nn.MSELoss(), g.normal(size=(6, 4)), g.normal(size=(6, 2))
    comparison = compare(*given, twin=TorchUnreached())
    assert vacuous(comparison) == ["grad.spare"]
    assert not comparison.passed
    assert comparison.blame is None
    assert compare(*given, twin=TorchUnreached(), allow_vacuous=["grad.spare"]).passed


def test_tensors_without_elements_are_no_obstacle():
    g = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(3, 0, dtype=np.float64, generator=g),
        nn.ReLU(),
        nn.Linear(0, 2, dtype=np.float64, generator=g),
    )
    given = net, nn.MSELoss(), g.normal(size=(4, 3)), g.normal(size=(4, 2))
    comparison = compare(*given)
    frame = comparison.frame.set_index("name")
    assert list(frame["shape"][["activation.1", "grad.0.weight", "grad.2.weight"]]) == [
        (4, 0),
        (0, 3),
        (2, 0),
    ]
    assert vacuous(comparison) == ["d_x"]
    assert compare(*given, allow_vacuous=["d_x"]).passed
