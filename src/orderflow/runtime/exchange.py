"""Answers as bytes (RFC 9112), and the bridge to what speaks ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from orderflow.runtime.asgi import Event, Scope
from orderflow.runtime.frame import CLOSE, head_of
from orderflow.runtime.framing import Head
from orderflow.runtime.operation import Reply

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
        gone: asyncio.Future[None],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._head = head
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
