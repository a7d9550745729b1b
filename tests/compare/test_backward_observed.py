"""How `check_backward` calls a pair of functions, and what it keeps of what they did."""

import numpy as np
import pytest

from compare.backward.functions import Manual
from compare.backward.observed import Observed, copies, strided

X = np.array([[1.0, -2.0, 4.0], [0.5, 8.0, -16.0]])
K = np.array([3, 5])
U, V, W = (np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) * s for s in (1, -1, 0.25))


def plain(array):
    return None if array is None else array.tolist()


class Recorder:
    """y = 2 x and k: every call, with what it was given and whether that was contiguous."""

    def __init__(self, **fails):
        self.calls, self.fails, self.count = [], fails, {"forward": 0, "backward": 0}

    def called(self, name, arrays, saved=None):
        self.count[name] += 1
        contiguous = all(a is None or a.flags.c_contiguous for a in arrays)
        self.calls.append((name, [plain(a) for a in arrays], contiguous, plain(saved)))
        if self.count[name] in self.fails.get(name, ()):
            raise ZeroDivisionError(f"{name} {self.count[name]}")

    def forward(self, x, k):
        self.called("forward", [x, k])
        return (2 * x, k.copy()), x

    def backward(self, x, dy, dk):
        self.called("backward", [dy, dk], x)
        return 2 * dy, None


def observed(pair, arrays=(X, K), doutputs=((U, None), (V, None), (W, None))):
    return Observed(Manual(pair.forward, pair.backward), list(arrays), [list(d) for d in doutputs])


def test_the_calls_in_their_order():
    """Elsewhere: turned round, and floats shrunk by an eighth, for the opposite cotangent."""
    pair = Recorder()
    observed(pair)
    there = (X[::-1, ::-1] * 0.875).tolist()
    away = [
        ("forward", [there, [5, 3]], True, None),
        ("backward", [(-U).tolist(), None], True, there),
    ]
    here = ("forward", [X.tolist(), [3, 5]], True, None)
    back = [("backward", [d.tolist(), None], True, X.tolist()) for d in (U, V, W)]

    def scattered(call):
        return (*call[:2], False, call[3])

    assert pair.calls == [
        *(*away, here, *back),
        *(*away, *away, here, *away, back[0]),
        *(*away, scattered(here), *away, scattered(back[0])),
    ]


def test_what_is_kept_of_a_right_pair():
    seen = observed(Recorder())
    assert seen.raised == []
    assert seen.went_back
    for outputs in (seen.outputs, seen.outputs_kept, seen.outputs_again, seen.outputs_strided):
        assert [plain(y) for y in outputs] == [(2 * X).tolist(), [3, 5]]
    for arrays in (seen.after_forward, seen.after_backward):
        assert [plain(a) for a in arrays] == [X.tolist(), [3, 5]]
    assert [plain(d) for d in seen.doutputs] == [U.tolist(), None]
    assert [plain(d) for d in seen.doutputs_after] == [U.tolist(), None]
    for slopes in (seen.first, seen.first_kept, seen.again, seen.strided):
        assert [plain(g) for g in slopes] == [(2 * U).tolist(), None]
    assert plain(seen.second[0]) == (2 * V).tolist()
    assert plain(seen.third[0]) == (2 * W).tolist()


def test_what_forward_and_backward_change_is_seen_and_when():
    class Writes(Recorder):
        def forward(self, x, k):
            found = super().forward(x, k)
            k += 1
            return found

        def backward(self, x, dy, dk):
            found = super().backward(x, dy, dk)
            x[0, 0] = 99
            dy[0, 0] = 77
            return found

    seen = observed(Writes())
    assert plain(seen.after_forward[0]) == X.tolist()
    assert plain(seen.after_forward[1]) == [4, 6]
    assert seen.after_backward[0][0, 0] == 99
    assert seen.doutputs[0][0, 0] == 1
    assert seen.doutputs_after[0][0, 0] == 77
    assert plain(seen.second[0]) == (2 * V).tolist()
    assert plain(K) == [3, 5]
    assert plain(seen.arrays[0]) == X.tolist()


