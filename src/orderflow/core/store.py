"""The store port: everything that the core needs from a service's database.

There are two implementations, PostgreSQL and memory, and one conformance suite for both. They translate the errors of
a driver into those defined here.
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
"""The longest delay that may be configured (`retry_ceiling_ms`)."""


class StoreUnavailableError(Exception):
    """The database cannot be reached, is full, read-only, out of memory, or chose us as a deadlock victim.

    It is infrastructure: try the same again. Assume that nothing was written, although a COMMIT whose reply was lost
    may have been carried out.
    """


class DataRefusedError(Exception):
    """The database refused the data (a constraint, a trigger, a value out of range).

    `named` are the values of the refused row or key, if the database gives them. They may be personal data: use them
    to find the message, and never show them.
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
    """The proposal cannot be carried out: it was carried out already, was withdrawn or has expired, or it is your
    own.
    """

    def __init__(self) -> None:
        super().__init__("this proposal is not open any more, or it is your own")


class TransitionRefusedError(DataRefusedError, FinalError):
    """The database's copy of the state machine does not allow the transition."""


class SchemaBehindError(Exception):
    """The database's schema is not the one that this release needs. The message names the command to run."""


class OutboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record to publish. The store assigns `id` and `created_at` (ms since the epoch)."""

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
    """Who acts, and why; `reason` is "" if none is required.

    `confirmed`: the operator was shown what the act can do, and confirmed it. `approves` is the proposal of another
    person that this act carries out; the act's entry in the operators' log closes it. `operator` is a name that the
    caller's tool adds, without proof.
    """

    caller: Caller
    reason: str = ""
    confirmed: bool = False
    operator: str = ""
    approves: UUID | None = None

    @property
    def who(self) -> str:
        """The name for the operators' log: the authenticated caller, with `operator` if given."""
        return f"{self.caller.name} (says {self.operator})" if self.operator else self.caller.name


class LogEntry(msgspec.Struct, frozen=True):
    """An entry for the operators' log; the store numbers it."""

    act: Act
    action: str
    target: str
    result: str


class End(Enum):
    """How a unit of work ends. With ROLLBACK the database checks all writes, and keeps none."""

    COMMIT = "commit"
    ROLLBACK = "rollback"


def approvals_of(log: Iterable[LogEntry]) -> list[tuple[UUID, str]]:
    """The proposals that these acts carry out, each once, with the authenticated name of who does."""
    return list({each.act.approves: each.act.caller.name for each in log if each.act.approves is not None}.items())


