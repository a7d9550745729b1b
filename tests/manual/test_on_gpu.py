"""All of manual on CuPy arrays. Here a stand-in takes CuPy's place (`tests/stand_in.py`), which
computes what NumPy computes: every result must be NumPy's, bit for bit."""

import copy
import functools
import pickle
import sys

import numpy as np
import pytest

from compare.cases import cases
from manual import arrays, init, nn, optim, training
from manual.arrays import DeviceError, device_of, host, module_of
from manual.nn import Parameter
from manual.nn.parameter import runs
from tests.stand_in import standing_in, there

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))
CASES = [
    pytest.param(case, id=f"{case.subject}-{case.name}-{dtype}-{k}".replace(" ", ""))
    for dtype in DTYPES
    for k, case in enumerate(cases(dtype, np.random.default_rng(0)))
]


@pytest.fixture(autouse=True)
def cupy():
    with standing_in() as module:
        yield module


def moved(made):
    """Copies of (net, criterion, optimizer, scheduler) on the GPU."""
    net, criterion, *others = copy.deepcopy(made)
    return net.to("cuda"), criterion.to("cuda"), *others


def results(made, clip, steps, x, y):
    """All that `steps` steps come to, in NumPy; and that all of it is where x is."""
    net, criterion, optimizer, scheduler = made
    place, found = device_of(x), []
    for step in range(steps):

        def closure(step=step, found=found):
            prediction = net(x)
            loss = criterion(prediction, y)
            dloss = None
            if criterion.reduction == "none":
                shape = tuple(loss.shape)
                dloss = np.random.default_rng(step).normal(size=shape).astype(loss.dtype)
                dloss = there(dloss) if place == "cuda" else dloss
            dprediction = criterion.backward(dloss)
            dx = net.backward(dprediction)
            found.extend([prediction, loss, dprediction, dx])
            if clip is not None:
                found.append(np.asarray(0 if (norm := clip(net.parameters())) is None else norm))
            return loss

        if optimizer is None:
            closure()
        else:
            optimizer.step(closure)
        if scheduler is not None:
            scheduler.step()
        found += [p.data for p in net.parameters()] + list(net.buffers())
        found += [p.grad for p in net.parameters() if p.grad is not None]
    arrays = [a for a in found if not np.isscalar(a) and not isinstance(a, np.ndarray)]
    assert bool(arrays) == (place == "cuda")
    values = [np.asarray(host(a)) for a in found]
    kept = optimizer.state_dict()["state"] if optimizer is not None else {}
    for entry in kept.values():
        for value in entry.values():
            values += [np.asarray(v) for v in (value if isinstance(value, list) else [value])]
    values += list(net.state_dict().values())
    return values


@pytest.mark.parametrize("case", CASES)
def test_bit_for_bit_as_on_the_cpu(case):
    made = case.net, case.criterion, case.optimizer, case.scheduler
    on_cpu = results(copy.deepcopy(made), case.clip, case.steps, case.x, case.y)
    on_gpu = results(moved(made), case.clip, case.steps, there(case.x), there(case.y))
    assert len(on_cpu) == len(on_gpu)
    for a, b in zip(on_cpu, on_gpu, strict=True):
        assert type(b) is np.ndarray
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


def network(dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(4, 6, dtype=dtype, generator=generator),
        nn.BatchNorm1d(6, dtype=dtype),
        nn.ReLU(),
        nn.Dropout(0.3, np.random.default_rng(1)),
        nn.Linear(6, 3, dtype=dtype, generator=generator),
    )


def data(n=50):
    generator = np.random.default_rng(2)
    return generator.integers(0, 256, (n, 4)).astype(np.uint8), generator.integers(0, 3, n)


