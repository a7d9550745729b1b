"""Bounds as they were, so that one which widens is noticed.

    python -m tests.compare.pinned        writes pinned.json anew, from the bounds as they are

Each file of tests named here has a function `bounds`, that gives {name: numbers}.
"""

import importlib
import json
from pathlib import Path

import numpy as np

FILES = ("test_oracle_noise", "test_oracle_losses")
PINNED = Path(__file__).with_name("pinned.json")


def assert_as_pinned(file, found):
    """Any number may be off by 1e-7 of itself, which no unit of roundoff is."""
    expected = json.loads(PINNED.read_text())[file]
    assert found.keys() == expected.keys()
    for name, numbers in found.items():
        np.testing.assert_allclose(
            np.asarray(numbers, float), expected[name], rtol=1e-7, atol=0, err_msg=name
        )


def main():
    pinned = {
        file: {
            name: np.asarray(numbers, float).tolist()
            for name, numbers in importlib.import_module(f"tests.compare.{file}").bounds().items()
        }
        for file in FILES
    }
    lines = (
        f'"{file}": {{\n'
        + ",\n".join(f'"{name}": {json.dumps(numbers)}' for name, numbers in found.items())
        + "\n}"
        for file, found in pinned.items()
    )
    PINNED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
