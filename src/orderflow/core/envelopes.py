"""A message as it arrives (a record, a command, an answer, a parked event), its form on the wire, and its result.

On the wire an envelope is a CloudEvent 1.0 in Kafka's binary content mode: attributes are `ce_` headers, the data is
the value. Spec: CloudEvents Kafka protocol binding 1.0.2; extensions: sequence, causationid, and W3C traceparent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from uuid import UUID

import msgspec
from msgspec.structs import replace

from orderflow.core.identity import answer_id, lock_id, record_id, uuid5, uuid_of, uuid_text
from orderflow.core.inbox import Failure, ParkedEvent
from orderflow.core.messages import (
    MALFORMED,
    Answer,
    Catalogue,
    Command,
    Envelope,
    Event,
    Message,
    UndecodableError,
    encode,
    wire_name,
)
from orderflow.core.service import Decision
from orderflow.core.store import Act, OpenIntent
from orderflow.core.telemetry import Outcome
from orderflow.core.transport import UNREADABLE_HEADERS, ConsumerRecord, Headers

KEY_MAX = 200
TIME_HEADER = "ce_time"
READ = frozenset(("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_sequence", "ce_causationid"))
_SPECVERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the processor takes it.

    Exactly one of `envelope` and `problem` is set, or both for a message that can be read and is not to be decided.
    `record` is what arrived, byte for byte. A command has none, and is never parked; the record of an answer has no
    headers until it is parked. `asked` is how often the intent of an answer was asked before. `also` is the name that
    a parked event would get today, if that differs: one that could not be decoded was named by its place in the log.
    `act` is set for a command that goes into the operators' log.
    """

    key: str
    identity: str
    event_id: UUID
    event_type: str
    envelope: Envelope | None = None
    problem: UndecodableError | None = None
    record: ConsumerRecord | None = None
    parked: ParkedEvent | None = None
    asked: int = 0
    also: tuple[str, str] | None = None
    act: Act | None = None

    @property
    def name(self) -> tuple[str, str]:
        """(key, identity): unique in a consumer's inbox."""
        return self.key, self.identity

    @property
    def inbox_lookup(self) -> tuple[str, str | None]:
        """What to look up in the inbox: a command is never there, so only its key is."""
        return self.key, None if self.record is None else self.identity

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Its name, and the one that it would get today if that differs."""
        return (self.name,) if self.also is None else (self.name, self.also)


class Result(msgspec.Struct, frozen=True):
    """What became of one message. `answer` and `refusal` are for a command's caller.

    `decision` is set if the message was handled. `no_room`: it was deferred because the parking quota is used up.
    """

    incoming: Incoming
    outcome: Outcome
    answer: object = None
    caused: Sequence[Event] = ()
    failure: Failure | None = None
    refusal: Exception | None = None
    attempts: int = 0
    decision: Decision | None = None
    no_room: bool = False


def from_record(record: ConsumerRecord, catalogue: Catalogue, parked: ParkedEvent | None = None) -> Incoming:
    """A consumed record, decoded if it can be."""
    try:
        envelope = read(record, catalogue)
    except UndecodableError as problem:
        event_id = parked.event_id if parked else record_id(record.topic, record.partition, record.offset)
        event_type = header_text(record.headers, "ce_type")[:KEY_MAX]
        return Incoming(
            key=_readable_key(record),
            identity=str(event_id),
            event_id=event_id,
            event_type=event_type.replace("\x00", "\\x00"),
            problem=problem,
            record=record,
            parked=parked,
        )
    return Incoming(
        key=envelope.key,
        identity=envelope.identity,
        event_id=envelope.id,
        event_type=wire_name(type(envelope.message)),
        envelope=envelope,
        record=record,
        parked=parked,
    )


def from_command(
    command: Command, source: str, traceparent: str | None, event_id: UUID, act: Act | None = None
) -> Incoming:
    """A command, whose caller waits for the result."""
    key = command.key
    envelope = Envelope(id=event_id, message=command, source=source, key=key, traceparent=traceparent)
    return Incoming(
        key=key,
        identity=uuid_text(event_id),
        event_id=event_id,
        event_type=wire_name(type(command)),
        envelope=envelope,
        act=act,
    )


def from_answer(answer: Answer, asked: OpenIntent, source: str) -> Incoming:
    """An answer to an intent. Its id is derived from the intent, the cause and the count of attempts.

    So a second answer to the same question is a duplicate.
    """
    event_id = answer_id(asked.intent.key, asked.cause, asked.attempts)
    envelope = Envelope(
        id=event_id,
        message=answer,
        source=source,
        key=asked.key,
        causation=asked.cause,
        traceparent=asked.traceparent,
        intent=asked.intent.key,
    )
    record = ConsumerRecord(
        topic="",
        partition=0,
        offset=asked.attempts,
        key=asked.key.encode(),
        value=encode(answer),
    )
    return Incoming(
        key=asked.key,
        identity=uuid_text(event_id),
        event_id=event_id,
        event_type=wire_name(type(answer)),
        envelope=envelope,
        record=record,
        asked=asked.attempts,
    )


def to_park(incoming: Incoming, record: ConsumerRecord) -> ConsumerRecord:
    """The record to park. An answer gets its headers only here, because hardly any answer is ever parked."""
    envelope = incoming.envelope
    if incoming.parked is not None or envelope is None or envelope.intent is None:
        return record
    return replace(record, headers=to_headers(envelope))


def from_parked(parked: ParkedEvent, catalogue: Catalogue) -> Incoming:
    """A parked event, decoded by today's code, with the key and identity that it was parked under."""
    incoming = from_record(parked.record, catalogue, parked)
    envelope, name = incoming.envelope, (parked.key, parked.identity)
    if envelope is not None and parked.intent is not None:
        envelope = replace(envelope, intent=parked.intent)
    renamed = envelope is not None and parked.intent is None and incoming.name != name
    return Incoming(
        key=parked.key,
        identity=parked.identity,
        event_id=parked.event_id,
        event_type=parked.event_type,
        envelope=envelope,
        problem=incoming.problem,
        record=parked.record,
        parked=parked,
        asked=parked.record.offset if parked.intent else 0,
        also=incoming.name if renamed else None,
    )


