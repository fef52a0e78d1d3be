"""The twin of a service's database: what is committed, how a batch is written into it, and its locks.

What the PostgreSQL schema refuses is refused here too. All of it survives the death of a process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from orderflow.core.game_days.fault import Fault
from orderflow.core.inbox import Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.operations import hash_chain
from orderflow.core.operations.model import (
    Expired,
    HistoryEntry,
    Moment,
    OperatorAction,
    Overrule,
    Proposal,
    ProposalState,
    ReplayPlan,
    ReplayState,
)
from orderflow.core.service import Fact, Intent, Ref, Row
from orderflow.core.store import (
    Act,
    Changes,
    DataRefusedError,
    LogEntry,
    OpenIntent,
    OutboxRecord,
    ProposalClosedError,
    StoreUnavailableError,
    approvals_of,
)
from orderflow.core.timing import Clock


class KeptEvent(msgspec.Struct, frozen=True):
    """A parked event with its times in ms since the epoch."""

    consumer: str
    event: ParkedEvent
    parked_at: int
    next_attempt_at: int
    last_failed_at: int | None = None


class HistoryRow(msgspec.Struct, frozen=True):
    """A row of the history: what happened to the event at a position, and its id then."""

    position: int
    event_id: UUID
    entry: HistoryEntry


class Course(StrEnum):
    """How an event of a replay stands there; the last four are final."""

    WAITING = "waiting"
    UNDER_WAY = "under_way"
    SUCCEEDED = "succeeded"
    FAILED_AGAIN = "failed_again"
    DISCARDED = "discarded"
    GONE = "gone"


@dataclass(slots=True)
class Replayed:
    """An event of a replay. `name` is that of its row of the inbox."""

    name: tuple[str, str, str]
    course: Course = Course.WAITING


@dataclass(slots=True, kw_only=True)
class KeptReplay:
    """A replay, its events by position, and who works on it until when (ms since the epoch)."""

    number: int
    plan: ReplayPlan
    act: Act
    created_at: int
    lag_before: int
    events: dict[int, Replayed]
    state: ReplayState = ReplayState.RUNNING
    why: str = ""
    step: int = 0
    claimed_by: object = None
    claimed_until: int = 0

    def is_free_for(self, process: object, due: DueTimes) -> bool:
        """Whether the process may carry it out."""
        is_free = self.claimed_by in (None, process) or self.claimed_until in due
        return self.state is ReplayState.RUNNING and is_free


class StoredIntent(msgspec.Struct, frozen=True):
    """An open intent, when it is due again, and when it was opened, in ms since the epoch."""

    intent: OpenIntent
    due_at: int
    created_at: int = 0


class DueTimes(msgspec.Struct, frozen=True):
    """Which moments are due: those that have come; and those later than the longest wait, which were given while the
    clock was ahead. In ms since the epoch.
    """

    now: int
    longest_wait_ms: int

    def __contains__(self, moment: int) -> bool:
        return not self.now < moment <= self.now + self.longest_wait_ms


@dataclass(slots=True)
class FaultTables:
    """Faults of a game day. `readers`: by process, the revision that it applies and when it said so, in ms since the
    epoch.
    """

    faults: dict[int, Fault] = field(default_factory=dict)
    readers: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    revision: int = 1
    ids: int = 0


@dataclass(slots=True)
class MemoryTables:
    """The tables. Dictionaries keep the order of insertion."""

    rows: dict[Ref, Row] = field(default_factory=dict)
    facts: dict[tuple[type[Fact], Hashable], Fact] = field(default_factory=dict)
    inbox: dict[tuple[str, str, str], InboxEntry] = field(default_factory=dict)
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    outbox: dict[int, OutboxRecord] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)
    parked: dict[int, KeptEvent] = field(default_factory=dict)
    originals: dict[int, ParkedEvent] = field(default_factory=dict)
    history: dict[int, HistoryRow] = field(default_factory=dict)
    intents: dict[str, StoredIntent] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    actions: dict[int, OperatorAction] = field(default_factory=dict)
    replays: dict[int, KeptReplay] = field(default_factory=dict)
    expired: dict[tuple[str, str, int, int], Expired] = field(default_factory=dict)
    acknowledged: set[tuple[str, str, int, int]] = field(default_factory=set)
    proposals: dict[UUID, tuple[str, Proposal]] = field(default_factory=dict)
    faults: FaultTables = field(default_factory=FaultTables)
    overrules: dict[tuple[str, str], Overrule] = field(default_factory=dict)
    outbox_ids: int = 0
    positions: int = 0
    moments: int = 0


ABSENT = object()


class Journal:
    """Changes dictionaries and can take every change back, last first."""

    def __init__(self) -> None:
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    def set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        before = table.get(key, ABSENT)
        self._undo.append((table, key, before))
        table[key] = value

    def delete(self, table: dict[Any, Any], key: Any) -> None:
        self._undo.append((table, key, table.pop(key)))

    def undo(self) -> None:
        while self._undo:
            table, key, before = self._undo.pop()
            if before is ABSENT:
                del table[key]
            else:
                table[key] = before


def note_action(state: MemoryTables, journal: Journal, entry: LogEntry, now_ms: int) -> None:
    """Add to the operators' log, linked to its last row."""
    number = len(state.actions) + 1
    previous = bytes.fromhex(state.actions[number - 1].hash) if state.actions else hash_chain.BEFORE_THE_FIRST
    action = OperatorAction(
        number=number,
        at=at(now_ms),
        who=entry.act.who,
        action=entry.action,
        target=entry.target,
        reason=entry.act.reason,
        result=entry.result,
    )
    action = replace(action, hash=hash_chain.hash_of(previous, action).hex())
    journal.set(state.actions, number, action)


