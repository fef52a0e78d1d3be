"""Rows of the recovery queries as what operators see."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec
from msgspec.structs import replace

from orderflow.messaging.failures import Verdict
from orderflow.messaging.recovery.port import (
    Act,
    HistoryEntry,
    Letter,
    LetterFilter,
    LetterGroup,
    Moment,
    OperatorAction,
    Overrule,
    ParkedSummary,
    Replay,
    ReplayPlan,
    ReplayProgress,
    ReplayState,
)
from orderflow.messaging.stores.postgres.core_rows import decode_headers, read_parked
from orderflow.messaging.transport import ConsumerRecord

decode_plan = msgspec.json.Decoder(ReplayPlan).decode


def narrowing(wanted: LetterFilter) -> Sequence[object]:
    """The arguments of a filter, all but its state; the events that it names come last, as ids and as positions."""
    ids = positions = None
    if wanted.events is not None:
        positions = [event for event in wanted.events if isinstance(event, int)]
        ids = [event for event in wanted.events if not isinstance(event, int)]
    where = (wanted.consumer, wanted.topic, wanted.event_type, wanted.fingerprint, wanted.key)
    return (*where, wanted.older_than_ms, ids, positions)


def read_letter(row: asyncpg.Record) -> Letter:
    event = read_parked(row)
    return Letter(
        consumer=row["consumer"],
        event=event,
        parked_at=row["parked_at"],
        first_failed_at=row["first_failed_at"],
        last_failed_at=row["last_failed_at"],
        next_attempt_at=row["next_attempt_at"],
        behind=row["behind"],
        original=_original(row, event.record) if row["original_id"] is not None else None,
        original_id=row["original_id"],
    )


def _original(row: asyncpg.Record, record: ConsumerRecord) -> ConsumerRecord:
    headers = decode_headers(row["original_headers"])
    return replace(record, key=row["original_key"], value=row["original_value"], headers=headers)


def read_history(row: asyncpg.Record) -> HistoryEntry:
    return HistoryEntry(
        at=row["at"],
        moment=Moment(row["moment"]),
        attempt=row["attempt"],
        error=row["error"],
        message=row["message"],
        who=row["who"],
    )


def read_group(row: asyncpg.Record) -> LetterGroup:
    return LetterGroup(
        fingerprint=row["fingerprint"],
        error=row["error"],
        message=row["message"],
        count=row["count"],
        keys=row["keys"],
        consumers=tuple(row["consumers"]),
        event_types=tuple(row["event_types"]),
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        example=row["example"],
        note=row["note"],
    )


def read_summary(row: asyncpg.Record) -> ParkedSummary:
    return ParkedSummary(
        consumer=row["consumer"],
        keys=row["keys"],
        retrying=row["retrying"],
        dead=row["dead"],
        held=row["held"],
        oldest=row["oldest"],
    )


def read_action(row: asyncpg.Record) -> OperatorAction:
    number, at, who, action, target, reason, result = row
    return OperatorAction(number=number, at=at, who=who, action=action, target=target, reason=reason, result=result)


def read_replay(row: asyncpg.Record) -> Replay:
    return Replay(
        number=row["number"],
        plan=decode_plan(row["plan"]),
        act=Act(who=row["who"], reason=row["reason"]),
        state=ReplayState(row["state"]),
        why=row["why"],
        created_at=row["created_at"],
        progress=ReplayProgress(
            waiting=row["waiting"],
            under_way=row["under_way"],
            succeeded=row["succeeded"],
            failed_again=row["failed_again"],
            discarded=row["discarded"],
            gone=row["gone"],
        ),
        lag_before=row["lag_before"],
        step=row["step"],
    )


def read_overrule(row: asyncpg.Record) -> Overrule:
    return Overrule(**{**row, "verdict": Verdict(row["verdict"])})
