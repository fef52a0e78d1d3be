"""The HTTP application of a service: its declared operations, and ASGI applications mounted beside them.

Limits, problem documents, trace and metrics are the same for every request. The trace is the header `traceparent`
(W3C Trace Context, level 1); the types of ASGI are those of asgi.readthedocs.io (HTTP connection scope).
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import msgspec

from orderflow.core.access import ANONYMOUS, PERSONAL, READ, Caller, ForbiddenError, Permission
from orderflow.http.framing import joined
from orderflow.http.operation import DOCS, Operation, Reply, Request
from orderflow.http.problems import ProblemError, reply, to_problem
from orderflow.http.validation import ParameterReader, StrictDecoder

if TYPE_CHECKING:
    from orderflow.observability.tracing import Tracing

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


_VALID = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL)
_VERSION_00_LENGTH = 55


def accept_traceparent(header: bytes | None, rng: random.Random) -> str:
    """The caller's trace, or a new sampled one when there is none or it is not valid."""
    if header is not None and _is_valid(header):
        return header[:_VERSION_00_LENGTH].decode("ascii")
    bits = rng.getrandbits(192)
    return f"00-{bits >> 64:032x}-{bits & 0xFFFF_FFFF_FFFF_FFFF:016x}-01"


def _is_valid(header: bytes) -> bool:
    if header.startswith(b"00") and len(header) != _VERSION_00_LENGTH:
        return False
    return _VALID.fullmatch(header) is not None


_NOSNIFF = (b"x-content-type-options", b"nosniff")
CLOSE = (b"connection", b"close")
CALLER = "orderflow.caller"
"""Where an ASGI scope says who asks."""
_READS = frozenset({"GET", "HEAD"})

HttpObserver = Callable[[str, str, int, float], None]


def _nobody(_route: str, _method: str, _status: int, _seconds: float) -> None:
    return None


@dataclass(slots=True)
class ApplicationState:
    """What the frame of one process is told while it runs.

    `draining` refuses what would change something. `observe` gets (route, method, status, seconds), `refuse` the name
    of each problem that a request is answered with, `time_out` the state of each connection that outlasted its time.
    `tracing` makes spans of requests; without it a trace goes on as it came.
    """

    rng: random.Random
    observe: HttpObserver = _nobody
    refuse: Callable[[str], None] = lambda _: None
    time_out: Callable[[str], None] = lambda _: None
    draining: bool = False
    tracing: Tracing | None = None


class _Endpoint:
    """One operation with its readers."""

    __slots__ = ("decoder", "operation", "parameters", "permission")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.permission = operation.needs
        self.decoder = StrictDecoder(operation.request) if operation.request is not None else None
        self.parameters = ParameterReader(operation) if operation.parameters else None


class RequestHead(NamedTuple):
    """What a request asks for, but for its body."""

    method: str
    target: str
    query: bytes
    headers: Mapping[bytes, bytes]
    path_params: Mapping[str, str]
    caller: Caller = ANONYMOUS


