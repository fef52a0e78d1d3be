"""Gives parked keys another try when they are due, from the head on, as far as they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orderflow.core.crash_points import Point, reached
from orderflow.core.dead_letters import stand_ins
from orderflow.core.decisions import Terms
from orderflow.core.envelopes import Incoming, Result, from_parked
from orderflow.core.failures import InfrastructureError
from orderflow.core.inbox import ParkedEvent
from orderflow.core.processor import Processor, Share, Work, reopened
from orderflow.core.store import Changes, DataRefusedError, End, ParkedQuery, Plan, Snapshot, Store
from orderflow.core.telemetry import KeyReopened, Signals
from orderflow.core.timing import Clock, Pacer, Timer

DRAIN_MAX = 200
KEYS_MAX = 100
REST = 4.0
PACE_MAX_MS = 500.0
"""A retry is of no hurry: while many keys fail, those that come due meanwhile are tried together, so late at most."""


class Retrier:
    """One per consumer of the service. Several processes may run one each: the key's lock decides."""

    def __init__(self, consumer: str, processor: Processor, store: Store, signals: Signals, clock: Clock) -> None:
        self.worked = False
        self._consumer = consumer
        self._processor = processor
        self._watch = processor.watch(consumer)
        self._store = store
        self._signals = signals
        self._timer = Timer(clock)
        self._neglected: set[str] = set()
        self._pacer = Pacer(clock, PACE_MAX_MS, KEYS_MAX, rest=REST)

    def poke(self, again_in_ms: int) -> None:
        """A key was parked here and is due in so many ms."""
        self._timer.set(again_in_ms)

    @property
    def wants_looks(self) -> bool:
        """Whether it is to look now and then although nothing is due: only so it learns that an outage has ended."""
        return bool(self._watch.paused)

    def excuse(self, event_type: str) -> str:
        """Why heads of a type that are due are left alone; "" when they are not."""
        return self._watch.problem if event_type in self._watch.paused else ""

    async def step(self) -> None:
        """Wait until something may be due, and try it. Heads of a type in outage are left alone and burn nothing.

        Raises StoreUnavailableError, InfrastructureError.
        """
        await self._pacer.gather()
        await self._timer.wait()
        self._neglected = {each for each in self._watch.paused if self._watch.is_neglected(each)}
        waiting = sorted(self._watch.paused - self._neglected)
        keys = await self._store.due_keys(self._consumer, KEYS_MAX, waiting)
        if not keys:
            for event_type in sorted(self._neglected):
                self._watch.nothing_left(event_type)
            return
        self._pacer.started(len(keys))
        if len(keys) == KEYS_MAX:
            self.poke(0)
        refused: DataRefusedError | None = None
        for key in await self._try_heads(keys):
            try:
                await self._drain(key)
            except DataRefusedError as error:
                # Told at the end: one key must not keep the others from their turn.
                refused = error
        self._pacer.ended()
        if refused is not None:
            raise refused

    async def _try_heads(self, keys: Sequence[str]) -> Sequence[str]:
        """Try the heads of all these keys in one transaction; returns the keys with which to go on one by one."""
        heads = [head for head in await self._peek(keys, 1) if head.event_type not in self._watch.paused]
        if len(heads) < 2:
            return keys
        try:
            tried = await self._try(heads, 1)
        except (DataRefusedError, InfrastructureError):
            return keys
        return [key for key in keys if key not in tried or tried[key]]

    async def _drain(self, key: str) -> None:
        limit = DRAIN_MAX
        probing = False
        while limit:
            events = await self._peek([key], limit)
            if not events:
                return
            if not probing and events[0].event_type in self._watch.paused:
                probing = self._may_probe(events[0].event_type)
                if not probing:
                    return
            try:
                tried = await self._try(events, limit)
            except DataRefusedError as error:
                if limit > 1:
                    limit = 1
                    continue
                tried = await self._give_up(events[0], error)
            if key in tried and not tried[key]:
                return

    async def _peek(self, keys: Sequence[str], limit: int) -> Sequence[ParkedEvent]:
        """Without locks: what is found tells which to take."""
        async with self._store.transaction() as tx:
            snapshot = await tx.open(Plan(self._consumer, parked=ParkedQuery(keys, limit)))
        return snapshot.parked

    async def _try(self, seen: Sequence[ParkedEvent], limit: int) -> Mapping[str, bool]:
        """Try up to `limit` parked events of each key, those that were `seen`. Raises DataRefusedError.

        Returns the keys that were as seen, and whether more of each is to be tried now.
        """
        return await self._carry(seen, [from_parked(each, self._processor.service.catalogue) for each in seen], limit)

    async def _give_up(self, seen: ParkedEvent, error: DataRefusedError) -> Mapping[str, bool]:
        """The database refuses even what is said of its failure: it is dead, with the plainest of words.

        Raises DataRefusedError if that is refused too.
        """
        incoming = from_parked(seen, self._processor.service.catalogue)
        [stand_in] = stand_ins(incoming, seen.record, error)
        return await self._carry([seen], [stand_in], 1)

    async def _carry(self, seen: Sequence[ParkedEvent], batch: Sequence[Incoming], limit: int) -> Mapping[str, bool]:
        again = Again(seen, batch)
        done = await self._processor.process(
            Work(
                consumer=self._consumer,
                batch=batch,
                terms=Terms(spared=self._watch.paused),
                watch=self._watch,
                parked=ParkedQuery(list(again.before), limit + 1),
                look=again.look,
                finish=_decided,
            )
        )
        if done is None:
            return {}
        reached(Point.RETRY_COMMITTED)
        self.worked = True
        self._watch.learn(done.results)
        self._processor.tell(self._consumer, done.results, done.changes, done.duration_s)
        self.poke_for(done.changes.reparked)
        for last in reopened(again.share.batch, again.share.whole, done.changes.released):
            drained = len(again.before[last.key])
            self._signals.emit(KeyReopened(self._processor.service.name, self._consumer, last.key, drained))
        released = set(done.changes.released)
        return {
            key: key not in again.share.whole and released.issuperset(places(again.before[key])) for key in again.same
        }

    def _may_probe(self, event_type: str) -> bool:
        """Those who have deferred events of the type probe; when nobody does, parked ones must."""
        return event_type in self._neglected and self._watch.probe(event_type)

    def poke_for(self, parked: Sequence[ParkedEvent]) -> None:
        """Events were parked by a batch of this process: come back when the first is due."""
        for event in parked:
            if event.attempts:
                self.poke(event.delay_ms)


