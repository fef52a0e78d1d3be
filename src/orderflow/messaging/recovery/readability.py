"""Which parked events this release cannot read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.failures import PERMANENT
from orderflow.messaging.incoming import from_parked
from orderflow.messaging.recovery.port import Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A parked event that cannot be decoded, and why. `known`: it was given up for that very reason before."""

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
                    known=event.failure is not None and event.failure.kind == PERMANENT,
                )
            )
    return found
