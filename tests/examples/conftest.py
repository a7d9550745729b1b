"""How the examples are run: as a reader runs them, in an empty folder."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def run_example(tmp_path_factory):
    """run_example(name, *arguments) → (stdout, path of the picture). Runs examples/<name>.py in an
    empty folder with warnings as errors, once for the same arguments. It must end well, print
    nothing on stderr and nothing wider than 80 columns, and leave one picture, which is not blank,
    in the folder given (default: results) and nothing else anywhere."""

    @cache
    def run(name, *arguments):
        folder = tmp_path_factory.mktemp(name)
        environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 80
        picture = folder / (arguments[0] if arguments else "results") / f"{name}.png"
        assert [path for path in folder.rglob("*") if path.is_file()] == [picture]
        assert str(picture.relative_to(folder)) in done.stdout.splitlines()[-1]
        pixels = imread(picture)
        assert pixels.shape[1] >= 600
        # Empty axes and their text are grey all over; lines and areas of colour are the content.
        coloured = np.ptp(pixels[..., :3], axis=-1) > 0.1
        assert coloured.sum() >= 1000
        return done.stdout, picture

    return run
