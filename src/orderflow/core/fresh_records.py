"""Outbox rows that this process has just committed, so that its relay need neither look for them nor read them back.

A commit holds the locks of its keys, and hears what else was unsent in its slots then. If this process knows all of
that too, whatever comes before its rows, of any of their keys, is published already or handed on before them: they
can be published as they are. In any other case the relay looks, and the table says what comes next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

from orderflow.core.store import OutboxRecord
from orderflow.core.transport import size_of

BYTES_MAX = 16 * 1024 * 1024
OVERHEAD_BYTES = 1024
"""About what a record takes beside its bytes."""

HANDED_MAX = 1000
"""When more than so many wait to be handed on, one look for all of them costs less."""


class FreshRecords:
    """By id, until they are marked as sent, while there is room."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[OutboxRecord, int]] = {}
        self._bytes = 0
        self._next: list[OutboxRecord] | None = None
        self._early: set[int] = set()

    def add(self, records: Iterable[OutboxRecord], slots: Collection[int], before: Collection[int] | None) -> None:
        """Keep those of these slots. `before`: what was unsent in their slots when they were committed; None: not
        known. When there is no more room all are let go, so that nothing can stay for ever.
        """
        if self._bytes >= BYTES_MAX:
            self.clear()
        ours = [record for record in records if record.slot in slots and record.id not in self._early]
        if not ours:
            return
        if before is None or self._next is None or not self._records.keys() >= set(before):
            self._next = None
        else:
            self._next += ours
        for record in ours:
            size = size_of(record) + OVERHEAD_BYTES
            self._records[record.id] = (record, size)
            self._bytes += size

    def hand_on(self) -> Sequence[OutboxRecord] | None:
        """What has come since the last look, in order of id, each once; None: look, for there may be more."""
        found = self._next
        if found is None or len(found) > HANDED_MAX:
            return None
        self._next = []
        return sorted(found, key=attrgetter("id"))

    def looking(self) -> None:
        """All that is unsent now is about to be found by a look."""
        self._next = []

    def looked(self, ids: Collection[int]) -> None:
        """It has found these: they need not be handed on besides, also if it knows of their commit before we do."""
        if len(self._early) > HANDED_MAX:
            self._early.clear()
        self._early.update(number for number in ids if number not in self._records)
        if self._next:
            self._next = [record for record in self._next if record.id not in ids]

    def found(self, ids: Iterable[int]) -> dict[int, OutboxRecord]:
        """Those of the ids that are here."""
        return {number: self._records[number][0] for number in ids if number in self._records}

    def drop(self, ids: Iterable[int]) -> None:
        """They are sent."""
        for number in ids:
            _, size = self._records.pop(number, (None, 0))
            self._bytes -= size

    def clear(self) -> None:
        """The slots are others now, or there is no more room."""
        self._records.clear()
        self._bytes = 0
        self._next = None
