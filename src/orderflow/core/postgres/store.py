"""The store port on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import asyncpg
import msgspec

from orderflow.core.crash_points import Point, reached
from orderflow.core.operations.port import RecoveryStore
from orderflow.core.postgres.outbox import CHANNEL, PostgresOutboxReader, RelayNotifier
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.recovery import PostgresRecovery, Run, log_entries
from orderflow.core.postgres.sessions import STATEMENT_TIMEOUT_MS, Connections, clock_ms, require_no_lock_wait
from orderflow.core.postgres.tables import Facts, Table
from orderflow.core.postgres.transaction import PostgresTransaction, UnitOfWork
from orderflow.core.service import Intent
from orderflow.core.store import (
    LONGEST_WAIT_MS,
    SILENCE_S,
    Act,
    Due,
    DueReport,
    LogEntry,
    OpenIntent,
    OutboxBacklog,
    OutboxFilter,
    OutboxRecord,
    OutboxRows,
    Unending,
    WorkKind,
)
from orderflow.core.telemetry import Usage

PACKAGE = "orderflow.core.postgres"
LEDGER_PIECE = 20_000


class PostgresStore:
    """A service's database. See `core.store.Store`; `connect` makes one.

    `work` lends the connections of its transactions; `readers` are those of its outbox that are open.
    """

    def __init__(
        self,
        url: str,
        application_name: str,
        unit: UnitOfWork,
        slots: int,
        work: Connections,
        reads: Connections,
        silence_s: float,
        longest_wait_ms: int,
    ) -> None:
        self.slots = slots
        self._longest_wait_ms = longest_wait_ms
        self._url = url
        self._silence_s = silence_s
        self._application_name = application_name
        self._unit = unit
        self.work = work
        self._reads = reads
        self._queries = load_queries(PACKAGE)
        self.readers: list[PostgresOutboxReader] = []
        self._name = uuid4().hex
        self.recovery: RecoveryStore = PostgresRecovery(reads.fetch, self._name)
        self._relays = RelayNotifier(lambda: work.fetch(self._queries["outbox_notify"], CHANNEL, self._name))

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
        silence_s: float = SILENCE_S,
        longest_wait_ms: int = LONGEST_WAIT_MS,
    ) -> PostgresStore:
        """Return a store whose database has answered. Raises StoreUnavailableError, SchemaBehindError.

        `slots` is one number for all processes of a service: a relay knows no slot beyond it. At most
        `transactions_max` transactions and `reads_max` reads run at once; who waits for a connection
        longer than `patience_s` gets StoreUnavailableError. Each outbox reader has a connection of its own; one whose
        process has stood still for `silence_s` is fenced by the others. No delay and no lease is longer than
        `longest_wait_ms`: what is due later was dated while the server's clock was ahead, and is due now.
        """
        lend = partial(Connections, url, patience_s=patience_s, statement_timeout_ms=statement_timeout_ms)
        work = lend(application_name=application_name, limit=transactions_max, lookups_only=True)
        reads = lend(
            application_name=f"{application_name} (reads)", limit=reads_max, lookups_only=False, writable=False
        )
        store = cls(url, application_name, UnitOfWork(tables), slots, work, reads, silence_s, longest_wait_ms)
        try:
            await store._answer()
        except BaseException:
            await store.close()
            raise
        return store

    def pools(self) -> Mapping[str, Usage]:
        """By name of the pool, how many of its connections are lent: `work` for transactions, `reads` beside them."""
        return {"work": self.work.usage, "reads": self._reads.usage}

    def transaction(self) -> PostgresTransaction:
        return PostgresTransaction(self.work, self._queries, self._unit, self._offer, self._longest_wait_ms)

    async def due_keys(self, consumer: str, limit: int, leaving: Sequence[str] = ()) -> Sequence[str]:
        query, longest = self._queries["due_keys"], self._longest_wait_ms
        rows = await self.work.fetch(query, consumer, limit, list(leaving), longest)
        return [row["key"] for row in rows]

    async def parked_keys(self, consumer: str, limit: int) -> int:
        rows = await self.work.fetch(self._queries["parked_keys"], consumer, limit)
        return int(rows[0][0])

    async def claim_intents(self, limit: int, lease_ms: int) -> Sequence[OpenIntent]:
        rows = await self.work.fetch(self._queries["claim_intents"], limit, lease_ms, self._longest_wait_ms)
        if rows:
            reached(Point.INTENT_CLAIMED)
        return [_intent(row) for row in rows]

    def outbox(self) -> PostgresOutboxReader:
        reader = PostgresOutboxReader(
            self._url,
            f"{self._application_name} (relay)",
            self._queries,
            self.slots,
            self._name,
            self.readers.remove,
            self._silence_s,
        )
        self.readers.append(reader)
        return reader

    def notify_relays(self) -> None:
        self._relays.notify()

    async def backlog(self) -> OutboxBacklog:
        rows = await self.work.fetch(self._queries["outbox_backlog"])
        return OutboxBacklog(rows[0]["unsent"], rows[0]["oldest_ms"])

    async def published(self, chosen: OutboxFilter) -> Sequence[OutboxRows]:
        found: dict[str, OutboxRows] = {}
        async for rows in self._ledger("outbox_published", chosen, self._reads.fetch):
            for row in rows:
                more = OutboxRows(*row)
                known = found.get(more.topic, OutboxRows(more.topic, 0, more.oldest_ms, more.newest_ms))
                found[more.topic] = OutboxRows(
                    more.topic,
                    known.count + more.count,
                    min(known.oldest_ms, more.oldest_ms),
                    max(known.newest_ms, more.newest_ms),
                )
        return [found[topic] for topic in sorted(found)]

    async def republish(self, chosen: OutboxFilter, act: Act, meant: str) -> int:
        async with self._reads.transaction() as connection:
            pieces = self._ledger("outbox_republish", chosen, connection.fetch)
            found = sum([int(rows[0]["count"]) async for rows in pieces])
            if found:
                entry = LogEntry(act, "republish", meant, f"{found} to publish again.")
                await connection.execute(self._queries["log_actions"], *log_entries([entry]))
        return found

    async def _ledger(self, query: str, chosen: OutboxFilter, run: Run) -> AsyncIterator[Sequence[asyncpg.Record]]:
        """Ask a piece of the outbox at a time, in the order of its ids: no statement is long, whatever it holds."""
        ((first, last),) = await run(self._queries["outbox_span"])
        key = None if chosen.key is None else chosen.key.encode()
        for start in range(first, last + 1, LEDGER_PIECE):
            end = min(start + LEDGER_PIECE - 1, last)
            yield await run(self._queries[query], start, end, chosen.topic, key, chosen.from_ms, chosen.to_ms)

    async def standing(self, consumers: Sequence[str], age_ms: int, acknowledged: Collection[int] = ()) -> DueReport:
        query, longest = self._queries["standing"], self._longest_wait_ms
        rows = await self.work.fetch(query, list(consumers), age_ms, list(acknowledged), longest, self._name)
        return _standing(rows)

    async def purge(self, keep_sent_ms: int) -> int:
        await self.work.fetch(self._queries["outbox_rotate"], keep_sent_ms)
        reached(Point.OUTBOX_ROTATED)
        return len(await self.work.fetch(self._queries["outbox_purge"], keep_sent_ms))

    async def fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run one query of the service's own, outside of any batch, with nothing known of its plan.

        Raises StoreUnavailableError, DataRefusedError, SchemaBehindError.
        """
        return await self._reads.fetch(query, *arguments)

    async def ping(self) -> None:
        # Who waits for a lock may have all connections for work: that is to be told, not that none is free.
        await require_no_lock_wait(self._reads.fetch)
        await self._answer()

    async def _answer(self) -> None:
        await self.work.fetch(self._queries["ping"])

    async def clock_ms(self) -> int:
        """The time of the database, since the epoch."""
        return await clock_ms(self._reads.fetch)

    async def close(self) -> None:
        async with AsyncExitStack() as parts:
            parts.push_async_callback(self.work.close)
            parts.push_async_callback(self._reads.close)
            for reader in self.readers:
                parts.push_async_callback(reader.close)
            await self._relays.close()

    def _offer(self, published: Sequence[OutboxRecord], before: Collection[int] | None) -> None:
        for reader in self.readers:
            reader.offer(published, before)


def _intent(row: asyncpg.Record) -> OpenIntent:
    key, kind, request, message_key, cause, traceparent, attempts = row
    return OpenIntent(
        intent=Intent(key=key, kind=kind, request=msgspec.json.decode(request)),
        key=message_key,
        cause=cause,
        traceparent=traceparent,
        attempts=attempts,
    )


def _standing(rows: Sequence[asyncpg.Record]) -> DueReport:
    """`due` rows are places, or count replays; the others are what is old."""
    found = [r for r in rows if r["due"] and r["kind"] != "replay"]
    due = [Due(WorkKind(r["kind"]), r["consumer"], r["place"], r["count"], r["oldest"]) for r in found]
    replays = sum(r["count"] for r in rows if r["kind"] == "replay")
    old = [r for r in rows if not r["due"]]
    unending = [Unending(WorkKind(r["kind"]), r["consumer"], r["count"], r["age_ms"], r["oldest"]) for r in old]
    return DueReport(due, unending, replays)
