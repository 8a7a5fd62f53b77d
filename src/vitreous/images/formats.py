"""Image formats: which are supported, by which extensions they are known, and what to do about others."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

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
"""Formats that are always supported: Pillow's name -> extensions. Only these of Pillow's formats are used."""
EXTRA = {"HEIF": (".heic", ".heif", ".hif")}
"""Formats that `vitreous[formats]` adds."""
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
"""Extensions of images that are not supported."""
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".ogv")
)
"""Extensions of videos."""


@cache
def is_extra_installed(name: str) -> bool:
    """Return whether a format of EXTRA can be read here."""
    return find_spec(MODULE[name]) is not None


def list_formats() -> tuple[str, ...]:
    """Return the names of the formats that can be read here."""
    return (*READ, *(name for name in EXTRA if is_extra_installed(name)))


@cache
def list_suffixes() -> frozenset[str]:
    """Return the extensions, in lower case, of files that can be read here; formats are recognised by content alone."""
    return frozenset(extension for name in list_formats() for extension in (READ | EXTRA)[name])


def is_video(path: str | Path) -> bool:
    """Return whether a file is a video, by its extension."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def suggest_remedy(suffix: str) -> str | None:
    """Return what to do about files with an extension: "" if they are supported, None if it isn't an image's.

    >>> suggest_remedy(".JPG"), suggest_remedy(".txt"), suggest_remedy(".psd")
    ('', None, 'not read; save as PNG, JPEG or TIFF')
    """
    extension = suffix.lower()
    if extension in list_suffixes():
        return ""
    return REMEDY if any(extension in extensions for extensions in EXTRA.values()) else UNREAD.get(extension)
