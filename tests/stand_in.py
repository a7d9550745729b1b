"""A stand-in for CuPy, for machines without a GPU: what it computes NumPy computes, bit for bit,
but it behaves as CuPy 14 does in what code for both must mind.

- Its arrays do not mix with NumPy's (TypeError), and are not converted to them unasked.
- Sums and single elements stay arrays of rank 0.
- It has those functions, arguments and methods alone that CuPy has. `tests/test_stand_in.py` holds
  them against CuPy's, where that is installed.
- `cuda.Stream` records graphs: nothing is computed until one is launched. To read a value, to copy
  from or to NumPy, or to call cuBLAS (`dot`) while a stream records raises what CuPy raises.
- `cuda.counts` counts copies to the CPU, each of which waits for the GPU.
"""

import copy
import inspect
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np

SCALARS = (bool, int, float, complex, np.bool_, np.number)
counts = SimpleNamespace(reads=0, copies=0)
graph = None  # the list of what is recorded, if a stream records


def recorded(compute, out=None):
    """compute(out=…) now; or while a graph is recorded, when it is launched."""
    if graph is None:
        return compute(out=out)
    if out is None:
        out = np.array(compute(out=None))
        out[...] = np.nan if out.dtype.kind == "f" else 0  # nothing is computed yet
    operation = compute, out
    graph.append(lambda: operation[0](out=operation[1]))
    return out


def forbid_while_recording(what):
    if graph is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are not allowed")


