"""runs.csv: rows land whole or not at all, whoever else writes; and what is asked of it."""

import json
import os
import subprocess
import sys
import time
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from benchmarks import bench, cli, results
from benchmarks.runs import contrast, log, picture, select, show

ROWS = [
    {"command": "bench", "side": "manual", "test_accuracy": 0.9, "seconds": 1.0, "seed": 0},
    {"command": "bench", "side": "torch", "test_accuracy": 0.8, "seconds": 2.0, "seed": 0},
    {"command": "bench", "side": "manual", "test_accuracy": 0.96, "seconds": 3.0, "seed": 1},
    {"command": "trust", "side": "handgrad", "false_alarms": 0, "seed": 1, "git_dirty": True},
]


@pytest.fixture
def folder(tmp_path):
    """With `ROWS` in its runs.csv."""
    log.append(tmp_path, ROWS)
    return tmp_path


@pytest.fixture
def handgrad(folder, capfd, monkeypatch):
    """Run handgrad results: (exit status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(show_console(), "width", 200)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main(["results", "--out", str(folder), *map(str, args)])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


def show_console():
    from benchmarks import show as printing

    return printing.console


def text(folder):
    return (folder / log.NAME).read_text()


def rows(out):
    return pd.read_csv(StringIO(out))


def test_what_is_written_is_read_again(tmp_path):
    third = 1 / 3
    log.append(tmp_path, [{"side": "manual", "seconds": third, "hidden": "8", "note": None}])
    log.append(tmp_path, [{"seconds": np.float64(2), "numpy": "2.10", "side": 'a, b\n"c"'}])
    log.append(tmp_path, [{"seconds": float("nan"), "git_commit": "1" * 40}])
    assert text(tmp_path).splitlines()[0] == "side,seconds,hidden,note,numpy,git_commit"
    assert text(tmp_path).splitlines()[-1] == ",,,,," + "1" * 40
    frame = log.read(tmp_path)
    assert list(frame.index) == [1, 2, 3]
    assert frame.seconds[1] == third
    assert frame.seconds[2] == 2
    assert frame.isna().sum().to_dict() == {
        "side": 1, "seconds": 1, "hidden": 2, "note": 3, "numpy": 2, "git_commit": 2,
    }  # fmt: skip
    assert (frame.hidden[1], frame.numpy[2], frame.git_commit[3]) == ("8", "2.10", "1" * 40)
    assert frame.side[2] == 'a, b\n"c"'


def test_what_stands_there_is_kept_as_it_is(tmp_path):
    old = "name,value\n007,1.50\nNA,1e-400\n"
    (tmp_path / log.NAME).write_text(old)
    log.append(tmp_path, [{"value": 2}])
    assert text(tmp_path) == old + ",2\n"
    log.append(tmp_path, [{"new": 3}])
    assert text(tmp_path) == "name,value,new\n007,1.50,\nNA,1e-400,\n,2,\n,,3\n"


def test_a_table_that_a_spreadsheet_has_saved(tmp_path):
    (tmp_path / log.NAME).write_text("\ufeffwhen,seconds\r\nthen,1\r\n", encoding="utf-8")
    log.append(tmp_path, [{"when": "now", "seconds": 2}])
    assert (tmp_path / log.NAME).read_text(encoding="utf-8") == "when,seconds\nthen,1\nnow,2\n"


def test_a_run_that_goes_on_has_one_row_a_side(tmp_path):
    run = {"when": "2026", "command": "bench", "side": "manual", "seed": 1, "epochs_run": 2}
    log.append(tmp_path, [run, run | {"side": "torch"}, run | {"when": "2027"}])
    log.append(tmp_path, [run | {"epochs_run": 5, "new": 0.5}, run | {"side": "torch"}])
    log.append(tmp_path, [run | {"seed": 2}, run | {"command": "homework", "run": "he"}])
    assert text(tmp_path).splitlines() == [
        "when,command,side,seed,epochs_run,new,run",
        "2026,bench,manual,1,5,0.5,",
        "2026,bench,torch,1,2,,",
        "2027,bench,manual,1,2,,",
        "2026,bench,manual,2,2,,",
        "2026,homework,manual,1,2,,he",
    ]
    log.append(tmp_path, [{"side": "manual"}, {"side": "manual"}])  # of no moment: all stay
    assert len(log.read(tmp_path)) == 7


WRITER = """
import sys, time
from pathlib import Path
from benchmarks.runs.log import append
folder, k = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"ready-{k}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
for i in range(15):
    append(folder, [{"writer": k, "i": i, f"own{k}": "x" * 100} for _ in range(2)])
