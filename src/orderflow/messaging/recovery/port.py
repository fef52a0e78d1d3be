"""The recovery port: what operators' functions ask of a service's database.

Two implementations, one beside each store; one conformance suite holds for both. Times are the database's, in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from orderflow.messaging.failures import Verdict
from orderflow.messaging.inbox import InboxState, ParkedEvent
from orderflow.messaging.transport import ConsumerRecord


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A parked or dead event as an operator sees it.

    `behind` counts the events of its key that wait behind it. `original` is what came in, if the event was edited
    since; `original_id` its event id then.
    """

    consumer: str
    event: ParkedEvent
    parked_at: datetime
    first_failed_at: datetime | None
    last_failed_at: datetime | None
    next_attempt_at: datetime
    behind: int = 0
    original: ConsumerRecord | None = None
    original_id: UUID | None = None

    @property
    def replays(self) -> int:
        """How often it was replayed."""
        return self.event.replays


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterGroup:
    """Dead events that failed alike. `example` is the position of the one that failed last."""

    fingerprint: str
    error: str
    message: str
    count: int
    keys: int
    consumers: tuple[str, ...]
    event_types: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    example: int
    note: str = ""


class Moment(StrEnum):
    """What can happen to a parked event."""

    FAILED = "failed"
    DEAD = "dead"
    REPLAYED = "replayed"
    EDITED = "edited"
    HANDLED = "handled"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One moment of a parked event's life.

    `attempt` counts the failures up to then. `error`, `message`: for FAILED and DEAD (the failure that made it
    dead is one moment, DEAD); `who`: for what a person did; of DISCARDED, `message` is the reason. HANDLED and
    DISCARDED are the end: it waits no longer.
    """

    at: datetime
    moment: Moment
    attempt: int = 0
    error: str = ""
    message: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedSummary:
    """What is stuck at one consumer: `keys` in all, events that are `retrying`, `dead`, or `held`: see `Waits`."""

    consumer: str
    keys: int
    retrying: int
    dead: int
    held: int
    oldest: datetime


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, and why. `who` is what the operator's tool says; `reason` may be "" where none is asked for.

    `confirmed`: the operator was told what the act can do, and said yes.
    """

    who: str
    reason: str = ""
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """A row of the operators' log. `target` names events, a group or a replay; `result` is one short sentence."""

    number: int
    at: datetime
    who: str
    action: str
    target: str
    reason: str
    result: str


class LogEntry(msgspec.Struct, frozen=True):
    """A row for the operators' log, before the store has numbered it."""

    act: Act
    action: str
    target: str
    result: str


class ReplayState(StrEnum):
    """RUNNING goes on by itself in any process of the service; PAUSED and STOPPED wait for `resume`; DONE is final.

    PAUSED: an operator said so. STOPPED: a gate closed (`why` tells which).
    """

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to replay. `rate_per_s` None: as fast as it goes. `canary`: 1, 2, 5, 10, ... at a time, and no more than
    200, each step judged before the next; else 200 are under way at any moment, whatever becomes of them.

    `failing_share_max`: stop when more than this share of those replayed have failed again. `lag_growth_max`: stop
    when the consumer is this many records further behind than when the replay began (None: not looked at).
    """

    rate_per_s: float | None = None
    canary: bool = True
    failing_share_max: float = 0.05
    lag_growth_max: int | None = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay and how it stands. `lag_before` is the consumers' lag when it began."""

    number: int
    plan: ReplayPlan
    act: Act
    state: ReplayState
    why: str
    created_at: datetime
    progress: ReplayProgress
    lag_before: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class Expired:
    """Records of one partition that retention dropped before the consumer had read them: from `first_lost` on, up to
    `next_kept`, which is kept. `noticed_at` is None until it is stored.
    """

    consumer: str
    topic: str
    partition: int
    first_lost: int
    next_kept: int
    noticed_at: datetime | None = None

    @property
    def count(self) -> int:
        return self.next_kept - self.first_lost


LETTERS_BYTES_MAX = 32 * 1024 * 1024
"""Letters may have megabytes each: a page holds so many bytes and the letter that goes beyond."""

HEADER_BYTES = 11
"""The most that a header takes in MessagePack beside its name and value."""


def bytes_of(letter: Letter) -> int:
    """What its record, and what came in before it was edited, take of a page; no less than the store counts."""
    record, original = letter.event.record, letter.original
    size = len(record.key or b"") + len(record.value or b"") + (len(original.value or b"") if original else 0)
    return size + sum((HEADER_BYTES + len(name.encode()) + len(value or b"") for name, value in record.headers), 16)


