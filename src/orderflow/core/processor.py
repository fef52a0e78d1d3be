"""The one way in: plan, open, decide, commit, for a batch of any size.

Consumed records, commands, answers, parked events that are tried again, and what operators do about them all take
it. A crash can only fall between two of its steps, and leaves nothing or everything. When the database refuses a
batch, its error is read for whom it means; who is suspected is proven by a batch that goes in without it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec
from msgspec.structs import replace

from orderflow.core.circuit_breaker import CircuitBreakers, admitted
from orderflow.core.crash_points import Point, reached
from orderflow.core.dead_letters import stand_ins
from orderflow.core.decisions import FREE, BatchHandler, ParkingQuota, Policy, Terms, handler_of, is_ignored
from orderflow.core.envelopes import Incoming, Result
from orderflow.core.failures import InfrastructureError, describe
from orderflow.core.identity import lock_id, uuid_text
from orderflow.core.service import Ref, Service
from orderflow.core.store import (
    Act,
    Changes,
    DataRefusedError,
    End,
    FoundError,
    ParkedQuery,
    Plan,
    Snapshot,
    Store,
    Transaction,
)
from orderflow.core.telemetry import BatchCommitted, BatchSplit, Handled, Outcome, Signals
from orderflow.core.timing import Clock

Ids = Callable[[Incoming], Iterable[Hashable]]
Failures = Mapping[tuple[str, str], Exception]
NONE: Failures = {}


class KeyBusyError(Exception):
    """Live traffic holds the event's key for longer than an operator is made to wait."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Live traffic is working on the key {key}: try again in a moment.")


