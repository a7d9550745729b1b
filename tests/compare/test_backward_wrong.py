"""`check_backward`: what can be wrong with any hand-written pair of functions is rejected, in the
right row."""

import numpy as np
import pytest

from tests.compare.backward_pairs import PAIRS, draw, first_failure, raises

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
