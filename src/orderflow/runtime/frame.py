"""The HTTP frame of a service: an ASGI application made from a list of operations.

Limits, problem documents, trace and metrics are the same for every request, whichever way it is routed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router

from orderflow.runtime.asgi import Receive, Scope, Send
from orderflow.runtime.body import BodyLimits, BodyRefusedError, DisconnectedError, let_go, read_body
from orderflow.runtime.decode import StrictDecoder
from orderflow.runtime.operation import Headers, Operation, Reply, Request
from orderflow.runtime.problems import ProblemError, reply, to_problem
from orderflow.runtime.tracing import accept_traceparent
from orderflow.runtime.values import ParameterReader

_NOSNIFF = (b"x-content-type-options", b"nosniff")
CLOSE = (b"connection", b"close")
_READS = frozenset({"GET", "HEAD"})

HttpObserver = Callable[[str, str, int, float], None]


def _nobody(_route: str, _method: str, _status: int, _seconds: float) -> None:
    return None


@dataclass(slots=True, kw_only=True)
class FrameState:
    """What the frame of one process is told while it runs.

    `draining` refuses what would change something. `observe` gets (route, method, status, seconds).
    """

    chance: random.Random
    limits: BodyLimits = field(default_factory=BodyLimits)
    draining: bool = False
    observe: HttpObserver = _nobody


class _Endpoint:
    """One operation with its readers."""

    __slots__ = ("decoder", "operation", "parameters")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.decoder = StrictDecoder(operation.request) if operation.request is not None else None
        self.parameters = ParameterReader(operation) if operation.parameters else None


class Asked(NamedTuple):
    """What a request asks for, but for its body."""

    method: str
    target: str
    query: bytes
    headers: Mapping[bytes, bytes]
    path_params: Mapping[str, str]


class Resource:
    """All operations of one path; given to the router as an ASGI application."""

    def __init__(self, frame: Frame, path: str) -> None:
        self._frame = frame
        self.path = path
        self.endpoints: dict[str, _Endpoint] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._frame.answer(self, scope, receive, send)

    def find(self, method: str) -> _Endpoint:
        endpoint = self.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = [*self.endpoints, *(["HEAD"] if "GET" in self.endpoints else [])]
            allow = (b"allow", ", ".join(sorted(allowed)).encode())
            raise ProblemError(405, f"{method[:20]} is not allowed here", headers=(allow,))
        return endpoint


class Frame:
    """`extra` are Starlette routes beside the operations (files of the docs page).

    A frame that is `starting` answers 503 instead of 404: what is not there yet may come.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        state: FrameState,
        extra: Iterable[BaseRoute] = (),
        *,
        starting: bool = False,
    ) -> None:
        self._starting = starting
        self._state = state
        self._paths: dict[str, Resource] = {}
        self._fast: dict[str, Resource] = {}
        self._nowhere = Resource(self, "(none)")
        for operation in operations:
            self._add(operation)
        routes: list[BaseRoute] = [Route(path, endpoint=each) for path, each in self._paths.items()]
        self._router = Router([*routes, *extra], redirect_slashes=False, default=self._not_found)

    def _add(self, operation: Operation) -> None:
        path = self._paths.setdefault(operation.path, Resource(self, operation.path))
        if operation.method in path.endpoints:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        path.endpoints[operation.method] = _Endpoint(operation)
        if operation.fast:
            self._fast[operation.path] = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        path = self._fast.get(scope["path"])
        if path is not None:
            await self.answer(path, scope, receive, send)
            return
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            await _send(reply(ProblemError(error.status_code, error.detail), scope["path"]), send, ())

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(self._nowhere, scope, receive, send)

    def fast(self, method: str, target: bytes) -> Resource | None:
        """The path of a fast operation, if that is what is asked for, without a query."""
        path = self._fast.get(target.decode("latin-1"))
        endpoint = path.endpoints.get(method) if path is not None else None
        return path if endpoint is not None and endpoint.operation.fast else None

    @property
    def limits(self) -> BodyLimits:
        return self._state.limits

    async def answer(self, path: Resource, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request on `path`: every error becomes a problem document."""
        started = perf_counter()
        asked = _asked(scope)
        refused: ProblemError | None = None
        try:
            content = b""
            if b"content-length" in asked.headers or b"transfer-encoding" in asked.headers:
                content = await read_body(asked.headers, receive, self._state.limits)
            answer = await self._perform(path, asked, content)
        except DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001  (a request's failure must end in its answer)
            refused = self._refusal(error, asked.target)
            answer = reply(refused, asked.target)
        if isinstance(refused, BodyRefusedError):
            await self._refuse_body(answer, receive, send)
        else:
            await _send(answer, send, ())
        self._observe(path, asked, answer, started)

    async def reply_to(self, path: Resource, asked: Asked, content: bytes) -> Reply:
        """Carry out a request whose body is here already: every error becomes a problem document."""
        started = perf_counter()
        try:
            answer = await self._perform(path, asked, content)
        except Exception as error:  # noqa: BLE001  (a request's failure must end in its answer)
            answer = reply(self._refusal(error, asked.target), asked.target)
        self._observe(path, asked, answer, started)
        return answer

    def _observe(self, path: Resource, asked: Asked, answer: Reply, started: float) -> None:
        known = asked.method if asked.method in path.endpoints or asked.method == "HEAD" else "other"
        self._state.observe(path.path, known, answer.status, perf_counter() - started)

    async def _perform(self, path: Resource, asked: Asked, content: bytes) -> Reply:
        if path is self._nowhere:
            raise self._nothing_here()
        endpoint = path.find(asked.method)
        if self._state.draining and asked.method not in _READS:
            raise ProblemError(503, "the service is stopping", retry_after_s=1, headers=(CLOSE,))
        body = None
        if endpoint.decoder is not None:
            _require_json(asked.headers)
            body = endpoint.decoder.decode(content)
        values: Mapping[str, object] = {}
        if endpoint.parameters is not None or asked.query:
            reader = endpoint.parameters or ParameterReader(endpoint.operation)
            values = reader.read(asked.path_params, asked.query, asked.headers)
        trace = accept_traceparent(asked.headers.get(b"traceparent"), self._state.chance)
        return await endpoint.operation.handler(Request(body, content, values, trace))

    def _nothing_here(self) -> ProblemError:
        if self._starting:
            return ProblemError(503, "the service is starting", retry_after_s=1)
        return ProblemError(404, "there is nothing at this path")

    @staticmethod
    def _refusal(error: Exception, path: str) -> ProblemError:
        known = to_problem(error)
        if known is None or known.problem.status == 500:
            logging.getLogger("orderflow.http").error("a request to %s failed", path, exc_info=error)
        return known or ProblemError(500, "the request met a defect")

    async def _refuse_body(self, answer: Reply, receive: Receive, send: Send) -> None:
        """The whole answer goes out first, then the rest of the body is let go of, then the connection."""
        await _send(answer, send, (CLOSE,), more=True)
        await let_go(receive, self._state.limits)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(answer: Reply, send: Send, extra: Headers, *, more: bool = False) -> None:
    content, headers = head_of(answer)
    await send({"type": "http.response.start", "status": answer.status, "headers": [*headers, *extra]})
    await send({"type": "http.response.body", "body": content, "more_body": more})


def head_of(answer: Reply) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The answer's body as bytes, and its headers."""
    content = answer.content
    if content is None:
        content = b"" if answer.body is None else msgspec.json.encode(answer.body)
    headers = [_NOSNIFF, *answer.headers]
    if answer.status != 204:
        headers.append((b"content-length", b"%d" % len(content)))
    if content:
        headers.append((b"content-type", answer.media_type))
    return content, headers


def _asked(scope: Scope) -> Asked:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if len(headers) < len(scope["headers"]):
        headers = _joined(scope["headers"])
    return Asked(scope["method"], scope["path"], scope["query_string"], headers, scope.get("path_params", {}))


def _joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields of one name are one list (RFC 9110, 5.3): where one value is wanted, none is chosen silently."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json":
        essence, _, parameters = media_type.lower().partition(b";")
        if essence.strip() != b"application/json" or parameters.strip() not in {
            b"",
            b"charset=utf-8",
            b'charset="utf-8"',
        }:
            raise ProblemError(415, "the body must be sent as content-type: application/json")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise ProblemError(415, "the body must be sent without a content-encoding")
