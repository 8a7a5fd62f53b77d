"""The site: every public name is told, and pages need no network and are found by words of both languages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vitreous

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"(?:https?:)?//[^\"]*")


def test_every_public_name_is_told_once():
    told = re.findall(r"^\.\. auto\w+:: vitreous\.(\w+)$", (SITE / "api.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(vitreous.__all__)


@pytest.mark.slow
def test_pages_need_no_network_and_are_searched_in_both_languages(tmp_path):
    how = ["-b", "html", "-j", "auto", "-W", "-q", "-D", "nb_execution_mode=off", "-c", SITE, "-d", tmp_path / "cache"]
    command = [sys.executable, "-m", "sphinx", *how, ROOT, tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"README.html", "README.zh-CN.html", "index.html", "search.html", "api.html"} <= {
        page.name for page in pages
    }
    fetched = {page.name: FETCHED.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: found for name, found in fetched.items() if found} == {}
    assert 'lang="zh-CN"' in (tmp_path / "site" / "docs" / "zh" / "tour.html").read_text(encoding="utf-8")
    index = (tmp_path / "site" / "searchindex.js").read_text(encoding="utf-8")
    assert "ChineseStemmer" not in (tmp_path / "site" / "_static" / "language_data.js").read_text(encoding="utf-8")
    for word in ("calibr", "注意力", "预训练"):
        assert f"{json.dumps(word)}:" in index
