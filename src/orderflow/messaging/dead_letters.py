"""The record that a consumer leaves on `<topic>.DLT` when it gives an event up."""

from __future__ import annotations

from orderflow.messaging.identity import slot_of
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.store import Failure, OutboxRecord
from orderflow.messaging.transport import ConsumerRecord

SUFFIX = ".DLT"


def topic_of(topic: str) -> str:
    return topic + SUFFIX


def dead_letter(
    incoming: Incoming, record: ConsumerRecord, failure: Failure, attempts: int, consumer: str, slots: int
) -> OutboxRecord:
    """The original key, value and headers as bytes, and `dlt_` headers that say what, where and why."""
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
    return OutboxRecord(
        topic=topic_of(record.topic),
        key=record.key,
        value=record.value,
        headers=record.headers + tuple((name, text.encode()) for name, text in why.items()),
        event_id=incoming.event_id,
        slot=slot_of(record.key, slots),
    )
