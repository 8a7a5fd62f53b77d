"""Pages from templates: a single self-contained HTML file for light and dark, wide and narrow.

Everything that a template shows is escaped, with hidden characters replaced; only `Markup` stays as it is.
"""

import functools
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from vitreous.runtime.display import strip_hidden

BLOCKS = "drawing/blocks.html"
"""The macros that draw blocks."""
STYLES = ("drawing/palette.css", "drawing/page.css", "drawing/charts.css")


def _show(value: Any) -> Any:
    return value if hasattr(value, "__html__") else strip_hidden(value)


@functools.cache
def build_environment() -> Any:
    """Return the templates, by their paths in the package."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("vitreous", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_macro(name: str, *values: Any, template: str = BLOCKS) -> Markup:
    """Return a macro's output for values."""
    return getattr(build_environment().get_template(template).module, name)(*values)


def read_resource(name: str) -> str:
    """Return a text file of the package, by its path in it."""
    return (files("vitreous") / name).read_text(encoding="utf-8")


def render_page(
    title: str, lead: Sequence[Any], sections: Sequence[Any], foot: str, style: str = "", script: str = ""
) -> bytes:
    """Return the whole file.

    Only the given script may run in a browser: the page names its hash.

    Args:
        title: also the first heading.
        lead: blocks below the title (`reports/blocks.py`).
        sections: each with an anchor, a title and blocks.
        foot: what wrote it, and when.
        style: CSS, added to the page's own.
        script: JavaScript.
    """
    parts = {
        "title": title,
        "lead": lead,
        "sections": sections,
        "foot": foot,
        "style": Markup("".join(map(read_resource, STYLES)) + style),
        "script": Markup(script),
        "hash": b64encode(sha256(script.encode()).digest()).decode(),
    }
    return build_environment().get_template("drawing/page.html").render(parts).encode()
