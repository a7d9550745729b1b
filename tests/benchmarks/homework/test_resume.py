"""A study that is stopped goes on from its checkpoints, and ends as if nothing had stopped it."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import checkpoint
from benchmarks.data import Dataset
from benchmarks.homework import command, pictures, study
from benchmarks.homework.kept import Kept

EPOCHS, RUNS = 2, 12  # of a run; of both sides
NAME = "seed-0-early-stopping-torch.safetensors"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take longer than the study."""
    monkeypatch.setattr(pictures, "PICTURES", {})


def stop_after(patch, number, error):
    """Let so many checkpoints be written, then raise the error. Returns what was written."""
    keep, written = Kept.keep, []

    def keep_some(self, *names):
        write = keep(self, *names)

        def wrapper(state):
            if len(written) == number:
                raise error
            written.append(names)
            write(state)

        return wrapper

    patch.setattr(Kept, "keep", keep_some)
    return written


def table(folder):
    """The study's own CSV, without what a clock has put there."""
    (path,) = Path(folder).glob("homework-*.csv")
    return pd.read_csv(path).drop(columns=["seconds", "samples_per_second"])


def test_stopped_after_any_epoch_it_ends_as_one_that_was_not(handgrad):
    handgrad("--out", "whole")
    for number in (0, 1, EPOCHS, 2 * EPOCHS + 1, RUNS * EPOCHS - 1):
        folders = ("--checkpoint", f"kept-{number}", "--out", f"out-{number}")
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, number, KeyboardInterrupt)
            status, _, err = handgrad(*folders)
        assert status == 130
        (Path(f"kept-{number}") / f".{NAME}.x2_4567y").touch()  # of a write that was killed
        done = number // (2 * EPOCHS)
        assert f"interrupted after {done} finished runs; kept-{number} holds what" in err
        with pytest.MonkeyPatch.context() as patch:
            written = stop_after(patch, None, None)
            assert handgrad(*folders, "--resume")[0] == 0
        assert len(written) == RUNS * EPOCHS - number  # no epoch is trained twice
        pd.testing.assert_frame_equal(table(f"out-{number}"), table("whole"))
        assert len(pd.read_csv(f"out-{number}/runs.csv")) == RUNS
        assert {p.suffix for p in Path(f"kept-{number}").iterdir()} == {".safetensors"}


def test_a_study_that_has_ended_goes_on_with_more_seeds(handgrad):
    handgrad("--checkpoint", "kept")
    with pytest.MonkeyPatch.context() as patch:
        written = stop_after(patch, None, None)
        assert handgrad("--checkpoint", "kept", "--resume", "--seeds", "2")[0] == 0
    assert {seed for seed, _, _ in written} == {1}
    rows = pd.read_csv("results/runs.csv")
    assert list(rows.seed) == [0] * RUNS + [1] * RUNS
    assert rows.when.nunique() == 1
    with pytest.MonkeyPatch.context() as patch:
        written = stop_after(patch, 1, KeyboardInterrupt)
        handgrad("--checkpoint", "kept", "--resume", "--seed", "2")
    assert [seed for seed, _, _ in written] == [2]


def test_rows_of_other_seeds_and_runs_stay(handgrad):
    handgrad("--checkpoint", "kept", "--seeds", "2")
    (path,) = Path("results").glob("homework-*.csv")
    before = pd.read_csv(path)
    (path.parent / f".{path.name}.x2_4567y").touch()  # of a write that was killed
    with pytest.MonkeyPatch.context() as patch:
        calls, real = [], command.study

        def stopped_again(*args):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*args)

        patch.setattr(command, "study", stopped_again)
        assert handgrad("--checkpoint", "kept", "--resume")[0] == 130
    pd.testing.assert_frame_equal(pd.read_csv(path), before)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2 * EPOCHS, KeyboardInterrupt)
        assert handgrad("--checkpoint", "kept", "--resume", "--seed", "2")[0] == 130
    pd.testing.assert_frame_equal(pd.read_csv(path), before)
    (other,) = set(path.parent.glob("homework-*.csv")) - {path}
    assert list(pd.read_csv(other).seed) == [2, 2]
    assert not list(path.parent.glob(".homework*"))


def test_what_is_there_is_not_written_over(handgrad):
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt)
        handgrad("--checkpoint", "kept")
    (path,) = Path("kept").iterdir()
    before = path.read_bytes()
    status, _, err = handgrad("--checkpoint", "kept")
    assert status == 2
    assert f"{path} is there already: --resume goes on from it" in err
    assert path.read_bytes() == before


def test_to_resume_takes_a_checkpoint(handgrad):
    status, _, err = handgrad("--resume")
    assert status == 2
    assert "--resume goes on from a --checkpoint: give its path" in err


