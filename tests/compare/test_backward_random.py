"""`check_backward` on random correct functions, and on the same with one entry a little wrong."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare import EquivalenceError, check_backward

DTYPES = [np.float32, np.float64]


def sum_to(d, shape):
    """d, summed over the axes along which an array of this shape was broadcast."""
    d = d.sum(tuple(range(d.ndim - len(shape))))
    axes = tuple(k for k, n in enumerate(shape) if n == 1 and d.shape[k] != 1)
    return d.sum(axes, keepdims=True)


def elementwise(f, slope):
    """f(x) and f'(x, y)."""

    def forward(x):
        y = f(x)
        return y, (x, y)

    return forward, lambda saved, dy: dy * slope(*saved)


def binary(f, slopes):
    """f(a, b), broadcasting, and its two slopes at (a, b)."""

    def backward(saved, dy):
        return tuple(sum_to(dy * s(*saved), v.shape) for s, v in zip(slopes, saved, strict=True))

    return lambda a, b: (f(a, b), (a, b)), backward


def one(x):
    return x.dtype.type(1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ELEMENTWISE = {
    "square": (np.square, lambda x, y: 2 * x, torch.square),
    "cube": (lambda x: x**3, lambda x, y: 3 * x * x, lambda x: x**3),
    "exp": (np.exp, lambda x, y: y, torch.exp),
    "tanh": (np.tanh, lambda x, y: 1 - y * y, torch.tanh),
    "sigmoid": (sigmoid, lambda x, y: y * (1 - y), torch.sigmoid),
    "sigmoid, composed": (sigmoid, lambda x, y: y * (1 - y), lambda x: 1 / (1 + torch.exp(-x))),
    "silu": (
        lambda x: x * sigmoid(x),
        lambda x, y: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
        torch.nn.functional.silu,
    ),
    "gelu, tanh": (
        lambda x: x * sigmoid(2 * np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x**3)),
        lambda x, y: _gelu_slope(x),
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    "gelu": (
        lambda x: x * _normal_cdf(x),
        lambda x, y: _normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi).astype(x.dtype),
        torch.nn.functional.gelu,
    ),
    "softplus": (
        lambda x: np.logaddexp(x, x.dtype.type(0)),
        lambda x, y: sigmoid(x),
        lambda x: torch.log1p(torch.exp(x)),
    ),
    "sin": (np.sin, lambda x, y: np.cos(x), torch.sin),
    "arctan": (np.arctan, lambda x, y: 1 / (1 + x * x), torch.atan),
    "relu": (lambda x: np.maximum(x, 0), lambda x, y: x > 0, torch.relu),
    "abs": (np.abs, lambda x, y: np.sign(x), torch.abs),
    "clip": (
        lambda x: np.clip(x, -1, 1),
        lambda x, y: (x > -1) & (x < 1),
        torch.nn.functional.hardtanh,
    ),
    "hinge": (
        lambda x: np.maximum(1 - x, 0),
        lambda x, y: -(x < 1).astype(x.dtype),
        lambda x: torch.relu(1 - x),
    ),
    "shifted": (lambda x: x + 1000, lambda x, y: np.ones_like(x), lambda x: x + 1000),
}
POSITIVE = {
    "log": (np.log, lambda x, y: 1 / x, torch.log),
    "sqrt": (np.sqrt, lambda x, y: 0.5 / y, torch.sqrt),
    "reciprocal": (np.reciprocal, lambda x, y: -y * y, torch.reciprocal),
    "xlogx": (lambda x: x * np.log(x), lambda x, y: np.log(x) + 1, lambda x: x * torch.log(x)),
}


def _normal_cdf(x):
    """In float64, whatever the dtype of x."""
    return np.asarray(np.vectorize(math.erfc)(-x / np.sqrt(2).astype(x.dtype)) / 2, x.dtype)


def _gelu_slope(x):
    c = np.sqrt(2 / np.pi).astype(x.dtype)
    s = sigmoid(2 * c * (x + 0.044715 * x**3))
    return s + x * s * (1 - s) * 2 * c * (1 + 3 * 0.044715 * x * x)


def _half(a, b):
    return np.where(a == b, one(a) / 2, (a > b).astype(a.dtype))


