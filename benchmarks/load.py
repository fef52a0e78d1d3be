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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
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
        if self._transport is not None:
            self._transport.close()


class Pool:
    """A fixed set of connections to one port."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = list(connections)
        self._free = deque(connections)
        self._waiters: deque[asyncio.Future[None]] = deque()

    @classmethod
    async def open(cls, port: int, size: int) -> Pool:
        loop = asyncio.get_running_loop()
        opened = [await loop.create_connection(Connection, HOST, port) for _ in range(size)]
        return cls([protocol for _, protocol in opened])

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        while not self._free:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        connection = self._free.popleft()
        try:
            return await connection.request(raw)
        finally:
            self._free.append(connection)
            if self._waiters:
                self._waiters.popleft().set_result(None)

    def close(self) -> None:
        for connection in self.connections:
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


async def closed_loop(pool: Pool, count: int, make: Callable[[int], bytes]) -> Load:
    """`count` requests, one after the other on each connection: the most that the server takes."""
    load = Load()
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

    await asyncio.gather(*(work(connection) for connection in pool.connections))
    load.duration_s = time.perf_counter() - started
    return load


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
