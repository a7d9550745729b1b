"""`check_backward`: every way to be wrong is rejected, in the right row, with the right blame."""

import numpy as np
import pytest
import torch

from compare import EquivalenceError, check_backward
from compare.backward import REASONS


def draw(*shapes, dtype=np.float64, seed=0):
    g = np.random.default_rng(seed)
    return [np.asarray(g.normal(size=shape), dtype) for shape in shapes]


def first_failure(forward, backward, reference, *arrays, **options):
    """(name, verdict, blame) of the first row that is not ok, and the comparison."""
    with pytest.raises(EquivalenceError) as caught:
        check_backward(forward, backward, reference, *arrays, **options)
    comparison = caught.value.comparison
    assert not comparison.passed
    row = comparison.failures.iloc[0]
    return (row["name"], row.verdict, row.blame), comparison


# Four correct pairs, of one to three inputs.


def scale_forward(x, w):
    return x * w, (x, w)


def scale_backward(saved, dy):
    x, w = saved
    return dy * w, (dy * x).sum(0)


def softmax_forward(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, (y,)


def softmax_backward(saved, dy):
    (y,) = saved
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def linear_forward(x, w, b):
    return x @ w.T + b, (x, w)


def linear_backward(saved, dy):
    x, w = saved
    return dy @ w, dy.T @ x, dy.sum(0)


def norm_forward(x, weight, bias):
    d = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_backward(saved, dy):
    n, inverse, weight = saved
    dn = dy * weight
    dx = dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True)
    return inverse * dx, (dy * n).sum(0), dy.sum(0)


