"""What reproduces a verdict, and the seeds that it takes."""

import platform

import numpy as np
import pytest
import torch

from compare.context import check_seed, context

POOLS = [
    {"user_api": "blas", "internal_api": "openblas", "num_threads": 3},
    {"user_api": "openmp", "internal_api": "libgomp", "num_threads": 5},
    {"user_api": "blas", "internal_api": "mkl", "num_threads": 7},
]


def test_all_that_was_used_and_the_command(monkeypatch):
    class Libraries:
        def info(self):
            return POOLS

    monkeypatch.setattr("compare.context._libraries", Libraries)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr("sys.orig_argv", ["python", "my check.py", "--seed", "3"])
    monkeypatch.setattr("compare.context.described", "<{}>".format)
    assert context(41, "cuda") == (
        f"seed 41, numpy {np.__version__}, torch {torch.__version__} on <cuda>, "
        f"python {platform.python_version()}, {platform.machine()}, "
        f"threads: torch {torch.get_num_threads()}, openblas 3, mkl 7\n"
        "reproduce: python 'my check.py' --seed 3"
    )


def test_the_libraries_threads_are_asked_for_each_time(monkeypatch):
    """How many NumPy's own BLAS has, on this machine."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        assert "openblas 1" in context(0, "cpu")
    with threadpool_limits(2, user_api="blas"):
        assert "openblas 2" in context(0, "cpu")


def test_within_a_test_the_test_is_the_command(monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/a.py::test_b[1 2] (call)")
    assert context(None, "cpu").startswith("seed None, ")
    assert context(None, "cpu").endswith("\nreproduce: pytest 'tests/a.py::test_b[1 2]'")


@pytest.mark.parametrize(
    ("seed", "error", "text"),
    [
        (True, TypeError, "compare: seed must be a whole number, got True"),
        (1.0, TypeError, "compare: seed must be a whole number, got 1.0"),
        ("1", TypeError, "compare: seed must be a whole number, got '1'"),
        (-1, ValueError, "compare: seed must be >= 0, got -1"),
    ],
)
def test_what_is_no_seed(seed, error, text):
    with pytest.raises(error) as caught:
        check_seed("compare", seed)
    assert str(caught.value) == text


@pytest.mark.parametrize("seed", [0, 1, np.int64(2)])
def test_what_is_a_seed(seed):
    check_seed("compare", seed)