def inner(x):
    """The NumPy array inside, or the scalar."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.longdouble) or not isinstance(x, SCALARS):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def wrapped(a, base=None):
    out = ndarray.__new__(ndarray)
    out._a, out.base = np.asarray(a), base
    if out._a.dtype == np.longdouble:
        raise TypeError("CuPy has no longdouble")
    return out


def copied(x):
    """A result that is no view."""
    return wrapped(np.array(x, copy=True))


class Flags:
    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


class ndarray:
    __module__ = "cupy"
    __hash__ = None

    def __array__(self, dtype=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        if method == "reduce":
            return reduced(ufunc, *inputs, **kwargs)
        if method != "__call__":
            return NotImplemented
        return called(ufunc, *inputs, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        module = sys.modules.get("cupy")
        if getattr(module, "ndarray", None) is not ndarray:  # nobody put the stand-in there
            module = SimpleNamespace(**FUNCTIONS)
        own = getattr(module, func.__name__, None)
        if own is None or not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return own(*args, **kwargs)

    def get(self):
        forbid_while_recording("D2H transfers")
        counts.reads += 1
        return self._a.copy()

    # Reading one value.
    def item(self):
        return self.get().item()

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __format__(self, spec):
        return format(self.get()[()], spec)

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return asarray, (self.get(),)

    def _view(self, a):
        assert np.shares_memory(a, self._a) or a.size == 0, "CuPy would have copied here"
        return wrapped(a, self if self.base is None else self.base)

    def __getitem__(self, at):
        own = index_of(at)
        a = self._a[own]
        if isinstance(a, np.ndarray) and (np.shares_memory(a, self._a) or a.size == 0):
            return self._view(a)
        if isinstance(a, np.generic) and not any(isinstance(i, np.ndarray) for i in as_tuple(own)):
            return self._view(self._a[(*as_tuple(own), ...)])
        if any(isinstance(i, np.ndarray) and i.dtype == bool for i in as_tuple(own)):
            forbid_while_recording("synchronous API calls")  # how many there are must be known
        return wrapped(recorded(lambda out: stored(out, self._a[own])))

    def __setitem__(self, at, value):
        own, value = index_of(at), inner(value)

        def compute(out):
            self._a[own] = value

        recorded(compute, self._a)

    def _changed(self, ufunc, other):
        return called(ufunc, self, other, out=self)

    def fill(self, value):
        self[...] = value

    @property
    def T(self):
        return self._view(self._a.T)

    def swapaxes(self, a, b):
        return self._view(self._a.swapaxes(a, b))

    def reshape(self, *shape):
        a = self._a.reshape(*shape)
        if a.size == 0 or np.shares_memory(a, self._a):
            return self._view(a)
        return wrapped(recorded(lambda out: stored(out, self._a.reshape(*shape))))

    def ravel(self):
        return self.reshape(-1)

    def view(self, dtype):
        return self._view(self._a.view(dtype))

    def copy(self):
        return wrapped(recorded(lambda out: stored(out, self._a)))

    def astype(self, dtype, copy=True):
        if not copy and self._a.dtype == dtype:
            return self
        return wrapped(recorded(lambda out: stored(out, self._a.astype(dtype))))

    def take(self, indices, axis=None, out=None):
        at, to = inner(indices), None if out is None else inner(out)
        found = recorded(lambda out: stored(out, self._a.take(at, axis)), to)
        return wrapped(found) if out is None else out

    def put(self, indices, values, mode="wrap"):
        if not isinstance(indices, ndarray) or not isinstance(values, ndarray):
            forbid_while_recording("H2D transfers")  # CuPy would make an array of it
        at, given = inner(indices), inner(values)
        recorded(lambda out: self._a.put(at, given), self._a)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return method("sum", self, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return method("mean", self, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return method("max", self, out, axis=axis, keepdims=keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return method("min", self, out, axis=axis, keepdims=keepdims)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return method("argmax", self, out, axis=axis, keepdims=keepdims)

    def all(self, axis=None, out=None, keepdims=False):
        return method("all", self, out, axis=axis, keepdims=keepdims)

    def any(self, axis=None, out=None, keepdims=False):
        return method("any", self, out, axis=axis, keepdims=keepdims)

    flags = property(lambda self: Flags(self._a.flags))
    data = property(lambda self: SimpleNamespace(ptr=self._a.ctypes.data))
    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)


def stored(out, result):
    """The result, in `out` where there is one."""
    if out is None:
        return np.array(result)
    out[...] = result
    return out


def as_tuple(at):
    return at if isinstance(at, tuple) else (at,)


def index_of(at):
    """An index with NumPy arrays for the stand-in's; CuPy takes NumPy's, too."""
    own = tuple(i._a if isinstance(i, ndarray) else i for i in as_tuple(at))
    return own if isinstance(at, tuple) else own[0]


def called(ufunc, *inputs, out=None, dtype=None, casting="same_kind"):
    own, to = [inner(x) for x in inputs], None if out is None else inner(out)
    options = {"casting": casting} | ({} if dtype is None else {"dtype": dtype})
    found = recorded(lambda out: np.asarray(ufunc(*own, out=out, **options)), to)
    return wrapped(found) if out is None else out


def reduced(ufunc, array, axis=0, dtype=None, out=None, keepdims=False):
    if ufunc is np.add:
        return array.sum(axis, dtype, out, keepdims)
    if ufunc is np.multiply:
        return array.prod(axis, dtype, out, keepdims)
    raise NotImplementedError(f"`{ufunc.__name__}.reduce` is not supported yet")


def method(name, array, out, **options):
    to = None if out is None else inner(out)
    found = recorded(lambda out: np.asarray(getattr(array._a, name)(out=out, **options)), to)
    return wrapped(found) if out is None else out


def operator(ufunc, swapped=False):
    def apply(self, other):
        return called(ufunc, *((other, self) if swapped else (self, other)))

    return apply


for _name, _ufunc in (
    ("add", np.add),
    ("sub", np.subtract),
    ("mul", np.multiply),
    ("truediv", np.true_divide),
    ("pow", np.power),
    ("and", np.bitwise_and),
    ("or", np.bitwise_or),
):
    setattr(ndarray, f"__{_name}__", operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", operator(_ufunc, swapped=True))
    setattr(ndarray, f"__i{_name}__", lambda self, o, _u=_ufunc: self._changed(_u, o))
for _name, _ufunc in (
    ("lt", np.less),
    ("le", np.less_equal),
    ("gt", np.greater),
    ("ge", np.greater_equal),
    ("eq", np.equal),
    ("ne", np.not_equal),
):
    setattr(ndarray, f"__{_name}__", operator(_ufunc))
for _name, _ufunc in (("neg", np.negative), ("abs", np.absolute), ("invert", np.invert)):
    setattr(ndarray, f"__{_name}__", lambda self, _u=_ufunc: called(_u, self))


# Functions, as CuPy declares them (less what nobody uses here).


def empty(shape, dtype=float):
    a = np.empty(shape, dtype)
    a[...] = np.nan if a.dtype.kind == "f" else 1  # whatever lay there
    return wrapped(a)


def ones(shape, dtype=float):
    return wrapped(np.ones(shape, dtype))


def zeros(shape, dtype=float):
    return wrapped(np.zeros(shape, dtype))


def arange(start, stop=None, step=1, dtype=None):
    return wrapped(np.arange(*(start,) if stop is None else (start, stop, step), dtype=dtype))


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    forbid_while_recording("H2D transfers")
    counts.copies += 1
    return copied(np.asarray(a, dtype))


def zeros_like(a, dtype=None):
    return wrapped(np.zeros_like(inner(a), dtype))


def concatenate(tup, axis=0):
    parts = [inner(a) for a in tup]
    return wrapped(recorded(lambda out: stored(out, np.concatenate(parts, axis))))


def dot(a, b, out=None):
    if not (isinstance(a, ndarray) and isinstance(b, ndarray)):
        raise TypeError("Argument has incorrect type (expected cupy.ndarray)")
    if a.ndim == b.ndim == 1:  # no matter for cuBLAS
        own = a._a, b._a
        return wrapped(recorded(lambda out: stored(out, np.dot(*own))))
    if graph is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")
    if out is not None and (out.dtype != a.dtype or not out.flags.c_contiguous):
        raise ValueError("Output array must be C-contiguous and of the operands' dtype")
    found = np.dot(a._a, b._a, out=None if out is None else out._a)
    return wrapped(found) if out is None else out


def copyto(dst, src, casting="same_kind", where=None):
    src = inner(src)
    mask = True if where is None else inner(where)
    recorded(lambda out: np.copyto(out, src, casting, where=mask), dst._a)


def putmask(a, mask, values):
    if not (isinstance(mask, ndarray) and a.shape == mask.shape):
        raise ValueError("mask and data must be the same size")
    if isinstance(values, ndarray):
        forbid_while_recording("synchronous API calls")  # CuPy writes a[mask] = values[mask]
    own, values = mask._a, inner(values)
    recorded(lambda out: np.putmask(out, own, values), a._a)


def clip(a, a_min, a_max, out=None):
    own, to = inner(a), None if out is None else inner(out)
    found = recorded(lambda out: np.asarray(np.clip(own, a_min, a_max, out=out)), to)
    return wrapped(found) if out is None else out


def argwhere(a):
    forbid_while_recording("synchronous API calls")
    return wrapped(np.argwhere(a._a))


def count_nonzero(a, axis=None):
    return wrapped(recorded(lambda out: stored(out, np.count_nonzero(a._a, axis))))


def flip(a, axis=None):
    return wrapped(recorded(lambda out: stored(out, np.flip(a._a, axis))))


def ndim(a):
    return np.ndim(a._a)


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(empty, ones, zeros, arange, asarray, zeros_like, concatenate, dot, copyto, putmask, clip),
        *(argwhere, count_nonzero, flip, ndim),
    )
}
METHODS = {
    name: function
    for name, function in vars(ndarray).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


class Graph:
    def __init__(self, operations):
        self.operations = operations

    def launch(self, stream=None):
        for operation in self.operations:
            operation()

    def upload(self, stream=None):
        pass


class Stream:
    def __init__(self, non_blocking=False):
        self.capturing, self.ptr = False, 1

    def __enter__(self):
        streams.append(self)
        return self

    def __exit__(self, *exception):
        streams.pop()

    def begin_capture(self, mode=None):
        global graph
        assert graph is None
        graph, self.capturing = [], True

    def end_capture(self):
        global graph
        done, graph, self.capturing = Graph(graph), None, False
        return done

    def is_capturing(self):
        return self.capturing

    def synchronize(self):
        forbid_while_recording("synchronous API calls")


class MemoryPool:
    def malloc(self, size):
        raise NotImplementedError


@contextmanager
def using_allocator(allocator=None):
    yield


streams = [Stream()]


def make() -> ModuleType:
    """The module, to be put where `import cupy` finds it."""
    module = ModuleType("cupy")
    vars(module).update(FUNCTIONS, ndarray=ndarray, __version__="0 (stand-in)")
    module.cuda = ModuleType("cupy.cuda")
    vars(module.cuda).update(
        is_available=lambda: True,
        get_current_stream=lambda: streams[-1],
        Stream=Stream,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        runtime=SimpleNamespace(deviceSynchronize=streams[0].synchronize),
        counts=counts,
    )
    return module


class ComputeTypes(ModuleType):
    """cupy._core._routines_linalg, as far as it is about how to multiply."""

    COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_PEDANTIC, COMPUTE_TYPE_TF32 = 1, 2, 7

    def __init__(self):
        super().__init__("cupy._core._routines_linalg")
        self.float32 = self.COMPUTE_TYPE_DEFAULT

    def get_compute_type(self, dtype):
        assert dtype == "f"
        return self.float32

    def set_compute_type(self, dtype, compute_type):
        assert dtype == "f"
        self.float32 = compute_type


@contextmanager
def standing_in():
    """`import cupy` gives the stand-in meanwhile."""
    counts.reads = counts.copies = 0
    module, linalg = make(), ComputeTypes()
    names = {"cupy": module, linalg.__name__: linalg, "cupyx": ModuleType("cupyx")}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield module
    finally:
        for name, own in before.items():
            del sys.modules[name]
            if own is not None:
                sys.modules[name] = own


def there(x):
    """The same on the GPU: a copy of an array, anything else as it is."""
    return asarray(x) if isinstance(x, np.ndarray) else copy.copy(x)
