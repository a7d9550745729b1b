"""handgrad bench --checkpoint and --resume: how far it is, what is refused, what a disk may do."""

import errno
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import bench, cli, mnist, progress, results
from benchmarks.checkpoint import load, save
from benchmarks.data import Dataset
from benchmarks.tensor_file import TensorFileError

RNG = np.random.default_rng(0)
DATA = Dataset(
    "tiny",
    *(RNG.integers(0, 256, (60, 16), dtype=np.uint8), RNG.integers(0, 10, 60)),
    *(RNG.integers(0, 256, (20, 16), dtype=np.uint8), RNG.integers(0, 10, 20)),
)
SETTINGS = mnist.Settings(hidden=(5,), epochs=3, batch_size=8, momentum=0.9, lr=0.01)
PROOF = mnist.prove(mnist.make_pair(SETTINGS, 16, 10), DATA, SETTINGS)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What other tests look at is left out."""
    monkeypatch.setattr(bench, "prove", lambda *args: PROOF)
    for name in ("hint", "plot"):
        monkeypatch.setattr(bench, name, lambda *args: None)


@pytest.fixture
def run(tmp_path, capfd):
    """run(resume, data, **settings) → (exit status, stderr); everything below tmp_path."""

    def run(resume=False, data=DATA, checkpoint=tmp_path / "c" / "run.ckpt", **settings):
        settings = replace(SETTINGS, **settings)
        status = bench.bench(settings, data, tmp_path / "out", False, True, checkpoint, resume)
        return status, capfd.readouterr().err

    return run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c" / "run.ckpt"


def figures(tmp_path):
    """The rows of the one CSV, without what a clock or the number asked for puts there."""
    (csv,) = (tmp_path / "out").glob("bench-*.csv")
    frame = pd.read_csv(csv)
    return frame.drop(columns=["seconds", "samples_per_second", "epochs"])


def alike(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b


def weights(path, epoch=None):
    states = load(path)["states"]
    assert epoch is None or all(len(state["history"]) == epoch for state in states.values())
    return {
        side: [state[part] for part in ("network", "optimizer", "generator")]
        for side, state in states.items()
    }


def test_epoch_by_epoch_or_at_once_it_is_the_same(run, path, tmp_path):
    assert run(epochs=4)[0] == 0
    expected, rows = weights(path, 4), figures(tmp_path)
    shutil.rmtree(tmp_path / "out")
    path.unlink()
    for epochs in (1, 2, 2, 4, 4):
        status, err = run(resume=True, epochs=epochs)
        assert status == 0, err
        assert ("no checkpoint at" in err) == (epochs == 1)
    assert alike(weights(path, 4), expected)
    assert figures(tmp_path).equals(rows)
    assert list(rows.epoch) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_run_that_had_ended_writes_what_it_had_not(run, tmp_path):
    """As when it was killed between its last checkpoint and the CSV."""
    assert run()[0] == 0
    expected = figures(tmp_path)
    (csv,) = (tmp_path / "out").glob("bench-*.csv")
    log = (tmp_path / "out" / "runs.csv").read_text()
    csv.unlink()
    assert run(resume=True)[0] == 0
    pd.testing.assert_frame_equal(figures(tmp_path), expected)
    assert (tmp_path / "out" / "runs.csv").read_text() == log


def test_without_a_checkpoint_the_figures_are_the_same(run, tmp_path):
    run(checkpoint=None)
    without = figures(tmp_path)
    shutil.rmtree(tmp_path / "out")
    run()
    assert figures(tmp_path).equals(without)
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["run.ckpt"]


def test_after_every_epoch_there_is_a_checkpoint(run, path, monkeypatch):
    seen = []
    train = mnist.train

    def watched(*args):
        for rows in train(*args):
            yield rows
            seen.append(len(load(path)["rows"]))

    monkeypatch.setattr(bench, "train", watched)
    run()
    assert seen == [2, 4, 6]


OTHER = {
    "hidden": (6,),
    "activation": "tanh",
    "lr": 0.02,
    "momentum": 0.8,
    "weight_decay": 0.1,
    "batch_size": 9,
    "dtype": "float64",
    "seed": 1,
    "threads": 2,
}


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_other_settings_is_refused(run, path, name, monkeypatch):
    run(epochs=1)
    before = path.read_bytes()
    monkeypatch.setattr(bench, "train", lambda *args: pytest.fail("trained"))
    own, other = getattr(SETTINGS, name), OTHER[name]
    told = f"{path}: of another run: its {name} is {own!r}, expected {other!r}"
    with pytest.raises(TensorFileError, match=re.escape(told)):
        run(resume=True, **{name: OTHER[name]})
    assert path.read_bytes() == before


def test_other_data_is_refused(run):
    run(epochs=1)
    pixel, label = DATA.train_x.copy(), DATA.test_y.copy()
    pixel[3, 4] ^= 1
    label[3] ^= 1
    for other in ({"name": "mnist"}, {"train_x": pixel}, {"test_y": label}):
        with pytest.raises(TensorFileError, match=r"of another run: its (data|dataset) is"):
            run(resume=True, data=replace(DATA, **other))
    assert run(resume=True)[0] == 0


def test_fewer_epochs_than_it_holds_are_refused(run):
    run(epochs=2)
    with pytest.raises(TensorFileError, match="holds epoch 2, expected at most 1"):
        run(resume=True, epochs=1)


def test_a_checkpoint_that_is_there_is_not_overwritten(run, path):
    run(epochs=1)
    before = path.read_bytes()
    with pytest.raises(TensorFileError, match="is there already: --resume goes on from it"):
        run()
    assert path.read_bytes() == before


def spoilt(path, change):
    state = load(path)
    change(state)
    save(state, path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("rows"), "a checkpoint, but not of handgrad bench"),
        (lambda s: s.update(about=3), "a checkpoint, but not of handgrad bench"),
        (lambda s: s["rows"].pop(), "do not belong together"),
        (lambda s: s.update(rows=s["rows"][:2]), "do not belong together"),
        (lambda s: s.update(rows=[], states={}), "do not belong together"),
        (lambda s: s["states"].pop("torch"), "do not belong together"),
        (lambda s: s["states"]["manual"]["history"].pop(), "do not belong together"),
        (lambda s: s["rows"].reverse(), "do not belong together"),
        (lambda s: s.update(rows=[1, 2, 3, 4]), "its state cannot be read"),
        (lambda s: s.update(states=7), "its state cannot be read"),
        (lambda s: s.update(began="yesterday"), "its state cannot be read"),
        (
            lambda s: s["states"]["torch"]["network"].pop("0.bias"),
            "fit: cannot resume: the state's",
        ),
        (lambda s: s["states"]["manual"]["about"].pop("network"), "fit: cannot resume: network is"),
        (lambda s: s["states"]["torch"]["optimizer"].pop("state"), "fit: cannot resume"),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_refused(run, path, change, told):
    run(epochs=2)
    spoilt(path, change)
    with pytest.raises(TensorFileError, match=re.escape(told)) as caught:
        run(resume=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


# The disk


def fails_at(monkeypatch, name, call, error=errno.ENOSPC):
    """os.NAME fails the given time that it is called."""
    real, calls = getattr(os, name), []

    def wrapper(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise OSError(error, os.strerror(error))
        return real(*args, **kwargs)

    monkeypatch.setattr(results.os, name, wrapper)


@pytest.mark.parametrize("call", [5, 6])
def test_a_full_disk_in_epoch_3_leaves_two_and_names_the_path(
    run, path, tmp_path, monkeypatch, call
):
    """Call 5 writes the checkpoint, 6 the CSV."""
    with monkeypatch.context() as patch:
        fails_at(patch, "fsync", call)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run(epochs=5)
    (csv,) = (tmp_path / "out").glob("bench-*.csv")
    assert caught.value.filename == str(path if call == 5 else csv)
    assert list(pd.read_csv(csv).epoch) == [1, 1, 2, 2]
    weights(path, 2 if call == 5 else 3)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert run(resume=True, epochs=5)[0] == 0
    again, resumed = weights(path, 5), figures(tmp_path)
    shutil.rmtree(tmp_path / "out")
    path.unlink()
    run(epochs=5)
    assert alike(weights(path, 5), again)
    assert figures(tmp_path).equals(resumed)


@pytest.mark.parametrize("gone", ["out", "c"])
def test_a_folder_that_is_deleted_during_the_run(run, path, tmp_path, monkeypatch, gone):
    epoch = mnist.epoch_row

    def deleting(side, data, number):
        if number == 3:
            shutil.rmtree(tmp_path / gone, ignore_errors=True)
        return epoch(side, data, number)

    with monkeypatch.context() as patch:
        patch.setattr(mnist, "epoch_row", deleting)
        with pytest.raises(FileNotFoundError) as caught:
            run(epochs=4)
    assert caught.value.filename.startswith(str(tmp_path / gone))
    assert str(tmp_path / gone) in str(caught.value)
    if gone == "out":  # the checkpoint has all rows, and writes them again
        weights(path, 3)
        assert run(resume=True, epochs=4)[0] == 0
        assert len(figures(tmp_path)) == 8
    else:
        assert list(figures(tmp_path).epoch) == [1, 1, 2, 2]


def test_folders_that_cannot_be_written_to_are_refused_before_training(
    run, path, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench, "train", lambda *args: pytest.fail("trained"))
    (tmp_path / "c").write_text("a file")
    with pytest.raises(FileExistsError, match=re.escape(str(path.parent))):
        run()
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        run(checkpoint=tmp_path)
    (tmp_path / "c").unlink()
    (tmp_path / "c").mkdir(mode=0o500)
    if os.access(path.parent, os.W_OK):  # root may write anywhere

        def denied(self, *args, **kwargs):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(type(path), "touch", denied)
    with pytest.raises(PermissionError, match=re.escape(str(path.parent))):
        run()


def test_what_a_killed_write_left_is_swept_up(run, path, tmp_path):
    run(epochs=1)
    (csv,) = (tmp_path / "out").glob("bench-*.csv")
    for file in (path, csv):
        (file.parent / f".{file.name}.abcd1234").write_text("half")
    run(resume=True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert not list((tmp_path / "out").glob(".bench*"))


def test_a_training_that_diverges_leaves_the_last_good_checkpoint(run, path, monkeypatch):
    step, steps = mnist.optim.SGD.step, []

    def poisoned(self, closure=None):
        steps.append(1)
        loss = step(self, closure)
        if len(steps) >= 2 * 8 + 4:  # and when it is taken again
            self.param_groups[0]["params"][2].data[0, 0] = np.nan
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(mnist.optim.SGD, "step", poisoned)
        status, err = run(epochs=5)
    assert status == 1
    assert (
        "training stopped: manual: the loss became nan in epoch 3, step 5; it began in epoch 3"
        in err
    )
    assert "layer 2 (Linear): updated.2.weight holds nan" in err
    assert f"{path} holds epoch 2" in err
    weights(path, 2)
    assert run(resume=True, epochs=3)[0] == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_says_what_the_checkpoint_holds(run, path, monkeypatch, moment):
    real, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == 5 and moment == "before":
            raise KeyboardInterrupt
        real(source, target)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(results.os, "replace", interrupted)
        status, err = run(epochs=5)
    assert status == 130
    assert f"interrupted after 3 finished epochs; {path} holds epoch 2" in err
    weights(path, 2 if moment == "before" else 3)
    assert run(resume=True)[0] == 0


# The command line


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main(["bench", *map(str, args)])
        return exited.value.code, capfd.readouterr().err

    return run


def test_the_options_reach_it(handgrad, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(bench, "bench", lambda *args: seen.append(args[-2:]) or 0)
    assert handgrad("--checkpoint", "a/b", "--resume")[0] == 0
    assert handgrad("--checkpoint", "a")[0] == 0
    assert handgrad()[0] == 0
    assert [(path and str(path), resume) for path, resume in seen] == [
        ("a/b", True),
        ("a", False),
        (None, False),
    ]


def test_two_runs_at_once_do_not_share_a_checkpoint(handgrad, monkeypatch):
    calls = []

    def another_meanwhile(*args):
        calls.append(args)
        status, err = handgrad("--checkpoint", "a/b", "--resume")
        assert status == 2
        assert "a/b: another run is at it" in err
        return 0

    monkeypatch.setattr(bench, "bench", another_meanwhile)
    assert handgrad("--checkpoint", "a/b")[0] == 0
    assert len(calls) == 1
    monkeypatch.setattr(bench, "bench", lambda *args: 0)
    assert handgrad("--checkpoint", "a/b")[0] == 0  # it is free again


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--resume"], "--resume goes on from a --checkpoint: give its path"),
        (["--steps", "--checkpoint", "x"], "--checkpoint has no meaning with --steps"),
        (["--advise", "--resume"], "--resume has no meaning with --advise"),
        (["--checkpoint", "there"], "there is there already"),
        (["--checkpoint", "there", "--resume"], "there: truncated, or no safetensors file"),
    ],
)
def test_a_bad_option_or_file_is_one_line(handgrad, tmp_path, args, told):
    (tmp_path / "there").write_text("no checkpoint")
    status, err = handgrad(*args)
    assert status == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_about_is_every_setting_but_the_epochs():
    about = progress.about_run(SETTINGS, DATA)
    assert about.keys() == {*vars(SETTINGS), "dataset", "data"} - {"epochs"}
