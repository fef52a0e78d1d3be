"""Topics, offsets and lag: what is asked of the brokers, not of a partition's leader by the record.

What groups have committed is asked through clients that could be their members and never join.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import NewTopic

from orderflow.core.kafka.client import ClientThread
from orderflow.core.kafka.settings import KafkaSettings, translate, translated
from orderflow.core.transport import (
    MAX_RECORD_BYTES,
    PartitionLag,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
)

Place = tuple[str, int]
OFFSETS_MARGIN_S = 5.0


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
            lambda client: self._ask(client, places), self._settings.request_timeout_s + OFFSETS_MARGIN_S
        )

    async def close(self) -> None:
        """Idempotent."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(each.close() for each in clients))

    def _ask(self, client: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        with translated(refusals=self._settings.refusals):
            asked = [TopicPartition(*place) for place in places]
            found = client.committed(asked, timeout=self._settings.request_timeout_s)
        for partition in found:
            if partition.error is not None:
                raise translate(partition.error, partition.topic, refusals=self._settings.refusals)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


T = TypeVar("T")
USABLE_TIMEOUT_S = 10.0
USABLE_CHECK_S = 0.05
GIVE_UP_MARGIN_S = 5.0
NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class Admin:
    """Topics, their partitions and offsets. Partitions can be added to a topic at any time."""

    def __init__(self, settings: KafkaSettings, replication: int) -> None:
        self._timeout_s = settings.request_timeout_s
        self._refusals = settings.refusals
        self._replication = replication
        self._clients = ClientThread("kafka-admin", lambda: AdminClient(settings.client()), _no_more, keeps=True)
        self._offsets_of = GroupOffsets(settings)
        self._partitions: Mapping[str, int] = {}
        self._required: set[str] = set()

    async def require(self, topics: Iterable[str]) -> None:
        """Cheap for topics that were seen before. Raises TopicMissingError, TransportUnavailableError."""
        expected = set(topics)
        self._required |= expected
        if not self._partitions.keys() >= expected:
            await self.partitions(expected)

    async def partitions(self, topics: Iterable[str]) -> Mapping[str, int]:
        """How many partitions each topic has now. Raises TopicMissingError, TransportUnavailableError."""
        await self.refresh()
        missing = sorted(set(topics) - self._partitions.keys())
        if missing:
            raise TopicMissingError(", ".join(missing))
        return self._partitions

    async def check(self) -> None:
        """Whether the broker answers, and still has all topics that were required. Raises as `partitions`."""
        await self.partitions(self._required)

    async def refresh(self) -> None:
        """Ask for all topics. Raises TransportUnavailableError."""
        self._partitions = await self._run(lambda client: _usable(client.list_topics(timeout=self._timeout_s)))

    async def topic_id(self, topic: str) -> str:
        """What tells a topic from a later one of the same name (KIP-516); "" from brokers before 2.8.

        Raises TopicMissingError, TransportUnavailableError.
        """
        asked = TopicCollection([topic])
        futures = await self._run(lambda client: client.describe_topics(asked, request_timeout=self._timeout_s))
        found = str((await self._answer(futures[topic], topic)).topic_id)
        return "" if found == NO_TOPIC_ID else found

    async def create(self, topics: Sequence[TopicSettings]) -> None:
        """Returns when every topic can be used. Raises TransportUnavailableError."""
        await self.refresh()
        new = [self._new(topic) for topic in topics if topic.name not in self._partitions]
        if not new:
            return
        futures = await self._run(lambda client: client.create_topics(new, request_timeout=self._timeout_s))
        for future in futures.values():
            try:
                await self._answer(future)
            except TransportUnavailableError as error:
                # Somebody else was faster.
                if not _is(error.__cause__, KafkaError.TOPIC_ALREADY_EXISTS):
                    raise
        await self._until_usable([topic.name for topic in topics])

    async def ends(self, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
        partitions = await self.partitions(topics)
        places = [(topic, number) for topic in topics for number in range(partitions[topic])]
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        first, last = await asyncio.gather(self._offsets(places, earliest), self._offsets(places, latest))
        return {place: (first[place], last[place]) for place in places}

    async def lag(self, group: str, topics: Sequence[str]) -> list[PartitionLag]:
        ends = await self.ends(topics)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        committed, stable = await asyncio.gather(
            self._offsets_of.committed(group, list(ends)),
            self._offsets(list(ends), latest, IsolationLevel.READ_COMMITTED),
        )
        return [
            PartitionLag(*place, committed.get(place), first, end, max(0, end - stable[place]))
            for place, (first, end) in ends.items()
        ]

    async def close(self) -> None:
        """Idempotent."""
        await asyncio.gather(self._clients.close(), self._offsets_of.close())

    async def _until_usable(self, names: Sequence[str]) -> None:
        """A topic is made by the controller; the brokers hear of it, and become leaders, a little later."""
        deadline = time.monotonic() + USABLE_TIMEOUT_S
        while True:
            try:
                await self.ends(names)
            except (TransportUnavailableError, TopicMissingError) as error:
                if time.monotonic() > deadline:
                    raise TransportUnavailableError(f"Kafka made the topics, but: {error}") from error
                await asyncio.sleep(USABLE_CHECK_S)
            else:
                return

    async def _offsets(
        self,
        places: Sequence[Place],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}
        given = {"request_timeout": self._timeout_s, "isolation_level": isolation}
        futures = await self._run(lambda client: client.list_offsets(asked, **given))
        return {(p.topic, p.partition): (await self._answer(future)).offset for p, future in futures.items()}

    async def _run(self, call: Callable[[AdminClient], T]) -> T:
        def carried(client: AdminClient) -> T:
            try:
                return call(client)
            finally:
                # What it has to say of its connections it says when it is polled.
                client.poll(0)

        with translated(refusals=self._refusals):
            return await self._clients.run(carried, self._timeout_s + GIVE_UP_MARGIN_S)

    async def _answer(self, future: Future[Any], topic: str = "") -> Any:
        """The library bounds its requests; one that is not answered for longer is a defect of the client."""
        with translated(topic, refusals=self._refusals):
            try:
                async with asyncio.timeout(self._timeout_s + GIVE_UP_MARGIN_S):
                    return await asyncio.wrap_future(future)
            except TimeoutError:
                self._clients.give_up()
                raise

    def _new(self, topic: TopicSettings) -> NewTopic:
        return NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=self._replication,
            config={
                "cleanup.policy": "delete",
                "retention.ms": str(topic.retention_ms),
                "max.message.bytes": str(MAX_RECORD_BYTES),
                "message.timestamp.type": "LogAppendTime",
            },
        )


def _usable(metadata: ClusterMetadata) -> dict[str, int]:
    """The partitions of each topic that has a leader for all of them."""
    usable = {}
    for name, topic in metadata.topics.items():
        led = all(partition.leader >= 0 for partition in topic.partitions.values())
        if topic.error is None and topic.partitions and led:
            usable[name] = len(topic.partitions)
    return usable


def _is(cause: BaseException | None, code: int) -> bool:
    return isinstance(cause, KafkaException) and bool(cause.args[0].code() == code)


def _no_more(_: AdminClient) -> None:
    """There is nothing to end: the client goes when nobody holds it any more."""