@pytest.fixture
def stopped(handgrad):
    """handgrad, after a study that was stopped in the second run's second side."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4 * EPOCHS - 1, KeyboardInterrupt)
        handgrad("--checkpoint", "kept")
    assert (Path("kept") / NAME).exists()
    return handgrad


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--digits", "3", "8"), "its digits is [5, 6], expected [3, 8]"),
        (("--dtype", "float32"), "its dtype is 'float64', expected 'float32'"),
        (("--epochs", "1"), "the state is of epoch 2, after epochs=1"),
    ],
)
def test_another_study_is_refused(stopped, args, told):
    before = {path: path.read_bytes() for path in Path("kept").iterdir()}
    status, _, err = stopped("--checkpoint", "kept", "--resume", *args)
    assert status == 2
    assert told in err
    assert "kept" in err
    assert {path: path.read_bytes() for path in Path("kept").iterdir()} == before


def test_other_settings_and_data_are_refused(stopped, monkeypatch, data):
    for name, value in (("PATIENCE", 3), ("SHARE", 0.2), ("STD", 0.1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, name, value)
            status, _, err = stopped("--checkpoint", "kept", "--resume")
        assert status == 2
        assert f"of another run: its {name.lower()} is" in err
    other = Dataset(data.name, data.train_x[::-1], data.train_y[::-1], data.test_x, data.test_y)
    monkeypatch.setattr("benchmarks.data.load", lambda name, root: other)
    status, _, err = stopped("--checkpoint", "kept", "--resume")
    assert status == 2
    assert "of another run: its data is" in err


def test_a_checkpoint_of_another_run_or_side_is_refused(stopped):
    for other in ("seed-0-no-early-stopping-torch", "seed-0-early-stopping-manual"):
        content = (Path("kept") / f"{other}.safetensors").read_bytes()
        (Path("kept") / NAME).write_bytes(content)
        status, _, err = stopped("--checkpoint", "kept", "--resume")
        assert status == 2, other
        assert f"{NAME}: of another run: its " in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content[:-1], "truncated, or no safetensors file"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "altered"),
        (lambda content: b"", "truncated, or no safetensors file"),
    ],
)
def test_a_damaged_checkpoint_is_refused(stopped, change, told):
    path = Path("kept") / NAME
    path.write_bytes(change(path.read_bytes()))
    status, _, err = stopped("--checkpoint", "kept", "--resume")
    assert status == 2
    assert told in err
    assert str(path) in err


def test_a_checkpoint_that_is_no_studys_is_refused(stopped):
    path = Path("kept") / NAME
    for state in ({"a": 1}, [], {"about": {}, "of": {}, "began": "", "state": 1}):
        checkpoint.save(state, path)
        status, _, err = stopped("--checkpoint", "kept", "--resume")
        assert status == 2
        assert "but not of handgrad homework" in err
    kept = checkpoint.load(Path("kept") / NAME.replace("torch", "manual"))
    checkpoint.save(kept | {"began": "yesterday"}, path)
    status, _, err = stopped("--checkpoint", "kept", "--resume")
    assert status == 2
    assert "its state cannot be read" in err


def test_a_folder_that_is_a_file_is_told_before_any_training(handgrad, monkeypatch):
    Path("kept").write_text("mine")
    monkeypatch.setattr(command, "study", None)
    status, _, err = handgrad("--checkpoint", "kept")
    assert status == 2
    assert "kept" in err
    assert Path("kept").read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_told_before_any_training(handgrad, monkeypatch):
    touch = Path.touch

    def read_only(self, *args):
        if self.parent.name == "kept":
            raise OSError(errno.EROFS, "read-only file system", str(self))
        touch(self, *args)

    monkeypatch.setattr(Path, "touch", read_only)
    monkeypatch.setattr(command, "study", None)
    status, _, err = handgrad("--checkpoint", "kept")
    assert status == 2
    assert "read-only file system: 'kept" in err


def test_two_studies_at_once_do_not_share_a_folder(handgrad, monkeypatch):
    def another_meanwhile(*args):
        status, _, err = handgrad("--checkpoint", "kept")
        assert status == 2
        assert "kept: another run is at it" in err
        return 0

    monkeypatch.setattr(command, "homework", another_meanwhile)
    assert handgrad("--checkpoint", "kept")[0] == 0


def test_a_divergence_leaves_the_last_good_checkpoint(handgrad, monkeypatch):
    fit = study.torch_ref.training.fit

    def poisoned(net, *args, checkpoint, **options):
        def then_poison(state):
            checkpoint(state)
            net[0].weight.data[0, 0] = np.nan

        return fit(net, *args, checkpoint=then_poison, **options)

    monkeypatch.setattr(study.torch_ref.training, "fit", poisoned)
    status, _, err = handgrad("--checkpoint", "kept")
    assert status == 1
    assert "no early stopping, torch: the loss became nan in epoch 2, step 1" in err
    assert "; kept holds what --resume goes on from" in err
    kept = checkpoint.load("kept/seed-0-no-early-stopping-torch.safetensors")
    assert len(kept["state"]["history"]) == 1
