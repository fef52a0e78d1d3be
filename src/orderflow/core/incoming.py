"""One message at the door, and what became of it: a record, a command, an answer, a parked event."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec.structs import replace

from orderflow.core import cloudevents, identity
from orderflow.core.inbox import Failure, ParkedEvent
from orderflow.core.messages import Answer, Catalogue, Command, Envelope, Event, UndecodableError, wire_name
from orderflow.core.service import Decision
from orderflow.core.store import Act, OpenIntent
from orderflow.core.telemetry import Outcome
from orderflow.core.transport import ConsumerRecord

KEY_MAX = cloudevents.KEY_MAX


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """What the processor takes. Exactly one of `envelope` and `problem` is set, or both for what is not to be decided
    although it could be read.

    `record` is what came, byte for byte (None: a command, which is never parked; an answer's has no headers until it
    is parked). `asked` counts how often the intent behind an answer was asked. `also` is the name that it would have
    today, if it was parked under another one: what could not be decoded then was named by its place in the log.
    `act` is whose act a command is, if it belongs into the operators' log.
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
        """What is unique in a consumer's inbox."""
        return self.key, self.identity

    @property
    def sought(self) -> tuple[str, str | None]:
        """What recognition looks for: a command is never in the inbox, so only its key."""
        return self.key, None if self.record is None else self.identity

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Every name that it goes by."""
        return (self.name,) if self.also is None else (self.name, self.also)


def from_record(record: ConsumerRecord, catalogue: Catalogue, parked: ParkedEvent | None = None) -> Incoming:
    """A consumed record, decoded if it can be."""
    try:
        envelope = cloudevents.read(record, catalogue)
    except UndecodableError as problem:
        event_id = parked.event_id if parked else identity.record_id(record.topic, record.partition, record.offset)
        event_type = cloudevents.header_text(record.headers, "ce_type")[:KEY_MAX]
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
    """A command with its caller waiting."""
    key = command.key
    envelope = Envelope(id=event_id, message=command, source=source, key=key, traceparent=traceparent)
    return Incoming(
        key=key,
        identity=identity.uuid_text(event_id),
        event_id=event_id,
        event_type=wire_name(type(command)),
        envelope=envelope,
        act=act,
    )


def from_answer(answer: Answer, asked: OpenIntent, source: str) -> Incoming:
    """An answer to an intent. Asked twice for the same cause and count, it is the same message."""
    event_id = identity.uuid5(f"answer\n{asked.intent.key}\n{identity.uuid_text(asked.cause)}\n{asked.attempts}")
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
        value=msgspec.json.encode(answer),
    )
    return Incoming(
        key=asked.key,
        identity=identity.uuid_text(event_id),
        event_id=event_id,
        event_type=wire_name(type(answer)),
        envelope=envelope,
        record=record,
        asked=asked.attempts,
    )


def to_park(incoming: Incoming, record: ConsumerRecord) -> ConsumerRecord:
    """Its record with all that it is read anew by. An answer gets its headers here: next to none is ever parked."""
    envelope = incoming.envelope
    if incoming.parked is not None or envelope is None or envelope.intent is None:
        return record
    return replace(record, headers=cloudevents.to_headers(envelope))


def from_parked(parked: ParkedEvent, catalogue: Catalogue) -> Incoming:
    """A parked event, read anew by today's code, under the key and identity that it was parked with."""
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
    """A key of its own for a record without one, so that it holds up nobody; one that is too long is cut to what a
    reader of `flow-status` takes for a key.
    """
    if not record.key:
        return f"{record.topic}/{record.partition}/{record.offset}"
    text = record.key.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    end = f"…{identity.lock_id(text):x}"
    return text if len(text) <= KEY_MAX else text[: KEY_MAX - len(end)] + end


class Result(msgspec.Struct, frozen=True):
    """What became of one message. `answer` and `refusal` are for a command's caller, `decision` if it was handled.

    `crowded`: it was deferred because there is no room to park it.
    """

    incoming: Incoming
    outcome: Outcome
    answer: object = None
    caused: Sequence[Event] = ()
    failure: Failure | None = None
    refusal: Exception | None = None
    attempts: int = 0
    decision: Decision | None = None
    crowded: bool = False
