"""The store port: everything that the core asks of a service's database.

Two implementations: PostgreSQL and memory. One conformance suite holds for both. Errors of a driver are translated
at this edge into the three below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from orderflow.core.access import Caller
from orderflow.core.failures import FinalError
from orderflow.core.inbox import EditedEvent, InboxEntry, InboxState, ParkedEvent
from orderflow.core.service import Fact, Intent, Ref, RefusedError, Row
from orderflow.core.transport import Headers

DEPTH_LIMIT = 1_000
LONGEST_WAIT_MS = 24 * 3_600_000
"""No delay may be set longer (`retry_ceiling_ms`)."""


class StoreUnavailableError(Exception):
    """The database cannot be reached, is full, read-only, out of memory, or chose us as a deadlock victim:
    infrastructure, try the same again. Nothing is known to be written; a lost COMMIT may have been carried out.
    """


class DataRefusedError(Exception):
    """The database refused the data (a constraint, a trigger, a value out of range).

    `named`: the values of the row or key that it says it refused; empty if it does not say. They may be anybody's
    data: to find the message by, not to be shown.
    """

    def __init__(
        self,
        message: str,
        sqlstate: str = "",
        constraint: str | None = None,
        named: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.named = named


class ProposalClosedError(DataRefusedError, RefusedError):
    """What was approved cannot be carried out any more: somebody has done or withdrawn it, or its time is over."""

    def __init__(self) -> None:
        super().__init__("this proposal is not open any more, or it is your own")


class TransitionRefusedError(DataRefusedError, FinalError):
    """The database's state machine does not know the transition."""


class SchemaBehindError(Exception):
    """The database's schema is not the one that this release needs. The message says what to run."""


class OutboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record to publish. `id` and `created_at` (ms since the epoch) are given by the store."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    event_id: UUID
    slot: int
    id: int = 0
    created_at: int = 0


class OpenIntent(msgspec.Struct, frozen=True, kw_only=True):
    """An intent that waits for its answer. `key` is the ordering key of the message that caused it."""

    intent: Intent
    key: str
    cause: UUID
    traceparent: str | None
    attempts: int = 0
    delay_ms: int = 0


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, and why; `reason` may be "" where none is asked for.

    `confirmed`: the operator was told what the act can do, and said yes. `approves` is the proposal of somebody else
    that is carried out by it, and closed by its row of the operators' log. `operator` is whom the caller's tool names
    besides: it proves nothing.
    """

    caller: Caller
    reason: str = ""
    confirmed: bool = False
    operator: str = ""
    approves: UUID | None = None

    @property
    def who(self) -> str:
        """As the operators' log has it: the name that was proved, and what was said of it."""
        return f"{self.caller.name} (says {self.operator})" if self.operator else self.caller.name


class LogEntry(msgspec.Struct, frozen=True):
    """A row for the operators' log, before the store has numbered it."""

    act: Act
    action: str
    target: str
    result: str


class End(Enum):
    """How a unit of work ends: what it has written stays, or the database has checked it all and keeps nothing."""

    COMMIT = "commit"
    ROLLBACK = "rollback"


def approvals_of(log: Iterable[LogEntry]) -> list[tuple[UUID, str]]:
    """Proposals that are carried out by these acts, each once, and by whom: the name that was proved alone counts."""
    return list({each.act.approves: each.act.caller.name for each in log if each.act.approves is not None}.items())


@dataclass(frozen=True, slots=True)
class ParkedQuery:
    """The first `limit` parked events of each key, head first: those of keys whose head is `due` and not dead, or of
    all of them, whatever their state.
    """

    keys: Sequence[str]
    limit: int
    due: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What a unit of work needs of the database before anything is decided.

    `messages` are looked up in the inbox of `consumer` by (key, identity); one without an identity has no place
    there, so that only its key is looked up. `locks` are 64-bit numbers, taken in the order given and held until the
    end. `rows` are loaded; a row that is new is locked and not named. What is parked of a key is counted up to
    `depth_max`. With `expects_nothing` nothing of all this is looked for before the commit.
    """

    consumer: str
    messages: Sequence[tuple[str, str | None]] = ()
    locks: Sequence[int] = ()
    rows: Collection[Ref] = ()
    parked: ParkedQuery | None = None
    depth_max: int = DEPTH_LIMIT
    expects_nothing: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """What a plan has found, all of it read under its locks.

    `known`: (key, identity) → state in the inbox. `depth`: key with parked events at this consumer → how many,
    counted up to the plan's bound. `emitted`: (source, key) → how many events were published so far (absent: none).
    `rows`: those that exist. `parked`: what was asked for, in order of position.
    """

    known: Mapping[tuple[str, str], InboxState] = {}
    depth: Mapping[str, int] = {}
    emitted: Mapping[tuple[str, str], int] = {}
    rows: Mapping[Ref, Row] = {}
    parked: Sequence[ParkedEvent] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.known or self.depth or self.emitted or self.rows or self.parked)

    @property
    def closed(self) -> AbstractSet[str]:
        """Keys with parked events at this consumer."""
        return self.depth.keys()


class FoundError(Exception):
    """A plan expected to find nothing, and the `snapshot` is there; or, where it is empty, the changes are of a kind
    that is not written without a look. Nothing is written, and the locks are held: the next commit writes.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__("not written: the plan expected to find nothing")
        self.snapshot = snapshot


