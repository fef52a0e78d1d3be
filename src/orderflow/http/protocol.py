"""A connection: from bytes to requests, from replies to bytes (RFC 9112), and an end to every state it can be in.

How many there may be, and who makes room when it is full; and the bridge to what speaks ASGI.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from http import HTTPStatus
from typing import Protocol, cast

from orderflow.core.access import STRANGER, Caller
from orderflow.http.application import CALLER, CLOSE, Application, Event, RequestHead, Resource, Scope, head_of
from orderflow.http.framing import FramingLimits, Head, RefusedRequestError, RequestReader
from orderflow.http.gate import Ends, Gate
from orderflow.http.operation import ANSWER_OVERDUE, OVERLOADED, Reply
from orderflow.http.problems import ProblemError, reply

FILES_OF_OTHERS = 128
_BACKLOG_MAX = 1024
_SPARE_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one server. Every state of a connection has its time, in seconds.

    `handshake_s`: until TLS stands. `idle_s`: between two requests. `head_s` and `body_s`: until one is whole, from
    its first byte on. `answer_s`: for carrying it out. `write_s`: while an answer waits for its reader, who must take
    `write_rate_min` bytes a second over that time. `linger_s`: for a client that still sends after it
    was refused, at most `linger_bytes_max`.

    Of the connections beyond `connections_max`, up to `spare` are kept for probes and operators. `backlog` is how
    many the operating system may hold that were not accepted yet.
    """

    framing: FramingLimits = field(default_factory=FramingLimits)
    handshake_s: float = 10.0
    idle_s: float = 75.0
    head_s: float = 10.0
    body_s: float = 10.0
    answer_s: float = 120.0
    write_s: float = 10.0
    write_rate_min: int = 1024
    linger_s: float = 5.0
    linger_bytes_max: int = 32 * 1024 * 1024
    connections_max: int = 10_000
    spare: int = _SPARE_MAX
    backlog: int = _BACKLOG_MAX


