"""Carries a consumer's records in, and keeps in hand those whose time has not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from orderflow.messaging.crowd import Crowd
from orderflow.messaging.decision import Subscription
from orderflow.messaging.deferrals import Deferrals
from orderflow.messaging.incoming import Incoming, from_record
from orderflow.messaging.outage_watch import OutageWatch
from orderflow.messaging.processor import Processor
from orderflow.messaging.result import Result
from orderflow.messaging.signals import Outcome
from orderflow.messaging.transport import ConsumerRecord

PROBES_KEPT = 100
"""When the hand is full, the rest of what has failed is parked; of so many keys the head stays, to probe with."""


class Carrier:
    """One per subscription. Order within a key is kept: what is in hand goes before what comes."""

    def __init__(self, subscription: Subscription, processor: Processor, crowd: Crowd, batch_max: int) -> None:
        self._consumer = subscription.consumer
        self._processor = processor
        self._watch: OutageWatch = processor.watch(subscription.consumer)
        self._crowd = crowd
        self._batch_max = batch_max
        self._in_hand = Deferrals()

    @property
    def wait_s(self) -> float | None:
        """How long until something in hand may be tried; None: nothing is in hand."""
        if not self._in_hand:
            return None
        waits = [self._watch.untried_in_s(each) or self._crowd.wait_s for each in self._other_types()]
        failed = self._in_hand.failed_types()
        waits += [self._watch.probe_in_s(each) for each in failed & self._watch.paused]
        waits += [self._crowd.wait_s] if failed - self._watch.paused else []
        return min(waits)

    @property
    def problem(self) -> str:
        """Why events wait that cannot be parked; "" when none does."""
        return self._crowd.problem

    @property
    def has_room(self) -> bool:
        """Whether more records may be taken in hand."""
        return not self._in_hand.is_full

    def excuse(self, topic: str, partition: int) -> str:
        """Why records of this partition wait here; "" when they do not."""
        if self.has_room and not self._in_hand.holds(topic, partition):
            return ""
        return self._crowd.problem or self._watch.problem

    async def carry(self, records: Sequence[ConsumerRecord], *, carefully: bool) -> None:
        """Carry these in, and what is in hand and may go. `carefully`: one alone first, to see whether it goes.

        May be repeated. Raises StoreUnavailableError, InfrastructureError.
        """
        batch = [from_record(record, self._processor.service.catalogue) for record in records]
        waited = set(self._in_hand.failed_types())
        if self._in_hand:
            await self._probe()
            batch = self._next(batch)
        if carefully and batch:
            await self._processor.admit(self._consumer, batch[:1])
        if batch:
            self._note(await self._processor.admit(self._consumer, batch))
        if self._in_hand.is_full:
            await self._park_overflow()
        for event_type in sorted(waited - self._in_hand.failed_types()):
            self._watch.nothing_left(event_type)

    def settleable(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """What may be settled after these were carried in."""
        return self._in_hand.settleable(records)

    async def _probe(self) -> None:
        """Of each type in outage, try as many keys that have failed as its breaker lets go, each time others."""
        for event_type in list(self._watch.paused):
            width = self._watch.probes(event_type)
            heads = list(islice(self._in_hand.failed(event_type), width))
            if heads:
                self._note(await self._processor.admit(self._consumer, heads))

    def _next(self, batch: Sequence[Incoming]) -> list[Incoming]:
        """Those of the batch that are not behind something in hand, and what may go of what is in hand."""
        fresh: list[Incoming] = []
        for incoming in batch:
            if incoming.key in self._in_hand:
                self._in_hand.add(incoming)
            else:
                fresh.append(incoming)
        ready: list[Incoming] = []
        for head in () if self._crowd.wait_s else self._ready():
            if len(ready) >= self._batch_max:
                break
            ready.extend(islice(self._in_hand.queue(head.key), self._batch_max - len(ready)))
        return fresh + ready

    def _ready(self) -> Iterator[Incoming]:
        """The heads in hand that wait for no outage. Where not all of them can be tried, the newest go in turn with
        the oldest.
        """
        due = {each for each in self._other_types() if not self._watch.untried_in_s(each)}
        waiting = deque(head for head in self._in_hand.others() if head.event_type in due)
        while waiting:
            yield waiting.pop()
            if waiting:
                yield waiting.popleft()
        for event_type in sorted(self._in_hand.failed_types() - self._watch.paused):
            yield from self._in_hand.failed(event_type)

    def _other_types(self) -> set[str]:
        return {head.event_type for head in self._in_hand.others()}

    def _note(self, results: Sequence[Result]) -> None:
        """Keep what was deferred, let go of the rest."""
        deferred = [result for result in results if result.outcome is Outcome.DEFERRED]
        if not deferred and not self._in_hand:
            return
        for result in results:
            if result.outcome is not Outcome.DEFERRED:
                self._in_hand.remove(result.incoming)
        for result in deferred:
            self._in_hand.add(result.incoming)
        for key in {result.incoming.key: None for result in deferred}:
            self._in_hand.put_off(key, failed=self._watch.waits(next(iter(self._in_hand.queue(key)))))
        crowded = [result.incoming.key for result in deferred if result.crowded]
        if crowded:
            self._crowd.found_no_room(len(crowded), crowded[0])
        elif self.has_room and not self._other_types() and self._in_hand.failed_types() <= self._watch.paused:
            self._crowd.found_room()

    async def _park_overflow(self) -> None:
        """Park what waits for the end of an outage, so that the rest flows on. Some keys stay, to probe with."""
        if self._crowd.wait_s:
            return
        keys = [head.key for each in self._watch.paused for head in self._in_hand.failed(each)]
        batch = [incoming for key in keys[PROBES_KEPT:] for incoming in self._in_hand.queue(key)]
        for start in range(0, len(batch), self._batch_max):
            self._note(await self._processor.hold(self._consumer, batch[start : start + self._batch_max]))
            if self._crowd.wait_s:
                return
