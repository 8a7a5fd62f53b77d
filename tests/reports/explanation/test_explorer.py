"""A person moves about on the page of `vitreous explain`, in a real browser: by pointer and by keys, in light and dark."""

import re

import numpy as np
import pytest
from tests.support.browser import CHROMIUM, browser
from tests.support.explanations import folder, pictures

from vitreous.drawing.images import STEPS
from vitreous.images.preprocess import preprocess_image
from vitreous.insight.attention import compute_attention_maps
from vitreous.insight.explanation import open_inside
from vitreous.insight.methods import MapOptions, settle_options
from vitreous.reports.explanation.contents import PageOptions
from vitreous.reports.explanation.page import write_explanation

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
ROWS, COLS = 4, 6


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return a page on two images, and the attention that it shows: (image, layer, head with the mean first, query, patch)."""
    ready = open_inside(folder("registers"))
    prefix = ready.model.config.prefix
    assert tuple(ready.model.config.grid) == (ROWS, COLS)
    out = tmp_path_factory.mktemp("page") / "out"
    options = PageOptions(settle_options(MapOptions("attention"), ready.folder), faithful=0)
    write_explanation(out, ready, pictures(2), options, "model", lambda _doing, _done: None)
    pixels = np.stack([preprocess_image(one, ready.folder.decode, ready.folder.preprocess) for one in pictures(2)])
    heads = np.stack([one.numpy() for one in compute_attention_maps(ready.model, ready.images(pixels)).values()], 1)
    return out / "index.html", np.concatenate([heads.mean(2, keepdims=True), heads], 2)[..., prefix:], prefix


@pytest.fixture(scope="module")
def chromium():
    with browser() as one:
        yield one


class Person:
    """Somebody who looks at the page."""

    def __init__(self, page, chromium, scheme):
        path, self.attention, self.prefix = page
        self.chromium = chromium
        chromium.open(path, scheme)

    def over(self, row, col, *more, frame=0):
        """Move the pointer over the middle of a patch."""
        box = self.chromium.value(
            f"(() => {{ const box = document.querySelectorAll('.explore .frame')[{frame}].getBoundingClientRect(); "
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        self.chromium.pointer(box[0] + box[2] * (col + 0.5) / COLS, box[1] + box[3] * (row + 0.5) / ROWS, *more)

    def choose(self, name, value, event):
        """Set a control to a value, as a person would have it set."""
        self.chromium.value(
            f"(() => {{ const one = document.getElementById('{name}'); one.value = '{value}'; "
            f"one.dispatchEvent(new Event('{event}')); }})()"
        )

    def told(self):
        """Return the sentence below the pictures."""
        return self.chromium.value("document.getElementById('told').textContent")

    def painted(self):
        """Return the colours of the map, 0 to 255: (patch, 3)."""
        pixels = self.chromium.value(
            "(() => { const one = document.querySelector('.explore canvas'); "
            f"return [...one.getContext('2d').getImageData(0, 0, {COLS}, {ROWS}).data]; }})()"
        )
        return np.array(pixels).reshape(ROWS * COLS, 4)[:, :3]

    def sees(self, query, image=0, layer=-1, head=0):
        """Hold map and sentence against the attention of a token, counted from the first patch."""
        weights = self.attention[image, layer, head, self.prefix + query]
        steps = np.array(STEPS, float)
        places = weights / weights.max() * (len(steps) - 1)
        wanted = np.stack([np.interp(places, range(len(steps)), steps[:, channel]) for channel in range(3)], 1)
        assert np.abs(self.painted() - wanted).max() < 4
        best = int(weights.argmax())
        said = f"looks most at row {best // COLS}, column {best % COLS} "
        assert said in self.told()
        if query >= 0:
            assert self.told().startswith(f"Row {query // COLS}, column {query % COLS} ")


@pytest.fixture(params=["light", "dark"])
def person(page, chromium, request):
    yield Person(page, chromium, request.param)
    assert chromium.complaints == []


def test_the_map_follows_the_pointer_over_either_picture(person):
    person.over(1, 2)
    person.sees(1 * COLS + 2)
    before = person.painted()
    person.over(3, 5, frame=1)
    person.sees(3 * COLS + 5)
    assert (person.painted() != before).any()


def test_a_click_holds_the_patch_until_the_next_or_escape(person):
    click = ("mousePressed", "mouseReleased")
    person.over(0, 1, *click)
    person.over(2, 3)
    person.sees(0 * COLS + 1)
    assert "Held" in person.chromium.value("document.getElementById('pin').textContent")
    person.over(2, 3, *click)
    person.over(2, 4)
    person.sees(2 * COLS + 4)
    person.over(2, 4, *click)
    person.chromium.value("document.querySelector('.explore .frame').focus()")
    person.chromium.press("Escape")
    person.over(3, 0)
    person.sees(3 * COLS)


def test_arrow_keys_move_the_patch_and_stop_at_the_edge(person):
    for _ in range(20):  # as far as Tab goes
        person.chromium.press("Tab")
        if person.chromium.value("document.activeElement.className") == "frame":
            break
    assert "arrow keys" in person.chromium.value("document.activeElement.getAttribute('aria-label')")
    row, col = ROWS // 2, COLS // 2
    for key, down, right in (
        ("ArrowLeft", 0, -1),
        ("ArrowUp", -1, 0),
        ("ArrowRight", 0, 1),
        *[("ArrowDown", 1, 0)] * 4,
    ):
        person.chromium.press(key)
        row, col = min(ROWS - 1, row + down), col + right
        person.sees(row * COLS + col)
    assert row == ROWS - 1


def test_layer_head_token_and_image_are_chosen(person):
    person.over(1, 1)
    person.choose("layer", 0, "input")
    person.sees(COLS + 1, layer=0)
    person.choose("head", 2, "change")
    person.sees(COLS + 1, layer=0, head=2)
    person.choose("query", 0, "change")
    person.sees(-person.prefix, layer=0, head=2)
    person.chromium.value("document.querySelectorAll('.thumbs button')[1].click()")
    person.sees(-person.prefix, image=1, layer=0, head=2)
    assert (
        person.chromium.value("document.querySelectorAll('.thumbs button')[1].getAttribute('aria-pressed')") == "true"
    )


def test_words_can_be_read_in_light_and_dark(person, request):
    dark = person.chromium.value("matchMedia('(prefers-color-scheme: dark)').matches")
    shown = {}
    for name in ("body", "#told", "label", ".soft", "figcaption"):
        style = f"getComputedStyle(document.querySelector('.explore {name}') ?? document.querySelector('{name}'))"
        shown[name] = brightness(person.chromium.value(f"{style}.color"))
    ground = brightness(person.chromium.value("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.2) == dark
    for name, words in shown.items():
        assert (max(words, ground) + 0.05) / (min(words, ground) + 0.05) >= 4.5, name


def brightness(colour):
    """Return the relative luminance of a CSS colour (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
