"""The time of a step on paper, and what is made of the rates that were measured."""

import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks.distributed import scaling
from benchmarks.distributed.model import Compute, Link, best, fit_compute, fit_link, pays_from, step

LINK, COMPUTE = Link(1e-4, 1e9), Compute(2e-4, 1e-5)


@pytest.mark.parametrize(
    ("processes", "ring", "expected"),
    [
        (1, 0, 0),
        (2, 2e-4 + 1e-3, 2e-4 + 1e-3),  # 2 messages of half of 1 MB
        (4, 6e-4 + 1.5e-3, 4e-4 + 1.5e-3),
        (64, 126e-4 + 2e-3 * 63 / 64, 12e-4 + 2e-3 * 63 / 64),
    ],
)
def test_an_all_reduce_is_its_messages_and_its_bytes(processes, ring, expected):
    assert LINK.all_reduce(processes, 1e6) == pytest.approx(ring)
    assert LINK._replace(ring=False).all_reduce(processes, 1e6) == pytest.approx(expected)


def test_a_step_is_the_largest_share_and_an_all_reduce():
    assert step(COMPUTE, LINK, 1, 100, 1e6) == pytest.approx(2e-4 + 1e-3)
    assert step(COMPUTE, LINK, 2, 101, 1e6) == pytest.approx(2e-4 + 51e-5 + 12e-4)
    assert step(COMPUTE, LINK, 4, 2, 1e6, crowd=2) == pytest.approx(2 * (2.1e-4 + 2.1e-3))


def test_it_pays_from_where_both_take_equally_long():
    for processes in (2, 8, 64):
        batch = pays_from(COMPUTE, LINK, processes, 4e5)
        even = int(np.ceil(batch / processes)) * processes
        alone, shared = (step(COMPUTE, LINK, n, even, 4e5) for n in (1, processes))
        assert shared <= alone
        less = even - 2 * processes
        assert step(COMPUTE, LINK, processes, less, 4e5) > step(COMPUTE, LINK, 1, less, 4e5)


def test_more_processes_do_not_help_without_end():
    sizes = [best(COMPUTE, LINK, batch, 4e5, 64) for batch in (1, 64, 1024, 10**6)]
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert 1 < sizes[2] < 64
    n = sizes[2]
    times = [step(COMPUTE, LINK, m, 1024, 4e5) for m in range(1, 65)]
    assert times[n - 1] == min(times)


def test_rates_are_those_that_made_the_times():
    samples, sizes = [8, 64, 512], [1024, 10**6, 10**7]
    assert fit_compute(samples, [COMPUTE.seconds(n) for n in samples]) == pytest.approx(COMPUTE)
    for processes in (2, 4):
        times = [LINK.all_reduce(processes, size) for size in sizes]
        assert fit_link(processes, sizes, times)[:2] == pytest.approx(LINK[:2])
    # A latency below 0 has no sense, whatever noise says.
    link = fit_link(2, [10, 1000], [1e-6, 1e-3])
    assert link.latency == 0
    assert link.bandwidth > 0


def made_up():
    """As the processes of a run report it."""
    size = 407_080

    def of(processes):
        crowd = max(1, processes / 2)
        steps = {
            str(batch): {
                side: [1e6 * step(COMPUTE, LINK, processes, batch, size, crowd), 0.5]
                for side in ("manual", "torch")
            }
            for batch in (8, 64, 512)
        }
        sizes = [4096, 65_536, 10**6] if processes > 1 else []
        times = [[n, LINK.all_reduce(processes, n)] for n in sizes]
        return {"all_reduce": times, "steps": steps, "gradient": size}

    return {n: of(n) for n in (1, 2, 4)}


def test_what_follows_the_model_is_predicted():
    rows = scaling.predicted(made_up(), cores=2)
    assert len(rows) == 3 * 3 * 2
    for row in rows:
        assert row["predicted_us"] == pytest.approx(row["step_us"])
    frame = pd.DataFrame(rows).set_index(["processes", "batch", "side"])
    assert frame.predicted_share[1, 64, "manual"] == 0
    two = LINK.all_reduce(2, 407_080)
    expected = two / step(COMPUTE, LINK, 2, 64, 407_080)
    assert frame.predicted_share[2, 64, "torch"] == pytest.approx(expected)
    # Two processes on one core take turns.
    on_one = pd.DataFrame(scaling.predicted(made_up(), cores=1)).set_index(frame.index.names)
    ratio = on_one.predicted_us / frame.predicted_us
    assert ratio[1, 8, "manual"] == pytest.approx(1)
    assert ratio[2, 8, "manual"] == pytest.approx(2)
    assert ratio[4, 8, "manual"] == pytest.approx(2)


def test_the_report_and_the_picture(capsys, tmp_path, monkeypatch):
    found, calls = made_up(), []

    def launched(arguments, processes, threads, module):
        calls.append((processes, threads, module, arguments[1:]))
        scaling.Path(arguments[0]).write_text(scaling.json.dumps(found[processes]))
        return 0

    monkeypatch.setattr(scaling, "launch", launched)
    monkeypatch.setattr(scaling, "available_cores", lambda: 2)
    scaling.main(quick=True, device=scaling.Device.cpu, out=tmp_path)
    module = "benchmarks.distributed.rates"
    assert calls == [(n, 1, module, ["cpu", "quick"]) for n in (1, 2, 4)]
    out = capsys.readouterr().out
    assert "manual: c0 200 µs, c1 10.00 µs a sample" in out
    assert "α 100 µs, β 1.00 GB/s; gradient 407,080 bytes" in out
    assert "| 4,096 | 204 µs | 606 µs |" in out
    assert "| 64, torch | 840, 840 | 1,127, 1,127 |" in out
    assert "64 machines, 25 Gbit/s: all-reduce 6,556 µs" in out
    assert "the same, halving and doubling: all-reduce 856 µs" in out
    (path,) = tmp_path.glob("scaling-*.csv")
    assert len(pd.read_csv(path)) == 18
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    (tmp_path / "file").touch()
    for device, out, line in (
        (scaling.Device.cuda, tmp_path / "out", "--device cuda: device 'cuda' needs CuPy"),
        (scaling.Device.cpu, tmp_path / "file", "file"),
    ):
        with pytest.raises(SystemExit) as exited:
            scaling.main(quick=True, device=device, out=out)
        assert exited.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("handgrad: error: ")
        assert line in printed.err
        assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_fails_ends_the_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "launch", lambda *args: 1)
    with pytest.raises(SystemExit) as exited:
        scaling.main(quick=True, device=scaling.Device.cpu, out=tmp_path)
    assert exited.value.code == 1
    assert not list(tmp_path.glob("scaling-*"))
