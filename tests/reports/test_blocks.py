"""Reports of evaluations: the same findings as a page, as Markdown and as JSON, whatever names they bear."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup
from tests.support.runs import HOSTILE

from vitreous.errors import StorageError
from vitreous.metrics.classification import evaluate_logits
from vitreous.reports.blocks import (
    Beside,
    Code,
    Drawing,
    Note,
    Numbers,
    Report,
    Section,
    Table,
    Words,
    escape_markdown,
    render_html,
    render_markdown,
    save_report,
)
from vitreous.reports.evaluation.accuracy import build_sections
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles


class Reader(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "circle", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("circle", "rect", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def measured(classes=HOSTILE, examples=40):
    rng = np.random.default_rng(0)
    return evaluate_logits(rng.normal(size=(examples, len(classes))), rng.integers(0, len(classes), examples), classes)


def found(title="A model on photographs"):
    return Report(
        title,
        "One | two",
        [
            Section("results", "Results", [Numbers([("top-1", "12.5%", "of 8"), ("images", "8", "")])]),
            Section("more", "More", [
                Words("a_b"), Note("Beware.", "of <b>"),
                Table("Each", ("name", "share"), [("a|b", "1%"), ("<i>", "2%")], fold_after=1),
                Beside([Drawing(Markup("<svg></svg>"), "drawn"), Words("beside")]),
            ]),
            Section("drawn", "Drawn alone", [Drawing(Markup("<svg></svg>"), "nothing but a picture")]),
        ],
        {"protocol": "accuracy", "results": {"top1": 0.125}},
    )  # fmt: skip


def test_three_files_say_the_same(tmp_path):
    page = save_report(tmp_path / "new" / "folder", found())
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json", "report.md"]
    stored = json.loads((page.parent / "report.json").read_text())
    assert stored == {"vitreous_evaluation": 1, "protocol": "accuracy", "results": {"top1": 0.125}}
    assert (page.parent / "report.md").read_text() == render_markdown(found())
    reader = Reader(page.read_text())
    assert not reader.open
    assert [attributes["id"] for tag, attributes in reader.tags if tag == "section"] == ["results", "more", "drawn"]
    assert "1 more" in reader.words
    assert "of <b>" in "".join(reader.words)


def test_markdown_is_whole_and_has_no_pictures():
    assert render_markdown(found()) == (
        "# A model on photographs\n\nOne \\| two\n\n## Results\n\n- top-1: **12.5%** (of 8)\n- images: **8**\n\n"
        "## More\n\na\\_b\n\n> **Beware.** of \\<b>\n\nEach:\n\n| name | share |\n| --- | ---: |\n"
        "| a\\|b | 1% |\n| \\<i> | 2% |\n\nbeside\n"
    )


@pytest.mark.parametrize("classes", [HOSTILE, tuple(f"class {n}" for n in range(12)), tuple(map(str, range(50)))])
def test_accuracy_of_any_names_and_any_number_of_classes(classes):
    metrics = measured(classes)
    report = Report(HOSTILE[0], HOSTILE[1], build_sections(metrics), metrics.to_dict())
    reader = Reader(render_html(report).decode())
    assert not reader.open
    assert not [tag for tag, _ in reader.tags if tag in ("script", "img")]
    assert f"{metrics.top1:.1%}" in "".join(reader.words)
    text = render_markdown(report)
    assert f"**{metrics.top1:.1%}**" in text
    assert "<script" not in text.replace("\\<script", "")
    assert "\u202e" not in text


def test_a_model_that_is_never_wrong_has_no_confusions():
    labels = np.arange(6) % 3
    text = render_markdown(
        Report("", "", build_sections(evaluate_logits(np.eye(3)[labels] * 9, labels, ("a", "b", "c"))))
    )
    assert "No image was taken for another class." in text


def test_what_is_no_number_in_json_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_report(tmp_path / "out", Report("", "", [], {"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_report(tmp_path / "file", found())


def test_text_stays_text_on_one_line():
    assert escape_markdown("a\n# b\t[c](d)") == "a # b \\[c\\](d)"
    assert escape_markdown("AT&T at 1:2, starter@0a") == "AT&T at 1:2, starter@0a"
    assert escape_markdown("https://a.b www.a.b c@a.b &lt;") == r"https\://a.b www\.a.b c\@a.b \&lt;"


def test_a_number_is_never_broken_and_a_sentence_is():
    shown = Table("Cost", ("what", "value"), [("images", "1,024"), ("measured with", "batch 64, fp32, cpu, 1 thread")])
    assert '<td class="right">1,024</td>' in shown.html()
    assert '<td class="right long">batch 64' in shown.html()


def test_what_scrolls_is_reached_by_keyboard_and_named():
    blocks = (
        Table("Cost", ("what",), [("images",)]), Drawing(Markup("<svg></svg>"), "drawn", least=300), Code("pip"), Code("pip", "all lines")
    )  # fmt: skip
    for block in blocks:
        for tag, attributes in Reader(block.html()).tags:
            if tag == "pre" or attributes.get("class") == "scroll":
                assert attributes["tabindex"] == "0" and attributes["role"] == "region" and attributes["aria-label"]


def test_a_name_from_right_to_left_moves_nothing_beside_it():
    picture = Picture(np.zeros((2, 2, 3), np.uint8), "a")
    shown = Tiles([Tile(picture, [Line("\u05db\u05dc\u05d1", "12.5%")], "\u05d0.png")]).html()
    assert '<bdi class="name">\u05db\u05dc\u05d1</bdi> 12.5%' in shown and '<bdi class="file">\u05d0.png</bdi>' in shown
