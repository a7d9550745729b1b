"""The page in a real browser: every step is clicked through, what it shows is read back and
compared with the exact numbers."""

import base64
import os
import uuid
from pathlib import Path

import pytest

from compare.worked import page
from tests.compare.worked_page.reading import lookup, made, of_row, says

DRAWN = ("homework", "hostile", "deep", "softmax")
ORDER = (*DRAWN, "large")  # which has a page of its own, for it takes a browser long

# What is to be seen now: figures in the steps, in the drawing (or in the tables instead of it) and
# which of them are lit.
SEEN = """
const seen = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility === 'visible';
const sheet = document.querySelector('.sheet:not([hidden])');
const text = (e) => e.textContent.trim().replace(/\\s+/g, ' ');
const figures = (items) => items.filter(seen).map((e) => [e.dataset.place,
    text(e.querySelector('.figure') ?? e), e.classList.contains('new')]);
return {
    id: sheet.id,
    sections: [...sheet.querySelectorAll('.step')].filter(seen).map((e) => e.id),
    title: text(sheet.querySelector('.step.current h2')),
    lines: figures([...sheet.querySelectorAll('.step.current .figure')]),
    parts: [...sheet.querySelectorAll('.step.current .line')].map((line) => text(line)),
    drawn: figures([...sheet.querySelectorAll('figure [data-place]')]),
    said: [...sheet.querySelectorAll('.step.current .said')].filter(seen).map(text),
    live: text(sheet.querySelector('.live')),
    hash: location.hash,
};
"""
# What is to be seen after each of these buttons.
WALK = (
    """
const look = () => {"""
    + SEEN
    + """};
return arguments[0].map((go) => {
    document.querySelector(`.sheet:not([hidden]) [data-go='${go}']`).click();
    return look();
});
"""
)
# Texts that are to be seen in the drawing, and circles: left, top, right, bottom. A circle is as
# wide as the square in it.
BOXES = """
const svg = [...document.querySelectorAll('.sheet:not([hidden]) figure svg')]
    .find((e) => e.getClientRects().length);
const box = (e, less) => { const r = e.getBoundingClientRect(), d = less * r.width;
    return [r.left + d, r.top + d, r.right - d, r.bottom - d]; };
const seen = (e) => e.getClientRects().length && getComputedStyle(e).visibility === 'visible';
const all = (selector) => [...svg.querySelectorAll(selector)];
return {
    texts: all('text.side').filter(seen).map((e) => [e.textContent, box(e, 0)]),
    values: all('text.value').filter(seen).map((e) => [e.textContent, box(e, 0)]),
    circles: all('circle, rect:not(.behind)').map((e) => ['o', box(e, 0.15)]),
    whole: all('circle, rect:not(.behind)').map((e) => ['o', box(e, 0)]),
    frame: box(svg, 0),
    fonts: all('text').filter(seen).map((e) => e.getBoundingClientRect().height),
};
"""

# How wide the page is, and these boxes of its drawing, after each of these buttons.
FITS = (
    """
const boxes = () => {"""
    + BOXES
    + """};
return arguments[0].map((go) => {
    document.querySelector(`.sheet:not([hidden]) [data-go='${go}']`).click();
    return [document.documentElement.scrollWidth, arguments[1] ? boxes() : null];
});
"""
)


@pytest.fixture(scope="module")
def folder(markings, tmp_path_factory):
    """A page of all that are drawn, and one of what is too large."""
    out = tmp_path_factory.mktemp("page")
    page.write([markings[name] for name in DRAWN], out / "drawn.html")
    page.write([markings["large"]], out / "large.html")
    return out


