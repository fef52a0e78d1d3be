"""Reads a stretch of one partition, without a group."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from orderflow.messaging.transport import ConsumerRecord, TopicMissingError, TransportUnavailableError
from orderflow.messaging.transports.kafka.client_thread import ClientThread
from orderflow.messaging.transports.kafka.errors import translate, translated
from orderflow.messaging.transports.kafka.records import from_message
from orderflow.messaging.transports.kafka.settings import KafkaSettings

GIVE_UP_S = 60.0


class Reader:
    """One read at a time, on a thread of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumers = ClientThread("kafka-read", lambda: Consumer(settings.reader()), Consumer.close)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[ConsumerRecord]:
        """Raises TransportUnavailableError, TopicMissingError."""

        async def read() -> list[ConsumerRecord]:
            return await self._consumers.run(
                lambda consumer: self._read(consumer, topic, partition, offset, limit), GIVE_UP_S
            )

        try:
            return await read()
        except TopicMissingError:
            # What this client knows may be older than a partition that was added, or a topic that was made again.
            return await read()

    async def close(self) -> None:
        """Idempotent."""
        await self._consumers.close()

    def _read(self, consumer: Consumer, topic: str, partition: int, offset: int, limit: int) -> list[ConsumerRecord]:
        with translated(topic):
            first, end = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=self._settings.request_timeout_s
            )
            start = max(offset, first)
            if start >= end:
                return []
            consumer.assign([TopicPartition(topic, partition, start)])
            try:
                return self._collect(consumer, limit)
            finally:
                consumer.unassign()

    def _collect(self, consumer: Consumer, limit: int) -> list[ConsumerRecord]:
        records: list[ConsumerRecord] = []
        deadline = time.monotonic() + self._settings.request_timeout_s
        while len(records) < limit:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise TransportUnavailableError("Kafka: no answer in time")
            error = message.error()
            if error is None:
                records.append(from_message(message))
                deadline = time.monotonic() + self._settings.request_timeout_s
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                break
            elif not error.retriable():
                raise translate(error)
        return records
