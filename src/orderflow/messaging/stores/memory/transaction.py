"""One transaction over the shared state: staged until its commit, then applied in one go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TypeVar

from msgspec import structs

from orderflow.messaging.inbox import InboxState, ParkedEvent
from orderflow.messaging.rows import Ref, Row
from orderflow.messaging.store import DEPTH_LIMIT, Changes, DataRefusedError, Recognition, StoreUnavailableError
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.state import DueTimes, Journal, State, Waiting
from orderflow.messaging.stores.memory.writing import Writer

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Staged:
    """Changes, and what had been recognised when they were written: what is looked up later says nothing of them."""

    changes: Changes
    known: frozenset[tuple[str, str]]
    streams: frozenset[tuple[str, str]]


class MemoryTransaction:
    """See `messaging.store.Transaction`. Uniqueness is checked when written, and again when committed."""

    def __init__(
        self, database: MemoryDatabase, ended: Callable[[MemoryTransaction], None], due: Callable[[], DueTimes]
    ) -> None:
        self._database = database
        self._ended = ended
        self._due = due
        self._epoch = -1
        self._alive = True
        self._refused = False
        self._staged: list[_Staged] = []
        self._known: dict[tuple[str, str], InboxState] = {}
        self._streams: set[tuple[str, str]] = set()

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
        try:
            if error is None:
                await self._step("commit")
                self._commit()
                await self._database.gate("committed")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give everything up, as when the process or its connection is gone. Idempotent."""
        if self._alive:
            self._alive = False
            self._staged.clear()
            self._database.locks.release_all(self)
            self._ended(self)

    async def lock(self, locks: Sequence[int]) -> None:
        await self._step("lock")
        for number in locks:
            await self._database.locks.take(self, number)
            self._require_alive()
            await asyncio.sleep(0)  # others take locks in between, as they do on a server
        self._database.require(self._epoch)

    async def recognise(
        self, consumer: str, messages: Sequence[tuple[str, str | None]], depth_limit: int = DEPTH_LIMIT
    ) -> Recognition:
        await self._step("recognise")
        for key, identity in messages:
            self._database.rules.require_text(key, identity)
        return self._seeing_own_writes(lambda state: self._recognise(state, consumer, messages, depth_limit))

    async def load(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        await self._step("load")
        return self._seeing_own_writes(
            lambda state: {ref: state.rows[ref] for ref in dict.fromkeys(refs) if ref in state.rows}
        )

    async def parked(self, consumer: str, keys: Sequence[str], limit: int) -> Sequence[ParkedEvent]:
        await self._step("parked")
        events = self._seeing_own_writes(lambda state: self._parked(state, consumer, keys, limit))
        return self._waiting(events)

    async def sequence(self, consumer: str, key: str, limit: int) -> Sequence[ParkedEvent]:
        await self._step("sequence")
        waiting = self._seeing_own_writes(lambda state: queue_of(state, consumer, key))
        return self._waiting([each.event for each in waiting[:limit]])

    async def write(self, changes: Changes) -> None:
        await self._step("write")
        staged = _Staged(self._numbered(changes), frozenset(self._known), frozenset(self._streams))
        journal = Journal()
        try:
            self._apply(journal, [*self._staged, staged])
        except DataRefusedError as error:
            self._refused = True
            self._database.refused(error)
            raise
        finally:
            journal.undo()
        self._staged.append(staged)

    def _numbered(self, changes: Changes) -> Changes:
        """Outbox rows get their ids when they are written, as from a sequence: not in the order of the commits."""
        state, rows = self._database.state, []
        for record in changes.outbox:
            state.outbox_ids += 1
            rows.append(structs.replace(record, id=state.outbox_ids))
        return dataclasses.replace(changes, outbox=rows) if rows else changes

    def _waiting(self, events: Sequence[ParkedEvent]) -> Sequence[ParkedEvent]:
        self._known |= {(event.key, event.identity): event.state for event in events}
        return events

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        self._require_alive()
        self._database.require(self._epoch)

    def _require_alive(self) -> None:
        if not self._alive:
            raise StoreUnavailableError("the session was ended")

    def _commit(self) -> None:
        if self._refused:
            raise DataRefusedError("the transaction had failed before; nothing was committed")
        journal = Journal()
        try:
            self._apply(journal, self._staged)
        except BaseException:
            journal.undo()
            raise
        self._database.committed([each.changes for each in self._staged])

    def _apply(self, journal: Journal, staged: Iterable[_Staged]) -> None:
        database = self._database
        for each in staged:
            now_ms = database.clock.wall_ms()
            Writer(database.state, journal, database.rules, each.known, each.streams, now_ms).write(each.changes)

    def _seeing_own_writes(self, read: Callable[[State], T]) -> T:
        journal = Journal()
        try:
            self._apply(journal, self._staged)
            return read(self._database.state)
        finally:
            journal.undo()

    def _recognise(
        self, state: State, consumer: str, messages: Sequence[tuple[str, str | None]], depth_limit: int
    ) -> Recognition:
        known: dict[tuple[str, str], InboxState] = {}
        for key, identity in messages:
            if identity is not None and (entry := state.inbox.get((key, consumer, identity))) is not None:
                known[key, identity] = entry.state
        keys = {key for key, _ in messages}
        held = Counter(w.event.key for w in state.parked.values() if w.consumer == consumer and w.event.key in keys)
        depth = {key: min(count, depth_limit) for key, count in held.items()}
        emitted = {(source, key): n for (key, source), n in state.streams.items() if key in keys}
        self._known |= known
        self._streams.update(emitted)
        return Recognition(known, frozenset(depth), emitted, depth)

    def _parked(self, state: State, consumer: str, keys: Sequence[str], limit: int) -> list[ParkedEvent]:
        found: list[ParkedEvent] = []
        for key in dict.fromkeys(keys):
            waiting = queue_of(state, consumer, key)
            if waiting and is_due(waiting[0], self._due()):
                found.extend(each.event for each in waiting[:limit])
        return sorted(found, key=lambda event: event.position)


def queue_of(state: State, consumer: str, key: str) -> list[Waiting]:
    """What is parked of a key, in order."""
    waiting = [w for w in state.parked.values() if w.consumer == consumer and w.event.key == key]
    return sorted(waiting, key=lambda each: each.event.position)


def is_due(head: Waiting, due: DueTimes) -> bool:
    return head.event.state is InboxState.PARKED and head.next_attempt_at in due
