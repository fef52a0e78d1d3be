"""What a service offers over HTTP: one declared list makes the routes and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import msgspec

from orderflow.runtime.problem_types import ProblemType

Body = TypeVar("Body", bound=msgspec.Struct | None)
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A named text of the request. `type` is what it is converted to (with msgspec, so `Meta` bounds hold).

    A path parameter is always there; one that does not convert is a 404. A query or header parameter that
    does not convert is a 422 that names it; one that is absent is `default`, or a 422 if it is `required`.
    """

    name: str
    where: Literal["path", "query", "header"]
    description: str
    type: Any = str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer that an operation can give.

    `type` None: no body, or for a status from 400 on a problem document (RFC 9457), of one of the types `problems`
    or, where none is named, of the one that the status means. `example` is a value of `type`.
    """

    status: int
    description: str
    type: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    problems: Sequence[ProblemType] = ()
    example: Any = None


@dataclass(slots=True)
class Request(Generic[Body]):
    """What a handler sees: everything in it is validated.

    `body` is the decoded body (None where the operation has no `request` type), `content` its bytes,
    `values` holds every declared parameter by name. `traceparent` (W3C Trace Context) is the caller's or
    a new one; pass it to `engine.submit`. `gone` is done once the client has left: who waits long waits for it too.
    """

    body: Body
    content: bytes
    values: Mapping[str, Any]
    traceparent: str
    gone: asyncio.Future[None] | None = None


@dataclass(slots=True)
class Reply:
    """An answer. `body` is encoded as JSON; `content` gives the bytes themselves instead.

    Names in `headers` are lower case.
    """

    status: int = 200
    body: object = None
    headers: Headers = ()
    content: bytes | None = None
    media_type: bytes = b"application/json"


Method = Literal["GET", "POST", "PUT", "DELETE"]
Handler = Callable[[Request[Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path (`/orders/{order_id}`).

    `summary` is a line, `description` what a caller has to know beyond it; `example` is a body.
    Errors are raised: see `runtime/problems.py` for the table of exceptions and answers. What the frame itself can
    answer (400, 408, 413, 415, 422, 500, 503) is in the document without being named.
    A `request` may have a `JSON_SCHEMA`: what its schema says beyond its fields.
    """

    method: Method
    path: str
    summary: str
    handler: Handler
    responses: Sequence[Response]
    request: type[msgspec.Struct] | None = None
    parameters: Sequence[Parameter] = ()
    tag: str = ""
    description: str = ""
    example: Any = None
