"""A member's lease in its group, and the partitions that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.transport import ConsumerRecord
from orderflow.messaging.transports.postgres_log.link import Link

Place = tuple[str, int]


@dataclass(slots=True, eq=False)
class Holding:
    """A partition held since `generation`. `position` is the next offset to fetch."""

    partition_id: int
    place: Place
    generation: int
    position: int


class Membership:
    """Joins, renews, rejoins under a new name when the group went on without this member, leaves."""

    def __init__(
        self, link: Link, queries: Mapping[str, str], group: str, topics: Sequence[str], session_ms: int
    ) -> None:
        self.holdings: dict[int, Holding] = {}
        self._link = link
        self._queries = queries
        self._group = group
        self._topics = list(topics)
        self._session_ms = session_ms
        self._by_place: dict[Place, Holding] = {}
        self._done: dict[Holding, int] = {}
        self._member: UUID | None = None
        self._group_id = 0
        self._generation = -1

    def places(self) -> frozenset[Place]:
        return frozenset(self._by_place)

    async def renew(self) -> bool:
        """Renew the lease, or join; True when the partitions changed. Raises TransportUnavailableError."""
        if self._member is not None:
            generation = await self._link.value(
                self._queries["heartbeat"], self._group_id, self._member, self._session_ms
            )
            if generation is not None:
                if generation == self._generation:
                    return False
                await self._read_assignment(generation)
                return True
        await self._join()
        return True

    def note(self, records: Sequence[ConsumerRecord]) -> None:
        """Remember what is done. Only what was fetched under the present holding counts."""
        offsets: dict[Place, int] = {}
        for record in records:
            offsets[record.topic, record.partition] = record.offset + 1
        for place, offset in offsets.items():
            holding = self._by_place.get(place)
            if holding is not None and offset <= holding.position:
                self._done[holding] = offset

    def has_noted(self) -> bool:
        """Whether anything is noted that `settle` would look at."""
        return bool(self._done)

    async def settle(self) -> None:
        """Write down what was noted. Raises TransportUnavailableError; then it stays noted."""
        done, self._done = self._done, {}
        held = [(holding, offset) for holding, offset in done.items() if self._by_place.get(holding.place) is holding]
        if not held:
            return
        reached(Point.OFFSETS_WRITING)
        try:
            await self._link.fetch(
                self._queries["settle"],
                self._group_id,
                self._member,
                [holding.partition_id for holding, _ in held],
                [holding.generation for holding, _ in held],
                [offset for _, offset in held],
            )
        except BaseException:
            self._done = {**done, **self._done}
            raise
        reached(Point.OFFSETS_WRITTEN)

    async def leave(self) -> None:
        """Settle what is noted, and go. Raises TransportUnavailableError."""
        await self.settle()
        member, self._member = self._member, None
        self.holdings = {}
        self._by_place = {}
        if member is not None:
            await self._link.fetch(self._queries["leave_group"], self._group_id, member)

    async def _join(self) -> None:
        self.holdings = {}
        self._by_place = {}
        member = uuid4()
        self._group_id = await self._link.value(
            self._queries["join_group"], self._group, member, self._topics, self._session_ms
        )
        self._member = member
        await self._link.listen(f"g{self._group_id}")
        await self._read_assignment(-1)

    async def _read_assignment(self, generation: int) -> None:
        rows = await self._link.fetch(self._queries["assignment"], self._group_id, self._member)
        if not self.holdings.keys() <= {row["partition_id"] for row in rows}:
            reached(Point.PARTITIONS_REVOKED)
        self.holdings = {row["partition_id"]: self._holding(row) for row in rows}
        self._by_place = {holding.place: holding for holding in self.holdings.values()}
        self._generation = generation

    def _holding(self, row: asyncpg.Record) -> Holding:
        held = self.holdings.get(row["partition_id"])
        if held is not None and held.generation == row["owner_generation"]:
            return held
        return Holding(row["partition_id"], (row["name"], row["number"]), row["owner_generation"], row["committed"])
