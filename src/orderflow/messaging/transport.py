"""The transport port: topics with partitions, offsets and consumer groups. Kafka's terms, Kafka's meaning.

Three implementations (`transports/`): Apache Kafka, a log kept in PostgreSQL, and memory. One conformance
suite holds for all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

Headers = tuple[tuple[str, bytes | None], ...]


class ProducerRecord(msgspec.Struct, frozen=True):
    """A record to append. `key` decides the partition (murmur2, as Kafka clients do)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class ConsumerRecord(msgspec.Struct, frozen=True):
    """A record as it stands in the log. `timestamp` is the append time in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


class HasBytes(Protocol):
    """What a record in the log, or on its way there, is made of."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Headers: ...


def size_of(record: HasBytes) -> int:
    """Key, value and headers in bytes; a character of a header's name counts as the four that it may have."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += 4 * len(name) + len(value or b"")
    return size


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is made. `retention_ms` is how long records stay after they were appended."""

    name: str
    partitions: int
    retention_ms: int = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Where a group stands on one partition: `end` is the offset of the next record to be appended."""

    topic: str
    partition: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.committed)


class TransportUnavailableError(Exception):
    """The log cannot be reached or does not answer: infrastructure, try again."""


class TopicReplacedError(TransportUnavailableError):
    """A topic is not the one any more that the consumer was reading. It is read from its beginning from now on.

    `how` says what became of it. What the old one held and nobody had read is gone from the log.
    """

    def __init__(self, topic: str, how: str) -> None:
        super().__init__(
            f"topic {topic}: {how}. The consumer starts at its beginning and drops what it knows; what it had not "
            "read of the old one is gone from the log: `orderflow outbox republish` sends it again"
        )
        self.topic = topic
        self.how = how


class TopicMissingError(Exception):
    """The topic does not exist. Topics are made with explicit settings, never by use."""


class Consumer(Protocol):
    """A member of a consumer group. Keeps its membership by itself, also while nobody polls."""

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        """Wait until records are there; return up to `max_records`, in offset order within a partition.

        May return an empty batch (after a rebalance, or on close). A group without a committed offset
        starts at the earliest record. Raises TransportUnavailableError; TopicReplacedError once for each time
        that a topic was replaced.
        """
        ...

    async def settle(self, records: Sequence[ConsumerRecord]) -> None:
        """Say that these records, and all before them in their partitions, are done: a later member starts there.

        Only topic, partition and offset count. May be called while a poll waits. Best effort: a member that has lost
        a partition settles nothing there, without an error. Raises TransportUnavailableError.
        """
        ...

    def assignment(self) -> frozenset[tuple[str, int]]:
        """The partitions held at this moment."""
        ...

    async def close(self) -> None:
        """Leave the group, so that others take over at once. A waiting poll returns empty. Idempotent."""
        ...


class Transport(Protocol):
    """One connection to a log. `close` is idempotent and closes nothing that others opened."""

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        """Append all records durably, in order within each key; returns when every one is acknowledged.

        On any error nothing may be assumed: append all of them again, readers drop the duplicates.
        Raises TransportUnavailableError, TopicMissingError, ValueError (a record over the size limit).
        """
        ...

    async def subscribe(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join `group` for `topics`. Raises TransportUnavailableError, TopicMissingError."""
        ...

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        """Make the topics that do not exist yet; leave the others as they are."""
        ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        """Up to `limit` records from `offset` on, without a group: for people and replays. No waiting."""
        ...

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        """For each (topic, partition): the first offset kept and the offset after the last."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        """How far the group is behind on each partition of `topics`."""
        ...

    async def ping(self) -> None:
        """Return when the log answers; raises TransportUnavailableError. Used by readiness checks."""
        ...

    async def close(self) -> None: ...