def norm_in_torch(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


PAIRS = {
    "scale": (scale_forward, scale_backward, torch.mul, [(4, 3), (3,)]),
    "softmax": (softmax_forward, softmax_backward, lambda x: torch.softmax(x, -1), [(4, 5)]),
    "linear": (
        linear_forward,
        linear_backward,
        torch.nn.functional.linear,
        [(4, 3), (5, 3), (5,)],
    ),
    "norm": (norm_forward, norm_backward, norm_in_torch, [(4, 5), (5,), (5,)]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_pairs_are_right(pair, dtype):
    forward, backward, reference, shapes = PAIRS[pair]
    comparison = check_backward(forward, backward, reference, *draw(*shapes, dtype=dtype))
    assert comparison.passed
    assert comparison.blame is None
    assert (comparison.frame.verdict == "ok").all()
    assert (comparison.frame.dtype == np.dtype(dtype).name).all()
    assert (comparison.frame.allowed <= 1e3 * np.finfo(dtype).eps).all()


# What may be wrong with any pair. A wrapper takes (forward, backward) and returns the same, wrong;
# `first(gradients, f)` changes the first gradient alone.


def first(change):
    def wrapper(forward, backward):
        def wrong(saved, dy):
            found = backward(saved, dy)
            several = isinstance(found, tuple)
            gradients = list(found) if several else [found]
            gradients[0] = change(gradients[0])
            return tuple(gradients) if several else gradients[0]

        return forward, wrong

    return wrapper


def one_entry(factor):
    def change(d):
        d = d.copy()
        middle = np.argsort(np.abs(d), axis=None)[d.size // 2]
        d.flat[middle] *= factor
        return d

    return change


def put(value):
    def change(d):
        d = d.copy()
        d.flat[1] = value
        return d

    return change


def nonlinear(change):
    return lambda forward, backward: (forward, lambda saved, dy: backward(saved, change(dy)))


def mutates_doutput(forward, backward):
    def wrong(saved, dy):
        found = backward(saved, dy)
        dy *= 2
        return found

    return forward, wrong


def mutates_input(forward, backward):
    def wrong(x, *others):
        found = forward(x, *others)
        x += 1
        return found

    return wrong, backward


def mutates_input_in_backward(forward, backward):
    def remembering(x, *others):
        y, saved = forward(x.copy(), *others)
        return y, (saved, x)

    def wrong(saved, dy):
        saved[1][...] = 0
        return backward(saved[0], dy)

    return remembering, wrong


def accumulates(forward, backward):
    """Into what forward saved."""

    def remembering(*arrays):
        y, saved = forward(*arrays)
        return y, (saved, np.zeros_like(arrays[0]))

    def wrong(saved, dy):
        found = backward(saved[0], dy)
        saved[1][...] += found[0] if isinstance(found, tuple) else found
        total = saved[1].copy()
        return (total, *found[1:]) if isinstance(found, tuple) else total

    return remembering, wrong


def accumulates_for_ever(forward, backward):
    totals = []

    def wrong(saved, dy):
        found = backward(saved, dy)
        several = isinstance(found, tuple)
        totals.append(found[0] if several else found)
        return (sum(totals), *found[1:]) if several else sum(totals)

    return forward, wrong


def spoils_saved(forward, backward):
    """Works in place on what was saved."""

    def wrong(saved, dy):
        found = backward(saved, dy)
        for a in saved:
            a *= 2
        return found

    return lambda *arrays: forward(*(a.copy() for a in arrays)), wrong


def one_buffer(forward, backward):
    """Returns the same memory in every call."""
    kept = {}

    def wrong(saved, dy):
        found = backward(saved, dy)
        several = isinstance(found, tuple)
        d = found[0] if several else found
        buffer = kept.setdefault(d.dtype, d.copy())
        buffer[...] = d
        return (buffer, *found[1:]) if several else buffer

    return forward, wrong


def one_output_buffer(forward, backward):
    kept = {}

    def wrong(*arrays):
        y, saved = forward(*arrays)
        buffer = kept.setdefault(y.dtype, y.copy())
        buffer[...] = y
        return buffer, tuple(a.copy() for a in saved)

    return wrong, backward


def stale_first(forward, backward):
    """Backward uses what the very first forward saved."""
    kept = []

    def remembering(*arrays):
        y, saved = forward(*arrays)
        kept.append(saved)
        return y, saved

    return remembering, lambda saved, dy: backward(kept[0], dy)


def stale_last(forward, backward):
    """Backward uses what the last forward saved, whichever that was."""
    kept = []

    def remembering(*arrays):
        y, saved = forward(*arrays)
        kept.append(saved)
        return y, None

    return remembering, lambda saved, dy: backward(kept[-1], dy)


def stale_before_last(forward, backward):
    kept = []

    def remembering(*arrays):
        y, saved = forward(*arrays)
        kept.append(saved)
        return y, saved

    return remembering, lambda saved, dy: backward(kept[-2] if len(kept) > 1 else kept[-1], dy)


def random_backward(forward, backward):
    g = np.random.default_rng(0)
    return first(lambda d: d * (1 + 1e-4 * g.normal()))(forward, backward)


def slightly_random_backward(forward, backward):
    """By one unit in the last place, which is rounding, but every time another."""
    g = np.random.default_rng(0)
    return first(lambda d: np.nextafter(d, d + g.choice([-1, 1], d.shape)))(forward, backward)


def random_forward(forward, backward):
    g = np.random.default_rng(0)

    def wrong(*arrays):
        y, saved = forward(*arrays)
        return np.nextafter(y, y + g.choice([-1, 1], y.shape)), saved

    return wrong, backward


def in_memory_order(forward, backward):
    """Takes the numbers of the first input as they lie in memory."""
    return lambda x, *others: forward(x.ravel("K").reshape(x.shape), *others), backward


def cotangent_in_memory_order(forward, backward):
    return forward, lambda saved, dy: backward(saved, dy.ravel("K").reshape(dy.shape))


def from_buffer(forward, backward):
    def wrong(x, *others):
        return forward(np.frombuffer(x, x.dtype).reshape(x.shape), *others)

    return wrong, backward


def cotangent_from_buffer(forward, backward):
    def wrong(saved, dy):
        return backward(saved, np.frombuffer(dy, dy.dtype).reshape(dy.shape))

    return forward, wrong


def cotangent_by_shape(forward, backward):
    """Sets .shape, which fails where a copy would be needed."""

    def wrong(saved, dy):
        flat = dy[:]
        flat.shape = (dy.size,)
        return backward(saved, flat.reshape(dy.shape))

    return forward, wrong


def raises(forward, backward):
    def wrong(saved, dy):
        raise ZeroDivisionError("a mistake")

    return forward, wrong


def raises_the_second_time(forward, backward):
    calls = []

    def wrong(saved, dy):
        calls.append(saved)
        if len([s for s in calls if s is saved]) > 1:
            raise RuntimeError("backward through the graph a second time")
        return backward(saved, dy)

    return forward, wrong


def output(change):
    def wrapper(forward, backward):
        def wrong(*arrays):
            y, saved = forward(*arrays)
            return change(y), saved

        return wrong, backward

    return wrapper


ANY = {
    "factor": (first(lambda d: 1.01 * d), "d_x", "mismatch"),
    "small factor": (first(lambda d: (1 + 1e-6) * d), "d_x", "mismatch"),
    "half": (first(lambda d: d / 2), "d_x", "mismatch"),
    "sign": (first(np.negative), "d_x", "mismatch"),
    "offset": (first(lambda d: d + 1e-6), "d_x", "mismatch"),
    "zeros": (first(np.zeros_like), "d_x", "mismatch"),
    "absolute value": (first(np.abs), "d_x", "mismatch"),
    "flipped": (first(lambda d: np.flip(d, 0).copy()), "d_x", "mismatch"),
    "mean over the batch": (first(lambda d: d / len(d)), "d_x", "mismatch"),
    "one entry": (first(one_entry(1.01)), "d_x", "mismatch"),
    "one entry, by 1e-6": (first(one_entry(1 + 1e-6)), "d_x", "mismatch"),
    "one row missing": (first(lambda d: d * (np.arange(len(d)) > 0)[:, None]), "d_x", "mismatch"),
    "through float16": (first(lambda d: d.astype(np.float16).astype(d.dtype)), "d_x", "mismatch"),
    "through float32": (first(lambda d: d.astype(np.float32).astype(d.dtype)), "d_x", "mismatch"),
    "nan": (first(put(np.nan)), "d_x", "nonfinite"),
    "infinity": (first(put(np.inf)), "d_x", "nonfinite"),
    "dtype": (first(lambda d: d.astype(np.float32)), "d_x", "dtype"),
    "integers": (first(lambda d: d.astype(np.int64)), "d_x", "dtype"),
    "shape that broadcasts": (first(lambda d: d[None]), "d_x", "shape"),
    "one row for all": (first(lambda d: d.mean(0, keepdims=True)), "d_x", "shape"),
    "flat": (first(np.ravel), "d_x", "shape"),
    "transposed": (first(np.transpose), "d_x", "shape"),
    "none": (first(lambda d: None), "d_x", "missing"),
    "squared cotangent": (nonlinear(np.square), "d_x", "mismatch"),
    "clipped cotangent": (nonlinear(lambda d: np.clip(d, -1, 1)), "d_x", "mismatch"),
    "sign of the cotangent": (nonlinear(np.sign), "d_x", "mismatch"),
    "ones for the cotangent": (nonlinear(np.ones_like), "d_x", "mismatch"),
    "cotangent by its norm": (nonlinear(lambda d: d / np.abs(d).max()), "d_x", "mismatch"),
    "cotangent to 8 binary places": (  # the first two have no more
        nonlinear(lambda d: np.round(d * 256) / 256),
        "d_x (linear)",
        "mismatch",
    ),
    "mutates doutput": (mutates_doutput, "d_output (unchanged by backward)", "mismatch"),
    "mutates the input": (mutates_input, "x (unchanged)", "mismatch"),
    "mutates the input in backward": (
        mutates_input_in_backward,
        "x (unchanged by backward)",
        "mismatch",
    ),
    "accumulates": (accumulates, "d_x (second cotangent)", "mismatch"),
    "accumulates for ever": (accumulates_for_ever, "d_x", "mismatch"),
    "spoils what was saved": (spoils_saved, "d_x (second cotangent)", "mismatch"),
    "one buffer": (one_buffer, "d_x (kept)", "mismatch"),
    "one buffer for outputs": (one_output_buffer, "output (kept)", "mismatch"),
    "first forward's cache": (stale_first, "d_x", "mismatch"),
    "last forward's cache": (stale_last, "d_x (again)", "mismatch"),
    "cache of the forward before": (stale_before_last, "d_x", "mismatch"),
    "random": (random_backward, "d_x", "mismatch"),
    "slightly random": (slightly_random_backward, "d_x (again)", "mismatch"),
    "random forward": (random_forward, "output (again)", "mismatch"),
    "memory order": (in_memory_order, "output (non-contiguous)", "mismatch"),
    "cotangent's memory order": (
        cotangent_in_memory_order,
        "d_x (non-contiguous)",
        "mismatch",
    ),
    "buffer": (from_buffer, "output (non-contiguous)", "missing"),
    "cotangent's buffer": (cotangent_from_buffer, "d_x (non-contiguous)", "missing"),
    "cotangent's shape set": (cotangent_by_shape, "d_x (non-contiguous)", "missing"),
    "raises": (raises, "d_x", "missing"),
    "raises the second time": (raises_the_second_time, "d_x (second cotangent)", "missing"),
    "output by a factor": (output(lambda y: 1.01 * y), "output", "mismatch"),
    "output of a dtype": (output(lambda y: y.astype(np.float32)), "output", "dtype"),
    "output of a shape": (output(lambda y: y[None]), "output", "shape"),
    "output with a nan": (output(put(np.nan)), "output", "nonfinite"),
    "output off by 1e-9": (output(lambda y: y + 1e-9), "output", "mismatch"),
}


@pytest.mark.parametrize("wrong", ANY)
def test_what_can_be_wrong_with_any_pair(wrong):
    """Each with one of the pairs, in turn."""
    wrapper, name, verdict = ANY[wrong]
    pair = list(PAIRS)[list(ANY).index(wrong) % len(PAIRS)]
    forward, backward, reference, shapes = PAIRS[pair]
    if len(shapes) > 1:
        name = name.replace("d_x", "d_x.0") if "d_x" in name else name.replace("x (", "x.0 (")
    found, comparison = first_failure(*wrapper(forward, backward), reference, *draw(*shapes))
    assert found == (name, verdict, "manual")
    assert comparison.blame == "manual"


# What can be wrong with these pairs in particular: (forward, backward, row, verdict).


def norm_variant(dx=None, dweight=None, dbias=None):
    def backward(saved, dy):
        right = norm_backward(saved, dy)
        n, inverse, weight = saved
        dn = dy * weight
        found = (
            dx and dx(n, inverse, weight, dy, dn),
            dweight and dweight(n, dy),
            dbias and dbias(dy),
        )
        return tuple(r if f is None else f for f, r in zip(found, right, strict=True))

    return norm_forward, backward


def mean(a, axis=-1):
    return a.mean(axis, keepdims=True)


def norm_without_epsilon(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / np.sqrt(mean(d * d))
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_with_epsilon_outside(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / (np.sqrt(mean(d * d)) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


def norm_unbiased(x, weight, bias):
    d = x - mean(x)
    inverse = 1 / np.sqrt((d * d).sum(-1, keepdims=True) / (x.shape[-1] - 1) + 1e-5)
    return d * inverse * weight + bias, (d * inverse, inverse, weight)


NORM = {
    "no mean of dn": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - n * mean(dn * n))),
        "d_x.0",
    ),
    "no mean of dn n": (norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn))), "d_x.0"),
    "neither": (norm_variant(lambda n, inv, w, dy, dn: inv * dn), "d_x.0"),
    "plus": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn) + n * mean(dn * n))),
        "d_x.0",
    ),
    "no weight": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dy - mean(dy) - n * mean(dy * n))),
        "d_x.0",
    ),
    "weight last": (
        norm_variant(lambda n, inv, w, dy, dn: w * inv * (dy - mean(dy) - n * mean(dy * n))),
        "d_x.0",
    ),
    "no inverse": (
        norm_variant(lambda n, inv, w, dy, dn: dn - mean(dn) - n * mean(dn * n)),
        "d_x.0",
    ),
    "inverse squared": (
        norm_variant(lambda n, inv, w, dy, dn: inv**2 * (dn - mean(dn) - n * mean(dn * n))),
        "d_x.0",
    ),
    "sums for means": (
        norm_variant(
            lambda n, inv, w, dy, dn: inv * (dn - 5 * mean(dn) - n * 5 * mean(dn * n)),
        ),
        "d_x.0",
    ),
    "one degree of freedom less": (
        norm_variant(
            lambda n, inv, w, dy, dn: inv * (dn - mean(dn) - n * 5 / 4 * mean(dn * n)),
        ),
        "d_x.0",
    ),
    "means over the batch": (
        norm_variant(lambda n, inv, w, dy, dn: inv * (dn - mean(dn, 0) - n * mean(dn * n, 0))),
        "d_x.0",
    ),
    "dweight without n": (norm_variant(dweight=lambda n, dy: dy.sum(0)), "d_x.1"),
    "dweight a mean": (norm_variant(dweight=lambda n, dy: (dy * n).mean(0)), "d_x.1"),
    "dbias a mean": (norm_variant(dbias=lambda dy: dy.mean(0)), "d_x.2"),
    "dbias times n": (norm_variant(dbias=lambda dy: -dy.sum(0)), "d_x.2"),
    "no epsilon": ((norm_without_epsilon, norm_backward), "output"),
    "epsilon outside the root": ((norm_with_epsilon_outside, norm_backward), "output"),
    "unbiased variance": ((norm_unbiased, norm_backward), "output"),
}


