"""The one way in: plan, open, decide, commit, for a batch of any size.

Consumed records, commands, answers, retries of parked events and operators' actions are all processed here. A crash
leaves a batch written completely or not at all. When the database refuses a batch, its error often names the message
at fault: that message then fails alone, and the rest is committed. Otherwise the batch is bisected until the culprit
stands alone.
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
    """The part of a batch to decide, chosen when the snapshot shows what is parked.

    `complete_keys` are the keys of which the batch holds all parked events. Messages named in `redo` are decided
    although the inbox has them as done, because their effects were lost; their inbox rows stay. With `discarding`
    the messages are discarded by this operator's action instead of decided.
    """

    batch: Sequence[Incoming]
    complete_keys: Collection[str] = ()
    redo: Collection[tuple[str, str]] = ()
    discarding: Act | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and how to process it.

    `failures` maps names of messages to errors from outside their decisions: these messages fail without being
    decided. With `breakers`, failures are judged before they are parked; when that finds an outage or a doubt, the
    batch is decided again under new terms. `parked` selects parked events to read into the snapshot. `select` gets
    the snapshot and returns what to decide; None ends the work, and nothing is written. `finish` gets the results
    and the changes, may add changes, and returns whether to commit. An error from either rolls everything back.
    KeyBusyError is raised when the locks are not granted within `wait_s`.
    """

    consumer: str
    batch: Sequence[Incoming]
    failures: Failures = {}
    terms: Terms = FREE
    breakers: CircuitBreakers | None = None
    parked: ParkedQuery | None = None
    select: Callable[[Snapshot], Share | None] | None = None
    finish: Callable[[Sequence[Result], Changes], End] | None = None
    wait_s: float | None = None


class Processed(msgspec.Struct, frozen=True):
    """The results of a unit of work, what it wrote, and how long it took.

    `failures` are those of the Work, and the messages that the database refused, by name.
    """

    results: Sequence[Result]
    changes: Changes
    failures: Failures
    duration_s: float


class EmptySnapshots:
    """Remembers the message types for which the last snapshot was empty: no rows, nothing published, nothing parked.

    The next batch of such a type is expected to find nothing either, which saves the call that opens a unit of work.
    """

    def __init__(self) -> None:
        self._types: set[tuple[str, str]] = set()

    def expects(self, work: Work) -> bool:
        """Whether an empty snapshot is expected for this batch."""
        if work.parked is not None or work.select is not None or work.finish is not None or work.wait_s is not None:
            return False
        names = self._names(work)
        return names is not None and names <= self._types

    def learn(self, work: Work, snapshot: Snapshot) -> None:
        """Remember whether this batch's snapshot was empty."""
        names = self._names(work) or set()
        if snapshot.is_empty:
            self._types |= names
        else:
            self._types -= names

    @staticmethod
    def _names(work: Work) -> set[tuple[str, str]] | None:
        """The (consumer, event type) pairs of the batch; None if a message is undecodable or parked."""
        if any(each.envelope is None or each.parked is not None for each in work.batch):
            return None
        return {(work.consumer, each.event_type) for each in work.batch}


