"""The OpenAPI 3.1 document of a service, made from the operations that also make its routes, and its pages.

`/docs` is Swagger UI and the pages on problems, all from this machine, under a strict content policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from orderflow.core.access import EVERYBODY, Permission
from orderflow.http import operation as http_operation
from orderflow.http.application import Event, Mount, Receive, Scope, Send, send_reply
from orderflow.http.operation import (
    PROBLEMS,
    Operation,
    Parameter,
    ProblemType,
    Reply,
    Request,
    Response,
    index,
    page_of,
)
from orderflow.http.problems import MEDIA_TYPE, FieldError, Problem, ProblemError, reply

DIALECT = "3.1.0"
_SCHEMA_REF = "#/components/schemas/{name}"
_DESCRIPTION = """\
All texts are UTF-8. Fields and query parameters that are not documented here are refused. Errors are problem
documents (RFC 9457), whose `type` links to a page of this service: see [all of them](/docs/problems).

Any request can be answered with 400 (it breaks a rule of HTTP), 401 (its token is not valid), 403 (another site's
page sent it), 408 (it did not arrive in time), 421 (wrong host name), 429 (too many requests), 431 (its head is too
large), 503 (the service is overloaded) or 505 (it is not HTTP/1.1); one with an undocumented method, with 405.

Callers authenticate with a bearer token: `orderflow token create` makes one. Where only this machine can connect,
reading and placing orders needs no token.
"""
_TAGS = {
    "docs": "This document, and what problem documents mean.",
    "health": "Probes and metrics.",
    "notifications": "What customers were told.",
    "operators": "What operators see and do. Every action is logged, with who did it and why.",
    "orders": "Orders of customers.",
    "payments": "Payments of orders.",
    "stock": "Units of each SKU, free and reserved.",
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before trying again (RFC 9110, 10.2.3).",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_SCHEME = "token"
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `orderflow token create`, or a JWT of the OpenID provider that the service trusts.",
}
_FIELD = FieldError(detail="expected a whole number of at least 1", pointer="/items/0/quantity")
Json = dict[str, Any]


def build_openapi(title: str, version: str, operations: Iterable[Operation]) -> Json:
    """A complete document (spec.openapis.org/oas/v3.1.1), as plain data."""
    listed = list(operations)
    types = _Types(listed)
    paths: dict[str, Json] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, types)
    tags = dict.fromkeys(operation.tag for operation in listed if operation.tag)
    document = {
        "openapi": DIALECT,
        "info": {
            "title": title,
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The process that served this document"}],
        "security": [],
        "tags": [{"name": tag, "description": _TAGS.get(tag, tag)} for tag in tags],
        "paths": paths,
        "components": {"schemas": types.components, "securitySchemes": {_SCHEME: _BEARER}},
    }
    plain: Json = msgspec.json.decode(msgspec.json.encode(document))
    return plain


class _Types:
    """JSON Schemas of every type that the operations name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        found: list[Any] = [Problem]
        for operation in operations:
            found += [] if operation.request is None else [operation.request]
            found += [parameter.type for parameter in operation.parameters]
            found += [response.type for response in operation.responses if response.type is not None]
        schemas, self.components = msgspec.json.schema_components(found, ref_template=_SCHEMA_REF)
        for component in self.components.values():
            component["description"] = cleandoc(component.get("description", ""))
        for each in found:
            self.components.get(getattr(each, "__name__", ""), {}).update(getattr(each, "JSON_SCHEMA", {}))
        self._schemas = [*zip(found, schemas, strict=True)]

    def schema(self, wanted: Any) -> Json:
        return next(schema for known, schema in self._schemas if known is wanted)