def limits_for(connections_max: int, files_max: int | None, framing: FramingLimits | None = None) -> HttpLimits:
    """Limits that leave room for other files where a process may have `files_max` open (None: any number)."""
    framing = framing or FramingLimits()
    if files_max is None:
        return HttpLimits(framing=framing, connections_max=connections_max)
    backlog, spare = min(_BACKLOG_MAX, max(8, files_max // 8)), min(_SPARE_MAX, max(4, files_max // 32))
    room = max(8, files_max - FILES_OF_OTHERS - backlog - 3 * spare)
    return HttpLimits(framing=framing, connections_max=min(connections_max, room), spare=spare, backlog=backlog)


def for_operators(limits: HttpLimits) -> HttpLimits:
    """Of a door beside that one, for few. It is not full when the other one is."""
    return replace(limits, connections_max=limits.spare, spare=4, backlog=limits.spare)


def allow_files(wanted: int) -> int | None:
    """Let this process open `wanted` files, as far as its hard limit goes. How many it may; None: any number."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError):
            return soft
        return target
    return soft


def files_wanted(connections_max: int) -> int:
    """How many files a process should be allowed to open for so many connections."""
    return connections_max + 3 * _SPARE_MAX + _BACKLOG_MAX + FILES_OF_OTHERS


class PooledConnection(Protocol):
    """What is asked of a connection here. `is_spare` is set for one beyond the bound."""

    deadline: float
    is_spare: bool

    def expire(self) -> None: ...
    def evict(self) -> None: ...
    def shut_down(self) -> None: ...
    def abort(self) -> None: ...


class HttpConnections:
    """All connections of a server. Those without a request under way are `quiet`; when it is full, the one that has
    been quiet for longest makes room.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._all: dict[PooledConnection, None] = {}
        self._quiet: dict[PooledConnection, None] = {}
        self._quiet_spare: dict[PooledConnection, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def are_too_many(self) -> bool:
        return len(self._all) > self._limits.connections_max

    def enter(self, member: PooledConnection) -> None:
        """Take in a new connection, at another's cost if need be."""
        limits = self._limits
        self._all[member] = None
        if self.are_too_many:
            if self._quiet:
                self._evict_oldest(self._quiet)
            else:
                member.is_spare = True
        self.is_quiet(member)
        if len(self._all) > limits.connections_max + limits.spare:
            self._evict_oldest(self._quiet_spare or self._quiet)

    def leave(self, member: PooledConnection) -> None:
        self._all.pop(member, None)
        self.is_busy(member)
        self._changed.set()

    def is_quiet(self, member: PooledConnection) -> None:
        if member in self._all:
            (self._quiet_spare if member.is_spare else self._quiet)[member] = None

    def is_busy(self, member: PooledConnection) -> None:
        (self._quiet_spare if member.is_spare else self._quiet).pop(member, None)

    def expire(self, now: float) -> None:
        """End what has outlasted its time."""
        for member in [each for each in self._all if each.deadline <= now]:
            member.expire()

    async def shut_down(self, timeout_s: float) -> None:
        """Let each finish what it is at, for `timeout_s`; the rest is cut off."""
        for member in list(self._all):
            member.shut_down()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    while self._all:
                        self._changed.clear()
                        await self._changed.wait()
        finally:
            for member in list(self._all):
                member.abort()

    def _evict_oldest(self, quiet: dict[PooledConnection, None]) -> None:
        oldest = next(iter(quiet), None)
        if oldest is not None:
            self.leave(oldest)
            oldest.evict()


_NO_BODY = frozenset({204, 304})
_STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}


def rendered(reply: Reply, date: bytes, *, keep_alive: bool, is_head: bool = False) -> tuple[bytes, bool]:
    """The whole answer, and whether the connection goes on. One that says `connection: close` is its last."""
    content, headers = head_of(reply)
    if CLOSE in headers:
        keep_alive = False
    elif not keep_alive:
        headers.append(CLOSE)
    return _head(reply.status, headers, date, b"" if is_head else content), keep_alive


def _head(status: int, headers: Iterable[tuple[bytes, bytes]], date: bytes, content: bytes) -> bytes:
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, b"date: ", date, b"\r\n"]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", content)
    return b"".join(parts)


class Bridge:
    """One request to an ASGI application, its body whole. `write` waits until there is room.

    An answer whose length is not told ends with the connection: `keep_alive` says whether it goes on.
    """

    def __init__(
        self,
        head: Head,
        body: bytes,
        date: bytes,
        caller: Caller,
        gone: asyncio.Future[None],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._head = head
        self._caller = caller
        self._body: bytes | None = body
        self._date = date
        self._gone = gone
        self._write = write
        self._start: Event | None = None
        self.keep_alive = head.keep_alive
        self.is_started = False
        self.is_done = False

    @property
    def scope(self) -> Scope:
        head = self._head
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http",
            "path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": [*head.headers.items()],
            "client": None,
            "server": None,
            CALLER: self._caller,
        }

    async def receive(self) -> Event:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.wait({self._gone})
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            self._start = event
            return
        if self._start is None or self.is_done:
            raise RuntimeError(f"{event['type']} does not come now")
        content: bytes = event.get("body", b"")
        self.is_done = not event.get("more_body", False)
        if self._head.method == "HEAD":
            content = b""
        if not self.is_started:
            self.is_started = True
            content = self._opened(self._start) + content
        if content:
            await self._write(content)

    def _opened(self, start: Event) -> bytes:
        headers = [*start.get("headers", ())]
        status: int = start["status"]
        if CLOSE in headers or (not any(name == b"content-length" for name, _ in headers) and status not in _NO_BODY):
            self.keep_alive = False
        if not self.keep_alive and CLOSE not in headers:
            headers.append(CLOSE)
        return _head(status, headers, self._date, b"")


READ_AHEAD_MAX = 64 * 1024
CROWDED_RETRY_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Serving:
    """What the connections of one server share. `application` gives the one of the moment, `now` a monotonic time in
    seconds, `date` the value of the header.
    """

    application: Callable[[], Application]
    gate: Gate
    limits: HttpLimits
    connections: HttpConnections
    now: Callable[[], float]
    date: bytes = b""
    stopping: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)


