"""A lean HTTP/1.1 client connection, one request at a time, kept alive; and what a shop can order at first."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

import httptools

SOLD_OUT_SKU = "SKU-SOLD-OUT"
PRICES: Mapping[str, int] = MappingProxyType(
    {
        "SKU-ESPRESSO-CUP": 590,
        "SKU-COFFEE-BEANS-1KG": 1890,
        "SKU-PAPER-FILTER-100": 490,
        "SKU-MILK-JUG": 1450,
        "SKU-TEA-TOWEL": 950,
        "SKU-HAND-GRINDER": 7900,
        "SKU-POUR-OVER-KETTLE": 5400,
        "SKU-LINEN-APRON": 3200,
        "SKU-BREAD-KNIFE": 4150,
        "SKU-CAST-IRON-PAN": 6900,
        "SKU-DESK-LAMP": 8900,
        "SKU-WALL-CLOCK": 4700,
    }
)
"""SKU of the demo catalogue → unit price in minor units, the most popular first."""


CONNECT_TIMEOUT_S = 5.0


class LostError(Exception):
    """No answer came to a request that may have arrived."""


class NothingAnswersError(Exception):
    """The connection could not be made."""


@dataclass(slots=True)
class HttpReply:
    """An answer. `retry_after_s` is None where the header is not there."""

    status: int = 0
    body: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        text = self.headers.get(b"retry-after", b"")
        return float(text) if text.isdigit() else None


class Endpoint:
    """A service's base URL, ready to make requests for. `tls`: by what an https one is known."""

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or "127.0.0.1"
        self.tls = tls() if parts.scheme == "https" else None
        self.port = parts.port or (443 if self.tls else 80)
        self._prefix = parts.path.rstrip("/").encode()
        self._host_line = b"host: " + parts.netloc.rpartition("@")[2].encode() + b"\r\n"

    def get(self, path: str) -> bytes:
        """The bytes of a GET."""
        return b"GET %b%b HTTP/1.1\r\n%b\r\n" % (self._prefix, path.encode(), self._host_line)

    def send(self, method: bytes, path: str, body: bytes, extra: bytes = b"") -> bytes:
        """The bytes of a request with a JSON body; `extra` are whole header lines."""
        return b"%b %b%b HTTP/1.1\r\n%bcontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
            method,
            self._prefix,
            path.encode(),
            self._host_line,
            extra,
            len(body),
            body,
        )


class LoadClient:
    """One connection to an endpoint, made when it is needed and again after it broke."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: _Connection | None = None

    async def ask(self, request: bytes, timeout_s: float) -> HttpReply:
        """Raises NothingAnswersError, LostError."""
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await self._connect()
        return await connection.ask(request, timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> _Connection:
        endpoint = self._endpoint
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    _Connection, endpoint.host, endpoint.port, ssl=endpoint.tls
                )
        except (OSError, TimeoutError) as error:
            raise NothingAnswersError(endpoint.url) from error
        return connection


class Pool:
    """Clients of one endpoint, as many as there are requests at a time; the last one that was used goes first.

    A library's pool looks through all its connections at each request; while a service is away, there are thousands.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[LoadClient] = []

    async def ask(self, request: bytes, timeout_s: float) -> HttpReply:
        """Raises NothingAnswersError, LostError."""
        client = self._idle.pop() if self._idle else LoadClient(self._endpoint)
        reply = await client.ask(request, timeout_s)
        self._idle.append(client)
        return reply

    def close(self) -> None:
        for client in self._idle:
            client.close()


class _Connection(asyncio.Protocol):
    """httptools calls the `on_` methods; an answer ends in the future of its request."""

    def __init__(self) -> None:
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[HttpReply] | None = None
        self._reply = HttpReply()
        self._parts: list[bytes] = []

    async def ask(self, request: bytes, timeout_s: float) -> HttpReply:
        assert self._transport is not None
        answer: asyncio.Future[HttpReply] = self._loop.create_future()
        self._answer = answer
        limit = self._loop.call_later(timeout_s, self._fail, "no answer in time")
        self._transport.write(request)
        try:
            return await answer
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            limit.cancel()

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
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection broke")

    def on_message_begin(self) -> None:
        self._reply = HttpReply()
        self._parts = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._reply.status = status
        self._reply.body = b"".join(self._parts)
        if not self._parser.should_keep_alive():
            self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(self._reply)

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        self.close()
        if answer is not None and not answer.done():
            answer.set_exception(LostError(why))