class Changes(msgspec.Struct):
    """All that a batch writes, in the order of its decisions.

    `rows` may hold several versions of one row; `existing` are the refs that were loaded (the others are
    new). `parked` are new parked events, `reparked` another failure of the event at their position, `edited` puts
    another event in its place (the first original is kept for ever), `released` are positions to remove: they were
    handled, or, with `discarding`, given up by that act. `opened`
    intents are leased to this process for `lease_ms`; `postponed` wait for their `delay_ms`; `closed_intents` are
    keys to remove. `log` goes into the operators' log.
    """

    consumer: str
    rows: list[Row] = []
    existing: frozenset[Ref] = frozenset()
    facts: list[Fact] = []
    inbox: list[InboxEntry] = []
    emitted: dict[tuple[str, str], int] = {}
    outbox: list[OutboxRecord] = []
    parked: list[ParkedEvent] = []
    reparked: list[ParkedEvent] = []
    edited: list[EditedEvent] = []
    released: list[int] = []
    discarding: Act | None = None
    opened: list[OpenIntent] = []
    postponed: list[OpenIntent] = []
    closed_intents: list[str] = []
    log: list[LogEntry] = []
    lease_ms: int = 8_000


@dataclass(frozen=True, slots=True)
class OutboxBacklog:
    """Unsent rows and the age of the oldest in ms (0 when there is none)."""

    unsent: int
    oldest_ms: int


class OutboxFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which outbox rows are meant; what is None does not narrow.

    `from_ms` (included) and `to_ms` (not) are when they were written, by the database's clock, in ms since the epoch.
    """

    topic: str | None = None
    key: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OutboxRows:
    """Published rows of one topic: how many, and when the oldest and the newest were written (ms since the epoch)."""

    topic: str
    count: int
    oldest_ms: int
    newest_ms: int


class WorkKind(StrEnum):
    """What waits in the database: rows to publish, parked heads to try again, intents to ask."""

    OUTBOX = "outbox"
    RETRY = "retry"
    INTENT = "intent"


@dataclass(frozen=True, slots=True)
class Due:
    """Work that is due at one place: an outbox slot, parked heads of one event type, intents of one kind.

    `oldest` names the piece that has been due longest: while it stays the same, nobody has acted on it.
    """

    kind: WorkKind
    consumer: str
    place: str
    count: int
    oldest: str


@dataclass(frozen=True, slots=True)
class Unending:
    """`count` retries without an end yet, the oldest for `age_ms`, of the message key or intent `key`."""

    kind: WorkKind
    consumer: str
    count: int
    age_ms: int
    key: str


@dataclass(frozen=True, slots=True)
class DueReport:
    """What is due now, and what has been tried again for longer than was asked about.

    `replays` is how many are running that no other process carries out.
    """

    due: Sequence[Due]
    unending: Sequence[Unending]
    replays: int = 0


class Transaction(Protocol):
    """A unit of work: what it needs is read by one call, what it comes to is written by another.

    Leaving its block without a commit takes everything back and gives up its locks.
    """

    async def open(self, plan: Plan) -> Snapshot:
        """Take the locks, waiting for each, then read. To be called once. Raises StoreUnavailableError.

        A plan that expects nothing takes no lock before the commit, and gets an empty snapshot.
        """
        ...

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        """Write everything and end; the locks are held until that has happened. To be called once, after FoundError
        once more: a plan expected nothing, and something is there, or is written otherwise (what fails).

        Inbox entries and streams that `open` has not found must be new. Raises DataRefusedError (nothing is written),
        StoreUnavailableError (it may have been).
        """
        ...


class Store(Protocol):
    """A service's database.

    Its clock says when something is due. It can be ahead for a while, and what it dated then would wait until it is
    there again: so what would wait longer than anything may is due now.
    """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises StoreUnavailableError on entry or within."""
        ...

    async def due_keys(self, consumer: str, limit: int, leaving: Sequence[str] = ()) -> Sequence[str]:
        """Keys whose parked head is due for another try, longest due first; not if its event type is in `leaving`."""
        ...

    async def parked_keys(self, consumer: str, limit: int) -> int:
        """How many keys have parked events, counted up to `limit`."""
        ...

    async def claim_intents(self, limit: int, lease_ms: int) -> Sequence[OpenIntent]:
        """Take open intents that are due (never asked by a living process) and lease them for `lease_ms`."""
        ...

    def outbox(self) -> OutboxReader:
        """A new reader for one relay; it owns a connection of its own."""
        ...

    def notify_relays(self) -> None:
        """Tell the relays of other processes, soon and outside any business transaction, that rows are there.

        Coalesced, and only a hint: what it costs is paid by nobody's commit, and it may be lost.
        """
        ...

    async def backlog(self) -> OutboxBacklog:
        """How much is not published yet."""
        ...

    async def published(self, chosen: OutboxFilter) -> Sequence[OutboxRows]:
        """What the outbox still has of what was published, by topic."""
        ...

    async def republish(self, chosen: OutboxFilter, act: Act, meant: str) -> int:
        """Make published rows unsent again, so that their relays publish them once more; returns how many.

        They go in the order in which they were written, and have the ids that they had. All of them, or none; logged,
        with what was `meant`, if there are any.
        """
        ...

    async def standing(self, consumers: Sequence[str], age_ms: int, acknowledged: Collection[int] = ()) -> DueReport:
        """What is due in the outbox, at these consumers, of intents and replays; and retries older than `age_ms`.

        Outbox rows that are `acknowledged` by the log already are left out. To be asked now and then, and not for
        each batch. Raises StoreUnavailableError.
        """
        ...

    async def purge(self, keep_sent_ms: int) -> int:
        """Drop published outbox rows older than `keep_sent_ms`; returns how many segments were emptied."""
        ...

    async def ping(self) -> None:
        """Return when the database answers; raises StoreUnavailableError."""
        ...

    async def close(self) -> None: ...