class Processor:
    """Processes batches against one service's database. Calls may run concurrently: locks keep them apart.

    `on_commit` is called after each commit with the changes that it wrote.
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
        self._breakers: dict[str, CircuitBreakers] = {}
        self._quotas: dict[str, ParkingQuota] = {}
        self._empty_snapshots = EmptySnapshots()

    @property
    def slots(self) -> int:
        """The number of outbox slots."""
        return self._policy.slots

    def breakers(self, consumer: str) -> CircuitBreakers:
        """The consumer's circuit breakers in this process."""
        breakers = self._breakers.get(consumer)
        if breakers is None:
            away, rng = self._policy.away, self._policy.rng
            breakers = CircuitBreakers(self.service.name, consumer, away, self._signals, self._clock, rng)
            self._breakers[consumer] = breakers
        return breakers

    async def admit(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Process the batch; returns one result per message, in order. The order within a key is kept.

        A message that the database refuses fails alone; one that cannot even be parked is stored as dead without its
        content. The caller must submit DEFERRED messages again, each before the later ones of its key.
        Raises StoreUnavailableError, InfrastructureError. Parts of the batch may be committed by then: when the
        batch is submitted again, the inbox recognises them.
        """
        if all(is_ignored(self.service, incoming) for incoming in batch):
            return self._pass_over(consumer, batch)
        await self._quota(consumer).refresh()
        return await self._admit(consumer, batch, set())

    async def hold(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Park the batch without trying any of it; messages beyond the parking quota are DEFERRED.

        Raises StoreUnavailableError.
        """
        await self._quota(consumer).refresh()
        return await self._try(consumer, batch, set(), holding=True)

    async def process(self, work: Work, end: End = End.COMMIT) -> Processed | None:
        """Plan, open, decide, commit. A message that the database refuses by name fails, and the rest is committed.

        Returns None if `work.select` left nothing to decide. Raises DataRefusedError (the database does not say which
        message it refuses), StoreUnavailableError, InfrastructureError, KeyBusyError.
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
            share = Share(work.batch) if work.select is None else work.select(snapshot)
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
                # An empty snapshot confirms the decisions: only the changes are of a kind that needs an open first.
                if not snapshot.is_empty:
                    results, changes = self.decide(work, share, snapshot, failures)
                await tx.commit(changes, end)
            self._empty_snapshots.learn(work, snapshot)
        return Processed(results, changes, work.failures, self._clock.monotonic() - started)

    def plan(
        self, consumer: str, batch: Sequence[Incoming], failures: Failures = NONE, parked: ParkedQuery | None = None
    ) -> tuple[Plan, Failures]:
        """What to lock, look up and load for the messages; and `failures` with those whose `touches` raised.

        A key and the rows of that id share one lock. So a message that touches a row excludes the messages whose key
        is the row's id.
        """
        touched: dict[Ref, None] = {}
        failed = dict(failures)
        names: set[str] = set()
        messages: list[tuple[str, str | None]] = []
        for incoming in batch:
            names.add(incoming.key)
            messages.append(incoming.inbox_lookup)
            if incoming.also is not None:
                names.add(incoming.also[0])
                messages.append(incoming.also)
            # A failed message is not decided again, and loading its rows may be what fails.
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
        """The results, and the changes to write. Pure, except that the breakers remember what they judge."""
        if share.redo:
            left = {name: state for name, state in snapshot.known.items() if name not in share.redo}
            snapshot = replace(snapshot, known=left)
        handler = BatchHandler(self.service, work.consumer, snapshot, self._policy, failures, work.terms)
        if share.discarding is not None:
            results = [handler.discard(incoming, share.discarding) for incoming in share.batch]
        else:
            results = [handler.take(incoming) for incoming in share.batch]
        breakers = work.breakers
        doubtful = breakers.weigh(results) if breakers is not None and _may_be_judged(results) else None
        if breakers is not None and doubtful is not None:
            terms = replace(work.terms, paused=breakers.paused, doubtful=doubtful)
            handler = BatchHandler(self.service, work.consumer, snapshot, self._policy, failures, terms)
            results = [handler.take(incoming) for incoming in share.batch]
        for last in reopened(share.batch, share.complete_keys, handler.changes.released):
            handler.reopen(last)
        return results, handler.changes

    def report(self, consumer: str, results: Sequence[Result], changes: Changes | None, duration_s: float) -> None:
        """Tell `on_commit` and the signals about a batch that is done; `changes` is None if nothing was committed."""
        if changes is not None:
            self._on_commit(changes)
        messages = [handled(result) for result in results]
        self._signals.emit(BatchCommitted(self.service.name, consumer, messages, duration_s))

    async def _admit(self, consumer: str, batch: Sequence[Incoming], behind: set[str]) -> list[Result]:
        """As `admit`. `behind` are keys with a deferred message, whose later messages wait too; more are added."""
        breakers = self.breakers(consumer)
        if not breakers.paused and not behind:
            return await self._try(consumer, batch, behind)
        results = {place: Result(incoming, Outcome.DEFERRED) for place, incoming in enumerate(batch)}
        places = admitted(batch, breakers, behind)
        if places:
            carried = await self._try(consumer, [batch[place] for place in places], behind)
            results.update(zip(places, carried, strict=True))
        return [results[place] for place in range(len(batch))]

    async def _try(
        self, consumer: str, batch: Sequence[Incoming], behind: set[str], *, holding: bool = False
    ) -> list[Result]:
        """Process the batch; bisect it if the database refuses it without naming a message."""
        try:
            done = await self._transact(consumer, batch, holding=holding)
        except DataRefusedError as error:
            if len(batch) > 1:
                return await self._divide(consumer, batch, behind, error, holding=holding)
            results: Sequence[Result] = [await self._give_up(consumer, batch[0], error)]
            refused: Sequence[Incoming] = batch
        else:
            results = done.results
            refused = [each for each in batch if each.name in done.failures] if done.failures else ()
        self.breakers(consumer).refused(refused)
        behind.update(result.incoming.key for result in results if result.outcome is Outcome.DEFERRED)
        return list(results)

    async def _give_up(self, consumer: str, refused: Incoming, error: DataRefusedError) -> Result:
        """Finish with a message that the database will not even park, so that it is not delivered for ever.

        Raises DataRefusedError if no stand-in can be parked either: then the record is not at fault.
        """
        if refused.record is None:
            result = Result(refused, Outcome.REFUSED, refusal=error, failure=describe(error))
            self.report(consumer, [result], None, 0.0)
            return result
        for stand_in in stand_ins(refused, refused.record, error):
            try:
                done = await self._transact(consumer, [stand_in])
            except DataRefusedError as again:
                error = again
            else:
                return replace(done.results[0], incoming=refused)
        raise error

    async def _transact(self, consumer: str, batch: Sequence[Incoming], *, holding: bool = False) -> Processed:
        """Process the batch in one transaction. Raises DataRefusedError: the database names no message."""
        breakers, quota = self.breakers(consumer), self._quota(consumer)
        depth_max = self._policy.parked_depth_max
        terms = Terms(paused=breakers.paused, holding=holding, keys_left=quota.left, depth_max=depth_max)
        done = await self.process(Work(consumer=consumer, batch=batch, terms=terms, breakers=breakers))
        assert done is not None
        quota.record(done.changes, holding=holding)
        breakers.learn(done.results)
        self.report(consumer, done.results, done.changes, done.duration_s)
        reached(Point.BATCH_TOLD)
        return done

    def _blamed(self, work: Work, error: DataRefusedError) -> Failures | None:
        """The failures, and the messages that the error identifies; None if it identifies none, or they are many."""
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

    def _quota(self, consumer: str) -> ParkingQuota:
        quota = self._quotas.get(consumer)
        if quota is None:
            quota = ParkingQuota(consumer, self._store, self._policy.parked_keys_max, self._clock)
            self._quotas[consumer] = quota
        return quota

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
        self.report(consumer, results, None, 0.0)
        return results


async def open_within(tx: Transaction, plan: Plan, wait_s: float | None) -> Snapshot:
    """Open, waiting at most `wait_s` for locks of live traffic. Raises KeyBusyError, StoreUnavailableError."""
    if wait_s is None:
        return await tx.open(plan)
    try:
        async with asyncio.timeout(wait_s):
            return await tx.open(plan)
    except TimeoutError as error:
        raise KeyBusyError(plan.messages[0][0]) from error


def reopened(
    batch: Sequence[Incoming], complete_keys: Collection[str], released: Collection[int]
) -> Iterable[Incoming]:
    """The last message of each of the `complete_keys` of which nothing stays parked."""
    if not complete_keys:
        return ()
    positions = set(released)
    left = {each.key for each in batch if each.parked is None or each.parked.position not in positions}
    return {each.key: each for each in batch if each.key in complete_keys and each.key not in left}.values()


def handled(result: Result) -> Handled:
    """What the signal BatchCommitted reports of one message."""
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
"""The pattern of a value that PostgreSQL cannot store, as a message's JSON has it, by SQLSTATE that names no row."""

CULPRITS_MAX = 4
"""A batch that is still refused after this many messages were named is bisected: naming hundreds would cost more."""


def culprits(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """The messages that are certainly at fault; empty if it would be a guess.

    That is the only message of the batch, or the only one implicated, or all that contain NUL when NUL was refused.
    A command has a single try and a caller who waits for it, so it fails only when it is the only one implicated.
    """
    if len(batch) == 1:
        return list(batch)
    found = implicated(batch, error, ids)
    if any(each.record is None for each in found):
        return []
    return found if len(found) == 1 or UNSTORABLE.get(error.sqlstate) is NUL else []


def implicated(batch: Sequence[Incoming], error: DataRefusedError, ids: Ids) -> list[Incoming]:
    """The messages that the error may refer to: those that contain the refused value; else those whose event id it
    names, else those whose key, else those that touch a row of a named id (`ids`).
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
    """The indexes of the batch in two or three parts: the keys of the messages `found` apart, the others in halves.

    Each key is in one part. If none or all keys are implicated, they are halved; a single key is halved in order.
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
