"""What is ignored in a folder of images: system files, files that are not images, images of formats that can't be
read."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping

from vitreous.images.formats import suggest_remedy

JUNK = frozenset(
    (
        *("__macosx", "icon\r", "desktop.ini", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "picasa.ini"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "__pycache__"),
        *("@eadir", "#recycle", "#snapshot", "#synores", "@synoresource", "@tmp", "@recycle", "@recently-snapshot"),
    )
)
"""What macOS, Windows, NAS systems and tools leave in folders, in lower case; names that begin with a dot count too."""
SYSTEM = "system"
"""Counts hidden and system files, where others are counted by extension."""


def is_junk(name: str) -> bool:
    """Return whether a file or folder is hidden, or belongs to the system rather than the user."""
    return name.startswith(".") or name.lower() in JUNK


def name_kind(name: str) -> str:
    """Return the key under which an ignored file is counted: SYSTEM, or its extension as written."""
    return SYSTEM if is_junk(name) else os.path.splitext(name)[1]  # noqa: PTH122 (called for every file)


def describe_ignored(counts: Mapping[str, int], most: int = 8) -> str:
    """Describe what was ignored, by extension, with what to do about images.

    >>> describe_ignored({".psd": 2, ".PSD": 60, ".txt": 3, ".xmp": 12, "system": 4})
    '.PSD 62: not read; save as PNG, JPEG or TIFF; .xmp 12, .txt 3: not images; 4 hidden or of the system'
    """
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    for extension, count in counts.items():
        if extension != SYSTEM:
            spelt[extension.lower()][extension] += count
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for extension, spellings in spelt.items():
        name = spellings.most_common(1)[0][0] or "without extension"
        groups[suggest_remedy(extension) or "not images"][name] += spellings.total()
    said = [
        f"{', '.join(f'{name} {count:,}' for name, count in group.most_common(most))}"
        f"{f' and {len(group) - most} more extensions' if len(group) > most else ''}: {what}"
        for what, group in sorted(groups.items(), key=lambda item: (item[0] == "not images", item[0]))
    ]
    if counts.get(SYSTEM):
        said.append(f"{counts[SYSTEM]:,} hidden or of the system")
    return "; ".join(said)
