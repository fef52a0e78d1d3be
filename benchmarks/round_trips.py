"""Count what a program asks of PostgreSQL, from outside: a proxy on 127.0.0.1 that reads the protocol as it passes.

It knows nothing of the program, so releases that are built quite differently are counted alike. Messages are those of
protocol 3.0 (PostgreSQL's documentation, chapter "Frontend/Backend Protocol").
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PROTOCOL_3 = 3
REQUESTS_FOR_ENCRYPTION = (80877103, 80877104)
"""SSLRequest and GSSENCRequest: answered with N, as a server does that has neither."""

PREPARE = "(prepare)"
LABEL_LENGTH = 80
_LITERAL = re.compile(r"'[^']*'")
_COMMENT = re.compile(r"--[^\n]*")
_QUERY = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(slots=True)
class Counts:
    """What has passed so far, by database.

    `trips`: (database, statements) → how often; a trip ends with ReadyForQuery and may carry several statements.
    `transactions`: how many trips left the session outside a transaction. `wake_ups`: notifications handed out.
    """

    trips: Counter[tuple[str, str]] = field(default_factory=Counter)
    transactions: Counter[str] = field(default_factory=Counter)
    wake_ups: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Counts:
        return Counts(self.trips.copy(), self.transactions.copy(), self.wake_ups.copy())

    def since(self, before: Counts) -> Counts:
        """What has been added."""
        return Counts(
            self.trips - before.trips, self.transactions - before.transactions, self.wake_ups - before.wake_ups
        )

    def less(self, other: Counts, times: float) -> Counts:
        """Without so many times the other counts, rounded; nothing is below zero."""

        def left(mine: Counter[Any], theirs: Counter[Any]) -> Counter[Any]:
            return mine - Counter({name: round(count * times) for name, count in theirs.items()})

        return Counts(
            left(self.trips, other.trips),
            left(self.transactions, other.transactions),
            left(self.wake_ups, other.wake_ups),
        )

    def by_database(self) -> Counter[str]:
        """Round trips."""
        found: Counter[str] = Counter()
        for (database, _), count in self.trips.items():
            found[database] += count
        return found


class Proxy:
    """Before the PostgreSQL at `behind`, a port of 127.0.0.1, on a thread of its own.

    `names`: statement → what it is called.
    """

    def __init__(self, behind: int, names: Mapping[str, str]) -> None:
        self.behind = behind
        self.names = names
        self.counts = Counts()
        self.port = 0
        self.open: set[asyncio.Transport | None] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def so_far(self) -> Counts:
        async def copy() -> Counts:
            return self.counts.copy()

        return asyncio.run_coroutine_threadsafe(copy(), self._loop).result()

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Client(self), HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for transport in tuple(self.open):
            if transport is not None:
                transport.abort()
        while self.open:  # noqa: ASYNC110  # each takes itself out in the loop's next turn
            await asyncio.sleep(0)


@contextmanager
def counting(behind: int, queries: Path) -> Iterator[Proxy]:
    """A proxy that listens on a free port. Statements are named as the `.sql` files below `queries` name them."""
    proxy = Proxy(behind, read_names(queries.rglob("*.sql")))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def read_names(files: Iterable[Path]) -> dict[str, str]:
    """Statement, on one line and without comments → its name in the file."""
    return {
        on_one_line(statement): name
        for path in files
        for name, statement in _QUERY.findall(path.read_text(encoding="utf-8"))
    }


def on_one_line(statement: str) -> str:
    return " ".join(_COMMENT.sub("", statement).split()).removesuffix(";").rstrip()


class _Messages:
    """Cuts a stream into messages: (type, body)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= 5:
            end = at + 1 + int.from_bytes(buffer[at + 1 : at + 5])
            if len(buffer) < end:
                break
            yield buffer[at], bytes(buffer[at + 5 : end])
            at = end
        del buffer[:at]


