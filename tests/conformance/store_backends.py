"""The two stores behind one face, so that one suite can try both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import asyncpg

from orderflow.core.game_days.fault import FaultStore
from orderflow.core.operations.port import OperatedStore
from orderflow.core.postgres import schema
from orderflow.core.postgres.faults import PostgresFaults
from orderflow.core.postgres.outbox import SLOT_LOCKS, PostgresOutboxReader
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.store import LONGEST_WAIT_MS, SILENCE_S, OutboxReader, Store
from orderflow.core.testing.state import MemoryDatabase
from orderflow.core.testing.store import MemoryFaults, MemoryOutboxReader, MemoryStore
from orderflow.core.timing import SystemClock
from tests.conformance import store_tables
from tests.support.postgres import PostgresServer


class Backend(Protocol):
    """One database; each store opened on it stands for a process of its own."""

    async def open(self, silence_s: float = SILENCE_S, longest_wait_ms: int = LONGEST_WAIT_MS) -> OperatedStore: ...

    def faults(self) -> FaultStore:
        """What a process of it would share its faults by."""
        ...

    def holding(self, row: int) -> AbstractAsyncContextManager[None]:
        """Within, a session of a stranger holds this outbox row."""
        ...

    async def crash(self, store: Store) -> None:
        """The store's process dies: nothing of it says good-bye."""
        ...

    def cut(self, reader: OutboxReader) -> None:
        """The reader's connection is lost."""
        ...

    def go_down(self) -> None:
        """The database ends all sessions and takes no new ones."""
        ...

    def come_back(self) -> None: ...

    async def close(self) -> None: ...


class MemoryBackend:
    def __init__(self) -> None:
        self._database = MemoryDatabase(
            SystemClock(),
            checks=(store_tables.check_state, store_tables.check_value),
            stepwise={store_tables.Parcel},
        )
        self._stores: list[MemoryStore] = []

    def faults(self) -> FaultStore:
        return MemoryFaults(self._database)

    async def open(self, silence_s: float = SILENCE_S, longest_wait_ms: int = LONGEST_WAIT_MS) -> OperatedStore:
        store = MemoryStore(self._database, silence_s=silence_s, longest_wait_ms=longest_wait_ms)
        self._stores.append(store)
        return store

    @asynccontextmanager
    async def holding(self, row: int) -> AsyncIterator[None]:
        self._database.held.add(row)
        yield
        self._database.held.clear()

    async def crash(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        store.crash()

    def cut(self, reader: OutboxReader) -> None:
        assert isinstance(reader, MemoryOutboxReader)
        reader.cut()

    def go_down(self) -> None:
        self._database.go_down()

    def come_back(self) -> None:
        self._database.come_back()

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class PostgresBackend:
    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server = server
        self._url = url
        self._name = urlsplit(url).path.removeprefix("/")
        self._sessions = f"FROM pg_stat_activity WHERE datname = '{self._name}'"
        self._stores: list[PostgresStore] = []

    async def open(self, silence_s: float = SILENCE_S, longest_wait_ms: int = LONGEST_WAIT_MS) -> OperatedStore:
        if not self._stores:
            own = schema.MigrationSequence.from_package("parcels", store_tables.__name__, store_tables.tables())
            await schema.migrate(self._url, [schema.core(), own])
        store = await PostgresStore.connect(
            self._url,
            tables=store_tables.tables(),
            application_name=_session_prefix(len(self._stores)),
            silence_s=silence_s,
            longest_wait_ms=longest_wait_ms,
        )
        self._stores.append(store)
        return store

    def faults(self) -> FaultStore:
        return PostgresFaults(self._stores[-1].fetch)

    @asynccontextmanager
    async def holding(self, row: int) -> AsyncIterator[None]:
        stranger = await asyncpg.connect(self._url)
        try:
            await stranger.execute("BEGIN")
            await stranger.execute("SELECT FROM outbox_pending WHERE id = $1 FOR UPDATE", row)
            yield
        finally:
            await stranger.close()

    async def crash(self, store: Store) -> None:
        assert isinstance(store, PostgresStore)
        self._end(f"{self._sessions} AND application_name LIKE '{_session_prefix(self._stores.index(store))}%'")

    def cut(self, reader: OutboxReader) -> None:
        assert isinstance(reader, PostgresOutboxReader)
        locks = f"(SELECT pid FROM pg_locks WHERE (classid, objid) = ({SLOT_LOCKS}, {min(reader.owned)}))"
        self._end(f"{self._sessions} AND pid IN {locks}")

    def go_down(self) -> None:
        self._server.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
        self._end(self._sessions)

    def come_back(self) -> None:
        self._server.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _end(self, sessions: str) -> None:
        self._server.execute(f"SELECT pg_terminate_backend(pid, 5000) {sessions}")


def _session_prefix(number: int) -> str:
    """What the names of all sessions of a store begin with."""
    return f"store {number}."
