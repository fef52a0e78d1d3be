"""The record that a consumer leaves on `<topic>.DLT` when it gives an event up."""

from __future__ import annotations

from orderflow.messaging.identity import slot_of
from orderflow.messaging.inbox import Failure
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.store import OutboxRecord
from orderflow.messaging.transport import ConsumerRecord

SUFFIX = ".DLT"
ORIGINAL_MAX = 1_900_000


def topic_of(topic: str) -> str:
    return topic + SUFFIX


def dead_letter(
    incoming: Incoming, record: ConsumerRecord, failure: Failure, attempts: int, consumer: str, slots: int
) -> OutboxRecord:
    """The original key, value and headers as bytes, and `dlt_` headers that say what, where and why.

    A record of more than ORIGINAL_MAX bytes would not fit the log with these headers added: its value and headers
    are left out, and `dlt_omitted` says how many bytes; the parked event has them all.
    """
    why = {
        "dlt_consumer": consumer,
        "dlt_topic": record.topic,
        "dlt_partition": str(record.partition),
        "dlt_offset": str(record.offset),
        "dlt_event_id": str(incoming.event_id),
        "dlt_attempts": str(attempts),
        "dlt_failure": failure.kind,
        "dlt_error": failure.error,
        "dlt_message": failure.message,
        "dlt_fingerprint": failure.fingerprint,
    }
    value, headers, size = record.value, record.headers, size_of(record)
    if size > ORIGINAL_MAX:
        value, headers, why["dlt_omitted"] = None, (), str(size)
    return OutboxRecord(
        topic=topic_of(record.topic),
        key=record.key if size <= ORIGINAL_MAX else incoming.key.encode(),
        value=value,
        headers=headers + tuple((name, text.encode()) for name, text in why.items()),
        event_id=incoming.event_id,
        slot=slot_of(record.key, slots),
    )


def size_of(record: ConsumerRecord) -> int:
    """Key, value and headers in bytes; a character of a header's name counts as the four that it may have."""
    headers = sum(4 * len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
