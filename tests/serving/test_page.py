"""The service's page, in a browser: an image in, labels and maps out, whatever happens to the service meanwhile."""

import socket

import pytest
from playwright.sync_api import expect
from tests.serving.conftest import draw_image
from tests.support.chromium import chromium, list_violations, open_page

import vitreous

pytestmark = pytest.mark.slow
FIRST = {"name": "first.png", "mimeType": "image/png", "buffer": draw_image(1)}
SECOND = {"name": "second.png", "mimeType": "image/png", "buffer": draw_image(2)}
DROP = """([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: name.endsWith("png") ? "image/png" : "text/plain" }));
  document.getElementById("choose").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def drop(page, name, content):
    import base64

    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def test_an_image_is_dropped_classified_and_looked_into(browser, service, folder):
    page = open_page(browser, service.url)
    drop(page, "first.png", FIRST["buffer"])
    expect(page.locator("#labels li")).to_have_count(5)
    expected = vitreous.load(folder)(FIRST["buffer"])
    expect(page.locator("#labels li").first).to_contain_text(f"{expected.label}{100 * expected.score:.1f}%")
    expect(page.locator("#told")).to_contain_text("Row 2, column 1 looks most at row")
    page.locator("#stage").hover(position={"x": 4, "y": 4})
    expect(page.locator("#told")).to_contain_text("Row 0, column 0")
    page.locator("#stage").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#told")).to_contain_text("Row 1, column 1")
    for view, words in (
        ("norms", "has a length of"), ("rollout", "of the maximum"), ("relevance", "of the maximum"), ("positions", "is most like"),
    ):  # fmt: skip
        page.select_option("#view", view)
        expect(page.locator("#told")).to_contain_text(words)
    page.select_option("#view", "relevance")
    page.select_option("#target", "fox")
    page.set_input_files("#file2", SECOND)
    expect(page.locator("#told")).to_contain_text("In the second image, row")
    page.select_option("#against", "headless")
    expect(page.locator("#labels h3")).to_have_count(2)
    assert page.complaints == []


def test_paste_examples_curl_and_the_slider(browser, service):
    page = open_page(browser, service.url, permissions=["clipboard-read", "clipboard-write"])
    page.click("#examples button[data-name=coffee]")
    expect(page.locator("#labels li")).to_have_count(5)
    page.click("#curl")
    expect(page.locator("#copied")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"curl -F 'images=@\"coffee.webp\"' '{service.url}/v1/predict?model=animals&top=5'"
    page.evaluate(
        """(text) => { const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(atob(text), (x) => x.charCodeAt(0))], "pasted.png", { type: "image/png" }));
        dispatchEvent(new ClipboardEvent("paste", { clipboardData: data })); }""",
        __import__("base64").b64encode(FIRST["buffer"]).decode(),
    )
    expect(page.locator("#name")).to_have_text("pasted.png")
    expect(page.locator("#layer-told")).to_contain_text("1 (0 to 1)")
    page.locator("#layer").focus()
    page.keyboard.press("Home")
    expect(page.locator("#layer-told")).to_contain_text("0 (0 to")
    assert page.complaints == []


def test_what_is_no_image_is_said(browser, service):
    page = open_page(browser, service.url)
    drop(page, "notes.txt", b"words")
    expect(page.locator("#status")).to_contain_text("notes.txt is not an image")
    page.set_input_files("#file", {"name": "broken.png", "mimeType": "image/png", "buffer": FIRST["buffer"][:90]})
    expect(page.locator("#status")).to_contain_text("broken.png")
    page.set_input_files("#file", FIRST)
    expect(page.locator("#labels li")).to_have_count(5)
    expect(page.locator("#status")).to_be_hidden()


def test_languages_and_themes(browser, service):
    page = open_page(browser, service.url, locale="zh-CN", color_scheme="dark")
    expect(page.locator("#choose-title")).to_have_text("图像")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.select_option("#theme", "light")
    light = page.evaluate(colour)
    assert (dark, light) == ("rgb(19, 21, 24)", "rgb(251, 251, 250)")
    page.select_option("#language", "en")
    expect(page.locator("#choose-title")).to_have_text("Image")
    page.reload()
    expect(page.locator("#choose-title")).to_have_text("Image")
    assert page.evaluate(colour) == light


def test_every_word_is_there_in_both_languages(browser, service):
    page = open_page(browser, service.url)
    said = page.evaluate(
        """async () => { const words = await import("./words.js"), found = {};
        const keys = [...document.querySelectorAll("[data-t]")].map((one) => one.dataset.t);
        for (const language of ["en", "zh"]) { words.speak(language); found[language] = keys.filter((key) => typeof words.say(key) !== "string"); }
        return found; }"""
    )
    assert said == {"en": [], "zh": []}


def test_the_service_goes_and_comes_back(browser, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = vitreous.serve(folder, port=port)
    page = open_page(browser, first.url)
    page.set_input_files("#file", FIRST)
    expect(page.locator("#labels li")).to_have_count(5)
    first.stop()
    page.set_input_files("#file", SECOND)
    expect(page.locator("#status")).to_contain_text("doesn't answer", timeout=20_000)
    with vitreous.serve(folder, port=port):
        expect(page.locator("#status")).to_be_hidden(timeout=20_000)
        expect(page.locator("#name")).to_have_text("second.png")
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")


def test_a_key_is_asked_for(browser, folder):
    with vitreous.serve(folder, port=0, keys=["a-key-of-enough-letters"]) as service:
        page = open_page(browser, service.url)
        page.fill("#secret", "a-key-of-enough-letters")
        page.click("#key button")
        page.set_input_files("#file", FIRST)
        expect(page.locator("#labels li")).to_have_count(5)
        page.click("#curl")
        expect(page.locator("#copied")).not_to_contain_text("a-key-of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_a_screen_reader(browser, service, scheme):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "has_touch": True}
    page = open_page(browser, service.url, **phone)
    page.set_input_files("#file", FIRST)
    expect(page.locator("#told strong")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#stage").tap(position={"x": 5, "y": 5})
    expect(page.locator("#told")).to_contain_text("Row 0, column 0")
    assert list_violations(page) == []


def test_a_model_that_cant_be_looked_into(browser):
    with vitreous.serve({"starter": "starter"}, port=0) as service:
        page = open_page(browser, service.url)
        page.click("#examples button[data-name=cat]")
        expect(page.locator("#outside")).to_contain_text("not a Vision Transformer")
        expect(page.locator("#labels li")).to_have_count(5)
        assert page.complaints == []
