"""What consumer groups have committed, asked through clients that could be their members and never join."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from orderflow.messaging.transports.kafka.client_thread import ClientThread
from orderflow.messaging.transports.kafka.errors import translate, translated
from orderflow.messaging.transports.kafka.settings import KafkaSettings

Place = tuple[str, int]
GIVE_UP_MARGIN_S = 3.0


class GroupOffsets:
    """A client for each group, kept: that of the admin API crashes the process when a coordinator has moved.

    Its ListConsumerGroupOffsets has no group of its own to tell that to, and writes to address 0
    (https://github.com/confluentinc/librdkafka/issues/5040, with 2.16.1 still).
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._clients: dict[str, ClientThread[Consumer]] = {}

    async def committed(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        """By partition; without those of which none is committed. Raises TransportUnavailableError."""
        client = self._clients.get(group)
        if client is None:
            client = self._clients[group] = ClientThread(
                "kafka-offsets", lambda: Consumer(self._settings.consumer(group)), Consumer.close, keeps=True
            )
        timeout_s = self._settings.request_timeout_s
        return await client.run(lambda consumer: _ask(consumer, places, timeout_s), timeout_s + GIVE_UP_MARGIN_S)

    async def close(self) -> None:
        """Idempotent."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(client.close() for client in clients))


def _ask(client: Consumer, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
    with translated():
        found = client.committed([TopicPartition(*place) for place in places], timeout=timeout_s)
    for partition in found:
        if partition.error is not None:
            raise translate(partition.error, partition.topic)
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
