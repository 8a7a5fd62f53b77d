"""Pages and figures within a notebook."""

from html import escape

HEIGHT = 640
"""Pixels of a page's frame; what is longer scrolls."""


def embed_page(page: str) -> str:
    """Return a frame that shows a whole HTML page within another, so that the styles of the two don't meet."""
    return f'<iframe srcdoc="{escape(page)}" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'


def format_text(figures: object) -> str:
    """Return figures that are aligned for a terminal, as HTML."""
    return f"<pre>{escape(str(figures))}</pre>"
