"""Parameter and the flat buffers that the parameters of a network share."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manual import nn
from manual.nn.parameter import Parameter, flatten, runs

RNG = np.random.default_rng
COPIES = [copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))]
copies = pytest.mark.parametrize("duplicate", COPIES, ids=["deepcopy", "pickle"])


def shapes_to_parameters(shapes, dtype=np.float64, seed=0):
    rng = RNG(seed)
    return [Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def is_one_run(parameters):
    """All values in one piece and all gradients in another, in order, each a view."""
    parameters = list(parameters)
    pieces = list(runs(parameters))
    if len(pieces) != 1 or pieces[0][0].size != sum(p.size for p in parameters):
        return False
    start = 0
    for p in parameters:
        values, grads = (p.shaped(piece[start : start + p.size]) for piece in pieces[0])
        start += p.size
        same = np.array_equal(values, p.data) and np.shares_memory(values, p.data)
        if not same or not np.shares_memory(grads, p.overwrite_grad()):
            return False
    return True


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (2, 3, 4)], ids=str)
def test_attributes_and_a_copy_of_the_value(shape, dtype, layout):
    value = layout(RNG(1).normal(size=shape).astype(dtype))
    p = Parameter(value)
    assert (p.shape, p.dtype, p.ndim, p.size) == (shape, dtype, value.ndim, value.size)
    assert np.array_equal(p.data, value)
    assert not np.shares_memory(p.data, value)
    assert p.grad is None
    assert np.array_equal(np.asarray(p), value)
    assert np.asarray(p, np.float32).dtype == np.float32
    assert repr(p) == f"Parameter containing:\n{p.data!r}"


def test_as_an_array():
    """NumPy's protocol: a copy only where one is asked for or the dtype needs one."""
    p = Parameter(np.ones(3))
    assert p.__array__(np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(p), p.data)
    assert np.shares_memory(p.__array__(copy=False), p.data)
    assert not np.shares_memory(p.__array__(copy=True), p.data)


def test_the_memory_order_of_a_transposed_block_stays():
    block = RNG(2).normal(size=(3, 2))
    p = Parameter(block.T)
    assert p.data.flags.f_contiguous
    assert p.overwrite_grad().flags.f_contiguous
    [(values, _)] = runs([p])
    assert np.array_equal(values, block.ravel())
    assert np.array_equal(p.shaped(values), block.T)
    flatten([p, Parameter(np.ones(1))])
    p.to(np.float32)
    assert p.data.flags.f_contiguous
    assert np.array_equal(p.data, block.T.astype(np.float32))


@pytest.mark.parametrize("bad", [np.arange(3), np.ones(2, np.float16), [1, 2], 1j, "x", None])
def test_only_floats(bad):
    with pytest.raises(TypeError, match=f"array of {np.asarray(bad).dtype}"):
        Parameter(bad)


def test_assigning_copies_and_keeps_the_place():
    p = Parameter(np.zeros((2, 3)))
    data, value = p.data, RNG(3).normal(size=(2, 3))
    p.data = value
    p.grad = 2 * value
    assert p.data is data
    assert np.array_equal(p.data, value)
    assert np.array_equal(p.grad, 2 * value)
    assert not np.shares_memory(p.data, value)
    [(values, grads)] = runs([p])
    assert np.array_equal(values, value.ravel())
    assert np.array_equal(grads, 2 * value.ravel())
    p.data += 1
    assert np.array_equal(values, value.ravel() + 1)
    p.grad = None
    assert p.grad is None


@pytest.mark.parametrize("what", ["data", "grad"])
@pytest.mark.parametrize(
    "bad", [np.ones((3, 2)), np.ones(3), np.ones(()), 1.0, np.ones((2, 3), np.float32)], ids=repr
)
def test_assigning_does_not_broadcast_or_convert(what, bad):
    p = Parameter(np.zeros((2, 3)))
    bad = np.asarray(bad)
    with pytest.raises(ValueError, match=f"{what} of this parameter") as error:
        setattr(p, what, bad)
    assert f"got shape {bad.shape} and dtype {bad.dtype}" in str(error.value)
    assert not p.data.any()
    assert p.grad is None


