"""Everything observable: the core says what it does by signals; logs, metrics and traces subscribe.

A signal is a frozen record. `Signals.emit` calls every subscriber at once, in order; a subscriber must be
quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from orderflow.core.inbox import Failure
from orderflow.core.messages import Message
from orderflow.core.store import OutboxRecord


class Usage(NamedTuple):
    """How much of something bounded is taken at this moment, and how many wait until there is room."""

    used: int
    limit: int
    waiting: int = 0


class Outcome(StrEnum):
    """What became of one message. A closed set: every `match` on it is exhaustive.

    DEFERRED: nothing was written, its time has not come; whoever brought it brings it again.
    """

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    HELD = "held"
    PARKED = "parked"
    DEAD = "dead"
    REFUSED = "refused"
    DEFERRED = "deferred"


class Handled(msgspec.Struct, frozen=True):
    """One message's way through the processor. `message` is None when it could not be decoded.

    `caused` are the messages that its decision published. `failure` is there when it has failed. `source` is who has
    said it. `appended_at` is when the log got it (ms since the epoch), 0 for what does not come straight from there.
    """

    outcome: Outcome
    key: str
    event_id: UUID
    event_type: str
    message: Message | None = None
    caused: Sequence[Message] = ()
    traceparent: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    attempts: int = 0
    failure: Failure | None = None
    source: str = ""
    appended_at: int = 0

    @property
    def error(self) -> str:
        """Error class and redacted text, or ""."""
        return f"{self.failure.error}: {self.failure.message}" if self.failure else ""


class BatchCommitted(msgspec.Struct, frozen=True):
    """A batch was committed, in one transaction of `duration_s`. Emitted after the commit."""

    service: str
    consumer: str
    handled: Sequence[Handled]
    duration_s: float


@dataclass(frozen=True, slots=True)
class BatchSplit:
    """The database refused a batch's data; the batch is retried in parts to isolate the culprit."""

    service: str
    consumer: str
    size: int
    error: str


@dataclass(frozen=True, slots=True)
class KeyReopened:
    """A parked key flows again."""

    service: str
    consumer: str
    key: str
    drained: int


@dataclass(frozen=True, slots=True)
class OutageJudged:
    """`failing` of `tried` keys failed alike at once: events of this type wait, and none is parked for it.

    `error` is the class and the redacted text of one failure.
    """

    service: str
    consumer: str
    event_type: str
    fingerprint: str
    error: str
    failing: int
    tried: int


@dataclass(frozen=True, slots=True)
class OutageOver:
    """Events of this type are handled again; those that waited for `after_s` follow in order.

    `poison`: how many keys still fail although others of the type succeed. From now on they count as poison.
    """

    service: str
    consumer: str
    event_type: str
    after_s: float
    poison: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """`component` waits for infrastructure, and retries in `retry_in_s`. Nothing is lost."""

    service: str
    component: str
    error: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """`component` works again, after waiting for `after_s`."""

    service: str
    component: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Stalled:
    """Work of `component` is due and has not moved for `for_s`: `count` pieces at `places`. No reason is known."""

    service: str
    component: str
    places: Sequence[str]
    count: int
    for_s: float


@dataclass(frozen=True, slots=True)
class StallOver:
    """Work of `component` moves again after `after_s`, or none is left."""

    service: str
    component: str
    after_s: float


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """`component` has stalled for `after_s` and is restarted: a consumer rejoins its group, for example."""

    service: str
    component: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Hopeless:
    """`component` is stalled although it was restarted: the process ends, so another can take its place."""

    service: str
    component: str
    why: str


@dataclass(frozen=True, slots=True)
class RecordsExpired:
    """Retention dropped records that the consumer had not read: from `first_lost` up to `next_kept`, exclusive."""

    service: str
    consumer: str
    topic: str
    partition: int
    first_lost: int
    next_kept: int


@dataclass(frozen=True, slots=True)
class TopicReplaced:
    """`component` reads this topic from its beginning, because it is no longer the same topic (`how`)."""

    service: str
    component: str
    topic: str
    how: str


@dataclass(frozen=True, slots=True)
class Relayed:
    """The log acknowledged outbox `rows`. `oldest_ms` is the age of the oldest when it was read."""

    service: str
    rows: Sequence[OutboxRecord]
    oldest_ms: int
    duration_s: float

    @property
    def count(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """The relay of this process now owns these outbox slots."""

    service: str
    slots: Sequence[int]


UNAVAILABLE = "unavailable"


class IntentAsked(msgspec.Struct, frozen=True):
    """The outside world was asked. `outcome` is the answer's type name, or UNAVAILABLE. `cause` is the message whose
    decision asked.
    """

    service: str
    intent: str
    kind: str
    key: str
    outcome: str
    attempts: int
    duration_s: float
    cause: UUID | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class OutboxPurged:
    """`segments` of published rows that were older than the keep time were dropped."""

    service: str
    segments: int


class AlertOutcome(StrEnum):
    """What became of an alert. RETRIED: the receiver did not take it, and is asked again. FAILED: it never will."""

    SENT = "sent"
    RETRIED = "retried"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Alerted:
    """An alert about `count` dead letters that failed alike. If it was not sent, `error` says why."""

    service: str
    consumer: str
    fingerprint: str
    count: int
    outcome: AlertOutcome
    error: str


@dataclass(frozen=True, slots=True)
class SpansSent:
    """The receiver of traces took `count` spans; before them, `lost` were refused or found no room."""

    service: str
    count: int
    lost: int = 0


@dataclass(frozen=True, slots=True)
class SpansLost:
    """`count` spans were dropped, because the receiver of traces refuses them or too many wait; `first` since any
    were sent. No order is affected.
    """

    service: str
    count: int
    error: str
    first: bool


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A background task of the core met an unexpected error; it goes on after a pause."""

    service: str
    component: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Something in the service needs an operator. Emitted again when the sentence changes."""

    service: str
    alarm: str
    message: str


@dataclass(frozen=True, slots=True)
class AlarmCleared:
    """The alarm is over."""

    service: str
    alarm: str


@dataclass(frozen=True, slots=True)
class FaultsSet:
    """This process makes events fail on purpose, with these faults (a sentence each). Repeated while any is set."""

    service: str
    faults: Sequence[str]


@dataclass(frozen=True, slots=True)
class FaultsCleared:
    """No fault is set in this process any more."""

    service: str


@dataclass(frozen=True, slots=True)
class FaultsIgnored:
    """Faults are set, but this process was not started for a game day: it ignores them."""

    service: str
    faults: Sequence[str]


Signal = (
    BatchCommitted
    | BatchSplit
    | KeyReopened
    | OutageJudged
    | OutageOver
    | Waiting
    | Resumed
    | Stalled
    | StallOver
    | BegunAnew
    | Hopeless
    | RecordsExpired
    | TopicReplaced
    | Relayed
    | SlotsChanged
    | IntentAsked
    | OutboxPurged
    | Alerted
    | SpansSent
    | SpansLost
    | TaskFailed
    | AlarmRaised
    | AlarmCleared
    | FaultsSet
    | FaultsCleared
    | FaultsIgnored
)
Subscriber = Callable[[Signal], None]


class Signals:
    """Hands every signal to every subscriber."""

    __slots__ = ("_subscribers",)

    def __init__(self, subscribers: Sequence[Subscriber] = ()) -> None:
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.append(subscriber)

    def emit(self, signal: Signal) -> None:
        for subscriber in self._subscribers:
            subscriber(signal)
