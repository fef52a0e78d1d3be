"""The store port over a shared database in memory, with the relay's hold on its outbox."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID

from msgspec.structs import replace

from orderflow.core.fresh_records import FreshRecords
from orderflow.core.game_days.fault import Fault, FaultReader, FaultSet
from orderflow.core.inbox import InboxState
from orderflow.core.operations.port import RecoveryStore
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
    StoreUnavailableError,
    Unending,
    WakeUp,
    WorkKind,
    fair_share,
)
from orderflow.core.testing.recovery import MemoryRecovery
from orderflow.core.testing.state import (
    DueTimes,
    Journal,
    KeptEvent,
    MemoryDatabase,
    MemoryTables,
    StoredIntent,
    note_action,
)
from orderflow.core.testing.transaction import MemoryTransaction, is_due

Place = tuple[WorkKind, str, str]


def heads(state: MemoryTables, consumer: str) -> Mapping[str, KeptEvent]:
    """The head of each key that has something parked at the consumer."""
    found: dict[str, KeptEvent] = {}
    for waiting in sorted(state.parked.values(), key=lambda each: each.event.position):
        if waiting.consumer == consumer:
            found.setdefault(waiting.event.key, waiting)
    return found


def standing(
    state: MemoryTables,
    consumers: Sequence[str],
    times: DueTimes,
    age_ms: int,
    acknowledged: Collection[int],
    process: object,
) -> DueReport:
    """As `core.store.Store.standing` says, asked by that process."""
    now = times.now
    due: dict[Place, list[tuple[int, str, str]]] = defaultdict(list)
    old: dict[Place, list[tuple[int, str]]] = defaultdict(list)
    for number, slot in state.pending.items():
        if number in acknowledged:
            continue
        due[WorkKind.OUTBOX, "", str(slot)].append((number, "", str(number)))
    for consumer in consumers if state.parked else ():
        for key, head in heads(state, consumer).items():
            event = head.event
            if event.state is InboxState.PARKED and head.next_attempt_at in times:
                name = f"{event.position}/{event.attempts}"
                due[WorkKind.RETRY, consumer, event.event_type].append((head.next_attempt_at, key, name))
            since = event.first_failed_at
            if event.state is InboxState.PARKED and since is not None and since <= now - age_ms:
                old[WorkKind.RETRY, consumer, ""].append((since, key))
    for key, asked in state.intents.items():
        kind, intent = asked.intent.intent.kind, asked.intent
        if asked.due_at in times:
            due[WorkKind.INTENT, "", kind].append((asked.due_at, key, f"{key}/{intent.attempts}"))
        if asked.created_at <= now - age_ms:
            old[WorkKind.INTENT, "", kind].append((asked.created_at, key))
    return DueReport(
        [Due(*place, len(found), min(found)[2]) for place, found in due.items()],
        list(_unending(old, now)),
        sum(each.is_free_for(process, times) for each in state.replays.values()),
    )


def _unending(old: Mapping[Place, Sequence[tuple[int, str]]], now: int) -> Iterable[Unending]:
    for (kind, consumer, _), found in old.items():
        since, key = min(found)
        yield Unending(kind, consumer, len(found), now - since, key)


class MemoryOutboxReader:
    """See `core.store.OutboxReader`. `cut` ends its session as a lost connection does."""

    def __init__(
        self,
        database: MemoryDatabase,
        slots: int,
        forget: Callable[[MemoryOutboxReader], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._database = database
        self._slots = slots
        self._forget = forget
        self._woken = asyncio.Event()
        self._closed = False
        self._silence_s = silence_s
        self._seen_at = 0.0
        self._waiting = 0
        self._moved = False
        self._fresh = FreshRecords()
        self._owned_before: set[int] = set()
        self.held: frozenset[int] = frozenset()
        self.usurped: Mapping[int, int] = {}

    async def claim_slots(self) -> frozenset[int]:
        await self._database.gate("claim_slots")
        database = self._database
        if self._closed:
            raise StoreUnavailableError("the outbox reader is closed")
        database.require()
        self._beat()
        for other in list(database.readers):
            if other.stands_still():
                other.cut()
        if self not in database.readers:
            database.readers.append(self)
        mine = sorted(self._owned())
        owners = database.slot_owners
        share = fair_share(self._slots, len(database.readers), database.readers.index(self))
        if len(mine) > share:
            for slot in mine[share:]:
                del owners[slot]
            self._tell_others()
        elif len(mine) < share:
            free = [slot for slot in range(self._slots) if slot not in owners and slot not in mine]
            for slot in free[: share - len(mine)]:
                owners[slot] = self
        owned = self._owned()
        if len(owned) < share:
            self._tell_others()
        self._is_of(owned)
        return frozenset(owned)

    def _is_of(self, owned: set[int]) -> None:
        """What is remembered of rows ends with the slots that they are of."""
        if owned != self._owned_before:
            self._fresh.clear()
        self._owned_before = owned

    def offer(self, records: Sequence[OutboxRecord], before: Collection[int]) -> None:
        """Rows that this process has committed, and what was unsent in their slots then."""
        self._fresh.add(records, self._owned(), before)

    def take_fresh(self) -> Sequence[OutboxRecord] | None:
        return self._fresh.take_fresh() if self._owned() else None

    async def unsent(self, limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        if acknowledged:
            await self.mark_sent(acknowledged)
        self._fresh.before_read()
        await self._step("unsent")
        state = self._database.state
        if not state.pending:
            self._fresh.after_read(frozenset())
            return []
        owned, sent = self._owned(), frozenset(acknowledged)
        numbers = sorted(number for number, slot in state.pending.items() if slot in owned and number not in sent)
        self._fresh.after_read(frozenset(numbers[:limit]))
        return [state.outbox[number] for number in numbers[:limit]]

    async def mark_sent(self, ids: Collection[int]) -> None:
        self._fresh.drop(ids)
        await self._step("mark_sent")
        self.held = frozenset(self._database.held.intersection(ids))
        for number in set(ids) - self.held:
            self._database.state.pending.pop(number, None)

    async def wait(self, timeout_s: float) -> WakeUp:
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return WakeUp.NONE
        finally:
            self._waiting -= 1
            self._beat()
        self._woken.clear()
        moved, self._moved = self._moved, False
        return WakeUp.SLOTS if moved else WakeUp.ROWS

    async def close(self) -> None:
        self.end()
        self._tell_others()

    def end(self) -> None:
        """Close at once."""
        if not self._closed:
            self._closed = True
            self._forget(self)
            self.cut()

    def wake(self) -> None:
        """Another process has written rows."""
        self._woken.set()

    def wake_to_claim(self) -> None:
        """Slots may change hands."""
        self._moved = True
        self._woken.set()

    def stands_still(self) -> bool:
        """Its process has asked nothing for too long, and does not wait for anything here."""
        return not self._waiting and self._database.clock.monotonic() - self._seen_at > self._silence_s

    def cut(self) -> None:
        """The connection is lost: its slots are free."""
        database = self._database
        self._owned_before = set()
        for slot in self._owned():
            del database.slot_owners[slot]
        if self in database.readers:
            database.readers.remove(self)
        self.wake_to_claim()

    def _tell_others(self) -> None:
        for other in self._database.readers:
            if other is not self:
                other.wake_to_claim()

    def _beat(self) -> None:
        self._seen_at = self._database.clock.monotonic()

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        self._database.require()
        if self not in self._database.readers:
            raise StoreUnavailableError("the connection that owned the slots is lost")
        self._beat()

    def _owned(self) -> set[int]:
        return {slot for slot, owner in self._database.slot_owners.items() if owner is self}


class MemoryFaults:
    """See `core.game_days.fault.FaultStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._tables = database.state.faults
        self._database = database

    async def current(self) -> FaultSet:
        await self._step("read")
        return self._set(self._tables.faults.values())

    async def add(self, fault: Fault, act: Act) -> FaultSet:
        await self._step("read")
        tables = self._tables
        tables.ids += 1
        tables.revision += 1
        made = tables.faults[tables.ids] = replace(fault, id=tables.ids)
        self._log(act, "fault add", made)
        return self._set([made])

    async def clear(self, fault: int | None, act: Act) -> FaultSet:
        await self._step("read")
        tables = self._tables
        gone = [each for each in tables.faults.values() if fault is None or each.id == fault]
        for each in gone:
            del tables.faults[each.id]
            self._log(act, "fault clear", each)
        tables.revision += 1 if gone else 0
        return self._set(gone)

    async def follow(self, process: UUID, applied: int) -> FaultSet:
        await self._step("read")
        self._tables.readers[process] = (applied, self._database.clock.wall_ms())
        return self._set(self._tables.faults.values())

    async def leave(self, process: UUID) -> None:
        await self._step("read")
        self._tables.readers.pop(process, None)

    async def readers(self, silent_ms: int) -> Sequence[FaultReader]:
        await self._step("read")
        oldest = self._database.clock.wall_ms() - silent_ms
        living = {each: said for each, said in self._tables.readers.items() if said[1] >= oldest}
        self._tables.readers = living
        return [FaultReader(process=each, revision=living[each][0]) for each in sorted(living)]

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        self._database.require()

    def _log(self, act: Act, action: str, fault: Fault) -> None:
        entry = LogEntry(act, action, str(fault), "done")
        note_action(self._database.state, Journal(), entry, self._database.clock.wall_ms())

    def _set(self, faults: Iterable[Fault]) -> FaultSet:
        return FaultSet(revision=self._tables.revision, faults=tuple(faults))


class MemoryStore:
    """One process's store. See `core.store.Store`; `crash` is the death of that process."""

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
        transaction = MemoryTransaction(self._database, self._transactions.remove, self._due, self._offer)
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
            intents[each.intent.key] = StoredIntent(each, times.now + lease_ms, intents[each.intent.key].created_at)
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

    async def published(self, chosen: OutboxFilter) -> Sequence[OutboxRows]:
        await self._step("read")
        times: dict[str, list[int]] = {}
        for row in self._published(chosen):
            times.setdefault(row.topic, []).append(row.created_at)
        return [OutboxRows(topic, len(at), min(at), max(at)) for topic, at in sorted(times.items())]

    async def republish(self, chosen: OutboxFilter, act: Act, meant: str) -> int:
        await self._step("read")
        rows = self._published(chosen)
        self._database.rules.require_text(act.who, act.reason, meant)
        self._database.state.pending.update((row.id, row.slot) for row in rows)
        if rows:
            entry = LogEntry(act, "republish", meant, f"{len(rows)} to publish again.")
            note_action(self._database.state, Journal(), entry, self._database.clock.wall_ms())
        return len(rows)

    def _published(self, chosen: OutboxFilter) -> list[OutboxRecord]:
        state = self._database.state
        key = None if chosen.key is None else chosen.key.encode()
        return [
            row
            for row in state.outbox.values()
            if row.id not in state.pending
            and chosen.topic in (None, row.topic)
            and key in (None, row.key)
            and (chosen.from_ms is None or chosen.from_ms <= row.created_at)
            and (chosen.to_ms is None or row.created_at < chosen.to_ms)
        ]

    async def standing(self, consumers: Sequence[str], age_ms: int, acknowledged: Collection[int] = ()) -> DueReport:
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

    def _offer(self, published: Sequence[OutboxRecord], before: Collection[int]) -> None:
        for reader in self._readers:
            reader.offer(published, before)

    def _due(self) -> DueTimes:
        return DueTimes(self._database.clock.wall_ms(), self._longest_wait_ms)

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._database.require()
