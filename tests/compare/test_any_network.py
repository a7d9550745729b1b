"""Properties: whatever network, loss, optimizer and data are drawn, manual and torch agree; and
where one line of the network's backward is a little wrong, they do not."""

from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare import compare
from manual import nn, optim

small = st.floats(-2, 2, width=32)
positive = st.floats(0.125, 2, width=32)
POINTWISE = st.one_of(
    st.sampled_from(
        [nn.Identity, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Arctan, nn.ReLU, nn.SiLU]
    ).map(lambda kind: kind()),
    small.map(nn.LeakyReLU),
    small.map(nn.ELU),
    st.tuples(positive, st.floats(1, 20)).map(lambda options: nn.Softplus(*options)),
    st.sampled_from(["none", "tanh"]).map(nn.GELU),
    st.sampled_from([nn.Softmax, nn.LogSoftmax]).map(lambda kind: kind(-1)),
)
LOSSES = ["HalfSquaredError", "SumSquaredError", "MSELoss", "L1Loss", "BCEWithLogitsLoss"]
LOSSES += ["BCELoss", "NLLLoss", "CrossEntropyLoss", "CrossEntropyLoss of probabilities"]


@st.composite
def networks(draw, dtype, generator):
    """(network, in, out): one to five blocks of random widths, some nested."""
    width = n_in = draw(st.integers(1, 6))
    blocks = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["Linear", "pointwise", "PReLU", "Maxout", "BatchNorm1d"]))
        nesting = draw(st.sampled_from(["", "Residual", "Sequential"]))
        n_out = width if nesting == "Residual" else draw(st.integers(1, 6))
        if kind == "Linear":
            block = nn.Linear(width, n_out, draw(st.booleans()), dtype=dtype, generator=generator)
            width = n_out
        elif kind == "pointwise":
            block = draw(POINTWISE)
        elif kind == "PReLU":
            block = nn.PReLU(draw(st.sampled_from([1, width])), draw(small), dtype=dtype)
        elif kind == "Maxout":
            pieces = draw(st.integers(2, 3))
            linear = nn.Linear(width, n_out * pieces, dtype=dtype, generator=generator)
            block, width = nn.Sequential(linear, nn.Maxout(pieces)), n_out
        else:
            momentum = draw(st.sampled_from([0.1, 0.5, None]))
            norm = nn.BatchNorm1d(width, 0.1, momentum, draw(st.booleans()), dtype=dtype)
            dropout = nn.Dropout(draw(st.sampled_from([0.0, 0.3])), generator)  # one for all
            block = nn.Sequential(norm, dropout)
        blocks.append(
            {"Residual": nn.Residual, "Sequential": nn.Sequential}.get(nesting, id_)(block)
        )
    return nn.Sequential(*blocks), n_in, width


def id_(block):
    return block


@st.composite
def settings_of_a_step(draw):
    """Arguments of `compare`."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    seed = draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    net, n_in, out = draw(networks(dtype, generator))
    n = draw(st.integers(2, 7))
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    name = draw(st.sampled_from(LOSSES))
    y = generator.uniform(0, 1, (n, out)).astype(dtype)
    if name in LOSSES[:2]:
        criterion = getattr(nn, name)()
    else:
        criterion = getattr(nn, name.split()[0])(reduction=reduction)
    if name in ("NLLLoss", "CrossEntropyLoss"):
        y = generator.integers(0, out, n)
    if name in ("BCELoss", "NLLLoss"):
        net = nn.Sequential(net, nn.Sigmoid() if name == "BCELoss" else nn.LogSoftmax(1))
    x = generator.normal(size=(n, n_in)).astype(dtype)
    net.train(draw(st.booleans()))
    optimizer = None
    if next(net.parameters(), None) is not None and draw(st.booleans()):
        kind = draw(st.sampled_from([optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad]))
        optimizer = kind(net.parameters(), lr=0.01, weight_decay=draw(st.sampled_from([0, 0.1])))
    return {
        "net": net,
        "criterion": criterion,
        "x": x,
        "y": y,
        "optimizer": optimizer,
        "seed": seed,
    }


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=settings_of_a_step())
def test_any_pair_passes(drawn):
    comparison = compare(**drawn, allow_vacuous=["*"])
    assert comparison.passed, f"{drawn['net']}\n{drawn['criterion']}\n{comparison}"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=settings_of_a_step(), data=st.data())
def test_a_hundredth_too_much_in_any_backward_fails(drawn, data):
    """Of one module, drawn too, unless what it hands on is all zero or is not looked at."""
    leaves = [m for m in drawn["net"].modules() if not list(m.named_children())]
    planted = data.draw(st.sampled_from(leaves))
    planted.wrong = True  # in its copies, too
    kind, backward = type(planted), type(planted).backward
    largest = []

    def too_much(self, dy):
        dx = backward(self, dy)
        if not getattr(self, "wrong", False):
            return dx
        largest.append(np.abs(dx).max(initial=0))
        return np.asarray(dx * dx.dtype.type(1.01), dx.dtype)

    with mock.patch.object(kind, "backward", too_much):
        comparison = compare(**drawn, allow_vacuous=["*"], oracle=False)
    assert not comparison.passed or max(largest) == 0, f"{drawn['net']}\n{comparison}"
    if not comparison.passed:
        assert comparison.blame == "manual", comparison
