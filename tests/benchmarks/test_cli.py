"""The command line: what it prints, writes and refuses, and with which exit status."""

import gzip
import json
import os
import re
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
from tests.stand_in import standing_in

QUICK = ["bench", "--epochs", "2", "--hidden", "8"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def no_advice(monkeypatch):
    """It is measured, which takes seconds: tests/benchmarks/test_advice.py."""
    monkeypatch.setattr(bench, "hint", lambda *args: None)


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
    assert "both on cpu" in out
    files = sorted(p.name for p in (tmp_path / "results").iterdir())
    assert [re.sub(r"-[0-9T.]+Z", "", name) for name in files] == [
        ".runs.csv.lock",
        "bench-sample.csv",
        "bench-sample.png",
        "runs.csv",
    ]
    (path,) = (tmp_path / "results").glob("bench-*.csv")
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

    from compare import sides

    settings = mnist.Settings(hidden=(8,))
    data = load("sample")
    pair = mnist.make_pair(settings, 784, 10)
    twins = sides.twins

    def other(net, criterion, optimizer, device="cpu", dtype=None, **given):
        built = list(twins(net, criterion, optimizer, device, dtype, **given))
        judged = dtype != torch.float64
        if judged and side == "net":
            built[0][1] = torch.nn.Tanh()
        if judged and side == "criterion":
            built[1] = torch.nn.CrossEntropyLoss(label_smoothing=0.01)
        if judged and side == "optimizer":
            built[2].param_groups[0]["lr"] *= 1.01
        return built

    assert mnist.prove(pair, data, settings).passed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sides, "twins", other)
        assert not mnist.prove(pair, data, settings).passed


def test_a_training_that_diverges_stops_and_says_where(handgrad, monkeypatch, tmp_path):
    fit = mnist.manual.training.fit

    def poisoned(*args, resume, **options):
        if resume is not None:
            resume["network"]["0.weight"][0, 0] = np.nan
        return fit(*args, resume=resume, **options)

    monkeypatch.setattr(mnist.manual.training, "fit", poisoned)
    status, _, err = handgrad("bench", "--epochs", "3", "--hidden", "8")
    assert status == 1
    assert (
        "training stopped: manual: the loss became nan in epoch 2, step 1; it began in epoch 2, "
        "step 1, layer 0 (Linear): 0.weight holds nan" in err
    )
    (path,) = (tmp_path / "results").glob("bench-*")
    assert list(pd.read_csv(path).epoch) == [1, 1]
    assert list(pd.read_csv(tmp_path / "results" / "runs.csv").outcome) == ["diverged"] * 2


def test_a_mistake_that_only_training_makes_is_found_before_and_after(handgrad, monkeypatch):
    """`fit` calls backward_parameters, not backward."""

    def wrong(self, dy):
        nn.Sequential.backward(self, dy)
        self[0].weight.grad = np.zeros_like(self[0].weight.data)

    monkeypatch.setattr(nn.Sequential, "backward_parameters", wrong)
    status, _, err = handgrad(*QUICK)
    assert status == 1
    assert "first: step 1, grad.0.weight (backward_parameters)" in err
    monkeypatch.setattr(
        bench,
        "prove",
        lambda *a: mnist.prove(mnist.make_pair(mnist.Settings(hidden=()), 784, 10), *a[1:]),
    )
    with monkeypatch.context() as patch:
        patch.setattr(nn.Sequential, "backward_parameters", nn.Sequential.backward)
        proof = mnist.prove(
            *(mnist.make_pair(mnist.Settings(), 784, 10), load("sample")), mnist.Settings()
        )
    monkeypatch.setattr(bench, "prove", lambda *a: proof)
    status, _, err = handgrad(*QUICK, "--dtype", "float64")
    assert status == 1
    assert "apart after the run in float64" in err


def test_the_settings_reach_both_sides(monkeypatch):
    settings = mnist.Settings(
        hidden=(9, 7),
        activation="tanh",
        lr=0.3,
        momentum=0.5,
        weight_decay=0.01,
        dtype="float64",
        batch_size=100,
        threads=1,
        seed=8,
    )
    net, _, optimizer = pair = mnist.make_pair(settings, 784, 10)
    kinds = [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [type(module) for module in net] == kinds
    assert [p.shape[0] for p in net.parameters()] == [9, 9, 7, 7, 10, 10]
    assert {p.dtype.name for p in net.parameters()} == {"float64"}
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.5, 0.01)
    for name, kind in mnist.ACTIVATIONS.items():
        built = mnist.make_pair(mnist.Settings(activation=name), 784, 10).net
        assert type(built[1]) is kind
        assert kind.__name__.lower() == name
    data, order, sizes = load("sample"), [], {"manual": [], "torch": []}
    batches = mnist.manual.training.batches

    def spied(n, batch_size, generator):
        import torch

        assert torch.get_num_threads() == 1
        for index in batches(n, batch_size, generator):
            sizes["manual" if len(order) % 2 else "torch"].append(len(index))
            yield index

    monkeypatch.setattr(mnist.manual.training, "batches", spied)
    settings = mnist.Settings(**{**vars(settings), "epochs": 2})
    list(mnist.train(pair, data, settings, order.append))
    assert order == ["epoch 1, manual", "epoch 1, torch", "epoch 2, torch", "epoch 2, manual"]
    assert sizes["manual"] == sizes["torch"] == [100] * 80


