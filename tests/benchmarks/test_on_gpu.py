"""bench and homework with device "cuda": manual on the stand-in for CuPy, torch, as there is
no GPU, on the CPU. All figures must be those of a run on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import bench, mnist
from benchmarks.data import load
from benchmarks.distributed import sides
from benchmarks.distributed.group import Alone
from benchmarks.homework import parts, study, table
from benchmarks.mnist import Settings, make_pair, train
from manual import training
from manual.arrays import device_of
from tests.stand_in import standing_in

SETTINGS = Settings(hidden=(8,), epochs=2, batch_size=500)


@pytest.fixture
def on_gpu(monkeypatch):
    real, seen = mnist.twins, set()

    def twins(*pair, device):
        assert device == "cuda"
        return real(*pair)

    fit = training.fit

    def noting(net, criterion, *arguments, **options):
        seen.update(device_of(p.data) for p in net.parameters())
        return fit(net, criterion, *arguments, **options)

    for module in (mnist, study):
        monkeypatch.setattr(module, "twins", twins)
    monkeypatch.setattr(training, "fit", noting)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    with standing_in():
        yield seen


def figures(rows):
    timed = {"seconds", "samples_per_second", "device", "gpu"}
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def test_a_benchmark_on_the_gpu(on_gpu, monkeypatch):
    data = load("sample", None)

    def rows(settings):
        return [row for pair in train(make_pair(settings, 784, 10), data, settings) for row in pair]

    found = rows(replace(SETTINGS, device="cuda"))
    assert on_gpu == {"cuda"}
    assert {(row["device"], row["gpu"]) for row in found} == {("cuda", "a stand-in")}
    title = bench.epochs_table(found, replace(SETTINGS, device="cuda")).title
    assert "both on cuda (a stand-in), cupy 0 (stand-in), float32 products in float32" in title
    monkeypatch.undo()
    expected = rows(SETTINGS)
    assert {(row["device"], row["gpu"]) for row in expected} == {("cpu", None)}
    assert figures(found) == figures(expected)


@pytest.mark.parametrize("part", [parts.PARTS[1], parts.PARTS[-1]], ids=lambda part: part.name)
def test_a_run_of_the_homework_on_the_gpu(part, on_gpu, monkeypatch):
    data = load("sample", None)

    def run(device):
        settings = replace(study.SETTINGS, hidden=(8,), epochs=2, device=device)
        images = study.choose(data, part, (5, 6), settings.dtype, 0)
        return study.study(part, study.pair_of(part, settings, 784), images, settings)

    found = run("cuda")
    assert on_gpu == {"cuda"}
    assert "a stand-in, float32 products in float32 (no TF32)" in table.title(found.rows[0])
    monkeypatch.undo()
    expected = run("cpu")
    assert "TF32" not in table.title(expected.rows[0])
    assert figures(found.rows) == figures(expected.rows)
    assert all(np.array_equal(found.sides[s].said, expected.sides[s].said) for s in found.sides)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_whose_gradients_are_on_the_gpu(rank, monkeypatch):
    """Its share of a batch, bit for bit as on the CPU; rank 2 of 3 has the larger one."""
    data, index = load("sample", None), np.arange(16)

    def steps(device):
        alone = Alone()
        alone.rank, alone.world = rank, 3
        pair = make_pair(SETTINGS, 784, 10)
        side = sides.Manual(alone, pair, data.train_x, data.train_y, device)
        losses = [side.step(index) for _ in range(2)]
        return losses, side.read_gradients(), side.weights()

    expected = steps(torch.device("cpu"))
    # torch would take a tensor of the same memory on a GPU
    monkeypatch.setattr(sides, "shared_memory", lambda array: torch.from_numpy(array._a))
    with standing_in():
        found = steps(torch.device("cuda", 0))
    assert found[0] == expected[0]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert isinstance(value, np.ndarray)
            assert value.tobytes() == theirs[name].tobytes()