def _operation(operation: Operation, types: _Types) -> Json:
    words = [part.strip("{}").replace("-", "_") for part in operation.path.split("/") if part]
    described: Json = {
        "operationId": "_".join([operation.method.lower(), *(word.replace(".", "_") for word in words)]),
        "summary": operation.summary,
        "responses": _responses(operation, types),
        "security": _security(operation.needs),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.tag:
        described["tags"] = [operation.tag]
    if operation.parameters:
        described["parameters"] = [_parameter(each, types) for each in operation.parameters]
    if operation.request is not None:
        content = _content(types.schema(operation.request), operation.example)
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _security(needs: Permission) -> list[Json]:
    """{} stands for "without a token"."""
    if needs.everybody:
        return []
    return [*([{}] if needs.anonymous else []), {_SCHEME: []}]


def _content(schema: Json, example: object) -> Json:
    if example is None:
        return {"schema": schema}
    return {"schema": schema, "example": msgspec.to_builtins(example)}


def _parameter(parameter: Parameter, types: _Types) -> Json:
    schema = dict(types.schema(parameter.type))
    if _is_sayable(parameter):
        schema["default"] = msgspec.to_builtins(parameter.default)
    described = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.description,
        "schema": schema,
    }
    if examples := schema.get("examples"):
        described["example"] = examples[0]
    return described


def _is_sayable(parameter: Parameter) -> bool:
    """A default that a client could not send (no cursor, say) stands for absence, and is not in the schema."""
    if parameter.default is None:
        return False
    try:
        msgspec.convert(parameter.default, parameter.type)
    except msgspec.ValidationError:
        return False
    return True


def _responses(operation: Operation, types: _Types) -> Json:
    described = {str(each.status): _response(each, types) for each in operation.responses}
    for status, problems in _frame_errors(operation).items():
        description = " ".join(each.meaning for each in problems)
        response = Response(status, description, problems=problems)
        described.setdefault(str(status), _response(response, types))
    return dict(sorted(described.items()))


def _frame_errors(operation: Operation) -> Mapping[int, Sequence[ProblemType]]:
    """What the frame answers by itself."""
    statuses = [400, 500]
    if not operation.needs.everybody:
        statuses += [401, 403]
    where = {parameter.where for parameter in operation.parameters}
    if operation.request is not None:
        statuses += [408, 413, 415]
    if "path" in where:
        statuses.append(404)
    if operation.request is not None or where & {"query", "header"}:
        statuses.append(422)
    errors: dict[int, Sequence[ProblemType]] = {each: (http_operation.BY_STATUS[each],) for each in statuses}
    return {**errors, 503: (http_operation.UNAVAILABLE, http_operation.OVERLOADED)}


def _response(response: Response, types: _Types) -> Json:
    described: Json = {"description": response.description}
    headers: Json = {
        name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in response.headers.items()
    }
    if response.type is not None:
        described["content"] = {response.media_type: _content(types.schema(response.type), response.example)}
    elif response.status >= 400:
        problems = response.problems or (http_operation.BY_STATUS[response.status],)
        examples = {each.name: {"summary": each.title, "value": _example_of(each)} for each in problems}
        content = {"schema": types.schema(Problem), "examples": examples}
        described["content"] = {MEDIA_TYPE.decode(): content}
        if response.status == 503 or http_operation.REQUEST_IN_PROGRESS in problems:
            headers |= _RETRY_AFTER
    if headers:
        described["headers"] = headers
    return described


def _example_of(kind: ProblemType) -> Json:
    is_of_a_field = kind is http_operation.INVALID_REQUEST
    example: Json = msgspec.to_builtins(
        Problem(
            status=kind.status,
            title=kind.title,
            type=kind.uri,
            detail=f"{_FIELD.pointer}: {_FIELD.detail}" if is_of_a_field else kind.meaning,
            errors=(_FIELD,) if is_of_a_field else (),
        )
    )
    return example


SWAGGER_UI = Path(__file__).with_name("swagger_ui")
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
"""On every page that we serve: it loads what we serve and nothing else, and no other site holds it in a frame."""
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
_OPERATORS_ELSEWHERE = (
    "Health, metrics and operators' endpoints have an address of their own: <code>orderflow status --json</code> "
    "shows it."
)
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
        async def send_with_headers(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event["headers"], (b"x-content-type-options", b"nosniff"), *_HEADERS[:-1]]
            await send(event)

        try:
            await self._files(scope, receive, send_with_headers)
        except HTTPException as error:
            await send_reply(reply(ProblemError(error.status_code, error.detail), scope["path"]), send)


