"""The store port on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import asyncpg

from orderflow.messaging.faults.port import FaultStore
from orderflow.messaging.recovery.port import RecoveryStore
from orderflow.messaging.store import (
    DataRefusedError,
    OpenIntent,
    OutboxBacklog,
    OutboxRecord,
    SchemaBehindError,
    Standing,
)
from orderflow.messaging.stores.postgres import core_rows
from orderflow.messaging.stores.postgres.connections import STATEMENT_TIMEOUT_MS, Connections
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.faults import PostgresFaults
from orderflow.messaging.stores.postgres.notifier import Notifier
from orderflow.messaging.stores.postgres.outbox import CHANNEL, PostgresOutboxReader
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.recovery import PostgresRecovery
from orderflow.messaging.stores.postgres.tables import Facts, Mappings, Table
from orderflow.messaging.stores.postgres.transaction import PostgresTransaction

PACKAGE = "orderflow.messaging.stores.postgres"


class PostgresStore:
    """A service's database. See `messaging.store.Store`; `connect` makes one."""

    def __init__(
        self,
        url: str,
        application_name: str,
        mappings: Mappings,
        slots: int,
        work: Connections,
        reads: Connections,
    ) -> None:
        self.slots = slots
        self._url = url
        self._application_name = application_name
        self._mappings = mappings
        self._work = work
        self._reads = reads
        self._queries = load_queries(PACKAGE)
        self.faults: FaultStore = PostgresFaults(partial(self._on, reads))
        self._readers: list[PostgresOutboxReader] = []
        self._name = uuid4().hex
        self.recovery: RecoveryStore = PostgresRecovery(partial(self._on, reads), self._name)
        self._relays = Notifier(lambda: self._on(work, self._queries["outbox_notify"], CHANNEL, self._name))

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        tables: Sequence[Table | Facts],
        slots: int = 16,
        transactions_max: int = 6,
        reads_max: int = 4,
        patience_s: float = 5.0,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        application_name: str = "orderflow",
    ) -> PostgresStore:
        """Return a store whose database has answered. Raises StoreUnavailableError, SchemaBehindError.

        `slots` is one number for all processes of a service: a relay knows no slot beyond it. At most
        `transactions_max` transactions and `reads_max` reads run at once; who waits for a connection
        longer than `patience_s` gets StoreUnavailableError. Each outbox reader has a connection of its own.
        """
        lend = partial(Connections, url, patience_s=patience_s, statement_timeout_ms=statement_timeout_ms)
        work = lend(application_name=application_name, limit=transactions_max, lookups_only=True)
        reads = lend(application_name=f"{application_name} (reads)", limit=reads_max, lookups_only=False)
        store = cls(url, application_name, Mappings(tables), slots, work, reads)
        try:
            await store.ping()
        except BaseException:
            await store.close()
            raise
        return store

    def transaction(self) -> PostgresTransaction:
        return PostgresTransaction(self._work, self._queries, self._mappings, self._offer)

    async def due_keys(self, consumer: str, limit: int, leaving: Sequence[str] = ()) -> Sequence[str]:
        rows = await self._on(self._work, self._queries["due_keys"], consumer, limit, list(leaving))
        return [row["key"] for row in rows]

    async def parked_keys(self, consumer: str, limit: int) -> int:
        rows = await self._on(self._work, self._queries["parked_keys"], consumer, limit)
        return int(rows[0][0])

    async def claim_intents(self, limit: int, lease_ms: int) -> Sequence[OpenIntent]:
        rows = await self._on(self._work, self._queries["claim_intents"], limit, lease_ms)
        return [core_rows.read_intent(row) for row in rows]

    def outbox(self) -> PostgresOutboxReader:
        reader = PostgresOutboxReader(
            self._url,
            f"{self._application_name} (relay)",
            self._queries,
            self.slots,
            self._name,
            self._readers.remove,
        )
        self._readers.append(reader)
        return reader

    def notify_relays(self) -> None:
        self._relays.notify()

    async def backlog(self) -> OutboxBacklog:
        rows = await self._on(self._work, self._queries["outbox_backlog"])
        return OutboxBacklog(rows[0]["unsent"], rows[0]["oldest_ms"])

    async def standing(self, consumers: Sequence[str], age_ms: int) -> Standing:
        rows = await self._on(self._work, self._queries["standing"], list(consumers), age_ms)
        return core_rows.read_standing(rows)

    async def purge(self, keep_sent_ms: int) -> int:
        await self._on(self._work, self._queries["outbox_rotate"], keep_sent_ms)
        return len(await self._on(self._work, self._queries["outbox_purge"], keep_sent_ms))

    async def fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run one query of the service's own, outside of any batch, with nothing known of its plan.

        Raises StoreUnavailableError, DataRefusedError, SchemaBehindError.
        """
        return await self._on(self._reads, query, *arguments)

    async def ping(self) -> None:
        await self._on(self._work, self._queries["ping"])

    async def close(self) -> None:
        await self._relays.close()
        for reader in list(self._readers):
            await reader.close()
        await asyncio.gather(self._work.close(), self._reads.close())

    def _offer(self, published: Sequence[OutboxRecord]) -> None:
        for reader in self._readers:
            reader.offer(published)

    async def _on(self, connections: Connections, sql: str, *arguments: object) -> Sequence[asyncpg.Record]:
        connection = await connections.acquire()
        reusable = False
        try:
            with translated():
                rows = await connection.fetch(sql, *arguments)
            reusable = True
        except (DataRefusedError, SchemaBehindError):
            reusable = True
            raise
        finally:
            connections.release(connection, reusable=reusable)
        return rows
