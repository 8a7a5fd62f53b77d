"""Checks around every request: its id, key, size and time, and what is logged about it."""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from vitreous.errors import VitreousError
from vitreous.serving.measurements import Measurements
from vitreous.serving.options import ServiceOptions
from vitreous.serving.problems import MEDIA_TYPE, Problem, explain_failure, queue_full

LOG = logging.getLogger("vitreous.serving")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Request ids that are taken over from clients."""
GUARDED = ("/v1/", "/metrics")
"""Addresses that need a key, if there are keys."""
LINGER = 2.0
"""Seconds for which the rest of a refused body is read and discarded."""
LEFT = 499, "client-left"
"""The status and the problem that are logged if a client went away."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'",
    ),
)


class Left(Exception):
    """The client went away."""


class Exchange:
    """One request and its answer, as far as they are logged."""

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self.headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        said = self.headers.get(b"x-request-id", "")
        self.id = said if ID.fullmatch(said) else secrets.token_hex(8)
        self.began = time.monotonic()
        self.method, self.path = scope["method"], scope["path"]
        self.status, self.route, self.model, self.problem = 0, "other", "", ""
        self.bytes = self.images = 0
        self.state: dict[str, Any] = scope.setdefault("state", {})
        """State shared by the server and the service; "broken" says why no more of the body can be read."""
        self.abort: Callable[[], None] = self.state.get("abort", lambda: None)
        """Ends the connection immediately."""
        self.fail: Callable[[Exception], Awaitable[None]]
        """Answers with the problem document of an error."""

    def describe(self) -> dict[str, Any]:
        """Return the log entry, without images, their names, or the options in the address."""
        took = round(1000 * (time.monotonic() - self.began), 2)
        facts = {"id": self.id, "method": self.method, "route": self.route, "status": self.status, "ms": took}
        more = {"model": self.model, "images": self.images, "bytes": self.bytes, "problem": self.problem}
        return {**facts, **{name: value for name, value in more.items() if value}}


