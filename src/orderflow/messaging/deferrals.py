"""Records in hand whose time has not come: each key's in order, none of them settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from msgspec.structs import replace

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.transport import ConsumerRecord, size_of

RECORDS_MAX = 2_000
BYTES_MAX = 64 * 1024 * 1024

Place = tuple[str, int]
OTHERS = ""


class Deferrals:
    """What one consumer has deferred, and what of its partitions may be settled meanwhile."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Incoming]] = {}
        self._failed_at: dict[str, str] = {}
        self._order: dict[str, dict[str, None]] = {}
        self._in_hand: dict[tuple[str, int, int], ConsumerRecord] = {}
        self._bytes = 0
        self._last: dict[Place, ConsumerRecord] = {}
        self._settled: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self._in_hand)

    def __contains__(self, key: str) -> bool:
        return key in self._queues

    @property
    def is_full(self) -> bool:
        return len(self._in_hand) >= RECORDS_MAX or self._bytes >= BYTES_MAX

    def holds(self, topic: str, partition: int) -> bool:
        """Whether anything of this partition is in hand."""
        return any(name[:2] == (topic, partition) for name in self._in_hand)

    def others(self) -> Iterator[Incoming]:
        """The heads of the keys that have not failed, or wait for room. Those put off longest ago come first."""
        return self.failed(OTHERS)

    def failed(self, event_type: str) -> Iterator[Incoming]:
        """The heads of the keys that have failed with an event of this type, likewise."""
        return (self._queues[key][0] for key in self._order.get(event_type, ()))

    def failed_types(self) -> AbstractSet[str]:
        """The types of which a head has failed."""
        return self._order.keys() - {OTHERS}

    def queue(self, key: str) -> Iterable[Incoming]:
        """All of a key, in order."""
        return self._queues.get(key, ())

    def add(self, incoming: Incoming) -> None:
        """Keep it, behind the others of its key. One that was delivered again is kept once."""
        record = incoming.record
        assert record is not None
        name = (record.topic, record.partition, record.offset)
        if name not in self._in_hand:
            self._in_hand[name] = record
            self._bytes += size_of(record)
            if incoming.key not in self._queues:
                self._queues[incoming.key] = deque()
                self._enlist(incoming.key, OTHERS)
            self._queues[incoming.key].append(incoming)

    def put_off(self, key: str, *, failed: bool) -> None:
        """Let the other keys go first the next time. `failed`: its head has failed."""
        self._enlist(key, self._queues[key][0].event_type if failed else OTHERS)

    def remove(self, incoming: Incoming) -> None:
        """Its time has come. Without effect if it is not here."""
        record, queue = incoming.record, self._queues.get(incoming.key)
        if record is None or queue is None:
            return
        if self._in_hand.pop((record.topic, record.partition, record.offset), None) is not None:
            self._bytes -= size_of(record)
            was_head = queue[0] == incoming
            queue.remove(incoming)
            if not queue:
                del self._queues[incoming.key]
                self._strike(incoming.key)
            elif was_head:
                self._enlist(incoming.key, OTHERS)

    def settleable(self, polled: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """What to settle after these were carried in or deferred: no partition past its first deferred record."""
        if not self._in_hand and not self._last:
            return polled
        for record in polled:
            self._last[record.topic, record.partition] = record
        first: dict[Place, ConsumerRecord] = {}
        for record in self._in_hand.values():
            place = (record.topic, record.partition)
            if place not in first or record.offset < first[place].offset:
                first[place] = record
        settled = [self._next(place, first.get(place)) for place in list(self._last)]
        return [record for record in settled if record is not None]

    def _enlist(self, key: str, failed_at: str) -> None:
        self._strike(key)
        self._failed_at[key] = failed_at
        self._order.setdefault(failed_at, {})[key] = None

    def _strike(self, key: str) -> None:
        failed_at = self._failed_at.pop(key, None)
        if failed_at is not None:
            del self._order[failed_at][key]
            if not self._order[failed_at]:
                del self._order[failed_at]

    def _next(self, place: Place, first: ConsumerRecord | None) -> ConsumerRecord | None:
        """The record to settle in this partition, if anything has changed."""
        if first is None:
            self._settled.pop(place, None)
            return self._last.pop(place)
        if self._settled.get(place, 0) == first.offset:
            return None
        self._settled[place] = first.offset
        return replace(first, offset=first.offset - 1)
