"""The one way in: lock, recognise, load, decide, write, commit, for a batch of any size.

Consumed records, commands, answers and parked events all take it. A crash can only fall between two of its
steps, and leaves nothing or everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from orderflow.messaging.clock import Clock
from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.dead_letters import stand_ins
from orderflow.messaging.decision import Service
from orderflow.messaging.failures import InfrastructureError, describe
from orderflow.messaging.fold import Fold
from orderflow.messaging.handling import handler_of, passed_over
from orderflow.messaging.identity import lock_id
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.outage_watch import OutageWatch
from orderflow.messaging.parking_room import ParkingRoom
from orderflow.messaging.policy import FREE, Policy, Terms
from orderflow.messaging.report import handled
from orderflow.messaging.result import Result
from orderflow.messaging.rows import Ref
from orderflow.messaging.sifting import sift
from orderflow.messaging.signals import BatchCommitted, BatchSplit, Outcome, Signals
from orderflow.messaging.store import Act, Changes, DataRefusedError, Store, Transaction
from orderflow.messaging.suspects import accused, parts, suspects

Failures = Mapping[tuple[str, str], Exception]
ACCUSED_MAX = 4
"""A batch that is refused again although so many of it fail is divided: to name hundreds one by one costs more."""


class Inlet:
    """Admits batches into one service's database. Calls may run side by side: the locks keep them apart.

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
        self._watches: dict[str, OutageWatch] = {}
        self._rooms: dict[str, ParkingRoom] = {}

    @property
    def slots(self) -> int:
        """Of the outbox."""
        return self._policy.slots

    def watch(self, consumer: str) -> OutageWatch:
        """What this process knows of outages at the consumer."""
        watch = self._watches.get(consumer)
        if watch is None:
            away, chance = self._policy.away, self._policy.chance
            watch = OutageWatch(self.service.name, consumer, away, self._signals, self._clock, chance)
            self._watches[consumer] = watch
        return watch

    async def admit(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Carry the batch in; one result a message, in order. Order within a key is kept.

        Data that the database refuses is found by what its error names, else by halving, and fails alone; what it
        will not even park is dead without its content. DEFERRED messages are to be brought again, each before the
        later ones of its key. Raises StoreUnavailableError, InfrastructureError; what was committed by then is
        recognised when the batch comes again.
        """
        if all(passed_over(self.service, incoming) for incoming in batch):
            return self._pass_over(consumer, batch)
        await self._room(consumer).look()
        return await self._admit(consumer, batch, set())

    async def hold(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Park the batch without trying any of it; DEFERRED is what finds no room. Raises StoreUnavailableError."""
        await self._room(consumer).look()
        return await self._try(consumer, batch, set(), holding=True)

    async def carry(
        self,
        tx: Transaction,
        consumer: str,
        batch: Sequence[Incoming],
        touched: Iterable[Ref],
        failures: Failures,
        *,
        whole: Collection[str] = (),
        terms: Terms = FREE,
        watch: OutageWatch | None = None,
        again: Collection[tuple[str, str]] = (),
    ) -> tuple[list[Result], Changes]:
        """The steps between lock and commit. `whole`: keys of which the batch is all that is parked.

        What the `watch` judges to be an outage, or leaves in doubt, is folded again by its terms. What is named by
        `again` is decided over although the inbox knows it: its effect was lost, and its row stays.
        """
        reached(Point.TX_LOCKED)
        names = [incoming.sought for incoming in batch]
        names += [incoming.also for incoming in batch if incoming.also is not None]
        recognition = await tx.recognise(consumer, names, self._policy.parked_depth_max)
        reached(Point.TX_RECOGNISED)
        if again:
            left = {name: state for name, state in recognition.known.items() if name not in again}
            recognition = replace(recognition, known=left)
        fold = Fold(self.service, consumer, recognition, await tx.load(touched), self._policy, failures, terms)
        results = [fold.take(incoming) for incoming in batch]
        free = watch.weigh(results) if watch is not None and _may_be_judged(results) else None
        if watch is not None and free is not None:
            terms = replace(terms, spared=watch.paused, free=free)
            fold = Fold(self.service, consumer, recognition, await tx.load(touched), self._policy, failures, terms)
            results = [fold.take(incoming) for incoming in batch]
        reached(Point.TX_DECIDED)
        for last in reopened(batch, whole, fold.changes.released):
            fold.reopen(last)
        await tx.write(fold.changes)
        return results, fold.changes

    async def discard(
        self, tx: Transaction, consumer: str, incoming: Incoming, act: Act, *, reopens: bool
    ) -> Changes:
        """Give up a parked message for good. `reopens`: it is all that is parked of its key, whose lock is held."""
        recognition = await tx.recognise(consumer, incoming.names)
        fold = Fold(self.service, consumer, recognition, {}, self._policy, {})
        fold.discard(incoming)
        fold.changes.discarding = act
        if reopens:
            fold.reopen(incoming)
        await tx.write(fold.changes)
        return fold.changes

    def touch(self, batch: Iterable[Incoming], failures: Failures) -> tuple[set[Ref], Failures, list[int]]:
        """The rows that the messages touch, messages that cannot tell, and all locks in the order to take.

        A key and the rows of that id share one lock, so that a message of one key that touches a row
        keeps out another message whose key is that row's id.
        """
        touched: set[Ref] = set()
        failed = dict(failures)
        for incoming in batch:
            # What has failed is not decided over again; to load its rows may be what fails.
            if incoming.name not in failed:
                touched.update(self._refs(incoming, failed))
        names = {incoming.key for incoming in batch} | {str(ref.id) for ref in touched}
        names |= {incoming.also[0] for incoming in batch if incoming.also is not None}
        return touched, failed, sorted(lock_id(name) for name in names)

    def accuse(self, batch: Sequence[Incoming], error: DataRefusedError, failures: Failures) -> Failures | None:
        """`failures` and those that the error gives away; None if it gives nobody away, or has named many already."""
        fresh = [each for each in accused(batch, error, self._ids) if each.name not in failures]
        if not fresh or len(failures) >= ACCUSED_MAX:
            return None
        return {**failures, **dict.fromkeys((each.name for each in fresh), error)}

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
        places = sift(batch, watch, behind)
        if places:
            carried = await self._try(consumer, [batch[place] for place in places], behind)
            results.update(zip(places, carried, strict=True))
        return [results[place] for place in range(len(batch))]

    async def _try(
        self, consumer: str, batch: Sequence[Incoming], behind: set[str], *, holding: bool = False
    ) -> list[Result]:
        """Whoever the database names fails, and the rest goes in at once; what it does not name is divided."""
        failures: Failures = {}
        while True:
            try:
                results = await self._transact(consumer, batch, failures, holding=holding)
            except DataRefusedError as error:
                more = self.accuse(batch, error, failures)
                if more is None and len(batch) > 1:
                    return await self._divide(consumer, batch, behind, error, holding=holding)
                if more is not None:
                    failures = more
                    continue
                results = [await self._give_up(consumer, batch[0], error)]
            self.watch(consumer).refused(each for each in batch if each.name in failures)
            behind.update(result.incoming.key for result in results if result.outcome is Outcome.DEFERRED)
            return results

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
                [result] = await self._transact(consumer, [stand_in], {})
            except DataRefusedError as again:
                error = again
            else:
                return msgspec.structs.replace(result, incoming=refused)
        raise error

    async def _transact(
        self, consumer: str, batch: Sequence[Incoming], failures: Failures, *, holding: bool = False
    ) -> list[Result]:
        started = self._clock.monotonic()
        watch, room = self.watch(consumer), self._room(consumer)
        depth_max = self._policy.parked_depth_max
        terms = Terms(spared=watch.paused, holding=holding, keys_left=room.left, depth_max=depth_max)
        touched, failures, locks = self.touch(batch, failures)
        reached(Point.TX_OPENING)
        async with self._store.transaction() as tx:
            await tx.lock(locks)
            results, changes = await self.carry(tx, consumer, batch, touched, failures, terms=terms, watch=watch)
        room.took(changes, holding=holding)
        watch.learn(results)
        self.tell(consumer, results, changes, self._clock.monotonic() - started)
        reached(Point.BATCH_TOLD)
        return results

    async def _divide(
        self, consumer: str, batch: Sequence[Incoming], behind: set[str], error: DataRefusedError, *, holding: bool
    ) -> list[Result]:
        self._signals.emit(BatchSplit(self.service.name, consumer, len(batch), str(error)))
        found: dict[int, Result] = {}
        for part in parts(batch, suspects(batch, error, self._ids)):
            some = [batch[place] for place in part]
            if holding:
                carried = await self._try(consumer, some, behind, holding=True)
            else:
                carried = await self._admit(consumer, some, behind)
            found.update(zip(part, carried, strict=True))
        return [found[place] for place in range(len(batch))]

    def _room(self, consumer: str) -> ParkingRoom:
        room = self._rooms.get(consumer)
        if room is None:
            room = ParkingRoom(consumer, self._store, self._policy.parked_keys_max, self._clock)
            self._rooms[consumer] = room
        return room

    def _ids(self, incoming: Incoming) -> Iterable[Hashable]:
        return (ref.id for ref in self._refs(incoming, {}))

    def _refs(self, incoming: Incoming, failed: dict[tuple[str, str], Exception]) -> Sequence[Ref]:
        if incoming.envelope is None or incoming.problem is not None or passed_over(self.service, incoming):
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
        results = [Result(incoming, Outcome.PASSED) for incoming in batch]
        self.tell(consumer, results, None, 0.0)
        return results


def _may_be_judged(results: Iterable[Result]) -> bool:
    return any(each.failure is not None and each.incoming.record is not None for each in results)


def reopened(batch: Sequence[Incoming], whole: Collection[str], released: Collection[int]) -> Iterable[Incoming]:
    """The last message of each of the `whole` keys of which nothing stays parked."""
    if not whole:
        return ()
    gone = set(released)
    left = {each.key for each in batch if each.parked is None or each.parked.position not in gone}
    return {each.key: each for each in batch if each.key in whole and each.key not in left}.values()