@dataclass(frozen=True, slots=True)
class ParkedQuery:
    """Selects the first `limit` parked events of each key, head first.

    With `due` only of keys whose head is due and not dead; otherwise of all the keys.
    """

    keys: Sequence[str]
    limit: int
    due: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What a unit of work locks and reads before anything is decided.

    `messages` are looked up in the inbox of `consumer` by (key, identity); of one without an identity only the key
    is. `locks` are 64-bit numbers, taken in this order and held until the end. `rows` are loaded; new rows are locked
    but not listed. The parked events of a key are counted up to `depth_max`. With `expects_nothing` locking and
    reading are left to the commit, which raises FoundError if it finds anything.
    """

    consumer: str
    messages: Sequence[tuple[str, str | None]] = ()
    locks: Sequence[int] = ()
    rows: Collection[Ref] = ()
    parked: ParkedQuery | None = None
    depth_max: int = DEPTH_LIMIT
    expects_nothing: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """What a plan has found, read under its locks.

    `known`: (key, identity) → state in the inbox. `depth`: key → number of its parked events at this consumer,
    counted up to the plan's bound (absent: none). `emitted`: (source, key) → number of events published so far
    (absent: none). `rows`: those that exist. `parked`: the selected parked events, by position.
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
    """A plan expected to find nothing, and the commit found the `snapshot`.

    If that is empty, the changes are of a kind that needs an open transaction. Nothing is written yet, and the locks
    are held: a second `commit` writes.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__("not written: the plan expected to find nothing")
        self.snapshot = snapshot


class Changes(msgspec.Struct):
    """All that a batch writes, in the order of its decisions.

    `rows` may hold several versions of one row; `existing` are the refs that were loaded, and all other rows are new.
    `parked` are newly parked events, and `reparked` are events that have failed again at their position. `edited`
    replaces the event at a position; the first original is kept for ever. `released` are positions to remove, because
    the events were handled or, with `discarding`, given up by that act. `opened` intents are leased to this process
    for `lease_ms`, `postponed` ones wait for their `delay_ms`, and `closed_intents` are keys to remove. `log` are
    entries for the operators' log.
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
    """Selects outbox rows; None does not restrict.

    `from_ms` (inclusive) and `to_ms` (exclusive) bound the time of writing by the database's clock, in ms since the
    epoch.
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
    """Kinds of work that wait in the database: rows to publish, parked heads to retry, intents to ask."""

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
    """`count` things that are still being retried; the oldest, of message key or intent `key`, for `age_ms`."""

    kind: WorkKind
    consumer: str
    count: int
    age_ms: int
    key: str


@dataclass(frozen=True, slots=True)
class DueReport:
    """What is due now, and what has been retried for longer than a given age.

    `replays` is the number of running replays that no other process carries out.
    """

    due: Sequence[Due]
    unending: Sequence[Unending]
    replays: int = 0


class Transaction(Protocol):
    """A unit of work: one call reads what it needs, another writes its changes.

    Leaving its block without a commit rolls back and releases the locks.
    """

    async def open(self, plan: Plan) -> Snapshot:
        """Take the locks, waiting for each, then read. Call it once. Raises StoreUnavailableError.

        A plan that expects nothing takes no lock before the commit, and returns an empty snapshot.
        """
        ...

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        """Write everything and end; the locks are held until then. Call it once, and after FoundError once more.

        Inbox entries and streams that `open` has not found must be new. Raises FoundError (the plan expected nothing;
        nothing is written yet), DataRefusedError (nothing is written), StoreUnavailableError (it may be written).
        """
        ...


class Store(Protocol):
    """A service's database.

    Its clock decides when something is due. If that clock was ahead for a while, what it dated then would wait too
    long: so whatever is due later than the longest possible wait from now is due now.
    """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises StoreUnavailableError on entry or within."""
        ...

    async def due_keys(self, consumer: str, limit: int, leaving: Sequence[str] = ()) -> Sequence[str]:
        """Keys whose parked head is due for a retry, longest due first, without heads of the event types in
        `leaving`.
        """
        ...

    async def parked_keys(self, consumer: str, limit: int) -> int:
        """How many keys have parked events, counted up to `limit`."""
        ...

    async def claim_intents(self, limit: int, lease_ms: int) -> Sequence[OpenIntent]:
        """Claim open intents that are due and leased by nobody, and lease them for `lease_ms`."""
        ...

    def outbox(self) -> OutboxReader:
        """A new reader for one relay, with a connection of its own."""
        ...

    def notify_relays(self) -> None:
        """Notify the relays of other processes of new rows, soon and outside any business transaction.

        Notifications are coalesced, cost no commit anything, and may be lost.
        """
        ...

    async def backlog(self) -> OutboxBacklog:
        """How many rows are not yet published, and for how long."""
        ...

    async def published(self, chosen: OutboxFilter) -> Sequence[OutboxRows]:
        """The published rows that the outbox still has, by topic."""
        ...

    async def republish(self, chosen: OutboxFilter, act: Act, meant: str) -> int:
        """Mark all selected published rows as unsent, so that their relays publish them again; returns how many.

        They are published in the order of writing, with their old ids. If there are any, the act is logged with
        `meant` as its target.
        """
        ...

    async def standing(self, consumers: Sequence[str], age_ms: int, acknowledged: Collection[int] = ()) -> DueReport:
        """What is due in the outbox, at these consumers, of intents and of replays; and retries older than `age_ms`.

        Outbox rows that the log has `acknowledged` are left out. It is meant to be called from time to time, not for
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


class WakeUp(StrEnum):
    """Why a waiting relay is woken: for no reason but the time, because rows may be there, or slots may be free."""

    NONE = "none"
    ROWS = "rows"
    SLOTS = "slots"


class OutboxReader(Protocol):
    """A relay's access to the outbox. It owns its slots while its connection lives; two readers never share a slot.

    A reader that makes no call for some seconds, and does not wait in `wait` either, belongs to a suspended process:
    the next reader that claims slots ends its session, so that it can mark nothing any more, and takes its slots.
    """

    async def claim_slots(self) -> frozenset[int]:
        """Claim this reader's fair share of the slots, and give up any beyond it."""
        ...

    async def unsent(self, limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        """The oldest unsent rows of the owned slots, by id: those of one key are in commit order.

        `acknowledged` are ids of rows that the log has: they are marked as by `mark_sent`, and not returned.
        """
        ...

    def take_fresh(self) -> Sequence[OutboxRecord] | None:
        """The rows that this process has committed since the last `unsent` or `take_fresh`, by id, if it is known
        that no earlier row of their keys is unsent; otherwise None, and `unsent` has to be called.
        """
        ...

    async def mark_sent(self, ids: Collection[int]) -> None:
        """Mark rows that the log has acknowledged. Those that cannot be marked are in `held` then."""
        ...

    @property
    def held(self) -> Collection[int]:
        """The rows that the last attempt could not mark, because another session has locked them: mark them later."""
        ...

    @property
    def usurped(self) -> Mapping[int, int]:
        """How many slots are owned by database sessions (by pid) that are no relays, as the last claim found."""
        ...

    async def wait(self, timeout_s: float) -> WakeUp:
        """Wait for another process to notify this relay; NONE after `timeout_s`. The relay counts as alive meanwhile.

        A lost connection returns SLOTS too. Raises StoreUnavailableError.
        """
        ...

    async def close(self) -> None:
        """Give up all slots. Idempotent."""
        ...


SILENCE_S = 7.0
"""A relay whose session has been silent for this long counts as suspended, and the others take its slots."""


def beat_s(silence_s: float) -> float:
    """How long a living relay stays silent at most, in s: short enough that one late statement does not fence it."""
    return silence_s * 3 / 8


def fair_share(slots: int, readers: int, rank: int) -> int:
    """How many slots the reader of this rank may own; over all ranks they add up to all slots."""
    return slots // readers + (1 if rank < slots % readers else 0)
