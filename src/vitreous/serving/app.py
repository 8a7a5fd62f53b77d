"""The service as an ASGI application: addresses, errors, the page, and the guard around all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from vitreous.errors import VitreousError
from vitreous.runtime.display import strip_hidden
from vitreous.serving.examples import ANSWERS
from vitreous.serving.guard import GUARDED, App, Guard, Left
from vitreous.serving.measurements import Measurements
from vitreous.serving.models import Models
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.page_routes import build_page_routes
from vitreous.serving.problems import Problem
from vitreous.serving.routes import build_probes, build_routes
from vitreous.serving.schemas import ProblemDocument

PAGE = Path(__file__).parent / "page"


class Service:
    """An application and what belongs to it.

    Args:
        sources: the models.
        options: the limits.
        failed: called with the error if a model can't be loaded; then no request is answered.
        early: while models are loading, answer that they aren't ready; otherwise accept no requests until they are.
    """

    def __init__(
        self,
        sources: list[ModelSource],
        options: ServiceOptions,
        failed: Callable[[BaseException], None] = lambda _: None,
        early: bool = True,
    ) -> None:
        self.measurements, self.failed, self.early = Measurements(), failed, early
        self.models = Models(sources, options, self.measurements)
        self.api = self._build()
        self.guard = Guard(self.api, options, self.measurements)
        self.api.state.guard = self.guard
        self.app: App = self.guard
        if options.origins:
            exposed = ["X-Request-ID", "Retry-After"]
            kinds = ["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"]
            self.app = CORSMiddleware(
                self.guard, options.origins, allow_methods=["GET", "POST"], allow_headers=kinds, expose_headers=exposed
            )

    def _build(self) -> FastAPI:
        api = FastAPI(
            title="vitreous", version="1", docs_url=None, redoc_url=None, lifespan=self._live, redirect_slashes=False
        )
        api.include_router(build_routes(self.models))
        api.include_router(build_probes(self.models))
        api.include_router(build_page_routes(self.models))
        for kind in (Problem, VitreousError, RequestValidationError, HTTPException, Left, Exception):
            api.add_exception_handler(kind, _hand_over)
        api.router.default = PageFiles(directory=PAGE, html=True)
        api.openapi = lambda: _describe(api)  # type: ignore[method-assign]
        return api

    @asynccontextmanager
    async def _live(self, _: FastAPI) -> AsyncIterator[None]:
        self.api.openapi()  # built now; otherwise the first request would wait for it
        opening = asyncio.create_task(self._open())
        if not self.early:
            await opening
        yield
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await self.models.close()

    async def _open(self) -> None:
        try:
            await self.models.open()
        except Exception as error:
            self.failed(error)


class PageFiles(StaticFiles):
    """The page's files, always sent whole: they are small, and an unsatisfiable range would get an error of another
    form."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer with a file; raises HTTPException."""
        headers = [pair for pair in scope["headers"] if pair[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return the response for a file; raises HTTPException: 404 if there is none, whatever the method."""
        found = await super().get_response(path, {**scope, "method": "GET"})
        if found.status_code in range(300, 400):  # to an address that names the client's Host
            raise HTTPException(404)
        return found if scope["method"] == "GET" else await super().get_response(path, scope)


class _Failed(Response):
    """Lets the guard answer with an error's problem document."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await scope["state"]["exchange"].fail(self.error)


async def _hand_over(_: Request, error: Exception) -> Response:
    """Let the guard answer; errors of the framework become problems too."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where, given = ".".join(str(part) for part in first["loc"][1:]), strip_hidden(first.get("input"))
        return _Failed(Problem("invalid-parameter", f"{where} is {given[:100]!r}: {first['msg']}"))
    if isinstance(error, HTTPException):
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed")
        return _Failed(Problem(kind, f"{error.detail}; /openapi.json lists what can be requested", error.headers))
    return _Failed(error)


def _describe(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of the service, built once."""
    if api.openapi_schema is None:
        found = get_openapi(
            title="vitreous", version="1", routes=api.routes, description="Images to labels, vectors and maps."
        )
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        for name, example in ANSWERS.items():
            schemas[name]["example"] = example  # get_openapi leaves out what is null
        schemes = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["components"]["securitySchemes"] = schemes
        security = [{name: []} for name in schemes] + ([] if api.state.guard.keys else [{}])  # {}: or none of them
        for path, methods in found["paths"].items():
            if path.startswith(GUARDED):
                for one in methods.values():
                    one["security"] = security
        found["paths"]["/problems/{kind}"]["get"]["responses"].pop("422")  # any text will do
        for name in ("HTTPValidationError", "ValidationError"):  # the framework's own, of no address here
            schemas.pop(name, None)
        api.openapi_schema = found
    return api.openapi_schema
