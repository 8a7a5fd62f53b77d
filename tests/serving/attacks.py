"""Requests as nobody should send them: images that are mutated, polyglots or bombs, bodies that break off or are malformed, names like
paths, addresses and heads that are no HTTP. The n-th one is a function of (seed, n)."""

import base64
import json
import random
import socket
import struct
import time
import zlib
from dataclasses import dataclass, field

from tests.serving.conftest import draw_image

PLACES = ("/v1/predict", "/v1/embed", "/v1/explain", "/v1/inside")
GOOD = [
    draw_image(1),
    draw_image(2, "JPEG"),
    draw_image(3, "WEBP"),
    draw_image(4, "GIF"),
    draw_image(5, "BMP"),
    draw_image(6, "TIFF"),
]
NAMES = (
    "../../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "C:\\CON", "a\x00.png", "\x1b[2Ja.png", "%2e%2e%2fa.png", "a" * 5000, "", ".", "..",
    "\u202egnp.exe", "a\r\nX-Injected: 1", "'; DROP TABLE images; --", "<script>alert(1)</script>.png", "\ud83d\ude00.png".encode("utf-16", "surrogatepass").decode("utf-16"),
)  # fmt: skip
OPTIONS = ("top", "model", "layer", "head", "query", "target", "format", "method", "probabilities", "nothing", "")
VALUES = (
    "-1", "0", "1e9", "9" * 400, "nan", "null", "true", "../../etc", "%00", "%ff%fe", "\u0661".encode().hex(), "all", "png", "npy", "attention",
    "rollout", "animals", "headless", "{}", "[]", "a" * 3000, "%0d%0aX-Injected:1", "<script>", "-1000", "fox",
)  # fmt: skip


@dataclass
class Attack:
    """One request: what is sent, piece by piece, with seconds of silence after a piece."""

    kind: str
    pieces: list[tuple[bytes, float]]
    leaves: bool = False
    """Closes without waiting for an answer."""
    said: bytes = field(default=b"", init=False)
    took: float = field(default=0.0, init=False)

    @property
    def status(self) -> int:
        """The answer's status; 0: the connection was closed without one."""
        return int(self.said.split(b" ", 2)[1]) if self.said.startswith(b"HTTP/1.1 ") else 0

    def send(self, host: str, port: int, patience: float) -> None:
        """Send it, and read the answer until the connection ends; raises TimeoutError for a service that hangs."""
        began = time.monotonic()
        with socket.create_connection((host, port), timeout=patience) as sent:
            try:
                for piece, pause in self.pieces:
                    sent.sendall(piece)
                    time.sleep(pause)
                while not self.leaves and (part := sent.recv(65536)):
                    self.said += part
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.took = time.monotonic() - began


def draw_attack(seed: int, number: int) -> Attack:
    """Return the n-th request."""
    draw = random.Random(f"{seed}/{number}")
    make = draw.choice((mutated, mutated, bomb, polyglot, form, cut_form, words, options, head, chunks, stalled, left))
    return make(draw)


def request(draw: random.Random, body: bytes, kind: str, address: str | None = None) -> bytes:
    """Return a whole request with a body, which ends its connection."""
    place = address or draw.choice(PLACES)
    said = f"POST {place} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return said.encode("latin-1", "replace") + body


def mutate(draw: random.Random, data: bytes) -> bytes:
    """Return a file with some bytes changed, cut, doubled or from another file."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        place = draw.randrange(max(1, len(found)))
        match draw.randrange(5):
            case 0:
                found[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                del found[place:]
            case 2:
                found[place:place] = found[place : place + draw.randint(1, 400)]
            case 3:
                other = draw.choice(GOOD)
                found[place:] = other[draw.randrange(len(other)) :]
            case 4:
                found[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
    return bytes(found)


def mutated(draw: random.Random) -> Attack:
    data = mutate(draw, draw.choice(GOOD))
    if draw.random() < 0.3:
        return Attack(
            "mutated",
            [
                (
                    request(
                        draw, json.dumps({"images": [base64.b64encode(data).decode()]}).encode(), "application/json"
                    ),
                    0,
                )
            ],
        )
    return Attack("mutated", [(request(draw, data, draw.choice(("image/png", "application/octet-stream"))), 0)])


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """Return a PNG that says to be so large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    first = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", first) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(draw: random.Random) -> Attack:
    side = draw.choice((1, 3000, 30_000, 65_535, 2**31 - 1))
    zeros = zlib.compress(bytes(draw.choice((10_000, 20_000_000))), 9)
    match draw.randrange(4):
        case 0:
            data = png(side, draw.choice((1, side)), 8, draw.choice((0, 2, 3, 6)), zeros)
        case 1:
            data = (
                b"GIF89a"
                + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
                + b",\0\0\0\0\xff\xff\xff\xff\0\x08\xff"
                + b"\xff" * 2000
            )
        case 2:
            data = b"BM" + struct.pack(
                "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side % 2**31, -side, 1, 24, 0, 0, 1, 1, 0, 0
            )
        case _:  # more text than image, compressed
            text = b"zTXt" + b"a\0\0" + zeros
            good = GOOD[0]
            data = good[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + good[33:]
    return Attack("bomb", [(request(draw, data, "image/png"), 0)])


def polyglot(draw: random.Random) -> Attack:
    other = draw.choice(
        (
            b"<script>alert(1)</script>",
            b"PK\x03\x04" + bytes(60),
            b"%PDF-1.4\n%%EOF",
            b"\x7fELF" + bytes(60),
            b"GIF89a/*",
            b"<svg onload=alert(1)>",
        )
    )
    one, two = draw.sample((draw.choice(GOOD), other), 2)
    return Attack(
        "polyglot",
        [(request(draw, one + two, draw.choice(("image/png", "image/svg+xml", "text/html", "application/pdf"))), 0)],
    )


def part(draw: random.Random, data: bytes) -> bytes:
    name = draw.choice(NAMES).encode("utf-8", "surrogatepass")
    field_name = draw.choice((b"images", b"a", b"", b"images[]"))
    said = draw.choice(
        (
            b'form-data; name="%b"; filename="%b"',
            b"form-data; name=%b; filename=%b",
            b"form-data; name=\"%b\"; filename*=UTF-8''%b",
        )
    )
    return b"--x\r\nContent-Disposition: " + said % (field_name, name) + b"\r\n\r\n" + data + b"\r\n"


def form(draw: random.Random) -> Attack:
    parts = [
        part(draw, draw.choice((draw.choice(GOOD), b"", mutate(draw, GOOD[0]))))
        for _ in range(draw.choice((1, 1, 2, 5, 300)))
    ]
    return Attack(
        "form", [(request(draw, b"".join(parts)[:190_000] + b"--x--\r\n", "multipart/form-data; boundary=x"), 0)]
    )


def cut_form(draw: random.Random) -> Attack:
    body = part(draw, GOOD[0]) + b"--x--\r\n"
    kind = draw.choice(
        (
            "multipart/form-data; boundary=x",
            'multipart/form-data; boundary="x',
            "multipart/form-data",
            "multipart/mixed; boundary=" + "y" * 3000,
        )
    )
    return Attack("cut form", [(request(draw, mutate(draw, body[: draw.randrange(len(body))]), kind), 0)])


def value(draw: random.Random, depth: int = 0) -> object:
    """Return a JSON value of any kind."""
    simple = (
        None,
        True,
        -1,
        1e308,
        "",
        "a" * 100,
        "http://127.0.0.1/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,",
        "\ud800",
    )
    match draw.randrange(4 if depth < 4 else 1):
        case 1:
            return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
        case 2:
            return {
                draw.choice(("images", "name", "data", "__proto__", "")): value(draw, depth + 1)
                for _ in range(draw.randrange(4))
            }
        case 3:
            return base64.b64encode(mutate(draw, GOOD[0])).decode()[: draw.randrange(5000)]
    return draw.choice(simple)


def words(draw: random.Random) -> Attack:
    body = draw.choice((
        json.dumps({"images": value(draw)}).encode(), json.dumps(value(draw)).encode(), b"[" * 50_000, b'{"images":' * 9000, b'{"images": [NaN, Infinity]}',
        b"\xff\xfe{\0}\0", b'{"images": ["' + b"A" * 100_000 + b'"]}', b'{"images": [' + b"9" * 5000 + b"]}",
    ))  # fmt: skip
    return Attack(
        "words",
        [(request(draw, body, draw.choice(("application/json", "application/json; charset=utf-7", "text/json"))), 0)],
    )


def options(draw: random.Random) -> Attack:
    asked = "&".join(f"{draw.choice(OPTIONS)}={draw.choice(VALUES)}" for _ in range(draw.randint(1, 5)))
    return Attack("options", [(request(draw, draw.choice(GOOD), "image/png", f"{draw.choice(PLACES)}?{asked}"), 0)])


def head(draw: random.Random) -> Attack:
    first = draw.choice((
        "GET / HTTP/9.9", "POST /v1/predict", "\0\0\0", "BREW /v1/predict HTTP/1.1", "GET /../../etc/passwd HTTP/1.1", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        "GET " + "/a" * 40_000 + " HTTP/1.1", "GET /problems/%00 HTTP/1.1", "GET //evil.example/ HTTP/1.1", "POST /v1/predict HTTP/1.1", "HEAD / HTTP/1.1",
        "GET http://evil.example/ HTTP/1.1", "CONNECT evil.example:80 HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /examples/..%5c..%5cmain.js HTTP/1.1",
    ))  # fmt: skip
    more = draw.choice((
        "Content-Length: -1", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 99999999999999999999", "Content-Length: \xb2", "A: " + "b" * 70_000,
        "Transfer-Encoding: chunked\r\nContent-Length: 4", "Transfer-Encoding: gzip", "Upgrade: websocket\r\nConnection: Upgrade", "X-Request-ID: a\tb",
        "Content-Type: image/png\r\nContent-Encoding: gzip\r\nContent-Length: 0", "Expect: 100-continue\r\nContent-Length: 0", " folded", "Range: bytes=-1,9-1",
        "\r\n".join(f"H{number}: a" for number in range(300)), "If-Modified-Since: yesterday", "Cookie: " + "a=b;" * 3000,
    ))  # fmt: skip
    return Attack("head", [(f"{first}\r\nHost: a\r\nConnection: close\r\n{more}\r\n\r\n".encode("latin-1"), 0)])


def chunks(draw: random.Random) -> Attack:
    said = f"POST {draw.choice(PLACES)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = draw.choice(
        (
            b"zz\r\nabc\r\n",
            b"ffffffffffffffff\r\n",
            b"-5\r\nabcde\r\n0\r\n\r\n",
            b"4\r\nabcdefgh\r\n0\r\n\r\n",
            b"5;a=" + b"b" * 20_000 + b"\r\nabcde\r\n0\r\n\r\n",
            b"0\r\n\r\n",
        )
    )
    return Attack("chunks", [(said, 0), (body, 0)])


def stalled(draw: random.Random) -> Attack:
    whole = request(draw, draw.choice(GOOD), "image/png")
    place = draw.randrange(1, len(whole))
    return Attack("stalled", [(whole[:place], 0)])


def left(draw: random.Random) -> Attack:
    whole = request(draw, draw.choice(GOOD), "image/png")
    return Attack(
        "left",
        [(whole[: draw.choice((len(whole), draw.randrange(1, len(whole))))], draw.choice((0, 0.005)))],
        leaves=True,
    )
