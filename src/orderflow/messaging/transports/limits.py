"""What every transport accepts, so that a record that one takes fits the others."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.transport import ProducerRecord

MAX_RECORD_BYTES = 2_000_000
"""Key, value and headers together. Kafka's own limit is set to 2 MiB; the rest is room for its framing."""


def refuse_oversized(records: Sequence[ProducerRecord]) -> None:
    """Raises ValueError for a record over MAX_RECORD_BYTES, before any of the records is appended."""
    for record in records:
        size = _size(record)
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"a record for {record.topic!r} has {size} bytes, the limit is {MAX_RECORD_BYTES}")


def _size(record: ProducerRecord) -> int:
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += 4 * len(name) + len(value or b"")
    return size