@pytest.fixture
def opened(browser, folder):
    """opened(name, width=1280, scheme="light", media="screen", motion=True): the page as it is when
    it has just been opened."""

    def open_(name="homework", width=1280, scheme="light", media="screen", motion=True):
        features = {
            "prefers-color-scheme": scheme,
            "prefers-reduced-motion": "no-preference" if motion else "reduce",
        }
        features = [{"name": k, "value": v} for k, v in features.items()]
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        at = DRAWN.index(name) + 1 if name in DRAWN else 1
        file = "drawn.html" if name in DRAWN else "large.html"
        browser.get(f"{(folder / file).as_uri()}?{uuid.uuid4()}#sheet-{at}")  # loaded anew
        return browser

    return open_


def press(browser, *go: str) -> dict:
    """What is seen after these buttons."""
    return walk(browser, *go)[-1]


def walk(browser, *go: str) -> list[dict]:
    """What is seen after each of these buttons."""
    return browser.execute_script(WALK, go)


@pytest.mark.parametrize("name", ORDER)
def test_every_step(name, opened, markings):
    """Each step shows the numbers that it makes, exact and lit, and none of a later step."""
    marking, browser = markings[name], opened(name, motion=False)
    steps = made(marking)
    known, last = set(), len(steps) - 1
    pressed = [*["next"] * (last + 1), *["back"] * (last + 1), "last", "first"]
    walked = [browser.execute_script(SEEN), *walk(browser, *pressed)]
    for step, (makes, seen) in enumerate(zip(steps, walked, strict=False)):
        here = of_row(makes, 0)
        known |= here
        assert seen["sections"] == [f"{seen['id']}-step-{step}"]
        for place, text, _ in seen["lines"]:
            if " / " not in place and not place.startswith("share"):
                assert says(text, lookup(marking, place)), (place, text)
        for place, text, _ in seen["drawn"]:
            assert says(text, lookup(marking, place)), (place, text)
        shown = {place for place, *_ in seen["lines"] if " / " not in place}
        drawn = {place for place, *_ in seen["drawn"]}
        lit = {place for place, _, new in seen["drawn"] if new}
        if name == "large":  # not all of it stands in a table, nor in the lines
            assert shown - {"lr"} <= here | {p for p in shown if p.startswith(("y[", "share"))}
            assert lit <= here
            assert len(lit) >= min(len(here), 3) or not step
        else:
            assert {p for p in shown if not p.startswith(("y[", "lr", "share"))} == here
            assert lit == (here if step else set())
        given = {p for p in drawn if p[0].isdigit() or p.startswith("y[")}
        assert drawn - given <= known
        assert {p for p in drawn if p.startswith("activation")} >= {
            p for p in known if p.startswith("activation") and name != "large"
        }
    went = [*range(last + 1), last, *reversed(range(last)), 0, last, 0]
    assert [s["sections"] for s in walked] == [[f"{seen['id']}-step-{step}"] for step in went]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_formula_with_the_numbers_put_in(opened):
    browser = opened("homework")
    seen = press(browser, *["next"] * 10)
    line = next(line for line in seen["parts"] if line.startswith("∂E/∂w₁"))
    assert "= ∂E/∂a₄ · ∂a₄/∂z₄ · w₇ · ∂a₁/∂z₁ · x₁ = −0.475 × 0.249 × 1 × 0.229 × 1" in line
    assert "= −0.0271" in line
    assert "✓ ∂E/∂w₁: sheet −0.0271 exact" in line


def test_claims_show_their_marks(opened, markings):
    """Each stands at one step, or in a line and nowhere else, with its mark; a wrong one with the
    right figure."""
    browser = opened("homework")
    walked = walk(browser, *["next"] * (len(made(markings["homework"])) - 1))
    said = [text for seen in walked for text in seen["said"]]
    assert len(said) == len(markings["homework"].claims)
    wrong = next(text for text in said if "∂E/∂w₉" in text)
    assert wrong.startswith("✗")
    assert "sheet 0.067 wrong right: −0.076" in wrong
    follows = next(text for text in said if text.startswith("↳"))
    assert "w₉, updated: sheet −0.0067 follows" in follows
    assert "from w₉" in follows
    assert any(text.startswith("≈ ∂a₄/∂z₄: sheet 0.250 rounding") for text in said)


