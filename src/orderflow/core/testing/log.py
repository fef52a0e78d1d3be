"""The transport port over a log in memory: the records and groups that all its transports share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orderflow.core.identity import Partitioner
from orderflow.core.timing import Clock
from orderflow.core.transport import (
    POLL_BYTES_MAX,
    Claim,
    ConsumerRecord,
    Entry,
    PartitionLag,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
    entry_of,
    is_held,
    owners,
    refuse_oversized,
    size_of,
    within,
)

TopicPartition = tuple[str, int]


@dataclass(slots=True, eq=False)
class GroupMember:
    """A member as the group sees it. `positions` maps each partition held to the next offset to fetch."""

    id: int
    topics: frozenset[str]
    wake: Callable[[], None]
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    fenced: bool = False


class ConsumerGroup:
    """A consumer group. Partitions are dealt as ranges over the members in order of joining."""

    def __init__(self) -> None:
        self._members: dict[int, GroupMember] = {}
        self.committed: dict[TopicPartition, int] = {}

    @property
    def members(self) -> Sequence[GroupMember]:
        return tuple(self._members.values())

    def join(self, member: GroupMember, partitions: Mapping[str, int]) -> None:
        self._members[member.id] = member
        self._rebalance(partitions)

    def leave(self, member: GroupMember, partitions: Mapping[str, int]) -> None:
        """The member is fenced from now on, whether it knows or not."""
        if self._members.pop(member.id, None) is None:
            return
        member.fenced = True
        member.positions.clear()
        self._rebalance(partitions)

    def commit(self, member: GroupMember, offsets: Mapping[TopicPartition, int]) -> None:
        """Only forward, and only where the member still holds the partition; a fenced one holds none."""
        for place, offset in offsets.items():
            if place in member.positions:
                self.committed[place] = max(offset, self.committed.get(place, 0))

    def _rebalance(self, partitions: Mapping[str, int]) -> None:
        for member in self._members.values():
            dealt = self._share(member, partitions)
            member.positions = {place: member.positions.get(place, self.committed.get(place, 0)) for place in dealt}
            member.wake()

    def _share(self, member: GroupMember, partitions: Mapping[str, int]) -> list[TopicPartition]:
        share: list[TopicPartition] = []
        for topic in sorted(member.topics):
            seats = [other.id for other in self._members.values() if topic in other.topics]
            count = partitions[topic]
            share += [(topic, number) for number in range(count) if seats[number * len(seats) // count] == member.id]
        return share


class MemoryLog:
    """Topics kept for the life of the object; records expire only when `expire` is called.

    Nothing here waits: every call is one step. While `reachable` is false every call raises
    TransportUnavailableError, as a broker that is away would.
    """

    def __init__(self, clock: Clock, rng: random.Random, *, session_timeout_s: float = 10.0) -> None:
        self.clock = clock
        self.session_timeout_s = session_timeout_s
        self.reachable = True
        self._partitioner = Partitioner(rng)
        self._topics: dict[str, list[list[ConsumerRecord]]] = {}
        self._first: dict[TopicPartition, int] = {}
        self._groups: dict[str, ConsumerGroup] = {}
        self._members = 0
        self._claims: dict[str, list[Entry]] = {}

    def claim(self, claim: Claim) -> None:
        """Raises ClaimedError, TransportUnavailableError."""
        self.check()
        register = self._claims.setdefault(claim.register, [])
        if not is_held(claim, owners(register)):
            register.append(entry_of(claim))

    def create(self, topics: Sequence[TopicSettings]) -> None:
        self.check()
        for topic in topics:
            self._topics.setdefault(topic.name, [[] for _ in range(topic.partitions)])

    def append(self, records: Sequence[ProducerRecord]) -> None:
        self.check()
        self.check_topics({record.topic for record in records})
        now = self.clock.wall_ms()
        for record in records:
            partitions = self._topics[record.topic]
            number = self._partitioner.partition(record.key, len(partitions))
            partition = partitions[number]
            partition.append(
                ConsumerRecord(
                    record.topic, number, len(partition), record.key, record.value, tuple(record.headers), now
                )
            )
        self._wake({record.topic for record in records})

    def slice(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        self.check()
        partitions = self._topics.get(topic)
        if partitions is None:
            raise TopicMissingError(topic)
        if not 0 <= partition < len(partitions):
            raise TopicMissingError(f"{topic} has no partition {partition}")
        start = max(self._first.get((topic, partition), 0), offset) if self._first else offset
        return partitions[partition][start : start + limit]

    def end(self, place: TopicPartition) -> int:
        """The offset after the last record."""
        return len(self._topics[place[0]][place[1]])

    def expire(self, topic: str) -> None:
        """Every record that the topic has now has outlived its retention."""
        self._first |= {(topic, number): len(partition) for number, partition in enumerate(self._topics[topic])}

    def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """The first offset kept and the offset after the last record of each partition."""
        self.check()
        self.check_topics(topics)
        return {
            (topic, number): (self._first.get((topic, number), 0), len(partition))
            for topic in topics
            for number, partition in enumerate(self._topics[topic])
        }

    def join(self, group: str, topics: Sequence[str], wake: Callable[[], None]) -> GroupMember:
        self.check()
        self.check_topics(topics)
        self._members += 1
        member = GroupMember(self._members, frozenset(topics), wake)
        self.group(group).join(member, self._counts())
        return member

    def leave(self, group: str, member: GroupMember) -> None:
        """A goodbye, or the group's own finding that the member's session is over."""
        self.group(group).leave(member, self._counts())

    def group(self, name: str) -> ConsumerGroup:
        return self._groups.setdefault(name, ConsumerGroup())

    def check(self) -> None:
        if not self.reachable:
            raise TransportUnavailableError("the log in memory was made unreachable")

    def check_topics(self, topics: set[str] | Sequence[str]) -> None:
        for topic in topics:
            if topic not in self._topics:
                raise TopicMissingError(topic)

    def _counts(self) -> Mapping[str, int]:
        return {topic: len(partitions) for topic, partitions in self._topics.items()}

    def _wake(self, topics: set[str]) -> None:
        for group in self._groups.values():
            for member in group.members:
                if not topics.isdisjoint(member.topics):
                    member.wake()


class MemoryConsumer:
    """Made by `MemoryTransport.subscribe`."""

    def __init__(
        self, log: MemoryLog, group: str, topics: Sequence[str], hop: Callable[[str], Awaitable[None]]
    ) -> None:
        self._log = log
        self._group = group
        self._topics = tuple(topics)
        self._hop = hop
        self._woken = asyncio.Event()
        self._closed = False
        self._expiry: asyncio.Task[None] | None = None
        self._member: GroupMember = log.join(group, self._topics, self._woken.set)

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        await self._hop("poll")
        self._resume()
        while not self._closed:
            self._woken.clear()
            self._log.check()
            if self._member.fenced:
                self._member = self._log.join(self._group, self._topics, self._woken.set)
            batch = self._fetch(max_records)
            if batch:
                return batch
            await self._woken.wait()
        return ()

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        member = self._member
        await self._hop("commit_offsets")
        self._log.check()
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            place = (record.topic, record.partition)
            offsets[place] = max(record.offset + 1, offsets.get(place, 0))
        self._log.group(self._group).commit(member, offsets)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The offset of each partition that is read next."""
        return self._member.positions

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        await self._finish()
        self._resume()
        self._log.leave(self._group, self._member)

    async def _finish(self) -> None:
        """Between the last poll and leaving the group; who closes once more meanwhile does not leave before it."""

    def stop_heartbeats(self) -> None:
        """As when the process is killed or stands still: the session times out, and the group goes on.

        A poll (the process goes on) takes the heartbeats up again, and joins anew if it is too late.
        """
        self._resume()
        self._expiry = asyncio.ensure_future(self._expire(self._member))

    def _resume(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _expire(self, member: GroupMember) -> None:
        await self._log.clock.sleep(self._log.session_timeout_s)
        self._log.leave(self._group, member)

    def _fetch(self, limit: int) -> list[ConsumerRecord]:
        batch: list[ConsumerRecord] = []
        taken = 0
        positions = self._member.positions
        for place, position in list(positions.items()):
            if position >= self._log.end(place):
                continue
            room = limit - len(batch)
            if room == 0 or taken >= POLL_BYTES_MAX:
                break
            records = self._log.slice(*place, position, room)
            if records:
                records = within(POLL_BYTES_MAX - taken, records)
                taken += sum(map(size_of, records))
                batch += records
                # Served last, asked last: no partition starves the others.
                del positions[place]
                positions[place] = records[-1].offset + 1
        return batch


async def _yield_once(_operation: str) -> None:
    await asyncio.sleep(0)


class MemoryTransport:
    """One connection to a `MemoryLog`.

    `hop` is awaited wherever a real transport would cross the network, with the name of the crossing:
    `append` and `appended` (the acknowledgement), `poll`, `commit_offsets`. A simulator delays there, or raises
    TransportUnavailableError.
    """

    def __init__(self, log: MemoryLog, *, hop: Callable[[str], Awaitable[None]] = _yield_once) -> None:
        self._log = log
        self._hop = hop
        self._consumers: list[MemoryConsumer] = []

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        refuse_oversized(records)
        await self._hop("append")
        self._log.append(records)
        await self._hop("appended")

    async def subscribe(self, group: str, topics: Sequence[str]) -> MemoryConsumer:
        consumer = MemoryConsumer(self._log, group, topics, self._hop)
        self._consumers.append(consumer)
        return consumer

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        self._log.create(topics)

    async def claim(self, claim: Claim) -> None:
        self._log.claim(claim)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        return self._log.slice(topic, partition, offset, limit)

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        return self._log.ends(topics)

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        committed = self._log.group(group).committed
        return [
            PartitionLag(*place, committed.get(place), first, end)
            for place, (first, end) in self._log.ends(topics).items()
        ]

    async def ping(self) -> None:
        self._log.check()

    async def close(self) -> None:
        for consumer in self._consumers:
            await consumer.close()
