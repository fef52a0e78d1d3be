"""What consumer groups have committed, asked through clients that could be their members and never join."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from orderflow.messaging.transports.kafka.client_thread import ClientThread
from orderflow.messaging.transports.kafka.errors import translate, translated
from orderflow.messaging.transports.kafka.settings import KafkaSettings

Place = tuple[str, int]
GIVE_UP_MARGIN_S = 5.0


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
        clients = self._clients.get(group)
        if clients is None:
            settings = self._settings.asker(group)
            clients = ClientThread("kafka-offsets", lambda: Consumer(settings), Consumer.close, keeps=True)
            self._clients[group] = clients
        return await clients.run(
            lambda client: self._ask(client, places), self._settings.request_timeout_s + GIVE_UP_MARGIN_S
        )

    async def close(self) -> None:
        """Idempotent."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(each.close() for each in clients))

    def _ask(self, client: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        with translated():
            asked = [TopicPartition(*place) for place in places]
            found = client.committed(asked, timeout=self._settings.request_timeout_s)
        for partition in found:
            if partition.error is not None:
                raise translate(partition.error, partition.topic)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