class Heard(StrEnum):
    """What another process has said to a relay that waits: nothing, rows may be there, slots may change hands."""

    NOTHING = "nothing"
    ROWS = "rows"
    SLOTS = "slots"


class OutboxReader(Protocol):
    """A relay's hold on the outbox. Slots are owned while the connection lives: two readers never share one.

    A reader that asks nothing for some seconds, and is not in `wait` either, belongs to a process that stands still:
    the next that claims ends its session (a fence: it can mark nothing any more), and takes its slots.
    """

    async def claim_slots(self) -> frozenset[int]:
        """Take a fair share of the slots among living readers, giving up what is too much."""
        ...

    async def unsent(self, limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        """The oldest unsent rows of the slots owned, by id: for one key, in commit order.

        `acknowledged` are ids of rows that the log has: they are marked as by `mark_sent`, and do not come again.
        """
        ...

    def hand_on(self) -> Sequence[OutboxRecord] | None:
        """The rows that this process has committed since the last `unsent` or `hand_on`, by id, if no earlier one of
        their keys is unsent that has not come here; None: that is not known, ask `unsent`.
        """
        ...

    async def mark_sent(self, ids: Collection[int]) -> None:
        """The log has acknowledged these rows. What cannot be marked is in `held` then."""
        ...

    @property
    def held(self) -> Collection[int]:
        """Of the rows that were to be marked last, those that another session holds: mark them later."""
        ...

    @property
    def usurped(self) -> Mapping[int, int]:
        """How many slots each session of the database (by its number) owns that is no relay, by the last claim."""
        ...

    async def wait(self, timeout_s: float) -> Heard:
        """Return what another process has said, or NOTHING after `timeout_s`; known as alive meanwhile.

        Slots change hands too when the connection is lost. Raises StoreUnavailableError.
        """
        ...

    async def close(self) -> None:
        """Give up all slots. Idempotent."""
        ...


SILENCE_S = 7.0
"""A relay that has asked nothing of its database for so long stands still: the others take its slots."""


def beat_s(silence_s: float) -> float:
    """How long a living relay is silent at most; its word may come later by more than that before it is fenced."""
    return silence_s * 3 / 8


def fair_share(slots: int, readers: int, rank: int) -> int:
    """How many slots the reader of this rank may own; over all ranks they add up to all slots."""
    return slots // readers + (1 if rank < slots % readers else 0)
