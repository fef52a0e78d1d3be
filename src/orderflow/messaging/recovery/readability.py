"""Which parked events this release cannot read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.failures import PERMANENT
from orderflow.messaging.identity import record_id
from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.incoming import from_parked
from orderflow.messaging.recovery.port import Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A parked event that cannot be decoded, and why. `known`: it was given up as unreadable, and is as it came."""

    position: int
    consumer: str
    key: str
    event_id: str
    event_type: str
    reason: str
    known: bool


def unreadable(letters: Iterable[Letter], catalogue: Catalogue) -> Sequence[Unreadable]:
    """Those of `letters` that a service with this catalogue cannot read."""
    found: list[Unreadable] = []
    for letter in letters:
        event = letter.event
        problem = from_parked(event, catalogue).problem
        if problem is not None:
            found.append(
                Unreadable(
                    position=event.position,
                    consumer=letter.consumer,
                    key=event.key,
                    event_id=str(event.event_id),
                    event_type=event.event_type,
                    reason=problem.detail,
                    known=_was_unreadable(event),
                )
            )
    return found


def _was_unreadable(event: ParkedEvent) -> bool:
    """What could not be read is named by its place in the log, until it is edited."""
    record = event.record
    by_place = event.event_id == record_id(record.topic, record.partition, record.offset)
    return by_place and event.failure is not None and event.failure.kind == PERMANENT
