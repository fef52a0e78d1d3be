"""What the poll thread and the event loop share: fetched records, partitions held, offsets settled."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orderflow.messaging.transport import ConsumerRecord

Place = tuple[str, int]
MAX_RECORDS = 2_000
MAX_BYTES = 32 * 1024 * 1024
NEVER = -1


@dataclass(slots=True, eq=False)
class Holding:
    """A partition held. `fetched` is the offset after the last record that was put, `position` after the last that
    was taken, `settled` after the last that is done; `committed` is what the broker has been told.

    `reached` is where the client will fetch next: beyond `fetched` when what follows is not for readers (the
    control records of transactions, and what was aborted).
    """

    fetched: int = 0
    position: int = 0
    settled: int = 0
    committed: int = 0
    reached: int = 0

    def pass_over(self) -> None:
        """Nothing is left to be done before the place that was reached: it is settled."""
        if self.settled >= self.fetched and self.reached > self.settled:
            self.fetched = self.position = self.settled = self.reached


class Inbox:
    """Safe for one thread that puts and one that takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._records: deque[ConsumerRecord] = deque()
        self._bytes = 0
        self._held: dict[Place, Holding] = {}

    def places(self) -> frozenset[Place]:
        with self._changed:
            return frozenset(self._held)

    def assign(self, places: Iterable[Place], *, again: Mapping[Place, int] | None = None) -> None:
        """Hold these from now on. Those of `again` start at the offset there: the broker is to be told at once."""
        with self._changed:
            for place in places:
                self._held.setdefault(place, Holding())
            for place, first in (again or {}).items():
                self._held[place] = Holding(first, first, first, NEVER, first)

    def put(self, records: Iterable[ConsumerRecord]) -> None:
        with self._changed:
            for record in records:
                holding = self._held.get((record.topic, record.partition))
                if holding is not None:
                    holding.fetched = record.offset + 1
                    self._records.append(record)
                    self._bytes += len(record.value or b"")

    def reach(self, positions: Mapping[Place, int]) -> None:
        """Say where the client will fetch next, after `put` of all that it has handed over before."""
        with self._changed:
            for place, position in positions.items():
                holding = self._held.get(place)
                if holding is not None:
                    holding.reached = position
                    holding.pass_over()

    def take(self, limit: int) -> list[ConsumerRecord]:
        with self._changed:
            records = [self._records.popleft() for _ in range(min(limit, len(self._records)))]
            for record in records:
                self._held[record.topic, record.partition].position = record.offset + 1
                self._bytes -= len(record.value or b"")
            self._changed.notify_all()
            return records

    def settle(self, records: Sequence[ConsumerRecord]) -> None:
        """Only what was taken under the present holding counts, and only forward."""
        with self._changed:
            for record in records:
                holding = self._held.get((record.topic, record.partition))
                if holding is not None and holding.settled <= record.offset < holding.position:
                    holding.settled = record.offset + 1
                    holding.pass_over()
            self._changed.notify_all()

    def to_commit(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """Offsets settled that the broker has not been told yet; they count as told from now on."""
        with self._changed:
            offsets: dict[Place, int] = {}
            for place in self._held if places is None else places:
                holding = self._held.get(place)
                if holding is not None and holding.settled > holding.committed:
                    offsets[place] = holding.committed = holding.settled
            return offsets

    def commit_failed(self, offsets: Mapping[Place, int]) -> None:
        """Say these again, unless something newer has been said since."""
        with self._changed:
            for place, offset in offsets.items():
                holding = self._held.get(place)
                if holding is not None and holding.committed == offset:
                    holding.committed = NEVER

    def drop_records(self, places: frozenset[Place]) -> None:
        """Forget what was fetched of these partitions and not taken."""
        with self._changed:
            kept = [r for r in self._records if (r.topic, r.partition) not in places]
            self._records = deque(kept)
            self._bytes = sum(len(record.value or b"") for record in kept)
            self._changed.notify_all()

    def wait_settled(self, places: Iterable[Place], timeout_s: float) -> None:
        """Wait until everything taken of these partitions is settled, but no longer than the timeout."""
        holdings = [self._held[place] for place in places if place in self._held]
        with self._changed:
            self._changed.wait_for(lambda: all(h.settled >= h.position for h in holdings), timeout_s)

    def release(self, places: Iterable[Place]) -> None:
        with self._changed:
            for place in places:
                self._held.pop(place, None)

    def is_full(self) -> bool:
        with self._changed:
            return len(self._records) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    def has_room(self) -> bool:
        """Half empty: worth fetching again."""
        with self._changed:
            return self._has_room()

    def wait_for_room(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout_s)

    def _has_room(self) -> bool:
        return len(self._records) <= MAX_RECORDS // 2 and self._bytes <= MAX_BYTES // 2