def test_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    browser = opened("homework")
    body = browser.find_element("css selector", "body")
    for key, step in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_RIGHT, 2),
        (Keys.ARROW_LEFT, 1),
        (Keys.END, 11),
        (Keys.ARROW_RIGHT, 11),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.ARROW_RIGHT, 1),
    ):
        body.send_keys(key)
        seen = browser.execute_script(SEEN)
        assert seen["sections"] == [f"sheet-1-step-{step}"]
        assert seen["hash"] == (f"#sheet-1-step-{step}" if step else "#sheet-1")
    assert seen["live"].startswith("Step 1 of 11. Forward to the hidden layer: weighted sums. z₁")
    assert "z₁ = 0.6, ✓ z₁: sheet 0.6 exact" in seen["live"]
    outline = (
        "return [document.activeElement, getComputedStyle(document.activeElement).outlineStyle]"
    )
    reached = []
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element, style = browser.execute_script(outline)
        assert style == "solid"
        reached.append(element.get_attribute("aria-label") or element.text)
    first = reached.index("First step")
    assert reached[first : first + 4] == ["First step", "Step back", "Next step", "Last step"]
    # On the buttons: Enter presses, the arrows still step.
    browser.find_element("css selector", "[data-go=next]").send_keys(Keys.ENTER)
    assert browser.execute_script(SEEN)["sections"] == ["sheet-1-step-2"]
    # In the track of steps the focus goes along.
    browser.find_element("css selector", ".track [aria-current]").send_keys(Keys.ARROW_RIGHT)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-current") == "step"
    assert focused.get_attribute("data-step") == "3"
    # A key with Alt is the browser's own.
    body.send_keys(Keys.ALT, Keys.ARROW_RIGHT)
    assert browser.execute_script(SEEN)["sections"] == ["sheet-1-step-3"]


def test_rows(opened, markings):
    """Another row of data shows that row's numbers, in the same step."""
    browser, marking = opened("hostile"), markings["hostile"]
    press(browser, *["next"] * 4)
    browser.execute_script(
        "const s = document.querySelector('.sheet:not([hidden]) select'); s.value = '1';"
        "s.dispatchEvent(new Event('change', { bubbles: true }));"
    )
    seen = browser.execute_script(SEEN)
    assert seen["sections"] == ["sheet-2-row-2-step-4"]
    places = of_row(made(marking)[4], 1)
    assert {place for place, *_ in seen["lines"]} == places
    assert {place for place, _, new in seen["drawn"] if new} == places
    for place, text, _ in seen["drawn"]:
        assert says(text, lookup(marking, place))
        assert not place.startswith(("activation.", "x[")) or "[1," in place
    assert any("0.88 exact" in text for text in seen["said"])


def test_menu_and_links(opened):
    browser = opened("homework")
    menu = browser.find_elements("css selector", ".menu a")
    assert len(menu) == len(DRAWN)
    menu[2].click()
    assert browser.execute_script(SEEN)["id"] == "sheet-3"
    assert "A 2-3-2-2 net" in browser.find_element("css selector", ".menu [aria-current]").text
    browser.get(browser.current_url.partition("#")[0] + "#sheet-2-row-2-step-5")
    assert browser.execute_script(SEEN)["sections"] == ["sheet-2-row-2-step-5"]
    for strange in ("#sheet-9-step-1", "#sheet-1-step-999", "#sheet-1-row-7-step-2", "#<b>"):
        browser.get(browser.current_url.partition("#")[0] + strange)
        assert len(browser.execute_script(SEEN)["sections"]) == 1


