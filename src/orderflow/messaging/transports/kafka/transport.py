"""The transport port over Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from orderflow.messaging.transport import (
    ConsumerRecord,
    PartitionLag,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
)
from orderflow.messaging.transports.kafka.admin import Admin
from orderflow.messaging.transports.kafka.appender import Appender
from orderflow.messaging.transports.kafka.consumer import KafkaConsumer
from orderflow.messaging.transports.kafka.reader import Reader
from orderflow.messaging.transports.kafka.settings import KafkaSettings
from orderflow.messaging.transports.limits import refuse_oversized


class KafkaTransport:
    """librdkafka's clients, each on a thread of its own; none of them decides anything."""

    def __init__(self, settings: KafkaSettings, *, replication: int) -> None:
        self._settings = settings
        self._admin = Admin(settings, replication)
        self._appender = Appender(settings)
        self._reader = Reader(settings)
        self._consumers: list[KafkaConsumer] = []
        self._closed = False

    @classmethod
    async def connect(
        cls,
        bootstrap: str,
        *,
        session_timeout_s: float = 10.0,
        delivery_timeout_s: float = 10.0,
        request_timeout_s: float = 5.0,
        replication: int = -1,
        security: Mapping[str, str] | None = None,
    ) -> KafkaTransport:
        """Ready at once: the brokers are asked when there is something to ask (`ping` does).

        `session_timeout_s`: after so long without a heartbeat a member is put out of its group.
        `delivery_timeout_s`: how long an append waits for its acknowledgement. `replication` of new topics;
        -1 is the brokers' default.
        """
        settings = KafkaSettings(bootstrap, session_timeout_s, delivery_timeout_s, request_timeout_s, security or {})
        transport = cls(settings, replication=replication)
        transport._appender.warm_up()
        return transport

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        if not records:
            return
        self._check_open()
        refuse_oversized(records)
        await self._admin.partitions({record.topic for record in records})
        await self._appender.append(records)

    async def subscribe(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        self._check_open()
        await self._admin.refresh()
        await self._admin.partitions(topics)
        consumer = KafkaConsumer(self._settings, group, topics)
        self._consumers.append(consumer)
        return consumer

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        await self._admin.create(topics)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        self._check_open()
        if not 0 <= partition < (await self._admin.partitions([topic]))[topic]:
            raise TopicMissingError(f"{topic} has no partition {partition}")
        return await self._reader.read(topic, partition, offset, limit)

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        return await self._admin.ends(topics)

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        return await self._admin.lag(group, topics)

    async def ping(self) -> None:
        self._check_open()
        await self._admin.refresh()

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await asyncio.gather(self._appender.close(), self._reader.close(), self._admin.close())

    def _check_open(self) -> None:
        if self._closed:
            raise TransportUnavailableError("the transport was closed")