class Again:
    """Parked events that are given another try. What another process has done to a key in the meantime leaves its
    events out of the batch.
    """

    def __init__(self, seen: Sequence[ParkedEvent], batch: Sequence[Incoming]) -> None:
        self.before = by_key(seen)
        self.same: frozenset[str] = frozenset()
        self.share = Share(())
        self._batch = batch

    def look(self, snapshot: Snapshot) -> Share | None:
        """What is still as it was seen, under the locks. A key is whole if nothing more is parked of it."""
        before, now = self.before, by_key(snapshot.parked)
        same = {key for key, events in before.items() if tries(now.get(key, ())[: len(events)]) == tries(events)}
        self.same = frozenset(same)
        whole = {key for key in same if len(now[key]) == len(before[key])}
        self.share = Share([each for each in self._batch if each.key in same], whole)
        return self.share if self.share.batch else None


def _decided(results: Sequence[Result], changes: Changes) -> End:
    reached(Point.RETRY_DECIDED)
    return End.COMMIT


def by_key(events: Sequence[ParkedEvent]) -> dict[str, list[ParkedEvent]]:
    """The events of each key, in order."""
    found: dict[str, list[ParkedEvent]] = {}
    for event in events:
        found.setdefault(event.key, []).append(event)
    return found


def places(events: Sequence[ParkedEvent]) -> list[int]:
    return [event.position for event in events]


def tries(events: Sequence[ParkedEvent]) -> list[tuple[int, int]]:
    """What another process would have changed if it had tried these events in the meantime."""
    return [(event.position, event.attempts) for event in events]
