"""The board in a browser: it follows a run that is training, and its address is its view."""

import json

import pytest
from playwright.sync_api import expect
from tests.serving.board.test_board import TRAIN, write_run
from tests.support.chromium import chromium, list_violations, open_page

import vitreous
from vitreous.storage.lock import FolderLock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def served(tmp_path):
    found = vitreous.board(tmp_path, port=0)
    yield found
    found.stop()


def test_a_run_is_followed(browser, served, tmp_path):
    page = open_page(browser, served.url)
    expect(page.locator("#runs")).to_contain_text("No runs yet")
    run = write_run(tmp_path / "photos-1", steps=20, until=3, evaluated=False)
    with FolderLock(run):
        expect(page.locator("#runs .state")).to_have_text("running", timeout=10_000)
        expect(page.locator("#runs")).to_contain_text("3 of 20")
        before = page.locator("#chart-train-loss path.line").last.get_attribute("d")
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({**TRAIN, "step": 4, "epoch": 0.8, "loss": 0.4}) + "\n")
            file.write('{"kind": "evaluation", "step": 4, "epoch": 0.8, "loss": 0.5, "top1": 0.5, "best": true}\n')
        expect(page.locator("#runs")).to_contain_text("top-1 50.00%", timeout=10_000)
        assert page.locator("#chart-train-loss path.line").last.get_attribute("d") != before
    expect(page.locator("#runs .state")).to_have_text("interrupted", timeout=10_000)
    assert page.complaints == []


def test_a_view_is_shared_by_its_address(browser, served, tmp_path):
    for number in range(4):
        write_run(tmp_path / f"run-{number}", settings={"optimizer": {"lr": number}})
    page = open_page(browser, served.url)
    page.get_by_label("Show run-0").check()
    page.get_by_label("Show run-3").check()
    page.select_option("#smooth", "20")
    page.check("#log")
    expect(page.locator("#settings .differs")).to_have_count(1)
    expect(page.locator("#settings thead").first.locator("th")).to_have_text(["setting", "run-0", "run-3"])
    other = open_page(browser, page.url)
    expect(other.locator("#settings thead").first.locator("th")).to_have_text(["setting", "run-0", "run-3"])
    expect(other.locator("#log")).to_be_checked()
    expect(other.locator("#smooth")).to_have_value("20")
    other.fill("#find", "run-2")
    expect(other.locator("#runs tbody tr")).to_have_count(1)
    box = other.locator("#chart-train-loss .plot").bounding_box()
    other.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(other.locator("#chart-train-loss .readout")).to_contain_text("run-0")
    assert page.complaints == other.complaints == []


def test_the_server_goes(browser, served, tmp_path):
    page = open_page(browser, served.url)
    expect(page.locator("#connection")).to_be_hidden()
    served.stop()
    expect(page.locator("#connection")).to_contain_text("doesn't answer", timeout=10_000)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_screen_readers(browser, served, tmp_path, scheme, width):
    run = write_run(tmp_path / "a")
    (run / "report.html").write_text('<section id="results"><h2>Results</h2>fine</section>')
    write_run(tmp_path / "b", until=3, ended={"kind": "stopped", "why": "diverged", "reason": "NaN"})
    page = open_page(browser, served.url, color_scheme=scheme, viewport={"width": width, "height": 800})
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert list_violations(page) == []
