"""A lean HTTP/1.1 client for one address: a request a connection at a time, idle connections kept.

A library's pool looks through all its connections at each request; while the service is away, there are thousands.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httptools

CONNECT_TIMEOUT_S = 5.0


class NotSentError(Exception):
    """Nothing was sent: the connection could not be made."""


class NoAnswerError(Exception):
    """The request was sent, and may have arrived; no answer came."""


class Reply:
    """`json` raises ValueError when the body is none."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self._body)


class HttpClient:
    """Close it after use."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[_Connection] = []

    async def get(self, path: str, *, timeout_s: float) -> Reply:
        """Raises NotSentError, NoAnswerError."""
        return await self._ask(b"GET %b HTTP/1.1\r\nhost: chaos\r\n\r\n" % path.encode(), timeout_s)

    async def post(self, path: str, body: bytes, *, timeout_s: float, key: str | None = None) -> Reply:
        """With an Idempotency-Key, or without. Raises NotSentError, NoAnswerError."""
        named = b"idempotency-key: %b\r\n" % json.dumps(key).encode() if key is not None else b""
        head = b"POST %b HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
        return await self._ask(head % (path.encode(), named, len(body)) + body, timeout_s)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def _ask(self, request: bytes, timeout_s: float) -> Reply:
        connection = await self._connection()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await connection.ask(request)
        except TimeoutError as error:
            connection.close()
            raise NoAnswerError("no answer in time") from error
        except BaseException:
            connection.close()
            raise
        if not connection.closed:
            self._idle.append(connection)
        return reply

    async def _connection(self) -> _Connection:
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise NotSentError(type(error).__name__) from error
        return made


class _Connection(asyncio.Protocol):
    """httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._parts: list[bytes] = []

    async def ask(self, request: bytes) -> Reply:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("the answer is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection broke")

    def on_message_begin(self) -> None:
        self._parts = []

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Reply(status, b"".join(self._parts)))

    def _fail(self, why: str) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswerError(why))
