"""The command line: what it prints, writes and refuses, and with which exit status."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import bench, cli, mnist
from benchmarks.data import load
from manual import nn

QUICK = ["bench", "--epochs", "2", "--hidden", "8"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd):
    """Run a command line in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main([str(a) for a in args])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


def test_bench_writes_a_row_for_each_side_and_epoch_and_a_picture(handgrad, tmp_path):
    status, out, err = handgrad(*QUICK, "--seed", 3)
    assert status == 0, err
    assert "proven: 51 tensors over 3 steps" in err
    assert "784-8-10 relu" in out
    assert "manual on cpu, torch on cpu" in out
    files = sorted(p.suffix for p in (tmp_path / "results").iterdir())
    assert files == [".csv", ".png"]
    (path,) = (tmp_path / "results").glob("*.csv")
    frame = pd.read_csv(path)
    assert list(frame.side) == ["manual", "torch"] * 2
    assert list(frame.epoch) == [1, 1, 2, 2]
    for column in ("machine", "threads", "blas", "numpy", "torch", "python", "handgrad", "seed"):
        assert frame[column].notna().all(), column
    assert set(frame.seed) == {3}
    assert (frame.samples_per_second * frame.seconds).round().eq(4000).all()
    picture = path.with_suffix(".png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_the_two_sides_learn_the_same_thing(handgrad):
    status, out, _ = handgrad("bench", "--dtype", "float64", "--epochs", "4", "--json")
    rows = pd.DataFrame(json.loads(out))
    assert status == 0
    manual, torch = (rows[rows.side == side].reset_index() for side in ("manual", "torch"))
    assert (rows.max_weight_difference > 0).all()  # two computations, not one compared with itself
    assert (rows.max_weight_difference < 1e-9).all()
    np.testing.assert_allclose(manual.train_loss, torch.train_loss, rtol=1e-12)
    assert list(manual.test_accuracy) == list(torch.test_accuracy)
    assert manual.train_loss.is_monotonic_decreasing
    assert manual.test_accuracy.iloc[-1] > 0.85


def test_one_seed_gives_one_result(handgrad):
    columns = ["train_loss", "test_loss", "max_weight_difference"]
    frames = []
    for seed in (4, 4, 5):
        out = handgrad(*QUICK, "--csv", "--seed", seed)[1]
        frames.append(pd.read_csv(StringIO(out))[columns])
    assert frames[0].equals(frames[1])
    assert not frames[0].equals(frames[2])


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "identity"])
def test_every_activation_depth_and_option_trains(handgrad, activation):
    args = ["--activation", activation, "--hidden", "6", "--momentum", "0.9", "--lr", "0.02"]
    status, out, err = handgrad(*QUICK, *args, "--weight-decay", "0.001", "--threads", "2")
    assert status == 0, err
    assert f"784-8-6-10 {activation}" in out


def test_an_unproven_pair_is_not_trained(handgrad, monkeypatch, tmp_path):
    monkeypatch.setattr(nn.ReLU, "backward", lambda self, dy: dy)
    monkeypatch.setattr(mnist, "train", lambda *a: pytest.fail("trained"))
    status, out, err = handgrad(*QUICK)
    assert status == 1
    assert out == ""
    assert "not proven, so nothing is trained" in err
    assert "first: step 1, d_activation.0" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("side", ["net", "criterion", "optimizer"])
def test_the_proof_is_of_the_very_pair(side):
    """Another architecture, loss or optimizer on torch's side is found."""
    import torch

    import torch_ref
    from compare import verdict

    settings = mnist.Settings(hidden=(8,))
    data = load("sample")
    pair = mnist.make_pair(settings, 784, 10)
    twins = verdict.twins

    def other(net, criterion, optimizer, device="cpu", dtype=None):
        built = list(twins(net, criterion, optimizer, device, dtype))
        if dtype is None and side == "net":
            built[0][1] = torch.nn.Tanh()
        if dtype is None and side == "criterion":
            built[1] = torch.nn.CrossEntropyLoss(label_smoothing=0.01)
        if dtype is None and side == "optimizer":
            built[2].param_groups[0]["lr"] *= 1.01
        return built

    assert torch_ref.twin is not None
    assert mnist.prove(pair, data, settings).passed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "twins", other)
        assert not mnist.prove(pair, data, settings).passed


