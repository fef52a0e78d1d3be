"""The sessions with the log's database, in the words of the transport port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import asyncpg

from orderflow.core.postgres.sessions import DatabaseSession, connect
from orderflow.core.store import StoreUnavailableError
from orderflow.core.transport import TransportUnavailableError

_SETTINGS = {
    # The statements are few and always the same; a plan made while the tables were empty must still be right
    # when they are full.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_sort": "off",
}


@contextmanager
def translated() -> Iterator[None]:
    """Raises TransportUnavailableError for what will pass."""
    try:
        yield
    except StoreUnavailableError as error:
        raise TransportUnavailableError(f"log database: {error}") from error


class LogSession:
    """A session with the log's database: one statement at a time, opened again when it has to be.

    `on_notify` gets (channel, payload); `on_connect` is called for each new connection, `on_loss` when one
    that was open is gone.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        settings: Mapping[str, str] | None = None,
        writable: bool = True,
        on_notify: Callable[[str, str], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        opening = partial(
            connect,
            url,
            application_name="orderflow-log",
            statement_timeout_ms=int(timeout_s * 1000),
            settings={**_SETTINGS, **(settings or {})},
            writable=writable,
        )
        self._session = DatabaseSession(opening, on_notify=on_notify, on_connect=on_connect, on_loss=on_loss)

    @property
    def is_open(self) -> bool:
        return self._session.is_open

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Raises TransportUnavailableError, SchemaBehindError."""
        with translated():
            return await self._session.fetch(statement, *arguments)

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row. Raises as `fetch`."""
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None

    async def listen(self, channel: str) -> None:
        """Hear this channel on the present connection and on every later one. Raises as `fetch`."""
        with translated():
            await self._session.listen(channel)

    def abort(self) -> None:
        """Close for good without a word to the server."""
        self._session.abort()

    async def close(self) -> None:
        """Close for good. Idempotent."""
        await self._session.close()


class Hearer(Protocol):
    """Who is told what the reading session of its process hears."""

    def notified(self, channel: str, payload: str) -> None: ...

    def connected(self) -> None:
        """All channels are heard on a new connection; what was said before may have been missed."""
        ...

    def lost(self) -> None: ...


class NoticeListener:
    """The one session of a process that listens, and that reads what is announced.

    One, because the server wakes every session of the database that listens to anything for every notice. It asks
    nothing that waits for a lock, so that no consumer waits behind another one's trouble.
    """

    def __init__(self, url: str, queries: Mapping[str, str], *, timeout_s: float, writable: bool) -> None:
        self._link = LogSession(
            url,
            timeout_s=timeout_s,
            writable=writable,
            on_notify=self.tell,
            on_connect=self._connected,
            on_loss=self._lost,
        )
        self._ping = queries["ping"]
        self._hearers: dict[str, list[Hearer]] = {}
        self._listening = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Raises TransportUnavailableError, SchemaBehindError."""
        return await self._link.fetch(statement, *arguments)

    async def ping(self) -> None:
        """Raises as `fetch`."""
        await self._link.fetch(self._ping)

    async def hear(self, channel: str, hearer: Hearer) -> None:
        """When this returns, nothing that is said there from now on is missed without a word. Raises as `fetch`."""
        hearers = self._hearers.setdefault(channel, [])
        if hearer not in hearers:
            hearers.append(hearer)
        async with self._listening:
            await self._link.listen(channel)

    async def ensure_open(self) -> None:
        """Hear again what was heard on a connection that is lost. Raises as `fetch`."""
        if not self._link.is_open:
            await self.ping()

    def forget(self, hearer: Hearer) -> None:
        for hearers in self._hearers.values():
            if hearer in hearers:
                hearers.remove(hearer)

    async def close(self) -> None:
        await self._link.close()

    def tell(self, channel: str, payload: str) -> None:
        """Pass on what was said on a channel, by the server or at the doorbell."""
        for hearer in self._hearers.get(channel, ()):
            hearer.notified(channel, payload)

    def _connected(self) -> None:
        for hearer in self._all():
            hearer.connected()

    def _lost(self) -> None:
        for hearer in self._all():
            hearer.lost()

    def _all(self) -> list[Hearer]:
        return list(dict.fromkeys(hearer for hearers in self._hearers.values() for hearer in hearers))