def _readable_key(record: ConsumerRecord) -> str:
    """The key of an undecodable record as text of at most KEY_MAX characters, which readers of `flow-status` accept.

    A record without a key gets one of its own, so that it holds up no other.
    """
    if not record.key:
        return f"{record.topic}/{record.partition}/{record.offset}"
    text = record.key.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    end = f"…{lock_id(text):x}"
    return text if len(text) <= KEY_MAX else text[: KEY_MAX - len(end)] + end


def to_headers(envelope: Envelope) -> Headers:
    """All attributes but `time`, which the relay takes from the database row (`with_time`)."""
    headers: tuple[tuple[str, bytes | None], ...] = (
        _SPECVERSION,
        ("ce_id", uuid_text(envelope.id).encode()),
        _type_header(type(envelope.message)),
        ("ce_source", envelope.source.encode()),
        ("ce_subject", envelope.key.encode()),
        _CONTENT_TYPE,
    )
    if envelope.sequence is not None:
        headers += (("ce_sequence", b"%d" % envelope.sequence),)
    if envelope.causation is not None:
        headers += (("ce_causationid", uuid_text(envelope.causation).encode()),)
    if envelope.traceparent is not None:
        headers += (("traceparent", envelope.traceparent.encode()),)
    return headers


@cache
def _type_header(message_type: type[Message]) -> tuple[str, bytes]:
    return ("ce_type", wire_name(message_type).encode())


def with_time(headers: Headers, created_at_ms: int) -> Headers:
    """The headers with the attribute `time` (RFC 3339, UTC, ms)."""
    return (*headers, (TIME_HEADER, rfc3339(created_at_ms)))