class ConnectionState(Enum):
    """`IDLE`: between requests. `LINGERING`: refused, but still sending. `CLOSING`: the last answer is on its way."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answer"
    LINGERING = "linger"
    CLOSING = "write"


_ENDING = frozenset({ConnectionState.LINGERING, ConnectionState.CLOSING})


class Connection(asyncio.Protocol):
    """One request at a time: what comes meanwhile waits, up to a bound, unread.

    A state ends by what the client does or by its deadline, which `HttpConnections` looks at: a timer for each state
    of each request would cost more than the request's framing.
    """

    def __init__(self, serving: Serving) -> None:
        self.deadline = float("inf")
        self.is_spare = False
        self._serving = serving
        self._reader = RequestReader(serving.limits.framing)
        self._transport: asyncio.Transport
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained: asyncio.Future[None] | None = None
        self._state = ConnectionState.HEAD
        self._head: Head | None = None
        self._caller: Caller = STRANGER
        self._ends = Ends()
        self._is_streaming = False
        self._is_reading = True
        self._unwritten = 0
        self._lingered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        info = transport.get_extra_info
        self._ends = self._serving.gate.ends(info("sockname"), info("peername"))
        self._last_until(self._serving.limits.head_s)
        self._serving.connections.enter(self)
        if self._serving.stopping:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = ConnectionState.CLOSING
        self._serving.connections.leave(self)
        if not self._gone.done():
            self._gone.set_result(None)
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        if self._state in _ENDING:
            self._let_go(len(data))
            return
        self._reader.feed(data)
        if self._state is not ConnectionState.ANSWERING and self._drained is None:
            self._advance()
        elif self._reader.held > READ_AHEAD_MAX and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()
        self._watch_writing()

    def resume_writing(self) -> None:
        self._wake_writer()
        limits = self._serving.limits
        if self._state is ConnectionState.ANSWERING:
            self._last_until(limits.answer_s)
        elif self._state not in _ENDING:
            seconds = {
                ConnectionState.IDLE: limits.idle_s,
                ConnectionState.HEAD: limits.head_s,
                ConnectionState.BODY: limits.body_s,
            }
            self._last_until(seconds[self._state])
            self._go_on()

    def expire(self) -> None:
        """The time of the state is over."""
        limits = self._serving.limits
        is_unread = self._drained is not None or self._state is ConnectionState.CLOSING
        left = self._transport.get_write_buffer_size()
        if is_unread and self._unwritten - left >= limits.write_s * limits.write_rate_min:
            self._watch_writing()
            return
        self._serving.application().timed_out("write" if is_unread else self._state.value)
        if is_unread:
            self.abort()
        elif self._state is ConnectionState.HEAD:
            self._refuse(408, f"the head of the request did not arrive within {limits.head_s:g} s")
        elif self._state is ConnectionState.BODY:
            self._refuse(408, f"the body did not arrive within {limits.body_s:g} s")
        elif self._state is ConnectionState.ANSWERING and self._is_streaming:
            self.abort()
        elif self._state is ConnectionState.ANSWERING:
            detail = f"there was no answer within {limits.answer_s:g} s; the request may or may not take effect"
            self._refuse_with(ProblemError(503, detail, kind=ANSWER_OVERDUE, retry_after_s=CROWDED_RETRY_S))
        else:
            self._close()

    def evict(self) -> None:
        """Make room for another connection."""
        if self._state in (ConnectionState.HEAD, ConnectionState.BODY) and (
            self._head is not None or self._reader.held
        ):
            self._refuse_with(_crowded())
        self._close()
        if self._transport.get_write_buffer_size():
            self.abort()

    def shut_down(self) -> None:
        """The server stops: a request that has begun is finished, and is the last."""
        begun = self._state in (ConnectionState.BODY, ConnectionState.ANSWERING) or (
            self._state is ConnectionState.HEAD and self._reader.held > 0
        )
        if not begun:
            self._close()

    def abort(self) -> None:
        self._state = ConnectionState.CLOSING
        self._transport.abort()

    def _advance(self) -> None:
        """Read on, as far as what is here goes."""
        try:
            head = self._head or self._begin()
            if head is None:
                return
            body = self._reader.body(head)
        except RefusedRequestError as error:
            self._refuse(error.status, str(error))
            return
        except ProblemError as error:
            self._refuse_with(error)
            return
        if body is not None:
            self._answer(head, body)
        elif self._state is not ConnectionState.BODY:
            self._state = ConnectionState.BODY
            self._last_until(self._serving.limits.body_s)
            if head.expects_continue:
                self._transport.write(_CONTINUE)

    def _begin(self) -> Head | None:
        """The head of a request that may be carried out. Raises RefusedRequestError, ProblemError."""
        self._head = self._reader.head()
        if self._head is None:
            if self._state is ConnectionState.IDLE and self._reader.held:
                self._state = ConnectionState.HEAD
                self._last_until(self._serving.limits.head_s)
        elif self.is_spare and self._serving.connections.are_too_many and not self._is_vital(self._head.path):
            raise _crowded()
        else:
            self._caller = self._serving.gate.admit(self._head.headers, self._ends)
        return self._head

    def _is_vital(self, path: str) -> bool:
        found = self._serving.application().find(path)
        return found is not None and found[0].is_vital

    def _answer(self, head: Head, body: bytes) -> None:
        self._state = ConnectionState.ANSWERING
        self._last_until(self._serving.limits.answer_s)
        self._serving.connections.is_busy(self)
        application = self._serving.application()
        found = application.find(head.path)
        work = (
            self._bridge(application, head, body) if found is None else self._reply(application, *found, head, body)
        )
        task = asyncio.get_running_loop().create_task(work)
        self._serving.tasks.add(task)
        task.add_done_callback(self._serving.tasks.discard)

    async def _reply(
        self, application: Application, resource: Resource, path_params: Mapping[str, str], head: Head, body: bytes
    ) -> None:
        asked = RequestHead(head.method, head.path, head.query, head.headers, path_params, self._caller)
        answer = await application.reply_to(resource, asked, body, self._gone)
        if self._state is ConnectionState.ANSWERING:
            self._end_with(answer, head)

    def _end_with(self, answer: Reply, head: Head) -> None:
        content, keep_alive = rendered(
            answer, self._serving.date, keep_alive=self._may_go_on(head), is_head=head.method == "HEAD"
        )
        self._transport.write(content)
        self._finish(keep_alive=keep_alive)

    async def _bridge(self, application: Application, head: Head, body: bytes) -> None:
        bridge = Bridge(head, body, self._serving.date, self._caller, self._gone, self._stream)
        bridge.keep_alive = self._may_go_on(head)
        try:
            await application(bridge.scope, bridge.receive, bridge.send)
        except _GoneError:
            return
        except Exception:
            logging.getLogger("orderflow.http").exception("a request to %s failed", head.path)
        if self._state is not ConnectionState.ANSWERING:
            return
        if bridge.is_done:
            self._finish(keep_alive=bridge.keep_alive)
        elif bridge.is_started:
            self.abort()
        else:
            self._end_with(reply(ProblemError(500, "the request hit a bug"), head.path), head)

    async def _stream(self, content: bytes) -> None:
        if self._drained is not None:
            await asyncio.wait({self._drained})
        if self._state is not ConnectionState.ANSWERING:
            raise _GoneError
        self._is_streaming = True
        self._transport.write(content)

    def _may_go_on(self, head: Head) -> bool:
        return head.keep_alive and not self.is_spare and not self._serving.stopping

    def _finish(self, *, keep_alive: bool) -> None:
        self._head = None
        self._is_streaming = False
        if keep_alive and not self._transport.is_closing():
            self._state = ConnectionState.IDLE
            self._serving.connections.is_quiet(self)
            if self._drained is None:
                self._last_until(self._serving.limits.idle_s)
                self._go_on()
        elif self._reader.held:
            self._linger()
        else:
            self._close()

    def _go_on(self) -> None:
        if self._reader.held:
            self._advance()
        if not self._is_reading and (
            self._state is not ConnectionState.ANSWERING or self._reader.held <= READ_AHEAD_MAX
        ):
            self._is_reading = True
            self._transport.resume_reading()

    def _refuse(self, status: int, detail: str) -> None:
        self._refuse_with(ProblemError(status, detail))

    def _refuse_with(self, error: ProblemError) -> None:
        """Answer ahead of the application; the connection cannot be used again."""
        if self._state in _ENDING or self._transport.is_closing():
            return
        path = self._head.path if self._head is not None else None
        self._serving.application().refused(error)
        content, _ = rendered(reply(error, path), self._serving.date, keep_alive=False)
        self._transport.write(content)
        self._linger()

    def _linger(self) -> None:
        """Read on and forget: a client that writes all before it reads would lose the answer by an early end."""
        self._state = ConnectionState.LINGERING
        self._reader.forget()
        self._last_until(self._serving.limits.linger_s)
        self._serving.connections.is_quiet(self)
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _let_go(self, size: int) -> None:
        self._lingered += size
        if self._lingered > self._serving.limits.linger_bytes_max and self._state is ConnectionState.LINGERING:
            self._close()

    def _close(self) -> None:
        if self._state is not ConnectionState.CLOSING:
            self._state = ConnectionState.CLOSING
            self._serving.connections.is_quiet(self)
            self._watch_writing()
            self._transport.close()

    def _watch_writing(self) -> None:
        self._unwritten = self._transport.get_write_buffer_size()
        self._last_until(self._serving.limits.write_s)

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _last_until(self, seconds: float) -> None:
        self.deadline = self._serving.now() + seconds


class _GoneError(Exception):
    """Nobody is there to read the rest of an answer."""


def _crowded() -> ProblemError:
    return ProblemError(503, "too many connections", kind=OVERLOADED, retry_after_s=CROWDED_RETRY_S)
