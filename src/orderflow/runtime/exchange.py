"""One request of a fast operation and its answer, without ASGI: a whole body in, one write out.

ASGI's events, checks and timers cost more than all that the service itself does to accept an order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orderflow.runtime.frame import Asked, Path, head_of
from orderflow.runtime.operation import Headers, Reply

CLOSE = (b"connection", b"close")


class Exchange:
    """Stands where uvicorn's protocol keeps its RequestResponseCycle, and has what it asks of one."""

    __slots__ = (
        "asked",
        "body",
        "body_timer",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "path",
        "response_complete",
    )

    def __init__(self, path: Path, asked: Asked, *, keep_alive: bool, body_timer: asyncio.TimerHandle) -> None:
        self.path = path
        self.asked = asked
        self.keep_alive = keep_alive
        self.body_timer = body_timer
        self.body = bytearray()
        self.more_body = True
        self.message_event = asyncio.Event()
        self.disconnected = False
        self.response_complete = False

    def rendered(self, status_line: bytes, default_headers: Sequence[tuple[bytes, bytes]], reply: Reply) -> bytes:
        """The whole answer as bytes (RFC 9112). One that says `connection: close` is the last of its connection."""
        content, headers = head_of(reply)
        closing = CLOSE in headers
        self.keep_alive = self.keep_alive and not closing
        parts = [status_line]
        for name, value in (*default_headers, *headers, *_closing(said=closing or self.keep_alive)):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", content)
        return b"".join(parts)


def _closing(*, said: bool) -> Headers:
    return () if said else (CLOSE,)


def fits(headers: Sequence[tuple[bytes, bytes]], distinct: int, bytes_max: int) -> bool:
    """Whether the body's length is told and within bounds, and no header stands twice or asks for more than this."""
    return distinct == len(headers) and any(
        name == b"content-length" and value.isdigit() and len(value) < 10 and int(value) <= bytes_max
        for name, value in headers
    )