def docs_operations(title: str, version: str, operations: Iterable[Operation]) -> Sequence[Operation]:
    """What `/` shows, the document (OpenAPI 3.1), its page, what starts that page, and what each problem means."""
    listed = list(operations)
    document = document_of(title, version, listed)
    start = _file("/docs/start.js", "", "", _served(_JAVASCRIPT, "What starts the page"), _START.encode())
    welcome = _file("/", "", "", _served(_HTML, "Where everything is"), _welcome(title, listed).encode())
    return (welcome, *_documents(msgspec.Raw(msgspec.json.encode(document))), start, *_problems())


def _welcome(title: str, operations: Iterable[Operation]) -> str:
    """For whoever opens the address alone: where the documents are, and what can be read here as it stands."""
    plain = [each for each in operations if each.method == "GET" and each.summary and "{" not in each.path]
    listed = [(http_operation.DOCS, "The API, to read and to try"), ("/openapi.json", "The same as OpenAPI 3.1")]
    listed += [(each.path, each.summary) for each in plain]
    lines = "\n".join(f'<li><a href="{path}">{path}</a> {escape(summary)}</li>' for path, summary in listed)
    where = "" if any(each.is_for_operators for each in plain) else f"\n<p>{_OPERATORS_ELSEWHERE}</p>"
    return http_operation.page(title, f"<ul>\n{lines}\n</ul>{where}")


def document_of(title: str, version: str, operations: Iterable[Operation]) -> Json:
    """What `/openapi.json` serves."""
    return build_openapi(title, version, [*operations, *_documents(msgspec.Raw()), *_problems()])


def _documents(document: msgspec.Raw) -> Sequence[Operation]:
    told = Response(200, "The document.", OpenApi, example=_SHORT)
    return (
        _file(
            "/openapi.json",
            "This document",
            "OpenAPI 3.1: all operations of this service, with their request and response types.",
            told,
            bytes(document),
        ),
        _file(
            http_operation.DOCS,
            "This document as a page",
            "Swagger UI, where you can try every operation. It loads nothing from elsewhere.",
            _served(_HTML, "The page."),
            _PAGE.encode(),
        ),
    )


def _problems() -> Sequence[Operation]:
    pages = {each.name: page_of(each).encode() for each in http_operation.ALL}

    async def one(request: Request[None]) -> Reply:
        return Reply(content=pages[request.values["name"]], media_type=_HTML.encode(), headers=_HEADERS)

    name = Parameter("name", "path", "The last part of a problem's `type`.", Literal[tuple(pages)])
    return (
        _file(
            PROBLEMS,
            "What problem documents mean",
            "All types of problems (RFC 9457) on one page: what happened, and what the caller can do.",
            _served(_HTML, "The page."),
            index().encode(),
        ),
        Operation(
            method="GET",
            path=f"{PROBLEMS}/{{name}}",
            summary="What one type of problem means",
            description="The page that the `type` of a problem document links to.",
            tag="docs",
            permission=EVERYBODY,
            handler=one,
            parameters=(name,),
            responses=[_served(_HTML, "The page.")],
        ),
    )


def docs_files() -> Mapping[str, Mount]:
    """Swagger UI's own files (npm package swagger-ui-dist, see NOTICE beside them), to be mounted."""
    return {"/docs/files": Mount(_Files(SWAGGER_UI), EVERYBODY)}


def _served(media_type: str, description: str) -> Response:
    return Response(200, description, str, media_type=media_type)


def _file(path: str, summary: str, description: str, told: Response, content: bytes) -> Operation:
    async def serve(_: Request[None]) -> Reply:
        return Reply(content=content, media_type=told.media_type.encode(), headers=_HEADERS)

    return Operation(
        method="GET",
        path=path,
        summary=summary,
        description=description,
        tag="docs",
        permission=EVERYBODY,
        handler=serve,
        responses=[told],
    )