def test_the_figures_of_a_row_are_what_they_are_called():
    settings = mnist.Settings(hidden=(8,), epochs=1)
    pair, data = mnist.make_pair(settings, 784, 10), load("sample")
    ((manual, torch),) = mnist.train(pair, data, settings)
    for split in ("train", "test"):
        logits = pair.net(getattr(data, f"{split}_x") * np.float32(mnist.SCALE))
        right = (logits.argmax(1) == getattr(data, f"{split}_y")).mean()
        assert manual[f"{split}_accuracy"] == pytest.approx(right)
    loss = nn.CrossEntropyLoss()(logits, data.test_y)
    assert manual["test_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert 1 < manual["train_loss"] < np.log(10) + 0.1
    assert (manual["device"], torch["device"]) == ("cpu", "cpu")
    a = {"w": np.array([1.0, 5.0]), "b": np.ones(2)}
    b = {"w": np.array([1.5, 5.0]), "b": np.ones(2)}
    assert mnist.difference(a, b) == 0.5


def test_the_summary_is_of_the_median_epoch():
    """A ratio for each epoch (2, 1.5, 9), then the median, 2: not that of the medians, 1.5."""
    rows = []
    for epoch, (mine, theirs) in enumerate([(1, 2), (2, 3), (3, 27)], 1):
        for side, seconds in (("manual", mine), ("torch", theirs)):
            figures = {"test_accuracy": epoch / 10, "test_loss": 1 / epoch, "seconds": seconds}
            rows.append({"side": side, "epoch": epoch, "samples_per_second": 1, **figures})
    table = bench.summary_table(rows, mnist.Settings())
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["times torch"] == ["2.00", "1.00"]
    assert cells["test accuracy"] == ["30.00%", "30.00%"]
    assert cells["seconds"] == ["2.000", "3.000"]


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
        (["--hidden", "9" * 30], ["9" * 30, "hidden", "1000000"]),
        (["--lr", "1e39"], ["1e39", "lr", "finite"]),
        (["--weight-decay", "1e39"], ["1e39", "weight-decay", "finite"]),
        (["--json", "--csv"], ["--json", "--csv"]),
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


def test_a_network_larger_than_memory_is_refused(handgrad, tmp_path, monkeypatch):
    for error in (
        MemoryError("Unable to allocate 5 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 TiB"),
    ):

        def fails(*args, error=error):
            raise error

        monkeypatch.setattr(bench, "make_pair", fails)
        assert "not enough memory" in refused(handgrad, tmp_path, "bench")


@pytest.mark.parametrize(
    "command", [["bench"], ["bench", "--steps"], ["verify"], ["homework"]], ids=" ".join
)
def test_cuda_without_a_gpu_is_refused_with_what_is_missing(
    command, handgrad, tmp_path, monkeypatch
):
    import torch

    arguments = handgrad, tmp_path, *command, "--device", "cuda"
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "CuPy, which is not installed: pip install 'handgrad[gpu]'" in refused(*arguments)
    with standing_in() as cupy:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert "torch sees no CUDA device here" in refused(*arguments)
        cupy.cuda.is_available = lambda: False
        assert "CuPy is installed, but sees no CUDA device here" in refused(*arguments)


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
    epoch = mnist.epoch_row

    def interrupted(side, data, number):
        if number > finished and side.name == "torch":
            raise KeyboardInterrupt
        return epoch(side, data, number)

    monkeypatch.setattr(mnist, "epoch_row", interrupted)
    status, _, err = handgrad("bench", "--epochs", "4", "--hidden", "8")
    assert status == 130
    assert f"interrupted after {finished} finished epochs" in err
    written = list((tmp_path / "results").glob("bench-*"))
    assert len(written) == (finished > 0)
    assert (tmp_path / "results" / "runs.csv").exists() == (finished > 0)
    for path in written:
        assert list(pd.read_csv(path).epoch) == [1, 1, 2, 2]
        runs = pd.read_csv(path.with_name("runs.csv"))
        assert list(runs.outcome) == ["interrupted"] * 2
        assert list(runs.epochs_run) == [2, 2]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_while_rows_are_written_loses_none(handgrad, tmp_path, monkeypatch, moment):
    from benchmarks import results

    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == 2 and moment == "before":
            raise KeyboardInterrupt
        replace(source, target)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(results.os, "replace", interrupted)
    status, _, err = handgrad("bench", "--epochs", "4", "--hidden", "8")
    assert status == 130
    assert "interrupted after 2 finished epochs" in err
    (path,) = (tmp_path / "results").glob("bench-*")
    assert list(pd.read_csv(path).epoch) == [1, 1, 2, 2]


def test_a_real_sigint_exits_130_with_whole_rows(tmp_path):
    code = "from benchmarks.cli import main; main()"
    command = [sys.executable, "-c", code, "bench", "--epochs", "100000", "--hidden", "8"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/bench-*.csv")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no epoch finished"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (path,) = (tmp_path / "results").glob("bench-*")
    frame = pd.read_csv(path)
    assert list(frame.side) == ["manual", "torch"] * (len(frame) // 2)
    assert f"interrupted after {len(frame) // 2} finished epochs" in err


SOME = ["--only", "Tanh", "--only", "Residual", "--only", "homework"]


def test_verify_passes_and_prints_its_tables(handgrad):
    status, out, err = handgrad("verify", *SOME)
    assert status == 0
    assert "1.0000066640624292" in out
    assert "Tanh" in out
    assert "Adam" not in out
    assert "all ok" in err
    status, out, err = handgrad("verify", "--only", "Tanh")
    assert status == 0
    assert "homework" not in out
    assert err.strip() == "10 cases, 50 tensors: all ok"


def test_verify_lists_what_it_covers(handgrad):
    status, out, err = handgrad("verify", "--list", "--csv")
    rows = pd.read_csv(StringIO(out)).set_index("subject")
    assert (status, err) == (0, "")
    assert rows.kind["LBFGS"] == "optimizer"
    assert rows.cases["Tanh"] == 10
    status, out, _ = handgrad("verify", "--list", "--only", "Tanh")
    assert "0 to 4" in out
    assert "Sigmoid" not in out
    for option in (["--processes", "2"], ["--device", "cuda"]):  # nothing is run
        status, out, err = handgrad("verify", "--list", *option)
        assert (status, out) == (2, "")
        assert f"{option[0]} has no meaning with --list" in err


def test_verify_refuses_a_name_without_cases(handgrad):
    status, out, err = handgrad("verify", "--only", "Tahn")
    assert (status, out) == (2, "")
    assert "expected one of homework, Identity" in err
    assert "'Tahn'" in err


def test_verify_fails_with_the_table(handgrad, monkeypatch):
    monkeypatch.setattr(nn.Tanh, "backward", lambda self, dy: dy)
    status, out, err = handgrad("verify", "--seed", "7", *SOME)
    assert status == 1
    assert "mismatch" in out
    assert "cases FAILED" in err
    assert "seed 7" in err


def test_verify_as_json_has_no_infinity(handgrad, monkeypatch):
    monkeypatch.setattr(nn.Identity, "forward", lambda self, x: np.asarray(x + 1))
    status, out, _ = handgrad("verify", "--json", "--only", "Identity")
    assert status == 1
    rows = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert any(row["used"] is None for row in rows)


def test_verify_shows_a_backward_that_raises(handgrad, monkeypatch):
    def raises(self, dy):
        raise ArithmeticError("wrong by hand")

    monkeypatch.setattr(nn.Sigmoid, "backward", raises)
    status, out, err = handgrad("verify", "--only", "Sigmoid")
    assert status == 1
    assert "missing" in out
    assert "raised ArithmeticError: wrong by hand" in err


def test_no_arguments_print_the_help_alone(handgrad):
    status, out, err = handgrad()
    assert status == 2
    assert "verify" in out
    assert err == ""


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_verify_as_data(handgrad, form):
    status, out, _ = handgrad("verify", form, *SOME)
    rows = pd.DataFrame(json.loads(out)) if form == "--json" else pd.read_csv(StringIO(out))
    assert status == 0
    assert set(rows.subject) == {"Tanh", "Residual", "homework"}
    assert len(rows) == 10 + 12 + 8
    assert set(rows.verdict) == {"ok"}
    assert rows.tensors.sum() > 200


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom benchmarks.cli import main\n"
        "try: main(['bench', '--help'])\nexcept SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