"""


def python(code, *args):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_runs_that_write_at_the_same_time_lose_nothing(tmp_path):
    """Four processes begin together; meanwhile a reader sees whole tables that only grow."""
    processes = [python(WRITER, tmp_path, k) for k in range(4)]
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("ready-*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    seen = [0]
    while any(process.poll() is None for process in processes):
        if (tmp_path / log.NAME).exists():
            seen.append(len(log.read(tmp_path)))
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert seen == sorted(seen)
    assert all(count % 2 == 0 for count in seen)
    frame = log.read(tmp_path)
    assert len(frame) == 4 * 15 * 2
    for k, own in frame.groupby("writer"):
        assert list(own.i) == sorted([*range(15)] * 2)
        assert (own[f"own{k}"] == "x" * 100).all()
    assert {path.name for path in tmp_path.iterdir()} - {".runs.csv.lock"} == {
        "go", "runs.csv", "ready-0", "ready-1", "ready-2", "ready-3",
    }  # fmt: skip


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from benchmarks.runs.log import append, read
folder, seed = Path(sys.argv[1]), 5
random.seed(seed)
append(folder, [{"i": -1, "j": 0}])
for k in range(20):
    child = os.fork()
    if child == 0:
        i = 0
        while True:
            append(folder, [{"i": i, "j": j, f"new{k}": 1} for j in range(3)])
            i += 1
    there = os.stat(folder / "runs.csv").st_ino
    while k % 4 and os.stat(folder / "runs.csv").st_ino == there:  # it comes to write
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    before = len(read(folder))
    assert before % 3 == 1, (seed, k, before)
    append(folder, [{"i": -2 - k, "j": j} for j in range(3)])  # the lock is free again
    assert len(read(folder)) == before + 3
print(len(read(folder)), file=sys.stderr)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_leaves_whole_rows_and_no_lock(tmp_path):
    process = python(KILLED, tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert int(err.strip().splitlines()[-1]) >= 61 + 3 * 15, "no child came to write"


def test_a_lock_that_is_held_for_long_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(log, "WAIT", 0.05)
    before = text(folder)
    with (
        FileLock(folder / ".runs.csv.lock"),
        pytest.raises(log.LogError, match=r"\.runs\.csv\.lock: held by another run"),
    ):
        log.append(folder, ROWS)
    assert text(folder) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a,b\n1,2\n3\n", "line 3: 1 cells, expected 2"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells, expected 2"),
        (b"a,b\n1,2\n\n", "line 3: 0 cells, expected 2"),
        (b'a,b\n1,"2\n', "not a CSV file"),
        (b"a,b\n1,\xff\n", "not a CSV file"),
        (b"a,a\n1,2\n", "line 1: expected names of columns"),
        (b"a,\n1,2\n", "line 1: expected names of columns"),
        (b"", "line 1: expected names of columns"),
    ],
)
def test_a_file_that_is_no_table_is_refused_and_left_alone(tmp_path, content, told):
    path = tmp_path / log.NAME
    path.write_bytes(content)
    for use in (
        lambda: log.append(tmp_path, ROWS),
        lambda: log.read(tmp_path),
        lambda: log.Run(tmp_path, "bench"),
    ):
        with pytest.raises(log.LogError) as error:
            use()
        assert str(path) in str(error.value)
        assert told in str(error.value)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_the_rows_as_they_were(folder, monkeypatch):
    before = text(folder)

    def full(handle):
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr(results.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        log.append(folder, ROWS)
    assert text(folder) == before
    assert {path.name for path in folder.iterdir()} <= {"runs.csv", ".runs.csv.lock"}


def test_a_folder_that_is_gone_is_named_and_not_made_again(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError, match="gone"):
        log.append(gone, ROWS)
    assert not gone.exists()


def test_a_run_names_its_files_and_rows_by_the_moment_it_began(tmp_path):
    run = log.Run(tmp_path / "deep" / "er", "bench")
    other = log.Run(tmp_path / "deep" / "er", "bench")
    path = run.path("sample", ".csv")
    assert path.parent == tmp_path / "deep" / "er"
    assert path.name.startswith("bench-sample-20")
    assert run.path("", ".csv").name.startswith("bench-20")
    assert path == run.path("sample", ".csv") != other.path("sample", ".csv")
    run.record(ROWS[:1])
    (row,) = log.read(path.parent).to_dict("records")
    assert row["command"] == "bench"
    assert row["when"].replace("-", "").replace(":", "") in path.name


def git(folder, *args):
    person = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *person, *args], check=True, capture_output=True)


def test_the_git_state_is_that_of_the_project_alone(tmp_path, monkeypatch):
    state, nothing = results.git_state.__wrapped__, {"git_commit": None, "git_dirty": None}
    assert state(tmp_path) == nothing  # no checkout
    git(tmp_path, "init")
    assert state(tmp_path) == nothing  # no commit yet
    git(tmp_path, "commit", "--allow-empty", "-m", "first")
    first = state(tmp_path)
    assert len(first["git_commit"]) == 40
    assert first["git_dirty"] is False
    (tmp_path / "below").mkdir()
    assert state(tmp_path / "below") == nothing  # as installed in a checkout of another project
    (tmp_path / "file").touch()
    assert state(tmp_path) == first | {"git_dirty": True}
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "second")
    assert state(tmp_path)["git_dirty"] is False
    assert state(tmp_path)["git_commit"] != first["git_commit"]
    monkeypatch.setenv("PATH", "")
    assert state(tmp_path) == nothing
    assert {"git_commit", "git_dirty"} <= set(results.provenance())


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ("side=manual", [1, 3]),
        (" side = manual ", [1, 3]),
        ("side!=manual", [2, 4]),
        ("side>manual", [2]),
        ("test_accuracy>0.9", [3]),
        ("test_accuracy>=0.9", [1, 3]),
        ("test_accuracy<0.9", [2]),
        ("test_accuracy<=.90", [1, 2]),
        ("test_accuracy!=0.9", [2, 3]),
        ("test_accuracy=9e-1", [1]),
        ("test_accuracy=", [4]),
        ("test_accuracy!=", [1, 2, 3]),
        ("git_dirty=True", [4]),
        ("false_alarms=0", [4]),
    ],
)
def test_where(folder, condition, numbers):
    assert list(select.where(log.read(folder), condition).index) == numbers


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("side", "expected COLUMN, one of"),
        ("=manual", "expected COLUMN, one of"),
        ("sied=manual", "no column 'sied'; expected one of side"),
        ("seconds=fast", "seconds has numbers, got 'fast'"),
        ("seconds<", "expected a value after <"),
    ],
)
def test_a_condition_that_means_nothing(folder, condition, told):
    with pytest.raises(select.SelectError) as error:
        select.where(log.read(folder), condition)
    assert told in str(error.value)


def test_ordered(folder):
    frame = log.read(folder)
    assert list(select.ordered(frame, [], False).index) == [1, 2, 3, 4]
    assert list(select.ordered(frame, [], True).index) == [4, 3, 2, 1]
    assert list(select.ordered(frame, ["test_accuracy"], False).index) == [2, 1, 3, 4]
    assert list(select.ordered(frame, ["test_accuracy"], True).index) == [3, 1, 2, 4]
    assert list(select.ordered(frame, ["seed", "seconds"], False).index) == [1, 2, 3, 4]
    assert list(select.ordered(frame, ["command"], False).index) == [1, 2, 3, 4]
    many = pd.DataFrame({"seed": np.arange(1000) % 3})
    expected = [*range(0, 1000, 3), *range(1, 1000, 3), *range(2, 1000, 3)]
    assert list(select.ordered(many, ["seed"], False).index) == expected
    with pytest.raises(select.SelectError, match="no column 'secs'"):
        select.ordered(frame, ["secs"], False)


def test_rows_side_by_side(folder):
    table = contrast.side_by_side(log.read(folder), [1, 3]).set_index("column")
    assert list(table.index) == ["test_accuracy", "seconds", "seed"]
    assert list(table.columns) == ["1", "3", "ratio"]
    assert list(table.loc["seconds"]) == [1, 3, 3]
    assert table.ratio["test_accuracy"] == pytest.approx(0.96 / 0.9)
    assert pd.isna(table.ratio["seed"])  # over 0
    three = contrast.side_by_side(log.read(folder), [2, 4, 1])
    assert list(three.columns) == ["column", "2", "4", "1"]
    with pytest.raises(select.SelectError, match="no row 5: expected 1 to 4"):
        contrast.side_by_side(log.read(folder), [1, 5])


def test_groups(folder):
    table = contrast.groups(log.read(folder), ["side"]).set_index("side")
    assert table.rows.to_dict() == {"manual": 2, "torch": 1, "handgrad": 1}
    assert table.test_accuracy_mean["manual"] == pytest.approx(0.93)
    assert table.test_accuracy_std["manual"] == pytest.approx(0.06 / np.sqrt(2))
    assert table.false_alarms_mean["handgrad"] == 0
    assert "seed_mean" not in table
    table = contrast.groups(log.read(folder), ["git_dirty"])  # not all rows have one
    assert table.rows.sum() == len(ROWS)
    with pytest.raises(select.SelectError, match="no column 'sides'"):
        contrast.groups(log.read(folder), ["sides"])
    with pytest.raises(select.SelectError, match="no row has one of test_accuracy"):
        contrast.groups(log.read(folder)[["side", "seed"]], ["side"])


def points(figure):
    ax = figure.axes[0]
    drawn = {c.get_label(): c.get_offsets().tolist() for c in ax.collections}
    return ax, drawn


def test_one_column_against_another(folder):
    frame = log.read(folder)
    ax, drawn = points(picture.scatter(frame, "seconds", "test_accuracy"))
    assert drawn == {"bench, manual": [[1, 0.9], [3, 0.96]], "bench, torch": [[2, 0.8]]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("seconds", "test_accuracy")
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    ax, drawn = points(picture.scatter(frame, "side", "seed"))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["handgrad", "manual", "torch"]
    assert sum(map(len, drawn.values())) == 4
    frame["seconds"] *= [1, 1, 1000, 1]
    assert points(picture.scatter(frame, "seconds", "seed"))[0].get_xscale() == "log"
    frame["when"] = ["2026-11-21T12:00:00.000000Z"] * 4
    assert "2026" in points(picture.scatter(frame, "when", "seed"))[
        0
    ].xaxis.get_major_formatter().format_data(20778.5)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ("seconds", "side", "'side' has no numbers"),
        ("second", "seed", "no column 'second'"),
        ("seconds", "speed", "no column 'speed'"),
        ("seconds", "false_alarms", "no row has both"),
    ],
)
def test_what_cannot_be_plotted(folder, x, y, told):
    with pytest.raises(select.SelectError, match=told):
        picture.scatter(log.read(folder), x, y)


def test_results_shows_all_rows_in_columns_that_have_something(handgrad):
    status, out, err = handgrad()
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0] == ["4", "of", "4", "rows"]
    assert lines[1] == ["#", "command", "side", "test_accuracy", "false_alarms", "seconds", "seed"]
    assert lines[3] == ["1", "bench", "manual", "90.00%", "1", "0"]
    assert lines[-1] == ["4", "trust", "handgrad", "0", "1"]


def test_results_filters_sorts_and_limits(handgrad):
    query = ["--where", "command=bench", "--sort", "test_accuracy", "--last", 2]
    status, out, _ = handgrad(*query, "--column", "side", "--column", "seconds", "--csv")
    assert status == 0
    assert out == "number,side,seconds\n1,manual,1.0\n3,manual,3.0\n"
    out = handgrad(*query, "--descending", "--json")[1]
    records = json.loads(out)
    assert [record["number"] for record in records] == [1, 2]
    assert records[0]["false_alarms"] is None
    assert records[0]["test_accuracy"] == 0.9


def test_results_compares_rows_and_groups(handgrad):
    status, out, _ = handgrad("--compare", 1, "--compare", 2)
    assert status == 0
    assert ["seconds", "1", "2", "2"] in [line.split() for line in out.splitlines()]
    assert ["test_accuracy", "90.00%", "80.00%", "0.8889"] in [
        line.split() for line in out.splitlines()
    ]
    out = handgrad("--by", "side", "--where", "command=bench")[1]
    line = next(line for line in out.splitlines() if "manual" in line)
    assert line.split() == ["manual", "2", *["93.00%", "±", "4.24%"], *["2", "±", "1.414"]]
    out = handgrad("--by", "side", "--csv")[1]
    assert list(rows(out).rows) == [1, 2, 1]


def test_what_is_asked_for_twice_is_shown_once(handgrad):
    for args in (["--compare", 1, "--compare", 2], ["--by", "side"], ["--column", "side"]):
        status, out, err = handgrad(*args, *args[:2], "--csv")
        assert (status, err) == (0, "")
        assert out == handgrad(*args, "--csv")[1]


def test_a_table_that_others_have_filled(handgrad, folder):
    (folder / log.NAME).write_text("when,test_accuracy,seconds\nyesterday,high,1\n,0.5,2\n")
    for args in ([], ["--compare", 1, "--compare", 2], ["--sort", "test_accuracy"]):
        status, out, _ = handgrad(*args)
        assert status == 0
        assert "high" in out
    status, out, err = handgrad("--plot", "when", "seconds")
    assert (status, out) == (2, "")
    assert "'when' has something that is no date and time" in err


def test_results_plots(handgrad, folder):
    status, out, err = handgrad("--plot", "seconds", "test_accuracy")
    assert status == 0
    assert "90.00%" in out
    path = folder / "runs-seconds-test_accuracy.png"
    assert str(path) in err
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--where", "sied=x"], "no column 'sied'"),
        (["--sort", "sied"], "no column 'sied'"),
        (["--column", "sied"], "no column 'sied'"),
        (["--by", "sied"], "no column 'sied'"),
        (["--plot", "sied", "seed"], "no column 'sied'"),
        (["--compare", "1"], "expected two different rows or more"),
        (["--compare", "1", "--compare", "1"], "expected two different rows or more"),
        (["--compare", "1", "--compare", "9"], "no row 9"),
        (["--compare", "0", "--compare", "1"], "expected a whole number >= 1"),
        (["--compare", "1", "--compare", "2", "--by", "side"], "--by has no meaning"),
        (["--by", "side", "--column", "seed"], "--column has no meaning with --by"),
        (["--last", "0"], "expected a whole number >= 1"),
        (["--json", "--csv"], "expected --json or --csv"),
    ],
)
def test_a_question_that_means_nothing_is_refused_in_one_line(handgrad, args, told):
    status, out, err = handgrad(*args)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert told in err


def test_no_row_left_is_exit_status_1(handgrad, folder):
    status, out, err = handgrad("--where", "seed=7")
    assert (status, out) == (1, "")
    assert str(folder / log.NAME) in err


def test_no_runs_yet_is_told(handgrad, folder):
    (folder / log.NAME).unlink()
    status, _, err = handgrad()
    assert status == 2
    assert f"no file {folder / log.NAME}" in err


def test_a_broken_log_is_told_before_anything_is_trained(tmp_path, monkeypatch, capfd):
    (tmp_path / log.NAME).write_text("a,b\n1\n")
    monkeypatch.setattr(bench, "train", lambda *a: pytest.fail("trained"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as exited:
        cli.main(["bench", "--epochs", "1", "--hidden", "4", "--out", str(tmp_path)])
    assert exited.value.code == 2
    assert "runs.csv, line 2: 1 cells" in capfd.readouterr().err


def test_a_bench_adds_a_row_for_each_side():
    records = []
    for epoch, (mine, theirs) in enumerate([(1, 2), (2, 3), (6, 27)], 1):
        for side, seconds in (("manual", mine), ("torch", theirs)):
            figures = {"test_loss": 1 / epoch, "seconds": seconds, "seed": 4}
            records.append(
                {"side": side, "epoch": epoch, "samples_per_second": 60 / seconds, **figures}
            )
    one, two = bench.run_rows(records)
    assert one == {"side": "manual", "epochs_run": 3, "seconds": 9, "samples_per_second": 30,
                   "test_loss": 1 / 3, "seed": 4}  # fmt: skip
    assert (two["side"], two["seconds"], two["samples_per_second"]) == ("torch", 32, 20)


def test_cells_are_short():
    assert show.text("when", "2026-11-21T12:34:56.789000Z") == "2026-11-21 12:34:56"
    assert show.text("git_commit", "0123456789abcdef") == "012345678"
    assert show.text("weights", "0123456789abcdef") == "012345678"
    assert show.text("test_accuracy", 0.98765) == "98.77%"
    assert show.text("seconds", 1234567.0) == "1,234,567"
    assert show.text("max_weight_difference", 1.23456e-15) == "1.2e-15"
    assert show.text("seconds", float("nan")) == ""
    assert show.text("lr", 0.05) == "0.05"
