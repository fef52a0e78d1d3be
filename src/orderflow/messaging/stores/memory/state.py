"""What is committed, and how a change of it is taken back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from orderflow.messaging.inbox import Failure, InboxEntry, ParkedEvent
from orderflow.messaging.recovery.model import (
    Expired,
    HistoryEntry,
    Moment,
    OperatorAction,
    Overrule,
    ReplayPlan,
    ReplayState,
)
from orderflow.messaging.rows import Fact, Ref, Row
from orderflow.messaging.store import Act, LogEntry, OpenIntent, OutboxRecord


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked event with its times in ms since the epoch."""

    consumer: str
    event: ParkedEvent
    parked_at: int
    next_attempt_at: int
    last_failed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """A row of the history: what happened to the event at a position, and its id then."""

    position: int
    event_id: UUID
    entry: HistoryEntry


class Course(StrEnum):
    """How an event of a replay stands there; the last four are final."""

    WAITING = "waiting"
    UNDER_WAY = "under_way"
    SUCCEEDED = "succeeded"
    FAILED_AGAIN = "failed_again"
    DISCARDED = "discarded"
    GONE = "gone"


@dataclass(slots=True)
class Replayed:
    """An event of a replay. `name` is that of its row of the inbox."""

    name: tuple[str, str, str]
    course: Course = Course.WAITING


@dataclass(slots=True, kw_only=True)
class KeptReplay:
    """A replay, its events by position, and who works on it until when (ms since the epoch)."""

    number: int
    plan: ReplayPlan
    act: Act
    created_at: int
    lag_before: int
    events: dict[int, Replayed]
    state: ReplayState = ReplayState.RUNNING
    why: str = ""
    step: int = 0
    claimed_by: object = None
    claimed_until: int = 0

    def is_free_for(self, process: object, due: DueTimes) -> bool:
        """Whether the process may carry it out."""
        is_free = self.claimed_by in (None, process) or self.claimed_until in due
        return self.state is ReplayState.RUNNING and is_free


@dataclass(frozen=True, slots=True)
class Asked:
    """An open intent, when it is due again, and when it was opened, in ms since the epoch."""

    intent: OpenIntent
    due_at: int
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class DueTimes:
    """Which moments are due: those that have come; and those later than the longest wait, which were given while the
    clock was ahead. In ms since the epoch.
    """

    now: int
    longest_wait_ms: int

    def __contains__(self, moment: int) -> bool:
        return not self.now < moment <= self.now + self.longest_wait_ms


@dataclass(slots=True)
class State:
    """The tables. Dictionaries keep the order of insertion."""

    rows: dict[Ref, Row] = field(default_factory=dict)
    facts: dict[tuple[type[Fact], Hashable], Fact] = field(default_factory=dict)
    inbox: dict[tuple[str, str, str], InboxEntry] = field(default_factory=dict)
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    outbox: dict[int, OutboxRecord] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)
    parked: dict[int, Waiting] = field(default_factory=dict)
    originals: dict[int, ParkedEvent] = field(default_factory=dict)
    history: dict[int, Happened] = field(default_factory=dict)
    intents: dict[str, Asked] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    actions: dict[int, OperatorAction] = field(default_factory=dict)
    replays: dict[int, KeptReplay] = field(default_factory=dict)
    expired: dict[tuple[str, str, int, int], Expired] = field(default_factory=dict)
    acknowledged: set[tuple[str, str, int, int]] = field(default_factory=set)
    overrules: dict[tuple[str, str], Overrule] = field(default_factory=dict)
    outbox_ids: int = 0
    positions: int = 0
    moments: int = 0


class Journal:
    """Changes dictionaries and can take every change back, last first."""

    def __init__(self) -> None:
        self._undo: list[tuple[dict[Any, Any], Any, Any, bool]] = []

    def set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((table, key, table.get(key), key in table))
        table[key] = value

    def delete(self, table: dict[Any, Any], key: Any) -> None:
        self._undo.append((table, key, table.pop(key), True))

    def undo(self) -> None:
        while self._undo:
            table, key, value, was_there = self._undo.pop()
            if was_there:
                table[key] = value
            else:
                del table[key]


def note_action(state: State, journal: Journal, entry: LogEntry, now_ms: int) -> None:
    """Add to the operators' log."""
    number = len(state.actions) + 1
    action = OperatorAction(
        number=number,
        at=at(now_ms),
        who=entry.act.who,
        action=entry.action,
        target=entry.target,
        reason=entry.act.reason,
        result=entry.result,
    )
    journal.set(state.actions, number, action)


def remember(
    state: State,
    journal: Journal,
    event: ParkedEvent,
    moment: Moment,
    now_ms: int,
    failure: Failure | None = None,
    who: str = "",
    message: str = "",
) -> None:
    """Add to the history of a parked event."""
    error, message = (failure.error, failure.message) if failure else ("", message)
    entry = HistoryEntry(at=at(now_ms), moment=moment, attempt=event.attempts, error=error, message=message, who=who)
    state.moments += 1
    journal.set(state.history, state.moments, Happened(event.position, event.event_id, entry))


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
