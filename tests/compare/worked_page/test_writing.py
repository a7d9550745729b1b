"""The file that is written: one, whole, self-contained, escaped; and its colours and its drawing
without a browser."""

import os
import re
import stat
from itertools import pairwise
from pathlib import Path

import pytest

from compare.worked import mark, page, parse
from compare.worked.page import steps as computation
from compare.worked.page.claims import Claims
from compare.worked.page.drawing import draw, too_large
from compare.worked.page.network import Network, pretty
from tests.compare.worked_page import sheets

FOLDER = Path(page.__file__).parent


def test_it_is_written_whole_or_not_at_all(markings, tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("before")
    page.write([markings["softmax"]], out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~_umask()
    replaced = []

    def failing(source, target):
        replaced.append(Path(source).parent)
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", failing)
    out.write_text("before")
    with pytest.raises(OSError, match="disk full"):
        page.write([markings["softmax"]], out)
    assert replaced == [tmp_path]  # a rename within the folder is one step
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_that_is_not_there(markings, tmp_path):
    with pytest.raises(FileNotFoundError):
        page.write([markings["softmax"]], tmp_path / "none" / "page.html")


def test_it_needs_nothing_else(markings):
    html = page.render(list(markings.values()))
    assert re.findall(r"(?:src|href|action|poster|data)=\"(?!#)[^\"]*", html) == []
    assert not re.search(r"@import|url\(|https?:|fetch\(|XMLHttpRequest|\son\w+=", _own(html))
    assert " style=" not in html


def _own(html: str) -> str:
    return html.replace("onerror=alert(2)", "")


def test_everything_is_escaped(markings):
    html = page.render([markings["hostile"]])
    assert html.count("<script") == html.count("</script>") == 1
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&#34;quoted&#34; &#39;so&#39;" in html
    assert html.count("</title>") == 1


def test_names_are_escaped():
    """Names, claims and remarks of a sheet, too."""
    evil = "<b>\\\"'&"
    text = sheets.SOFTMAX.replace("[claims.forward]", f'[names]\n"{evil}" = "x[0,0]"\n')
    try:
        marking = mark(parse(text, "evil.toml"))
    except ValueError:
        return  # the sheet itself takes no such name
    assert '<b>"' not in page.render([marking])


def test_files_are_in_the_package():
    """Beside the module, where the wheel takes them from; the template has the files inline."""
    for name in ("page.html", "page.css", "page.js"):
        assert (FOLDER / name).stat().st_size > 1000
    assert "</script" not in (FOLDER / "page.js").read_text(encoding="utf-8")
    assert "</style" not in (FOLDER / "page.css").read_text(encoding="utf-8")


def _colours(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]
    return found[0] if scheme == "light" else found[0] | found[1]


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme):
    """4.5 for letters, 3 for what is no text (WCAG 2.2, 1.4.3 and 1.4.11)."""
    colours = _colours(scheme)

    def contrast(a: str, b: str) -> float:
        high, low = sorted((_luminance(colours[a]), _luminance(colours[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for letters in ("ink", "quiet", "accent", "exact", "rounding", "follows", "wrong"):
        for ground in ("paper", "card", "glow"):
            assert contrast(letters, ground) >= 4.5, (letters, ground)
    assert contrast("paper", "accent") >= 3  # the arrow on the button


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ((8, 8, 8), ""),
        ((30, 1, 29), ""),
        ((30, 1, 30), "61 nodes are too many to draw (at most 60)"),
        ((5, 13, 1), "65 weights between two layers are too many to draw (at most 64)"),
    ],
)
def test_what_is_drawn(layers, reason):
    text = sheets.random(layers, ("tanh",) * (len(layers) - 1), "half_squared_error")
    net = Network(_unproven(parse(text, "case.toml")))
    assert too_large(net) == reason


def _unproven(sheet):
    """As much of a marking as the drawing takes, where proving every number would take long."""
    from types import SimpleNamespace

    import numpy as np

    exact = {name: np.full(shape, -0.0123) for name, shape in sheet.shapes.items()}
    return SimpleNamespace(sheet=sheet, exact=exact, claims=[])


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    "layers", [(2, 3, 1), (1, 1), (3, 2, 4, 2), (8, 8, 8), (5, 4, 4, 4, 5), (1, 20, 1), (4, 6, 5)]
)
def test_nothing_in_a_drawing_overlaps(layers, narrow):
    text = sheets.random(layers, ("tanh",) * (len(layers) - 1), "half_squared_error")
    marking = _unproven(parse(text, "case.toml"))
    net = Network(marking)
    plan = computation.plan(net)
    drawing = draw(net, Claims(marking, net, plan), plan, range(1), narrow)
    weights = sum(a * b for a, b in pairwise(layers))
    size, last = drawing.size, max(plan.values())
    for step in (0, 4, last - 1, last):
        boxes = [
            (t.x - t.width / 2, t.y - size.font, t.x + t.width / 2, t.y + 0.3 * size.font)
            for t in drawing.texts
            if t.kind == "side" and t.on <= step and (t.off is None or step < t.off)
        ]
        r = size.radius
        for k, a in enumerate(boxes):
            assert a[0] >= 0
            assert a[2] <= drawing.width
            assert a[1] >= 0
            assert a[3] <= drawing.height
            for b in boxes[:k]:
                across = min(a[2], b[2]) - max(a[0], b[0])
                assert across <= 0.5 or min(a[3], b[3]) - max(a[1], b[1]) <= 1
            for c in drawing.circles:
                near = (min(max(c.x, a[0]), a[2]), min(max(c.y, a[1]), a[3]))
                assert (near[0] - c.x) ** 2 + (near[1] - c.y) ** 2 >= (r - 1) ** 2
    assert len([e for e in drawing.edges if e.lit]) >= weights
    assert {t.place for t in drawing.texts} >= {
        f"{k}.weight[{i},{j}]"
        for k in (2 * n for n in range(len(layers) - 1))
        for i in range(layers[k // 2 + 1])
        for j in range(layers[k // 2])
    }
    if not narrow or len(layers) <= 3:
        assert drawing.width <= (358 if narrow else 760) or max(layers) > 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w1", "w₁"),
        ("b12", "b₁₂"),
        ("β3", "β₃"),
        ("w7 (backward)", "w₇ (backward)"),
        ("∂E/∂w1", "∂E/∂w₁"),
        *((name, name) for name in ("ab1", "w_1", "w1a", "w12a", "w11²", "out", "line 2")),
    ],
)
def test_names(name, text):
    assert pretty(name) == text


def test_many_rows():
    """The steps of the first forty rows are shown, and the page says so."""
    text = sheets.random((1, 1), ("tanh",), "half_squared_error", rows=41)
    html = page.render([_with_verdict(_unproven(parse(text, "case.toml")))])
    assert "The steps of the first 40 of 41 rows of data are shown" in html
    assert html.count('class="row"') == 40


def _with_verdict(marking):
    marking.verdict, marking.passed = "", True
    return marking