def test_a_training_that_diverges_stops_and_says_where(handgrad, monkeypatch, tmp_path):
    fit, calls = mnist.manual.training.fit, []

    def poisoned(net, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            net[0].weight.data[0, 0] = np.nan
        return fit(net, *args, **options)

    monkeypatch.setattr(mnist.manual.training, "fit", poisoned)
    status, _, err = handgrad("bench", "--epochs", "3", "--hidden", "8")
    assert status == 1
    assert "training stopped: manual: the loss became nan in epoch 2, step 1" in err
    (path,) = (tmp_path / "results").glob("*")
    assert list(pd.read_csv(path).epoch) == [1, 1]


def refused(handgrad, tmp_path, *args):
    """The one line of an error with exit status 2, after which nothing lies in results/."""
    status, out, err = handgrad(*args)
    lines = err.strip().splitlines()
    assert status == 2
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("handgrad: error: ")
    assert not (tmp_path / "results").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--dataset", "emnist"], ["emnist", "sample", "mnist", "fashion"]),
        (["--activation", "gelu"], ["gelu", "relu"]),
        (["--optimizer", "lion"], ["lion", "sgd"]),
        (["--dtype", "float16"], ["float16", "float32", "float64"]),
        (["--device", "tpu"], ["tpu", "cpu", "cuda"]),
        (["--hidden", "0"], ["0", "hidden"]),
        (["--hidden", "many"], ["many", "hidden"]),
        (["--epochs", "0"], ["0", "epochs"]),
        (["--epochs", "1.5"], ["1.5", "epochs"]),
        (["--batch-size", "-4"], ["-4", "batch-size"]),
        (["--lr", "nan"], ["nan", "lr", "finite"]),
        (["--lr", "inf"], ["inf", "lr", "finite"]),
        (["--lr", "0"], ["0", "lr", "> 0"]),
        (["--lr", "fast"], ["fast", "lr"]),
        (["--momentum", "-0.1"], ["-0.1", "momentum"]),
        (["--weight-decay", "nan"], ["nan", "weight-decay"]),
        (["--seed", "-1"], ["-1", "seed"]),
        (["--threads", "0"], ["0", "threads"]),
        (["--threads", "100000"], ["100000", "threads", "cores"]),
        (["--data-root", "here"], ["here", "data_root", "mnist"]),
        (["--dataset", "mnist", "--data-root", "nowhere"], ["nowhere"]),
        (["--speed", "9"], ["--speed"]),
    ],
)
def test_a_bad_option_is_refused_in_one_line(handgrad, tmp_path, args, told):
    line = refused(handgrad, tmp_path, "bench", *args)
    for part in told:
        assert part in line


def test_a_network_larger_than_memory_is_refused(handgrad, tmp_path):
    assert "memory" in refused(handgrad, tmp_path, "bench", "--hidden", 10**12)