class Share(msgspec.Struct, frozen=True):
    """The part of a batch that is decided over, once it is known what is parked.

    `whole`: keys of which the batch is all that is parked. What is named by `again` is decided over although the
    inbox knows it: its effect was lost, and its row stays. With `discarding` the messages are given up by that act.
    """

    batch: Sequence[Incoming]
    whole: Collection[str] = ()
    again: Collection[tuple[str, str]] = ()
    discarding: Act | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A batch on its way in, and all that is asked for it besides.

    `failures` have failed outside of their decisions: they fail here again. What the `watch` judges to be an outage,
    or leaves in doubt, is decided over again by its terms. `parked` is what to read of parked events; `look` is shown
    the snapshot and says what to decide over (None: nothing, and nothing is written). `finish` is shown what was
    decided, may add to what is written, and says how it ends. What either raises takes everything back. Locks that
    are not had within `wait_s` raise KeyBusyError.
    """

    consumer: str
    batch: Sequence[Incoming]
    failures: Failures = {}
    terms: Terms = FREE
    watch: CircuitBreakers | None = None
    parked: ParkedQuery | None = None
    look: Callable[[Snapshot], Share | None] | None = None
    finish: Callable[[Sequence[Result], Changes], End] | None = None
    wait_s: float | None = None


class Processed(msgspec.Struct, frozen=True):
    """What became of the messages that were decided over, what was written, and how long it took.

    `failures` are those that were given, and what the database has refused, by the names of the messages.
    """

    results: Sequence[Result]
    changes: Changes
    failures: Failures
    duration_s: float


class EmptySnapshots:
    """Of which types of messages nothing was there when they came last: no rows, nothing published, nothing parked.

    Of these nothing is expected the next time, which saves the call that opens a unit of work.
    """

    def __init__(self) -> None:
        self._types: set[tuple[str, str]] = set()

    def expects(self, work: Work) -> bool:
        """Whether nothing is expected of this batch."""
        if work.parked is not None or work.look is not None or work.finish is not None or work.wait_s is not None:
            return False
        names = self._names(work)
        return names is not None and names <= self._types

    def learn(self, work: Work, snapshot: Snapshot) -> None:
        """What was there after all, or not."""
        names = self._names(work) or set()
        if snapshot.is_empty:
            self._types |= names
        else:
            self._types -= names

    @staticmethod
    def _names(work: Work) -> set[tuple[str, str]] | None:
        """None: there are messages of no type, or parked ones."""
        if any(each.envelope is None or each.parked is not None for each in work.batch):
            return None
        return {(work.consumer, each.event_type) for each in work.batch}


class Processor:
    """Carries batches into one service's database. Calls may run side by side: the locks keep them apart.

    `on_commit` is called with what each committed batch has written.
    """

    def __init__(
        self,
        service: Service,
        store: Store,
        policy: Policy,
        signals: Signals,
        clock: Clock,
        on_commit: Callable[[Changes], None] = lambda _: None,
    ) -> None:
        self.service = service
        self._store = store
        self._policy = policy
        self._signals = signals
        self._clock = clock
        self._on_commit = on_commit
        self._watches: dict[str, CircuitBreakers] = {}
        self._rooms: dict[str, ParkingQuota] = {}
        self._empty_snapshots = EmptySnapshots()

    @property
    def slots(self) -> int:
        """Of the outbox."""
        return self._policy.slots

    def watch(self, consumer: str) -> CircuitBreakers:
        """What this process knows of outages at the consumer."""
        watch = self._watches.get(consumer)
        if watch is None:
            away, rng = self._policy.away, self._policy.rng
            watch = CircuitBreakers(self.service.name, consumer, away, self._signals, self._clock, rng)
            self._watches[consumer] = watch
        return watch

    async def admit(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Carry the batch in; one result a message, in order. Order within a key is kept.

        Data that the database refuses is found by what its error names, else by halving, and fails alone; what it
        will not even park is dead without its content. DEFERRED messages are to be brought again, each before the
        later ones of its key. Raises StoreUnavailableError, InfrastructureError; what was committed by then is
        recognised when the batch comes again.
        """
        if all(is_ignored(self.service, incoming) for incoming in batch):
            return self._pass_over(consumer, batch)
        await self._room(consumer).look()
        return await self._admit(consumer, batch, set())

    async def hold(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Park the batch without trying any of it; DEFERRED is what finds no room. Raises StoreUnavailableError."""
        await self._room(consumer).look()
        return await self._try(consumer, batch, set(), holding=True)

    async def process(self, work: Work, end: End = End.COMMIT) -> Processed | None:
        """Plan, open, decide, commit. Whoever the database names when it refuses something fails beside the others.

        None: there was nothing to decide over. Raises DataRefusedError (it names nobody), StoreUnavailableError,
        InfrastructureError, KeyBusyError.
        """
        while True:
            try:
                return await self._process(work, end)
            except DataRefusedError as error:
                more = self._blamed(work, error)
                if more is None:
                    raise
                work = replace(work, failures=more)

    async def _process(self, work: Work, end: End) -> Processed | None:
        started = self._clock.monotonic()
        plan, failures = self.plan(work.consumer, work.batch, work.failures, work.parked)
        expects_nothing = not failures and self._empty_snapshots.expects(work)
        reached(Point.TX_OPENING)
        async with self._store.transaction() as tx:
            snapshot = await open_within(tx, replace(plan, expects_nothing=expects_nothing), work.wait_s)
            reached(Point.TX_OPENED)
            share = Share(work.batch) if work.look is None else work.look(snapshot)
            if share is None:
                return None
            results, changes = self.decide(work, share, snapshot, failures)
            if work.finish is not None:
                end = work.finish(results, changes)
            reached(Point.TX_DECIDED)
            try:
                await tx.commit(changes, end)
            except FoundError as found:
                snapshot = found.snapshot
                # What was decided over nothing stands if nothing is there: then only the way of writing was another.
                if not snapshot.is_empty:
                    results, changes = self.decide(work, share, snapshot, failures)
                await tx.commit(changes, end)
            self._empty_snapshots.learn(work, snapshot)
        return Processed(results, changes, work.failures, self._clock.monotonic() - started)

    def plan(
        self, consumer: str, batch: Sequence[Incoming], failures: Failures = NONE, parked: ParkedQuery | None = None
    ) -> tuple[Plan, Failures]:
        """What to lock, look up and load for the messages; and those of them that cannot tell, beside `failures`.

        A key and the rows of that id share one lock, so that a message of one key that touches a row
        keeps out another message whose key is that row's id.
        """
        touched: dict[Ref, None] = {}
        failed = dict(failures)
        names: set[str] = set()
        messages: list[tuple[str, str | None]] = []
        for incoming in batch:
            names.add(incoming.key)
            messages.append(incoming.sought)
            if incoming.also is not None:
                names.add(incoming.also[0])
                messages.append(incoming.also)
            # What has failed is not decided over again; to load its rows may be what fails.
            if not failed or incoming.name not in failed:
                for ref in self._refs(incoming, failed):
                    touched[ref] = None
                    names.add(uuid_text(ref.id) if isinstance(ref.id, UUID) else str(ref.id))
        locks = sorted(map(lock_id, names))
        depth_max = self._policy.parked_depth_max
        return Plan(consumer, messages, locks, touched, parked, depth_max), failed

    def decide(
        self, work: Work, share: Share, snapshot: Snapshot, failures: Failures
    ) -> tuple[list[Result], Changes]:
        """What becomes of the messages, and all that is to be written. Pure, but for what the watch remembers."""
        if share.again:
            left = {name: state for name, state in snapshot.known.items() if name not in share.again}
            snapshot = replace(snapshot, known=left)
        handler = BatchHandler(self.service, work.consumer, snapshot, self._policy, failures, work.terms)
        if share.discarding is not None:
            results = [handler.discard(incoming, share.discarding) for incoming in share.batch]
        else:
            results = [handler.take(incoming) for incoming in share.batch]
        watch = work.watch
        free = watch.weigh(results) if watch is not None and _may_be_judged(results) else None
        if watch is not None and free is not None:
            terms = replace(work.terms, spared=watch.paused, free=free)
            handler = BatchHandler(self.service, work.consumer, snapshot, self._policy, failures, terms)
            results = [handler.take(incoming) for incoming in share.batch]
        for last in reopened(share.batch, share.whole, handler.changes.released):
            handler.reopen(last)
        return results, handler.changes

    def tell(self, consumer: str, results: Sequence[Result], changes: Changes | None, duration_s: float) -> None:
        """After the commit: hand on what was written, and signal."""
        if changes is not None:
            self._on_commit(changes)
        told = [handled(result) for result in results]
        self._signals.emit(BatchCommitted(self.service.name, consumer, told, duration_s))

    async def _admit(self, consumer: str, batch: Sequence[Incoming], behind: set[str]) -> list[Result]:
        """`behind` are keys of which something was deferred; more are added."""
        watch = self.watch(consumer)
        if not watch.paused and not behind:
            return await self._try(consumer, batch, behind)
        results = {place: Result(incoming, Outcome.DEFERRED) for place, incoming in enumerate(batch)}
        places = admitted(batch, watch, behind)
        if places:
            carried = await self._try(consumer, [batch[place] for place in places], behind)
            results.update(zip(places, carried, strict=True))
        return [results[place] for place in range(len(batch))]

    async def _try(
        self, consumer: str, batch: Sequence[Incoming], behind: set[str], *, holding: bool = False
    ) -> list[Result]:
        """Whoever the database names fails, and the rest goes in at once; what it does not name is divided."""
        try:
            done = await self._carry(consumer, batch, holding=holding)
        except DataRefusedError as error:
            if len(batch) > 1:
                return await self._divide(consumer, batch, behind, error, holding=holding)
            results: Sequence[Result] = [await self._give_up(consumer, batch[0], error)]
            refused: Sequence[Incoming] = batch
        else:
            results = done.results
            refused = [each for each in batch if each.name in done.failures] if done.failures else ()
        self.watch(consumer).refused(refused)
        behind.update(result.incoming.key for result in results if result.outcome is Outcome.DEFERRED)
        return list(results)

    async def _give_up(self, consumer: str, refused: Incoming, error: DataRefusedError) -> Result:
        """End with a message that the database will not even park: it must not come again and again.

        Raises DataRefusedError only if nothing of any record can be parked: that is no record's fault.
        """
        if refused.record is None:
            result = Result(refused, Outcome.REFUSED, refusal=error, failure=describe(error))
            self.tell(consumer, [result], None, 0.0)
            return result
        for stand_in in stand_ins(refused, refused.record, error):
            try:
                done = await self._carry(consumer, [stand_in])
            except DataRefusedError as again:
                error = again
            else:
                return replace(done.results[0], incoming=refused)
        raise error

    async def _carry(self, consumer: str, batch: Sequence[Incoming], *, holding: bool = False) -> Processed:
        """One batch, as it came. Raises DataRefusedError: the database names nobody."""
        watch, room = self.watch(consumer), self._room(consumer)
        depth_max = self._policy.parked_depth_max
        terms = Terms(spared=watch.paused, holding=holding, keys_left=room.left, depth_max=depth_max)
        done = await self.process(Work(consumer=consumer, batch=batch, terms=terms, watch=watch))
        assert done is not None
        room.took(done.changes, holding=holding)
        watch.learn(done.results)
        self.tell(consumer, done.results, done.changes, done.duration_s)
        reached(Point.BATCH_TOLD)
        return done

    def _blamed(self, work: Work, error: DataRefusedError) -> Failures | None:
        """The failures and those that the error gives away; None if it gives nobody away, or has named many."""
        failures = work.failures
        fresh = [each for each in culprits(work.batch, error, self._ids) if each.name not in failures]
        if not fresh or len(failures) >= CULPRITS_MAX:
            return None
        return {**failures, **dict.fromkeys((each.name for each in fresh), error)}

    async def _divide(
        self, consumer: str, batch: Sequence[Incoming], behind: set[str], error: DataRefusedError, *, holding: bool
    ) -> list[Result]:
        self._signals.emit(BatchSplit(self.service.name, consumer, len(batch), str(error)))
        found: dict[int, Result] = {}
        for part in bisected(batch, implicated(batch, error, self._ids)):
            some = [batch[place] for place in part]
            if holding:
                carried = await self._try(consumer, some, behind, holding=True)
            else:
                carried = await self._admit(consumer, some, behind)
            found.update(zip(part, carried, strict=True))
        return [found[place] for place in range(len(batch))]

    def _room(self, consumer: str) -> ParkingQuota:
        room = self._rooms.get(consumer)
        if room is None:
            room = ParkingQuota(consumer, self._store, self._policy.parked_keys_max, self._clock)
            self._rooms[consumer] = room
        return room

    def _ids(self, incoming: Incoming) -> Iterable[Hashable]:
        return (ref.id for ref in self._refs(incoming, {}))

    def _refs(self, incoming: Incoming, failed: dict[tuple[str, str], Exception]) -> Sequence[Ref]:
        if incoming.envelope is None or incoming.problem is not None or is_ignored(self.service, incoming):
            return ()
        message = incoming.envelope.message
        try:
            return tuple(handler_of(self.service, message).touches(message))
        except InfrastructureError:
            raise
        except Exception as error:  # noqa: BLE001  # a service's own code failed over this message: it fails, alone
            failed[incoming.name] = error
            return ()

    def _pass_over(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        results = [Result(incoming, Outcome.IGNORED) for incoming in batch]
        self.tell(consumer, results, None, 0.0)
        return results


async def open_within(tx: Transaction, plan: Plan, wait_s: float | None) -> Snapshot:
    """`wait_s` bounds the wait for locks that live traffic holds. Raises KeyBusyError, StoreUnavailableError."""
    if wait_s is None:
        return await tx.open(plan)
    try:
        async with asyncio.timeout(wait_s):
            return await tx.open(plan)
    except TimeoutError as error:
        raise KeyBusyError(plan.messages[0][0]) from error


def reopened(batch: Sequence[Incoming], whole: Collection[str], released: Collection[int]) -> Iterable[Incoming]:
    """The last message of each of the `whole` keys of which nothing stays parked."""
    if not whole:
        return ()
    gone = set(released)
    left = {each.key for each in batch if each.parked is None or each.parked.position not in gone}
    return {each.key: each for each in batch if each.key in whole and each.key not in left}.values()


def handled(result: Result) -> Handled:
    """The part of a signal that tells of one message."""
    incoming = result.incoming
    message, traceparent, source = None, None, ""
    topic, partition, offset, appended_at = "", -1, -1, 0
    if (envelope := incoming.envelope) is not None:
        message, traceparent, source = envelope.message, envelope.traceparent, envelope.source
    if (record := incoming.record) is not None:
        topic, partition, offset = record.topic, record.partition, record.offset
        if incoming.parked is None:
            appended_at = record.timestamp
    return Handled(
        outcome=result.outcome,
        key=incoming.key,
        event_id=incoming.event_id,
        event_type=incoming.event_type,
        message=message,
        caused=result.caused,
        traceparent=traceparent,
        topic=topic,
        partition=partition,
        offset=offset,
        attempts=result.attempts,
        failure=result.failure,
        source=source,
        appended_at=appended_at,
    )


def _may_be_judged(results: Iterable[Result]) -> bool:
    return any(each.failure is not None and each.incoming.record is not None for each in results)


NUL = re.compile(rb"\\u0000")
BEYOND_64_BITS = re.compile(rb"[:\[,]\s*-?[0-9]{19}")
UNSTORABLE = {"22021": NUL, "22P05": NUL, "22000": BEYOND_64_BITS, "22003": BEYOND_64_BITS}
"""By SQLSTATE that names no row: how a value that no column holds stands in the JSON of a message."""

CULPRITS_MAX = 4
"""A batch that is refused again although so many of it fail is divided: to name hundreds one by one costs more."""


def culprits(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """Those that may fail without having been tried alone; empty if that would be a guess.

    It is the only message; or the only one implicated; or all that hold a NUL when one was refused. A command has one
    try and a caller who waits, so it is never one of several.
    """
    if len(batch) == 1:
        return list(batch)
    found = implicated(batch, error, ids)
    if any(each.record is None for each in found):
        return []
    return found if len(found) == 1 or UNSTORABLE.get(error.sqlstate) is NUL else []


def implicated(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """Those that the error can mean, if it says anything: by what they hold; else by the event that it names, else by
    the key, else by a row that they touch (`ids`).
    """
    pattern, names = UNSTORABLE.get(error.sqlstate), error.named
    if pattern is not None:
        return [each for each in batch if each.record is not None and pattern.search(each.record.value or b"")]
    if not names:
        return []
    return (
        [each for each in batch if str(each.event_id) in names]
        or [each for each in batch if each.key in names]
        or [each for each in batch if not names.isdisjoint(map(str, ids(each)))]
    )


def bisected(batch: Sequence[Incoming], found: Iterable[Incoming]) -> list[list[int]]:
    """The places of the batch in two or three parts, each key in one of them: those implicated apart, the others
    halved. When none or all are implicated, halved by key while there are several, else in order.
    """
    keys = list(dict.fromkeys(incoming.key for incoming in batch))
    if len(keys) == 1:
        middle = len(batch) // 2
        return [list(range(middle)), list(range(middle, len(batch)))]
    apart = {incoming.key for incoming in found}
    others = [key for key in keys if key not in apart]
    if not others:
        apart, others = set(), keys
    first = set(others[: len(others) // 2])
    second = set(others[len(others) // 2 :])
    divided = [[n for n, incoming in enumerate(batch) if incoming.key in part] for part in (first, second, apart)]
    return [part for part in divided if part]
