"""The store port over a shared memory database."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from orderflow.messaging.recovery.port import RecoveryStore
from orderflow.messaging.store import (
    LONGEST_WAIT_MS,
    OpenIntent,
    OutboxBacklog,
    OutboxFilter,
    OutboxRecord,
    OutboxRows,
    Standing,
    StoreUnavailableError,
)
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.outbox import MemoryOutboxReader
from orderflow.messaging.stores.memory.recovery import MemoryRecovery
from orderflow.messaging.stores.memory.standing import heads, standing
from orderflow.messaging.stores.memory.state import Asked, DueTimes
from orderflow.messaging.stores.memory.transaction import MemoryTransaction, is_due
from orderflow.messaging.stores.shares import SILENCE_S


class MemoryStore:
    """One process's store. See `messaging.store.Store`; `crash` is the death of that process."""

    def __init__(
        self,
        database: MemoryDatabase,
        slots: int = 16,
        silence_s: float = SILENCE_S,
        longest_wait_ms: int = LONGEST_WAIT_MS,
    ) -> None:
        self.slots = slots
        self._longest_wait_ms = longest_wait_ms
        self._silence_s = silence_s
        self._database = database
        self._closed = False
        self._transactions: list[MemoryTransaction] = []
        self._readers: list[MemoryOutboxReader] = []
        self.recovery: RecoveryStore = MemoryRecovery(database, self._step, self)

    def transaction(self) -> MemoryTransaction:
        transaction = MemoryTransaction(self._database, self._transactions.remove, self._due)
        self._transactions.append(transaction)
        if self._closed:
            transaction.abandon()
        return transaction

    async def due_keys(self, consumer: str, limit: int, leaving: Sequence[str] = ()) -> Sequence[str]:
        await self._step("due_keys")
        times = self._due()
        tried = {
            key: head
            for key, head in heads(self._database.state, consumer).items()
            if head.event.event_type not in leaving
        }
        due = sorted((head.next_attempt_at, key) for key, head in tried.items() if is_due(head, times))
        return [key for _, key in due[:limit]]

    async def parked_keys(self, consumer: str, limit: int) -> int:
        await self._step("read")
        waiting = self._database.state.parked.values()
        return min(limit, len({each.event.key for each in waiting if each.consumer == consumer}))

    async def claim_intents(self, limit: int, lease_ms: int) -> Sequence[OpenIntent]:
        await self._step("claim_intents")
        intents = self._database.state.intents
        times = self._due()
        due = sorted((asked.due_at, key) for key, asked in intents.items() if asked.due_at in times)
        claimed = [intents[key].intent for _, key in due[:limit]]
        for each in claimed:
            intents[each.intent.key] = Asked(each, times.now + lease_ms, intents[each.intent.key].created_at)
        return [replace(each) for each in claimed]

    def outbox(self) -> MemoryOutboxReader:
        reader = MemoryOutboxReader(self._database, self.slots, self._readers.remove, self._silence_s)
        self._readers.append(reader)
        return reader

    def notify_relays(self) -> None:
        for reader in self._database.readers:
            if reader not in self._readers:
                reader.wake()

    async def backlog(self) -> OutboxBacklog:
        await self._step("read")
        state = self._database.state
        if not state.pending:
            return OutboxBacklog(0, 0)
        age = self._database.clock.wall_ms() - state.outbox[min(state.pending)].created_at
        return OutboxBacklog(len(state.pending), max(0, age))

    async def published(self, wanted: OutboxFilter) -> Sequence[OutboxRows]:
        await self._step("read")
        times: dict[str, list[int]] = {}
        for row in self._published(wanted):
            times.setdefault(row.topic, []).append(row.created_at)
        return [OutboxRows(topic, len(at), min(at), max(at)) for topic, at in sorted(times.items())]

    async def republish(self, wanted: OutboxFilter) -> int:
        await self._step("read")
        rows = self._published(wanted)
        self._database.state.pending.update((row.id, row.slot) for row in rows)
        return len(rows)

    def _published(self, wanted: OutboxFilter) -> list[OutboxRecord]:
        state = self._database.state
        key = None if wanted.key is None else wanted.key.encode()
        return [
            row
            for row in state.outbox.values()
            if row.id not in state.pending
            and wanted.topic in (None, row.topic)
            and key in (None, row.key)
            and (wanted.from_ms is None or wanted.from_ms <= row.created_at)
            and (wanted.to_ms is None or row.created_at < wanted.to_ms)
        ]

    async def standing(self, consumers: Sequence[str], age_ms: int, acknowledged: Collection[int] = ()) -> Standing:
        await self._step("read")
        return standing(self._database.state, consumers, self._due(), age_ms, acknowledged, self)

    async def purge(self, keep_sent_ms: int) -> int:
        await self._step("read")
        state = self._database.state
        oldest_kept = self._database.clock.wall_ms() - keep_sent_ms
        gone = [n for n, row in state.outbox.items() if n not in state.pending and row.created_at <= oldest_kept]
        for number in gone:
            del state.outbox[number]
        return 1 if gone else 0

    async def ping(self) -> None:
        await self._step("read")

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """The process is gone: transactions are rolled back, locks and slots are free. Idempotent."""
        self._closed = True
        for transaction in list(self._transactions):
            transaction.abandon()
        for reader in list(self._readers):
            reader.end()

    def _due(self) -> DueTimes:
        return DueTimes(self._database.clock.wall_ms(), self._longest_wait_ms)

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._database.require()
