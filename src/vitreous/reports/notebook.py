"""Pages and progress within a notebook."""

from collections.abc import Sequence
from html import escape

from vitreous.runtime.display import escape_text

HEIGHT = 640
"""Pixels of a page's frame; longer pages scroll."""
PLAIN = "margin:0;padding:0;border:0;background:transparent;color:inherit;white-space:pre-wrap"
"""The notebook's own style, readable in light and in dark."""


def embed_page(page: str) -> str:
    """Return a frame that shows a whole HTML page within another, so that their styles don't affect each other."""
    return f'<iframe srcdoc="{escape(page)}" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'


def draw_progress(phase: str | None, bar: tuple[int, int, str] | None, lines: Sequence[str]) -> dict[str, str]:
    """Return the progress of some work, as HTML and as text, by their MIME types.

    Args:
        phase: the current wait; None: it is over.
        bar: the amount done, the whole amount, and figures in words.
        lines: the messages, the last one at the bottom.
    """
    figures = f"{bar[0]:,}/{bar[1]:,}  {bar[2]}".rstrip() if bar else "..."
    said = [] if phase is None else [f"{phase}  {figures}"]
    share = f"{100 * min(1.0, bar[0] / bar[1]):.1f}%" if bar and bar[1] else "0"
    drawn = "".join(
        f'<pre style="{PLAIN}">{escape_text(line)}</pre><div style="height:5px;margin:3px 0 6px;border-radius:3px;'
        f'background:#8885"><div style="width:{share};height:5px;border-radius:3px;background:#2a78d6"></div></div>'
        for line in said
    )
    box = "display:flex;flex-direction:column-reverse;max-height:15em;overflow:auto"  # the end is visible
    text = escape_text("\n".join(lines))
    drawn += f'<div style="{box}"><pre style="{PLAIN}">{text}</pre></div>' if lines else ""
    return {"text/html": drawn, "text/plain": "\n".join([*lines, *said])}