BINARY = {
    "add": (np.add, (lambda a, b: one(a), lambda a, b: one(a)), torch.add),
    "subtract": (np.subtract, (lambda a, b: one(a), lambda a, b: -one(a)), torch.sub),
    "multiply": (np.multiply, (lambda a, b: b, lambda a, b: a), torch.mul),
    "maximum": (np.maximum, (_half, lambda a, b: _half(b, a)), torch.maximum),
    "squared distance": (
        lambda a, b: (a - b) ** 2,
        (lambda a, b: 2 * (a - b), lambda a, b: 2 * (b - a)),
        lambda a, b: (a - b) ** 2,
    ),
    "difference of squares": (
        lambda a, b: a * a - b * b,
        (lambda a, b: 2 * a, lambda a, b: -2 * b),
        lambda a, b: (a - b) * (a + b),
    ),
}


def layer_norm(eps):
    def forward(x, weight, bias):
        d = x - x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + eps)
        return d * inverse * weight + bias, (d * inverse, inverse, weight)

    def backward(saved, dy):
        n, inverse, weight = saved
        dn = dy * weight
        dx = dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True)
        return inverse * dx, sum_to(dy * n, weight.shape), sum_to(dy, weight.shape)

    def reference(x, weight, bias):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)

    return forward, backward, reference


def softmax():
    def forward(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return y, y

    return (
        forward,
        lambda y, dy: y * (dy - (dy * y).sum(-1, keepdims=True)),
        lambda x: torch.softmax(x, -1),
    )


def log_softmax():
    def forward(x):
        m = x.max(-1, keepdims=True)
        y = x - m - np.log(np.exp(x - m).sum(-1, keepdims=True))
        return y, y

    return (
        forward,
        lambda y, dy: dy - np.exp(y) * dy.sum(-1, keepdims=True),
        lambda x: torch.log_softmax(x, -1),
    )


def logsumexp():
    """Without the maximum, which torch takes out."""

    def forward(x):
        y = np.log(np.exp(x).sum(-1))
        return y, (x, y)

    def backward(saved, dy):
        x, y = saved
        return np.exp(x - y[..., None]) * dy[..., None]

    return forward, backward, lambda x: torch.logsumexp(x, -1)


def reduction(name, axis):
    """sum, mean, max (torch's amax shares a tie) or the norm, over one axis or all."""

    def shaped(v, x):
        return v if axis is None else np.expand_dims(v, axis)

    def forward(x):
        y = np.sqrt((x * x).sum(axis)) if name == "norm" else getattr(x, name)(axis)
        return y, (x, y)

    def backward(saved, dy):
        x, y = saved
        dy, y = shaped(dy, x), shaped(y, x)
        count = x.size if axis is None else x.shape[axis]
        if name == "max":
            top = x == y
            return dy * top / top.sum(axis, keepdims=True, dtype=x.dtype)
        factors = {"sum": lambda: np.ones_like(x), "mean": lambda: np.full_like(x, 1 / count)}
        return dy * (x / y if name == "norm" else factors[name]())

    torchs = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}
    norm = torch.linalg.vector_norm
    dim = tuple(range(9)) if axis is None else axis
    if name == "norm":
        return forward, backward, lambda x: norm(x, dim=None if axis is None else axis)
    return (
        forward,
        backward,
        lambda x: torchs[name](x, dim=dim[: x.ndim] if axis is None else axis),
    )


def matmul():
    return (
        lambda a, b: (a @ b, (a, b)),
        lambda saved, dy: (dy @ saved[1].T, saved[0].T @ dy),
        torch.matmul,
    )


def linear():
    def backward(saved, dy):
        x, w = saved
        return dy @ w, dy.T @ x, dy.sum(0)

    return lambda x, w, b: (x @ w.T + b, (x, w)), backward, torch.nn.functional.linear


def outer():
    return (
        lambda a, b: (np.outer(a, b), (a, b)),
        lambda saved, dy: (dy @ saved[1], saved[0] @ dy),
        torch.outer,
    )


def gather():
    def backward(saved, dy):
        shape, at = saved
        dw = np.zeros(shape, dy.dtype)
        np.add.at(dw, at, dy)
        return dw, None

    return (
        lambda w, at: (w[at], (w.shape, at)),
        backward,
        lambda w, at: torch.nn.functional.embedding(at, w),
    )


def where():
    def backward(mask, dy):
        return None, dy * mask, dy * ~mask

    return lambda mask, a, b: (np.where(mask, a, b), mask), backward, torch.where


def cross_entropy():
    """The mean of −log softmax at the target, with (softmax − onehot)/n as its gradient."""

    def forward(x, target):
        m = x.max(1, keepdims=True)
        e = np.exp(x - m)
        total = e.sum(1, keepdims=True)
        rows = np.arange(len(x))
        loss = (np.log(total) + m)[:, 0] - x[rows, target]
        return loss.mean(), (e / total, target)

    def backward(saved, dloss):
        p, target = saved
        dx = p.copy()
        dx[np.arange(len(p)), target] -= 1
        return dx * (dloss / len(p)), None

    return forward, backward, torch.nn.functional.cross_entropy


