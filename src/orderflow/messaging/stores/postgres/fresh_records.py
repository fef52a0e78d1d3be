"""Outbox rows that this process has just committed, kept so that its relay need not read them back."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orderflow.messaging.store import OutboxRecord
from orderflow.messaging.transport import size_of

BYTES_MAX = 16 * 1024 * 1024
OVERHEAD_BYTES = 1024
"""About what a record takes beside its bytes."""


class FreshRecords:
    """By id. The table says what is unsent, and in which order; here is only what it holds, while there is room."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[OutboxRecord, int]] = {}
        self._bytes = 0

    def add(self, records: Iterable[OutboxRecord], slots: Collection[int]) -> None:
        """Keep those of these slots. When there is no more room all are let go, so that nothing can stay for ever."""
        if self._bytes >= BYTES_MAX:
            self.clear()
        for record in records:
            if record.slot in slots:
                size = size_of(record) + OVERHEAD_BYTES
                self._records[record.id] = (record, size)
                self._bytes += size

    def found(self, ids: Iterable[int]) -> dict[int, OutboxRecord]:
        """Those of the ids that are here."""
        return {number: self._records[number][0] for number in ids if number in self._records}

    def drop(self, ids: Iterable[int]) -> None:
        """They are sent."""
        for number in ids:
            _, size = self._records.pop(number, (None, 0))
            self._bytes -= size

    def clear(self) -> None:
        self._records.clear()
        self._bytes = 0
