"""Consuming a subscription: poll, process, commit the offset; and the bounded buffer of records that have to wait.

Database first, offset second. What the processor defers stays in memory as a *paused record*: its offset is not
committed, the later records of its key wait behind it, and all other keys flow past. After a restart the consumer
reads again from the first paused record, and the inbox recognises what was handled.

The buffer is bounded. When it is full, records that wait for the end of an outage are parked in the database, up to
the parking quota. When that is used up too, the consumer stops polling (*back-pressure*), and reports why.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from orderflow.core.circuit_breaker import CircuitBreakers
from orderflow.core.crash_points import Point, reached
from orderflow.core.envelopes import Incoming, Result, from_record, type_of
from orderflow.core.processor import Processor
from orderflow.core.retry import FailureStreak, RetryLoop
from orderflow.core.service import Subscription
from orderflow.core.telemetry import Outcome, Usage
from orderflow.core.timing import Pacer
from orderflow.core.transport import (
    Consumer,
    ConsumerRecord,
    TopicMissingError,
    Transport,
    TransportUnavailableError,
    size_of,
)

LONG_BATCH = 3
"""A batch that has been committed in this many parts makes progress, however long it takes; most have one or two."""

NO_EXCUSE = (TransportUnavailableError, TopicMissingError)

RECORDS_MAX = 2_000
BYTES_MAX = 64 * 1024 * 1024

PROBES_KEPT = 100
"""How many failed keys stay in a full buffer, as probes; those of all other failed keys are parked."""

Partition = tuple[str, int]


class Polled(NamedTuple):
    """Polled records, and the messages decoded from those that the service reads; None if decoding has raised."""

    records: Sequence[ConsumerRecord]
    batch: Sequence[Incoming] | None


NOTHING = Polled((), ())


class ConsumerLoop:
    """Consumes one subscription of the service.

    `joining` is awaited before a group is joined; `commits` returns how many batches of the consumer were committed.
    """

    def __init__(
        self,
        subscription: Subscription,
        dispatcher: Dispatcher,
        transport: Transport,
        pacer: Pacer,
        retries: RetryLoop,
        batch_max: int,
        joining: Callable[[str, Sequence[str]], Awaitable[None]],
        commits: Callable[[], int],
    ) -> None:
        self.worked = False
        self.consumer = subscription.consumer
        self._topics = subscription.topics
        self._dispatcher = dispatcher
        self._transport = transport
        self._pacer = pacer
        self._retries = retries
        self._batch_max = batch_max
        self._joining = joining
        self._commits = commits
        self._commits_before: int | None = None
        self._member: Consumer | None = None
        self._poll_task: asyncio.Task[Polled] | None = None
        self._polling = False
        self._closing = asyncio.Event()

    @property
    def paused(self) -> Usage:
        """How many records wait in memory, and how many may."""
        return self._dispatcher.paused

    @property
    def problem(self) -> str:
        """Why records wait although the database is available; "" when none does."""
        return self._dispatcher.problem

    def excuse(self, place: str) -> str:
        """Why records of a place ("topic/partition") wait; "" when that is not known.

        That the log is unavailable is no excuse: the caller has just read from it.
        """
        if self._retries.error is not None and not isinstance(self._retries.error, NO_EXCUSE):
            return self._retries.problem
        return self._dispatcher.excuse(_partition(place))

    def holds(self, place: str) -> bool:
        """Whether this member should read the place: it is assigned to it, or nothing is, which should not be."""
        held = self._member.assignment() if self._member is not None else frozenset()
        return not held or _partition(place) in held

    @property
    def batch_commits(self) -> int:
        """How many parts of the present batch are committed, if it is long; otherwise 0."""
        commits = 0 if self._commits_before is None else self._commits() - self._commits_before
        return commits if commits >= LONG_BATCH else 0

    async def run(self) -> None:
        """Consume until `close`, then return when the present batch is committed. Paused records stay uncommitted.

        It may be cancelled and run again; it then joins its group as a new member.
        """
        self._member = None
        try:
            while not self._closing.is_set():
                await self._retries.until_done(self._step)
        finally:
            await self._leave()
            if self._poll_task is not None:
                task, self._poll_task = self._poll_task, None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Take no more records. `run` returns when the batch in hand is committed and the group is left."""
        self._closing.set()
        if self._polling:
            await self._leave()

    async def _step(self) -> None:
        """Poll, process, commit. Process and commit are each retried until they succeed, whatever they raise.

        So while the database is unavailable no attempt is used up and the group is not left; and the last records of
        a topic that goes quiet are committed, which no later batch would do.
        """
        if self._closing.is_set():
            return
        if self._member is None:
            await self._joining(self.consumer, self._topics)
            self._member = await self._transport.subscribe(self.consumer, self._topics)
            reached(Point.CONSUMER_JOINED)
        member = self._member
        await self._pacer.gather()
        records, batch = await self._poll(member)
        if self._closing.is_set() and not records:
            return
        if records:
            self._pacer.started(len(records))
        waits = self._dispatcher.wait_s is not None
        if len(records) >= self._batch_max and not waits:
            self._poll_ahead(member)
        if batch or batch is None or waits:
            await self._retries.until_done(lambda: self._process(records, batch))
        done = self._dispatcher.committable(records)
        if done:
            reached(Point.CONSUMER_PROCESSED)
            await self._retries.until_done(lambda: member.commit(done))
            reached(Point.OFFSETS_NOTED)
            self.worked = True
        if records:
            self._pacer.ended()

    async def _poll(self, member: Consumer) -> Polled:
        """The next records; none if a paused record is due before they arrive.

        The poll then continues beside: cancelling it could lose what it has fetched.
        """
        wait_s = self._dispatcher.wait_s
        if self._closing.is_set():
            return NOTHING
        self._polling = True
        try:
            if self._poll_task is None:
                if wait_s is None:
                    return await self._read(member)
                if not self._dispatcher.has_room:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._closing.wait()
                    return NOTHING
                self._poll_ahead(member)
            assert self._poll_task is not None
            await asyncio.wait({self._poll_task}, timeout=wait_s)
            if not self._poll_task.done():
                return NOTHING
            task, self._poll_task = self._poll_task, None
            return task.result()
        finally:
            self._polling = False

    def _poll_ahead(self, member: Consumer) -> None:
        """Start the next poll at once. After a full batch there is more to read: it is fetched and decoded while the
        database works on this batch, and its offsets are committed after those of this batch.
        """
        self._poll_task = asyncio.get_running_loop().create_task(self._read(member))

    async def _read(self, member: Consumer) -> Polled:
        records = await member.poll(self._batch_max)
        if records:
            reached(Point.CONSUMER_POLLED)
        try:
            return Polled(records, self._dispatcher.decoded(records))
        except Exception:  # noqa: BLE001  # a defect: it is reported when decoding is retried, before anything is committed
            return Polled(records, None)

    async def _process(self, records: Sequence[ConsumerRecord], batch: Sequence[Incoming] | None) -> None:
        self._commits_before = self._commits()
        try:
            if batch is None:
                batch = self._dispatcher.decoded(records)
            await self._dispatcher.process(batch, carefully=self._retries.is_troubled)
        finally:
            self._commits_before = None

    async def _leave(self) -> None:
        if self._member is not None:
            with suppress(TransportUnavailableError):
                await self._member.close()


