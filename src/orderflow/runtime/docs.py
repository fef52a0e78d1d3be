"""`/openapi.json` and `/docs`: Swagger UI from files of this machine, under a strict content policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from orderflow.runtime.openapi import build_openapi
from orderflow.runtime.operation import Handler, Operation, Reply, Request, Response

SWAGGER_UI = Path(__file__).with_name("swagger_ui")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API</title>
<link rel="stylesheet" href="/docs/files/swagger-ui.css">
<link rel="icon" href="/docs/files/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/files/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """"use strict";
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null });
"""


class _Files:
    """The bundle's files, with the headers that every answer here has."""

    def __init__(self, folder: Path) -> None:
        self._files = StaticFiles(directory=folder)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(event: dict[str, object]) -> None:
            if event["type"] == "http.response.start":
                headers = event["headers"]
                assert isinstance(headers, list)
                event["headers"] = [*headers, (b"x-content-type-options", b"nosniff")]
            await send(event)

        await self._files(scope, receive, send_with_headers)  # type: ignore[arg-type]


def docs_operations(title: str, version: str, operations: Iterable[Operation]) -> Sequence[Operation]:
    """The document (OpenAPI 3.1), the page that shows it, and what starts that page."""
    described = [*operations]
    own = (
        _file("/openapi.json", "This document", b"application/json", b""),
        _file("/docs", "This document as a page", b"text/html; charset=utf-8", _PAGE.encode()),
    )
    document = build_openapi(title, version, [*described, *own])
    return (
        _file("/openapi.json", "This document", b"application/json", msgspec.json.encode(document)),
        own[1],
        _file("/docs/start.js", "", b"text/javascript; charset=utf-8", _START.encode()),
    )


def docs_routes() -> Sequence[BaseRoute]:
    """Swagger UI's own files (npm package swagger-ui-dist, see NOTICE beside them)."""
    return [Mount("/docs/files", app=_Files(SWAGGER_UI))]


def _file(path: str, summary: str, media_type: bytes, content: bytes) -> Operation:
    shown = Response(status=200, description="The file", type=str, media_type=media_type.decode())
    return Operation(
        method="GET", path=path, summary=summary, tag="docs", handler=_serve(media_type, content), responses=[shown]
    )


def _serve(media_type: bytes, content: bytes) -> Handler:
    async def serve(_: Request[None]) -> Reply:
        return Reply(content=content, media_type=media_type, headers=_HEADERS)

    return serve
