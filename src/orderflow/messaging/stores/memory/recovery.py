"""The recovery port over a shared memory database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from orderflow.messaging.inbox import InboxState
from orderflow.messaging.recovery.port import Letter, LetterFilter, ParkedSummary
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.state import Waiting


class MemoryRecovery:
    """See `messaging.recovery.port.RecoveryStore`."""

    def __init__(self, database: MemoryDatabase, step: Callable[[str], Awaitable[None]]) -> None:
        self._database = database
        self._step = step

    async def letters(self, wanted: LetterFilter, limit: int, after: int = 0) -> Sequence[Letter]:
        await self._step("read")
        dead = [w for w in self._by_position() if w.event.state is InboxState.DEAD and w.event.position > after]
        return [_view(waiting) for waiting in dead[:limit]]

    async def letter(self, event: UUID | int) -> Letter | None:
        await self._step("read")
        for waiting in self._by_position():
            if event in (waiting.event.position, waiting.event.event_id):
                return _view(waiting)
        return None

    async def summary(self) -> Sequence[ParkedSummary]:
        await self._step("read")
        consumers = sorted({waiting.consumer for waiting in self._database.state.parked.values()})
        return [_summary(name, [w for w in self._by_position() if w.consumer == name]) for name in consumers]

    def _by_position(self) -> list[Waiting]:
        return sorted(self._database.state.parked.values(), key=lambda waiting: waiting.event.position)


def _view(waiting: Waiting) -> Letter:
    return Letter(
        consumer=waiting.consumer,
        event=waiting.event,
        parked_at=_time(waiting.parked_at),
        first_failed_at=_time(waiting.first_failed_at) if waiting.first_failed_at is not None else None,
        last_failed_at=_time(waiting.last_failed_at) if waiting.last_failed_at is not None else None,
        next_attempt_at=_time(waiting.next_attempt_at),
    )


def _summary(consumer: str, waiting: Sequence[Waiting]) -> ParkedSummary:
    dead = sum(each.event.state is InboxState.DEAD for each in waiting)
    held = sum(each.event.state is InboxState.PARKED and each.event.attempts == 0 for each in waiting)
    return ParkedSummary(
        consumer=consumer,
        keys=len({each.event.key for each in waiting}),
        retrying=len(waiting) - dead - held,
        dead=dead,
        held=held,
        oldest=_time(min(each.parked_at for each in waiting)),
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
