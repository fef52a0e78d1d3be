"""The log in memory with late deliveries, and appends of which only a part arrives."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from orderflow.messaging.clock import Clock
from orderflow.messaging.transport import ConsumerRecord, ProducerRecord, TransportUnavailableError
from orderflow.messaging.transports.memory import MemoryConsumer, MemoryLog, MemoryTransport

Place = tuple[str, int]


class TroubledLog(MemoryLog):
    """Partitions in `late` show nothing new to those who poll."""

    def __init__(self, clock: Clock, chance: random.Random, *, session_timeout_s: float) -> None:
        super().__init__(clock, chance, session_timeout_s=session_timeout_s)
        self.late: set[Place] = set()

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
