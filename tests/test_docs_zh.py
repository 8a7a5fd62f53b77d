"""The Chinese documents say what the English ones say: whoever changes one changes the other.

A pair is compared section by section: depth of the heading, code but for its comments, links, quoted names, tables and
numbers. Words are left to the translator. Between `<!-- zh -->` and `<!-- /zh -->` stands what only Chinese readers need.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
DOCS, ZH = ROOT / "docs", ROOT / "docs" / "zh"
PAIRS = {ROOT / "README.md": ROOT / "README.zh-CN.md"} | {
    english: ZH / english.relative_to(DOCS)
    for english in sorted(DOCS.glob("**/*.md"))
    if not english.is_relative_to(ZH)
}
ENGLISH_OF = {chinese: english for english, chinese in PAIRS.items()}

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?: ?(million|万|亿))?")
TIMES = {"million": 10**6, "万": 10**4, "亿": 10**8}
ONLY_CHINESE = re.compile(r"<!-- zh -->.*?<!-- /zh -->", re.DOTALL)


def sections(document):
    """Return a document's text from each heading to the next, code replaced by the number of its block, and its code."""
    text = ONLY_CHINESE.sub("", document.read_text(encoding="utf-8"))
    blocks = [
        (match["language"], re.sub(r"\s+#.*$", "", match["code"], flags=re.MULTILINE)) for match in FENCE.finditer(text)
    ]
    return re.split(r"^(?=#+ )", FENCE.sub("(code)", text), flags=re.MULTILINE)[1:], blocks


def in_english(place):
    """Return the English document or folder for a Chinese one; any other path as it is."""
    return DOCS / place.relative_to(ZH) if place.is_relative_to(ZH) else ENGLISH_OF.get(place, place)


def in_chinese(place):
    return ZH / place.relative_to(DOCS) if place.is_relative_to(DOCS) else PAIRS.get(place, place)


def link_targets(text, document):
    """Return where a section's links lead, seen from the English document; but for that to the other language."""
    found, chinese = Counter(), in_english(document) != document
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if ":" in target:
            found[target] += 1
            continue
        place = (document.parent / path).resolve() if path else document
        if place == (in_english(document) if chinese else in_chinese(document)):
            continue
        if chinese and in_english(place) == place:
            assert not in_chinese(place).is_relative_to(ZH) or not in_chinese(place).exists(), (
                f"{target} is in Chinese too"
            )
        found[f"{in_english(place).relative_to(ROOT)}#{anchor}"] += 1
    return found


def without_links(text):
    return LINK.sub("]", text)


def quoted(text):
    """Return the names in code quotes, each once."""
    return {re.sub(r"\s+", " ", name) for name in CODE.findall(text)}


def numbers(text):
    """Return the numbers of a text in digits: 3 million and 300 万 are the same."""
    found = Counter()
    for whole, fraction, times in NUMBER.findall(without_links(text)):
        value = float(whole.replace(",", "") + fraction) * TIMES.get(times, 1)
        found[f"{value:.10g}"] += 1
    return found


def table_numbers(text):
    """Return for each row of a section's tables the number of its cells, and its numbers."""
    rows = (re.sub(r"\\\|", "", row) for row in ROW.findall(text))
    return [(row.count("|") - 1, numbers(row)) for row in rows if not re.fullmatch(r"[|\s:-]+", row)]


def recipe_settings(text):
    """Return the settings and values of the tables that tests/test_docs.py holds against the code."""
    marked = re.findall(r"<!-- (recipe [^>]*) -->\n((?:\|.*\n)+)", text)
    return [(facts, [row.split("|")[1:3] for row in table.splitlines()[2:]]) for facts, table in marked]


def name(document):
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize(("english", "chinese"), PAIRS.items(), ids=[name(english) for english in PAIRS])
def test_the_chinese_document_says_what_the_english_one_says(english, chinese):
    assert chinese.exists(), f"{name(chinese)} is missing; CONTRIBUTING.md has the terms"
    (ours, code), (theirs, their_code) = sections(english), sections(chinese)
    assert code == their_code
    assert [one.partition(" ")[0] for one in ours] == [one.partition(" ")[0] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        title = f"{name(chinese)}: {other.splitlines()[0]}"
        assert link_targets(one, english) == link_targets(other, chinese), title
        assert quoted(one) == quoted(other), title
        assert table_numbers(one) == table_numbers(other), title
        assert set(numbers(one)) == set(numbers(other)), title
        assert recipe_settings(one) == recipe_settings(other), title


@pytest.mark.parametrize("chinese", PAIRS.values(), ids=[name(chinese) for chinese in PAIRS.values()])
def test_what_is_bold_is_shown_bold(chinese):
    """Two asterisks between a Chinese full stop and the next word close nothing: the stop belongs behind them."""
    rendered = re.sub(
        r"<(code|pre).*?</\1>", "", MarkdownIt().render(chinese.read_text(encoding="utf-8")), flags=re.DOTALL
    )
    assert not re.findall(r".*\*\*.*", rendered)


def test_every_chinese_document_has_its_english_one():
    assert set(ZH.glob("**/*.md")) <= set(ENGLISH_OF)
