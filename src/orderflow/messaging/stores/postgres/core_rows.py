"""The core's own rows as column arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from orderflow.messaging.decision import Intent
from orderflow.messaging.inbox import EditedEvent, Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.messaging.store import Due, OpenIntent, OutboxRecord, Standing, Unending, WorkKind
from orderflow.messaging.transport import ConsumerRecord, Headers

Arrays = Sequence[Sequence[object]]

encode_headers = msgspec.msgpack.Encoder().encode
decode_headers = msgspec.msgpack.Decoder(Headers).decode
STATES: Mapping[int, InboxState] = {state.value: state for state in InboxState}


def names(messages: Sequence[tuple[object, ...]]) -> Arrays:
    return _columns(messages, 2)


def inbox(entries: Sequence[InboxEntry]) -> Arrays:
    return _columns([(e.key, e.identity, e.event_id, e.state) for e in entries], 4)


def streams(emitted: Mapping[tuple[str, str], int]) -> Arrays:
    return _columns([(key, source, count) for (source, key), count in emitted.items()], 3)


def outbox(records: Sequence[OutboxRecord]) -> Arrays:
    return _columns([(r.slot, r.topic, r.key, r.value, encode_headers(r.headers), r.event_id) for r in records], 6)


def parked(events: Sequence[ParkedEvent]) -> Arrays:
    return _columns([(*_record(e), e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events], 19)


def reparked(events: Sequence[ParkedEvent]) -> Arrays:
    return _columns([(e.position, e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events], 8)


def edited(events: Sequence[EditedEvent]) -> Arrays:
    return _columns(
        [(e.position, e.event_id, e.identity, e.event_type, *_content(e.record), e.who) for e in events], 8
    )


def intents(opened: Sequence[OpenIntent], lease_ms: int | None) -> Arrays:
    """`lease_ms` in place of their own delay, if given."""
    return _columns(
        [
            (
                o.intent.key,
                o.intent.kind,
                msgspec.json.encode(o.intent.request).decode(),
                o.key,
                o.cause,
                o.traceparent,
                o.attempts,
                o.delay_ms if lease_ms is None else lease_ms,
            )
            for o in opened
        ],
        8,
    )


def read_parked(row: asyncpg.Record | Mapping[str, Any]) -> ParkedEvent:
    """From a row of `parked_events`."""
    failure = None
    first_failed_at = row["first_failed_at"]
    if row["failure_kind"] is not None:
        failure = Failure(row["failure_kind"], row["error"], row["message"], row["fingerprint"])
    return ParkedEvent(
        key=row["key"],
        identity=row["identity"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        record=ConsumerRecord(
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            key=row["record_key"],
            value=row["record_value"],
            headers=decode_headers(row["record_headers"]),
            timestamp=row["record_timestamp"],
        ),
        state=STATES[row["state"]],
        attempts=row["attempts"],
        failure=failure,
        position=row["position"],
        intent=row["intent"],
        first_failed_at=int(first_failed_at.timestamp() * 1000) if first_failed_at else None,
        replays=row["replays"],
    )


def read_intent(row: asyncpg.Record) -> OpenIntent:
    key, kind, request, message_key, cause, traceparent, attempts = row
    return OpenIntent(
        intent=Intent(key=key, kind=kind, request=msgspec.json.decode(request)),
        key=message_key,
        cause=cause,
        traceparent=traceparent,
        attempts=attempts,
    )


def read_outbox(row: asyncpg.Record) -> OutboxRecord:
    number, slot, topic, key, value, headers, event_id, created_at = row
    return OutboxRecord(
        topic=topic,
        key=key,
        value=value,
        headers=decode_headers(headers),
        event_id=event_id,
        slot=slot,
        id=number,
        created_at=created_at,
    )


def _record(event: ParkedEvent) -> tuple[object, ...]:
    record = event.record
    where = (event.key, event.identity, event.event_id, event.event_type, record.topic, record.partition)
    return (*where, record.offset, *_content(record), record.timestamp, event.intent)


def _content(record: ConsumerRecord) -> tuple[bytes | None, ...]:
    return (record.key, record.value, encode_headers(record.headers))


def _failure(failure: Failure | None) -> tuple[str | None, ...]:
    if failure is None:
        return (None, None, None, None)
    return (failure.kind, failure.error, failure.message, failure.fingerprint)


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> Arrays:
    return tuple(zip(*rows, strict=True)) if rows else ((),) * width


def read_standing(rows: Sequence[asyncpg.Record]) -> Standing:
    """`due` rows are places, or count replays; the others are what is old."""
    found = [r for r in rows if r["due"] and r["kind"] != "replay"]
    due = [Due(WorkKind(r["kind"]), r["consumer"], r["place"], r["count"], r["oldest"]) for r in found]
    replays = sum(r["count"] for r in rows if r["kind"] == "replay")
    old = [r for r in rows if not r["due"]]
    unending = [Unending(WorkKind(r["kind"]), r["consumer"], r["count"], r["age_ms"], r["oldest"]) for r in old]
    return Standing(due, unending, replays)
