"""What the tests of the error rules share."""

import copy

import numpy as np
import pytest
import torch

from compare.propagation import Bounds
from compare.trace import Run, manual_step, torch_step
from manual import nn, optim
from torch_ref import twin, twins


@pytest.fixture(scope="session")
def away_from_0():
    """away_from_0(generator, *shape): of both signs, 0.3 to 2."""
    return lambda g, *shape: g.uniform(0.3, 2, shape) * g.choice([-1, 1], shape)


@pytest.fixture(scope="session")
def errors():
    """errors(generator, *shape): the largest is less than 13/7 times the smallest."""
    return lambda g, *shape: 1e-7 * g.uniform(0.7, 1.3, shape)


@pytest.fixture(scope="session")
def worst_cases():
    """worst_cases(f, inputs, at, e): Σ |∂out/∂in| E(in) of every output of f, for the input number
    `at`."""

    def sums(f, inputs, at, e):
        tensors = [torch.tensor(v) for v in inputs]

        def one(v):
            return f(*tensors[:at], v, *tensors[at + 1 :])

        jacobians = torch.autograd.functional.jacobian(one, tensors[at])
        return [
            (j.abs() * torch.tensor(e)).flatten(j.ndim - e.ndim).sum(-1).numpy() for j in jacobians
        ]

    return sums


@pytest.fixture(scope="session")
def passed_on(worst_cases):
    """passed_on(module, inputs, source, e): Σ |∂/∂source| E(source) of y, dx and the gradients, by
    name ("y", "x", …). inputs: x, dy and the parameters."""

    def found(module, inputs, source, e):
        names = [name for name in inputs if name not in ("x", "dy")]

        def everything(x, dy, *theta):
            x, theta = x.requires_grad_(), [p.requires_grad_() for p in theta]
            y = torch.func.functional_call(module, dict(zip(names, theta, strict=True)), (x,))
            return y, *torch.autograd.grad(y, (x, *theta), dy, create_graph=True)

        worst = worst_cases(everything, inputs.values(), list(inputs).index(source), e)
        return dict(zip(["y", "x", *names], worst, strict=True))

    return found


@pytest.fixture(scope="session")
def true_errors():
    """true_errors(case, dtype): for every row of either side (side, step, name, |its value − that
    of a float64 run|, its half of the allowance, |value|). Each side has the rows of that run."""

    def run_of(case, dtype):
        net, criterion, optimizer = twins(case.net, case.criterion, case.optimizer, dtype=dtype)
        scheduler = None if case.scheduler is None else twin(case.scheduler, optimizer)
        return Run(net, criterion, optimizer, scheduler, case.clip and twin(case.clip))

    def compared(case, dtype=np.float32):
        given = case.net, case.criterion, case.optimizer, case.scheduler
        mine = Run(*copy.deepcopy(given), case.clip)
        bounds = Bounds(run_of(case, torch.float64), np.dtype(dtype))
        exact, theirs = run_of(case, torch.float64), run_of(case, None)
        x, y = torch.tensor(case.x), torch.tensor(case.y)
        y = y if y.is_floating_point() else y.long()
        exact_y = y.double() if y.is_floating_point() else y
        rows = []
        # `compare` lets both sides of L-BFGS go on from one state; here each goes its own way.
        for step in range(1 if isinstance(case.optimizer, optim.LBFGS) else case.steps):

            def draw(shape, step=step):
                return np.random.default_rng(step).normal(size=tuple(shape)).astype(np.float32)

            allowed = bounds.step(x.double(), exact_y, draw)
            true = {
                row.name: row.value
                for row in torch_step(exact, x.double(), exact_y, draw).rows.values()
            }
            assert allowed.keys() == true.keys()
            for side, found in (
                ("manual", manual_step(mine, case.x.copy(), case.y.copy(), draw)),
                ("torch", torch_step(theirs, x, y, draw).rows.values()),
            ):
                assert {row.name for row in found} == true.keys(), (side, step)
                for row in found:
                    value = true[row.name]
                    error = np.abs(row.value.astype(np.float64) - value)
                    rows.append((side, step, row.name, error, allowed[row.name] / 2, abs(value)))
        return rows

    return compared


@pytest.fixture(scope="session")
def first():
    """first(comparison) → (name, verdict, blame) of the first row that fails."""

    def found(comparison):
        assert not comparison.passed
        row = comparison.failures.iloc[0]
        assert row.blame == comparison.blame
        return row["name"], row.verdict, row.blame

    return found


@pytest.fixture(scope="session")
def only(first):
    """only(comparison) → the same, of the only row that fails."""

    def found(comparison):
        assert len(comparison.failures) == 1, comparison
        return first(comparison)

    return found


@pytest.fixture(scope="session")
def deep():
    """deep(dtype, tanh=…, linear=…) → (net, criterion, x, y): six modules in a row, one of them a
    Residual, of the given classes where one is given; a batch of 6."""

    def made(dtype=np.float64, tanh=nn.Tanh, linear=nn.Linear, residual=nn.Residual, gelu=nn.GELU):
        g = np.random.default_rng(3)

        def plain(n_in, n_out, kind=nn.Linear):
            layer = kind(n_in, n_out, dtype=dtype, generator=g)
            layer.weight.data *= dtype(2)
            return layer

        net = nn.Sequential(
            *(plain(4, 5), tanh(), plain(5, 3, linear)),
            *(residual(nn.Sequential(plain(3, 3), nn.Sigmoid())), gelu(), plain(3, 2)),
        )
        x, y = (g.normal(size=(6, n)).astype(dtype) for n in (4, 2))
        return net, nn.MSELoss(), x, y

    return made