@pytest.mark.parametrize("wrong", NORM)
def test_a_wrong_layer_norm(wrong):
    pair, name = NORM[wrong]
    found, _ = first_failure(*pair, norm_in_torch, *draw(*PAIRS["norm"][3]))
    assert found == (name, "mismatch", "manual")


def gather_forward(w, at):
    return w[at], (w.shape, at)


def gather_backward(saved, dy):
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    np.add.at(dw, at, dy)
    return dw, None


def gather_overwriting(saved, dy):
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    dw[at] = dy
    return dw, None


def gather_adding_once(saved, dy):
    """What dw[at] += dy does where an index is there twice."""
    shape, at = saved
    dw = np.zeros(shape, dy.dtype)
    dw[at] += dy
    return dw, None


def gather_in_torch(w, at):
    return torch.nn.functional.embedding(at, w)


def table(dtype=np.float64):
    (w,) = draw((5, 3), dtype=dtype)
    return w, np.array([[0, 4, 4], [1, 0, 2]])


def test_an_integer_input_has_no_gradient():
    assert check_backward(gather_forward, gather_backward, gather_in_torch, *table()).passed
    assert check_backward(
        gather_forward, gather_backward, gather_in_torch, *table(np.float32)
    ).passed
    for zeros in (np.zeros((2, 3)), np.zeros((2, 3), np.int64)):
        found, comparison = first_failure(
            gather_forward,
            lambda saved, dy, zeros=zeros: (gather_backward(saved, dy)[0], zeros),
            gather_in_torch,
            *table(),
        )
        assert found == ("d_x.1", "missing", "manual")
        assert "manual has it, torch nothing" in str(comparison)