def test_a_training_with_all_that_belongs_to_it():
    """Gathered and scaled batches, dropout, batch norm, Adam, clipping, schedule, validation, early
    stopping: from data in NumPy or on the GPU, the same run to the last bit."""
    (x, y), found = data(), []
    for place in (lambda net: net, lambda net: net.to("cuda")):
        for given in (x, there(x)):
            net = place(network())
            optimizer = optim.Adam(net.parameters(), lr=0.05)
            if net[0].weight.device == "cpu" and device_of(given) == "cuda":
                given = x
            history = training.fit(
                *(net, nn.CrossEntropyLoss(), optimizer, given, y),
                epochs=6,
                batch_size=8,
                generator=np.random.default_rng(3),
                scale=1 / 255,
                validation=(x[:20], y[:20]),
                patience=2,
                clip=functools.partial(optim.clip_grad_norm_, max_norm=0.5),
                scheduler=optim.StepLR(optimizer, 2),
            )
            found.append([epoch[:3] for epoch in history.epochs] + [history.best])
            found[-1] += [value.tobytes() for value in net.state_dict().values()]
            prediction = training.predict(net, given, 1 / 255)
            assert type(prediction) is np.ndarray
            found[-1].append(prediction.tobytes())
    assert all(run == found[0] for run in found)


def test_the_data_goes_to_the_gpu_once_and_as_it_is(cupy):
    """Two arrays at first, then only the places of each batch."""
    x, y = data(64)
    net = network().to("cuda")
    net[3].eval()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    generator = np.random.default_rng(0)
    before = cupy.cuda.counts.copies
    options = {"batch_size": 16, "generator": generator, "scale": 1 / 255, "epochs": 3}
    net.train = lambda mode=True: net  # Dropout draws on the CPU
    training.fit(net, nn.CrossEntropyLoss(), optimizer, x, y, **options)
    assert cupy.cuda.counts.copies - before == 2 + 3 * 4


def test_a_run_that_goes_on_where_another_stopped():
    x, y = data()

    def run(epochs, states, resume=None):
        net = network().to("cuda")
        training.fit(
            *(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters()), x, y),
            epochs=epochs,
            batch_size=8,
            generator=np.random.default_rng(3),
            scale=1 / 255,
            checkpoint=states.append,
            resume=resume,
        )
        return net.state_dict()

    states = []
    whole = run(4, states)
    stopped = run(4, [], resume=states[1])
    assert all(whole[name].tobytes() == stopped[name].tobytes() for name in whole)
    for state in states:  # of NumPy's arrays alone
        assert "cupy" not in {type(v).__module__ for v in state["network"].values()}


def test_where_a_value_was_first_not_finite():
    x, y = data()
    net = network().to("cuda")
    net[4].weight.data[0, 0] = np.inf
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    options = {"epochs": 1, "batch_size": 8, "generator": np.random.default_rng(0)}
    with pytest.raises(FloatingPointError, match=r"layer 4 \(Linear\): 4.weight holds inf"):
        training.fit(net, nn.CrossEntropyLoss(), optimizer, x, y, scale=1 / 255, **options)


def test_there_and_back():
    net = network()
    before = net.state_dict()
    net(np.ones((4, 4), np.float32))
    net.train(False)
    net.to("cuda")
    assert {p.device for p in net.parameters()} == {"cuda"}
    assert {device_of(b) for b in net.buffers()} == {"cuda"}
    assert len(list(runs(net.parameters()))) == 1  # still one flat buffer
    assert net[0].weight.data.T.flags.c_contiguous  # and an (in, out) block
    assert all(type(value) is np.ndarray for value in net.state_dict().values())
    net.load_state_dict(before)
    back = net.to(device="cpu")
    assert back is net
    assert {p.device for p in net.parameters()} == {"cpu"}
    assert all(value.tobytes() == before[k].tobytes() for k, value in net.state_dict().items())
    y = net(np.ones((4, 4), np.float32))
    assert type(y) is np.ndarray


def test_dtype_and_device_at_once():
    net = network().to(np.float64, "cuda")
    assert {(p.dtype, p.device) for p in net.parameters()} == {(np.dtype(float), "cuda")}
    net.to(np.float32)
    assert {(p.dtype, p.device) for p in net.parameters()} == {(np.dtype(np.float32), "cuda")}


