"""The page as one application: its areas, its files, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from gzip import compress
from mimetypes import guess_type

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console import flow, health, letters, order, orders, replays, sign_in
from orderflow.console.asking import AskError, Services
from orderflow.console.guard import Asgi, Guard
from orderflow.console.pages import Pages
from orderflow.console.sampling import Sampler
from orderflow.console.sessions import Sessions
from orderflow.console.showing import HERE
from orderflow.diagnosis.topics import Log

FOR_EVER = "public, max-age=31536000, immutable"


class Console:
    """The application, and what has to be closed with it.

    `log` opens the topics; `hosts` are the names that it answers to.
    """

    def __init__(self, services: Services, log: Log, hosts: Iterable[str]) -> None:
        self._services = services
        self._sampler = Sampler(services, flow.traced)
        sessions = Sessions()
        self._pages = Pages(services, self._sampler)
        areas = (flow, orders, letters, replays, health)
        parts = (
            *(area.routes(self._pages) for area in areas),
            order.routes(self._pages, log),
            sign_in.routes(self._pages, sessions),
        )
        starlette = Starlette(
            routes=[Route("/static/{name:path}", _static), *(route for routes in parts for route in routes)],
            exception_handlers={
                AskError: self._pages.sorry,
                HTTPException: self._pages.sorry,
                Exception: self._pages.broken,
            },
        )
        self.asgi: Asgi = Guard(starlette, hosts, sessions)

    def stop(self) -> None:
        """Streams end, so that their connections do."""
        self._pages.streams.stop()

    async def close(self) -> None:
        self.stop()
        await self._sampler.close()
        await self._services.close()


async def _static(request: Request) -> Response:
    """A file of the package. Its address has its hash, so it never changes."""
    found = _files().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    kind, content, packed = found
    headers = {"cache-control": FOR_EVER, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=kind, headers={**headers, "content-encoding": "gzip"})
    return Response(content, media_type=kind, headers=headers)


@cache
def _files() -> Mapping[str, tuple[str, bytes, bytes]]:
    """By name: its type, and its bytes as they are and packed. Pages are not packed: they hold a secret (BREACH)."""
    root = HERE / "static"
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}
    return {
        name: (guess_type(name)[0] or "text/plain", content, compress(content, mtime=0))
        for name, content in contents.items()
    }


@asynccontextmanager
async def opened(services: Services, log: Log, hosts: Iterable[str]) -> AsyncIterator[Console]:
    """Closed at the end."""
    console = Console(services, log, hosts)
    try:
        yield console
    finally:
        await console.close()