def test_an_update_of_either_side_is_seen_on_the_other():
    parameters = shapes_to_parameters([(2, 3), (3,)])
    flatten(parameters)
    [(values, grads)] = runs(parameters)
    parameters[1].data[1] = 7
    parameters[0].grad = np.full((2, 3), 5.0)
    assert values[7] == 7
    assert (grads[:6] == 5).all()
    values[0], grads[5] = -1, -2
    assert parameters[0].data[0, 0] == -1
    assert parameters[0].grad[1, 2] == -2


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([(), (1,), (3,), (2, 3), (4, 1)]), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_flatten_keeps_values_and_gradients(shapes, order):
    parameters = shapes_to_parameters(shapes)
    for p in parameters[::2]:
        p.grad = 3 * p.data
    for _ in range(2):
        before = [(p.data.copy(), p.grad if p.grad is None else p.grad.copy()) for p in parameters]
        flatten(parameters)
        for p, (data, grad) in zip(parameters, before, strict=True):
            assert np.array_equal(p.data, data)
            assert (p.grad is None) == (grad is None)
            assert grad is None or np.array_equal(p.grad, grad)
        [(values, _)] = runs(parameters)
        assert np.array_equal(values, np.concatenate([p.data.ravel() for p in parameters]))
        order.shuffle(parameters)


def test_flatten_leaves_what_lies_together_where_it_is():
    parameters = shapes_to_parameters([(2, 3), (3,), (4,)])
    flatten(parameters)
    kept = [p.data for p in parameters]
    flatten(parameters)
    flatten(parameters[1:])
    assert all(p.data is k for p, k in zip(parameters, kept, strict=True))
    assert len(list(runs(parameters))) == 1
    assert len(list(runs(parameters[::2]))) == 2
    assert len(list(runs(reversed(parameters)))) == 3
    assert list(runs([])) == []


def test_flatten_has_one_buffer_for_each_dtype():
    parameters = shapes_to_parameters([(2,), (3,)]) + shapes_to_parameters([(4,)], np.float32)
    flatten(parameters)
    assert [values.dtype for values, _ in runs(parameters)] == [np.float64, np.float32]
    assert is_one_run(parameters[:2])
    later = shapes_to_parameters([(5,)], np.float32)
    flatten([*parameters, *later])  # those of float64 lie well
    assert is_one_run([parameters[2], *later])


@copies
def test_a_copy_shares_its_own_buffers_and_nothing_else(duplicate):
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))
    x = RNG(4).normal(size=(5, 3)).astype(np.float32)
    net.backward(net(x))
    twice = duplicate(net)
    assert is_one_run(twice.parameters())
    for p, q in zip(net.parameters(), twice.parameters(), strict=True):
        assert np.array_equal(p.data, q.data)
        assert np.array_equal(p.grad, q.grad)
        assert p.data.strides == q.data.strides
        assert not np.shares_memory(p.data, q.data)
        assert not np.shares_memory(p.grad, q.grad)
    kept = net.state_dict()
    [(values, _)] = runs(twice.parameters())
    values[...] = 0
    assert not twice(x).any()
    assert all(np.array_equal(value, kept[name]) for name, value in net.state_dict().items())


@copies
def test_a_copy_has_a_gradient_only_where_the_original_has_one(duplicate):
    p, q = shapes_to_parameters([(2,), (2,)])
    q.grad = np.ones(2)
    p, q = duplicate([p, q])
    assert p.grad is None
    assert np.array_equal(q.grad, [1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_to_converts_value_and_gradient(dtype):
    p, q = shapes_to_parameters([(2, 3), (3,)], np.float64)
    flatten([p, q])
    p.grad = 2 * p.data
    value, other = p.data.copy(), q.data
    p.to(dtype)
    assert p.dtype == p.grad.dtype == dtype
    assert np.array_equal(p.data, value.astype(dtype))
    assert np.array_equal(p.grad, (2 * value).astype(dtype))
    p.data[...] = 0
    assert q.data is other
    assert q.data.any()
    q.to(dtype)
    assert q.grad is None
