"""`import manual` must be quick where nothing but NumPy is installed."""

import subprocess
import sys

import pytest

import manual

CODE = """
import sys, numpy
before = set(sys.modules)
from manual import *
assert {"manual.nn", "manual.optim", "manual.training", "manual.descent"} <= set(sys.modules)
new = {name for name in set(sys.modules) - before if not name.startswith("manual")}
print(*sorted(name for name in new if name.split(".")[0] not in sys.stdlib_module_names))
"""


def test_import_loads_nothing_but_numpy_and_the_standard_library():
    """Not even numpy.random, where NumPy does not load it by itself."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_network_trains_without_torch():
    """With every other package of the project forbidden, not only unused."""
    code = """
import sys
others = "cupy", "torch", "scipy", "pandas", "matplotlib", "torch_ref", "compare", "benchmarks"
for name in others:
    sys.modules[name] = None
import numpy as np
from manual import nn, optim, training
rng = np.random.default_rng(0)
net = nn.Sequential(nn.Linear(2, 3, generator=rng), nn.ReLU(), nn.Linear(3, 2, generator=rng))
x, y = rng.normal(size=(8, 2)).astype(np.float32), rng.integers(0, 2, 8)
fitted = training.fit(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), 0.1), x, y,
                      epochs=2, batch_size=3, generator=rng)
print(fitted.stopped)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["epochs"]


def test_parts_are_loaded_when_they_are_used():
    code = """
import sys, manual
assert not [name for name in sys.modules if name.startswith("manual.")]
assert manual.nn.Linear is __import__("manual.nn.linear", fromlist=["Linear"]).Linear
assert "manual.descent" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_no_other():
    assert dir(manual) == manual.__all__
    assert all(getattr(manual, name) is not None for name in manual.__all__)
    assert manual.Perceptron is manual.perceptron.Perceptron
    assert manual.newton_raphson is manual.descent.newton_raphson
    with pytest.raises(AttributeError, match="'manual' has no attribute 'Linear'"):
        manual.Linear  # noqa: B018
