"""Appends through one idempotent producer, on a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.transport import ProducerRecord, TransportUnavailableError
from orderflow.messaging.transports.kafka.client_thread import ClientThread
from orderflow.messaging.transports.kafka.errors import translate
from orderflow.messaging.transports.kafka.settings import KafkaSettings

FLUSH_MARGIN_S = 2.0
GIVE_UP_MARGIN_S = 5.0
QUEUE_FULL_POLL_S = 0.05


class _Reports:
    """Delivery reports of one append: only an error-free one counts as an acknowledgement."""

    __slots__ = ("acknowledged", "error", "topic")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.error: KafkaError | None = None
        self.topic = ""

    def __call__(self, error: KafkaError | None, message: object) -> None:
        if error is None:
            self.acknowledged += 1
            reached(Point.APPEND_REPORTED)
        elif self.error is None:
            self.error = error
            topic = getattr(message, "topic", None)
            self.topic = topic() if topic is not None else ""


class Appender:
    """One append at a time, in the order of the calls.

    After any error the producer is thrown away: what it still held may or may not be in the log, and a new
    one must not be overtaken by that.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._flush_s = settings.delivery_timeout_s + FLUSH_MARGIN_S
        self._producers = ClientThread("kafka-append", lambda: Producer(settings.producer()), _discard)

    async def warm_up(self) -> None:
        """Let the producer get its id from the brokers from now on (half a second), not from the first append."""
        await self._producers.run(lambda _: None, self._flush_s + GIVE_UP_MARGIN_S)

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        """Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError."""
        await self._producers.run(lambda producer: self._append(producer, records), self._flush_s + GIVE_UP_MARGIN_S)

    async def close(self) -> None:
        """Idempotent."""
        await self._producers.close()

    def _append(self, producer: Producer, records: Sequence[ProducerRecord]) -> None:
        reports = _Reports()
        deadline = time.monotonic() + self._flush_s
        try:
            for record in records:
                _produce(producer, record, reports, deadline)
            reached(Point.APPEND_QUEUED)
            producer.flush(max(0.0, deadline - time.monotonic()))
        except KafkaException as error:
            raise translate(error.args[0]) from error
        if reports.acknowledged != len(records):
            if reports.error is not None:
                raise translate(reports.error, reports.topic)
            raise TransportUnavailableError("Kafka did not acknowledge all records in time")


def _produce(producer: Producer, record: ProducerRecord, reports: _Reports, deadline: float) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                headers=list(record.headers),
                on_delivery=reports,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise TransportUnavailableError("Kafka takes no more records") from None
            producer.poll(QUEUE_FULL_POLL_S)
        else:
            return


def _discard(producer: Producer) -> None:
    producer.purge()
    producer.flush(0)