class Resource:
    """All operations of one path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.endpoints: dict[str, _Endpoint] = {}

    @property
    def is_vital(self) -> bool:
        """Whether it is served also where others are turned away: probes, metrics, operators."""
        return any(each.operation.is_for_operators for each in self.endpoints.values())

    def find(self, method: str) -> _Endpoint:
        endpoint = self.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = [*self.endpoints, *(["HEAD"] if "GET" in self.endpoints else [])]
            allow = (b"allow", ", ".join(sorted(allowed)).encode())
            raise ProblemError(405, f"{method[:20]} is not allowed here", headers=(allow,))
        return endpoint


class Mount(NamedTuple):
    """An ASGI application, and who may ask it. Its scope says who asks: `orderflow.caller`."""

    application: Asgi
    permission: Permission = READ


class Application:
    """`mounts` are ASGI applications by the path below which they answer; an operation's own path goes first.

    A frame that is `starting` answers 503 instead of 404: what is not there yet may come.
    Raises ValueError for an operation that is declared twice, and for a mount that is not at a path like `/admin`.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        state: ApplicationState,
        mounts: Mapping[str, Mount] | None = None,
        *,
        starting: bool = False,
    ) -> None:
        self._starting = starting
        self._state = state
        self._paths: dict[str, Resource] = {}
        self._patterns: list[tuple[re.Pattern[str], Resource]] = []
        self._nowhere = Resource("(none)")
        for operation in operations:
            self._add(operation)
        self._mounts = dict(mounts or {})
        for prefix in self._mounts:
            if not prefix.startswith("/") or prefix.endswith("/"):
                raise ValueError(f"{prefix!r} cannot be the path of an application: give one like '/admin'")

    def _add(self, operation: Operation) -> None:
        path = self._paths.get(operation.path)
        if path is None:
            path = self._paths[operation.path] = Resource(operation.path)
            if "{" in operation.path:
                self._patterns.append((_pattern(operation.path), path))
        if operation.method in path.endpoints:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        path.endpoints[operation.method] = _Endpoint(operation)

    def find(self, path: str) -> tuple[Resource, Mapping[str, str]] | None:
        """The operations of a decoded path, and the parameters in it. A path without parameters goes first."""
        plain = self._paths.get(path)
        if plain is not None and "{" not in path:
            return plain, {}
        for pattern, resource in self._patterns:
            if match := pattern.fullmatch(path):
                return resource, match.groupdict()
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: for what is beside the operations, and for whoever speaks it. The body is bounded by the server."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        found = self.find(scope["path"])
        mount = None if found is not None else self._mount_of(scope["path"])
        if mount is None:
            await self._answer(*(found or (self._nowhere, {})), scope, receive, send)
        else:
            await self._pass_on(mount, scope, receive, send)

    async def _pass_on(self, mount: str, scope: Scope, receive: Receive, send: Send) -> None:
        application, permission = self._mounts[mount]
        try:
            permission.require(scope.get(CALLER, ANONYMOUS))
        except ForbiddenError as error:
            await send_reply(reply(self._refusal(error, scope["path"]), scope["path"]), send)
            return
        await application({**scope, "root_path": scope.get("root_path", "") + mount}, receive, send)

    def _mount_of(self, path: str) -> str | None:
        """The longest mounted path that this one is, or lies below."""
        while path:
            if path in self._mounts:
                return path
            path = path.rpartition("/")[0]
        return None

    async def _answer(
        self, path: Resource, path_params: Mapping[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        parts: list[bytes] = []
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            parts.append(event.get("body", b""))
            more = event.get("more_body", False)
        headers = joined(scope["headers"])
        caller = scope.get(CALLER, ANONYMOUS)
        asked = RequestHead(scope["method"], scope["path"], scope["query_string"], headers, path_params, caller)
        await send_reply(await self.reply_to(path, asked, b"".join(parts)), send)

    async def reply_to(
        self, path: Resource, asked: RequestHead, content: bytes, gone: asyncio.Future[None] | None = None
    ) -> Reply:
        """Carry out a request whose body is here already: every error becomes a problem document. `gone` is done once
        nobody waits for the answer.
        """
        started = perf_counter()
        header, tracing = asked.headers.get(b"traceparent"), self._state.tracing
        trace, span = accept_traceparent(header, self._state.rng), None
        if tracing is not None and (span := tracing.begin(asked.method, header, trace)) is not None:
            trace = span.traceparent
        try:
            answer = await self._perform(path, asked, content, trace, gone)
        except Exception as error:  # noqa: BLE001  (a request's failure must end in its answer)
            problem = self._refusal(error, asked.target)
            self._state.refuse(problem.name)
            answer = reply(problem, asked.target)
        known = asked.method if asked.method in path.endpoints or asked.method == "HEAD" else "other"
        self._state.observe(path.path, known, answer.status, perf_counter() - started)
        if tracing is not None and span is not None:
            tracing.end(span, path.path, known, answer.status)
        return answer

    def refused(self, error: ProblemError) -> None:
        """A request was refused before it got here."""
        self._state.refuse(error.name)
        self._state.observe(self._nowhere.path, "other", error.problem.status, 0.0)

    def timed_out(self, state: str) -> None:
        """A connection has outlasted the time of this state."""
        self._state.time_out(state)

    async def _perform(
        self, path: Resource, asked: RequestHead, content: bytes, trace: str, gone: asyncio.Future[None] | None
    ) -> Reply:
        if path is self._nowhere:
            raise self._nothing_here()
        endpoint = path.find(asked.method)
        endpoint.permission.require(asked.caller)
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
        answer = await endpoint.operation.handler(Request(body, content, values, trace, asked.caller, gone))
        if not asked.caller.sees_personal_data:
            answer.body = without_personal_data(answer.body)
        return answer

    def _nothing_here(self) -> ProblemError:
        if self._starting:
            return ProblemError(503, "the service is starting", retry_after_s=1)
        where = "; /docs shows what there is" if DOCS in self._paths else ""
        return ProblemError(404, f"there is nothing at this path{where}")

    @staticmethod
    def _refusal(error: Exception, path: str) -> ProblemError:
        known = to_problem(error)
        if known is None or known.problem.status == 500:
            logging.getLogger("orderflow.http").error("a request to %s failed", path, exc_info=error)
        return known or ProblemError(500, "the request hit a bug")


def _pattern(path: str) -> re.Pattern[str]:
    """`/orders/{order_id}`: a parameter is one segment."""
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile("".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))


async def send_reply(answer: Reply, send: Send) -> None:
    """Answer an ASGI request."""
    content, headers = head_of(answer)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


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


def without_personal_data(value: Any) -> Any:
    """The same with every personal field empty, however deep it lies: a text "", a list (), a structure its default,
    else null.
    """
    if isinstance(value, msgspec.Struct):
        personal = _personal_fields(type(value))
        told = {name: getattr(value, name) for name in value.__struct_fields__}
        changes = {
            name: _emptied(each) if name in personal else without_personal_data(each) for name, each in told.items()
        }
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, list | tuple):
        return type(value)(without_personal_data(each) for each in value)
    if isinstance(value, Mapping):
        return {key: without_personal_data(each) for key, each in value.items()}
    return value


def _emptied(value: Any) -> Any:
    if isinstance(value, str):
        return ""
    if isinstance(value, list | tuple):
        return ()
    if isinstance(value, msgspec.Struct) and all(each.default is None for each in msgspec.structs.fields(value)):
        return type(value)()
    return None


@cache
def _personal_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if PERSONAL in getattr(hint, "__metadata__", ()))
