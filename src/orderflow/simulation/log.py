"""The log in memory with late deliveries, and appends of which only a part arrives."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from orderflow.messaging.clock import Clock
from orderflow.messaging.transport import ConsumerRecord, ProducerRecord, TransportUnavailableError
from orderflow.messaging.transports.memory import MemoryConsumer, MemoryLog, MemoryTransport
from orderflow.messaging.transports.memory.groups import Group, Member

Place = tuple[str, int]


class WatchedGroup(Group):
    """A group that tells what is settled: partition, from, to."""

    def __init__(self, settled: Callable[[Place, int, int], None]) -> None:
        super().__init__()
        self._settled = settled

    def settle(self, member: Member, offsets: Mapping[Place, int]) -> None:
        before = dict(self.committed)
        super().settle(member, offsets)
        for place in offsets:
            if self.committed.get(place, 0) != before.get(place, 0):
                self._settled(place, before.get(place, 0), self.committed[place])


class TroubledLog(MemoryLog):
    """Partitions in `late` show nothing new to those who poll. `settled` is told what a group has settled, `appended`
    what relays have appended.
    """

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        *,
        session_timeout_s: float,
        settled: Callable[[str, Sequence[ConsumerRecord]], None] = lambda *_: None,
        appended: Callable[[Sequence[ProducerRecord]], None] = lambda _: None,
    ) -> None:
        super().__init__(clock, chance, session_timeout_s=session_timeout_s)
        self.late: set[Place] = set()
        self._tell_settled = settled
        self._tell_appended = appended

    def append(self, records: Sequence[ProducerRecord]) -> None:
        super().append(records)
        self._tell_appended(records)

    def slip_in(self, records: Sequence[ProducerRecord]) -> None:
        """Append what no relay of ours has appended."""
        super().append(records)

    def group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = WatchedGroup(lambda place, start, end: self._settled(name, place, start, end))
        return self._groups[name]

    def _settled(self, group: str, place: Place, start: int, end: int) -> None:
        topic, partition = place
        self._tell_settled(group, self._topics[topic][partition][start:end])

    def topics(self) -> list[str]:
        """All topics, dead letters included."""
        return list(self._topics)

    def slice(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        if (topic, partition) in self.late:
            return ()
        return super().slice(topic, partition, offset, limit)


class TroubledTransport(MemoryTransport):
    """`members` are the consumers of this connection. `cut` says after how many records an append breaks off."""

    def __init__(
        self,
        log: MemoryLog,
        hop: Callable[[str], Awaitable[None]],
        cut: Callable[[int], int | None],
    ) -> None:
        super().__init__(log, hop=hop)
        self.members: list[MemoryConsumer] = []
        self._cut = cut

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        arrived = self._cut(len(records))
        if arrived is None:
            await super().append(records)
            return
        await super().append(records[:arrived])
        raise TransportUnavailableError("the connection broke off in the middle of an append")

    async def subscribe(self, group: str, topics: Sequence[str]) -> MemoryConsumer:
        consumer = await super().subscribe(group, topics)
        self.members.append(consumer)
        return consumer
