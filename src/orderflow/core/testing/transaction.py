"""One unit of work over the shared state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType

from msgspec import structs

from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.store import (
    Changes,
    DataRefusedError,
    End,
    FoundError,
    OutboxRecord,
    ParkedQuery,
    Plan,
    Snapshot,
    StoreUnavailableError,
)
from orderflow.core.testing.state import (
    OTHERS_FIRST,
    DueTimes,
    Journal,
    KeptEvent,
    MemoryDatabase,
    MemoryTables,
    Writer,
)


class MemoryTransaction:
    """See `core.store.Transaction`. What is written is checked and applied in one go."""

    def __init__(
        self,
        database: MemoryDatabase,
        ended: Callable[[MemoryTransaction], None],
        due: Callable[[], DueTimes],
        published: Callable[[Sequence[OutboxRecord], Collection[int]], None],
    ) -> None:
        self._published = published
        self._database = database
        self._ended = ended
        self._due = due
        self._epoch = -1
        self._alive = True
        self._known: frozenset[tuple[str, str]] = frozenset()
        self._streams: frozenset[tuple[str, str]] = frozenset()
        self._expecting: Plan | None = None

    async def __aenter__(self) -> MemoryTransaction:
        try:
            await self._database.gate("begin")
            self._require_alive()
            self._database.require()
        except BaseException:
            self.abandon()
            raise
        self._epoch = self._database.epoch
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Give everything up, as when the process or its connection is gone. Idempotent."""
        if self._alive:
            self._alive = False
            self._database.locks.release_all(self)
            self._ended(self)

    async def open(self, plan: Plan) -> Snapshot:
        if plan.expects_nothing:
            self._expecting = plan
            for key, identity in plan.messages:
                self._database.rules.require_text(key, identity)
            return Snapshot()
        await self._database.gate("open")
        self._require_session()
        return await self._look(plan)

    async def _look(self, plan: Plan) -> Snapshot:
        for number in plan.locks:
            taken = self._database.locks.take(self, number)
            if taken is not None:
                await taken
            self._require_alive()
            await OTHERS_FIRST  # they take locks in between, as they do on a server
        self._database.require(self._epoch)
        for key, identity in plan.messages:
            self._database.rules.require_text(key, identity)
        snapshot = self._read(self._database.state, plan)
        await self._database.gate("opened")
        self._require_session()
        return snapshot

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        expecting, self._expecting = self._expecting, None
        if expecting is not None:
            found = await self._look(expecting)
            if end is End.ROLLBACK or _is_rare(changes) or not found.is_empty:
                raise FoundError(found)
        changes = self._numbered(changes)
        await self._database.gate("commit")
        self._require_session()
        database, journal = self._database, Journal()
        writer = Writer(database.state, journal, database.rules, self._known, self._streams, database.clock.wall_ms())
        try:
            writer.write(changes)
        except BaseException as error:
            journal.undo()
            if isinstance(error, DataRefusedError):
                database.refused(error)
            raise
        before = self._unsent_before(changes)
        if end is End.ROLLBACK:
            journal.undo()
        else:
            database.committed([changes])
        database.locks.release_all(self)
        await database.gate("committed")
        if changes.outbox and end is End.COMMIT:
            written = [database.state.outbox[record.id] for record in changes.outbox]
            self._published(written, before)

    def _unsent_before(self, changes: Changes) -> Collection[int]:
        slots = {record.slot for record in changes.outbox}
        first = min((record.id for record in changes.outbox), default=0)
        return [n for n, slot in self._database.state.pending.items() if slot in slots and n < first]

    def _numbered(self, changes: Changes) -> Changes:
        """Outbox rows get their ids before the commit, as from a sequence: not in the order of the commits."""
        state, rows = self._database.state, []
        for record in changes.outbox:
            state.outbox_ids += 1
            rows.append(structs.replace(record, id=state.outbox_ids))
        return structs.replace(changes, outbox=rows) if rows else changes

    def _require_session(self) -> None:
        self._require_alive()
        self._database.require(self._epoch)

    def _require_alive(self) -> None:
        if not self._alive:
            raise StoreUnavailableError("the session was ended")

    def _read(self, state: MemoryTables, plan: Plan) -> Snapshot:
        known: dict[tuple[str, str], InboxState] = {}
        for key, identity in plan.messages:
            if identity is not None and (entry := state.inbox.get((key, plan.consumer, identity))) is not None:
                known[key, identity] = entry.state
        keys = {key for key, _ in plan.messages}
        depth: dict[str, int] = {}
        for each in state.parked.values():
            if each.consumer == plan.consumer and (key := each.event.key) in keys:
                depth[key] = min(depth.get(key, 0) + 1, plan.depth_max)
        emitted = {(source, key): n for (key, source), n in state.streams.items() if key in keys}
        rows = {ref: row for ref in plan.rows if (row := state.rows.get(ref)) is not None}
        parked = self._parked(state, plan.consumer, plan.parked) if plan.parked else []
        self._known = frozenset(known) | {(event.key, event.identity) for event in parked}
        self._streams = frozenset(emitted)
        return Snapshot(known, depth, emitted, rows, parked)

    def _parked(self, state: MemoryTables, consumer: str, query: ParkedQuery) -> list[ParkedEvent]:
        found: list[ParkedEvent] = []
        for key in dict.fromkeys(query.keys):
            waiting = queue_of(state, consumer, key)
            if waiting and (not query.due or is_due(waiting[0], self._due())):
                found.extend(each.event for each in waiting[: query.limit])
        return sorted(found, key=lambda event: event.position)


def _is_rare(changes: Changes) -> bool:
    return bool(changes.parked or changes.reparked or changes.edited or changes.released or changes.log)


def queue_of(state: MemoryTables, consumer: str, key: str) -> list[KeptEvent]:
    """What is parked of a key, in order."""
    waiting = [w for w in state.parked.values() if w.consumer == consumer and w.event.key == key]
    return sorted(waiting, key=lambda each: each.event.position)


def is_due(head: KeptEvent, due: DueTimes) -> bool:
    return head.event.state is InboxState.PARKED and head.next_attempt_at in due
