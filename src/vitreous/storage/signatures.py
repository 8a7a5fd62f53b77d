"""Recognise an unreadable file by its first bytes: an archive, a web page, a pointer of Git LFS."""

SIGNATURES = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, and what it points at was not fetched: run `git lfs pull`",
    ),
    (b"\x89HDF\r\n", "it is an HDF5 file, as Keras writes them"),
    (b"GGUF", "it is a GGUF file"),
    (b"PK\3\4", "it is a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd; unpack it first"),
    (b"\xfd7zXZ", "it is compressed by xz; unpack it first"),
    (b"Rar!", "it is a RAR archive; unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive; unpack it first"),
)
"""Beginnings of files, and descriptions of such files."""


def explain_start(start: bytes) -> str:
    """Describe a file with this beginning; empty if the beginning doesn't tell. 1,024 bytes are enough.

    >>> explain_start(b"PK\\3\\4..."), explain_start(b"hello")
    ('it is a ZIP archive; unpack it first', '')
    """
    if found := next((said for sign, said in SIGNATURES if start.startswith(sign)), ""):
        return found
    if start.lstrip()[:1] == b"<" and b"html" in start.lower():
        return "it is a web page, as servers send them in place of a file"
    return "it is a tar archive; unpack it first" if start[257:262] == b"ustar" else ""
