"""One process of the service: it serves HTTP on a socket, and when it ends it leaves no accepted request unanswered."""

import asyncio
import logging
import re
import socket
import time
from typing import Any

import h11
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitreous.serving.app import Service
from vitreous.serving.guard import Lines
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.problems import MEDIA_TYPE, Problem
from vitreous.serving.sockets import MOST_CONNECTIONS, count_connections

ADDRESS = re.compile(rb"https?://(?P<host>[^/?]+)(?P<path>.*)", re.IGNORECASE)
GRACE = 0.5
"""Seconds during which answers tell clients to close their connections, before new ones are no longer accepted."""


def set_up_logs(wanted: bool) -> None:
    """Log events as lines of JSON on standard error, or only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    for name in ("vitreous.serving", "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO if wanted and name != "uvicorn.error" else logging.WARNING)


class Parser(h11.Connection):
    """The parser of a connection; it refuses bodies of tiny chunks, each of which costs as much as a large one."""

    most, least = 4096, 64
    """Number of chunks of a body beyond which their mean size must be at least this many bytes."""
    chunks = length = 0

    def next_event(self) -> Any:
        """Return the next event; raises RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = self.length = 0
            return to_origin_form(event)
        elif isinstance(event, h11.Data):
            self.chunks, self.length = self.chunks + event.chunk_start, self.length + len(event.data)
            if self.chunks > self.most and self.length < self.least * self.chunks:
                raise h11.RemoteProtocolError("tiny chunks")
        return event


def to_origin_form(request: h11.Request) -> h11.Request:
    """Return a request for an address, as proxies send it, as one for its path at its host, in place of the Host header's
    (RFC 9112, section 3.2.2)."""
    if (match := ADDRESS.fullmatch(request.target)) is None:
        return request
    headers = [(b"host", match["host"]), *(pair for pair in request.headers.raw_items() if pair[0].lower() != b"host")]
    target = b"/" + match["path"].removeprefix(b"/")
    return h11.Request(method=request.method, headers=headers, target=target, http_version=request.http_version)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with limits on the time that headers take and on the number of connections, and a problem document for what is not HTTP."""

    patience = 10.0
    most = MOST_CONNECTIONS
    """Most simultaneous connections; one more ends the one that has waited longest for a request."""
    waiting: "dict[PatientProtocol, None]"
    """Connections without a request, the longest-waiting first; shared by all connections of a server."""
    timer: Any = None
    unread = (0, 0.0)
    """Bytes that the client hasn't read, and since when their number hasn't decreased."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.conn = Parser(h11.SERVER)
        self._wait()
        if len(self.connections) > self.most:
            next(iter(self.waiting)).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Continue reading; a request whose headers are complete has all the time that the guard gives it, until it is
        answered."""
        super().data_received(data)
        answered = self.cycle is not None and self.cycle.response_complete  # an unwanted body may still be arriving
        if (self.conn.their_state is h11.IDLE or answered) and not self.transport.is_closing():
            self._wait()
        else:
            self._stop_waiting()

    def handle_events(self) -> None:
        """Begin to handle a request; the guard may end its connection."""
        super().handle_events()
        if self.scope:
            self.scope.setdefault("state", {})["abort"] = self.transport.abort

    def drop_unread(self, now: float) -> None:
        """End a connection whose client doesn't read what was sent, whether closed or not: it would be held for
        ever."""
        size, (before, since) = self.transport.get_write_buffer_size(), self.unread
        if not before or size < before:
            since = now
        self.unread = (size, since)
        if size and now - since > self.patience:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time limit."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Shut down; a connection that was accepted and hasn't sent its request yet gets a moment to do so."""
        if self.cycle is None and not self.transport.is_closing():
            self._stop_waiting()
            self.timer = self.loop.call_later(GRACE, self._give_up)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close; of a request whose body breaks off its way the guard does."""
        self._stop_waiting()
        if self.conn.our_state is h11.SEND_RESPONSE:
            self.scope["state"]["broken"] = "the body's chunks are malformed or tiny; send HTTP/1.1, and larger chunks"
            self.cycle.more_body = False
            self.cycle.message_event.set()
            return
        if self.conn.our_state is h11.IDLE:
            body = Problem("malformed", f"{msg.rstrip('.')}; send HTTP/1.1").encode("none")
            headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _wait(self) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(self.patience, self._give_up)
            self.waiting[self] = None

    def _stop_waiting(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.waiting.pop(self, None)

    def _give_up(self) -> None:
        self._stop_waiting()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """One process of the service; `early` as in `Service`."""

    def __init__(self, sources: list[ModelSource], options: ServiceOptions, early: bool = True) -> None:
        self.failure: BaseException | None = None
        self.service = Service(sources, options, self._fail, early)
        protocol = type(
            "Protocol",
            (PatientProtocol,),
            {"patience": options.read_timeout, "most": count_connections(), "waiting": {}},
        )
        super().__init__(
            Config(
                self.service.app, http=protocol, ws="none", lifespan="on", log_config=None, access_log=False,
                server_header=False, timeout_graceful_shutdown=round(options.timeout) + 1, proxy_headers=False,
            )
        )  # fmt: skip

    def _fail(self, error: BaseException) -> None:
        self.failure, self.should_exit = error, True

    async def on_tick(self, counter: int) -> bool:
        """Check every second which clients don't read."""
        if counter % 10 == 0:
            for one in list(self.server_state.connections):
                if isinstance(one, PatientProtocol):
                    one.drop_unread(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell clients that the server ends, then accept nothing more and answer what was accepted."""
        self.service.guard.stopping = True
        if self.failure is None:
            await asyncio.sleep(GRACE)
        await super().shutdown(sockets)