def test_gradients_move_too():
    p = Parameter(np.arange(6.0).reshape(2, 3))
    p.grad = np.ones((2, 3))
    p.to(device="cuda")
    assert device_of(p.grad) == "cuda"
    assert host(p.grad).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_an_optimizer_made_before_the_move_takes_its_state_along():
    x, y = data(8)
    x = x.astype(np.float32)
    found = []
    for move in (False, True):
        net = network()
        net[3].p = 0.0
        optimizer = optim.Adam(net.parameters())
        criterion = nn.CrossEntropyLoss()
        for step in range(4):
            if move and step == 2:
                net.to("cuda")
                x, y = there(x), there(y)
            criterion(net(x), y)
            net.backward(criterion.backward())
            optimizer.step()
        found.append([v.tobytes() for v in net.state_dict().values()])
        found[-1].append(optimizer.state_dict()["state"][0]["exp_avg"].tobytes())
    assert found[0] == found[1]


def test_a_state_is_loaded_wherever_it_comes_from():
    net = network().to("cuda")
    optimizer = optim.Adam(net.parameters())
    for p in net.parameters():
        p.grad = np.ones(p.shape, np.float32)
    optimizer.step()
    kept = optimizer.state_dict()
    other = optim.Adam(network().to("cuda").parameters())
    other.load_state_dict(kept)
    for name, value in other.state_dict()["state"][0].items():
        assert np.array_equal(value, kept["state"][0][name])
    state = {name: there(value) for name, value in net.state_dict().items()}
    fresh = network(seed=5)
    fresh.load_state_dict(state)
    assert all(np.array_equal(v, host(state[k])) for k, v in fresh.state_dict().items())


def test_initial_values_are_those_of_the_cpu():
    for fill in (init.normal_, init.uniform_, init.xavier_normal_, init.kaiming_uniform_):
        own, other = np.empty((3, 4)), there(np.empty((3, 4)))
        fill(own, generator=np.random.default_rng(0))
        fill(other, generator=np.random.default_rng(0))
        assert np.array_equal(own, host(other))


def test_arrays_are_used_again():
    """A step allocates nothing after the first."""
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).to("cuda"), there(np.ones((5, 4), "f"))
    seen = set()
    for _ in range(5):
        y = net(x)
        seen.add(id(y._a if y.base is None else y.base._a))
        del y
    assert len(seen) <= 2
    kept = net(x)
    value = host(kept).copy()
    for _ in range(3):
        net(there(np.random.default_rng(0).normal(size=(5, 4)).astype("f")))
    assert np.array_equal(host(kept), value)  # what is kept is not written to


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_computes_there_too(copied):
    net, x = network().to("cuda").eval(), there(np.ones((3, 4), np.float32))
    expected = host(net(x))
    other = copied(net)
    assert other[0].weight.device == "cuda"
    assert np.array_equal(host(other(x)), expected)


def test_a_module_without_parameters_follows_its_data():
    module, x = nn.Softmax(1), np.random.default_rng(0).normal(size=(3, 4))
    for _ in range(2):
        assert device_of(module(there(x))) == "cuda"
        assert device_of(module.backward(there(x))) == "cuda"
        assert type(module(x)) is np.ndarray
        assert type(module.backward(x)) is np.ndarray


@pytest.mark.parametrize("to", ["cpu", "cuda"])
def test_a_network_and_data_that_are_apart_are_refused(to):
    net, x = nn.Linear(4, 3).to(to), np.ones((2, 4), np.float32)
    x = there(x) if to == "cpu" else x
    names = "cupy array, a parameter a numpy" if to == "cpu" else "numpy array, a parameter a cupy"
    with pytest.raises(TypeError, match=f"Linear: x is a {names} array"):
        net(x)
    with pytest.raises(TypeError, match="BatchNorm1d: x is"):
        nn.BatchNorm1d(4, affine=False).to(to)(x)


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.BCELoss, nn.HalfSquaredError])
def test_a_prediction_and_a_target_that_are_apart_are_refused(loss):
    p = np.full((2, 3), 0.5)
    with pytest.raises(TypeError, match="prediction is a cupy array, the target a numpy array"):
        loss()(there(p), p)
    with pytest.raises(TypeError, match="prediction is a numpy array, the target a cupy array"):
        loss()(p, there(p))


