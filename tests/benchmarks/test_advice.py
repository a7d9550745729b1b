"""What `bench --advise` tries and says; no measurement decides a test."""

import json
from pathlib import Path

import pytest

from benchmarks import bench, cli
from benchmarks.blas import cpu_flags, numpy_blas
from benchmarks.mnist import Settings
from benchmarks.steps import advice, command, probe
from benchmarks.steps.alone import ChildError
from benchmarks.steps.problem import Problem

AVX512 = "avx512f avx512cd avx512bw avx512dq avx512vl".split()  # noqa: SIM905
AVX2 = ["sse3", "avx", "avx2", "fma"]


@pytest.mark.parametrize(
    ("kernels", "flags", "wider"),
    [
        ("Haswell", AVX2 + AVX512, "SkylakeX"),
        ("Zen", AVX2 + AVX512, "SkylakeX"),
        ("haswell", AVX2 + AVX512, "SkylakeX"),
        ("SkylakeX", AVX2 + AVX512, None),
        ("Cooperlake", AVX2 + AVX512, None),
        ("SapphireRapids", AVX2 + AVX512, None),
        ("Haswell", AVX2, None),
        ("Zen", AVX2 + AVX512[:-1], None),
        ("Haswell", [], None),
        ("Nehalem", AVX2, "Haswell"),
        ("Prescott", AVX2 + AVX512, "SkylakeX"),
        ("Sandybridge", AVX2, "Haswell"),
        ("Sandybridge", ["sse3", "avx", "avx2"], None),
        ("Prescott", ["sse3", "avx"], "Sandybridge"),
        ("Prescott", ["sse3"], None),
        ("neoversen1", AVX2 + AVX512, None),
        ("unknown", AVX2 + AVX512, None),
        ("", AVX2 + AVX512, None),
    ],
)
def test_the_widest_kernels_the_cpu_has(kernels, flags, wider):
    assert advice.wider_kernels(kernels, flags) == wider


@pytest.mark.parametrize(
    ("now", "cores", "next_ones", "every"),
    [
        (1, 1, [], []),
        (1, 2, [2], [2]),
        (2, 2, [1], [1]),
        (2, 3, [1, 3], [1, 3]),
        (4, 6, [2, 6], [1, 2, 6]),
        (1, 8, [2], [2, 4, 8]),
        (8, 8, [4], [1, 2, 4]),
    ],
)
def test_which_thread_counts_are_tried(now, cores, next_ones, every):
    assert advice.other_threads(now, cores, False) == next_ones
    assert advice.other_threads(now, cores, True) == every


def test_a_gain_must_show_in_every_round():
    steady = advice.gain([2.0, 4, 3], [1.0, 2, 2])
    assert steady == (2, 1.5)
    assert steady.worth
    assert not advice.gain([2.0, 4, 3], [1.0, 2, 3]).worth
    assert not advice.gain([2.0, 4, 1.0], [1.0, 2, 3]).worth
    assert advice.Gain(1.05, 1.05).worth


def test_what_is_said():
    good, none = advice.Gain(1.634, 1.5), advice.Gain(0.98, 0.9)
    line = advice.kernels_line("Haswell", "SkylakeX", good)
    assert line == (
        "NumPy's OpenBLAS runs its Haswell kernels, and this CPU could run SkylakeX's: with "
        "OPENBLAS_CORETYPE=SkylakeX set before Python starts, a step is 1.63 times as fast"
    )
    line = advice.kernels_line("Haswell", "SkylakeX", none)
    assert line.endswith("OPENBLAS_CORETYPE=SkylakeX a step is no faster here (0.98 times)")
    assert advice.threads_line(1, {2: none}) is None
    assert advice.threads_line(1, {}) is None
    line = advice.threads_line(4, {1: good, 2: advice.Gain(1.7, 1.06), 8: none})
    assert line == "with --threads 2 instead of 4 a step is 1.70 times as fast at this size"


def test_flags_of_the_cpu(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\nvmx flags\t: x\n\nflags : other\n")
    assert cpu_flags(path) == {"fpu", "avx2", "fma"}
    path.write_text("Features\t: fp asimd\n")
    assert cpu_flags(path) == set()
    assert cpu_flags(tmp_path / "nowhere") == set()


def test_numpys_blas_is_numpys(monkeypatch):
    import numpy as np
    import threadpoolctl

    root = Path(np.__file__).parent.parent
    ours = {"user_api": "blas", "filepath": f"{root}/numpy.libs/openblas.so", "architecture": "Zen"}
    scipys = ours | {"filepath": f"{root}/scipy.libs/openblas.so", "architecture": "Haswell"}
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [scipys, ours])
    assert numpy_blas()["architecture"] == "Zen"
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [scipys])
    assert numpy_blas() is None
    assert probe._kernels() == "unknown"


