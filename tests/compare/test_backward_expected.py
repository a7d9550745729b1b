"""What `check_backward` expects of a pair of functions: what is allowed, and what the witness is
asked. Rounding's E is given here."""

import numpy as np
import pytest
import torch

from compare.backward import expected
from compare.backward.expected import Expected
from compare.backward.functions import Manual, Reference
from compare.backward.observed import Observed

X = np.array([[1.0, -2.0, 4.0], [0.5, 8.0, 0.0]])
K = np.array([3, 5])
W = np.array([[2.0, 0.25, 1.0], [-1.0, 3.0, 5.0]])
U, V = np.array([[1.0, 2.0, -0.5], [4.0, -1.0, 0.25]]), np.full((2, 3), -0.5)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
DTYPES = [np.float32, np.float64]


class Pair:
    """x w, k + 1 and x + w; what is off has that added to it, in the pair's own dtype (or integers)
    and in the wider one."""

    def __init__(self, dtype, own=None, wider=None):
        self.dtype, self.off = dtype, {dtype: own or {}, WIDER[dtype]: wider or {}}

    def changed(self, dtype, **values):
        return [v + self.off[dtype.type].get(name, v.dtype.type(0)) for name, v in values.items()]

    def forward(self, x, k, w):
        return tuple(self.changed(x.dtype, y=x * w, k=k + 1, sum=x + w)), (x, w)

    def backward(self, saved, dy, dk, dsum):
        x, w = saved
        assert x.dtype == dy.dtype == dsum.dtype
        dx, dw = self.changed(x.dtype, dx=dy * w + dsum, dw=dy * x + dsum)
        return dx, None, dw


def reference(x, k, w):
    return x * w, k + 1, x + w


def of_inputs(dy):
    return [dy * W + dy, None, dy * X + dy]


OUTPUTS, SLOPES = [X * W, K + 1, X + W], [of_inputs(U), of_inputs(V)]
LARGEST = [24.0, 6.0, 11.0, 4.0, 9.0, 3.0, 4.5]  # of the outputs, of the slopes for U and for V


@pytest.fixture
def expect(monkeypatch):
    """expect(pair, errors, …) → the Expected of x, k and w. errors: E of the outputs, of the slopes
    for U and of those for V, each for all elements."""

    def made(pair, errors=(0.125,) * 7, reference=reference, arrays=(X, K, W), doutputs=(U, V)):
        def spread(function, arrays, dtype):
            assert dtype == pair.dtype
            assert [a.dtype for a in arrays] == [np.float64, np.int64, np.float64]
            shapes = [v.shape for v in function(arrays)]
            return [np.full(*of) for of in zip(shapes, map(float, errors), strict=True)]

        monkeypatch.setattr(expected, "spread", spread)
        arrays = [a if a is K else a.astype(pair.dtype) for a in arrays]
        u, v = ([dy.astype(pair.dtype), None, dy.astype(pair.dtype)] for dy in doutputs)
        observed = Observed(Manual(pair.forward, pair.backward), arrays, [u, v, u])
        return Expected(observed, Reference(reference), [u, v])

    return made


def same(found, values):
    for a, b in zip(found, values, strict=True):
        if b is None:
            assert a is None
        else:
            np.testing.assert_array_equal(a, b, strict=True)


def in_place_of(errors):
    """Arrays of these in the places of all the outputs and slopes."""
    e = iter(map(float, errors))
    outputs = [np.full(y.shape, next(e)) for y in OUTPUTS]
    return outputs, [
        [None if g is None else np.full(g.shape, next(e)) for g in of] for of in SLOPES
    ]


def assert_allowed(found, e, loose):
    outputs, slopes = in_place_of(e)
    same(found.e_outputs, outputs)
    for of, right in zip(found.e_slopes, slopes, strict=True):
        same(of, right)
    outputs, slopes = in_place_of(loose)
    same(found.loose_outputs, outputs)
    for of, right in zip(found.loose_slopes, slopes, strict=True):
        same(of, right)


ERRORS = [2.0**-k for k in (30, 0, 32, 33, 34, 35, 36)]


