"""A run that is killed with SIGKILL is resumed from its last whole checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(folder, *args):
    command = [sys.executable, "-m", "tests.benchmarks.killed", str(folder), *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_at_random_moments(tmp_path):
    """Sixty kills, and then the same, bit for bit, as a run that nobody killed."""
    found = killed(tmp_path, "random", 1, 60)
    assert found["same"], found
    assert found["kills"] == 60
    assert found["rows"] == 2 * found["epochs"] > 20, found
    assert found["left"] == [], found


def test_at_every_point_of_a_write(tmp_path):
    found = killed(tmp_path, "points")
    expected = dict.fromkeys(found, 3)
    for what in ("before fdopen 5", "after fdopen 5", "half 5", "before fsync 5", "after fsync 5"):
        expected[what] = 2  # the new checkpoint is not there yet, the one before is
    for what in ("before chmod 5", "after chmod 5", "before replace 5"):
        expected[what] = 2
    assert found == expected
    assert len(found) == 18
