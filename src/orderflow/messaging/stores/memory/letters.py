"""Which parked events a filter means, and what an operator sees of them, over a shared memory database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from orderflow.messaging.inbox import Waits
from orderflow.messaging.recovery.port import Letter, LetterFilter, LetterGroup, ParkedSummary
from orderflow.messaging.stores.memory.state import State, Waiting, at


def by_position(state: State) -> list[Waiting]:
    return sorted(state.parked.values(), key=lambda waiting: waiting.event.position)


def is_meant(state: State, wanted: LetterFilter, waiting: Waiting, now_ms: int) -> bool:
    event = waiting.event
    pairs = (
        (wanted.state, event.state),
        (wanted.consumer, waiting.consumer),
        (wanted.topic, event.record.topic),
        (wanted.event_type, event.event_type),
        (wanted.fingerprint, event.failure.fingerprint if event.failure else None),
        (wanted.key, event.key),
    )
    if any(asked is not None and asked != found for asked, found in pairs):
        return False
    if wanted.older_than_ms is not None and waiting.parked_at > now_ms - wanted.older_than_ms:
        return False
    return wanted.events is None or any(is_named(state, waiting, event) for event in wanted.events)


def is_named(state: State, waiting: Waiting, event: UUID | int) -> bool:
    """By its position, its event id, or the one that it had before it was edited."""
    original = state.originals.get(waiting.event.position, waiting.event)
    return event in (waiting.event.position, waiting.event.event_id, original.event_id)


def view(state: State, waiting: Waiting) -> Letter:
    event = waiting.event
    later = (w for w in state.parked.values() if (w.consumer, w.event.key) == (waiting.consumer, event.key))
    original = state.originals.get(event.position)
    return Letter(
        consumer=waiting.consumer,
        event=event,
        parked_at=at(waiting.parked_at),
        first_failed_at=at(event.first_failed_at) if event.first_failed_at is not None else None,
        last_failed_at=at(waiting.last_failed_at) if waiting.last_failed_at is not None else None,
        next_attempt_at=at(waiting.next_attempt_at),
        behind=sum(w.event.position > event.position for w in later),
        original=original.record if original else None,
        original_id=original.event_id if original else None,
    )


def group(dead: Sequence[Waiting], note: str) -> LetterGroup:
    """Dead events of one fingerprint."""
    last = max(dead, key=lambda each: (each.last_failed_at or 0, each.event.position))
    failure = last.event.failure
    assert failure is not None
    return LetterGroup(
        fingerprint=failure.fingerprint,
        error=failure.error,
        message=failure.message,
        count=len(dead),
        keys=len({each.event.key for each in dead}),
        consumers=tuple(sorted({each.consumer for each in dead})),
        event_types=tuple(sorted({each.event.event_type for each in dead})),
        first_seen=at(min(each.event.first_failed_at or 0 for each in dead)),
        last_seen=at(last.last_failed_at or 0),
        example=last.event.position,
        note=note,
    )


def summary(consumer: str, waiting: Sequence[Waiting]) -> ParkedSummary:
    counts = Counter(each.event.waits for each in waiting)
    return ParkedSummary(
        consumer=consumer,
        keys=len({each.event.key for each in waiting}),
        retrying=counts[Waits.RETRYING],
        dead=counts[Waits.DEAD],
        held=counts[Waits.HELD],
        oldest=at(min(each.parked_at for each in waiting)),
    )
