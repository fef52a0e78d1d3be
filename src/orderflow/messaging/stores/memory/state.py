"""What is committed, and how a change of it is taken back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from orderflow.messaging.inbox import InboxEntry, ParkedEvent
from orderflow.messaging.rows import Fact, Ref, Row
from orderflow.messaging.store import OpenIntent, OutboxRecord
from orderflow.messaging.stores.memory.faults import FaultTables


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked event with its times in ms since the epoch."""

    consumer: str
    event: ParkedEvent
    parked_at: int
    next_attempt_at: int
    first_failed_at: int | None = None
    last_failed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An open intent and when it is due again, in ms since the epoch."""

    intent: OpenIntent
    due_at: int


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
    intents: dict[str, Asked] = field(default_factory=dict)
    faults: FaultTables = field(default_factory=FaultTables)
    outbox_ids: int = 0
    positions: int = 0


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
