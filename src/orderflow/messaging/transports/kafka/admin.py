"""Topics, offsets and lag: what is asked of the brokers, not of a partition's leader by the record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from orderflow.messaging.transport import (
    PartitionLag,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
)
from orderflow.messaging.transports.kafka.errors import translated
from orderflow.messaging.transports.kafka.offsets import GroupOffsets
from orderflow.messaging.transports.kafka.settings import MESSAGE_MAX_BYTES, KafkaSettings

Place = tuple[str, int]
USABLE_TIMEOUT_S = 10.0
USABLE_CHECK_S = 0.05


class Admin:
    """Keeps what it learnt of topics: their partitions never change."""

    def __init__(self, settings: KafkaSettings, replication: int) -> None:
        self._timeout_s = settings.request_timeout_s
        self._replication = replication
        self._client = AdminClient(settings.client())
        self._offsets_of = GroupOffsets(settings)
        self._partitions: dict[str, int] = {}

    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int]:
        """The number of partitions of each topic known, `topics` among them. Raises TopicMissingError."""
        wanted = set(topics)
        if not self._partitions.keys() >= wanted:
            await self.refresh()
            missing = sorted(wanted - self._partitions.keys())
            if missing:
                raise TopicMissingError(", ".join(missing))
        return self._partitions

    async def refresh(self) -> None:
        """Ask for all topics. Raises TransportUnavailableError."""
        self._partitions = await asyncio.to_thread(self._list_topics)

    async def create(self, topics: Sequence[TopicSettings]) -> None:
        """Returns when every topic can be used. Raises TransportUnavailableError."""
        await self.refresh()
        new = [self._new(topic) for topic in topics if topic.name not in self._partitions]
        if not new:
            return
        for future in self._client.create_topics(new, request_timeout=self._timeout_s).values():
            try:
                await asyncio.wrap_future(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TransportUnavailableError(f"Kafka: {error.args[0].str()}") from error
        await self._until_usable([topic.name for topic in topics])

    async def ends(self, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
        places = await self._places(topics)
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        first, last = await asyncio.gather(self._offsets(places, earliest), self._offsets(places, latest))
        return {place: (first[place], last[place]) for place in places}

    async def lag(self, group: str, topics: Sequence[str]) -> list[PartitionLag]:
        ends = await self.ends(topics)
        committed = await self._offsets_of.committed(group, list(ends))
        return [PartitionLag(*place, committed.get(place), first, end) for place, (first, end) in ends.items()]

    async def close(self) -> None:
        """Idempotent."""
        await self._offsets_of.close()

    async def _until_usable(self, names: Sequence[str]) -> None:
        """A topic is made by the controller; the brokers hear of it, and become leaders, a little later."""
        deadline = time.monotonic() + USABLE_TIMEOUT_S
        while True:
            try:
                await self.refresh()
                await self.ends(names)
            except (TransportUnavailableError, TopicMissingError) as error:
                if time.monotonic() > deadline:
                    raise TransportUnavailableError(f"Kafka made the topics, but: {error}") from error
                await asyncio.sleep(USABLE_CHECK_S)
            else:
                return

    async def _places(self, topics: Sequence[str]) -> list[Place]:
        partitions = await self.partitions(topics)
        return [(topic, number) for topic in topics for number in range(partitions[topic])]

    async def _offsets(self, places: Sequence[Place], spec: OffsetSpec) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}
        futures = self._client.list_offsets(asked, request_timeout=self._timeout_s)
        return {(p.topic, p.partition): (await _answer(future)).offset for p, future in futures.items()}

    def _list_topics(self) -> dict[str, int]:
        with translated():
            metadata = self._client.list_topics(timeout=self._timeout_s)
        usable = {}
        for name, topic in metadata.topics.items():
            led = all(partition.leader >= 0 for partition in topic.partitions.values())
            if topic.error is None and topic.partitions and led:
                usable[name] = len(topic.partitions)
        return usable

    def _new(self, topic: TopicSettings) -> NewTopic:
        return NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=self._replication,
            config={
                "cleanup.policy": "delete",
                "retention.ms": str(topic.retention_ms),
                "max.message.bytes": str(MESSAGE_MAX_BYTES),
                "message.timestamp.type": "LogAppendTime",
            },
        )


async def _answer(future: Future[Any]) -> Any:
    with translated():
        return await asyncio.wrap_future(future)
