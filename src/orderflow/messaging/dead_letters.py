"""The record that a consumer leaves on `<topic>.DLT` when it gives an event up."""

from __future__ import annotations

from orderflow.messaging.cloudevents import rfc3339, traceparent_of
from orderflow.messaging.identity import slot_of
from orderflow.messaging.inbox import Failure
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.store import OutboxRecord
from orderflow.messaging.transport import ConsumerRecord, Headers, size_of

SUFFIX = ".DLT"
ORIGINAL_MAX = 1_900_000
FIRST_FAILED_AT = "dlt_first_failed_at"
LAST_FAILED_AT = "dlt_last_failed_at"
_TRACE_ID = slice(3, 35)


def topic_of(topic: str) -> str:
    return topic + SUFFIX


def dead_letter(
    incoming: Incoming,
    record: ConsumerRecord,
    failure: Failure,
    attempts: int,
    consumer: str,
    slots: int,
    release: str,
) -> OutboxRecord:
    """The original key, value and headers as bytes, and `dlt_` headers that say what, where and why.

    A record of more than ORIGINAL_MAX bytes would not fit the log with these headers added: its value and headers
    are left out, and `dlt_omitted` says how many bytes; the parked event has them all. `release` is the version of
    the code that gave up. The time of the failure is not known before the row is written: see `with_times`.
    """
    why = _why(incoming, record, failure, attempts, consumer, release)
    value, headers, size = record.value, record.headers, size_of(record)
    if size > ORIGINAL_MAX:
        value, headers, why["dlt_omitted"] = None, (), str(size)
    first = incoming.parked.first_failed_at if incoming.parked else None
    times = ((FIRST_FAILED_AT, None if first is None else rfc3339(first)),)
    return OutboxRecord(
        topic=topic_of(record.topic),
        key=record.key if size <= ORIGINAL_MAX else incoming.key.encode(),
        value=value,
        headers=headers + tuple((name, text.encode()) for name, text in why.items()) + times,
        event_id=incoming.event_id,
        slot=slot_of(record.key, slots),
    )


def with_times(headers: Headers, failed_at_ms: int) -> Headers:
    """The headers of a dead letter from the outbox with the times of its first and last failure (RFC 3339, UTC, ms).

    `failed_at_ms` is when the row was written. The last header is the first failure's; it has no value when there was
    none before. Only the last is looked at: one of the same name may have come with the original.
    """
    last = rfc3339(failed_at_ms)
    if headers and headers[-1] == (FIRST_FAILED_AT, None):
        headers = (*headers[:-1], (FIRST_FAILED_AT, last))
    return (*headers, (LAST_FAILED_AT, last))


def _why(
    incoming: Incoming, record: ConsumerRecord, failure: Failure, attempts: int, consumer: str, release: str
) -> dict[str, str]:
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
        "dlt_service_version": release,
    }
    traceparent = traceparent_of(record.headers)
    if traceparent is not None:
        why["dlt_trace_id"] = traceparent[_TRACE_ID]
    return why
