"""What operators see and decide: dead letters, replays, rehearsals, what they did, what is refused.

Each is defined once, here. The stores read it, the operators' endpoints send it as JSON, and the command line
decodes it into the same class. Times are the database's, in UTC. Texts of events come from outside: show them as
text.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow.core.access import PERSONAL
from orderflow.core.failures import Verdict
from orderflow.core.inbox import Failure, InboxState, ParkedEvent, Waits
from orderflow.core.messages import Message
from orderflow.core.transport import ConsumerRecord


class RecoveryError(Exception):
    """The act was not carried out, and nothing was changed. The text is a sentence for the operator."""


class LetterMissingError(RecoveryError):
    """No dead or parked event has this id."""

    def __init__(self, event: object) -> None:
        super().__init__(
            f"No dead or parked event has the id {event}: it was handled or discarded meanwhile, or never failed."
        )


class ReplayMissingError(RecoveryError):
    """No replay has this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no replay {number}.")


class NothingToReplayError(RecoveryError):
    """No dead event is meant."""

    def __init__(self) -> None:
        super().__init__("No dead event matches: there is nothing to replay.")


class NothingToRepublishError(RecoveryError):
    """No published event is meant."""

    def __init__(self) -> None:
        super().__init__(
            "The outbox has no published event of that kind: older events are no longer kept "
            "(ORDERFLOW_OUTBOX_KEEP_HOURS)."
        )


class ReplayStateError(RecoveryError):
    """A replay cannot be paused or resumed as it stands."""


class EditRefusedError(RecoveryError):
    """The new payload is not taken. `misfit`: why it does not fit the type that it has to fit, and that type."""

    def __init__(self, said: str, misfit: tuple[BaseException | None, type[Message]] | None = None) -> None:
        super().__init__(said)
        self.misfit = misfit


class SecondPersonNeededError(RecoveryError):
    """It takes two approvers, and one has asked."""

    def __init__(self) -> None:
        super().__init__("This takes two approvers: one proposes it, and another requests the same.")


class ConfirmationNeededError(RecoveryError):
    """The act must be confirmed, or needs a reason."""


class NoSuchConsumerError(RecoveryError):
    """The service has no such consumer, or handles no such event. The text says what it has."""


