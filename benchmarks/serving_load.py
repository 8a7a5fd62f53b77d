"""A load on an HTTP service, from one process: requests as fast as they are answered, or at a steady rate.

    python benchmarks/serving_load.py URL --images FILE... (--clients N | --rate R) --seconds S [--way WAY]

Writes one line of JSON: answers by status, answers a second, and the percentiles of their latency in milliseconds, counted from the
moment when a request was due (at a steady rate) or sent. Connections are kept alive; a refusal is an answer of its status.
Needs no more than Python's own library, so that it takes little of the processor that it shares with nobody.
"""

import argparse
import asyncio
import base64
import json
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urljoin, urlsplit


class Connection:
    """One connection that is kept alive, opened anew after an error."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request, read its answer whole, and return its status; 0: the connection broke."""
        try:
            if self.streams is not None and self.streams[0].at_eof():
                self.close()  # by the server, as it was idle
            if self.streams is None:
                self.streams = await asyncio.open_connection(self.host, self.port)
            reader, writer = self.streams
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            fields = {
                name.strip().lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines[1:])
            }
            await read_body(reader, fields)
            if fields.get(b"connection", b"").lower() == b"close":
                self.close()
            return int(lines[0].split()[1])
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        """Drop the connection."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def read_body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> None:
    """Read a body of a known length, or one in chunks."""
    if fields.get(b"transfer-encoding", b"").lower() != b"chunked":
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    await reader.readline()


WAYS = ("bytes", "form", "litserve", "gradio", "mixed")
"""How an image is sent: as it is; as a file of form data, called as the service or as its peer wants it; as JSON; in all ways of the service."""
MIX = (
    *[("/v1/predict", "form", 1.0)] * 9, ("/v1/embed", "bytes", 1.0), ("/v1/embed", "json", 1.0), ("/v1/explain?method=rollout", "bytes", 1.0),
    ("/v1/explain?format=png", "form", 1.0), ("/v1/inside", "bytes", 1.0), ("/v1/predict", "bytes", 0.5), ("/v1/predict", "form", 0.5),
    ("/v1/predict?tops=3", "bytes", 1.0), ("/v1/predict?model=none", "bytes", 1.0), ("/v1/embed", "text", 1.0), ("/none", "json", 0.5),
)  # fmt: skip
"""Of 20 requests: the address, how its image is sent, and what share of the image's bytes; three in ten can't be answered."""


def build_body(image: bytes, way: str) -> tuple[str, bytes]:
    """Return the Content-Type and the body of a request for one image."""
    if way == "bytes":
        return "image/jpeg", image
    if way == "gradio":
        data = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        return "application/json", json.dumps({"data": [{"url": data, "meta": {"_type": "gradio.FileData"}}]}).encode()
    if way in ("json", "text"):
        return f"{'application' if way == 'json' else 'text'}/json", json.dumps(
            {"images": [base64.b64encode(image).decode()]}
        ).encode()
    field = "images" if way == "form" else "request"
    head = (
        f'--cut\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    return "multipart/form-data; boundary=cut", head.encode() + image + b"\r\n--cut--\r\n"


def build_requests(url: str, image: bytes, way: str) -> list[bytes]:
    """Return the bytes of a POST of one image, or of one for each line of the mix."""
    if way != "mixed":
        return [build_request(url, image, way)]
    return [build_request(urljoin(url, address), image[: int(share * len(image))], one) for address, one, share in MIX]


def build_request(url: str, image: bytes, way: str) -> bytes:
    """Return the bytes of a POST of one image."""
    parts = urlsplit(url)
    kind, body = build_body(image, way)
    address = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"POST {address} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Load:
    """Asks, and notes how long each answer took and what it was."""

    def __init__(self, url: str, requests: list[bytes]) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.requests, self.turn = requests, 0
        self.found: list[tuple[int, float]] = []
        self.free: list[Connection] = []

    async def ask(self, due: float) -> None:
        """Ask once, on a connection that is free."""
        connection = self.free.pop() if self.free else Connection(self.host, self.port)
        self.turn += 1
        status = await connection.ask(self.requests[self.turn % len(self.requests)])
        self.found.append((status, time.perf_counter() - due))
        self.free.append(connection)

    async def keep_asking(self, clients: int, seconds: float, most: int) -> float:
        """Let so many clients ask one after the other; return the seconds that it took."""
        began = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() - began < seconds and self.turn < most:
                await self.ask(time.perf_counter())

        await asyncio.gather(*(one() for _ in range(clients)))
        return time.perf_counter() - began

    async def ask_steadily(self, rate: float, seconds: float) -> float:
        """Ask at a rate, whether answers come or not; return the seconds until the last answer."""
        began, tasks = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(self.ask(due)))
        await asyncio.gather(*tasks)
        return time.perf_counter() - began

    def tell(self, seconds: float) -> dict[str, object]:
        """Return what came of it."""
        good = sorted(took for status, took in self.found if status == 200)
        found: dict[str, object] = {"statuses": Counter(str(status) for status, _ in self.found), "seconds": seconds}
        found["rate"] = len(good) / seconds
        for share in (50, 99):
            found[f"p{share}"] = 1000 * good[min(len(good) - 1, len(good) * share // 100)] if good else None
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--images", nargs="+", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--way", choices=WAYS, default="bytes")
    given = parser.parse_args()
    requests = [one for path in given.images for one in build_requests(given.url, path.read_bytes(), given.way)]
    load = Load(given.url, requests)
    work = (
        load.ask_steadily(given.rate, given.seconds)
        if given.rate
        else load.keep_asking(given.clients, given.seconds, given.most)
    )
    print(json.dumps(load.tell(asyncio.run(work))))


if __name__ == "__main__":
    main()