def moments():
    """Two outputs of one input: the means of x and of x² over the rows."""

    def backward(x, dfirst, dsecond):
        return (dfirst + 2 * x * dsecond) / len(x)

    return (
        lambda x: ((x.mean(0), (x * x).mean(0)), x),
        backward,
        lambda x: (x.mean(0), (x * x).mean(0)),
    )


def top():
    """The largest of a row, and where: an output of integers."""

    def forward(x):
        at = x.argmax(1)
        return (np.take_along_axis(x, at[:, None], 1)[:, 0], at), (x.shape, at)

    def backward(saved, dlargest, dat):
        shape, at = saved
        dx = np.zeros(shape, dlargest.dtype)
        np.put_along_axis(dx, at[:, None], dlargest[:, None], 1)
        return dx

    return forward, backward, lambda x: tuple(torch.max(x, 1))


def attention():
    def forward(q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1]).astype(q.dtype)
        e = np.exp(s - s.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        return p @ v, (q, k, v, p)

    def backward(saved, dy):
        q, k, v, p = saved
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(1, keepdims=True)) / np.sqrt(q.shape[1]).astype(q.dtype)
        return ds @ k, ds.T @ q, p.T @ dy

    return forward, backward, torch.nn.functional.scaled_dot_product_attention


def convolution():
    """Of one channel, along the last axis of a batch, by windows."""

    def forward(x, w):
        windows = np.lib.stride_tricks.sliding_window_view(x, len(w), 1)
        return windows @ w, (x, w, windows)

    def backward(saved, dy):
        x, w, windows = saved
        dx = np.zeros_like(x)
        for k in range(len(w)):
            dx[:, k : k + dy.shape[1]] += dy * w[k]
        return dx, np.tensordot(dy, windows, ((0, 1), (0, 1)))

    def reference(x, w):
        return torch.nn.functional.conv1d(x[:, None], w[None, None])[:, 0]

    return forward, backward, reference


def batch_norm():
    def forward(x):
        d = x - x.mean(0)
        inverse = 1 / np.sqrt((d * d).mean(0) + 1e-5)
        return d * inverse, (d * inverse, inverse)

    def backward(saved, dy):
        n, inverse = saved
        return inverse * (dy - dy.mean(0) - n * (dy * n).mean(0))

    return (
        forward,
        backward,
        lambda x: torch.nn.functional.batch_norm(x, None, None, training=True),
    )


def cumsum():
    def backward(_, dy):
        return np.flip(np.flip(dy, 0).cumsum(0), 0)

    return lambda x: (x.cumsum(0), None), backward, lambda x: torch.cumsum(x, 0)


def shape(g, rank, longest=9):
    return tuple(int(n) for n in g.integers(1, longest, rank))


