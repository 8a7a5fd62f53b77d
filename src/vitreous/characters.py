"""Characters that names can't hold, or that a terminal must not get."""

import unicodedata

CONTROLS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and ends of lines."""
UNREADABLE = (*CONTROLS, "Cs")
"""Those, and the category of surrogates, which also stand for bytes that are not UTF-8."""


def holds(text: str, categories: tuple[str, ...]) -> bool:
    """Return whether a text has a character of these categories of Unicode."""
    return not text.isprintable() and any(unicodedata.category(one) in categories for one in text)


def escape(text: str) -> str:
    """Escape what would break a line or a terminal: control characters, and bytes that are not UTF-8."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii", "backslashreplace")
        for character in text
    )
