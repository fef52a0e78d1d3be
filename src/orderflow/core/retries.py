"""Retries parked keys when they are due: from the head on, until an event of the key fails again."""

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
"""Retries are not urgent: while many keys fail, each batch waits this long at most to gather those that come due."""


class Retrier:
    """Retries one consumer's parked events. Several processes may each run one: a key's lock keeps them apart."""

    def __init__(self, consumer: str, processor: Processor, store: Store, signals: Signals, clock: Clock) -> None:
        self.worked = False
        self._consumer = consumer
        self._processor = processor
        self._breakers = processor.breakers(consumer)
        self._store = store
        self._signals = signals
        self._timer = Timer(clock)
        self._neglected: set[str] = set()
        self._pacer = Pacer(clock, PACE_MAX_MS, KEYS_MAX, rest=REST)

    def schedule(self, in_ms: int) -> None:
        """Look for due keys in `in_ms`."""
        self._timer.set(in_ms)

    @property
    def wants_looks(self) -> bool:
        """Whether to look from time to time although nothing is due: only that shows when an outage has ended."""
        return bool(self._breakers.paused)

    def excuse(self, event_type: str) -> str:
        """Why due heads of this event type are not tried; "" when they are."""
        return self._breakers.problem if event_type in self._breakers.paused else ""

    async def step(self) -> None:
        """Wait until a key may be due, and try it. Heads of a type in outage are not tried, and use up no attempt.

        Raises StoreUnavailableError, InfrastructureError.
        """
        await self._pacer.gather()
        await self._timer.wait()
        self._neglected = {each for each in self._breakers.paused if self._breakers.is_neglected(each)}
        waiting = sorted(self._breakers.paused - self._neglected)
        keys = await self._store.due_keys(self._consumer, KEYS_MAX, waiting)
        if not keys:
            for event_type in sorted(self._neglected):
                self._breakers.nothing_left(event_type)
            return
        self._pacer.started(len(keys))
        if len(keys) == KEYS_MAX:
            self.schedule(0)
        refused: DataRefusedError | None = None
        for key in await self._try_heads(keys):
            try:
                await self._drain(key)
            except DataRefusedError as error:
                # Raised at the end: one key must not keep the others from being tried.
                refused = error
        self._pacer.ended()
        if refused is not None:
            raise refused

    async def _try_heads(self, keys: Sequence[str]) -> Sequence[str]:
        """Try the heads of all these keys in one transaction; returns the keys to drain one by one after that."""
        heads = [head for head in await self._peek(keys, 1) if head.event_type not in self._breakers.paused]
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
            if not probing and events[0].event_type in self._breakers.paused:
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
        """Read parked events without locks: they determine which locks to take."""
        async with self._store.transaction() as tx:
            snapshot = await tx.open(Plan(self._consumer, parked=ParkedQuery(keys, limit)))
        return snapshot.parked

    async def _try(self, seen: Sequence[ParkedEvent], limit: int) -> Mapping[str, bool]:
        """Try these parked events, up to `limit` of each key.

        Returns the keys that nobody has changed since they were `seen`, and whether to try more of each now.
        Raises DataRefusedError.
        """
        return await self._transact(
            seen, [from_parked(each, self._processor.service.catalogue) for each in seen], limit
        )

    async def _give_up(self, seen: ParkedEvent, error: DataRefusedError) -> Mapping[str, bool]:
        """Store an event as dead, with the plainest description, after the database has refused to repark it.

        Raises DataRefusedError if that is refused too.
        """
        incoming = from_parked(seen, self._processor.service.catalogue)
        [stand_in] = stand_ins(incoming, seen.record, error)
        return await self._transact([seen], [stand_in], 1)

    async def _transact(
        self, seen: Sequence[ParkedEvent], batch: Sequence[Incoming], limit: int
    ) -> Mapping[str, bool]:
        retried = RetriedBatch(seen, batch)
        done = await self._processor.process(
            Work(
                consumer=self._consumer,
                batch=batch,
                terms=Terms(paused=self._breakers.paused),
                breakers=self._breakers,
                parked=ParkedQuery(list(retried.before), limit + 1),
                select=retried.select,
                finish=_decided,
            )
        )
        if done is None:
            return {}
        reached(Point.RETRY_COMMITTED)
        self.worked = True
        self._breakers.learn(done.results)
        self._processor.report(self._consumer, done.results, done.changes, done.duration_s)
        self.schedule_parked(done.changes.reparked)
        complete_keys = retried.share.complete_keys
        for last in reopened(retried.share.batch, complete_keys, done.changes.released):
            drained = len(retried.before[last.key])
            self._signals.emit(KeyReopened(self._processor.service.name, self._consumer, last.key, drained))
        released = set(done.changes.released)
        return {
            key: key not in complete_keys and released.issuperset(positions(retried.before[key]))
            for key in retried.unchanged
        }

    def _may_probe(self, event_type: str) -> bool:
        """Whether to probe with a parked event: only when no deferred event of the type is there to probe with."""
        return event_type in self._neglected and self._breakers.probe(event_type)

    def schedule_parked(self, parked: Sequence[ParkedEvent]) -> None:
        """Look again when these events, which a batch of this process has parked, are due."""
        for event in parked:
            if event.attempts:
                self.schedule(event.delay_ms)


class RetriedBatch:
    """Parked events that are tried again. A key that another process has changed in the meantime is left out."""

    def __init__(self, seen: Sequence[ParkedEvent], batch: Sequence[Incoming]) -> None:
        self.before = by_key(seen)
        self.unchanged: frozenset[str] = frozenset()
        self.share = Share(())
        self._batch = batch

    def select(self, snapshot: Snapshot) -> Share | None:
        """The events of the keys that are unchanged, now that their locks are held."""
        before, now = self.before, by_key(snapshot.parked)
        unchanged = {key for key, events in before.items() if tries(now.get(key, ())[: len(events)]) == tries(events)}
        self.unchanged = frozenset(unchanged)
        complete_keys = {key for key in unchanged if len(now[key]) == len(before[key])}
        self.share = Share([each for each in self._batch if each.key in unchanged], complete_keys)
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


def positions(events: Sequence[ParkedEvent]) -> list[int]:
    return [event.position for event in events]


def tries(events: Sequence[ParkedEvent]) -> list[tuple[int, int]]:
    """What differs if another process has tried these events in the meantime."""
    return [(event.position, event.attempts) for event in events]