class EventUnreadError(RecoveryError):
    """The service does not read such an event, or the event is none. The text says which."""


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which parked events are meant; what is None does not narrow.

    `events` are event ids (an edited event's original one, too) or positions. `older_than_ms` is the age since it was
    parked.
    """

    state: InboxState | None = InboxState.DEAD
    consumer: str | None = None
    topic: str | None = None
    event_type: str | None = None
    fingerprint: str | None = None
    key: str | None = None
    older_than_ms: int | None = None
    events: tuple[UUID | int, ...] | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up (`dead`), will be tried again (`retrying`) or waits behind such a one (`held`).

    `position` orders the list. `behind` counts the events of its key that wait behind it. `edited`: its value is
    no longer the one that came in. `kind`, `error`, `message` and `fingerprint` say how it failed last.
    """

    position: int
    consumer: str
    key: str
    event_id: UUID
    event_type: str
    state: Waits
    attempts: int
    replays: int
    behind: int
    edited: bool
    kind: str
    error: str
    message: Annotated[str, PERSONAL]
    fingerprint: str
    topic: str
    partition: int
    offset: int
    parked_at: datetime
    first_failed_at: datetime | None
    last_failed_at: datetime | None
    next_attempt_at: datetime

    @classmethod
    def of(cls, event: ParkedEvent, **stored: Any) -> DeadLetter:
        """`stored` is what only the store knows: consumer, behind, edited, and the moments."""
        failure = event.failure
        return cls(
            position=event.position,
            key=event.key,
            event_id=event.event_id,
            event_type=event.event_type,
            state=event.waits,
            attempts=event.attempts,
            replays=event.replays,
            kind=failure.kind if failure else "",
            error=failure.error if failure else "",
            message=failure.message if failure else "",
            fingerprint=failure.fingerprint if failure else "",
            topic=event.record.topic,
            partition=event.record.partition,
            offset=event.record.offset,
            **stored,
        )


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with its event as it is parked.

    `original` is what came in, if the event was edited since; `original_id` its event id then.
    """

    letter: DeadLetter
    event: ParkedEvent
    original: ConsumerRecord | None = None
    original_id: UUID | None = None

    @property
    def consumer(self) -> str:
        return self.letter.consumer


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next` goes into `after` for the next page; null at the end. A page may be short, or empty, before the end.

    `confirm` says why a change of these events must be confirmed, "" where it need not be.
    """

    dead_letters: Sequence[DeadLetter]
    next: int | None
    confirm: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a record: `text` where they are UTF-8, else `base64`; both null for no value."""

    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, value: bytes | None) -> Content:
        if value is None:
            return cls()
        try:
            return cls(text=value.decode())
        except UnicodeDecodeError:
            return cls(base64=b64encode(value).decode())

    def to_bytes(self) -> bytes | None:
        """Raises ValueError: it is not base64."""
        if self.text is not None:
            return self.text.encode()
        return None if self.base64 is None else b64decode(self.base64, validate=True)


class OutboxCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was published, or will be, as the outbox has it. `at` is when it was written."""

    topic: str
    event_id: UUID
    at: datetime
    value: Content


Header = tuple[str, Content]


def headers_of(record: ConsumerRecord) -> Sequence[Header]:
    return [(name, Content.of(value)) for name, value in record.headers]


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """What came in, where it was edited since."""

    event_id: UUID | None
    value: Content
    headers: Sequence[Header]


class Moment(StrEnum):
    """What can happen to a parked event."""

    FAILED = "failed"
    DEAD = "dead"
    REPLAYED = "replayed"
    EDITED = "edited"
    HANDLED = "handled"
    DISCARDED = "discarded"


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a parked event's life: failed, dead (given up), replayed, edited, handled or discarded.

    `attempt` counts the failures up to then. `error`, `message`: for FAILED and DEAD (the failure that made it
    dead is one moment, DEAD); `who`: for what a person did; of DISCARDED, `message` is the reason. HANDLED and
    DISCARDED are the end: it waits no longer.
    """

    at: datetime
    moment: Moment
    attempt: int
    error: str
    message: Annotated[str, PERSONAL]
    who: str


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the same key that waits behind."""

    position: int
    event_id: UUID
    event_type: str
    state: Waits
    parked_at: datetime


class DeadLetterDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with its record, its history (oldest first) and the first events that wait behind it.

    `confirm` says why a change of this event must be confirmed, "" where it need not be.
    """

    letter: DeadLetter
    value: Annotated[Content, PERSONAL]
    headers: Annotated[Sequence[Header], PERSONAL]
    original: Annotated[Original | None, PERSONAL]
    history: Sequence[HistoryEntry]
    followers: Sequence[Follower]
    confirm: str


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead events with one fingerprint: they failed alike. `keys`: of so many orders. `example`: the position of the
    one that failed last.
    """

    fingerprint: str
    error: str
    message: Annotated[str, PERSONAL]
    count: int
    keys: int
    consumers: tuple[str, ...]
    event_types: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    example: int
    note: str


class StuckSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What is stuck at one consumer: `keys` in all, events that are `retrying`, `dead`, or `held`: see `Waits`."""

    consumer: str
    keys: int
    retrying: int
    dead: int
    held: int
    oldest: datetime


class OperatorAction(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did, when, to what, why, and with what result: a row of the operators' log.

    `target` names events, a group or a replay; `result` is one short sentence. `hash` (SHA-256, in hexadecimal)
    links the row to the one before it; "" where an earlier release answers.
    """

    number: int
    at: datetime
    who: str
    action: str
    target: str
    reason: str
    result: str
    hash: str = ""


PROPOSAL_HOLDS_MS = 24 * 3_600_000
"""What nobody else asks for within a day was proposed in vain."""


class ProposalState(StrEnum):
    """OPEN: it can be approved. DONE: somebody else has asked for the same, and it was carried out."""

    OPEN = "open"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What an approver has proposed: `operation` (`PUT /stock/{sku}`) and `request`, its values and body as JSON.

    It is carried out when another approver asks for exactly the same, or approves it by its id. `decided_by` is who
    has carried it out or withdrawn it.
    """

    id: UUID
    operation: str
    request: str
    who: str
    reason: str
    made_at: datetime
    until: datetime
    state: ProposalState = ProposalState.OPEN
    decided_by: str = ""


class ReplayState(StrEnum):
    """RUNNING goes on by itself in any process of the service; PAUSED and STOPPED wait for `resume`; DONE is final.

    PAUSED: an operator said so. STOPPED: a gate closed (`why` tells which).
    """

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to replay. `rate_per_s` null: as fast as it goes. `canary`: 1, 2, 5, 10, ... at a time, and no more than
    200, each step judged before the next; else up to 200 are under way at any moment, whatever becomes of them.

    `failing_share_max`: stop when more than this share of those replayed have failed again. `lag_growth_max`: stop
    when the consumer is this many records further behind than when the replay began (null: not looked at).
    """

    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    canary: bool = True
    failing_share_max: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    lag_growth_max: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = 1_000


class ReplayProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay stands: `waiting` not sent yet, `under_way`, and the real outcomes.

    `under_way`: it was sent and has no outcome, or what was held behind it is next in its key and was not tried yet.
    `gone`: it was no longer dead when its turn came (replayed by somebody else, or discarded).
    """

    waiting: int = 0
    under_way: int = 0
    succeeded: int = 0
    failed_again: int = 0
    discarded: int = 0
    gone: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.under_way + self.ended

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed_again + self.discarded + self.gone


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay and how it stands: who began it and why, its plan, and the `step` that it is at.

    `why` says why it was paused or stopped. `lag_before` is the consumers' lag when it began.
    """

    number: int
    state: ReplayState
    why: str
    who: str
    reason: str
    plan: ReplayPlan
    created_at: datetime
    step: int
    progress: ReplayProgress
    lag_before: int = 0


class RehearsalVerdict(StrEnum):
    """What would become of a parked event.

    DUPLICATE: it was handled before under another identity. ILLEGAL: it cannot happen in the state that the rows are
    in, says the decision or the database. HELD: it would go on waiting, behind one that fails. BUSY: it could not be
    told now, since live traffic held its key for too long, or infrastructure is away.
    """

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    DUPLICATE = "duplicate"
    ILLEGAL = "illegal"
    HELD = "held"
    BUSY = "busy"


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a row that would change; `before` null: a new row. All values are JSON-able."""

    table: str
    id: Any
    before: dict[str, Any] | None
    after: dict[str, Any]


class CausedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that would be published. `type` is its wire name; `payload` is JSON-able."""

    type: str
    topic: str
    payload: Any


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one parked event, in its place behind the others of its key.

    `kind`, `error` and `message` say how it would fail (fails, illegal), or why it could not be told (busy);
    `intents` are the keys of what would be asked of the outside world.
    """

    position: int
    consumer: str
    key: str
    event_id: str
    event_type: str
    verdict: RehearsalVerdict
    kind: str = ""
    error: str
    message: str
    rows: Sequence[RowChange]
    events: Sequence[CausedEvent]
    intents: Sequence[str]

    @classmethod
    def of(
        cls,
        consumer: str,
        event: ParkedEvent,
        verdict: RehearsalVerdict,
        why: Failure | None,
        *,
        rows: Sequence[RowChange] = (),
        events: Sequence[CausedEvent] = (),
        intents: Sequence[str] = (),
    ) -> Rehearsed:
        return cls(
            position=event.position,
            consumer=consumer,
            key=event.key,
            event_id=str(event.event_id),
            event_type=event.event_type,
            verdict=verdict,
            kind=why.kind if why else "",
            error=why.error if why else "",
            message=why.message if why else "",
            rows=rows,
            events=events,
            intents=intents,
        )


class FieldChange(msgspec.Struct, frozen=True):
    """What an edit makes of one field: its path (`items.0.quantity`, "" for the whole value), JSON before and after.

    Null: the field is not there. Long values are cut, secrets are redacted.
    """

    field: str
    before: str | None
    after: str | None


class StoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it stands. `type` is `module:Class` of the Row; `values` are JSON-able, by field."""

    type: str
    values: dict[str, Any]


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a parked event fail again elsewhere: the event, and the rows that it touches, at `service`.

    `rows` are those that exist now: if the event waits behind others, their effects are missing. An event that
    cannot be decoded, or whose handler cannot say what it touches, has none.
    """

    service: str
    consumer: str
    key: str
    identity: str
    event_id: str
    event_type: str
    attempts: int
    intent: str | None
    error: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    record_key: Content
    value: Content
    headers: Sequence[Header]
    rows: Sequence[StoredRow]


class Expired(msgspec.Struct, frozen=True):
    """Records of one partition that retention dropped before the consumer had read them: `count`, from `first_lost`
    on, up to `next_kept`, which is kept. `noticed_at` is null until it is stored.
    """

    consumer: str
    topic: str
    partition: int
    first_lost: int
    next_kept: int
    noticed_at: datetime | None = None
    count: int = 0

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "count", self.next_kept - self.first_lost)


OVERRULE_HOLDS_MS = 3_600_000
"""What an operator says of an outage holds for an hour: nobody has to remember to take it back."""


class Overrule(msgspec.Struct, frozen=True, kw_only=True):
    """What failures of an event type (wire name) at a consumer are taken for, whatever is judged.

    `who`, `reason` and `made_at` are given by the store.
    """

    consumer: str
    event_type: str
    verdict: Verdict
    who: str = ""
    reason: str = ""
    made_at: datetime | None = None


class UnsentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is written and that the log has not acknowledged yet."""

    topic: str
    event_id: UUID
    since: datetime


class ReceivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the inbox. `at` is when the event came into this state; null where the store does not keep that."""

    consumer: str
    identity: str
    event_id: UUID
    state: str
    at: datetime | None = None


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What the outside world was asked (`attempts` times) and has not answered; it is asked again at `due_at`."""

    key: str
    kind: str
    attempts: int
    since: datetime
    due_at: datetime


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's database has of the way of one key: what came in, what is not out yet, what is asked."""

    received: Sequence[ReceivedEvent] = ()
    unsent: Sequence[UnsentEvent] = ()
    asked: Sequence[OpenQuestion] = ()