def test_what_a_sheet_says_is_text(opened, markings):
    browser = opened("hostile")
    shown = browser.find_element("css selector", ".sheet:not([hidden])")
    assert markings["hostile"].sheet.title in shown.text
    assert markings["hostile"].sheet.source in shown.text
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    # And were it let through, it would not run.
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.head.append(s)"
    )
    assert browser.execute_script("return window.ran") is None
    browser.get_log("browser")  # which says so


def test_nothing_is_loaded(opened, folder):
    browser = opened()
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_fits(width, opened):
    """No page scrolls sideways; no label covers another or a node; letters are not tiny."""
    for name in ORDER if width > 320 else DRAWN[:1]:
        browser = opened(name, width)
        # just before the update all gradients stand
        measured = browser.execute_script(FITS, ["first", "next", "last", "back"], name != "large")
        for wide, boxes in measured:
            assert wide <= width
            if boxes is None:
                continue
            things = boxes["texts"] + boxes["circles"]
            for k, (one, a) in enumerate(things):
                for other, b in things[:k]:
                    assert not _overlap(a, b), (name, one, other)
            for text, box in boxes["values"]:
                assert any(_inside(box, whole, 6) for _, whole in boxes["whole"]), (name, text)
            for text, box in boxes["texts"]:
                assert _inside(box, boxes["frame"], 1), (name, text)
            assert min(boxes["fonts"]) >= (11 if width > 320 else 9)


def _overlap(a, b) -> bool:
    """More than the white around letters."""
    return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 3


def _inside(a, b, by) -> bool:
    return a[0] >= b[0] - by and a[1] >= b[1] - by and a[2] <= b[2] + by and a[3] <= b[3] + by


def test_dark_and_light(opened):
    colour = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert min(opened(scheme="light").execute_script(colour)) > 230
    assert max(opened(scheme="dark").execute_script(colour)) < 40


def test_motion(opened):
    moving = "return getComputedStyle(document.querySelector('circle')).transitionDuration"
    assert opened().execute_script(moving).startswith("0.25s")
    assert opened(motion=False).execute_script(moving) == "0s"


def test_print(opened):
    """All steps of the row shown, all figures of the drawing, in dark letters; no buttons."""
    browser = opened("homework", scheme="dark", media="print")
    seen = browser.execute_script(SEEN)
    assert len(seen["sections"]) == 12
    assert any(place == "updated.0.weight[0,0]" for place, *_ in seen["drawn"])
    assert not browser.find_element("css selector", ".controls").is_displayed()
    colour = "return getComputedStyle(document.body).color.match(/\\d+/g).map(Number)"
    assert max(browser.execute_script(colour)) < 60


def test_without_script(opened, browser):
    """All steps of all sheets and all tables can be read."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened()
        steps = browser.find_elements("css selector", ".step")
        assert all(step.is_displayed() for step in steps[:15] + steps[-5:])
        assert len(steps) == 12 + 2 * 12 + 16 + 2
        assert not browser.find_element("css selector", ".controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_too_large_to_draw(opened):
    browser = opened("large")
    stage = browser.find_element("css selector", ".sheet:not([hidden]) .stage")
    assert "63 nodes are too many to draw (at most 60)" in stage.text
    assert stage.find_elements("css selector", "svg") == []


def test_pictures(opened, tmp_path):
    """Pictures to look at: in the folder PICTURES names, or else in pytest's own."""
    folder = Path(os.environ.get("PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, step in (("homework", 10), ("hostile", 4)):
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                if (name == "hostile") == ((width == 1280) == (scheme == "light")):
                    continue
                browser = opened(name, width, scheme, motion=False)
                press(browser, *["next"] * step)
                picture = folder / f"{name}-{width}-{scheme}.png"
                picture.write_bytes(photograph(browser))
                assert picture.stat().st_size > 10_000


def photograph(browser, most=2400) -> bytes:
    """The whole page, down to `most`."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"]}
    clip["height"] = min(size["height"], most)
    options = {"captureBeyondViewport": True, "clip": clip}
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", options)["data"])
