"""The documents as a site: both languages, and the public functions from their docstrings. Built by `make site`, from the repository's root."""

import gettext
import logging
import re
from pathlib import Path

import jieba
import sphinx
from sphinx.search.zh import SearchChinese

ROOT = Path(__file__).resolve().parents[2]

project, author = "vitreous", "The vitreous authors"
html_title = project
root_doc = "docs/site/contents"
include_patterns = ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "examples/*.ipynb"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block"]
suppress_warnings = ["myst.header"]
nb_execution_mode = "off"  # tests/test_notebooks.py runs them

default_role = "literal"
highlight_language = "none"  # what a program prints is no Python, as blocks without a language are taken for
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False

html_theme = "furo"
html_search_language = "zh"  # words of both languages: Chinese ones are cut by jieba, the rest is read as English
SearchChinese.language_name = "English"  # whose stemmer it brings; Sphinx 9.0 has the browser look for a Chinese one
jieba.setLogLevel("WARNING")
for term in re.findall(
    r"[\u4e00-\u9fff]{2,}", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Terms")[2]
):
    jieba.add_word(term)
html_additional_pages = {"index": "start.html"}
templates_path = ["templates"]
html_copy_source = False
html_show_sphinx = html_show_copyright = False

CHINESE = gettext.translation("sphinx", Path(sphinx.__file__).parent / "locale", ["zh_CN"])


def say_in_chinese(app, page, template, context, doctree):
    """Let the words around a Chinese document be Chinese too."""
    if page == "README.zh-CN" or page.startswith("docs/zh/"):
        context |= {"_": CHINESE.gettext, "language": "zh-CN"}


AS_MYST = [
    (r'^<a id="([\w-]+)"></a>$', r"{#\1}"),
    (r"\]\(((?:docs/)?(?:zh/)?decisions)\)", r"](\1/0001-stream-is-a-pure-function.md)"),
    (r"^```storeys$", "```text"),
]
"""What is written for GitHub otherwise: anchors above headings, a link to a folder, a block that a test reads."""


def write_as_myst(app, document, text):
    """Write a document's few lines that MyST has another way for in that way."""
    for pattern, instead in AS_MYST:
        text[0] = re.sub(pattern, instead, text[0], flags=re.MULTILINE)


def setup(app):
    """Connect the above; an anchor may be in several documents, since links name the document too."""
    logging.getLogger("sphinx.sphinx.domains.std").addFilter(lambda record: "duplicate label" not in record.msg)
    app.connect("source-read", write_as_myst)
    app.connect("html-page-context", say_in_chinese)