def is_open(proposal: Proposal, now_ms: int) -> bool:
    """Whether it can be approved."""
    return proposal.state is ProposalState.OPEN and proposal.until > at(now_ms)


def remember(
    state: MemoryTables,
    journal: Journal,
    event: ParkedEvent,
    moment: Moment,
    now_ms: int,
    failure: Failure | None = None,
    who: str = "",
    message: str = "",
) -> None:
    """Add to the history of a parked event."""
    error, message = (failure.error, failure.message) if failure else ("", message)
    entry = HistoryEntry(at=at(now_ms), moment=moment, attempt=event.attempts, error=error, message=message, who=who)
    state.moments += 1
    journal.set(state.history, state.moments, HistoryRow(event.position, event.event_id, entry))


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


CHECK_VIOLATION = "23514"
NUL_IN_TEXT = "22021"
UNTRANSLATABLE = "22P05"
RECORD_MAX = 2_097_000
Check = Callable[[Row | None, Row], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a service's tables hold beyond uniqueness.

    `checks` see each change of a row (None: it is new) and raise DataRefusedError. Row types in `stepwise`
    are shown every version, the others the last one of a batch. `encoding` is the database's, by Python's name.
    """

    checks: Sequence[Check] = ()
    stepwise: Collection[type[Row]] = ()
    encoding: str = "utf-8"

    def require_text(self, *texts: str | None) -> None:
        """Raises DataRefusedError for what no column of type text holds: a NUL, a character the encoding lacks."""
        for text in texts:
            if not text:
                continue
            if "\x00" in text:
                raise DataRefusedError("invalid byte sequence: 0x00", NUL_IN_TEXT)
            if text.isascii():
                continue
            try:
                text.encode(self.encoding)
            except UnicodeEncodeError as error:
                raise DataRefusedError(f"no equivalent in encoding {self.encoding}", UNTRANSLATABLE) from error


class Writer:
    """Writes one set of changes at one moment.

    `known` are the inbox entries (key, identity) that may be replaced, `streams` the (source, key) that may go on.
    """

    def __init__(
        self,
        state: MemoryTables,
        journal: Journal,
        rules: Rules,
        known: Collection[tuple[str, str]],
        streams: Collection[tuple[str, str]],
        now_ms: int,
    ) -> None:
        self._state = state
        self._journal = journal
        self._rules = rules
        self._known = known
        self._known_streams = streams
        self._now = now_ms

    def write(self, changes: Changes) -> None:
        """Raises DataRefusedError; the caller then takes the journal back."""
        _once([(entry.key, entry.identity) for entry in changes.inbox], "processed_events")
        for events in (changes.reparked, changes.edited):
            if events:
                _once([event.position for event in events], "parked_events")
        _once(changes.released, "parked_events")
        self._rows(changes)
        self._facts(changes.facts)
        self._inbox(changes)
        self._streams(changes)
        self._outbox(changes.outbox)
        self._park(changes)
        self._repark(changes)
        self._edit(changes)
        self._release(changes)
        self._intents(changes)
        for number, who in approvals_of(changes.log):
            self._approve(number, who)
        for entry in changes.log:
            act = entry.act
            self._rules.require_text(act.who, entry.action, entry.target, act.reason, entry.result)
            note_action(self._state, self._journal, entry, self._now)

    def _approve(self, number: UUID, who: str) -> None:
        digest, proposal = self._state.proposals.get(number, ("", None))
        if proposal is None or not is_open(proposal, self._now) or proposal.who == who:
            raise ProposalClosedError
        done = replace(proposal, state=ProposalState.DONE, decided_by=who)
        self._journal.set(self._state.proposals, number, (digest, done))

    def _rows(self, changes: Changes) -> None:
        by_ref: dict[Ref, list[Row]] = {}
        for row in changes.rows:
            by_ref.setdefault(row.ref, []).append(row)
        for ref, versions in by_ref.items():
            stepwise = type(versions[0]) in self._rules.stepwise
            for number, row in enumerate(versions if stepwise else versions[-1:]):
                self._row(ref, row, is_new=number == 0 and ref not in changes.existing)

    def _row(self, ref: Ref, row: Row, *, is_new: bool) -> None:
        before = self._state.rows.get(ref)
        if is_new and before is not None:
            raise _double(f"{row.TABLE} {row.id}", f"{row.TABLE}_pkey", row.id)
        if not is_new and before is None:
            raise DataRefusedError(f"{row.TABLE}: 1 rows were to be written, 0 were")
        self._check(before, row)
        self._journal.set(self._state.rows, ref, row)

    def _check(self, before: Row | None, row: Row) -> None:
        """A constraint tells which row it refuses, a trigger does not."""
        try:
            for check in self._rules.checks:
                check(before, row)
        except DataRefusedError as error:
            if error.sqlstate == CHECK_VIOLATION:
                error.named = _names(row.id)
            raise

    def _facts(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            name = (type(fact), fact.id)
            if name in self._state.facts:
                raise _double(f"{fact.TABLE} {fact.id}", None, fact.id)
            self._journal.set(self._state.facts, name, fact)

    def _inbox(self, changes: Changes) -> None:
        for entry in changes.inbox:
            name = (entry.key, changes.consumer, entry.identity)
            known = (entry.key, entry.identity) in self._known
            self._rules.require_text(*name)
            if name in self._state.inbox and not known:
                raise _double(f"processed_events {name}", "processed_events_once", name)
            if known and name not in self._state.inbox:
                raise DataRefusedError("processed_events: 1 rows were to be written, 0 were")
            self._journal.set(self._state.inbox, name, entry)

    def _streams(self, changes: Changes) -> None:
        for (source, key), count in changes.emitted.items():
            known = (source, key) in self._known_streams
            self._rules.require_text(source, key)
            _hold(known or count > 0, "streams_emitted_positive")
            if (key, source) in self._state.streams and not known:
                raise _double(f"streams {(key, source)}", "streams_once", (key, source))
            if known and count <= self._state.streams.get((key, source), 0):
                raise DataRefusedError("streams: 1 rows were to be written, 0 were")
            self._journal.set(self._state.streams, (key, source), count)

    def _outbox(self, records: Iterable[OutboxRecord]) -> None:
        for record in records:
            headers = len(msgspec.msgpack.encode(record.headers))
            size = len(record.key or b"") + len(record.value or b"") + headers // 2
            self._rules.require_text(record.topic)
            _hold(size <= RECORD_MAX, "outbox_record_fits")
            _hold(record.slot >= 0, "outbox_slot_not_negative")
            self._journal.set(self._state.outbox, record.id, replace(record, created_at=self._now))
            self._journal.set(self._state.pending, record.id, record.slot)

    def _park(self, changes: Changes) -> None:
        for event in changes.parked:
            name = (event.key, changes.consumer, event.identity)
            _hold(name in self._state.inbox, "parked_events_in_inbox", "23503", name)
            for other in self._state.parked.values():
                if (other.event.key, other.consumer, other.event.identity) == name:
                    raise _double(f"parked_events {name}", "parked_events_once", name)
            self._state.positions += 1
            self._wait(changes.consumer, replace(event, position=self._state.positions), None)

    def _repark(self, changes: Changes) -> None:
        for event in changes.reparked:
            before = self._state.parked.get(event.position)
            if before is None:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            again = replace(
                before.event,
                state=event.state,
                attempts=event.attempts,
                failure=event.failure,
                delay_ms=event.delay_ms,
            )
            self._wait(before.consumer, again, before)

    def _wait(self, consumer: str, event: ParkedEvent, before: KeptEvent | None) -> None:
        _hold(event.state in (InboxState.PARKED, InboxState.DEAD), "parked_events_state_waits")
        _hold(event.attempts >= 0, "parked_events_attempts_not_negative")
        _hold(event.state is not InboxState.DEAD or event.attempts > 0, "parked_events_dead_was_tried")
        _hold((event.attempts == 0) == (event.failure is None), "parked_events_failure_whole")
        failure = msgspec.structs.astuple(event.failure) if event.failure else ()
        self._rules.require_text(event.event_type, event.record.topic, event.intent, *failure)
        failed = event.attempts > 0
        first = (before.event.first_failed_at if before else None) or self._now
        waiting = KeptEvent(
            consumer=consumer,
            event=replace(event, delay_ms=0, first_failed_at=first if failed else None),
            parked_at=before.parked_at if before else self._now,
            next_attempt_at=self._now + event.delay_ms,
            last_failed_at=self._now if failed else None,
        )
        self._journal.set(self._state.parked, event.position, waiting)
        if event.failure is not None:
            moment = Moment.DEAD if event.state is InboxState.DEAD else Moment.FAILED
            remember(self._state, self._journal, event, moment, self._now, event.failure)

    def _edit(self, changes: Changes) -> None:
        for edit in changes.edited:
            before = self._state.parked.get(edit.position)
            if before is None:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            name = (before.event.key, before.consumer, edit.identity)
            self._rules.require_text(edit.event_type, edit.who)
            _hold(name in self._state.inbox, "parked_events_in_inbox", "23503", name)
            record, new = before.event.record, edit.record
            event = replace(
                before.event,
                event_id=edit.event_id,
                identity=edit.identity,
                event_type=edit.event_type,
                record=replace(record, key=new.key, value=new.value, headers=new.headers),
            )
            if edit.position not in self._state.originals:
                self._journal.set(self._state.originals, edit.position, before.event)
            self._journal.set(self._state.parked, edit.position, replace(before, event=event))
            remember(self._state, self._journal, event, Moment.EDITED, self._now, who=edit.who)

    def _release(self, changes: Changes) -> None:
        act = changes.discarding
        for position in changes.released:
            if position not in self._state.parked:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            event = self._state.parked[position].event
            self._journal.delete(self._state.parked, position)
            if act is not None:
                self._rules.require_text(act.who, act.reason)
                remember(
                    self._state, self._journal, event, Moment.DISCARDED, self._now, who=act.who, message=act.reason
                )
            elif event.attempts:
                remember(self._state, self._journal, event, Moment.HANDLED, self._now)

    def _intents(self, changes: Changes) -> None:
        for key in changes.closed_intents:
            if key in self._state.intents:
                self._journal.delete(self._state.intents, key)
        for intent in changes.opened:
            if intent.intent.key in self._state.intents:
                raise _double(f"intents {intent.intent.key}", "intents_once", intent.intent.key)
            self._ask(intent, changes.lease_ms)
        postponed = [intent.intent.key for intent in changes.postponed]
        if len(set(postponed)) < len(postponed):
            raise DataRefusedError("an intent was postponed twice in one batch", "21000")
        for intent in changes.postponed:
            self._ask(intent, intent.delay_ms)

    def _ask(self, intent: OpenIntent, wait_ms: int) -> None:
        _hold(intent.attempts >= 0, "intents_attempts_not_negative")
        asked = intent.intent
        self._rules.require_text(asked.key, asked.kind, intent.key, intent.traceparent)
        try:
            request = msgspec.json.encode(asked.request)
        except (TypeError, ValueError) as error:
            raise DataRefusedError(f"intents: {type(error).__name__}: {error}") from error
        if b"\\u0000" in request:
            raise DataRefusedError("unsupported Unicode escape sequence", UNTRANSLATABLE)
        plain = msgspec.json.decode(request)
        _hold(isinstance(plain, dict), "intents_request_is_object")
        kept = replace(intent, intent=Intent(key=asked.key, kind=asked.kind, request=plain), delay_ms=0)
        known = self._state.intents.get(asked.key)
        since = known.created_at if known else self._now
        self._journal.set(self._state.intents, asked.key, StoredIntent(kept, self._now + wait_ms, since))


def _once(names: Sequence[Hashable], table: str) -> None:
    """A set-based statement touches a row once, however often it is named."""
    if len(names) > 1 and len(different := set(names)) < len(names):
        raise DataRefusedError(f"{table}: {len(names)} rows were to be written, {len(different)} were")


def _hold(condition: bool, constraint: str, sqlstate: str = CHECK_VIOLATION, row: Hashable = ()) -> None:
    if not condition:
        raise DataRefusedError(f"the rule {constraint} was broken", sqlstate, constraint, _names(row))


def _double(what: str, constraint: str | None, row: Hashable) -> DataRefusedError:
    return DataRefusedError(f"{what} is there already", "23505", constraint, _names(row))


def _names(row: Hashable) -> frozenset[str]:
    """The values that PostgreSQL would name: those of the key."""
    return frozenset(map(str, row if isinstance(row, tuple) else (row,)))


if TYPE_CHECKING:
    from orderflow.core.testing.store import MemoryOutboxReader

Gate = Callable[[str], Awaitable[None]]


class Turns:
    """Awaited, it lets others go first so many times: `asyncio.sleep(0)` without its calls, since all steps have one.

    An iterator will do for a generator where nothing is ever sent in.
    """

    __slots__ = ("_yields",)

    def __init__(self, count: int) -> None:
        self._yields = (None,) * count

    def __await__(self) -> Iterator[None]:
        return iter(self._yields)


GO_ON: Awaitable[None] = Turns(0)  # type: ignore[assignment]  # see there
OTHERS_FIRST: Awaitable[None] = Turns(1)  # type: ignore[assignment]  # see there


def give_way(step: str) -> Awaitable[None]:
    """The gate of a database that nobody drives: other tasks get their turn at each step."""
    return OTHERS_FIRST


class MemoryDatabase:
    """Committed state, locks and sessions, shared by the stores of all simulated processes.

    `clock` is the server's clock, `encoding` what its texts can hold. `gate` is awaited before each step of each
    store, with its name (`begin`, `open`, `opened`, `commit`, `committed`, `due_keys`, `claim_intents`,
    `claim_slots`, `unsent`, `mark_sent`, `read`): a simulator may switch tasks, crash or raise StoreUnavailableError
    there. Raised at `opened`, what was read is lost with its session; at `committed`, the commit was carried out and
    its answer was lost.
    `committed` is told of each commit as it happens, `refused` of what was refused.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        checks: Sequence[Check] = (),
        stepwise: Collection[type[Row]] = (),
        encoding: str = "utf-8",
        gate: Gate = give_way,
        committed: Callable[[Sequence[Changes]], None] = lambda _: None,
        refused: Callable[[DataRefusedError], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.rules = Rules(tuple(checks), frozenset(stepwise), encoding)
        self.gate = gate
        self.committed = committed
        self.refused = refused
        self.state = MemoryTables()
        self.locks = Locks()
        self.epoch = 0
        self.available = True
        self.readers: list[MemoryOutboxReader] = []
        self.held: set[int] = set()
        """Outbox rows that somebody else has locked."""
        self.slot_owners: dict[int, MemoryOutboxReader] = {}

    def go_down(self) -> None:
        """The server stops: every session ends, what was not committed is gone."""
        self.available = False
        self.epoch += 1
        self.locks.fail_waiters(StoreUnavailableError("the server went down"))
        self.slot_owners.clear()
        readers, self.readers = self.readers, []
        for reader in readers:
            reader.cut()

    def come_back(self) -> None:
        """The server answers again, with all that was committed."""
        self.available = True

    def require(self, epoch: int | None = None) -> None:
        """Raises StoreUnavailableError when the server is away, or was since the session of `epoch` began."""
        if not self.available or (epoch is not None and epoch != self.epoch):
            raise StoreUnavailableError("the server does not answer")


Waiter = tuple[object, asyncio.Future[None]]


class Locks:
    """One holder a number. A holder may take a number again; taking numbers in sorted order cannot deadlock."""

    def __init__(self) -> None:
        self._holders: dict[int, object] = {}
        self._waiters: dict[int, deque[Waiter]] = {}
        self._held: dict[object, list[int]] = {}

    def take(self, owner: object, number: int) -> asyncio.Future[None] | None:
        """Take the lock; if another has it, the answer is to be awaited, and raises what `fail_waiters` was given."""
        holder = self._holders.setdefault(number, owner)
        if holder is owner:
            self._note(owner, number)
            return None
        waiter = (owner, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(number, deque()).append(waiter)
        return waiter[1]

    @property
    def awaited(self) -> Collection[int]:
        """The locks that somebody waits for."""
        return self._waiters.keys()

    def is_held(self, number: int) -> bool:
        """Whether anybody has the lock."""
        return number in self._holders

    def release_all(self, owner: object) -> None:
        """Hand each lock of `owner` to who waits longest for it; `owner` itself waits for nothing any more."""
        for queue in self._waiters.values():
            for waiter in [each for each in queue if each[0] is owner]:
                queue.remove(waiter)
                if not waiter[1].done():
                    waiter[1].set_exception(StoreUnavailableError("the session was ended"))
        for number in self._held.pop(owner, ()):
            self._hand_on(number)

    def fail_waiters(self, error: Exception) -> None:
        """The server is gone: nobody holds anything any more, and all who wait are told."""
        waiting = [waiter for queue in self._waiters.values() for waiter in queue]
        self._holders.clear()
        self._waiters.clear()
        self._held.clear()
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def _hand_on(self, number: int) -> None:
        del self._holders[number]
        queue = self._waiters.get(number)
        while queue:
            owner, future = queue.popleft()
            if not future.done():
                self._holders[number] = owner
                self._note(owner, number)
                future.set_result(None)
                break
        if not queue:
            self._waiters.pop(number, None)

    def _note(self, owner: object, number: int) -> None:
        held = self._held.setdefault(owner, [])
        if number not in held:
            held.append(number)