@pytest.fixture
def machine(monkeypatch):
    """machine(us, kernels, cores): a machine where settings take so many microseconds."""

    def set_up(us, kernels="Haswell", flags=AVX512 + AVX2, cores=2, deaf=False):
        asked = []

        def measured(problem, setting):
            asked.append(setting)
            own = us[setting.threads, setting.kernels]
            return {
                "us": own,
                "kernels": setting.kernels if setting.kernels and not deaf else kernels,
            }

        monkeypatch.setattr(probe, "_kernels", lambda: kernels)
        monkeypatch.setattr(probe, "cpu_flags", lambda: set(flags))
        monkeypatch.setattr(probe, "_measure", measured)
        monkeypatch.setattr(command, "available_cores", lambda: cores)
        return asked

    return set_up


SMALL = Problem((4, 3, 2))


def test_settings_are_measured_in_turns(machine):
    asked = machine({(1, ""): 10.0, (1, "SkylakeX"): 5.0, (2, ""): 8.0})
    found = probe.advise(SMALL, 1, 2, 4, True)
    assert {asked.count(setting) for setting in set(asked)} == {4}
    for k in range(0, 12, 3):
        assert len(set(asked[k : k + 3])) == 3
    assert len({tuple(asked[k : k + 3]) for k in range(0, 12, 3)}) > 1
    assert next(iter(found.us)) == (1, "")
    kernels, threads = found.lines
    assert "OPENBLAS_CORETYPE=SkylakeX" in kernels
    assert "2.00 times as fast" in kernels
    assert threads.startswith("with --threads 2 instead of 1 a step is 1.25 times")


def test_no_gain_is_said_only_when_asked(machine):
    machine({(1, ""): 10.0, (1, "SkylakeX"): 10.0, (2, ""): 11.0})
    (line,) = probe.advise(SMALL, 1, 2, 2, True).lines
    assert "no faster here (1.00 times)" in line
    assert probe.advise(SMALL, 1, 2, 2, False).lines == []


def test_an_openblas_that_does_not_listen_is_given_no_advice(machine):
    machine({(1, ""): 10.0, (1, "SkylakeX"): 5.0, (2, ""): 11.0}, deaf=True)
    assert probe.advise(SMALL, 1, 2, 2, True).lines == []


def test_where_nothing_else_is_there_nothing_is_compared(machine):
    asked = machine({(1, ""): 10.0}, kernels="neoversen1", cores=1)
    found = probe.advise(SMALL, 1, 1, 5, True)
    assert asked == [(1, "")]
    assert found.lines == []


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main(["bench", *map(str, args)])
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run


def test_advise_prints_what_it_measured(handgrad, machine, tmp_path):
    us = {(1, ""): 10.0, (1, "SkylakeX"): 5.0, (2, ""): 20.0}
    machine(us)
    status, out, err = handgrad("--advise", "--hidden", 8, "--batch-size", 16)
    assert status == 0
    assert "784-8-10 relu, float32, batch 16" in out
    assert "1 thread, OPENBLAS_CORETYPE=SkylakeX" in out
    assert max(map(len, out.splitlines())) <= 80
    assert err.count("times as fast") == 1
    status, out, _ = handgrad("--advise", "--json")
    rows = {row["setting"]: row for row in json.loads(out)}
    assert rows["2 threads"]["times_as_fast"] == 0.5
    assert rows["1 thread, OPENBLAS_CORETYPE=SkylakeX"]["us"] == 5
    assert rows["1 thread"]["blas"]
    assert list(tmp_path.iterdir()) == []
    machine({(1, ""): 10.0, (2, ""): 20.0}, kernels="SkylakeX")
    assert "nothing faster found" in handgrad("--advise")[2]


def test_advise_that_cannot_measure_says_so_in_one_line(handgrad, monkeypatch):
    def dies(*args):
        raise ChildError("Illegal instruction")

    monkeypatch.setattr(command, "measure_settings", dies)
    status, out, err = handgrad("--advise")
    assert (status, out) == (1, "")
    assert err.strip() == "a process that measures ended: Illegal instruction"
    command.hint(SMALL, 1)


def test_the_ordinary_run_says_it_in_a_line(handgrad, machine, monkeypatch):
    seen = []
    measure = probe.advise
    monkeypatch.setattr(command, "measure_settings", lambda *a: seen.append(a[:2]) or measure(*a))
    machine({(1, ""): 10.0, (1, "SkylakeX"): 5.0, (2, ""): 10.0})
    args = ["--epochs", 1, "--hidden", 8, "--batch-size", 50, "--activation", "tanh"]
    status, _, err = handgrad(*args)
    assert status == 0
    assert err.splitlines()[-1].startswith("faster: NumPy's OpenBLAS runs its Haswell kernels")
    assert seen == [(Problem((784, 8, 10), "tanh", batch=50), 1)]
    machine({(1, ""): 10.0, (1, "SkylakeX"): 10.0, (2, ""): 10.0})
    assert "faster" not in handgrad(*args)[2]


def test_the_advice_is_about_what_was_trained():
    class Data:
        train_x, classes = type("X", (), {"shape": (5, 784)}), 10

    given = bench._problem(Settings(hidden=(9, 7), dtype="float64", seed=3, batch_size=5), Data)
    assert given == Problem((784, 9, 7, 10), dtype="float64", batch=5, seed=3)
