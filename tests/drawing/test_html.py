"""Pages: every word escaped, nothing hidden or fetched, one palette; and their templates come with the package."""

import re
import sys
import unicodedata

import pytest
from tests.reports.test_blocks import Reader
from tests.support.runs import HOSTILE

from vitreous.drawing.html import STYLES, read_resource, render_page
from vitreous.drawing.svg import SMALL, draw_empty, render_svg
from vitreous.reports.blocks import Code, Note, Numbers, Section, Table, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles
from vitreous.runtime.display import escape_text, strip_hidden

EVIL = """<script>alert(1)</script>"'&{{ 7 * 7 }}{% raw %}\u202e\x00"""


def blocks(word):
    import numpy as np

    picture = Picture(np.zeros((8, 8, 3), np.uint8), word)
    return [
        Words(word, strong=word),
        Note(word, word),
        Numbers([(word, word, word)]),
        Table(word, (word, word), [(word, word)] * 3, fold_after=1),
        Code(word, word),
        Tiles([Tile(picture, [Line(word, word, True, word)], word, picture)], title=word),
    ]


def test_characters_are_hidden_by_their_category_or_direction():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    hidden = {one for one in everything if unicodedata.category(one) in ("Cc", "Cs")} - {"\n", "\t"}
    hidden |= set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    found = strip_hidden(everything)
    assert {one for one, shown in zip(everything, found, strict=True) if one != shown} == hidden
    assert {found[ord(one)] for one in hidden} == {"\ufffd"}


@pytest.mark.parametrize("word", [EVIL, *HOSTILE])
def test_whatever_is_said_stays_text(word):
    made = render_page(word, [Words(word)], [Section("results", word, blocks(word))], word).decode()
    reader = Reader(made)
    assert not reader.open
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "iframe")]
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "".join(reader.words).count(strip_hidden(word)) >= 17
    assert "\u202e" not in made and "\x00" not in made
    assert "{{" not in made.replace("{{ 7 * 7 }}", "")
    assert "49" not in "".join(reader.words)


def test_only_the_named_script_may_run():
    with_script = render_page("t", [], [], "", script="let a = '</b>';").decode()
    assert "<script>let a = '</b>';</script>" in with_script
    assert len(re.findall(r"script-src 'sha256-[\w+/=]{44}'", with_script)) == 1
    assert "script" not in render_page("t", [], [], "").decode()


def test_colours_are_those_of_the_palette():
    """A colour that the palette lacks would be none at all."""
    known = set(re.findall(r"(--[\w-]+):", "".join(map(read_resource, STYLES))))
    for name in (*STYLES, "reports/explanation/explorer.css"):
        used = set(re.findall(r"var\((--[\w-]+)\)", read_resource(name)))
        assert used <= known, name
        palette = name == "drawing/palette.css"
        assert palette or "prefers-color-scheme" not in read_resource(name)
    light, dark = read_resource("drawing/palette.css").split("@media(prefers-color-scheme:dark)")
    assert set(re.findall(r"(--[\w-]+):", light)) - {"--sans"} == set(re.findall(r"(--[\w-]+):", dark))


def test_a_drawing_alone_brings_its_style_and_one_on_a_page_does_not():
    for label in ("a & <b>", EVIL):
        alone, placed = render_svg(10, 20, label, "", alone=True), render_svg(10, 20, label, "")
        assert read_resource("drawing/palette.css") in alone
        assert "xmlns" in alone
        assert "<style" not in placed
        for one in (alone, placed, draw_empty(label, SMALL)):
            assert escape_text(label) in one
            assert "<script" not in one