@pytest.mark.parametrize("wrong", [gather_overwriting, gather_adding_once])
def test_a_row_that_is_gathered_twice_has_the_sum(wrong):
    found, _ = first_failure(gather_forward, wrong, gather_in_torch, *table())
    assert found == ("d_x.0", "mismatch", "manual")


def test_what_was_broadcast_has_a_gradient_of_its_own_shape():
    """torch sums without a word; a pair that forgets to has another shape."""
    found, _ = first_failure(
        scale_forward, lambda saved, dy: (dy * saved[1], dy * saved[0]), torch.mul, *draw((4, 3), 3)
    )
    assert found == ("d_x.1", "shape", "manual")
    arrays = draw((4, 3), (4, 1))
    found, _ = first_failure(
        scale_forward,
        lambda saved, dy: (dy * saved[1], (dy * saved[0]).sum(1)),
        torch.mul,
        *arrays,
    )
    assert found == ("d_x.1", "shape", "manual")
    found, _ = first_failure(  # of a square, the sum over the wrong axis has the right shape
        scale_forward,
        lambda saved, dy: (dy * saved[1], (dy * saved[0]).sum(1)),
        torch.mul,
        *draw((3, 3), 3),
    )
    assert found == ("d_x.1", "mismatch", "manual")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda saved, dy: saved[0] * dy,
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).sum(0)),
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).sum()),
        lambda saved, dy: saved[0] * (1 - saved[0]) * dy,
        lambda saved, dy: dy - saved[0] * dy.sum(-1, keepdims=True),
        lambda saved, dy: saved[0] * (dy + (dy * saved[0]).sum(-1, keepdims=True)),
        lambda saved, dy: saved[0] * (dy - (dy * saved[0]).mean(-1, keepdims=True)),
        lambda saved, dy: saved[0] * (dy - dy.sum(-1, keepdims=True)),
    ],
)
def test_a_wrong_softmax(wrong):
    forward, _, reference, shapes = PAIRS["softmax"]
    found, _ = first_failure(forward, wrong, reference, *draw(*shapes))
    assert found == ("d_x", "mismatch", "manual")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda s, dy: (dy @ s[1].T, dy.T @ s[0], dy.sum(0)), "d_x.0"),
        (lambda s, dy: (dy @ s[1], s[0].T @ dy, dy.sum(0)), "d_x.1"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0] / len(dy), dy.sum(0)), "d_x.1"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy.mean(0)), "d_x.2"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy.sum(1)), "d_x.2"),
        (lambda s, dy: (dy.T @ s[0], dy @ s[1], dy.sum(0)), "d_x.0"),
        (lambda s, dy: (dy @ s[1], dy.T @ s[0], dy[0]), "d_x.2"),
        (lambda s, dy: (dy @ s[1] + dy, dy.T @ s[0], dy.sum(0)), "d_x.0"),
    ],
)
def test_a_wrong_square_linear_layer(wrong, name):
    """Where all shapes are alike, nothing but the values can show it."""
    arrays = draw((4, 4), (4, 4), (4,))
    found, _ = first_failure(linear_forward, wrong, torch.nn.functional.linear, *arrays)
    assert found == (name, "mismatch", "manual")


