"""The thread that owns a librdkafka consumer. It never stops polling, whatever its records wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from orderflow.messaging.transports.kafka.errors import translate
from orderflow.messaging.transports.kafka.inbox import Inbox, Place
from orderflow.messaging.transports.kafka.records import from_message
from orderflow.messaging.transports.kafka.settings import KafkaSettings

POLL_S = 0.2
COMMIT_EVERY_S = 0.5
BATCH = 500
BACK_PRESSURE_S = 1.0
REVOKE_PATIENCE_S = 2.0
PROBE_TIMEOUT_S = 1.0
REBUILD_S = 1.0

_PASSING = frozenset({KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED})  # noqa: SLF001  # its public names


class Poller:
    """`wake` is called from the thread whenever there is something new to see: records, `problem`, the end."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Sequence[str],
        inbox: Inbox,
        wake: Callable[[], None],
    ) -> None:
        self.problem: Exception | None = None
        self._settings = settings
        self._group = group
        self._topics = list(topics)
        self._inbox = inbox
        self._wake = wake
        self._stopping = threading.Event()
        self._paused = False
        self._commit_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"kafka-poll-{group}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to commit what is settled, leave the group, and end."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._live()
            except KafkaException as error:
                # Fatal for this client, not for us: librdkafka wants a new one.
                self._fail(translate(error.args[0]))
                self._stopping.wait(REBUILD_S)
        self._wake()

    def _live(self) -> None:
        configuration = {
            **self._settings.consumer(self._group),
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
        }
        consumer = Consumer(configuration)
        self._paused = False
        try:
            consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set():
                self._turn(consumer)
            self._commit_settled(consumer, self._inbox.to_commit())
        finally:
            self._forget(self._inbox.places())
            with suppress(KafkaException, RuntimeError):
                consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        self._apply_back_pressure(consumer)
        first = consumer.poll(POLL_S)
        if first is not None:
            self._receive([first, *consumer.consume(BATCH - 1, 0)])
        elif self.problem is not None:
            self._probe(consumer)
        if time.monotonic() >= self._commit_at:
            offsets = self._inbox.to_commit()
            if offsets:
                self._commit_at = time.monotonic() + COMMIT_EVERY_S
                consumer.commit(offsets=_partitions(offsets), asynchronous=True)

    def _receive(self, messages: Iterable[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(from_message(message))
            elif error.fatal():
                raise KafkaException(error)
            elif error.code() not in _PASSING:
                self._fail(translate(error))
        if records:
            self._inbox.put(records)
            self.problem = None
            self._wake()

    def _apply_back_pressure(self, consumer: Consumer) -> None:
        """Pausing throws away what was fetched ahead: first wait a little for the reader."""
        if self._paused:
            if self._inbox.has_room():
                consumer.resume(consumer.assignment())
                self._paused = False
        elif self._inbox.is_full() and not self._inbox.wait_for_room(BACK_PRESSURE_S):
            consumer.pause(consumer.assignment())
            self._paused = True

    def _probe(self, consumer: Consumer) -> None:
        with suppress(KafkaException):
            consumer.list_topics(self._topics[0], timeout=PROBE_TIMEOUT_S)
            self.problem = None
            self._wake()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._inbox.assign(_places(partitions))
        consumer.incremental_assign(partitions)
        if self._paused:
            consumer.pause(partitions)
        self.problem = None
        self._wake()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = frozenset(_places(partitions))
        self._inbox.drop_records(places)
        if not self._stopping.is_set():
            self._inbox.wait_settled(places, REVOKE_PATIENCE_S)
        self._commit_settled(consumer, self._inbox.to_commit(places))
        self._forget(places)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(frozenset(_places(partitions)))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._fail(translate(error))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = [partition for partition in partitions if error is not None or partition.error is not None]
        if failed:
            self._inbox.commit_failed({(p.topic, p.partition): p.offset for p in failed})
            self._commit_at = time.monotonic() + REBUILD_S

    def _commit_settled(self, consumer: Consumer, offsets: Mapping[Place, int]) -> None:
        """Settling is best effort: whoever holds the partition next gets it again, and drops it."""
        if offsets:
            with suppress(KafkaException):
                consumer.commit(offsets=_partitions(offsets), asynchronous=False)

    def _forget(self, places: frozenset[Place]) -> None:
        self._inbox.drop_records(places)
        self._inbox.release(places)
        self._wake()

    def _fail(self, error: Exception) -> None:
        self.problem = error
        self._wake()


def _places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return [(partition.topic, partition.partition) for partition in partitions]


def _partitions(offsets: Mapping[Place, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
