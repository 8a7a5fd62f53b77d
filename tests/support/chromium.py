"""Chromium by Playwright, for pages that a server gives; and axe-core, where npm can bring it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.browser import CHROMIUM

AXE = "axe-core@4.11.0"
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser; end it afterwards. Skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Any, url: str, **how: Any) -> Any:
    """Open a page in a context of its own; what it complains of gathers in `complaints`."""
    page = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "locale": "en-US", **how}).new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    page.goto(url)
    return page


def find_axe() -> str:
    """Return axe-core's script, fetched once by npm into a cache; skips where that can't be."""
    cache = Path(os.environ.get("VITREOUS_TEST_CACHE", Path.home() / ".cache" / "vitreous-tests"))
    script = cache / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        if shutil.which("npm") is None:
            pytest.skip("axe-core is fetched by npm, which isn't installed")
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "install", "--prefix", cache, "--no-audit", "--no-fund", AXE], capture_output=True
        )
        if done.returncode or not script.is_file():
            pytest.skip(f"npm can't fetch {AXE}")
    return script.read_text(encoding="utf-8")


def list_violations(page: Any) -> list[str]:
    """Return what axe-core finds serious on a page as it is, with where."""
    page.evaluate(f"() => {{ {find_axe()} }}")
    found = page.evaluate("() => axe.run(document)")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS]
