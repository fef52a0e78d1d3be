"""Reports of stuck events: on `flow-status` while they are stuck, and as dead letters on `<topic>.DLT`.

And stand-ins for records that even the database refuses to store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from orderflow.core.envelopes import KEY_MAX, Incoming, rfc3339, traceparent_of
from orderflow.core.identity import record_id, slot_of, uuid_text
from orderflow.core.inbox import Failure
from orderflow.core.messages import Event, UndecodableError
from orderflow.core.store import DataRefusedError, OutboxRecord
from orderflow.core.transport import ConsumerRecord, HasBytes, Headers, fits, size_of

FLOW_STATUS = "flow-status"


class FlowEvent(Event, frozen=True, kw_only=True):
    """`subject_key` is stuck (or free again) at `consumer`, because of the event `event_id` of `event_type`."""

    TOPIC: ClassVar[str] = FLOW_STATUS

    subject_key: str
    consumer: str
    event_id: str
    event_type: str

    @property
    def key(self) -> str:
        return self.subject_key


class Parked(FlowEvent, frozen=True, kw_only=True):
    """The event failed and will be tried again; the later events of its key wait behind it."""

    TYPE: ClassVar[str] = "orderflow.Parked"

    error: str


class Dead(FlowEvent, frozen=True, kw_only=True):
    """The event was given up after `attempts` and is on the dead-letter topic; its key stays closed."""

    TYPE: ClassVar[str] = "orderflow.Dead"

    error: str
    attempts: int


class Reopened(FlowEvent, frozen=True, kw_only=True):
    """The key flows again. The event named is the last one that had to wait."""

    TYPE: ClassVar[str] = "orderflow.Reopened"


FLOW_EVENTS: tuple[type[FlowEvent], ...] = (Parked, Dead, Reopened)


SUFFIX = ".DLT"
FIRST_FAILED_AT = "dlt_first_failed_at"
LAST_FAILED_AT = "dlt_last_failed_at"
UNSTORABLE = "unstorable"
_OMITTED = "dlt_omitted"
_CONSUMER = "dlt_consumer"
_PARTS = ("value", "headers", "key")
_CUTS = (("value",), ("headers",), ("value", "headers"), _PARTS)
_KEY_BYTES = 4 * KEY_MAX
_TRACE_ID = slice(3, 35)


class UnstorableError(UndecodableError):
    """A record that the database refuses to keep."""


def topic_of(topic: str) -> str:
    return topic + SUFFIX


def dead_letter(
    incoming: Incoming,
    record: ConsumerRecord,
    failure: Failure,
    attempts: int,
    consumer: str,
    service: str,
    slots: int,
    release: str,
) -> OutboxRecord:
    """A dead letter: the original key, value and headers as bytes, and `dlt_` headers that say what, where and why.

    If that does not fit into the log, the value, the headers, or more is left out; `dlt_omitted` and the headers
    beside it say so, and the parked event in the database of `service` has everything. `release` is the version of
    the code that gave up. The time of the failure is added later, when the row is written: see `with_times`.
    """
    why = _why(incoming, record, failure, attempts, consumer, release)
    letter = OutboxRecord(
        topic=topic_of(record.topic),
        key=record.key,
        value=record.value,
        headers=record.headers + _as_headers(why) + _first_failed_at(incoming),
        event_id=incoming.event_id,
        slot=slot_of(record.key, slots),
    )
    if _will_fit(letter):
        return letter
    whole = f"in the database of {service}, parked by consumer {consumer} as event {incoming.event_id}"
    for parts in _CUTS:
        why |= {**_omitted(record, parts), "dlt_whole": whole}
        kept: Headers = () if "headers" in parts else record.headers
        letter = replace(
            letter,
            key=incoming.key.encode() if "key" in parts else record.key,
            value=None if "value" in parts else record.value,
            headers=kept + _as_headers(why) + _first_failed_at(incoming),
        )
        if _will_fit(letter):
            break
    return letter


def shortened(letter: OutboxRecord) -> OutboxRecord:
    """A dead letter without the content of its original, for a topic with a lower limit than ours."""
    start = max((n for n, (name, _) in enumerate(letter.headers) if name == _CONSUMER), default=0)
    ours = letter.headers[start:]
    keyed = len(letter.key or b"") <= _KEY_BYTES
    if _OMITTED not in dict(ours):
        original = replace(letter, headers=letter.headers[:start])
        omitted = _omitted(original, _PARTS[: 2 if keyed else 3])
        ours = _as_headers({**omitted, "dlt_whole": "in the database of the consumer, parked as this event"}) + ours
    return replace(letter, key=letter.key if keyed else None, value=None, headers=ours)


def with_times(headers: Headers, failed_at_ms: int) -> Headers:
    """The headers of a dead letter from the outbox with the times of its first and last failure (RFC 3339, UTC, ms).

    `failed_at_ms` is when the row was written. The last header is for the first failure; it has no value if this is
    the first. Only the last header is looked at, because the original may have one of the same name.
    """
    last = rfc3339(failed_at_ms)
    if headers and headers[-1] == (FIRST_FAILED_AT, None):
        headers = (*headers[:-1], (FIRST_FAILED_AT, last))
    return (*headers, (LAST_FAILED_AT, last))


def stand_ins(incoming: Incoming, record: ConsumerRecord, error: DataRefusedError) -> Iterator[Incoming]:
    """Substitutes to park for a record that the database refuses to store.

    First the same event without its content, then one that is named by its place in the log alone. Both state, in
    ASCII, the record's place and size, the SHA-256 of its value, and why it was refused; neither is ever decided.
    """
    place = f"{record.topic}/{record.partition}@{record.offset}" if record.topic else "an answer from outside"
    facts = _omitted(record, _PARTS)
    whole = f"only at {place}, for as long as the log keeps it" if record.topic else "nowhere"
    if incoming.parked is not None:
        whole = "in the database of the consumer, parked as this event"
    detail = (
        f"the database refuses {place} ({facts[_OMITTED]} bytes, SHA-256 of the value "
        f"{facts['dlt_value_sha256']}): {error}"
    )
    problem = UnstorableError(UNSTORABLE, _ascii(detail), error.constraint or error.sqlstate)
    bare = replace(record, key=None, value=None, headers=_as_headers({**facts, "dlt_whole": whole}))
    without_content = replace(
        incoming, event_type=_ascii(incoming.event_type), record=bare, problem=problem, also=None
    )
    yield without_content
    if incoming.parked is None:
        named = record_id(record.topic, record.partition, record.offset) if record.topic else incoming.event_id
        key = f"{record.topic}/{record.partition}/{record.offset}" if record.topic else uuid_text(named)
        yield replace(without_content, key=key, identity=uuid_text(named), event_id=named)


def _will_fit(letter: OutboxRecord) -> bool:
    """Whether the letter fits the log with the headers that it gets when it is published."""
    return fits(replace(letter, headers=with_times(letter.headers, 0)))


def _omitted(record: HasBytes, parts: Sequence[str]) -> dict[str, str]:
    return {
        _OMITTED: str(size_of(record)),
        "dlt_omitted_parts": ", ".join(parts),
        "dlt_value_sha256": hashlib.sha256(record.value or b"").hexdigest(),
    }


def _as_headers(facts: Mapping[str, str]) -> Headers:
    return tuple((name, text.encode()) for name, text in facts.items())


def _first_failed_at(incoming: Incoming) -> Headers:
    first = incoming.parked.first_failed_at if incoming.parked else None
    return ((FIRST_FAILED_AT, None if first is None else rfc3339(first)),)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _why(
    incoming: Incoming, record: ConsumerRecord, failure: Failure, attempts: int, consumer: str, release: str
) -> dict[str, str]:
    why = {
        _CONSUMER: consumer,
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
