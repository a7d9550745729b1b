"""A real browser for the page: Debian's chromium and its driver, without a window."""

import os
import shutil

import pytest

from compare.worked import mark, parse
from tests.compare.worked_page import sheets


@pytest.fixture(scope="session")
def markings():
    """Name → marking."""
    texts = {
        "homework": sheets.HOMEWORK,
        "hostile": sheets.HOSTILE,
        "deep": sheets.DEEP,
        "softmax": sheets.SOFTMAX,
        "large": sheets.LARGE,
    }
    return {name: mark(parse(text, f"{name}.toml")) for name, text in texts.items()}


@pytest.fixture(scope="session")
def browser():
    """A selenium driver; the test is skipped, with the reason, where there is none."""
    selenium = pytest.importorskip("selenium", reason="selenium is not installed")
    from selenium import webdriver

    assert selenium
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: chromium and chromedriver (Debian's chromium-driver) are needed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += ["--force-device-scale-factor=1", "--window-size=1280,900"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # root has no sandbox
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()
