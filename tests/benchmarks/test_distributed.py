"""Training over several processes: what they compute is what one does, and a run in which one
dies, hangs or does not agree ends soon, with its rank."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.distributed import group, member, proof, watch
from benchmarks.distributed.sides import share
from tests.benchmarks.ranks import ARRIVE, SILENT, STUCK

ROOT = Path(__file__).parents[2]


def in_processes(*names):
    """{"RUN N": what tests.benchmarks.ranks says of it}."""
    words = [word for name in names for word in name.rsplit(" ", 1)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ranks", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What they compute.


def test_n_processes_compute_what_one_does():
    """Gradients, weights, training; manual and torch; the last batch does not divide evenly."""
    names = ["prove 1", "prove 2", "prove 3", "prove 4", "prove float32 2", "flat 2"]
    runs = in_processes(*names, "train 2", "train 4", "rates 1", "rates 2")
    for name in names[:-1]:
        assert set(runs[name]["status"]) == {0}, runs[name]
        found = runs[name]["found"]
        assert 0 < found["used"] < 0.1 or name == "prove 1"  # rounding, and nothing else
    assert [runs[f"prove {n}"]["found"]["sizes"] for n in (1, 2, 3, 4)] == [
        [16, 16, 1],
        [16, 15, 1],
        [16, 16, 2],
        [16, 15, 3],
    ]
    # 3 pairs of sides, 3 batches, 4 tensors (6 with another layer), gradients and weights.
    assert runs["prove 4"]["found"]["tensors"] == 3 * 3 * 4 * 2
    assert runs["prove float32 2"]["found"]["tensors"] == 3 * 3 * 6 * 2
    assert runs["flat 2"]["found"] == {"one buffer": True, "shared": True, "summed": True}
    for world in (2, 4):
        found = runs[f"train {world}"]["found"]
        assert len(found["rows"]) == 4
        for row, own in zip(found["rows"], runs["one process"], strict=True):
            assert (row["side"], row["epoch"]) == (own["side"], own["epoch"])
            assert row["processes"] == world
            for loss in ("train_loss", "test_loss"):
                assert row[loss] == pytest.approx(own[loss], rel=1e-11)
            assert 0 < row["max_weight_difference"] < 1e-12
    for world in (1, 2):
        found = runs[f"rates {world}"]["found"]
        sizes = [64, 16_384, 4_194_304] if world > 1 else []
        assert [size for size, _ in found["all_reduce"]] == sizes
        assert all(seconds > 0 for _, seconds in found["all_reduce"])
        assert list(found["steps"]) == ["8", "32"]
        assert found["gradient"] == 8 * (6 * 5 + 5 + 5 * 10 + 10)
    steps = runs["train 2"]["found"]["steps"]
    assert list(steps) == ["manual", "torch"]
    for us, part in steps.values():
        assert us > 0
        assert part < 1
    assert steps["manual"][1] > 0.2  # so little work that the sum is most of the step


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_n_gpus_compute_what_one_does():
    """Over nccl."""
    runs = in_processes("on GPUs 2")
    assert runs["on GPUs 2"]["status"] == [0, 0], runs
    assert 0 < runs["on GPUs 2"]["found"]["used"] < 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_a_rank_without_a_gpu_says_so(ended):
    found = ended["on GPUs 2"]
    assert found["status"] == [1, 1]
    assert re.fullmatch("rank [01] needs GPU [01], and its machine has 0", found["message"][0])


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_shares_are_all_of_a_batch_and_nearly_equal(world):
    for n in (1, 2, 3, 7, 8, 64, 63):
        index = np.random.default_rng(n).permutation(n)
        own = [share(index, rank, world) for rank in range(world)]
        np.testing.assert_array_equal(np.concatenate(own), index)
        sizes = {len(piece) for piece in own}
        assert max(sizes) - min(sizes) <= 1


def test_the_batches_of_the_proof_divide_evenly_unevenly_and_hardly():
    for world in (2, 3, 4, 8, 64):
        full, uneven, few = proof.batch_sizes(128, world)
        assert full == 128
        assert uneven % world
        assert min(len(share(np.arange(few), rank, world)) for rank in range(world)) == 0
    assert proof.batch_sizes(1, 4) == [1, 1, 1]


@pytest.mark.parametrize(
    ("plant", "where"),
    [
        ("unweighted", "step 2, 15 samples, manual, shared, against one process: grad.0.weight"),
        ("unweighted torch", "step 2, 15 samples, torch, shared, against one process: grad.0."),
        ("unsummed", "step 1, 16 samples, manual, shared, against one process: grad.0.weight"),
        ("twice", "step 1, 16 samples, manual, shared, against one process: grad.0.weight"),
        ("slightly", "step 1, 16 samples, manual, shared, against one process: updated.0."),
    ],
)
def test_the_proof_fails_where_batches_are_shared_wrongly(plant, where, planted):
    found = planted[f"planted {plant} 2"]
    assert found["status"] == [1, 1]
    message = found["message"][0]
    if plant == "unsummed":  # different weights, which is seen before they are compared
        assert message == "manual's weights after step 1 are not the same: rank 1 and rank 0 differ"
    else:
        assert message.startswith(where)
        assert "to within" in message


@pytest.fixture(scope="module")
def planted():
    names = ["unweighted", "unweighted torch", "unsummed", "twice", "slightly"]
    return in_processes(*(f"planted {name} 2" for name in names))


def test_a_tensor_is_compared_with_its_largest_number():
    a, b = {"w": np.array([1e3, 1e-9])}, {"w": np.array([1e3, 0.0])}
    assert proof.compared("x", a, b, 1e-12) == [pytest.approx(1.0)]
    for other in ({"w": np.array([1e3, 1.1e-9])}, {"w": np.array([np.nan, 0])}):
        with pytest.raises(proof.NotEqual, match=r"^x\.w is .* expected .* to within 1\.0e-09"):
            proof.compared("x", other, b, 1e-12)
    zero = {"w": np.zeros(2)}
    assert proof.compared("x", zero, zero, 1e-12) == [0.0]
    with pytest.raises(proof.NotEqual):
        proof.compared("x", {"w": np.array([0, 1e-300])}, zero, 1e-12)
    for wrong in ({"v": zero["w"]}, {"w": np.zeros((1, 2))}, {"w": np.zeros(2, np.float32)}):
        with pytest.raises(proof.NotEqual):
            proof.compared("x", wrong, zero, 1e-12)


# How a run ends.

ENDS = {
    "killed": f"rank 1 gave no sign of life for {SILENT:.0f} s",
    "exit": f"rank 1 gave no sign of life for {SILENT:.0f} s",
    "stopped": f"rank 1 gave no sign of life for {SILENT:.0f} s",
    "stuck": rf"rank 1 did not come to all-reduce \d+ in {STUCK:.0f} s",
    "stuck 0": rf"rank 0 did not come to all-reduce \d+ in {STUCK:.0f} s",
    "stopped 0": f"rank 0 gave no sign of life for {SILENT:.0f} s",
    "raises": "rank 1: odd sheep",
    "drifts": "manual's weights are not the same: rank 1 and RANKS differ",
    "drifts torch": "torch's weights are not the same: rank 1 and RANKS differ",
    "seed": "the processes do not agree: seed is 7 on rank 1, 0 on RANKS",
    "dtype": 'the processes do not agree: dtype is "float32" on rank 1, "float64" on RANKS',
    "sizes": r"the processes do not agree: hidden is \[6\] on rank 1, \[5\] on RANKS; "
    "batch_size is 8 on rank 1, 16 on RANKS",
    "data": 'the processes do not agree: data is "[0-9a-f]+" on rank 1, "[0-9a-f]+" on RANKS',
    "processes": "the processes do not agree: processes is MORE on rank 1, N on RANKS",
    "twice": "rank 0 was started twice",
    "absent": f"rank 1 did not come within {ARRIVE:.0f} s",
    "nan": r"rank \d: (manual|torch): (the loss became (nan|inf) in epoch 1, step \d|"
    "a weight became non-finite in epoch 1)",
    "store": r"the store of the run at localhost:\d+ is gone: what started the processes, or "
    "rank 0, has ended",
}


# With 2 and with 4 processes, but some of those that wait for long or are alike.
WORLDS = dict.fromkeys(ENDS, (2, 4)) | dict.fromkeys(
    ["exit", "sizes", "absent", "drifts", "stuck 0", "stopped 0"], (2,)
)
WORLDS |= dict.fromkeys(["stopped", "stuck", "drifts torch", "dtype", "data"], (4,))


@pytest.fixture(scope="module")
def ended():
    runs = [f"{what} {world}" for what, worlds in WORLDS.items() for world in worlds]
    return in_processes(*runs, "no error 2", "on GPUs 2")


@pytest.mark.parametrize("what", ENDS)
def test_a_run_that_cannot_go_on_ends_with_the_rank(what, ended):
    for world in WORLDS[what]:
        found = ended[f"{what} {world}"]
        others = watch.ranks([rank for rank in range(world) if rank != 1])
        text = ENDS[what].replace("RANKS", others).replace("MORE", str(world + 1))
        text = text.replace("N on", f"{world} on")
        told = [rank for rank in range(world) if found["status"][rank] == 1]
        assert len(told) >= world - 1, found
        for rank in told:  # all, but one that was killed
            assert re.fullmatch(text, found["message"][rank]), found
        assert 0 not in found["status"], found
        assert found["left"] == 0
        assert found["seconds"] < 15, found


def test_a_run_in_which_nothing_happens_ends_well(ended):
    assert ended["no error 2"]["status"] == [0, 0]
    assert ended["no error 2"]["message"] == ["", ""]


def test_a_traceback_is_for_what_nobody_expected(ended):
    assert "Traceback" not in ended["seed 2"]["log"]
    assert "Traceback" not in ended["nan 2"]["log"]


def test_all_of_this_takes_less_than_a_minute_as_shipped():
    """Numbers that the runs above change for themselves. torch's launcher kills a process 30 s
    after it has asked it to end."""
    assert group.TIMEOUT == watch.TIMEOUT
    assert 20 * watch.BEAT < watch.SILENT  # a busy machine is no dead one
    assert watch.SILENT + 30 < 60
    assert watch.STUCK + 30 < 60
    assert watch.STUCK < watch.TIMEOUT  # or the all-reduce would fail before it is known why
    assert group.SETTLED < group.ARRIVE + group.TIMEOUT / 2 < 60


def test_who_computes_long_is_late_only_when_another_waits(monkeypatch):
    """Between two all-reduces all may have more to do than what a single one is waited for."""
    now, store = [0.0], torch.distributed.HashStore()
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "BEAT", 3600.0)
    own = watch.Watch(store, 0, 3, "the store")

    def lost(at, *places):
        now[0] = at
        for rank, place in enumerate(places):
            store.set(f"beat/{rank}", f"{at} {place}")
        return own._lost()

    assert lost(0.0, 1, 1, 1) is None
    assert lost(10 * watch.STUCK, 1, 1, 1) is None
    began = 10 * watch.STUCK + 1
    assert lost(began, 1, 2, 1) is None
    assert lost(began + watch.STUCK - 1, 2, 2, 1) is None
    late = f"rank 2 did not come to all-reduce 2 in {watch.STUCK:.0f} s"
    assert lost(began + watch.STUCK + 1, 2, 2, 1) == late
    own.stop()


def test_a_process_says_once_why_it_ends(tmp_path, monkeypatch):
    """Both of its threads may want to, and one ends the process while the other writes."""
    path = tmp_path / "error"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    monkeypatch.setattr(watch, "ENDING", threading.Lock(), raising=False)
    ended = []
    own = SimpleNamespace(environ=os.environ, replace=os.replace, _exit=ended.append)
    monkeypatch.setattr(watch, "os", own)
    watch.end("first")
    other = threading.Thread(target=watch.end, args=("second",), daemon=True)
    other.start()
    other.join(0.2)
    assert ended == [1]
    assert json.loads(path.read_text())["message"]["message"] == "first"
    assert list(tmp_path.iterdir()) == [path]
    watch.ENDING.release()
    other.join()


def test_what_is_wrong_before_the_others_are_met_is_one_line(monkeypatch, capsys):
    for name, value in zip(group._NEEDED, ("x", "2", "0", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(member, "end", lambda message: message)
    assert member.guarded(lambda watch: 0).startswith("rank x: invalid literal for int()")

    def join():
        raise MemoryError("1 TiB")

    monkeypatch.setattr(member, "join", join)
    assert member.guarded(lambda watch: 0) == "rank x: not enough memory: 1 TiB"
    assert capsys.readouterr() == ("", "")


def test_outside_of_torchrun_there_is_one_line(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in group._NEEDED}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.distributed", "--out", str(tmp_path)],
        env={**environment, "PYTHONPATH": str(ROOT), "RANK": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set: start this with torchrun, "
        "or with handgrad bench --processes N"
    )