def drawn(seed, dtype):
    """(name, forward, backward, reference, arrays): one of all the functions above, of random
    sizes and scales, in a third of the cases at numbers on the kinks."""
    g = np.random.default_rng(seed)

    def normal(*size, scale=1.0):
        values = g.normal(size=size) * scale
        return np.asarray(np.round(2 * values) / 2 if rounded else values, dtype)

    rounded = g.uniform() < 1 / 3
    free = 10 ** g.uniform(-6, 6)  # for what is linear, or nearly
    kind = str(g.choice(KINDS))
    if kind == "elementwise":
        name = str(g.choice(list(ELEMENTWISE)))
        f, slope, reference = ELEMENTWISE[name]
        x = normal(*shape(g, g.integers(0, 4)), scale=10 ** g.uniform(-3, 0.7))
        return name, *elementwise(f, slope), reference, (x,)
    if kind == "positive":
        name = str(g.choice(list(POSITIVE)))
        f, slope, reference = POSITIVE[name]
        x = np.asarray(10 ** g.uniform(-6, 6, shape(g, g.integers(0, 4))), dtype)
        return name, *elementwise(f, slope), reference, (x,)
    if kind == "binary":
        name = str(g.choice(list(BINARY)))
        f, slopes, reference = BINARY[name]
        full = shape(g, 3)
        ones = [n if g.uniform() < 0.6 else 1 for n in full][g.integers(0, 4) :]
        arrays = [normal(*full, scale=free), normal(*ones, scale=free)]
        return name, *binary(f, slopes), reference, arrays[:: g.choice([1, -1])]
    n, d = shape(g, 2)
    x = normal(n, d, scale=10 ** g.uniform(-1, 1))
    if kind == "reduction":
        name = str(g.choice(["sum", "mean", "max", "norm"]))
        axis = [None, 0, 1][g.integers(3)]
        x = normal(n, int(g.choice([d, 3000])), scale=free) + dtype(free) * (name == "norm")
        return name, *reduction(name, axis), (x,)
    if kind == "layer_norm":
        x = normal(n, d + 2, scale=10 ** g.uniform(-1, 3))
        return kind, *layer_norm(1e-5), (x, normal(d + 2), normal(d + 2))
    if kind in ("matmul", "linear"):
        m = shape(g, 1, 40)[0]
        if kind == "matmul":
            return kind, *matmul(), (normal(n, m, scale=free), normal(m, d))
        return kind, *linear(), (normal(n, m), normal(d, m, scale=free), normal(d, scale=free))
    if kind == "outer":
        return kind, *outer(), (normal(n, scale=free), normal(d))
    if kind == "gather":
        return kind, *gather(), (normal(n, d, scale=free), g.integers(0, n, shape(g, 2)))
    if kind == "where":
        return kind, *where(), (g.uniform(size=(n, d)) < 0.5, normal(n, d), normal(n, d))
    if kind == "cross_entropy":
        return kind, *cross_entropy(), (x, g.integers(0, d, n))
    if kind == "attention":
        m, h = shape(g, 2)
        return kind, *attention(), (normal(n, d), normal(m, d), normal(m, h))
    if kind == "convolution":
        return kind, *convolution(), (normal(n, d + 4, scale=free), normal(int(g.integers(1, 5))))
    if kind == "batch_norm":
        return kind, *batch_norm(), (normal(n + 2, d, scale=10 ** g.uniform(-1, 3)),)
    function = {f.__name__: f for f in (softmax, log_softmax, logsumexp, moments, top, cumsum)}
    return kind, *function[kind](), (x,)


KINDS = ["elementwise"] * 4 + ["positive", "binary", "binary", "reduction", "layer_norm", "matmul"]
KINDS += ["linear", "outer", "gather", "where", "cross_entropy", "attention", "convolution"]
KINDS += ["batch_norm", "softmax", "log_softmax", "logsumexp", "moments", "top", "cumsum"]


# Where all of a row is the maximum or all is clipped, say, the gradient is zero, and rightly so.
ALLOWED = ["d_x*"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_correct_pair_passes(dtype, seed):
    name, *pair, arrays = drawn(seed, dtype)
    try:
        check_backward(*pair, *arrays, seed=seed, allow_vacuous=ALLOWED)
    except EquivalenceError as error:
        pytest.fail(f"{name} of {[a.shape for a in arrays]}, seed {seed}: {error}")


def caught(seed, dtype):
    """Whether it shows that one entry of the first gradient is off by 1 % in float32 or 1e-6 in
    float64: one of median size of those that are not 0. None where there is no such entry."""
    _, forward, backward, reference, arrays = drawn(seed, dtype)
    factor = 1.01 if dtype == np.float32 else 1 + 1e-6

    def gradients(saved, *doutputs):
        found = backward(saved, *doutputs)
        return list(found) if isinstance(found, tuple) else [found]

    outputs, saved = forward(*arrays)
    g = np.random.default_rng(seed)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    doutputs = [np.asarray(g.normal(size=y.shape), dtype) for y in outputs]
    at = next(k for k, d in enumerate(gradients(saved, *doutputs)) if d is not None)
    sizes = np.abs(gradients(saved, *doutputs)[at]).reshape(-1)
    nonzero = np.flatnonzero(sizes)
    if not nonzero.size:
        return None
    entry = nonzero[np.argsort(sizes[nonzero])[nonzero.size // 2]]

    def wrong(saved, *doutputs):
        found = gradients(saved, *doutputs)
        found[at] = np.array(found[at], order="C")
        found[at].flat[entry] *= found[at].dtype.type(factor)
        return tuple(found)

    try:
        check_backward(forward, wrong, reference, *arrays, seed=seed, allow_vacuous=["*"])
    except EquivalenceError:
        return True
    return False


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_small_mistake_in_one_entry_of_median_size_does_not_pass(dtype):
    results = {seed: caught(seed, dtype) for seed in range(40)}
    assert sum(r is not None for r in results.values()) > 30
    assert [seed for seed, r in results.items() if r is False] == []