def test_cuda_without_a_gpu_is_refused(handgrad, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no GPU" in refused(handgrad, tmp_path, "bench", "--device", "cuda")


def test_an_unknown_command_is_refused(handgrad, tmp_path):
    assert "train" in refused(handgrad, tmp_path, "train")


@pytest.mark.parametrize("spoil", ["truncated", "corrupt", "counts", "label"])
def test_bad_data_is_refused(handgrad, tmp_path, spoil):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    source = Path(cli.__file__).parent / "mnist_sample" / "MNIST" / "raw"
    for file in source.iterdir():
        (raw / file.name).write_bytes(file.read_bytes())
    images, labels = raw / "train-images-idx3-ubyte.gz", raw / "train-labels-idx1-ubyte.gz"
    if spoil == "truncated":
        images.write_bytes(images.read_bytes()[:-1000])
    elif spoil == "corrupt":
        content = bytearray(images.read_bytes())
        content[5000:5100] = bytes(100)
        images.write_bytes(content)
    elif spoil == "counts":
        labels.write_bytes((raw / "t10k-labels-idx1-ubyte.gz").read_bytes())
    else:
        content = bytearray(gzip.decompress(labels.read_bytes()))
        content[1000] = 77
        labels.write_bytes(gzip.compress(content))
    line = refused(handgrad, tmp_path, "bench", "--dataset", "mnist", "--data-root", "data")
    assert ("labels" if spoil in ("counts", "label") else "images") in line
    assert "77" in line or spoil != "label"


def test_a_results_folder_that_cannot_be_made_is_refused_before_training(
    handgrad, tmp_path, monkeypatch
):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(bench, "train", lambda *a: pytest.fail("trained"))
    status, _, err = handgrad(*QUICK, "--out", "taken")
    assert status == 2
    assert "taken" in err.splitlines()[-1]
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_disk_that_fails_keeps_the_rows_already_written(handgrad, tmp_path, monkeypatch):
    from benchmarks import results

    replace, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(results.os, "replace", full)
    status, _, err = handgrad(*QUICK)
    assert status == 2
    assert "No space left on device" in err
    (path,) = (tmp_path / "results").iterdir()  # and no temporary file
    assert list(pd.read_csv(path).epoch) == [1, 1]


@pytest.mark.parametrize("finished", [0, 2])
def test_ctrl_c_keeps_the_finished_epochs(handgrad, tmp_path, monkeypatch, finished):
    epoch = mnist._epoch

    def interrupted(side, data, number):
        if number > finished and side.name == "torch":
            raise KeyboardInterrupt
        return epoch(side, data, number)

    monkeypatch.setattr(mnist, "_epoch", interrupted)
    status, _, err = handgrad("bench", "--epochs", "4", "--hidden", "8")
    assert status == 130
    assert f"interrupted after {finished} finished epochs" in err
    written = list((tmp_path / "results").iterdir())
    assert len(written) == (finished > 0)
    for path in written:
        assert list(pd.read_csv(path).epoch) == [1, 1, 2, 2]


def test_a_real_sigint_exits_130_with_whole_rows(tmp_path):
    code = "from benchmarks.cli import main; main()"
    command = [sys.executable, "-c", code, "bench", "--epochs", "100000", "--hidden", "8"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/*.csv")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no epoch finished"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (path,) = (tmp_path / "results").iterdir()
    frame = pd.read_csv(path)
    assert list(frame.side) == ["manual", "torch"] * (len(frame) // 2)
    assert f"interrupted after {len(frame) // 2} finished epochs" in err


def test_verify_passes_and_prints_its_tables(handgrad):
    status, out, err = handgrad("verify")
    assert status == 0
    assert "1.0000066640624292" in out
    assert "SGD, nesterov, weight_decay" in out
    assert "all ok" in err


def test_verify_fails_with_the_table(handgrad, monkeypatch):
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    status, out, err = handgrad("verify", "--seed", "7")
    assert status == 1
    assert "mismatch" in out
    assert "cases FAILED" in err
    assert "seed 7" in err


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_verify_as_data(handgrad, form):
    status, out, _ = handgrad("verify", form)
    rows = pd.DataFrame(json.loads(out)) if form == "--json" else pd.read_csv(StringIO(out))
    assert status == 0
    assert len(rows) == 50
    assert set(rows.verdict) == {"ok"}
    assert rows.tensors.sum() > 1000


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom benchmarks.cli import main\n"
        "try: main(['bench', '--help'])\nexcept SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