def read(record: ConsumerRecord, catalogue: Catalogue) -> Envelope:
    """Decode a record. Raises UndecodableError, and nothing else."""
    headers = dict(record.headers)
    if len(headers) < len(record.headers):
        headers = {name: value for name, value in record.headers if value is not None}
    attribute = headers.get
    id_text, event_type, source = attribute("ce_id"), attribute("ce_type"), attribute("ce_source")
    if attribute("ce_specversion") != _SPECVERSION[1] or not id_text or not event_type or not source:
        raise _incomplete(headers)
    try:
        key, name, producer = (record.key or b"").decode(), event_type.decode(), source.decode()
        event_id = _uuid(id_text.decode(), producer)
        causation = _optional_uuid((attribute("ce_causationid") or b"").decode())
    except UnicodeDecodeError as error:
        raise UndecodableError(MALFORMED, f"not UTF-8: {error}") from error
    if record.value is None:
        raise UndecodableError(MALFORMED, "no value")
    message = catalogue.decode(name, record.value)
    _require_key(message.key, key, record.key, attribute("ce_subject"))
    return Envelope(
        id=event_id,
        message=message,
        source=producer,
        key=key,
        sequence=_sequence(attribute("ce_sequence")),
        causation=causation,
        traceparent=traceparent_of(record.headers) if "traceparent" in headers else None,
    )


def type_of(record: ConsumerRecord) -> bytes | None:
    """The raw `type` attribute, found without decoding anything else of the record."""
    for name, value in reversed(record.headers):
        if name == "ce_type" and value is not None:
            return value
    return None


def header_text(headers: Sequence[tuple[str, bytes | None]], name: str) -> str:
    """The last header of that name as text, hostile bytes escaped; "" when there is none."""
    for header, value in reversed(headers):
        if header == name and value is not None:
            return _shown(value)
    return ""


def traceparent_of(headers: Headers) -> str | None:
    """The trace context; None if it is missing or malformed, which does not invalidate the event (W3C Trace Context,
    4.3).
    """
    for name, value in reversed(headers):
        if name == "traceparent" and value is not None and TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


def rfc3339(ms: int) -> bytes:
    """A time in ms since the epoch as RFC 3339, UTC. Most rows of a batch share a second, whose text is cached."""
    return b"%b.%03dZ" % (_second(ms // 1000), ms % 1000)


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _incomplete(headers: Mapping[str, bytes | None]) -> UndecodableError:
    """The error that names the missing or invalid attribute."""
    unreadable = _shown(headers.get(UNREADABLE_HEADERS) or b"")
    if unreadable:
        return UndecodableError(MALFORMED, f"a header's name is not UTF-8, so that none can be read: {unreadable}")
    name = "ce_specversion"
    if headers.get(name) == _SPECVERSION[1]:
        name = next(name for name in ("ce_id", "ce_type", "ce_source") if not headers.get(name))
    value = headers.get(name)
    return UndecodableError(MALFORMED, f"header {name} is {'missing' if value is None else repr(_shown(value))}")


def _require_key(event_key: str, key: str, key_bytes: bytes | None, subject: bytes | None) -> None:
    if not key or "\x00" in key or len(key) > KEY_MAX:
        raise UndecodableError(MALFORMED, "the record has no usable key")
    if event_key != key:
        raise UndecodableError(MALFORMED, f"the record's key {key!r} is not the event's {event_key!r}")
    if subject is not None and subject != key_bytes:
        raise UndecodableError(MALFORMED, f"ce_subject {_shown(subject)!r} is not the record's key {key!r}")


def _uuid(text: str, source: str) -> UUID:
    """The id as a UUID. Other producers may use any text, unique within their source (CloudEvents 1.0, `id`)."""
    return _optional_uuid(text) or uuid5(f"foreign\n{source}\n{text}")


def _optional_uuid(text: str) -> UUID | None:
    try:
        return uuid_of(text) if text else None
    except ValueError:
        return None


def _sequence(digits: bytes | None) -> int | None:
    if digits is None:
        return None
    if not (digits.isdigit() and len(digits) <= 18):
        raise UndecodableError(MALFORMED, f"header ce_sequence is {_shown(digits)!r}")
    return int(digits)


def _shown(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
