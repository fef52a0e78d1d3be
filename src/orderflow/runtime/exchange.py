"""One request of a fast operation and its answer, without ASGI: a whole body in, one write out.

ASGI's events, checks and timers cost more than all that the service itself does to accept an order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from orderflow.runtime.frame import CLOSE, Asked, Resource, head_of
from orderflow.runtime.operation import Reply

Fields = Sequence[tuple[bytes, bytes]]


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

    def __init__(self, path: Resource, asked: Asked, *, keep_alive: bool, body_timer: asyncio.TimerHandle) -> None:
        self.path = path
        self.asked = asked
        self.keep_alive = keep_alive
        self.body_timer = body_timer
        self.body = bytearray()
        self.more_body = True
        self.message_event = asyncio.Event()
        self.disconnected = False
        self.response_complete = False

    def rendered(self, status_line: bytes, default_headers: Fields, reply: Reply) -> bytes:
        """The whole answer as bytes (RFC 9112). One that says `connection: close` is the last of its connection."""
        content, headers = head_of(reply)
        if CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(CLOSE)
        parts = [status_line]
        for name, value in (*default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", content)
        return b"".join(parts)


def fits(fields: Fields, headers: Mapping[bytes, bytes], bytes_max: int) -> bool:
    """Whether the body's length is told and within bounds, and no field stands twice: `headers` are they by name."""
    length = headers.get(b"content-length", b"")
    return len(headers) == len(fields) and length.isdigit() and len(length) < 10 and int(length) <= bytes_max
