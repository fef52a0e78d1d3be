"""The transport port over Apache Kafka.

Kafka has no place to note whose topics and groups are, so a topic of its own keeps the claims, in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from orderflow.core.kafka.admin import Admin
from orderflow.core.kafka.client import Appender, ClientThread
from orderflow.core.kafka.consumer import KafkaConsumer
from orderflow.core.kafka.membership import from_message
from orderflow.core.kafka.settings import KafkaSettings, translate, translated
from orderflow.core.transport import (
    Claim,
    ConsumerRecord,
    Entry,
    PartitionLag,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
    decode,
    encode,
    entry_of,
    is_held,
    owners,
    refuse_oversized,
)

GIVE_UP_S = 60.0


class BlockingReader:
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
        with translated(topic, refusals=self._settings.refusals):
            first, end = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=self._settings.request_timeout_s
            )
            start = max(offset, first)
            if start >= end:
                return []
            consumer.assign([TopicPartition(topic, partition, start)])
            try:
                return self._collect(consumer, topic, limit)
            finally:
                consumer.unassign()

    def _collect(self, consumer: Consumer, topic: str, limit: int) -> list[ConsumerRecord]:
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
                raise translate(error, topic, refusals=self._settings.refusals)
        return records


FOR_EVER_MS = -1
CHUNK = 500


class Register:
    """One partition, kept for ever and not compacted: the first claim counts, and compaction keeps the last."""

    def __init__(self, name: str, admin: Admin, appender: Appender, reader: BlockingReader) -> None:
        self._name = name
        self._admin = admin
        self._appender = appender
        self._reader = reader

    async def claim(self, claim: Claim) -> None:
        """Raises ClaimedError, TransportUnavailableError."""
        await self._admin.create([TopicSettings(self._name, 1, FOR_EVER_MS)])
        if is_held(claim, owners(await self._entries())):
            return
        entry = entry_of(claim)
        await self._appender.append([ProducerRecord(self._name, str(claim.owner).encode(), encode(entry))])
        # Somebody else's claim may stand before ours: the order of the log decides.
        is_held(claim, owners(await self._entries()))

    async def _entries(self) -> list[Entry]:
        first, end = (await self._admin.ends([self._name]))[self._name, 0]
        found: list[Entry] = []
        while first < end:
            records = await self._reader.read(self._name, 0, first, min(CHUNK, end - first))
            if not records:
                break
            found += [entry for record in records if (entry := decode(record.value)) is not None]
            first = records[-1].offset + 1
        return found


class KafkaTransport:
    """librdkafka's clients, each on a thread of its own; none of them decides anything."""

    def __init__(self, settings: KafkaSettings, *, replication: int) -> None:
        self._settings = settings
        self._admin = Admin(settings, replication)
        self._appender = Appender(settings)
        self._reader = BlockingReader(settings)
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
        -1 is the brokers' default. `security`: options of the library. Raises ValueError: it refuses one of them.
        """
        settings = KafkaSettings(bootstrap, session_timeout_s, delivery_timeout_s, request_timeout_s, security or {})
        transport = cls(settings, replication=replication)
        try:
            await transport._appender.warm_up()
        except KafkaException as error:
            raise ValueError(f"Kafka's client library refuses it: {error.args[0].str()}") from error
        return transport

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        if not records:
            return
        self._check_open()
        refuse_oversized(records)
        await self._admin.require({record.topic for record in records})
        await self._appender.append(records)

    async def subscribe(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        self._check_open()
        await self._admin.partitions(topics)
        consumer = KafkaConsumer(self._settings, self._admin, group, topics)
        self._consumers.append(consumer)
        return consumer

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        await self._admin.create(topics)

    async def claim(self, claim: Claim) -> None:
        self._check_open()
        await Register(claim.register, self._admin, self._appender, self._reader).claim(claim)

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
        await self._admin.check()

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await asyncio.gather(self._appender.close(), self._reader.close(), self._admin.close())

    def _check_open(self) -> None:
        if self._closed:
            raise TransportUnavailableError("the transport was closed")
