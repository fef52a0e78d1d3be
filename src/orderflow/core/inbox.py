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
        """As operators are told it: `done`, `parked`, `dead`, `discarded`."""
        return self.name.lower()


class Waits(StrEnum):
    """How an event waits at a consumer: given up (DEAD), failed and tried again (RETRYING), or behind one of these
    (HELD). Whoever counts what waits counts these, each event once for every consumer at which it waits.
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
    """Why a message failed. `error` is the class name, `message` is redacted and short (≤ 500 characters).

    `fingerprint` groups equal failures: error class and first own frame.
    """

    kind: str
    error: str
    message: str
    fingerprint: str


class ParkedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits: the failing head of its key (`attempts` ≥ 1) or held behind it (0).

    `record` is what came in, byte for byte; answers of a service's own gateway have topic "" there.
    `position` orders the parked events of a key; it is given by the store (0 until then), as are `first_failed_at`
    (ms since the epoch) and `replays`, how often an operator has sent it again.
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
    """How a parked event of this state and so many attempts waits."""
    if state is InboxState.DEAD:
        return Waits.DEAD
    return Waits.RETRYING if attempts else Waits.HELD


class EditedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator puts in the place of the parked event at `position`; its state and attempts stay.

    Of `record` the key, value and headers are taken: where it came from stays true. `who` goes into its history.
    """

    position: int
    event_id: UUID
    identity: str
    event_type: str
    record: ConsumerRecord
    who: str
