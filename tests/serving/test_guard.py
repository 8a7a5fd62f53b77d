"""What surrounds every request: a client that goes away while it is answered."""

import asyncio
import logging

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from vitreous.serving.app import _hand_over
from vitreous.serving.guard import Guard, Left
from vitreous.serving.measurements import Measurements
from vitreous.serving.options import ServiceOptions


def test_a_file_is_sent_no_further_to_who_has_left(tmp_path):
    file = tmp_path / "large.js"
    file.write_bytes(bytes(1 << 20))
    logged: list[logging.LogRecord] = []
    listening = logging.Handler()
    listening.emit = logged.append
    api = Starlette(routes=[Route("/large.js", lambda _: FileResponse(file))], exception_handlers={Left: _hand_over})
    guard, sent = Guard(api, ServiceOptions(log=False), Measurements()), []
    scope = {"type": "http", "method": "GET", "path": "/large.js", "headers": [], "query_string": b""}

    async def ask():
        begun = asyncio.Event()

        async def receive():
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            begun.set()
            await asyncio.sleep(0)

        await asyncio.wait_for(guard(scope, receive, send), 10)

    logging.getLogger().addHandler(listening)
    asyncio.run(ask())
    logging.getLogger().removeHandler(listening)
    assert sent[0]["status"] == 200 and sum(len(one.get("body", b"")) for one in sent) < 1 << 20
    assert guard.measurements.problems.labels("client-left")._value.get() == 1
    assert logged == []
