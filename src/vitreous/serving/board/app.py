"""The board as an application: the page, its parts as they change, and what a run's folder has for readers."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from vitreous.drawing.html import read_resource
from vitreous.serving.board import page
from vitreous.serving.board.address import View
from vitreous.serving.board.folder import Folder
from vitreous.serving.board.runs import BoardRun, Runs
from vitreous.serving.board.words import LANGUAGE, choose_language
from vitreous.storage.run_config import BEST, CONFIG, MODEL, REPORT

LOG = logging.getLogger("vitreous.board")
EVERY = 1.0
"""Seconds between two looks at what has changed."""
ALIVE = 15.0
"""Seconds after which a word is sent, so that nobody on the way gives the connection up."""
MOST_FIELDS = 200
"""Options in an address; ticked runs are one each."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
SECTION_POLICY = "default-src 'none'; img-src data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
"""Of what comes from a run's folder: nothing of it runs."""
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
HTML = "text/html; charset=utf-8"


def build_app(folder: Folder, hosts: Sequence[str] | None = None) -> FastAPI:
    """Return the application; it reads only below the folder, and writes nothing.

    Args:
        folder: of the runs.
        hosts: names that it answers to; None: any.
    """
    app = FastAPI(title="vitreous board", docs_url=None, redoc_url=None, openapi_url=None)
    runs = Runs(folder)

    app.add_middleware(Guard, hosts=hosts)

    def look(request: Request) -> page.Shown:
        LANGUAGE.set(choose_language(request.cookies, request.headers.get("accept-language", "")))
        runs.refresh()
        return page.choose(runs, read_view(request))

    @app.head("/")
    @app.get("/")
    def show(request: Request) -> Response:
        return Response(page.render_page(look(request)), media_type=HTML)

    @app.get("/board.css")
    def style() -> Response:
        return Response(page.read_style(), media_type="text/css")

    @app.get("/board.js")
    def script() -> Response:
        return Response(read_resource("serving/board/board.js"), media_type="text/javascript")

    @app.get("/events")
    async def events(request: Request) -> StreamingResponse:
        read_view(request)  # what can't be read is refused before the answer begins
        return StreamingResponse(follow(request, look), media_type="text/event-stream")

    add_files(app, runs)
    return app


def read_view(request: Request) -> View:
    """Return what an address asks to see; raises HTTPException."""
    try:
        return View.read(parse_qs(request.url.query, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(400, f"the address has more than {MOST_FIELDS} options; untick some runs") from error


def add_files(app: FastAPI, runs: Runs) -> None:
    """Let readers open what a run's folder has for them."""

    @app.get("/runs/{run}/report.html")
    def report(run: str, section: str = "") -> Response:
        found = find(runs, run)
        try:
            body = page.cut_section(found, section) if section else runs.folder.read(found.path(REPORT))
        except OSError as error:
            raise HTTPException(404, "this run has no report") from error
        policy = SECTION_POLICY if section else REPORT_POLICY
        return Response(body, media_type=HTML, headers={"Content-Security-Policy": policy})

    @app.get("/runs/{run}/{model}/config.json")
    def model(run: str, model: str) -> Response:
        found = find(runs, run)
        if model not in (MODEL, BEST):
            raise HTTPException(404, "a run has no such model")
        try:
            return Response(runs.folder.read(found.path(f"{model}/{CONFIG}")), media_type="application/json")
        except OSError as error:
            raise HTTPException(404, "this run has no such model yet") from error


class Guard:
    """ASGI middleware: answers only to known names, and tells browsers what pages may do."""

    def __init__(self, app: Any, hosts: Sequence[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def add_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                more = [pair for pair in HEADERS if pair[0] not in said]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        named = Request(scope).url.hostname
        if self.hosts is not None and named not in self.hosts:
            refusal = Response(f"This board answers to {', '.join(self.hosts)} alone; --host opens it.\n", 421)
            return await refusal(scope, receive, add_headers)
        try:
            await self.app(scope, receive, add_headers)
        except Exception:
            LOG.exception("this is a bug in vitreous; please report it with the lines below")
            raise


def find(runs: Runs, wanted: str) -> BoardRun:
    """Return a run by its id; raises HTTPException. No part of an address is ever part of a path."""
    runs.refresh()
    found = next((run for run in runs.all if page.find_id(run.name) == wanted), None)
    if found is None:
        raise HTTPException(404, "there is no such run")
    return found


async def follow(request: Request, look: Any) -> AsyncIterator[str]:
    """Yield what has changed, as events: a JSON object with the mark and the HTML of each id."""
    sent: dict[str, str] = {}
    order: list[str] = []
    silent = 0.0
    while not await request.is_disconnected():
        parts, rows, table = await run_in_threadpool(render, request, look)
        if list(rows) != order:
            parts["runs"] = table
        changed = {name: text for name, text in parts.items() if sent.get(name) != text}
        if "runs" not in changed:
            changed |= {name: text for name, text in rows.items() if sent.get(name) != text}
        sent, order = {**parts, **rows}, list(rows)
        silent = 0.0 if changed else silent + EVERY
        if changed:
            yield f"event: parts\ndata: {json.dumps({name: [page.mark(text), text] for name, text in changed.items()})}\n\n"
        elif silent >= ALIVE:
            silent = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(EVERY)


def render(request: Request, look: Any) -> tuple[dict[str, str], dict[str, str], str]:
    """Return the parts, the rows and the table of a request's view."""
    shown = look(request)
    return dict(page.render_parts(shown)), dict(page.render_rows(shown)), page.render_table(shown)
