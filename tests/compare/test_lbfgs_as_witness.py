"""L-BFGS by the textbook as the third witness of a step."""

from functools import partial

import numpy as np
import pytest
import torch

from compare import compare
from compare.cases.case import Draw
from manual import nn, optim
from manual.optim import lbfgs
from tests.planted.bug import as_expected, edited, find, together
from tests.planted.cases import regression
from tests.planted.optimizers import BUGS

LBFGS_BUGS = [bug for bug in BUGS if bug.subject == "LBFGS"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bug", LBFGS_BUGS, ids=lambda bug: bug.wrong)
def test_planted_bugs_are_blamed_on_manual(bug, dtype):
    found = find(bug, np.dtype(dtype), 0)
    assert as_expected(bug, found), found.comparison
    assert np.isfinite(found.comparison.failures.iloc[0].oracle)


WRONG = {
    "lr": ("t = lr\n", "t = 0.9 * lr\n"),
    "stops": ("abs(loss - prev_loss) < tolerance_change", "n_iter == 2"),
}
SAME = {
    "lr": ("t = lr\n", "t = 0.9 * lr\n"),
    "stops": ('abs(loss - state["prev_loss"]) < least_change', "iteration == 2"),
}


def lbfgs_case(draw, **options):
    net = nn.Sequential(draw.linear(5, 7), nn.Tanh(), draw.linear(7, 4))
    given = regression(draw, net)
    options = {"max_iter": 4, "max_eval": 20} | options
    return given | {"optimizer": optim.LBFGS(net.parameters(), **options)}


@pytest.mark.parametrize("oracle", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", WRONG)
def test_torch_is_blamed_and_both_are(name, dtype, oracle):
    theirs = edited(torch.optim.LBFGS.step, *WRONG[name])
    mine = edited(optim.LBFGS._minimize, *SAME[name])
    given = lbfgs_case(Draw(np.dtype(dtype), np.random.default_rng(1)))
    with theirs({}):
        compared = compare(**given, oracle=oracle)
    assert (compared.blame, compared.passed) == ("torch", False), compared
    with together(theirs, mine)({}):
        compared = compare(**given, oracle=oracle)
    # What both agree on is asked about only by an oracle that is asked about everything.
    assert compared.blame == ("both" if oracle else None), compared
    assert compared.passed == (not oracle)
    with mine({}):
        compared = compare(**given, oracle=oracle)
    assert compared.blame == "manual", compared


def correct_pair(seed):
    g = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    n, inputs, hidden, outputs = (
        int(g.integers(a, b)) for a, b in ((3, 10), (1, 7), (1, 7), (2, 5))
    )
    middle = [nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.GELU(), nn.Softplus()][g.integers(5)]
    between = [[], [nn.BatchNorm1d(hidden, dtype=dtype)], [nn.Dropout(0.3, g)]][seed // 2 % 3]
    net = nn.Sequential(
        nn.Linear(inputs, hidden, generator=g, dtype=dtype),
        *between,
        middle,
        nn.Linear(hidden, outputs, generator=g, dtype=dtype),
    )
    x = (10.0 ** g.uniform(-1.5, 1) * g.normal(size=(n, inputs))).astype(dtype)
    criterion, y = nn.CrossEntropyLoss(), g.integers(0, outputs, n)
    if g.random() < 0.5:
        criterion, y = nn.MSELoss(), g.normal(size=(n, outputs)).astype(dtype)
    clip = partial(optim.clip_grad_norm_, max_norm=0.5) if seed % 5 == 0 else None
    options = {
        "lr": float(g.choice([0.1, 0.5, 1, 2])),
        "max_iter": int(g.choice([1, 3, 5])),
        "line_search_fn": [None, "strong_wolfe"][seed // 6 % 2],
        "history_size": int(g.choice([2, 100])),
        "tolerance_change": float(g.choice([1e-9, 1e-4])),
    }
    optimizer = optim.LBFGS(net.parameters(), **options)
    given = {"net": net, "criterion": criterion, "x": x, "y": y, "optimizer": optimizer}
    return given | {"clip": clip, "steps": 2, "seed": seed, "allow_vacuous": ["*"]}


@pytest.mark.parametrize("seed", range(60))
def test_correct_pairs_pass(seed):
    compared = compare(**correct_pair(seed))
    assert compared.passed, compared
    rows = compared.frame[compared.frame["name"].str.startswith(("state.", "updated."))]
    rows = rows[rows.verdict == "ok"]
    asked = rows[rows.max_abs.notna()].oracle
    assert asked.notna().all()
    off = np.abs(rows.manual - rows.oracle)
    assert (off <= 3 * rows.allowed / 2 + 1e-300).all()


def test_without_the_oracle_nothing_is_asked_of_a_pair_that_passes():
    compared = compare(**correct_pair(1), oracle=False)
    assert compared.passed
    assert compared.frame.oracle.isna().all()


def test_a_missing_update_and_a_wrong_shape_take_no_value_to_see(monkeypatch):
    def fails(self, closure):
        closure()
        raise RuntimeError("no step")

    monkeypatch.setattr(optim.LBFGS, "step", fails)
    compared = compare(**correct_pair(1))
    missing = compared.frame[compared.frame.verdict == "missing"]
    assert len(missing)
    assert set(missing.blame) == {"manual"}
    monkeypatch.undo()

    def longer(self, closure):
        loss = step(self, closure)
        self._states[0]["d"] = np.append(self._states[0]["d"], 0)
        return loss

    step = optim.LBFGS.step
    monkeypatch.setattr(optim.LBFGS, "step", longer)
    first = compare(**correct_pair(1) | {"steps": 1}).failures.iloc[0]
    assert (first["name"], first.verdict, first.blame) == ("state.d", "shape", "manual")


def test_an_optimizer_based_on_it_is_nobody_elses(monkeypatch):
    """Its steps are its own: the textbook does not know them."""
    given = correct_pair(1)
    kind = type("Own", (torch.optim.LBFGS,), {})
    monkeypatch.setattr(torch.optim, "LBFGS", kind)
    assert lbfgs.LBFGS is optim.LBFGS
    compared = compare(**given)
    assert compared.passed, compared
