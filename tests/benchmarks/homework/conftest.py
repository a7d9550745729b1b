"""A small study: every fourth digit of the sample, six hidden units."""

from dataclasses import replace

import pytest

from benchmarks import cli
from benchmarks.data import Dataset, load
from benchmarks.homework import study


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def data():
    whole = load("sample")
    return Dataset("sample", whole.train_x[::4], whole.train_y[::4], whole.test_x, whole.test_y)


@pytest.fixture(scope="session")
def small():
    """The study's settings, for so small a network and two epochs."""
    return replace(study.SETTINGS, hidden=(6,), lr=0.05, epochs=2)


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capfd, data, small):
    """Run handgrad homework, small, in an empty folder and for two epochs unless told otherwise:
    (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "SETTINGS", small)
    monkeypatch.setattr("benchmarks.data.load", lambda name, root: data)

    def run(*args):
        with pytest.raises(SystemExit) as exited:
            cli.main(["homework", "--epochs", "2", *map(str, args)])  # the last one counts
        out, err = capfd.readouterr()
        return exited.value.code, out, err

    return run
