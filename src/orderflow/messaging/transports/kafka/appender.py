"""Appends through one idempotent producer, on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Producer

from orderflow.messaging.transport import ProducerRecord, TransportUnavailableError
from orderflow.messaging.transports.kafka.errors import translate
from orderflow.messaging.transports.kafka.settings import KafkaSettings

FLUSH_MARGIN_S = 2.0
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
        self._settings = settings
        self._producer: Producer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-append")

    def warm_up(self) -> None:
        """Let the producer get its id from the brokers now (half a second) rather than at the first append."""
        self._thread.submit(self._open)

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        """Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, records)

    async def close(self) -> None:
        """Idempotent."""
        await asyncio.to_thread(self._close)

    def _append(self, records: Sequence[ProducerRecord]) -> None:
        producer = self._open()
        reports = _Reports()
        deadline = time.monotonic() + self._settings.delivery_timeout_s + FLUSH_MARGIN_S
        try:
            for record in records:
                self._produce(producer, record, reports, deadline)
            producer.flush(max(0.0, deadline - time.monotonic()))
        except KafkaException as error:
            self._discard()
            raise translate(error.args[0]) from error
        except BaseException:
            self._discard()
            raise
        if reports.acknowledged != len(records):
            self._discard()
            if reports.error is not None:
                raise translate(reports.error, reports.topic)
            raise TransportUnavailableError("Kafka did not acknowledge all records in time")

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._settings.producer())
        return self._producer

    def _produce(self, producer: Producer, record: ProducerRecord, reports: _Reports, deadline: float) -> None:
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

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)

    def _close(self) -> None:
        self._thread.shutdown(wait=True)
        self._discard()
