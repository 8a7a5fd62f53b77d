"""Image formats: which are supported, by which extensions they are known, and what to do about others. No Pillow
here."""

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


STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "Photoshop (PSD)": (b"8BPS",),
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "DDS": (b"DDS ",),
    "ICO": (b"\0\0\1\0", b"\0\0\2\0"),
    "ICNS": (b"icns",),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "JPEG XR": (b"II\xbc",),
    "WMF": (b"\xd7\xcd\xc6\x9a", b"\1\0\x09\0"),
    "EMF": (b"\1\0\0\0",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "FITS": (b"SIMPLE  =",),
    "Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
    "QOI": (b"qoif",),
    "XCF": (b"gimp xcf",),
    "SVG or other XML": (b"<svg", b"<?xml"),
}
BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"),
}
"""Brands of ISO media files; a file with both kinds is AVIF, since mif1 is every still image's."""


def sniff_format(data: bytes) -> str | None:
    """Recognise a format by a file's first bytes: one of READ or EXTRA, or the name of another known format.

    >>> sniff_format(b"GIF89a..."), sniff_format(b"%PDF-1.4"), sniff_format(b"hello")
    ('GIF', 'PDF', None)
    """
    if data[4:8] == b"ftyp":
        named = data[8 : max(16, min(256, int.from_bytes(data[:4])))]
        brands = {named[place : place + 4] for place in range(0, len(named), 4)}
        return next((name for name, known in BRANDS.items() if brands & set(known)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[128:132] == b"DICM":
        return "DICOM"
    return next((name for name, starts in STARTS.items() if data.startswith(starts)), None)