# Kinks: there the witness has no answer, and torch's convention holds.


def at_kink(forward, slope):
    return lambda x: (forward(x), x), lambda x, dy: dy * slope(x)


KINKED = np.array([-2.0, -0.5, 0.0, 0.0, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("forward", "right", "wrong", "reference"),
    [
        (lambda x: np.maximum(x, 0), lambda x: x > 0, lambda x: x >= 0, torch.relu),
        (
            lambda x: np.maximum(x, 0),
            lambda x: x > 0,
            lambda x: ((x > 0) + 0.5 * (x == 0)).astype(x.dtype),
            torch.relu,
        ),
        (np.abs, np.sign, lambda x: np.where(x < 0, -1, 1).astype(x.dtype), torch.abs),
        (
            lambda x: np.maximum(1 - x, 0),
            lambda x: -(x < 1).astype(x.dtype),
            lambda x: -(x <= 1).astype(x.dtype),
            lambda x: torch.relu(1 - x),
        ),
        (
            lambda x: np.where(x > 0, x, x * x.dtype.type(0.25)),
            lambda x: np.where(x > 0, 1, 0.25).astype(x.dtype),
            lambda x: np.where(x >= 0, 1, 0.25).astype(x.dtype),
            lambda x: torch.nn.functional.leaky_relu(x, 0.25),
        ),
    ],
)
def test_at_a_kink_torchs_convention_holds(forward, right, wrong, reference, dtype):
    x = KINKED.astype(dtype)
    assert check_backward(*at_kink(forward, right), reference, x).passed
    found, comparison = first_failure(*at_kink(forward, wrong), reference, x)
    assert found == ("d_x", "mismatch", "manual")
    assert np.isnan(comparison.failures.iloc[0].oracle)


@pytest.mark.parametrize("share", [1, 0, 0.25])
def test_torch_halves_the_gradient_at_a_tie(share):
    def pair(share):
        def backward(saved, dy):
            a, b = saved
            more = (a > b) + share * (a == b)
            return dy * more, dy * (1 - more)

        return lambda a, b: (np.maximum(a, b), (a, b)), backward

    a, b = np.array([1.0, 2, 2, 5]), np.array([0.0, 2, 3, 5])
    assert check_backward(*pair(0.5), torch.maximum, a, b).passed
    found, _ = first_failure(*pair(share), torch.maximum, a, b)
    assert found == ("d_x.0", "mismatch", "manual")


# Whose fault it is.


class HalfTanh(torch.autograd.Function):
    """The gradient is half of what it should be."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.tanh(x))
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return 0.5 * dy * (1 - y * y)


class ClippedTanh(HalfTanh):
    @staticmethod
    def backward(ctx, dy):
        return 2 * HalfTanh.backward(ctx, dy.clamp(-1, 1))


class NanTanh(HalfTanh):
    @staticmethod
    def backward(ctx, dy):
        return HalfTanh.backward(ctx, dy) * torch.nan


class WrongTanh(HalfTanh):
    @staticmethod
    def forward(ctx, x):
        return 3 * HalfTanh.forward(ctx, x)


def tanh_forward(x):
    y = np.tanh(x)
    return y, y


def tanh_backward(y, dy):
    return dy * (1 - y * y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [HalfTanh, ClippedTanh])
def test_a_wrong_reference_is_blamed(wrong, dtype):
    (x,) = draw((4, 3), dtype=dtype)
    found, comparison = first_failure(tanh_forward, tanh_backward, wrong.apply, x)
    assert found == ("d_x", "mismatch", "torch")
    row = comparison.failures.iloc[0]
    assert abs(row.manual - row.oracle) <= row.allowed


def test_a_reference_with_a_nan_is_blamed():
    found, _ = first_failure(tanh_forward, tanh_backward, NanTanh.apply, *draw((4, 3)))
    assert found == ("d_x", "nonfinite", "torch")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [0.5, -1, 1.001, 0.0])
def test_a_mistake_of_both_is_found(factor, dtype):
    class Wrong(HalfTanh):
        @staticmethod
        def backward(ctx, dy):
            return 2 * factor * HalfTanh.backward(ctx, dy)

    def wrong(y, dy):
        return (factor * dy * (1 - y * y)).astype(y.dtype)

    (x,) = draw((4, 3), dtype=dtype)
    found, _ = first_failure(tanh_forward, wrong, Wrong.apply, x)
    if factor:
        assert found == ("d_x", "mismatch", "both")
    else:
        assert found[:2] == ("d_x", "vacuous")


def test_both_may_be_wrong_each_in_its_way():
    found, _ = first_failure(
        tanh_forward, lambda y, dy: 2 * tanh_backward(y, dy), HalfTanh.apply, *draw((4, 3))
    )
    assert found == ("d_x", "mismatch", "both")


def test_where_the_reference_is_hand_written_too_nobody_says_what_the_output_is():
    found, _ = first_failure(tanh_forward, tanh_backward, WrongTanh.apply, *draw((4, 3)))
    assert found == ("output", "mismatch", "undecided")


def test_a_wrong_forward_is_one_wrong_row():
    """The gradients are those of the reference, and are not blamed for it."""
    found, comparison = first_failure(
        lambda x: (1.01 * np.tanh(x), np.tanh(x)), tanh_backward, torch.tanh, *draw((4, 3))
    )
    assert found == ("output", "mismatch", "manual")
    assert list(comparison.failures["name"]) == ["output"]


# Several outputs, scalars, inputs that do not matter, dtypes.


def moments_backward(x, dfirst, dsecond):
    return (dfirst + 2 * x * dsecond) / len(x)


def moments_forward(x):
    return (x.mean(0), (x * x).mean(0)), x


def moments_in_torch(x):
    return x.mean(0), (x * x).mean(0)


def test_several_outputs():
    comparison = check_backward(moments_forward, moments_backward, moments_in_torch, *draw((4, 3)))
    names = list(comparison.frame["name"])
    assert names[:4] == ["output.0", "output.1", "x (unchanged)", "d_x"]
    assert "d_output.1 (unchanged by backward)" in names
    for wrong in (
        lambda x, du, dv: (dv + 2 * x * du) / len(x),
        lambda x, du, dv: (np.zeros_like(x) + du) / len(x),
        lambda x, du, dv: 2 * x * dv / len(x),
    ):
        found, _ = first_failure(moments_forward, wrong, moments_in_torch, *draw((4, 3)))
        assert found == ("d_x", "mismatch", "manual")


def test_an_output_of_integers_has_no_cotangent():
    seen = []

    def forward(x):
        return (x.max(1), x.argmax(1)), (x.shape, x.argmax(1))

    def backward(saved, dlargest, dat):
        seen.append(dat)
        dx = np.zeros(saved[0], dlargest.dtype)
        np.put_along_axis(dx, saved[1][:, None], dlargest[:, None], 1)
        return dx

    assert check_backward(forward, backward, lambda x: tuple(x.max(1)), *draw((4, 3))).passed
    assert all(d is None for d in seen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scalars(dtype):
    """A sum over all, a 0-d array, and NumPy's own scalars, which sums are."""

    def forward(x, a):
        return a * x.sum(), (x, a)

    def backward(saved, dy):
        x, a = saved
        assert isinstance(dy, np.ndarray)
        return np.full_like(x, dy * a), dy * x.sum()

    def reference(x, a):
        return a * x.sum()

    x, a = draw((4, 3), (), dtype=dtype)
    assert check_backward(forward, backward, reference, x, a).passed
    cube = (lambda x: (x**3, x), lambda x, dy: 3 * dy * x * x, lambda x: x**3)
    comparison = check_backward(*cube, a)
    assert next(iter(comparison.frame["shape"])) == ()
    found, _ = first_failure(forward, lambda s, dy: (backward(s, dy)[0], dy), reference, x, a)
    assert found == ("d_x.1", "mismatch", "manual")


def test_an_input_that_does_not_matter_has_a_gradient_of_zeros_that_is_declared():
    arrays = draw((4, 3), (3,))
    pair = (
        lambda x, w: (2 * x, w),
        lambda w, dy: (2 * dy, np.zeros_like(w)),
        lambda x, w: 2 * x,
    )
    found, comparison = first_failure(*pair, *arrays)
    assert found[:2] == ("d_x.1", "vacuous")
    assert comparison.blame is None
    assert check_backward(*pair, *arrays, allow_vacuous=["d_x.1"]).passed
    assert check_backward(*pair, *arrays, allow_vacuous=["d_*"]).passed
    with pytest.raises(EquivalenceError):
        check_backward(*pair, *arrays, allow_vacuous=["d_x.0"])
    found, _ = first_failure(
        pair[0], lambda w, dy: (2 * dy, None), pair[2], *arrays, allow_vacuous=["d_*"]
    )
    assert found == ("d_x.1", "missing", "manual")


def test_float32_and_float64_may_be_mixed():
    x, w = draw((4, 3), (3,))
    x = x.astype(np.float32)

    def backward(saved, dy):
        x, w = saved
        return (dy * w).astype(x.dtype), (dy * x).sum(0)

    frame = check_backward(scale_forward, backward, torch.mul, x, w).frame.set_index("name")
    assert frame.dtype["output"] == frame.dtype["d_x.1"] == "float64"
    assert frame.dtype["d_x.0"] == "float32"
    found, _ = first_failure(scale_forward, scale_backward, torch.mul, x, w)
    assert found == ("d_x.0", "dtype", "manual")


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_of_thousands_whatever_the_size(dtype, size):
    """Equal terms of one sign, where all roundings have one sign, and terms that cancel."""
    g = np.random.default_rng(0)
    for x in (np.full((5000, 2), 0.1), g.normal(size=(5000, 2))):
        x = (x * size).astype(dtype)
        pair = (lambda x: (np.cumsum(x, 0)[-1], x), lambda x, dy: np.zeros_like(x) + dy)
        assert check_backward(*pair, lambda x: x.sum(0), x).passed
        broadcast = (
            lambda b, n: (b + np.zeros((len(n), 2), b.dtype), n),
            lambda n, dy: (np.cumsum(dy, 0)[-1], None),
            lambda b, n: b + torch.zeros((len(n), 2), dtype=b.dtype),
        )
        b = np.array([size, -size], dtype)
        assert check_backward(*broadcast, b, np.zeros(5000, np.int64)).passed
        if size == 1:
            found, _ = first_failure(
                pair[0], lambda x, dy: np.zeros_like(x) + dy * dtype(1.001), lambda x: x.sum(0), x
            )
            assert found == ("d_x", "mismatch", "manual")


def test_another_way_to_compute_may_lose_digits_where_the_wider_dtype_has_them():
    """y (1 − y) of numbers near 1 keeps few of them; 1 % too much is no rounding."""
    x = np.linspace(5, 12, 50).astype(np.float32)

    def forward(x):
        y = 1 / (1 + np.exp(-x))
        return y, y

    def composed(x):
        return 1 / (1 + torch.exp(-x))

    check_backward(forward, lambda y, dy: dy * y * (1 - y), composed, x)
    factor = np.float32(1.01)
    found, _ = first_failure(
        forward, lambda y, dy: factor * dy * y * (1 - y), composed, x.astype(np.float64)
    )
    assert found[0] == "d_x"
    found, _ = first_failure(forward, lambda y, dy: factor * dy * y * (1 - y), composed, x)
    assert found == ("d_x", "mismatch", "manual")


def test_digits_lost_by_the_way_of_computing_are_not_forgiven_beyond_half():
    """x = (x + c) − c keeps five digits of float32 for c = 100, and two for c = 10⁵."""

    def pair(c):
        return lambda x: ((x + c) - c, None), lambda _, dy: dy, lambda x: 1 * x

    (x,) = draw((4, 3), dtype=np.float32)
    assert check_backward(*pair(100), x).passed
    found, _ = first_failure(*pair(100_000), x)
    assert found == ("output", "mismatch", "manual")


def test_one_that_computes_in_float32_only_is_checked_all_the_same():
    def forward(x):
        x = x.astype(np.float32)
        return np.tanh(x), np.tanh(x)

    (x,) = draw((4, 3), dtype=np.float32)
    assert check_backward(forward, tanh_backward, torch.tanh, x).passed
    found, comparison = first_failure(
        forward, lambda y, dy: 2 * tanh_backward(y, dy), torch.tanh, x
    )
    assert found == ("d_x", "mismatch", "manual")
    assert np.isfinite(comparison.failures.iloc[0].oracle)
    x = np.float32([0.5, 1.25, -3])  # squared without an error: the values alone do not tell
    found, comparison = first_failure(
        lambda x: (np.square(x.astype(np.float32)), x),
        lambda x, dy: dy * x * np.float32(2.00002),
        torch.square,
        x,
    )
    assert found == ("d_x", "mismatch", "manual")
    row = comparison.failures.iloc[0]
    assert abs(row.oracle - row.torch) <= 1e-9


# What is given and what is said.


def test_what_is_given_stays_as_it_is():
    arrays = draw((4, 3), (3,))
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    check_backward(scale_forward, scale_backward, torch.mul, *arrays)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_the_seed_draws_the_cotangents():
    def drawn(seed):
        seen = []

        def backward(saved, dy):
            seen.append(dy.copy())
            return scale_backward(saved, dy)

        check_backward(scale_forward, backward, torch.mul, *draw((4, 3), 3), seed=seed)
        return seen

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])
    u, v = first[1:3]
    assert not np.array_equal(u, v)
    for dy in (u, v):
        assert (np.abs(dy) >= 1 / 8).all()
        assert (dy > 0).any()
        assert (dy < 0).any()
        assert np.array_equal(dy, dy.astype(np.float32))
        assert len(np.unique(dy)) > 6


