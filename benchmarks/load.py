"""A lean HTTP/1.1 load client: it must cost little beside what it measures."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httptools

HOST = "127.0.0.1"


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # What it says to a connection that asks for nothing, before it closes it.
            self.close()
        else:
            self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.set_result((self._parser.get_status_code(), bytes(self._body)))
        self._parser = httptools.HttpResponseParser(self)
        self._body.clear()

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        """Send a whole request; return status and body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Pool:
    """Connections to one port, opened when one is needed that is not there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: deque[Connection] = deque()

    async def connect(self) -> Connection:
        _, protocol = await asyncio.get_running_loop().create_connection(Connection, HOST, self._port)
        return protocol

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        """The connection that rested shortest takes it, so that those that are not needed end."""
        connection = self._free.pop() if self._free else await self.connect()
        while connection.closed:
            connection = self._free.pop() if self._free else await self.connect()
        answer = await connection.request(raw)
        self._free.append(connection)
        return answer

    def close(self) -> None:
        for connection in self._free:
            connection.close()


@dataclass(slots=True)
class Load:
    """What a load run saw. Latencies are in s, from the send (or when it was due) to the answer."""

    sent: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    duration_s: float = 0.0


def post(path: str, body: bytes) -> bytes:
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{kind}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def closed_loop(port: int, connections: int, count: int, make: Callable[[int], bytes]) -> Load:
    """`count` requests, one after the other on each connection: the most that the server takes."""
    load, pool = Load(), Pool(port)
    opened = [await pool.connect() for _ in range(connections)]
    numbers = iter(range(count))
    started = time.perf_counter()

    async def work(connection: Connection) -> None:
        for number in numbers:
            sent = time.perf_counter()
            status, body = await connection.request(make(number))
            load.latencies.append(time.perf_counter() - sent)
            load.sent += 1
            if status >= 300:
                load.refused += 1
            else:
                load.bodies.append(body)

    try:
        await asyncio.gather(*(work(connection) for connection in opened))
        load.duration_s = time.perf_counter() - started
    finally:
        for connection in opened:
            connection.close()
    return load


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
