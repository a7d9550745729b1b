"""`verify` covers everything there is, passes, and fails where one line of it is wrong."""

import inspect

import numpy as np
import pytest

from compare import verify
from compare.cases import cases, exercised
from compare.show import homework_table, results_table
from manual import nn, optim


def public(module):
    found = {v for v in vars(module).values() if inspect.isclass(v)}
    return {v for v in found if v.__module__.startswith("manual.")}


def test_every_module_loss_and_optimizer_has_a_case():
    run = exercised(list(cases(np.dtype(np.float64), np.random.default_rng(0))))
    abstract = {nn.Module, nn.Criterion, nn.Parameter}
    everything = (public(nn) - abstract) | {optim.SGD}
    assert everything <= run


def test_everything_passes_on_other_seeds_too():
    for seed in (1, 2, 3):
        results = list(verify.verify(seed))
        assert [r["case"] for r in results if r["verdict"] != "ok"] == [], f"seed {seed}"


def test_the_same_seed_gives_the_same_results():
    first, second = ([r | {"detail": ""} for r in verify.verify(5)] for _ in range(2))
    assert first == second


def slope_1_at_0(self, x):
    y = np.maximum(x, 0)
    self.saved = (np.where(x == 0, 1, y).astype(x.dtype),)
    return y


@pytest.mark.parametrize(
    ("owner", "method", "wrong", "case"),
    [
        (nn.ReLU, "forward", slope_1_at_0, "ReLU"),
        (nn.Tanh, "backward", lambda self, dy: dy * (1 - self.saved[0]), "Tanh"),
        (
            nn.Identity,
            "forward",
            lambda self, x: (setattr(self, "saved", (x.shape, x.dtype)), x * 1.001)[1],
            "Identity",
        ),
        (optim.SGD, "step", lambda self: None, "SGD"),
    ],
)
def test_a_wrong_line_fails_its_case(monkeypatch, owner, method, wrong, case):
    monkeypatch.setattr(owner, method, wrong)
    results = list(verify.verify(0))
    failed = {r["case"] for r in results if r["verdict"] != "ok"}
    assert case in failed
    detail = next(r for r in results if r["case"] == case)
    assert "mismatch" in verify.detail_text(detail)
    assert "seed 0" in verify.detail_text(detail)


def test_tables_show_the_failing_tensor(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    Console(width=160).print(results_table(list(verify.verify(0)), 0))
    assert "float64 mismatch at d_x" in capsys.readouterr().out
    Console(width=80).print(homework_table())
    out = capsys.readouterr().out
    assert "1.0000066640624292" in out
    assert "…" not in out
