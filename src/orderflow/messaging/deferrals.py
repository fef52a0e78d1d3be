"""Records in hand whose time has not come: each key's in order, none of them settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.transport import ConsumerRecord, size_of

RECORDS_MAX = 2_000
BYTES_MAX = 64 * 1024 * 1024

Place = tuple[str, int]


class Deferrals:
    """What one consumer has deferred, and what of its partitions may be settled meanwhile."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Incoming]] = {}
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

    def heads(self) -> Iterator[Incoming]:
        """The first of each key; the keys that were put off longest ago come first."""
        return (queue[0] for queue in self._queues.values())

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
            self._queues.setdefault(incoming.key, deque()).append(incoming)

    def put_off(self, key: str) -> None:
        """Let the other keys go first the next time."""
        self._queues[key] = self._queues.pop(key)

    def remove(self, incoming: Incoming) -> None:
        """Its time has come. Without effect if it is not here."""
        record, queue = incoming.record, self._queues.get(incoming.key)
        if record is None or queue is None:
            return
        if self._in_hand.pop((record.topic, record.partition, record.offset), None) is not None:
            self._bytes -= size_of(record)
            queue.remove(incoming)
            if not queue:
                del self._queues[incoming.key]

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

    def _next(self, place: Place, first: ConsumerRecord | None) -> ConsumerRecord | None:
        """The record to settle in this partition, if anything has changed."""
        if first is None:
            self._settled.pop(place, None)
            return self._last.pop(place)
        if self._settled.get(place, 0) == first.offset:
            return None
        self._settled[place] = first.offset
        return replace(first, offset=first.offset - 1)
