"""A client's connection: from bytes to requests, from replies to bytes, and an end to every state it can be in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import cast

from orderflow.runtime.connections import Connections, HttpLimits
from orderflow.runtime.exchange import Bridge, rendered
from orderflow.runtime.frame import Asked, Frame, Resource
from orderflow.runtime.framing import Head, RefusedRequestError, RequestReader
from orderflow.runtime.operation import Reply
from orderflow.runtime.problem_types import ANSWER_OVERDUE, OVERLOADED
from orderflow.runtime.problems import ProblemError, reply

READ_AHEAD_MAX = 64 * 1024
CROWDED_RETRY_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Serving:
    """What the connections of one server share. `frame` gives the frame of the moment, `now` a monotonic time in
    seconds, `date` the value of the header.
    """

    frame: Callable[[], Frame]
    limits: HttpLimits
    connections: Connections
    now: Callable[[], float]
    date: bytes = b""
    stopping: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class State(Enum):
    """`IDLE`: between requests. `LINGERING`: refused, but still sending. `CLOSING`: the last answer is on its way."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    LINGERING = auto()
    CLOSING = auto()


_ENDING = frozenset({State.LINGERING, State.CLOSING})


class Connection(asyncio.Protocol):
    """One request at a time: what comes meanwhile waits, up to a bound, unread.

    A state ends by what the client does or by its deadline, which `Connections` looks at: a timer for each state of
    each request would cost more than the request's framing.
    """

    def __init__(self, serving: Serving) -> None:
        self.deadline = float("inf")
        self.is_spare = False
        self._serving = serving
        self._reader = RequestReader(serving.limits.framing)
        self._transport: asyncio.Transport
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained: asyncio.Future[None] | None = None
        self._state = State.HEAD
        self._head: Head | None = None
        self._is_streaming = False
        self._is_reading = True
        self._unwritten = 0
        self._lingered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_until(self._serving.limits.head_s)
        self._serving.connections.enter(self)
        if self._serving.stopping:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = State.CLOSING
        self._serving.connections.leave(self)
        if not self._gone.done():
            self._gone.set_result(None)
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        if self._state in _ENDING:
            self._let_go(len(data))
            return
        self._reader.feed(data)
        if self._state is not State.ANSWERING and self._drained is None:
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
        if self._state is State.ANSWERING:
            self._last_until(limits.answer_s)
        elif self._state not in _ENDING:
            seconds = {State.IDLE: limits.idle_s, State.HEAD: limits.head_s, State.BODY: limits.body_s}
            self._last_until(seconds[self._state])
            self._go_on()

    def expire(self) -> None:
        """The time of the state is over."""
        limits = self._serving.limits
        if self._drained is not None or self._state is State.CLOSING:
            left = self._transport.get_write_buffer_size()
            if self._unwritten - left < limits.write_s * limits.write_rate_min:
                self.abort()
            else:
                self._watch_writing()
        elif self._state is State.HEAD:
            self._refuse(408, f"the head of the request did not arrive within {limits.head_s:g} s")
        elif self._state is State.BODY:
            self._refuse(408, f"the body did not arrive within {limits.body_s:g} s")
        elif self._state is State.ANSWERING and self._is_streaming:
            self.abort()
        elif self._state is State.ANSWERING:
            detail = f"there was no answer within {limits.answer_s:g} s; whether the request takes effect is open"
            self._refuse_with(ProblemError(503, detail, kind=ANSWER_OVERDUE, retry_after_s=CROWDED_RETRY_S))
        else:
            self._close()

    def evict(self) -> None:
        """Make room for another connection."""
        if self._state in (State.HEAD, State.BODY) and (self._head is not None or self._reader.held):
            self._refuse_with(_crowded())
        self._close()
        if self._transport.get_write_buffer_size():
            self.abort()

    def shut_down(self) -> None:
        """The server stops: a request that has begun is finished, and is the last."""
        begun = self._state in (State.BODY, State.ANSWERING) or (self._state is State.HEAD and self._reader.held > 0)
        if not begun:
            self._close()

    def abort(self) -> None:
        self._state = State.CLOSING
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
        elif self._state is not State.BODY:
            self._state = State.BODY
            self._last_until(self._serving.limits.body_s)
            if head.expects_continue:
                self._transport.write(_CONTINUE)

    def _begin(self) -> Head | None:
        """The head of a request that may be carried out. Raises RefusedRequestError, ProblemError."""
        self._head = self._reader.head()
        if self._head is None:
            if self._state is State.IDLE and self._reader.held:
                self._state = State.HEAD
                self._last_until(self._serving.limits.head_s)
        elif self.is_spare and self._serving.connections.are_too_many and not self._is_vital(self._head.path):
            raise _crowded()
        return self._head

    def _is_vital(self, path: str) -> bool:
        found = self._serving.frame().find(path)
        return found is not None and found[0].is_vital

    def _answer(self, head: Head, body: bytes) -> None:
        self._state = State.ANSWERING
        self._last_until(self._serving.limits.answer_s)
        self._serving.connections.is_busy(self)
        frame = self._serving.frame()
        found = frame.find(head.path)
        work = self._bridge(frame, head, body) if found is None else self._reply(frame, *found, head, body)
        task = asyncio.get_running_loop().create_task(work)
        self._serving.tasks.add(task)
        task.add_done_callback(self._serving.tasks.discard)

    async def _reply(
        self, frame: Frame, resource: Resource, path_params: Mapping[str, str], head: Head, body: bytes
    ) -> None:
        asked = Asked(head.method, head.path, head.query, head.headers, path_params)
        answer = await frame.reply_to(resource, asked, body, self._gone)
        if self._state is State.ANSWERING:
            self._end_with(answer, head)

    def _end_with(self, answer: Reply, head: Head) -> None:
        content, keep_alive = rendered(
            answer, self._serving.date, keep_alive=self._may_go_on(head), is_head=head.method == "HEAD"
        )
        self._transport.write(content)
        self._finish(keep_alive=keep_alive)

    async def _bridge(self, frame: Frame, head: Head, body: bytes) -> None:
        bridge = Bridge(head, body, self._serving.date, self._gone, self._stream)
        bridge.keep_alive = self._may_go_on(head)
        try:
            await frame(bridge.scope, bridge.receive, bridge.send)
        except _GoneError:
            return
        except Exception:
            logging.getLogger("orderflow.http").exception("a request to %s failed", head.path)
        if self._state is not State.ANSWERING:
            return
        if bridge.is_done:
            self._finish(keep_alive=bridge.keep_alive)
        elif bridge.is_started:
            self.abort()
        else:
            self._end_with(reply(ProblemError(500, "the request met a defect"), head.path), head)

    async def _stream(self, content: bytes) -> None:
        if self._drained is not None:
            await asyncio.wait({self._drained})
        if self._state is not State.ANSWERING:
            raise _GoneError
        self._is_streaming = True
        self._transport.write(content)

    def _may_go_on(self, head: Head) -> bool:
        return head.keep_alive and not self.is_spare and not self._serving.stopping

    def _finish(self, *, keep_alive: bool) -> None:
        self._head = None
        self._is_streaming = False
        if keep_alive and not self._transport.is_closing():
            self._state = State.IDLE
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
        if not self._is_reading and (self._state is not State.ANSWERING or self._reader.held <= READ_AHEAD_MAX):
            self._is_reading = True
            self._transport.resume_reading()

    def _refuse(self, status: int, detail: str) -> None:
        self._refuse_with(ProblemError(status, detail))

    def _refuse_with(self, error: ProblemError) -> None:
        """Answer ahead of the application; the connection cannot be used again."""
        if self._state in _ENDING or self._transport.is_closing():
            return
        path = self._head.path if self._head is not None else None
        self._serving.frame().refused(error.problem.status)
        content, _ = rendered(reply(error, path), self._serving.date, keep_alive=False)
        self._transport.write(content)
        self._linger()

    def _linger(self) -> None:
        """Read on and forget: a client that writes all before it reads would lose the answer by an early end."""
        self._state = State.LINGERING
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
        if self._lingered > self._serving.limits.linger_bytes_max and self._state is State.LINGERING:
            self._close()

    def _close(self) -> None:
        if self._state is not State.CLOSING:
            self._state = State.CLOSING
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
    return ProblemError(503, "there are too many connections", kind=OVERLOADED, retry_after_s=CROWDED_RETRY_S)
