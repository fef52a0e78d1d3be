"""What every transport keeps to, so that a record that one takes fits the others, and no poll fills the memory."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.transport import (
    MAX_HEADERS,
    MAX_RECORD_BYTES,
    ConsumerRecord,
    ProducerRecord,
    RecordTooLargeError,
    fits,
    size_of,
)

POLL_BYTES_MAX = 16 * 1024 * 1024
"""A poll returns no more than this and one record, however many records were asked for."""


def refuse_oversized(records: Sequence[ProducerRecord]) -> None:
    """Raises RecordTooLargeError for a record that does not fit, before any of the records is appended."""
    for record in records:
        if not fits(record):
            raise RecordTooLargeError(
                f"a record for {record.topic!r} has {size_of(record)} bytes and {len(record.headers)} headers, "
                f"the limit is {MAX_RECORD_BYTES} bytes and {MAX_HEADERS} headers"
            )


def within(room: int, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    """The first records, up to the one that fills `room` bytes."""
    for number, record in enumerate(records):
        room -= size_of(record)
        if room <= 0:
            return records[: number + 1]
    return records