def test_what_is_overwritten_by_later_calls_is_seen():
    y, dx = np.empty_like(X), np.empty_like(X)

    class Keeps(Recorder):
        def forward(self, x, k):
            super().forward(x, k)
            np.multiply(x, 2, out=y)
            return (y, k.copy()), x

        def backward(self, x, dy, dk):
            super().backward(x, dy, dk)
            np.multiply(dy, 2, out=dx)
            return dx, None

    seen = observed(Keeps())
    away = 2 * 0.875 * X[::-1, ::-1]
    assert plain(seen.outputs[0]) == (2 * X).tolist()
    assert plain(seen.outputs_kept[0]) == away.tolist()
    assert plain(seen.first[0]) == (2 * U).tolist()
    assert plain(seen.first_kept[0]) == (-2 * U).tolist()
    for outputs in (seen.outputs_again, seen.outputs_strided):
        assert plain(outputs[0]) == (2 * X).tolist()


def test_an_error_of_forwards_own_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError, match=r"^forward 2$") as caught:
        observed(Recorder(forward=[2]))
    assert caught.value.__suppress_context__


# The calls elsewhere are number 1, 3, 4, 6, 7 and 9 of forward, whose errors do not matter.
@pytest.mark.parametrize(
    ("fails", "raised", "lost"),
    [
        ({"forward": [1, 3, 4, 6, 7, 9]}, [], []),
        ({"backward": [2]}, ["backward raised ZeroDivisionError: backward 2"], ["first"]),
        ({"backward": [3]}, ["backward raised ZeroDivisionError: backward 3"], ["second"]),
        ({"backward": [4]}, ["backward raised ZeroDivisionError: backward 4"], ["third"]),
        (
            {"forward": [5]},
            ["forward raised ZeroDivisionError: forward 5"],
            ["outputs_again", "again"],
        ),
        ({"backward": [8]}, ["backward raised ZeroDivisionError: backward 8"], ["again"]),
    ],
)
def test_what_raised_an_error_gave_nothing(fails, raised, lost):
    seen = observed(Recorder(**fails))
    assert seen.raised == raised
    kept = ["first", "second", "third", "outputs_again", "again", "outputs_strided", "strided"]
    for name in kept:
        found = getattr(seen, name)
        assert len(found) == 2
        assert all(v is None for v in found) == (name in lost), name


def test_as_many_outputs_as_the_reference_has():
    with pytest.raises(ValueError, match="reference") as caught:
        observed(Recorder(), doutputs=[(U,), (V,), (W,)])
    assert str(caught.value) == "check_backward: forward returned 2 outputs, reference 1"


def test_nothing_goes_back_through_outputs_of_another_shape():
    pair = Recorder()
    seen = observed(pair, doutputs=[(U[:1], None)] * 3)
    assert not seen.went_back
    assert pair.calls[-1][0] == "forward"
    assert plain(seen.outputs[0]) == (2 * X).tolist()


def test_cotangents_come_in_the_dtypes_of_the_outputs():
    given = []

    class Narrow(Recorder):
        def forward(self, x, k):
            (y, k), saved = super().forward(x, k)
            return (y.astype(np.float32), k), saved

        def backward(self, x, dy, dk):
            given.append(dy.dtype)
            return super().backward(x, dy, dk)

    assert observed(Narrow()).doutputs[0].dtype == np.float32
    assert set(given) == {np.dtype(np.float32)}


def test_strided_copies_have_other_numbers_between_theirs():
    for a, gap in (
        (X, np.nan),
        (X.astype(np.float32)[0], np.nan),
        (K, 5),
        (np.array([[True, True]]), False),
    ):
        [view] = strided([a])
        assert view.dtype == a.dtype
        assert view.base is not None
        np.testing.assert_array_equal(view, a)
        wide = view.base
        assert wide.shape == tuple(2 * n for n in reversed(a.shape))
        between = np.ones(wide.shape, bool)
        between[(slice(None, None, 2),) * a.ndim] = False
        np.testing.assert_array_equal(wide[between], np.full(between.sum(), gap))
        assert view.strides != a.strides
    one = np.array(3.0)
    [copy, nothing] = strided([one, None])
    assert copy is not one
    assert copy == one
    assert nothing is None


def test_copies_are_contiguous():
    [copy, nothing] = copies([X.T, None])
    assert copy.flags.c_contiguous
    assert not np.shares_memory(copy, X)
    assert plain(copy) == X.T.tolist()
    assert nothing is None
