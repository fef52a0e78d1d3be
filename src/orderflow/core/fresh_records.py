"""Outbox rows that this process has just committed, so that its relay need not read them back from the database.

A commit holds the locks of its keys, and returns which other rows of its slots were unsent at that time. If this
process has all of those here too, every earlier row of the same keys is published already or comes out of here first:
then the rows can be published without reading the outbox. Otherwise the relay reads it, and the table decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

from orderflow.core.store import OutboxRecord
from orderflow.core.transport import size_of

BYTES_MAX = 16 * 1024 * 1024
OVERHEAD_BYTES = 1024
"""Roughly the memory of a record beside its content."""

FRESH_MAX = 1000
"""When more rows than this wait, reading the outbox once for all of them costs less."""


class FreshRecords:
    """Committed rows by id, kept until they are marked as sent, as far as there is room."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[OutboxRecord, int]] = {}
        self._bytes = 0
        self._next: list[OutboxRecord] | None = None
        self._early: set[int] = set()

    def add(self, records: Iterable[OutboxRecord], slots: Collection[int], before: Collection[int] | None) -> None:
        """Keep the records of these slots. `before` are the ids that were unsent in their slots at the commit; None
        if that is unknown. When there is no more room all are dropped, so that none can stay for ever.
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

    def take_fresh(self) -> Sequence[OutboxRecord] | None:
        """The records added since the last call or read, by id; None: read the outbox, there may be more."""
        found = self._next
        if found is None or len(found) > FRESH_MAX:
            return None
        self._next = []
        return sorted(found, key=attrgetter("id"))

    def before_read(self) -> None:
        """The outbox is about to be read, which finds all records that are here."""
        self._next = []

    def after_read(self, ids: Collection[int]) -> None:
        """The read has found these, so they are not fresh any more; some may be added here only later."""
        if len(self._early) > FRESH_MAX:
            self._early.clear()
        self._early.update(number for number in ids if number not in self._records)
        if self._next:
            self._next = [record for record in self._next if record.id not in ids]

    def found(self, ids: Iterable[int]) -> dict[int, OutboxRecord]:
        """The records of these ids that are here."""
        return {number: self._records[number][0] for number in ids if number in self._records}

    def drop(self, ids: Iterable[int]) -> None:
        """Drop records that are sent."""
        for number in ids:
            _, size = self._records.pop(number, (None, 0))
            self._bytes -= size

    def clear(self) -> None:
        """Drop all: the slots have changed, or there is no more room."""
        self._records.clear()
        self._bytes = 0
        self._next = None
