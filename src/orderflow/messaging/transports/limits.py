"""What every transport keeps to, so that a record that one takes fits the others, and no poll fills the memory."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.transport import (
    MAX_RECORD_BYTES,
    ConsumerRecord,
    ProducerRecord,
    RecordTooLargeError,
    size_of,
)

POLL_BYTES_MAX = 16 * 1024 * 1024
"""A poll returns no more than this and one record, however many records were asked for."""


def refuse_oversized(records: Sequence[ProducerRecord]) -> None:
    """Raises RecordTooLargeError for a record that does not fit, before any of the records is appended."""
    for record in records:
        size = size_of(record)
        if size > MAX_RECORD_BYTES:
            raise RecordTooLargeError(
                f"a record for {record.topic!r} has {size} bytes, the limit is {MAX_RECORD_BYTES}"
            )


def within(room: int, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    """The first records, up to the one that fills `room` bytes."""
    for number, record in enumerate(records):
        room -= size_of(record)
        if room <= 0:
            return records[: number + 1]
    return records
