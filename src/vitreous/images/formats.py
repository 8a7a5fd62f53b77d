"""Image formats: which are read, from which endings they are known, and what to do about the others. No Pillow here."""

from functools import cache
from importlib.util import find_spec

READ = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Formats that are always read: Pillow's name -> endings. Pillow is asked for these alone, whatever else it knows."""
EXTRA = {"HEIF": (".heic", ".heif", ".hif")}
"""Formats that `vitreous[formats]` reads."""
MODULE = {"HEIF": "pillow_heif"}
REMEDY = "install vitreous[formats]"
SAVE = "not read; save as PNG, JPEG or TIFF"
UNREAD = dict.fromkeys(
    (
        *(
            ".3fr",
            ".ai",
            ".arw",
            ".cr2",
            ".cr3",
            ".cur",
            ".dcm",
            ".dcx",
            ".dds",
            ".dib",
            ".dicom",
            ".dng",
            ".emf",
            ".eps",
        ),
        *(
            ".exr",
            ".fit",
            ".fits",
            ".flc",
            ".fli",
            ".hdr",
            ".icns",
            ".ico",
            ".j2c",
            ".j2k",
            ".jls",
            ".jp2",
            ".jpc",
            ".jpf",
        ),
        *(
            ".jpx",
            ".jxl",
            ".jxr",
            ".nef",
            ".nii",
            ".orf",
            ".pam",
            ".pcd",
            ".pcx",
            ".pdf",
            ".pfm",
            ".ps",
            ".psb",
            ".psd",
        ),
        *(
            ".qoi",
            ".raf",
            ".ras",
            ".rw2",
            ".sgi",
            ".srw",
            ".svg",
            ".svgz",
            ".tga",
            ".wdp",
            ".wmf",
            ".xbm",
            ".xcf",
            ".xpm",
        ),
    ),
    SAVE,
)
"""Endings of images that are not read."""


@cache
def extra_installed(name: str) -> bool:
    """Tell whether a format of EXTRA can be read here."""
    return find_spec(MODULE[name]) is not None


def formats() -> tuple[str, ...]:
    """Return the names of the formats that can be read here."""
    return (*READ, *(name for name in EXTRA if extra_installed(name)))


@cache
def suffixes() -> frozenset[str]:
    """Return the endings, in lower case, of files that can be read here; their format is told by content alone."""
    return frozenset(ending for name in formats() for ending in (READ | EXTRA)[name])


def remedy(suffix: str) -> str | None:
    """Say what to do about files with an ending: "" if they are read, None if it isn't an image's.

    >>> remedy(".JPG"), remedy(".txt"), remedy(".psd")
    ('', None, 'not read; save as PNG, JPEG or TIFF')
    """
    ending = suffix.lower()
    if ending in suffixes():
        return ""
    return REMEDY if any(ending in endings for endings in EXTRA.values()) else UNREAD.get(ending)