def is_last_page(page: Sequence[Letter], limit: int) -> bool:
    """Whether no letter can follow what `letters` has given for this limit."""
    return len(page) < limit and sum(map(bytes_of, page)) < LETTERS_BYTES_MAX


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


class RecoveryStore(Protocol):
    """Every call is a transaction of its own. All raise StoreUnavailableError."""

    async def letters(self, wanted: LetterFilter, limit: int, after: int = 0) -> Sequence[Letter]:
        """Parked events in order of position, from the one after position `after` on.

        It ends before the limit with the letter that fills LETTERS_BYTES_MAX, if there is one: see `is_last_page`.
        """
        ...

    async def letter(self, event: UUID | int) -> Letter | None:
        """A parked or dead event by its event id (the original's, too) or position."""
        ...

    async def events_ending(self, digits: str, limit: int) -> Sequence[UUID]:
        """Ids that end with these hexadecimal digits, of events that wait or have ever failed, at most `limit`."""
        ...

    async def sequence(self, consumer: str, key: str, limit: int) -> Sequence[Letter]:
        """Everything that is parked of a key, head first."""
        ...

    async def history(self, event: UUID | int) -> Sequence[HistoryEntry]:
        """What has happened to an event, oldest first, by its event id (before or after an edit) or position.

        Kept for ever, like the inbox: also of an event that waits no longer.
        """
        ...

    async def groups(self, wanted: LetterFilter) -> Sequence[LetterGroup]:
        """Dead events by fingerprint, largest group first; the state in `wanted` is not looked at."""
        ...

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        """Set the note of a group ("" takes it away), and log it as the action `note`."""
        ...

    async def summary(self) -> Sequence[ParkedSummary]:
        """One line for each consumer that has anything parked or dead."""
        ...

    async def log(self, act: Act, action: str, target: str, result: str) -> None:
        """Add a row to the operators' log."""
        ...

    async def actions(self, limit: int, before: int | None = None) -> Sequence[OperatorAction]:
        """The operators' log, latest first, from the one before number `before` on."""
        ...

    async def note_expired(self, lost: Sequence[Expired]) -> Sequence[Expired]:
        """Keep what was lost, for good; returns what was not known yet, or is more than was known."""
        ...

    async def expired(self) -> Sequence[Expired]:
        """What was lost and nobody has acknowledged."""
        ...

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        """An operator knows of all that this consumer has lost; logged. Returns how many records that are."""
        ...

    async def begin_replay(self, events: Sequence[int], plan: ReplayPlan, act: Act, lag_before: int) -> Replay:
        """A new replay, RUNNING and none sent yet, of what is dead at these positions; the rest is left out."""
        ...

    async def replay(self, number: int) -> Replay | None:
        """A replay with its progress as the parked events and the inbox tell it.

        An outcome that is known is written down, so that what happens to the event later does not change it.
        """
        ...

    async def replays(self, limit: int) -> Sequence[Replay]:
        """The latest replays, latest first."""
        ...

    async def claim_replay(self, lease_ms: int) -> Replay | None:
        """A RUNNING replay that no other process works on, leased to this one for `lease_ms` by the database's clock.

        Asked again, it renews: a process gets the replay that it has before any other.
        """
        ...

    async def send(self, replay: int, limit: int) -> Sequence[tuple[str, str]]:
        """Make the next `limit` events of a replay due at once; returns their (consumer, key), each once.

        In order of position. Only what is still dead is sent, so an event is never sent twice at once; others that
        come before are counted as gone. Only the process that has claimed the replay sends, and only while it is
        RUNNING; otherwise nothing happens. Whether anything is left to send is told by the progress.
        """
        ...

    async def finish_step(self, replay: int, step: int, state: ReplayState, why: str = "") -> bool:
        """Go on with `step`, or end. Says `why` it was stopped.

        False, and nothing is changed: the replay is not RUNNING any more (an operator paused it), or another process
        has claimed it.
        """
        ...

    async def pause_replay(self, replay: int, why: str = "") -> bool:
        """RUNNING → PAUSED, whoever works on it. False: it was not RUNNING. What is under way goes on."""
        ...

    async def resume_replay(self, replay: int) -> bool:
        """PAUSED or STOPPED → RUNNING, free to be claimed. False: it was neither."""
        ...

    async def overrule(self, overrule: Overrule, act: Act, result: str) -> Overrule:
        """Set it in the place of an earlier one of that consumer and type; logged as `overrule` with this result."""
        ...

    async def overrules(self) -> Sequence[Overrule]:
        """Those that hold: set no longer than OVERRULE_HOLDS_MS ago. By consumer and type."""
        ...
