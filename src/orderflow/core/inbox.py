"""What is remembered of the messages that came in: done, waiting, given up."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from uuid import UUID

import msgspec

from orderflow.core.transport import ConsumerRecord


class InboxState(IntEnum):
    """What became of a message that came in."""

    DONE = 1
    PARKED = 2
    DEAD = 3
    DISCARDED = 4

    @property
    def word(self) -> str:
        """The name shown to operators: `done`, `parked`, `dead`, `discarded`."""
        return self.name.lower()


class Waits(StrEnum):
    """How a parked event waits at a consumer: given up (DEAD), due for a retry (RETRYING), or behind one of these
    (HELD).

    All counts of waiting events use these, with one for each consumer at which an event waits.
    """

    DEAD = "dead"
    RETRYING = "retrying"
    HELD = "held"


class InboxEntry(msgspec.Struct, frozen=True):
    """A row of `processed_events`: (key, consumer, identity) is unique; a new state replaces the old."""

    key: str
    identity: str
    event_id: UUID
    state: InboxState


class Failure(msgspec.Struct, frozen=True):
    """Why a message failed. `error` is the class name; `message` is redacted, and has at most 500 characters.

    `fingerprint` groups equal failures: by the class and where the service's code raised it.
    """

    kind: str
    error: str
    message: str
    fingerprint: str


class ParkedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A parked message: the failing head of its key (`attempts` ≥ 1), or held behind it (0).

    `record` is what arrived, byte for byte; that of a gateway's answer has the topic "". `position` orders the parked
    events of a key. The store assigns it (0 until then), `first_failed_at` (ms since the epoch) and `replays`, which
    is how often an operator has replayed it.
    """

    key: str
    identity: str
    event_id: UUID
    event_type: str
    record: ConsumerRecord
    state: InboxState = InboxState.PARKED
    attempts: int = 0
    failure: Failure | None = None
    delay_ms: int = 0
    position: int = 0
    intent: str | None = None
    first_failed_at: int | None = None
    replays: int = 0

    @property
    def waits(self) -> Waits:
        return waits(self.state, self.attempts)


def waits(state: InboxState, attempts: int) -> Waits:
    """How a parked event with this state and number of attempts waits."""
    if state is InboxState.DEAD:
        return Waits.DEAD
    return Waits.RETRYING if attempts else Waits.HELD


class EditedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's replacement of the parked event at `position`; state and attempts stay.

    The key, value and headers of `record` are stored; its place in the log stays that of the original. `who` is the
    editor, for the history.
    """

    position: int
    event_id: UUID
    identity: str
    event_type: str
    record: ConsumerRecord
    who: str
