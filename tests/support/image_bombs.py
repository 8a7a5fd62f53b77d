"""Small image files that claim much work or memory, laid out from bytes: name -> (suffix, bytes)."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 9400
"""Rows and columns of a picture just below the limit of pixels."""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(cols: int, rows: int, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A black PNG, compressed as far as deflate goes."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + cols * samples * depth // 8)
    packer = zlib.compressobj(9, wbits=-15)
    step = min(rows, 100)
    block = packer.compress(row * step) + packer.flush(zlib.Z_FULL_FLUSH)
    whole = zlib.adler32(row * rows) if rows < 100 else 0
    packed = b"\x78\xda" + block * (rows // step) + b"\3\0" + struct.pack(">I", whole)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", cols, rows, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def small_png(extra: bytes) -> bytes:
    return png(4, 4, 8, 2, extra)


def progressive_scans(count: int, side: int = 4000) -> bytes:
    """A progressive JPEG that repeats its last scan over and over, as refinements of nothing."""
    data = bytearray(saved(Image.new("L", (side, side), 128), "JPEG", progressive=True))
    last = data.rindex(b"\xff\xda")
    scan = bytes(data[last:-2])
    return bytes(data[:-2]) + scan * count + b"\xff\xd9"


def many_segments(count: int) -> bytes:
    data = saved(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xe5\x00\x02" * count + data[2:]


def tables_between_scans(count: int) -> bytes:
    data = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + b"\xff\xfe\x00\x02" * count + data[last:] + data[last:-2] * 30


def bmp_rle(cols: int, rows: int, body: bytes) -> bytes:
    palette = b"\1\2\3\0" * 256
    start = 54 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, cols, rows, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


def bmp(cols: int, rows: int, bits: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, cols, rows, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head + bytes(64)


def tiff(tags: list[tuple[int, int, int, int]], rest: bytes = b"", after: int = 0) -> bytes:
    """A little-endian TIFF of one directory at 8: (tag, type, count, value or offset)."""
    body = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value))
        for tag, kind, count, value in sorted(tags)
    )
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + struct.pack("<I", after) + rest


def claims(cols: int, rows: int, compression: int, bits: int = 8, samples: int = 1) -> list[tuple[int, int, int, int]]:
    return [
        *((256, 4, 1, cols), (257, 4, 1, rows), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1)),
        *((273, 4, 1, 200), (277, 3, 1, samples), (278, 4, 1, rows), (279, 4, 1, 20)),
    ]


def tiff_chain(count: int) -> bytes:
    """A one-pixel TIFF followed by a chain of directories, each of one entry."""
    first = 8 + 2 + 12 * 9 + 4
    links = b"".join(
        struct.pack("<HHHII", 1, 256, 4, 1, 1) + struct.pack("<I", first + 18 * (index + 1) if index < count - 1 else 0)
        for index in range(count)
    )
    tags = [
        (tag, kind, many, 8 if tag == 273 else 1 if tag == 279 else value) for tag, kind, many, value in claims(1, 1, 1)
    ]
    return tiff(tags, links, first)


def tiff_tags(count: int) -> bytes:
    """A TIFF whose entries all claim the same, whole file as their values."""
    rest = bytes(200_000)
    return tiff([*claims(4, 4, 1), *((40_000 + index, 1, 150_000, 500) for index in range(count))], rest)


def exif_overlap(count: int) -> bytes:
    body = b"II*\0" + struct.pack("<IH", 8, count)
    body += b"".join(struct.pack("<HHII", 40_000 + index, 1, 60_000 - 2000, 1000) for index in range(count))
    body = body[:65_000].ljust(65_000, b"\0")
    data = saved(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 8) + b"Exif\0\0" + body + data[2:]


def gif_blocks(count: int) -> bytes:
    """A one-pixel GIF after a comment of very many blocks of one byte."""
    data = saved(Image.new("L", (1, 1)), "GIF")
    place = data.index(b",\0\0\0\0")
    return data[:place] + b"\x21\xfe" + b"\x01c" * count + b"\0" + data[place:]


def gif_frames(count: int) -> bytes:
    data = saved(Image.new("L", (1, 1)), "GIF")
    place = data.index(b",\0\0\0\0")
    return data[:place] + data[place:-1] * count + b";"


def gif_claims(cols: int, rows: int) -> bytes:
    data = bytearray(saved(Image.new("L", (1, 1)), "GIF"))
    place = data.index(b",\0\0\0\0")
    data[6:10] = struct.pack("<HH", cols, rows)
    data[place + 5 : place + 9] = struct.pack("<HH", cols, rows)
    return bytes(data)


def webp_chunks(count: int) -> bytes:
    data = saved(Image.new("RGB", (8, 8)), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    body = data[12:] + b"JUNK\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_claims(cols: int, rows: int) -> bytes:
    bits = (cols - 1) | (rows - 1) << 14
    body = b"VP8L" + struct.pack("<I", 25) + b"\x2f" + struct.pack("<I", bits) + bytes(20)
    return b"RIFF" + struct.pack("<I", len(body) + 5) + b"WEBP" + body + b"\0"


def mpo_claims(count: int) -> bytes:
    """A JPEG whose list of further images is long and leads nowhere."""
    entries = b"".join(struct.pack("<LLLHH", 0, 100, 8, 0, 0) for _ in range(count))
    head = b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 0xB001, 4, 1, count)
    body = head + struct.pack("<HHII", 0xB002, 7, len(entries), len(head) + 16) + bytes(4) + entries
    data = saved(Image.new("CMYK", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 6) + b"MPF\0" + body + data[2:]


TEXT = zlib.compress(bytes(16 * 2**20), 9)
REFUSED = {
    "a progressive JPEG of 2,000 scans": lambda: (".jpg", progressive_scans(2000)),
    "a JPEG of 45 scans over 16 megapixels": lambda: (".jpg", progressive_scans(40)),
    "a JPEG of 200,000 segments": lambda: (".jpg", many_segments(200_000)),
    "a JPEG of 200,000 segments between scans": lambda: (".jpg", tables_between_scans(200_000)),
    "a BMP of a kilobyte, in runs": lambda: (".bmp", bmp_rle(SIDE, SIDE, b"\0\0" * 40)),
    "a BMP of skips": lambda: (".bmp", bmp_rle(SIDE, SIDE, b"\0\x02\xff\xff" * 10)),
    "a BMP that claims 24 bits a pixel": lambda: (".bmp", bmp(SIDE, SIDE, 24)),
    "a BMP of negative height": lambda: (".bmp", bmp(SIDE, -SIDE, 32)),
    "a TIFF of 163 bytes": lambda: (".tif", tiff(claims(SIDE, SIDE, 1, 8, 1), bytes(41))),
    "a TIFF that claims 64 bits a pixel, compressed": lambda: (".tif", tiff(claims(SIDE, SIDE, 8, 16, 4), bytes(200))),
    "a TIFF of entries that overlap": lambda: (".tif", tiff_tags(2000)),
    "a TIFF of tiles without size": lambda: (
        ".tif",
        tiff([*claims(40, 40, 1), (322, 4, 1, 0), (323, 4, 1, 0), (324, 4, 1, 8), (325, 4, 1, 1)], bytes(2000)),
    ),
    "a TIFF of a million strips": lambda: (
        ".tif",
        tiff([(273, 4, 10**6, 200) if tag[0] == 273 else tag for tag in claims(1, 10**6, 5)], bytes(4 * 10**6 + 500)),
    ),
    "a GIF that claims a large screen": lambda: (".gif", gif_claims(SIDE, SIDE)),
    "a GIF of a million blocks of comment": lambda: (".gif", gif_blocks(10**6)),
    "a PNG of 16 bits": lambda: (".png", png(SIDE, SIDE, 16, 0)),
    "a PNG of 16-bit grey and alpha": lambda: (".png", png(SIDE, SIDE, 16, 4)),
    "a PNG of colours and alpha": lambda: (".png", png(SIDE, SIDE, 8, 6)),
    "a PNG of 300,000 chunks": lambda: (".png", small_png(chunk(b"teSt", b"") * 300_000)),
    "a WebP of 300,000 chunks": lambda: (".webp", webp_chunks(300_000)),
    "a WebP that claims much": lambda: (".webp", webp_claims(9000, 9000)),
    "a PGM that claims much": lambda: (".pgm", b"P5 9400 9400 65535\n" + bytes(100)),
    "a PPM of comments": lambda: (".ppm", b"P3\n" + b"#\n" * 10**6),
    "an AVIF that claims much": lambda: (".avif", avif_claims(40_000, 40_000)),
}
"""Each is one error, at once."""
READ = {
    "a PNG with a giant text": lambda: (".png", small_png(chunk(b"zTXt", b"words\0\0" + TEXT))),
    "a PNG with a giant international text": lambda: (
        ".png",
        small_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TEXT)),
    ),
    "a PNG with a giant profile": lambda: (".png", small_png(chunk(b"iCCP", b"profile\0\0" + TEXT))),
    "a PNG with a giant raw profile": lambda: (".png", small_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + TEXT))),
    "a TIFF of 50,000 directories": lambda: (".tif", tiff_chain(50_000)),
    "a GIF of 200,000 frames": lambda: (".gif", gif_frames(200_000)),
    "a JPEG with EXIF whose entries overlap": lambda: (".jpg", exif_overlap(5000)),
    "a JPEG that lists 4,000 further images": lambda: (".jpg", mpo_claims(4000)),
    "an APNG that claims four billion frames": lambda: (
        ".png",
        small_png(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))),
    ),
}
"""Each is read, at once, whatever hangs on it."""


def avif_claims(cols: int, rows: int) -> bytes:
    data = saved(Image.fromarray(np.zeros((30, 40, 3), np.uint8)), "AVIF")
    return data.replace(b"ispe\0\0\0\0" + struct.pack(">II", 40, 30), b"ispe\0\0\0\0" + struct.pack(">II", cols, rows))
