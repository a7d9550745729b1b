"""No allowance changes unnoticed: the numbers of every rule, against those that were approved."""

import json

import numpy as np
import pytest

from tests.compare import allowances
from tests.compare.allowances import RTOL_OF_DRAWS, recorded, summaries, unchanged
from tests.compare.allowances.black_boxes import BLACK_BOXES
from tests.compare.allowances.losses import LOSSES
from tests.compare.allowances.modules import MODULES
from tests.compare.allowances.parts import PARTS
from tests.compare.allowances.updates import UPDATES


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_is_allowed(name):
    unchanged("modules", name, MODULES[name]())


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_is_allowed(name):
    unchanged("losses", name, LOSSES[name]())


@pytest.mark.parametrize("name", UPDATES)
def test_what_an_update_is_allowed(name):
    unchanged("updates", name, UPDATES[name]())


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_what_is_allowed_without_a_rule(name):
    rtol = 1e-7 if name == "integers" else RTOL_OF_DRAWS
    unchanged("black_boxes", name, BLACK_BOXES[name](), rtol)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_recorded_that_is_not_evaluated(part):
    assert list(recorded(part)) == list(PARTS[part])


def test_a_change_is_said_in_words(monkeypatch, tmp_path):
    def rows(**e):
        return [("plain", {name: np.array(value) for name, value in e.items()})]

    before = rows(wide=[1.0, 2.0], narrow=1.0, bounded=1.0, same=[3.0, 0.0], gone=0.0)
    (tmp_path / "some.json").write_text(json.dumps({"Rule": summaries(before)}), "utf-8")
    monkeypatch.setattr(allowances, "__file__", str(tmp_path / "__init__.py"))
    unchanged("some", "Rule", before)
    after = rows(wide=[1.0, 2.001], narrow=0.5, bounded=np.inf, same=[3.0, 1e-9], shape=[0.0])
    with pytest.raises(AssertionError) as caught:
        unchanged("some", "Rule", after)
    assert str(caught.value).split("\n")[:8] == [
        "Rule allows another error than it did ([weighted sum, largest]):",
        "plain: bounded [] is wider: was [1.0, 1.0], is [0.0, 0.0, '1 infinite']",
        "plain: gone [] is only there",
        "plain: narrow [] is narrower: was [1.0, 1.0], is [0.5, 0.5]",
        "plain: shape [1] is only here now",
        "plain: wide [2] is wider: was [4.416146837, 2.0], is [4.41785491, 2.001]",
        "A wider allowance lets mistakes pass, and needs a reason. Where it has one:",
        "    python -m tests.compare.allowances",
    ]
