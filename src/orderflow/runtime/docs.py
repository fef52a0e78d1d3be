"""`/openapi.json` and `/docs`: Swagger UI and pages on problems from this machine, under a strict content policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from orderflow.runtime import problem_types
from orderflow.runtime.openapi import DIALECT, Json, build_openapi
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.problem_types import PROBLEMS, index, page_of

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
_HTML = "text/html; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"
_SHORT = {"openapi": DIALECT, "info": {"title": "Orders", "version": "0.1.0"}, "paths": {}}
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


class OpenApi(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An OpenAPI document, as far as every one has the same (spec.openapis.org/oas/v3.1.1)."""

    openapi: Annotated[str, msgspec.Meta(pattern=r"^3\.1\.[0-9]+$")]
    info: dict[str, Any]
    servers: list[dict[str, Any]] = []
    security: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    paths: dict[str, dict[str, Any]]
    components: dict[str, dict[str, Any]] = {}


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
    """The document (OpenAPI 3.1), the page that shows it, what starts that page, and what each problem means."""
    document = document_of(title, version, operations)
    start = _file("/docs/start.js", "", "", _served(_JAVASCRIPT, "What starts the page"), _START.encode())
    return (*_documents(msgspec.Raw(msgspec.json.encode(document))), start, *_problems())


def document_of(title: str, version: str, operations: Iterable[Operation]) -> Json:
    """What `/openapi.json` serves."""
    return build_openapi(title, version, [*operations, *_documents(msgspec.Raw()), *_problems()])


def _documents(document: msgspec.Raw) -> Sequence[Operation]:
    told = Response(status=200, description="The document.", type=OpenApi, example=_SHORT)
    return (
        _file(
            "/openapi.json",
            "This document",
            "In OpenAPI 3.1: all operations of this service, with the types of what they take and answer.",
            told,
            bytes(document),
        ),
        _file(
            "/docs",
            "This document as a page",
            "Swagger UI, on which every operation can be tried. It needs nothing from elsewhere.",
            _served(_HTML, "The page."),
            _PAGE.encode(),
        ),
    )


def _problems() -> Sequence[Operation]:
    pages = {each.name: page_of(each).encode() for each in problem_types.ALL}

    async def one(request: Request[None]) -> Reply:
        return Reply(content=pages[request.values["name"]], media_type=_HTML.encode(), headers=_HEADERS)

    name = Parameter(
        name="name",
        where="path",
        description="The last part of a problem's `type`.",
        type=Literal[tuple(pages)],
    )
    return (
        _file(
            PROBLEMS,
            "What problem documents mean",
            "A page of all types of problems (RFC 9457): what has happened, and what the caller can do.",
            _served(_HTML, "The page."),
            index().encode(),
        ),
        Operation(
            method="GET",
            path=f"{PROBLEMS}/{{name}}",
            summary="What one type of problem means",
            description="Where the `type` of a problem document leads.",
            tag="docs",
            handler=one,
            parameters=(name,),
            responses=[_served(_HTML, "The page.")],
        ),
    )


def docs_routes() -> Sequence[BaseRoute]:
    """Swagger UI's own files (npm package swagger-ui-dist, see NOTICE beside them)."""
    return [Mount("/docs/files", app=_Files(SWAGGER_UI))]


def _served(media_type: str, description: str) -> Response:
    return Response(status=200, description=description, type=str, media_type=media_type)


def _file(path: str, summary: str, description: str, told: Response, content: bytes) -> Operation:
    async def serve(_: Request[None]) -> Reply:
        return Reply(content=content, media_type=told.media_type.encode(), headers=_HEADERS)

    return Operation(
        method="GET",
        path=path,
        summary=summary,
        description=description,
        tag="docs",
        handler=serve,
        responses=[told],
    )
