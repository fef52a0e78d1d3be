"""uvicorn's HTTP/1.1 protocol with bounds on the head of a request, problem documents for what breaks it, and a
shorter way for fast operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orderflow.runtime.exchange import Exchange, fits
from orderflow.runtime.frame import Asked, Frame
from orderflow.runtime.problems import MEDIA_TYPE, Problem, encode

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 100
HEAD_TIMEOUT_S = 10.0


class BoundedProtocol(HttpToolsProtocol):
    """A connection that must send the head of a request within 10 s, in at most 64 KiB and 100 headers.

    `frame` gives the frame of the moment.
    """

    def __init__(self, *args: Any, frame: Callable[[], Frame], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._frame = frame
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, f"the head of the request is larger than {HEAD_BYTES_MAX} bytes")
        elif self._head_timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        if len(self.headers) > HEADERS_MAX:
            self._refuse(431, f"the request has more than {HEADERS_MAX} headers")
            return
        exchange = self._exchange()
        if exchange is None:
            super().on_headers_complete()
        else:
            self.cycle = exchange  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        exchange: object = self.cycle
        if isinstance(exchange, Exchange):
            exchange.body_timer.cancel()
            task = self.loop.create_task(self._answer(exchange))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif self.cycle is not None:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _exchange(self) -> Exchange | None:
        """For a fast operation whose body has a told length; whatever is less plain takes the way of ASGI."""
        frame = self._frame()
        method: str = self.parser.get_method().decode("ascii")
        path = frame.fast(method, self.url)
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if path is None or is_busy or self.expect_100_continue or self.parser.should_upgrade():
            return None
        headers = dict(self.headers)
        if not fits(self.headers, headers, frame.limits.bytes_max):
            return None
        return Exchange(
            path,
            Asked(method, path.path, b"", headers, {}),
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            body_timer=self.loop.call_later(frame.limits.read_s, self._late_body, frame.limits.read_s),
        )

    async def _answer(self, exchange: Exchange) -> None:
        reply = await self._frame().reply_to(exchange.path, exchange.asked, bytes(exchange.body))
        if self.flow.write_paused and not exchange.disconnected:
            await self.flow.drain()
        if exchange.disconnected or self.transport.is_closing():
            return
        status_line, default_headers = STATUS_LINE[reply.status], self.server_state.default_headers
        self.transport.write(exchange.rendered(status_line, default_headers, reply))
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _late_body(self, limit_s: float) -> None:
        self._refuse(408, f"the body did not arrive within {limit_s:g} s")

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, f"the head of the request did not arrive within {HEAD_TIMEOUT_S:g} s")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer ahead of the application, and end the connection."""
        if self.transport.is_closing():
            return
        line = STATUS_LINE[status]
        title = line.split(b" ", 2)[2].strip().decode()
        body = encode(Problem(status=status, title=title, detail=detail))
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (MEDIA_TYPE, len(body))
        self.transport.write(b"".join([line, head, body]))
        self.transport.close()
