"""Names of its own on a log that others share: prefixes for topics and groups, put on at the edge alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from orderflow.messaging.transport import (
    Claim,
    Consumer,
    ConsumerRecord,
    PartitionLag,
    ProducerRecord,
    TopicReplacedError,
    TopicSettings,
    Transport,
)


class PrefixedConsumer:
    """Takes and gives plain names."""

    def __init__(self, inner: Consumer, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        try:
            records = await self._inner.poll(max_records)
        except TopicReplacedError as error:
            raise TopicReplacedError(error.topic.removeprefix(self._prefix), error.how) from error
        return [_plain(record, self._prefix) for record in records]

    async def settle(self, records: Sequence[ConsumerRecord]) -> None:
        await self._inner.settle(
            [ConsumerRecord(self._prefix + each.topic, each.partition, each.offset, None, None) for each in records]
        )

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset((topic.removeprefix(self._prefix), number) for topic, number in self._inner.assignment())

    async def close(self) -> None:
        await self._inner.close()


class PrefixedTransport:
    """Another transport, on which every topic and every group has a longer name than here."""

    def __init__(self, inner: Transport, *, topics: str, groups: str) -> None:
        self._inner = inner
        self._topics = topics
        self._groups = groups

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        await self._inner.append(
            [ProducerRecord(self._topics + each.topic, each.key, each.value, each.headers) for each in records]
        )

    async def subscribe(self, group: str, topics: Sequence[str]) -> PrefixedConsumer:
        return PrefixedConsumer(await self._inner.subscribe(self._groups + group, self._long(topics)), self._topics)

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        await self._inner.create_topics(
            [dataclasses.replace(topic, name=self._topics + topic.name) for topic in topics]
        )

    async def claim(self, claim: Claim) -> None:
        """Each prefix has a register, so that it is found by all who use that prefix."""
        topics, groups = self._long(claim.topics), [self._groups + group for group in claim.groups]
        register = self._topics + claim.register
        if self._topics == self._groups:
            await self._inner.claim(dataclasses.replace(claim, topics=topics, groups=groups, register=register))
            return
        await self._inner.claim(dataclasses.replace(claim, topics=topics, groups=(), register=register))
        register = self._groups + claim.register
        await self._inner.claim(dataclasses.replace(claim, topics=(), groups=groups, register=register))

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        found = await self._inner.read(self._topics + topic, partition, offset, limit)
        return [_plain(record, self._topics) for record in found]

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        found = await self._inner.ends(self._long(topics))
        return {(topic.removeprefix(self._topics), number): span for (topic, number), span in found.items()}

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        found = await self._inner.lag(self._groups + group, self._long(topics))
        return [dataclasses.replace(each, topic=each.topic.removeprefix(self._topics)) for each in found]

    async def ping(self) -> None:
        await self._inner.ping()

    async def close(self) -> None:
        await self._inner.close()

    def _long(self, topics: Sequence[str]) -> list[str]:
        return [self._topics + topic for topic in topics]


def _plain(record: ConsumerRecord, prefix: str) -> ConsumerRecord:
    topic = record.topic.removeprefix(prefix)
    return ConsumerRecord(
        topic, record.partition, record.offset, record.key, record.value, record.headers, record.timestamp
    )
