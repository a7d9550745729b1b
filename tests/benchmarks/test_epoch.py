"""The epoch with its data: every side sees the same batches; figures are what they are called."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.steps import alone, batches, epoch, memory
from benchmarks.steps.memory import BATCH, SCALE


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (2 * BATCH + 5, 784), dtype=np.uint8)
    return x, generator.integers(0, 10, len(x))


def test_every_side_sees_the_same_batches(data):
    batches.check_batches(*data, seed=3)
    x, y = data
    order = np.random.default_rng(3).permutation(len(x))
    for make in (batches.indexed, batches.loaded):
        found = list(make(x, y, 3))
        assert [len(labels) for _, labels in found] == [BATCH, BATCH, 5]
        images = np.concatenate([images.numpy() for images, _ in found])
        np.testing.assert_allclose(images, x[order] * SCALE, rtol=2e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: (x.flip(0), y),
        lambda x, y: (x, (y + 1) % 10),
        lambda x, y: (x * (1 + 1e-6), y),
        lambda x, y: (x.double(), y),
    ],
)
@pytest.mark.parametrize("name", ["indexed", "loaded"])
def test_other_batches_are_refused(data, monkeypatch, name, wrong):
    real = getattr(batches, name)

    def other(*args):
        for pair in real(*args):
            yield wrong(*pair)

    other.__name__ = name
    monkeypatch.setattr(batches, name, other)
    with pytest.raises(ValueError, match=f"{name}: batch 0 is not manual's"):
        batches.check_batches(*data, seed=0)


def test_missing_samples_are_noticed(data, monkeypatch):
    real = batches.indexed
    short = lambda *args: list(real(*args))[:2]  # noqa: E731
    short.__name__ = "indexed"
    monkeypatch.setattr(batches, "indexed", short)
    with pytest.raises(ValueError, match="indexed: 128 samples, expected 133"):
        batches.check_batches(*data, seed=0)


def test_a_row_for_each_and_a_table(data, capsys):
    rows = epoch.measure(*data, seed=0, rounds=2)
    assert [row["contestant"] for row in rows] == ["manual", epoch.INDEXED, epoch.LOADER]
    assert rows[0]["times_manual"] == 1
    assert all(row["samples"] == 133 and row["rounds"] == 2 for row in rows)
    assert all(0 < row["seconds_q1"] <= row["seconds"] <= row["seconds_q3"] for row in rows)
    epoch.console.print(epoch.table(rows))
    assert epoch.LOADER in capsys.readouterr().out


def test_an_epoch_trains_the_same_weights(data, monkeypatch):
    """In float32, after three steps: all sides are as near as rounding leaves them."""
    nets, side, made = [], epoch.Side, epoch.setup

    def noted(problem):
        nets.append(made(problem))
        return nets[-1]

    monkeypatch.setattr(epoch, "setup", noted)
    monkeypatch.setattr(epoch, "Side", lambda p: nets.append(side(p)) or nets[-1])
    for run in epoch.contestants(*data, seed=1).values():
        assert run() > 0
    mine, *others = (n.net.state_dict() for n in nets)
    start = made(epoch.Problem(batch=BATCH, seed=1)).net.state_dict()
    for theirs in others:
        for name, value in mine.items():
            moved = np.abs(value - start[name]).max()
            assert moved > 1e-4
            assert np.abs(theirs[name].numpy() - value).max() < 1e-3 * moved


def test_peak_memory_is_of_the_whole_process():
    """40 MiB that were there for a moment count."""
    code = (
        "from benchmarks.steps.memory import peak\nimport numpy as np\n"
        "before = peak()\nnp.ones(40 * 2**17)\nprint(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 38 < float(done.stdout) < 60


def test_memory_is_measured_where_nothing_else_is(data):
    asked = []

    class Done:
        returncode, stdout = 0, "12.5\n"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alone.subprocess, "run", lambda c, **o: asked.append((c, o)) or Done)
        assert memory.measure(*data) == 12.5
    ((command, options),) = asked
    assert command[1:] == ["-m", "benchmarks.steps.memory"]
    assert json.loads(options["input"])
    code = "import sys, benchmarks.steps.memory; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_training_takes_memory(data, tmp_path):
    np.save(tmp_path / "x.npy", data[0])
    np.save(tmp_path / "y.npy", data[1])
    assert memory.trained_above(str(tmp_path)) >= 0


def test_the_command_prints_and_writes(data, tmp_path, monkeypatch, capsys):
    import pandas as pd

    monkeypatch.setattr(epoch, "data", lambda root, seed: data)
    monkeypatch.setattr(epoch.memory, "measure", lambda x, y: 61.4)
    monkeypatch.setattr(sys, "argv", ["epoch", "--rounds", "1", "--out", str(tmp_path)])
    epoch.main()
    out = capsys.readouterr().out
    assert "133 images, batch 64, 1 thread" in out
    assert "61 MiB above Python with NumPy" in out
    (path,) = tmp_path.glob("epoch-*.csv")
    frame = pd.read_csv(path)
    assert len(frame) == 3
    assert set(frame.manual_mib) == {61.4}
    assert frame.machine.notna().all()


def test_random_images_stand_in_for_mnist(monkeypatch):
    monkeypatch.setattr(epoch, "SAMPLES", 20)
    x, y = epoch.data(None, 0)
    assert (x.shape, x.dtype, y.shape) == ((20, 784), np.uint8, (20,))
    assert (y.min(), y.max()) >= (0, 0)
    assert y.max() < 10