class Guard:
    """ASGI middleware around the whole service.

    Args:
        app: the service.
        options: its limits and keys.
        measurements: counts the answers.
    """

    def __init__(self, app: App, options: ServiceOptions, measurements: Measurements) -> None:
        self.app, self.options, self.measurements = app, options, measurements
        self.keys = [hashlib.sha256(key.encode()).digest() for key in options.keys]
        self.held_bytes, self.stopping = 0, False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on within the limits, and answer if something goes wrong."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange(scope)
        exchange.state["exchange"] = exchange
        if exchange.method == "HEAD":  # the server sends no body
            scope = {**scope, "method": "GET"}
        passing = _Passing(self, exchange, receive, send)
        exchange.fail = passing.fail
        try:
            self.check(exchange)
            await passing.run(scope)
        except Exception as error:
            await passing.fail(error)
        finally:
            self.held_bytes -= exchange.bytes
            self.note(exchange, getattr(scope.get("route"), "path", "other"))

    def check(self, exchange: Exchange) -> None:
        """Raise Problem for a request that is refused before its body is read."""
        headers = exchange.headers
        if self.keys and exchange.path.startswith(GUARDED):
            self.check_key(headers)
        known = "*" in self.options.origins or headers.get(b"origin", "").lower() in self.options.origins
        if exchange.method == "POST" and not known and is_foreign(headers):
            raise Problem(
                "foreign-page", "a page of another origin sent the request; allow that origin with --allow-origin"
            )
        length = headers.get(b"content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self.options.max_body:
            raise self.too_large(int(length))

    def check_key(self, headers: MutableMapping[bytes, str]) -> None:
        """Raise Problem unless one of the keys was given; the time this takes reveals nothing about them."""
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        given = headers.get(b"x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        if not sum(hmac.compare_digest(digest, key) for key in self.keys):
            came = "the API key isn't one of this service's" if given else "there is no API key"
            raise Problem(
                "unauthorized", f"{came}; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def too_large(self, length: int) -> Problem:
        """Return the problem for a body of this many bytes."""
        most = self.options.max_body
        return Problem(
            "too-large", f"the body has {length:,} bytes or more, above the limit of {most:,}; send less at a time",
            {"Connection": "close"}, limit=most,
        )  # fmt: skip

    def hold(self, exchange: Exchange, length: int) -> None:
        """Count bytes of a body; raises Problem if there are too many in this body or in all bodies together."""
        exchange.bytes += length
        self.held_bytes += length
        if exchange.bytes > self.options.max_body:
            raise self.too_large(exchange.bytes)
        if self.held_bytes > self.options.max_held:
            raise queue_full("request bodies fill the memory that is set aside for them; try again later")

    def note(self, exchange: Exchange, route: str) -> None:
        """Count and log a request to one of the service's addresses."""
        exchange.route = route
        took = time.monotonic() - exchange.began
        with suppress(OSError):  # if someone removed the measurement files of several processes
            self.measurements.requests.labels(exchange.route, str(exchange.status)).inc()
            self.measurements.seconds.labels(exchange.route).observe(took)
            if exchange.problem:
                self.measurements.problems.labels(exchange.problem).inc()
        if self.options.log:
            LOG.info("request", extra={"facts": exchange.describe()})


def is_foreign(headers: Mapping[bytes, str]) -> bool:
    """Return whether a page of another origin sent a request: the browser says so, or names an origin other than the
    requested host (without TLS, browsers say less)."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None or origin is None:
        return site in ("cross-site", "same-site")
    return origin.partition("://")[2].lower() != headers.get(b"host", "").lower()


class _Passing:
    """One request's way through the guard."""

    def __init__(self, guard: Guard, exchange: Exchange, receive: Receive, send: Send) -> None:
        self.guard, self.exchange, self._receive, self._send = guard, exchange, receive, send
        self.read, self.started, self.ended = asyncio.Event(), False, False
        self.due = time.monotonic() + guard.options.read_timeout

    async def run(self, scope: MutableMapping[str, Any]) -> None:
        """Let the service answer, unless the client leaves first."""
        if self.exchange.method != "POST":
            return await self.guard.app(scope, self.receive, self.send)
        work = asyncio.create_task(self.guard.app(scope, self.receive, self.send))
        leaving = asyncio.create_task(self.watch())
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                raise Left
            await work
        finally:
            work.cancel()
            leaving.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def watch(self) -> None:
        """Return once the client leaves after its body was read."""
        await self.read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def receive(self) -> Message:
        """Return the next piece of the body, within the limits on time and size."""
        if self.read.is_set():
            await asyncio.Future()  # the watch waits for what comes next
        try:
            async with asyncio.timeout(self.due - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = self.guard.options.read_timeout
            raise Problem(
                "slow-request", f"the body didn't arrive within {seconds:g} s; send less, or over a faster connection",
                {"Connection": "close"},
            ) from None  # fmt: skip
        if "broken" in self.exchange.state:
            self.read.set()
            raise Problem("malformed", self.exchange.state["broken"], {"Connection": "close"})
        if message["type"] == "http.disconnect":
            if not self.started:
                raise Left
            self.exchange.status, self.exchange.problem = LEFT
            return message  # whatever sends the answer ends by itself
        self.guard.hold(self.exchange, len(message.get("body", b"")))
        if not message.get("more_body"):
            self.read.set()
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; headers that every answer has are added to its head."""
        if message["type"] == "http.response.start":
            self.started, self.exchange.status = True, message["status"]
            more = [(b"x-request-id", self.exchange.id.encode()), *HEADERS]
            more += [(b"connection", b"close")] if self.guard.stopping else []
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif not message.get("more_body"):
            self.ended = True
        try:
            async with asyncio.timeout(self.guard.options.timeout):
                await self._send(message)
        except TimeoutError:  # of an answer that isn't read
            self.exchange.status, self.exchange.problem = LEFT
            self.exchange.abort()
            await asyncio.sleep(0)  # until the end of the connection is known

    async def fail(self, error: Exception) -> None:
        """Answer with the problem document of an error."""
        if isinstance(error, Left):
            self.exchange.status, self.exchange.problem = LEFT
        if self.exchange.problem:  # nobody there, or told already
            return
        problem = error if isinstance(error, Problem) else None
        if problem is None and isinstance(error, VitreousError):
            problem = explain_failure(error)
        if problem is None:
            LOG.error("a bug", exc_info=error, extra={"facts": {"id": self.exchange.id}})
            problem = Problem("failed", "the service failed on this request; its log has the details under this id")
        self.exchange.problem = problem.kind
        if self.started:
            return
        body = problem.encode(self.exchange.id)
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        await self.pass_over()
        await self.send({"type": "http.response.body", "body": b""})

    async def pass_over(self) -> None:
        """Keep reading for a moment what a client still sends, so that it sees the answer before the connection
        ends."""
        passed = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self.read.is_set() and passed < self.guard.options.max_body:
                    message = await self._receive()
                    passed += len(message.get("body", b""))
                    if not message.get("more_body"):
                        return


class Lines(logging.Formatter):
    """Formats each record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        said = {
            "time": stamp,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
        }
        said |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[0]:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)