@pytest.mark.parametrize("to", ["cpu", "cuda"])
def test_a_loss_whose_weights_are_apart_is_refused(to):
    z, y = np.zeros((2, 3)), np.array([0, 1])
    criterion = nn.CrossEntropyLoss(np.ones(3)).to(to)
    given = (there(z), there(y)) if to == "cpu" else (z, y)
    names = ("cupy", "numpy") if to == "cpu" else ("numpy", "cupy")
    text = "CrossEntropyLoss: the prediction is a {} array, weight a {} array; to".format(*names)
    with pytest.raises(TypeError, match=text):
        criterion(*given)
    criterion.to("cpu")(z, y)
    criterion.to("cuda")(there(z), there(y))


def test_class_indices_that_are_apart_are_refused():
    z, y = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(TypeError, match="CrossEntropyLoss: the prediction is a cupy array"):
        nn.CrossEntropyLoss()(there(z), y)


def test_what_is_wrong_with_the_values_is_said_as_on_the_cpu():
    z = there(np.zeros((2, 3)))
    with pytest.raises(IndexError, match=r"target 3 at \(1,\) is outside the 3 classes"):
        nn.CrossEntropyLoss()(z, there(np.array([0, 3])))
    with pytest.raises(ValueError, match="no target counts"):
        nn.CrossEntropyLoss()(z, there(np.array([-100, -100])))
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\], got 1.5 at \(0, 1\)"):
        nn.BCELoss()(there(np.array([[0.5, 1.5]])), there(np.array([[0.0, 1.0]])))
    with pytest.raises(ValueError, match=r"expected finite numbers, got inf at \(0, 1\)"):
        nn.BCEWithLogitsLoss()(there(np.array([[0.5, 1]])), there(np.array([[0.0, np.inf]])))


def test_a_plain_number_as_dloss():
    z, y = there(np.ones((2, 3))), there(np.zeros((2, 3)))
    criterion = nn.MSELoss()
    criterion(z, y)
    assert np.array_equal(host(criterion.backward(2.0)), 2 * host(criterion.backward()))


def test_places_of_a_mask_are_taken_from_another_array():
    x, y = np.arange(6.0).reshape(2, 3), np.arange(10.0, 16).reshape(2, 3)
    for to in (np.array, there):
        values = to(x)
        arrays.place(values, to(x % 2 == 1), to(y))
        assert host(values).tolist() == [[0, 11, 2], [13, 4, 15]]


def test_no_longdouble():
    with pytest.raises(TypeError, match="a GPU has no longdouble"):
        nn.Linear(2, 3, dtype=np.longdouble).to("cuda")
    net = nn.Linear(2, 3, dtype=np.longdouble).to(np.float64, "cuda")
    assert net.weight.dtype == np.float64


def test_an_unknown_device():
    with pytest.raises(ValueError, match="a device is 'cpu' or 'cuda', got 'tpu'"):
        nn.Linear(2, 3).to(device="tpu")


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    net = nn.Linear(2, 3)
    with pytest.raises(DeviceError, match=r"CuPy, which is not installed: pip install 'handgrad\["):
        net.to("cuda")
    assert net.weight.device == "cpu"
    net(np.ones((1, 2), np.float32))


def test_without_a_gpu(cupy):
    cupy.cuda.is_available = lambda: False
    with pytest.raises(DeviceError, match="CuPy is installed, but sees no CUDA device here"):
        module_of("cuda")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_recorded_class_loss_takes_the_targets_as_those_of_its_warm_up(ignored, cupy):
    """While a graph is recorded nothing can be read: whether all targets count is what it was."""
    z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    y = np.array([0, 2, -100 if ignored else 1, 1, 2])
    criterion = nn.NLLLoss()
    expected = criterion(z, y), criterion.backward()
    criterion, prediction, target = nn.NLLLoss(), cupy.asarray(z), cupy.asarray(y)
    for _ in range(2):
        criterion(prediction, target)
        criterion.backward()
    with cupy.cuda.Stream() as stream:
        stream.begin_capture()
        loss = criterion(prediction, target)
        dz = criterion.backward()
        graph = stream.end_capture()
    for _ in range(2):
        graph.launch()
        assert float(loss) == expected[0]
        assert dz.get().tobytes() == expected[1].tobytes()
