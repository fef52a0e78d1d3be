"""The transport port over a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from orderflow.messaging.transport import Claim, ConsumerRecord, PartitionLag, ProducerRecord, TopicSettings
from orderflow.messaging.transports.limits import refuse_oversized
from orderflow.messaging.transports.memory.consumer import MemoryConsumer
from orderflow.messaging.transports.memory.log import MemoryLog


async def _yield_once(_operation: str) -> None:
    await asyncio.sleep(0)


class MemoryTransport:
    """One connection to a `MemoryLog`.

    `hop` is awaited wherever a real transport would cross the network, with the name of the crossing:
    `append` and `appended` (the acknowledgement), `poll`, `settle`. A simulator delays there, or raises
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
