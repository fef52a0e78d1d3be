"""What every transport accepts, so that a record that one takes fits the others."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.transport import ConsumerRecord, ProducerRecord, size_of

MAX_RECORD_BYTES = 2_000_000
"""Key, value and headers together. Kafka's own limit is set to 2 MiB; the rest is room for its framing."""

POLL_BYTES_MAX = 16 * 1024 * 1024
"""A poll returns no more than this and one record, however many records were asked for."""


def refuse_oversized(records: Sequence[ProducerRecord]) -> None:
    """Raises ValueError for a record over MAX_RECORD_BYTES, before any of the records is appended."""
    for record in records:
        size = size_of(record)
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"a record for {record.topic!r} has {size} bytes, the limit is {MAX_RECORD_BYTES}")


def within(room: int, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    """The first records, up to the one that fills `room` bytes."""
    for number, record in enumerate(records):
        room -= size_of(record)
        if room <= 0:
            return records[: number + 1]
    return records