class Session:
    """Reads one connection, both directions. `names`: statement on one line → what it is called."""

    def __init__(self, counts: Counts, names: Mapping[str, str], database: str) -> None:
        self._counts, self._names, self._database = counts, names, database
        self._asked, self._answered = _Messages(), _Messages()
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._executed: list[str] = []
        self._under_way: deque[str] = deque()

    def from_client(self, data: bytes) -> None:
        for kind, body in self._asked.feed(data):
            match chr(kind):
                case "P":
                    name, statement, _ = body.split(b"\0", 2)
                    self._statements[name] = self._name(statement)
                case "B":
                    portal, name, _ = body.split(b"\0", 2)
                    self._portals[portal] = self._statements.get(name, "?")
                case "E":
                    self._executed.append(self._portals.get(body.split(b"\0", 1)[0], "?"))
                case "Q":
                    self._executed.append(self._name(body.rstrip(b"\0")))
                    self._end_of_trip()
                case "S":
                    self._end_of_trip()

    def _end_of_trip(self) -> None:
        self._under_way.append(" + ".join(self._executed) or PREPARE)
        self._executed.clear()

    def from_server(self, data: bytes) -> None:
        counts = self._counts
        for kind, body in self._answered.feed(data):
            match chr(kind):
                case "A":
                    counts.wake_ups[self._database] += 1
                case "Z" if self._under_way:
                    counts.trips[self._database, self._under_way.popleft()] += 1
                    counts.transactions[self._database] += body == b"I"

    def _name(self, statement: bytes) -> str:
        line = on_one_line(statement.decode(errors="replace"))
        return self._names.get(line) or _LITERAL.sub("'…'", line)[:LABEL_LENGTH]


class _Client(asyncio.Protocol):
    """The side of the program under test."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._start = bytearray()
        self._early = bytearray()
        self._session: Session | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.open.add(transport)

    def data_received(self, data: bytes) -> None:
        if self._session is not None:
            self._session.from_client(data)
        if self._server is not None:
            self._server.send(data)
        elif self._task is not None:
            self._early += data
        else:
            self._start += data
            self._begin()

    def _begin(self) -> None:
        """The first message has no type: a length and a code."""
        assert self._transport is not None
        while len(self._start) >= 8 and len(self._start) >= (length := int.from_bytes(self._start[:4])):
            code = int.from_bytes(self._start[4:8])
            if code in REQUESTS_FOR_ENCRYPTION:
                del self._start[:length]
                self._transport.write(b"N")
                continue
            if code >> 16 == PROTOCOL_3:
                self._session = Session(
                    self._proxy.counts,
                    self._proxy.names,
                    _parameters(bytes(self._start[8:length])).get("database", "?"),
                )
                self._session.from_client(bytes(self._start[length:]))
            self._early = self._start
            self._task = asyncio.ensure_future(self._connect())
            return

    async def _connect(self) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(
                lambda: _Server(self._proxy, self._transport, self._session), HOST, self._proxy.behind
            )
        except OSError:
            self._transport.close()
            return
        server.send(bytes(self._early))
        self._server = server

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.open.discard(self._transport)
        if self._task is not None and self._server is None:
            self._task.cancel()
        if self._server is not None:
            self._server.close()


class _Server(asyncio.Protocol):
    """The side of PostgreSQL."""

    def __init__(self, proxy: Proxy, client: asyncio.Transport | None, session: Session | None) -> None:
        self._proxy, self._client, self._session = proxy, client, session
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.open.add(transport)

    def data_received(self, data: bytes) -> None:
        if self._session is not None:
            self._session.from_server(data)
        if self._client is not None:
            self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.open.discard(self._transport)
        if self._client is not None:
            self._client.close()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _parameters(body: bytes) -> dict[str, str]:
    words = [word.decode(errors="replace") for word in body.split(b"\0")]
    return dict(zip(words[::2], words[1::2], strict=False))
