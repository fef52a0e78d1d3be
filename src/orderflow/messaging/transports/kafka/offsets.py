"""What consumer groups have committed, asked through clients that could be their members and never join."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from orderflow.messaging.transports.kafka.errors import translate, translated
from orderflow.messaging.transports.kafka.settings import KafkaSettings

Place = tuple[str, int]


class GroupOffsets:
    """A client for each group, kept: that of the admin API crashes the process when a coordinator has moved.

    Its ListConsumerGroupOffsets has no group of its own to tell that to, and writes to address 0
    (https://github.com/confluentinc/librdkafka/issues/5040, with 2.16.1 still).
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._clients: dict[str, Consumer] = {}

    async def committed(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        """By partition; without those of which none is committed. Raises TransportUnavailableError."""
        client = self._clients.get(group)
        if client is None:
            client = self._clients[group] = Consumer(self._settings.consumer(group))
        return await asyncio.to_thread(self._ask, client, places)

    async def close(self) -> None:
        """Idempotent."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await asyncio.to_thread(client.close)

    def _ask(self, client: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        with translated():
            found = client.committed(
                [TopicPartition(*place) for place in places], timeout=self._settings.request_timeout_s
            )
        for partition in found:
            if partition.error is not None:
                raise translate(partition.error, partition.topic)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