def test_the_message_has_the_row_the_seed_and_what_was_raised():
    _, comparison = first_failure(
        *raises(scale_forward, scale_backward), torch.mul, *draw((4, 3), 3), seed=7
    )
    text = str(comparison)
    assert "backward raised ZeroDivisionError: a mistake" in text
    assert "seed 7" in text
    assert "first: step 1, d_x.0" in text


def test_every_row_has_a_reason():
    comparison = check_backward(*PAIRS["norm"][:3], *draw(*PAIRS["norm"][3]))
    frame = comparison.frame
    assert set(comparison.reasons) == {(1, name) for name in frame["name"]}
    assert frame["name"].is_unique
    assert set(comparison.reasons.values()) == set(REASONS.values())


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "no array of float32 or float64", {"arrays": []}),
        (ValueError, "no array of float32", {"arrays": [np.arange(3)]}),
        (TypeError, "array 1 must be an ndarray, got list", {"arrays": [np.ones(3), [1.0]]}),
        (TypeError, "array 0 must be an ndarray, got Tensor", {"arrays": [torch.ones(3)]}),
        (TypeError, "got float16", {"arrays": [np.ones(3, np.float16)]}),
        (TypeError, "got complex128", {"arrays": [np.ones(3, complex)]}),
        (ValueError, r"array 0 has no elements \(shape \[0, 3\]\)", {"arrays": [np.ones((0, 3))]}),
        (ValueError, "array 0 has an element that is not finite", {"arrays": [np.array([np.nan])]}),
        (TypeError, "must return a pair.*got an ndarray of shape", {"forward": np.tanh}),
        (TypeError, "must return a pair.*got a tuple of 3", {"forward": lambda x: (x, x, x)}),
        (TypeError, "an output of forward must be an ndarray", {"forward": lambda x: (1.0, x)}),
        (ValueError, "forward returned no output", {"forward": lambda x: ((), x)}),
        (ValueError, "forward returned 2 outputs, reference 1", {"forward": lambda x: ((x, x), x)}),
        (ValueError, "each of 1 arrays.*got a tuple of 2", {"backward": lambda s, dy: (dy, dy)}),
        (TypeError, "backward returned.*got a float", {"backward": lambda s, dy: 1.0}),
        (TypeError, "must return a tensor", {"reference": lambda x: 1.0}),
        (
            ValueError,
            "must run in float64",
            {
                "arrays": [np.ones((2, 2), np.float32)],
                "reference": lambda x: torch.tanh(x) @ torch.eye(2),
            },
        ),
        (TypeError, "allow_vacuous must be a list", {"allow_vacuous": "d_x"}),
    ],
)
def test_bad_usage_is_one_clear_error(error, message, change):
    given = {
        "forward": tanh_forward,
        "backward": tanh_backward,
        "reference": torch.tanh,
        "arrays": draw((4, 3)),
    } | change
    arrays = given.pop("arrays")
    functions = (given.pop(name) for name in ("forward", "backward", "reference"))
    with pytest.raises(error, match=message):
        check_backward(*functions, *arrays, **given)


def test_a_gradient_for_each_of_several_arrays():
    with pytest.raises(ValueError, match=r"each of 2 arrays.*got an ndarray"):
        check_backward(scale_forward, lambda s, dy: dy, torch.mul, *draw((4, 3), 3))


def test_an_error_of_forward_comes_out_as_it_is():
    def forward(x):
        raise ZeroDivisionError("of my own")

    with pytest.raises(ZeroDivisionError, match="of my own"):
        check_backward(forward, tanh_backward, torch.tanh, *draw((4, 3)))