class Dispatcher:
    """Passes records to the processor: those polled, unless one of their key is paused, and paused ones that are due.

    The order within a key is kept. `full` reports that the parking quota is used up, and says when to try again.
    """

    def __init__(self, consumer: str, processor: Processor, full: FailureStreak, batch_max: int) -> None:
        self._consumer = consumer
        self._processor = processor
        self._unread = processor.service.unread()
        self._breakers: CircuitBreakers = processor.breakers(consumer)
        self._full = full
        self._batch_max = batch_max
        self._paused = PausedRecords()

    @property
    def wait_s(self) -> float | None:
        """How long until a paused record may be tried, in s; None if none is paused."""
        if not self._paused:
            return None
        waits = [self._breakers.open[each].probe_in_s for each in self._types(failed=True)]
        waits += [self._untried_in_s(each) or self._full.wait_s for each in self._types(failed=False)]
        return min(waits)

    @property
    def paused(self) -> Usage:
        """How many records are paused, and how many may be."""
        return self._paused.usage

    @property
    def problem(self) -> str:
        """Why events wait although they should be parked; "" when none does."""
        return self._full.problem

    @property
    def has_room(self) -> bool:
        """Whether more records may be polled."""
        return not self._paused.is_full

    def excuse(self, partition: Partition) -> str:
        """Why records of this partition are paused; "" when none is."""
        if self.has_room and not self._paused.holds(partition):
            return ""
        return self._full.problem or self._breakers.problem

    def decoded(self, records: Sequence[ConsumerRecord]) -> Sequence[Incoming]:
        """The messages of those records that the service reads."""
        catalogue, unread = self._processor.service.catalogue, self._unread
        return [from_record(record, catalogue) for record in records if type_of(record) not in unread]

    async def process(self, batch: Sequence[Incoming], *, carefully: bool) -> None:
        """Process the batch, and the paused records that are due. `carefully`: try its first message alone before.

        It may be repeated after an error. Raises StoreUnavailableError, InfrastructureError.
        """
        waited: set[str] = set()
        if self._paused:
            waited = self._types(failed=True)
            await self._probe()
            batch = self._next(batch)
        if carefully and batch:
            await self._processor.admit(self._consumer, batch[:1])
        if batch:
            self._update_paused(await self._processor.admit(self._consumer, batch))
        if self._paused.is_full:
            await self._park_overflow()
        for event_type in sorted(waited - self._types(failed=True)) if waited else ():
            self._breakers.nothing_left(event_type)

    def committable(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """The offsets to commit now that these records were processed."""
        return self._paused.committable(records)

    async def _probe(self) -> None:
        """Half-open: of each type in outage, try as many failed keys as its breaker allows, others each time."""
        for event_type, breaker in list(self._breakers.open.items()):
            heads = [head for head in self._heads(failed=True) if head.event_type == event_type]
            if heads and not breaker.probe_in_s:
                self._update_paused(await self._processor.admit(self._consumer, heads[: breaker.width]))

    def _next(self, batch: Sequence[Incoming]) -> list[Incoming]:
        """The messages of the batch whose key is not paused, and the paused ones that are due."""
        fresh: list[Incoming] = []
        for incoming in batch:
            if incoming.key in self._paused:
                self._paused.add(incoming)
            else:
                fresh.append(incoming)
        ready: list[Incoming] = []
        for head in () if self._full.wait_s else self._ready():
            if len(ready) >= self._batch_max:
                break
            ready.extend(islice(self._paused.queue(head.key), self._batch_max - len(ready)))
        return fresh + ready

    def _ready(self) -> Iterator[Incoming]:
        """The heads that wait for no outage. If not all can be tried, the newest take turns with the oldest."""
        waiting = deque(head for head in self._heads(failed=False) if not self._untried_in_s(head.event_type))
        while waiting:
            yield waiting.pop()
            if waiting:
                yield waiting.popleft()

    def _untried_in_s(self, event_type: str) -> float:
        breaker = self._breakers.open.get(event_type)
        return breaker.untried_in_s if breaker is not None else 0.0

    def _heads(self, *, failed: bool) -> list[Incoming]:
        """The first paused record of each key that failed in an outage, or of each other key."""
        return [head for head in self._paused.heads() if self._breakers.waits(head) is failed]

    def _types(self, *, failed: bool) -> set[str]:
        return {head.event_type for head in self._heads(failed=failed)}

    def _update_paused(self, results: Sequence[Result]) -> None:
        """Pause the messages that were deferred; resume the others."""
        deferred = [result for result in results if result.outcome is Outcome.DEFERRED]
        if not deferred and not self._paused:
            return
        for result in results:
            if result.outcome is not Outcome.DEFERRED:
                self._paused.remove(result.incoming)
        for result in deferred:
            self._paused.add(result.incoming)
        for key in {result.incoming.key: None for result in deferred}:
            self._paused.put_off(key)
        refused = [result.incoming.key for result in deferred if result.no_room]
        if refused:
            self._full.failed(_quota_used_up(len(refused), refused[0]))
        elif self.has_room and not self._heads(failed=False):
            self._full.succeeded()

    async def _park_overflow(self) -> None:
        """Park the records that wait for the end of an outage, to make room. Some keys stay as probes."""
        overflow = self._heads(failed=True)[PROBES_KEPT:]
        batch = [incoming for head in overflow for incoming in self._paused.queue(head.key)]
        for start in range(0, len(batch), self._batch_max):
            if self._full.wait_s:
                return
            self._update_paused(await self._processor.hold(self._consumer, batch[start : start + self._batch_max]))


class PausedRecords:
    """The paused records of a consumer, in order per key; they determine which offsets may be committed."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Incoming]] = {}
        self._records: dict[Partition, dict[int, ConsumerRecord]] = {}
        self._count = 0
        self._bytes = 0
        self._last: dict[Partition, ConsumerRecord] = {}
        self._committed: dict[Partition, int] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._queues

    @property
    def usage(self) -> Usage:
        """How many records are paused, and how many may be."""
        return Usage(self._count, RECORDS_MAX)

    @property
    def is_full(self) -> bool:
        """Whether the bound of records or bytes is reached."""
        return self._count >= RECORDS_MAX or self._bytes >= BYTES_MAX

    def holds(self, partition: Partition) -> bool:
        """Whether a record of this partition is paused."""
        return partition in self._records

    def heads(self) -> Iterator[Incoming]:
        """The first message of each key; keys that were put off longest ago come first."""
        return (queue[0] for queue in self._queues.values())

    def queue(self, key: str) -> Iterable[Incoming]:
        """All messages of a key, in order."""
        return self._queues.get(key, ())

    def add(self, incoming: Incoming) -> None:
        """Pause the message, behind the others of its key. A redelivered one is kept once."""
        record = incoming.record
        assert record is not None
        records = self._records.setdefault((record.topic, record.partition), {})
        if record.offset not in records:
            records[record.offset] = record
            self._count += 1
            self._bytes += size_of(record)
            self._queues.setdefault(incoming.key, deque()).append(incoming)

    def put_off(self, key: str) -> None:
        """Move the key behind all others."""
        self._queues[key] = self._queues.pop(key)

    def remove(self, incoming: Incoming) -> None:
        """Resume the message; its key moves behind all others. No effect if it is not paused."""
        record, queue = incoming.record, self._queues.get(incoming.key)
        if record is None or queue is None:
            return
        partition = (record.topic, record.partition)
        records = self._records.get(partition, {})
        if records.pop(record.offset, None) is not None:
            self._count -= 1
            self._bytes -= size_of(record)
            was_head = queue[0] == incoming
            queue.remove(incoming)
            if not queue:
                del self._queues[incoming.key]
            elif was_head:
                self.put_off(incoming.key)
            if not records:
                del self._records[partition]

    def committable(self, polled: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """What to commit after these were processed or paused: in each partition, up to its first paused record."""
        if not self._records and not self._last:
            return polled
        for record in polled:
            self._last[record.topic, record.partition] = record
        found: list[ConsumerRecord] = []
        for partition, last in list(self._last.items()):
            paused = self._records.get(partition)
            if paused is None:
                del self._last[partition]
                self._committed.pop(partition, None)
                found.append(last)
            elif (first := min(paused)) != self._committed.get(partition, 0):
                self._committed[partition] = first
                found.append(replace(paused[first], offset=first - 1))
        return found


def _partition(place: str) -> Partition:
    topic, _, number = place.rpartition("/")
    return topic, int(number)


def _quota_used_up(count: int, key: str) -> str:
    waiting = "1 event waits (key" if count == 1 else f"{count} events wait (one of key"
    return (
        f"{waiting} {key!r}) because the parking quota is used up: too many keys are parked, or too many events "
        "behind one key; replay or discard parked events to make room"
    )