def half_the_digits(dtype):
    """Of the largest element, where that is more than E; not of integers, which are not wider."""
    half = [max(e, UNIT[dtype] ** 0.5 * v) for e, v in zip(ERRORS, LARGEST, strict=True)]
    return [half[0], ERRORS[1], *half[2:]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_torchs_values_in_the_dtype(expect, dtype):
    found = expect(Pair(dtype))
    same(found.outputs, [X.astype(dtype) * W.astype(dtype), K + 1, (X + W).astype(dtype)])
    for of, right in zip(found.slopes, SLOPES, strict=True):
        same(of, [None if g is None else g.astype(dtype) for g in right])
    assert not found.handwritten


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_run_may_lose_half_the_digits_where_the_wider_dtype_is_right(expect, dtype):
    assert_allowed(expect(Pair(dtype), ERRORS), ERRORS, half_the_digits(dtype))


def test_half_the_digits_are_no_less_than_e(expect):
    errors = [*ERRORS[:-1], 100.0]
    loose = [*half_the_digits(np.float32)[:-1], 100.0]
    assert_allowed(expect(Pair(np.float32), errors), errors, loose)


def at(index, value, dtype):
    found = np.zeros((2, 3), dtype)
    found[index] = value
    return found


@pytest.mark.parametrize("value", [2.0**-32, -(2.0**-31), np.nan])
def test_where_manual_is_off_in_its_own_dtype_alone_that_is_rounding(expect, value):
    """What is off by E itself is not."""
    found = expect(Pair(np.float64, {"sum": at((1, 2), value, np.float64)}), ERRORS)
    _, _, loose, *_ = half_the_digits(np.float64)
    e, half = in_place_of(ERRORS)[0][2], in_place_of(half_the_digits(np.float64))[0][2]
    e[1, 2] = e[1, 2] if value == 2.0**-32 else loose
    same(found.e_outputs[2:], [e])
    same(found.loose_outputs[2:], [half])


@pytest.mark.parametrize("own", [{}, {"dw": at((0, 1), 1, np.float64)}])
@pytest.mark.parametrize("times", [1, -2])
def test_where_manual_is_off_in_the_wider_dtype_too_it_is_wrong(expect, own, times):
    """By more than E; of each slope for itself."""
    e = 2.0**-34
    off = at((0, 1), times * e, np.longdouble)
    found = expect(Pair(np.float64, own, {"dw": off}), [2.0**-30] * 4 + [e] + [2.0**-30] * 2)
    half = UNIT[np.float64] ** 0.5 * 9
    loose = np.full((2, 3), half)
    loose[0, 1] = half if times == 1 else e
    allowed = np.full((2, 3), e)
    allowed[0, 1] = loose[0, 1] if own else e
    same(found.e_slopes[0][2:], [allowed])
    same(found.loose_slopes[0][2:], [loose])
    assert (found.loose_slopes[1][2] == UNIT[np.float64] ** 0.5 * 4.5).all()


class Narrow(Pair):
    """Its first output is never wider."""

    def forward(self, x, k, w):
        (y, *others), saved = super().forward(x, k, w)
        return (y.astype(self.dtype), *others), saved

    def backward(self, saved, dy, dk, dsum):
        return super().backward(saved, dsum, dk, dsum)


class Deep(Narrow):
    """In the wider dtype, its first output has another shape."""

    def forward(self, x, k, w):
        (y, *others), saved = super(Narrow, self).forward(x, k, w)
        return (y[None] if x.dtype != self.dtype else y, *others), saved


@pytest.mark.parametrize("kind", [Narrow, Deep])
def test_what_is_not_wider_or_of_another_shape_does_not_show_what_is_right(expect, kind):
    own, e = {"y": at((0, 0), 1, np.float32)}, [2.0**-30] * 7
    found = expect(kind(np.float32, own), e)
    same(found.e_outputs[:1], in_place_of(e)[0][:1])
    same(found.loose_outputs[:1], in_place_of(e)[0][:1])
    same(found.loose_outputs[2:], [np.full((2, 3), 2.0**-12 * 11)])


class Fails(Pair):
    def forward(self, x, k, w):
        if x.dtype != self.dtype:
            raise ZeroDivisionError
        return super().forward(x, k, w)


class FailsToGoBack(Pair):
    def backward(self, saved, dy, dk, dsum):
        if dy.dtype != self.dtype:
            raise ZeroDivisionError
        return super().backward(saved, dy, dk, dsum)


@pytest.mark.parametrize("kind", [Fails, FailsToGoBack])
def test_a_pair_that_has_no_wider_dtype_is_held_to_e(expect, kind):
    for own in (None, {"dx": at((0, 0), 1, np.float64), "y": at((0, 0), 1, np.float64)}):
        found = expect(kind(np.float64, own), ERRORS)
        assert_allowed(found, ERRORS, ERRORS)
        assert found.function == found.reference.outputs


def test_outputs_of_another_shape_are_compared_with_nothing(expect):
    class Deeper(Pair):
        def forward(self, x, k, w):
            (y, *others), saved = super().forward(x, k, w)
            return (y[None], *others), saved

    found = expect(Deeper(np.float64, {"sum": at((1, 2), 1, np.float64)}), ERRORS)
    assert found.e_outputs[0].shape == (2, 3)
    assert found.e_outputs[2][1, 2] > ERRORS[2]


# The witness.


@pytest.mark.parametrize("name", ["y", "sum", "k"])
@pytest.mark.parametrize(("dtype", "units"), [(np.float32, 2.0**-24), (np.float64, 32)])
def test_forward_is_asked_where_it_is_the_references_function(expect, dtype, units, name):
    """To 32 units of float64, where E is one of its own dtype."""
    for times in (1, -1, 1.01, -1.01, np.nan):
        off = at((1, 2), 2.0**-10 * units * times, WIDER[dtype])
        off = off[1, 1:] if name == "k" else off
        found = expect(Pair(dtype, wider={name: off}), [2.0**-10] * 7)
        if abs(times) == 1:
            assert found.function.__self__ is found
            assert {a.dtype for a in found.at} == {np.dtype(WIDER[dtype]), K.dtype}
        else:
            assert found.function == found.reference.outputs
            assert {a.dtype for a in found.at} == {np.dtype(np.float64), K.dtype}


def test_a_forward_whose_outputs_have_another_shape_is_not_asked(expect):
    found = expect(Deep(np.float64))
    assert found.function == found.reference.outputs
    assert found.at[0].dtype == np.float64


class Asked:
    """In the place of `derivative`: keeps what it was given."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(expected, "derivative", self)

    def __call__(self, *given):
        self.f, self.at, self.index, self.cotangent = given
        return 1.5, 0.25


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_witness_is_asked(expect, monkeypatch, dtype):
    """Of all outputs but integers, one after the other, as a function of one of the arrays."""
    asked, wide = Asked(monkeypatch), WIDER[dtype]
    found = expect(Pair(dtype))
    for k, array in ((0, X), (2, W)):
        for which, dy in enumerate((U, V)):
            found.witness(k, (1, 2), which)
            same([asked.at], [array.astype(wide)])
            assert asked.index == (1, 2)
            same([asked.cotangent], [np.concatenate([dy, dy]).ravel().astype(wide)])
            there = X.astype(wide) / 3
            others = [X.astype(wide), W.astype(wide)]
            others[k // 2] = there
            right = np.concatenate([others[0] * others[1], others[0] + others[1]]).ravel()
            same([asked.f(there)], [right])


def test_where_forward_is_not_asked_the_reference_is_in_float64(expect, monkeypatch):
    asked = Asked(monkeypatch)
    found = expect(Fails(np.float64))
    found.witness(0, (0, 0), 0)
    same([asked.at], [X])
    same([asked.cotangent], [np.concatenate([U, U]).ravel()])
    same([asked.f(2 * X)], [np.concatenate([2 * X * W, 2 * X + W]).ravel()])


def test_beyond_its_domain_a_function_is_nan(expect, monkeypatch):
    class Bounded(Pair):
        def forward(self, x, k, w):
            if (x > 8).any():
                raise ValueError("too large")
            return super().forward(x, k, w)

    asked = Asked(monkeypatch)
    expect(Bounded(np.float64)).witness(0, (0, 0), 0)
    same([asked.f(2 * asked.at)], [np.full(12, np.nan, np.longdouble)])


@pytest.mark.parametrize(
    ("dtype", "kind", "share"),
    [
        (np.float32, Pair, 2.0**-29),
        (np.float64, Pair, float(np.finfo(np.longdouble).eps / np.finfo(np.float64).eps)),
        (np.float64, Fails, 1.0),
    ],
)
def test_what_rounding_hides_is_an_error_of_the_witness(expect, monkeypatch, dtype, kind, share):
    """|dy| E of the outputs in the dtype in which it is asked, beside the entry or a thousandth."""
    Asked(monkeypatch)
    found = expect(kind(dtype), [0.5, 7, 0.25, 9, 9, 9, 9])
    noise = [share * e for e in (0.5, 0.25)]
    same([found.noise], [np.repeat(noise, 6)])
    for index, size in (((0, 1), 2.0), ((0, 2), 4.0), ((1, 0), 0.5), ((1, 2), 1e-3)):
        hidden = np.abs(U).sum() * sum(noise) / size
        value, error = found.witness(0, index, 0)
        assert value == 1.5
        assert error == pytest.approx(0.25 + hidden, rel=1e-14)
        assert type(error) is float


# The reference.


def test_whether_the_references_gradient_is_hand_written(expect):
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, dy):
            return dy

    found = expect(Pair(np.float64), reference=lambda x, k, w: reference(Same.apply(x), k, w))
    assert found.handwritten


def test_a_reference_of_one_dtype_alone_is_refused(expect):
    def single(x, k, w):
        return x * w, k + 1, (x + w) @ torch.eye(3)

    text = "check_backward: the reference must run in float64, too, where it raised "
    with pytest.raises(ValueError, match="float64") as caught:
        expect(Pair(np.float32), reference=single)
    assert str(caught.value) == text + str(caught.value.__cause__)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_of_two_dtypes_the_shorter_is_what_is_rounded_to(monkeypatch):
    seen = []

    def spread(function, arrays, dtype):
        seen.append((dtype, [a.dtype for a in arrays]))
        return [np.ones(v.shape) for v in function(arrays)]

    monkeypatch.setattr(expected, "spread", spread)
    single = W.astype(np.float32)
    for arrays in ([X, K, single], [single, K, X]):
        pair = Manual(lambda x, k, w: (x + w, None), lambda _, dy: (dy, None, dy))
        observed = Observed(pair, arrays, [[U], [V], [U]])
        found = Expected(observed, Reference(lambda x, k, w: x + w), [[U], [V]])
        assert found.at[0].dtype == found.at[2].dtype == np.float64
    assert seen == 2 * [(np.float32, [np.float64, np.int64, np.float64])]
